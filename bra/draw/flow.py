"""BRA as a map: its steps and how data flows between them."""

from collections.abc import Mapping

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import FancyBboxPatch

from bra.draw.picture import BLACK, YELLOW, Picture, Point

WIDTH, HEIGHT = 2.1, 0.8
BOXES = {  # step: (x, y of its centre, what it does)
    "partition": (2.0, 1.2, "01 partition\ncut into regions"),
    "adjacency": (4.3, 2.5, "02 adjacency\nwhich are related?"),
    "topk": (7.2, 2.5, "03 topk\nwhom to read?"),
    "patterns": (7.2, 3.9, "00 patterns\na fixed table"),
    "gather": (7.2, 1.2, "04 gather\nbring the tokens"),
    "attention": (9.8, 1.2, "05 attention\namong these"),
    "lce": (7.2, 0.0, "06 lce\nlook nearby"),
}
ARROWS = [
    ("adjacency", "topk", "affinity"), ("topk", "gather", "index"), ("patterns", "topk", "instead"),
    ("partition", "gather", "keys, values"), ("gather", "attention", ""),
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
    figure = Figure(figsize=(10, 4.9), layout="constrained")
    axes = empty(figure, (-1.6, 14.2), (-2.05, 5.7))
    for number, (name, label) in enumerate(FRAMES.items()):
        frame(axes, label, number - 1, lit=name == step)
    for name, (x, y, label) in BOXES.items():
        box(axes, x, y, label, lit=name == step, dashed=name == "patterns")
    for source, target, label in ARROWS:
        join(axes, BOXES[source][:2], BOXES[target][:2], label, ":" if label == "instead" else "-")
    axes.text(-0.75, 1.2, "tokens", ha="right", va="center", fontsize=9)
    arrow(axes, (-0.7, 1.2), (2.0 - WIDTH / 2, 1.2))
    axes.text(0.1, 1.25, "to q, k, v", va="bottom", fontsize=8)
    path(axes, [(2.0, 1.6), (2.0, 2.5), (4.3 - WIDTH / 2, 2.5)], "means of\nq and k", (2.65, 2.55))
    path(axes, [(2.0, 0.8), (2.0, 0.0), (7.2 - WIDTH / 2, 0.0)], "values", (4.5, 0.05))
    path(axes, [(2.5, 0.8), (2.5, 0.6), (9.8, 0.6), (9.8, 0.8)], "queries", (4.5, 0.6))
    axes.text(11.3, 1.2, "+", ha="center", va="center", fontsize=16)
    arrow(axes, (9.8 + WIDTH / 2, 1.2), (11.15, 1.2))
    path(axes, [(7.2 + WIDTH / 2, 0.0), (11.3, 0.0), (11.3, 1.0)])
    arrow(axes, (11.45, 1.2), (13.3, 1.2))
    axes.text(12.35, 1.25, "merge,\nproject", ha="center", va="bottom", fontsize=8)
    lit = FRAMES.get(step) or BOXES[step][2].replace("\n", ": ")
    return Picture(
        figure,
        "Map of Bi-level Routing Attention: tokens are cut into regions (01); mean queries and keys give an affinity "
        "between regions (02), its top k an index (03); or a fixed table gives the index instead (00). The index "
        "gathers keys and values (04) for the attention (05); a convolution of the values (06) is added; 07 is the "
        f"whole. 09 gathers nothing and does 04 and 05 at once. Lit here: {lit}.",
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
        axes.text(x + 0.08, -(source + target) / 2, label, va="center", fontsize=9, rotation=-90)
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
    axes.text(x, y, label, ha="center", va="center", fontsize=8, weight="bold" if lit else "normal", zorder=3)


def frame(axes: Axes, label: str, number: int, lit: bool) -> None:
    """Frame -1 stands around gather and attention, its name above them; the others around all steps, named below."""
    style = {"facecolor": YELLOW if lit else "none", "alpha": 0.35 if lit else 1, "linewidth": 3 if lit else 1}
    margin = 0.3 * number
    left, low, right, top = (0.05 - margin, -0.75 - margin, 12.8 + margin, 4.45 + margin)
    word = left + 0.1, low + 0.05
    if number < 0:
        left, low, right, top = 5.98, 0.67, 11.02, 1.98
        word = 8.5, 1.67
    shape = FancyBboxPatch(
        (left, low), right - left, top - low, boxstyle="round,pad=0,rounding_size=0.1", zorder=-margin, **style
    )
    axes.add_patch(shape)
    axes.text(*word, label, fontsize=8, va="bottom", weight="bold" if lit else "normal")


def join(axes: Axes, start: Point, end: Point, label: str, style: str = "-") -> None:
    """An arrow from one box to the next, to the right or down."""
    if start[0] == end[0]:
        arrow(axes, (start[0], start[1] - HEIGHT / 2), (end[0], end[1] + HEIGHT / 2), style)
        axes.text(start[0] + 0.1, (start[1] + end[1]) / 2, label, va="center", fontsize=8)
    else:
        arrow(axes, (start[0] + WIDTH / 2, start[1]), (end[0] - WIDTH / 2, end[1]), style)
        axes.text((start[0] + end[0]) / 2, start[1] + 0.05, label, ha="center", va="bottom", fontsize=8)


def path(axes: Axes, points: list[Point], label: str = "", at: Point = (0, 0)) -> None:
    """A line along points, an arrow at its end; its label stands above `at`."""
    axes.plot(*zip(*points[:-1], strict=True), color=BLACK, linewidth=1, zorder=1)
    arrow(axes, points[-2], points[-1])
    axes.text(*at, label, ha="center", va="bottom", fontsize=8)


def arrow(axes: Axes, start: Point, end: Point, style: str = "-") -> None:
    """One straight arrow."""
    axes.annotate("", end, start, arrowprops={"arrowstyle": "->", "linestyle": style, "shrinkA": 0, "shrinkB": 0})
