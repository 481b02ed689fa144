"""Curves and bars: what was measured or computed."""

import math
from collections.abc import Mapping, Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bra.draw.picture import BLACK, BLUE, HEAT, LINES, SKY, VERMILION, Picture, Point, count
from bra.look.statistics import RoutingStatistics

SCORES = {"accuracy": "accuracy", "iou": "IoU", "ap": "average precision"}  # what figures call them


def training_curves(metrics: Sequence[dict], score: str = "accuracy") -> Picture:
    """Loss, score and hit rate by step, from the lines of a run's metrics.jsonl."""
    steps = [line for line in metrics if "loss" in line]
    tests = [line for line in metrics if "held_out" in line]
    blocks = len(tests[-1]["held_out"].get("hit_rate", []))
    figure = Figure(figsize=(10 if blocks else 7, 3), layout="constrained")
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
    accuracy.legend(loc="lower right")
    alt += f", held-out {SCORES[score]} from {shares[0]:.2f} to {shares[-1]:.2f}"

    for block in range(blocks):
        rates = [line["held_out"]["hit_rate"][block] for line in tests]
        marker, colour = LINES[block % len(LINES)]
        hits[0].plot(at, rates, marker, color=colour, label=f"block {block}")
        alt += f", hit rate of block {block} from {rates[0]:.2f} to {rates[-1]:.2f}"
    for axes in hits:
        axes.set(title="Hit rate, held out", xlabel="step", ylim=(0, 1.03))
        axes.legend(loc="lower right")
    return Picture(figure, alt + ".")


def router_comparison(runs: Sequence[dict], chance: float) -> Picture:
    """Held-out accuracy and best block's hit rate of each router, a mark a seed, from the runs of an experiment."""
    labels = list(dict.fromkeys(run["label"] for run in runs))
    figure = Figure(figsize=(10, 3.6), layout="constrained")
    accuracy, hits = figure.subplots(1, 2, sharex=True)
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
    accuracy.set(title="Accuracy, held out", ylim=(0, 1.25))
    accuracy.legend(loc="upper center", fontsize=8)
    hits.set(title="Hit rate of the better block", ylim=(0, 1.25))
    for axes in (accuracy, hits):
        axes.set_yticks(np.linspace(0, 1, 6))
        axes.set_xticks(range(len(labels)), labels, rotation=40, ha="right", rotation_mode="anchor")
    return Picture(figure, "Bars for each router, with one mark for each seed. " + "; ".join(told) + ".")


def curves(
    x: Sequence[int | float],
    lines: Mapping[str, Sequence[int | float]],
    labels: tuple[str, str],
    title: str = "",
    log: str = "",
    marks: Mapping[str, Point] | None = None,
) -> Picture:
    """Named curves over x; labels name the axes; log = "x", "y" or "xy" makes them logarithmic; marks name points.

    Raises ValueError for more lines than there are styles.
    """
    if len(lines) > len(LINES):
        raise ValueError(f"lines must be at most {len(LINES)}, to tell them apart, but are {len(lines)}")
    figure = Figure(figsize=(7, 3.4), layout="constrained")
    axes = figure.subplots()
    for (name, y), (style, colour) in zip(lines.items(), LINES[: len(lines)], strict=True):
        axes.plot(x, y, style, color=colour, label=name, markersize=4)
    for name, (at, height) in (marks or {}).items():
        axes.plot(at, height, "*", color=BLACK, markersize=12)
        axes.annotate(name, (at, height), xytext=(6, 8), textcoords="offset points", fontsize=9)
    axes.set(xlabel=labels[0], ylabel=labels[1], title=title)
    axes.set_xscale("log" if "x" in log else "linear", **({"base": 2} if "x" in log else {}))
    axes.set_yscale("log" if "y" in log else "linear")
    if "x" in log:
        axes.set_xticks(x, [f"{value:g}" for value in x])
        axes.minorticks_off()
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    told = [f"{name} from {y[0]:.3g} to {y[-1]:.3g}" for name, y in lines.items()]
    told += [f"marked at {at:.3g}: {name}" for name, (at, _) in (marks or {}).items()]
    return Picture(figure, f"{labels[1]} against {labels[0]}, from {x[0]:g} to {x[-1]:g}. {'; '.join(told)}.")


