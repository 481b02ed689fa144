"""BRA as a map: its steps and how data flows between them."""

import math
from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from bra.draw.picture import BLACK, PAGE, SMALL, YELLOW, Picture, Point

WIDTH, HEIGHT = 2.6, 0.9  # of a box; 14 units are the width of the map
BOXES = {  # step: (x, y of its centre, what it does)
    "partition": (4.1, 1.5, "01 partition\ncut into regions"),
    "adjacency": (4.1, 3.1, "02 adjacency\nwho is related?"),
    "topk": (8.5, 3.1, "03 topk\nwhom to read?"),
    "patterns": (8.5, 4.5, "00 patterns\na fixed table"),
    "gather": (8.5, 1.5, "04 gather\nbring the tokens"),
    "attention": (11.5, 1.5, "05 attention\namong these"),
    "lce": (8.5, 0.0, "06 lce\nlook nearby"),
}
ARROWS = [
    ("partition", "adjacency", "means of\nq and k"), ("adjacency", "topk", "affinity"), ("topk", "gather", "index"),
    ("patterns", "topk", "instead"), ("partition", "gather", "k and v"), ("gather", "attention", ""),
]  # fmt: skip
FRAMES = {
    "kernels": "09 kernels: both at once",
    "layer": "07 layer",
    "biformer": "08 biformer: many layers",
    "dense": "10 dense: pixels and boxes",
    "train": "11 train: learn the weights",
    "explorer": "12 explorer: look at the routes",
}


def bra_map(step: str) -> Picture:
    """The map that heads every notebook, with one step lit."""
    figure = Figure(figsize=(PAGE, 4.1), layout="constrained")
    axes = empty(figure, (0, 14), (-2.7, 5.8))
    for number, (name, label) in enumerate(FRAMES.items()):
        frame(axes, label, number - 1, lit=name == step)
    for name, (x, y, label) in BOXES.items():
        box(axes, x, y, label, lit=name == step, dashed=name == "patterns")
    for source, target, label in ARROWS:
        join(axes, BOXES[source][:2], BOXES[target][:2], label, ":" if label == "instead" else "-")
    (left, middle), right, low = BOXES["partition"][:2], BOXES["attention"][0], BOXES["partition"][1] - HEIGHT / 2
    path(axes, [(0.6, middle), (left - WIDTH / 2, middle)], "q, k, v", (2.0, middle + 0.05))
    axes.text(0.62, middle - 0.05, "tokens", va="top", fontsize=SMALL)
    path(axes, [(left - 0.3, low), (left - 0.3, 0), (8.5 - WIDTH / 2, 0)], "values, merged", (5.6, 0.05))
    path(axes, [(left + 0.7, low), (left + 0.7, 0.7), (right - 0.8, 0.7), (right - 0.8, low)], "queries", (6.24, 0.7))
    arrow(axes, (right, low), (right, 0.15))
    axes.text(right + 0.1, low / 2 + 0.1, "merge", va="center", fontsize=SMALL)
    axes.text(right, 0, "+", ha="center", va="center", fontsize=16)
    arrow(axes, (8.5 + WIDTH / 2, 0), (right - 0.18, 0))
    path(axes, [(right + 0.18, 0), (13.45, 0)], "project", (12.35, 0.05))
    lit = FRAMES.get(step) or BOXES[step][2].replace("\n", ": ")
    return Picture(
        figure,
        "Map of Bi-level Routing Attention: tokens are cut into regions (01); mean queries and keys give an affinity "
        "between regions (02), its top k an index (03); or a fixed table gives the index instead (00). The index "
        "gathers keys and values (04) for the attention (05); a convolution of the merged values (06) is added to its "
        f"merged output; 07 is the whole. 09 gathers nothing and does 04 and 05 at once. Lit here: {lit}.",
    )


