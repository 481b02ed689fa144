"""Curves and bars: what was measured or computed."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Patch
from matplotlib.ticker import FuncFormatter, MaxNLocator, NullFormatter

from bra.draw.picture import BLACK, BLUE, LINES, PAGE, SKY, SMALL, VERMILION, WHOLE, Picture, Point

SCORES = {"accuracy": "accuracy", "iou": "IoU", "ap": "average precision"}  # what figures call them


def training_curves(metrics: Sequence[dict], score: str = "accuracy") -> Picture:
    """Loss, score and hit rate by step, from the lines of a run's metrics.jsonl."""
    steps = [line for line in metrics if "loss" in line]
    tests = [line for line in metrics if "held_out" in line]
    blocks = len(tests[-1]["held_out"].get("hit_rate", []))
    figure = Figure(figsize=(PAGE, 2.8), layout="constrained")
    loss, accuracy, *hits = figure.subplots(1, 3 if blocks else 2)

    at = [line["step"] for line in steps]
    losses = [line["loss"] for line in steps]
    loss.plot(at, losses, color=BLUE)
    loss.set(title="Training loss", xlabel="step", ylabel="loss" if score == "ap" else "cross-entropy")
    alt = f"Training curves over {at[-1]} steps. The loss goes from {losses[0]:.2f} to {losses[-1]:.2f}"

    if score in steps[0]:  # average precision is no measure of a batch
        accuracy.plot(at, [line[score] for line in steps], color=SKY, label="training batch")
    at = [line["step"] for line in tests]
    shares = [line["held_out"][score] for line in tests]
    accuracy.plot(at, shares, "o-", color=VERMILION, label="held out")
    accuracy.set(title=SCORES[score][0].upper() + SCORES[score][1:], xlabel="step", ylim=(0, 1.03))
    accuracy.legend(loc="lower right", fontsize=SMALL)
    alt += f", held-out {SCORES[score]} from {shares[0]:.2f} to {shares[-1]:.2f}"

    for block in range(blocks):
        rates = [line["held_out"]["hit_rate"][block] for line in tests]
        marker, colour = LINES[block % len(LINES)]
        hits[0].plot(at, rates, marker, color=colour, label=f"block {block}")
        alt += f", hit rate of block {block} from {rates[0]:.2f} to {rates[-1]:.2f}"
    for axes in hits:
        axes.set(title="Hit rate, held out", xlabel="step", ylim=(0, 1.03))
        axes.legend(loc="lower right", fontsize=SMALL)
    for axes in figure.axes:
        axes.xaxis.set_major_locator(MaxNLocator(4, **WHOLE))
    return Picture(figure, alt + ".")


def router_comparison(runs: Sequence[dict], chance: float, luck: float = 4 / 16) -> Picture:
    """Held-out accuracy and below it the better block's hit rate of each router, from the runs of an experiment.

    Bars are means over seeds, with a mark for each seed. chance: the accuracy of a guess; luck: the hit rate of regions
    chosen at random, four of a board's 16.
    """
    labels = list(dict.fromkeys(run["label"] for run in runs))
    figure = Figure(figsize=(PAGE, 5.4), layout="constrained")
    accuracy, hits = figure.subplots(2, 1, sharex=True)
    told = []
    for i, label in enumerate(labels):
        found = [run["held_out"] for run in runs if run["label"] == label]
        shares, rates = [f["accuracy"] for f in found], [max(f["hit_rate"]) for f in found]
        for axes, values, colour in ((accuracy, shares, BLUE), (hits, rates, VERMILION)):
            axes.bar(i, np.mean(values), color=colour, alpha=0.35, edgecolor=colour, width=0.7)
            beside = i + np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else [i]
            axes.plot(beside, values, "o", color=colour, markeredgecolor="white")
        told.append(f"{label}: accuracy {np.mean(shares):.2f}, hit rate {np.mean(rates):.2f}")
    accuracy.axhline(chance, color=BLACK, linestyle="--", linewidth=1, label="guessing a shape on the board")
    hits.axhline(luck, color=BLACK, linestyle="--", linewidth=1, label="four regions of 16 at random")
    accuracy.set_title("Accuracy, held out")
    hits.set_title("Hit rate of the better block")
    for axes in (accuracy, hits):
        axes.set_ylim(0, 1.3)
        axes.set_yticks(np.linspace(0, 1, 6))
        axes.set_xticks(range(len(labels)), labels, rotation=40, ha="right", rotation_mode="anchor")
        keys = {
            "mean": Patch(facecolor="lightgray", edgecolor="gray"),
            "one seed": Line2D([], [], marker="o", linestyle="none", color="gray", markeredgecolor="white"),
            axes.lines[-1].get_label(): axes.lines[-1],
        }
        axes.legend(keys.values(), keys.keys(), loc="upper center", ncols=3, fontsize=SMALL)
    return Picture(figure, "Bars are means for each router, with one mark for each seed. " + "; ".join(told) + ".")


