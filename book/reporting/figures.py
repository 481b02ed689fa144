"""Figures of results by name: where one would rather look than read. Narrow, so that a phone need not shrink them."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from bra.draw.picture import BLUE, LINES, ORANGE, VERMILION, Picture

from .learnt import held_out
from .reading import RESULTS, by_label, mean, read
from .speed import STAGES, measured_ways, pixels_of

WIDTH, TEXT = 5.0, 13  # inches, points: at the width of a phone the text still has 9
KINDS = {  # how a router's bar looks: by its content, by a table that does not look, or all that there is
    "chooses by content": {"facecolor": BLUE},
    "a fixed table": {"facecolor": ORANGE, "hatch": "///"},
    "reads everything": {"facecolor": "#FFFFFF"},
}


def kind(label: str) -> str:
    """Which of KINDS a router is."""
    return (
        "chooses by content" if label.startswith("top") else "reads everything" if label == "all" else "a fixed table"
    )


def blank(height: float) -> tuple[Figure, Axes]:
    """A figure of one panel, as wide as all of them."""
    figure = Figure(figsize=(WIDTH, height), layout="constrained")
    axes = figure.subplots()
    axes.tick_params(labelsize=TEXT)
    axes.spines[["top", "right"]].set_visible(False)
    return figure, axes


def bars(what: str, name: str, hit: str = "hit rate") -> Callable[[dict], Picture]:
    """A bar for each router, a dot for each seed, a diamond for the hit rate."""

    def draw(content: dict) -> Picture:
        found = by_label(content)
        figure, axes = blank(0.36 * len(found) + 2.0)
        told = []
        for y, (label, runs) in enumerate(found.items()):
            values, hits = held_out(runs, what), mean(held_out(runs, "hit_rate"))
            axes.barh(y, mean(values), height=0.7, edgecolor="black", **KINDS[kind(label)])
            axes.plot(values, [y] * len(values), "o", color="black", markersize=4, markeredgecolor="white")
            axes.plot(hits, y, "D", color=VERMILION, markersize=8, markeredgecolor="black", clip_on=False, zorder=3)
            told.append(f"{label} {mean(values):.2f}, {hit} {hits:.2f}")
        axes.set_yticks(range(len(found)), found)
        axes.invert_yaxis()
        axes.set_xlim(0, 1.02)
        axes.set_xlabel(name, fontsize=TEXT)
        explain(figure, axes, f"mean {hit}")
        return Picture(figure, f"{name}: bars for each router, means of the seeds. {'; '.join(told)}.")

    return draw


def explain(figure: Figure, axes: Axes, diamond: str) -> None:
    """A legend under the bars."""
    handles = [axes.barh(0, 0, edgecolor="black", label=name, **looks) for name, looks in KINDS.items()]
    handles += axes.plot([], [], "o", color="black", markersize=4, label="each seed")
    handles += axes.plot([], [], "D", color=VERMILION, markersize=8, markeredgecolor="black", label=diamond)
    figure.legend(handles=handles, loc="outside lower center", ncols=2, fontsize=TEXT, frameon=False)


def seeds(content: dict) -> Picture:
    """A dot for each seed of each router, on an axis that begins where they do."""
    found = by_label(content)
    figure, axes = blank(0.4 * len(found) + 1.2)
    told = []
    for y, (label, runs) in enumerate(found.items()):
        right = [100 * share for share in held_out(runs, "accuracy")]
        style, colour = {"chooses by content": ("o", BLUE), "a fixed table": ("s", ORANGE)}.get(
            kind(label), ("^", "white")
        )
        axes.plot(right, [y] * len(right), style, color=colour, markersize=9, markeredgecolor="black")
        told.append(f"{label} {', '.join(f'{share:.1f}' for share in right)}")
    axes.set_yticks(range(len(found)), found)
    axes.set_ylim(len(found) - 0.5, -0.5)
    axes.grid(axis="x", color="#BBBBBB")
    axes.set_xlabel("accuracy in percent, three seeds each", fontsize=TEXT)
    return Picture(figure, f"Dots for the seeds of each router, accuracy in percent. {'; '.join(told)}.")


def against_pixels(lines: Mapping[str, Sequence[float]], pixels: Sequence[int], what: str) -> Picture:
    """Seconds over the side of the image, both logarithmic; the slowest line first."""
    figure, axes = blank(3.6)
    for (name, spent), (style, colour) in zip(lines.items(), LINES, strict=False):
        axes.loglog(pixels, spent, style, color=colour, linewidth=2, markersize=8, label=name)
    axes.set_xticks(pixels, [f"{side}" for side in pixels])
    axes.yaxis.set_major_formatter("{x:g}")
    axes.minorticks_off()
    axes.set_xlabel("side of the image in pixels", fontsize=TEXT)
    axes.set_ylabel("seconds", fontsize=TEXT)
    axes.grid(color="#BBBBBB")
    figure.legend(loc="outside upper left", ncols=1, fontsize=TEXT, frameon=False)
    told = "; ".join(f"{name}: {', '.join(f'{second:.2g}' for second in spent)}" for name, spent in lines.items())
    return Picture(figure, f"{what}, in seconds, at {', '.join(map(str, pixels))} pixels. {told}.")


def layer_of_stage_1(content: dict) -> Picture:
    """A training step of one layer, one image, by three ways."""
    found = [way for way in measured_ways(content, part="layer", mode="train") if STAGES[way["ours"]["c"]] == 1]
    names = {"dense": "dense attention, fused", "expanded": "gather from an expanded tensor", "ours": "ours"}
    lines = {told: [each[way]["seconds"] / each[way]["b"] for each in found] for way, told in names.items()}
    return against_pixels(lines, [pixels_of(each["ours"]) for each in found], "A layer of stage 1, an image's training")


def models(content: dict) -> Picture:
    """A training step of BiFormer-T with one image, the official code and ours."""
    found = measured_ways(content, part="model", mode="train", name="T")
    lines = {f"{way} code" if way == "official" else way: [each[way]["seconds"] for each in found] for way in
             ("official", "ours")}  # fmt: skip
    return against_pixels(lines, [each["ours"]["size"] for each in found], "A training step of BiFormer-T, one image")


FIGURES = {
    "recall_routers": bars("accuracy", "accuracy, held out"),
    "fashion_mnist": seeds,
    "dense_recall": bars("iou", "IoU of the marked pixels, held out", "reverse hit rate"),
    "bench_all_cpu models": models,
    "bench_all_cpu layers": layer_of_stage_1,
}


def figure(name: str, folder: Path = RESULTS) -> Picture:
    """The figure of a result. Raises ValueError if there is none of this name, or the result tells no origin."""
    if name not in FIGURES:
        raise ValueError(f"no figure {name!r}: one of {', '.join(FIGURES)}")
    return FIGURES[name](read(name.split()[0], folder))


def write(picture: Picture, path: Path) -> None:
    """As SVG, the same bytes for the same numbers."""
    with mpl.rc_context({"svg.hashsalt": "bra"}):
        picture.figure.savefig(path, format="svg", metadata={"Date": None, "Description": picture.alt})