def data_flow(shapes: Mapping[str, str], skips: Mapping[tuple[int, int], str]) -> Picture:
    """The steps from top to bottom, each with the shape of what it hands on.

    `skips` names arrows that pass over steps: (from step, to step), counted from 0, and what flows there.
    """
    figure = Figure(figsize=(8, 0.62 * len(shapes)), layout="constrained")
    axes = empty(figure, (0, 8.6), (-len(shapes) + 0.4, 0.6))
    for row, (step, shape) in enumerate(shapes.items()):
        axes.text(3.3, -row, step, ha="right", va="center", fontsize=11)
        axes.text(3.7, -row, shape, ha="left", va="center", fontsize=11, family="monospace",
                  bbox={"boxstyle": "round,pad=0.3", "facecolor": "white", "edgecolor": BLACK})  # fmt: skip
        if row:
            arrow(axes, (4.2, 1 - row - 0.28), (4.2, -row + 0.28))
    for column, ((source, target), label) in enumerate(sorted(skips.items(), reverse=True)):
        x = 7.0 + 0.9 * column
        path(axes, [(6.4, -source), (x, -source), (x, -target), (6.4, -target)])
        axes.text(x + 0.08, -(source + target) / 2, label, va="center", fontsize=SMALL, rotation=-90)
    steps = list(shapes)
    told = "; ".join(f"{step}: {shape}" for step, shape in shapes.items())
    beside = "; ".join(f"{label} from {steps[i]} to {steps[j]}" for (i, j), label in skips.items())
    return Picture(figure, f"The data flow of one layer from top to bottom, with shapes. {told}. Beside: {beside}.")


def empty(figure: Figure, xlim: Point, ylim: Point) -> Axes:
    """Axes without axes."""
    axes = figure.subplots()
    axes.set(xlim=xlim, ylim=ylim, aspect="equal")
    axes.axis("off")
    return axes


def box(axes: Axes, x: float, y: float, label: str, lit: bool, dashed: bool = False) -> None:
    """One step. The lit one is filled, bold and thickly framed."""
    style = {
        "facecolor": YELLOW if lit else "white",
        "linewidth": 3 if lit else 1,
        "linestyle": "--" if dashed else "-",
    }
    corner = (x - WIDTH / 2, y - HEIGHT / 2)
    axes.add_patch(FancyBboxPatch(corner, WIDTH, HEIGHT, boxstyle="round,pad=0,rounding_size=0.1", zorder=2, **style))
    axes.text(x, y, label, ha="center", va="center", fontsize=SMALL, weight="bold" if lit else "normal", zorder=3)


def frame(axes: Axes, label: str, number: int, lit: bool) -> None:
    """Frame -1 stands around gather and attention, its name above them; the others around all steps, named below."""
    style = {"facecolor": YELLOW if lit else "none", "alpha": 0.35 if lit else 1, "linewidth": 3 if lit else 1}
    side, below = 0.15 * number, 0.42 * number
    left, low, right, top = (0.65 - side, -0.98 - below, 13.35 + side, 5.1 + side)
    if number == 0:
        left, right = 1.55, 12.98  # tokens enter and leave
    word = left + 0.1, low + 0.05
    if number < 0:
        left, low, right, top = 7.08, 0.93, 12.9, 2.56
        word = 9.05, 2.05
    shape = FancyBboxPatch(
        (left, low), right - left, top - low, boxstyle="round,pad=0,rounding_size=0.1", zorder=-number, **style
    )
    axes.add_patch(shape)
    axes.text(*word, label, fontsize=SMALL, va="bottom", weight="bold" if lit else "normal")


def join(axes: Axes, start: Point, end: Point, label: str, style: str = "-") -> None:
    """An arrow from one box to the next, to the right, down or up."""
    if start[0] == end[0]:
        reach = math.copysign(HEIGHT / 2, end[1] - start[1])
        arrow(axes, (start[0], start[1] + reach), (end[0], end[1] - reach), style)
        axes.text(start[0] - 0.1, (start[1] + end[1]) / 2, label, ha="right", va="center", fontsize=SMALL)
    else:
        arrow(axes, (start[0] + WIDTH / 2, start[1]), (end[0] - WIDTH / 2, end[1]), style)
        axes.text((start[0] + end[0]) / 2, start[1] + 0.05, label, ha="center", va="bottom", fontsize=SMALL)


def path(axes: Axes, points: list[Point], label: str = "", at: Point = (0, 0)) -> None:
    """A line along points, an arrow at its end; its label stands above `at`."""
    axes.plot(*zip(*points[:-1], strict=True), color=BLACK, linewidth=1, zorder=1)
    arrow(axes, points[-2], points[-1])
    axes.text(*at, label, ha="center", va="bottom", fontsize=SMALL)


def arrow(axes: Axes, start: Point, end: Point, style: str = "-") -> None:
    """One straight arrow."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "linestyle": style, "shrinkA": 0, "shrinkB": 0})