def bars(parts: Mapping[str, Mapping[str, int | float]], label: str, title: str) -> Picture:
    """One bar a name, made of named parts, one behind the other; label names the axis."""
    names = list(dict.fromkeys(name for part in parts.values() for name in part))
    figure = Figure(figsize=(8, 1.4 + 0.45 * len(parts)), layout="constrained")
    axes = figure.subplots()
    for row, part in enumerate(parts.values()):
        start = 0
        for name, length in part.items():
            at = names.index(name)
            look = {"color": LINES[at % len(LINES)][1], "hatch": ("", "//", "..", "xx", "\\\\", "oo")[at % len(LINES)]}
            axes.barh(row, length, left=start, edgecolor="white", label=name, **look)
            start += length
        axes.text(start, row, f" {start:.4g}", va="center", fontsize=9)
    axes.set_yticks(range(len(parts)), list(parts))
    axes.invert_yaxis()
    axes.margins(x=0.1)
    axes.set(xlabel=label, title=title)
    keys = dict(zip(*reversed(axes.get_legend_handles_labels()), strict=True))
    figure.legend(keys.values(), keys.keys(), loc="outside lower center", ncols=3, fontsize=8)
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
    figure = Figure(figsize=(9, 3.4), layout="constrained")
    told = []
    for axes, lines, what in zip(figure.subplots(1, 2), (seconds, gigabytes), ("seconds", "GiB, peak"), strict=True):
        for (name, y), (style, colour) in zip(lines.items(), LINES, strict=False):
            axes.plot(sizes, y, style, color=colour, label=name, markersize=4)
            measured = [value for value in y if not math.isnan(value)]
            told.append(f"{name}: {measured[0]:.3g} to {measured[-1]:.3g} {what}")
        axes.set(xlabel="side of the image, pixels", ylabel=what, xscale="log", yscale="log")
        axes.set_xticks(sizes, [str(size) for size in sizes])
        axes.minorticks_off()
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    figure.suptitle(title)
    return Picture(figure, f"{title}, from {sizes[0]} to {sizes[-1]} pixels. {'; '.join(told)}.")


def routing_statistics(statistics: RoutingStatistics) -> Picture:
    """Of each layer self share, distance and entropy, beside those of a random router, and the layers' overlap."""
    layers = statistics.layers
    n = len(layers)
    side = max(1.6, 0.42 * n)
    figure = Figure(figsize=(8.6 + side, 1.6 + side), layout="constrained")
    *bars, matrix = figure.subplots(1, 4, sharey=True, width_ratios=[2, 2, 2, side])
    names = {"self_share": "reads itself, share", "distance": "distance, regions", "entropy": "entropy, bits"}
    for axes, (name, title) in zip(bars, names.items(), strict=True):
        values, random = ([getattr(layer, f"{which}{name}") for layer in layers] for which in ("", "random_"))
        axes.barh(range(n), values, height=0.65, color=SKY, edgecolor=BLACK, linewidth=0.6)
        axes.vlines(random, np.arange(n) - 0.42, np.arange(n) + 0.42, color=VERMILION, linestyle="--", linewidth=2)
        axes.set_title(title, fontsize=10)
        most = max(*values, *random)
        axes.set_xlim(0, 1.08 * most if most > 1e-6 else 1)
        axes.grid(axis="x", alpha=0.3)
    overlap_matrix(matrix, statistics)
    bars[0].set_yticks(range(n), [layer.label for layer in layers], fontsize=8)
    bars[0].set_ylim(n - 0.5, -0.5)
    line = Line2D([], [], color=VERMILION, linestyle="--", linewidth=2)
    figure.legend([line], ["a random router, and its overlap in brackets"], loc="outside lower center", frameon=False)
    told = [
        f"{x.label}: {x.self_share:.2f} (random {x.random_self_share:.2f}), {x.distance:.2f} "
        f"({x.random_distance:.2f}), {x.entropy:.2f} ({x.random_entropy:.2f})"
        for x in layers
    ]
    return Picture(
        figure,
        f"Routing of {count(n, 'layer')} over {count(statistics.images, 'image')}: share of regions that "
        f"read themselves, distance in regions, entropy in bits. {'; '.join(told)}. "
        "Beside them the overlap of every two layers.",
    )


def overlap_matrix(axes: Axes, statistics: RoutingStatistics) -> None:
    """Percent of what two layers could read in common; in brackets that of random routers; empty where grids differ."""
    overlap, random = statistics.overlap, statistics.random_overlap
    image = axes.imshow(overlap.numpy(), cmap=HEAT, vmin=0, vmax=1, aspect="auto")
    for i, j in np.ndindex(*overlap.shape):
        if overlap[i, j].isfinite():
            colour = "white" if image.norm(overlap[i, j].item()) < 0.5 else BLACK
            percent = f"{100 * overlap[i, j]:.0f}\n({100 * random[i, j]:.0f})"
            axes.text(j, i, percent, ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(overlap)), [layer.label for layer in statistics.layers], fontsize=8, rotation=90)
    axes.set_title("overlap, %", fontsize=10)