def curves(
    x: Sequence[int | float],
    lines: Mapping[str, Sequence[int | float]],
    labels: tuple[str, str],
    title: str = "",
    log: str = "",
    marks: Mapping[str, Point] | None = None,
) -> Picture:
    """Named curves over x; labels name the axes; log = "x", "y" or "xy" makes them logarithmic; marks name points.

    A hit rate or a share stands on the whole scale, 0 to 1. The legend has the order in which the lines end.
    Raises ValueError for more lines than there are styles.
    """
    if len(lines) > len(LINES):
        raise ValueError(f"lines must be at most {len(LINES)}, to tell them apart, but are {len(lines)}")
    figure = Figure(figsize=(PAGE, 3.4), layout="constrained")
    axes = figure.subplots()
    for (name, y), (style, colour) in zip(lines.items(), LINES[: len(lines)], strict=True):
        axes.plot(x, y, style, color=colour, label=name, markersize=4)
    for name, (at, height) in (marks or {}).items():
        axes.plot(at, height, "*", color=BLACK, markersize=12)
        axes.annotate(name, (at, height), xytext=(6, 8), textcoords="offset points", fontsize=SMALL)
    axes.set(xlabel=labels[0], ylabel=labels[1], title=title)
    axes.set_xscale("log" if "x" in log else "linear", **({"base": 2} if "x" in log else {}))
    if "x" in log:
        axes.set_xticks(x, [f"{value:g}" for value in x])
        axes.minorticks_off()
    elif all(float(value).is_integer() for value in x):
        axes.xaxis.set_major_locator(MaxNLocator("auto", **WHOLE))  # no epoch 1.5
    if "y" in log:
        logarithmic(axes)
    elif labels[1].startswith(("hit rate", "share")):
        axes.set_ylim(0, 1.03)
    last = sorted(lines, key=lambda name: -lines[name][-1])
    keys = {line.get_label(): line for line in axes.lines}
    axes.legend([keys[name] for name in last], last, fontsize=SMALL)
    axes.grid(alpha=0.3)
    told = [f"{name} from {y[0]:.3g} to {y[-1]:.3g}" for name, y in lines.items()]
    told += [f"marked at {at:.3g}: {name}" for name, (at, _) in (marks or {}).items()]
    return Picture(figure, f"{labels[1]} against {labels[0]}, from {x[0]:g} to {x[-1]:g}. {'; '.join(told)}.")


def logarithmic(axes: Axes) -> None:
    """A logarithmic vertical axis, labelled 100, 10 k, 1 M: exponents would be too small to read."""
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: short(value)))
    low, high = axes.get_ylim()
    if high / low > 12:
        axes.yaxis.set_minor_formatter(NullFormatter())
    else:  # less than two labels otherwise
        axes.yaxis.set_minor_formatter(
            FuncFormatter(lambda value, _: short(value) if f"{value:e}"[0] in "2357" else "")
        )


def short(value: int | float) -> str:
    """200, 10 k, 1 M, 1 G, 1 T."""
    power = max(0, min(4, int(math.log10(value) / 3 + 1e-9))) if value >= 10_000 else 0
    return f"{value / 1000**power:g} {' kMGT'[power]}".strip()


def bars(parts: Mapping[str, Mapping[str, int | float]], label: str, title: str) -> Picture:
    """One bar a name, made of named parts, one behind the other; label names the axis."""
    names = list(dict.fromkeys(name for part in parts.values() for name in part))
    figure = Figure(figsize=(PAGE, 1.5 + 0.45 * len(parts)), layout="constrained")
    axes = figure.subplots()
    for row, part in enumerate(parts.values()):
        start = 0
        for name, length in part.items():
            at = names.index(name)
            look = {"color": LINES[at % len(LINES)][1], "hatch": ("", "//", "..", "xx", "\\\\", "oo")[at % len(LINES)]}
            axes.barh(row, length, left=start, edgecolor="white", label=name, **look)
            start += length
        axes.text(start, row, f" {start:.4g}", va="center", fontsize=SMALL)
    axes.set_yticks(range(len(parts)), list(parts))
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set(xlabel=label, title=title)
    keys = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(keys.values(), keys.keys(), loc="outside lower center", ncols=4, fontsize=SMALL)
    told = [
        f"{bar}: " + ", ".join(f"{name} {length:.4g}" for name, length in part.items()) for bar, part in parts.items()
    ]
    return Picture(figure, f"{title}, {label}. {'; '.join(told)}.")


def scaling(
    sizes: Sequence[int], seconds: Mapping[str, Sequence[float]], gigabytes: Mapping[str, Sequence[float]], title: str
) -> Picture:
    """Time and memory against the side of the image, each on logarithmic axes: a straight line is a power.

    What was not measured is NaN.
    """
    figure = Figure(figsize=(PAGE, 3.4), layout="constrained")
    told = []
    for axes, lines, what in zip(figure.subplots(1, 2), (seconds, gigabytes), ("seconds", "GiB, peak"), strict=True):
        for (name, y), (style, colour) in zip(lines.items(), LINES, strict=False):
            axes.plot(sizes, y, style, color=colour, label=name, markersize=4)
            measured = [value for value in y if not math.isnan(value)]
            told.append(f"{name}: {measured[0]:.3g} to {measured[-1]:.3g} {what}")
        axes.set(xlabel="side of the image, pixels", ylabel=what, xscale="log")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        logarithmic(axes)
        axes.legend(fontsize=SMALL)
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    return Picture(figure, f"{title}, from {sizes[0]} to {sizes[-1]} pixels. {'; '.join(told)}.")
