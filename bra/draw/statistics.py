"""What a data set's images have in common: routing statistics of each layer, and the overlap of every two."""

import math

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from bra.draw.picture import BLACK, HEAT, PAGE, SKY, SMALL, VERMILION, Picture, colour_bar, count
from bra.look.statistics import RoutingStatistics

MOST = 14  # layers whose overlaps can still be read as numbers


def routing_statistics(statistics: RoutingStatistics) -> Picture:
    """Of each layer self share, distance and entropy, beside those of a random router; below, the layers' overlap."""
    layers = statistics.layers
    n = len(layers)
    heights = 0.8 + 0.3 * n, 1.2 + min(5.0, 0.45 * n)
    figure = Figure(figsize=(PAGE, sum(heights) + 0.4), layout="constrained")
    above, below = figure.subfigures(2, 1, height_ratios=heights)
    bars = above.subplots(1, 3, sharey=True)
    names = {"self_share": "reads itself, share", "distance": "distance, regions", "entropy": "entropy, bits"}
    for axes, (name, title) in zip(bars, names.items(), strict=True):
        values, random = ([getattr(layer, f"{which}{name}") for layer in layers] for which in ("", "random_"))
        axes.barh(range(n), values, height=0.65, color=SKY, edgecolor=BLACK, linewidth=0.6)
        axes.vlines(random, np.arange(n) - 0.42, np.arange(n) + 0.42, color=VERMILION, linestyle="--", linewidth=2)
        axes.set_title(title, fontsize=10)
        most = max(*values, *random)
        axes.set_xlim(0, 1.08 * most if most > 1e-6 else 1)
        axes.grid(axis="x", alpha=0.3)
    overlap_matrix(below.subplots(), statistics)
    bars[0].set_yticks(range(n), [layer.label for layer in layers], fontsize=SMALL)
    bars[0].set_ylim(n - 0.5, -0.5)
    line = Line2D([], [], color=VERMILION, linestyle="--", linewidth=2)
    above.legend([line], ["a random router"], loc="outside lower center", frameon=False)
    told = [
        f"{x.label}: {x.self_share:.2f} (random {x.random_self_share:.2f}), {x.distance:.2f} "
        f"({x.random_distance:.2f}), {x.entropy:.2f} ({x.random_entropy:.2f})"
        for x in layers
    ]
    return Picture(
        figure,
        f"Routing of {count(n, 'layer')} over {count(statistics.images, 'image')}: share of regions that "
        f"read themselves, distance in regions, entropy in bits. {'; '.join(told)}. "
        "Below them the overlap of every two layers.",
    )


def overlap_matrix(axes: Axes, statistics: RoutingStatistics) -> None:
    """Percent of what two layers could read in common; in brackets that of random routers.

    Empty where grids differ, and on the diagonal, where it is 100 always.
    """
    overlap, random = statistics.overlap.clone().fill_diagonal_(math.nan), statistics.random_overlap
    image = axes.imshow(100 * overlap.numpy(), cmap=HEAT, vmin=0, vmax=100, aspect="auto")
    for i, j in np.ndindex(*overlap.shape):
        if overlap[i, j].isfinite() and len(overlap) <= MOST:
            colour = "white" if overlap[i, j] < 0.5 else BLACK
            percent = f"{100 * overlap[i, j]:.0f}\n({100 * random[i, j]:.0f})"
            axes.text(j, i, percent, ha="center", va="center", fontsize=SMALL, color=colour)
    names = [layer.label for layer in statistics.layers]
    axes.set_xticks(range(len(names)), names, fontsize=SMALL, rotation=90 if len(names) > 4 else 0)
    axes.set_yticks(range(len(names)), names, fontsize=SMALL)
    axes.set_title("overlap of two layers, % (in brackets: of random routers)", fontsize=10)
    colour_bar(axes, image)
