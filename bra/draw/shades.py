"""Matrices as shades, with their numbers where they can be read."""

from collections.abc import Sequence
from textwrap import fill

import numpy as np
import torch
from jaxtyping import Int, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import MaxNLocator
from torch import Tensor

from bra.draw.picture import BLACK, HEAT, PAGE, SMALL, VERMILION, WHOLE, Picture, colour_bar
from bra.draw.tokens import number

BESIDE, ABOVE = 0.58, 0.75  # inches of a panel for the numbers and names of its rows and columns
NARROW = 1.3  # inches: a narrower panel has no room for a title
LETTER = 5.8 / 72  # inches, the width of one in a title


def matrices(
    values: Sequence[Shaped[Tensor, "_ _"]],
    titles: Sequence[str],
    labels: tuple[str, str] = ("", ""),
    chosen: Sequence[Int[Tensor, "_ _"]] | None = None,
    lines: Sequence[int] = (),
    same_shades: bool = False,
) -> Picture:
    """Matrices as shades with their numbers (of yes or no only small ones); labels name the rows and the columns.

    With `chosen`, in each row the columns it names are framed, and their rank stands in the corner. With `lines`,
    white lines part each matrix into blocks of so many rows and columns. With `same_shades`, equal numbers have equal
    shades in all of them. Where numbers are not written, a bar says what shades mean, of equal ones beside the last.
    """
    written, least, best = zip(*(sides(v, len(values), chosen is not None) for v in values), strict=True)
    figure, panels, widths = in_rows([v.shape for v in values], least, best)
    finite = [v[v.double().isfinite()] for v in values]  # whatever is masked with -inf has no shade
    ends = {"vmin": min(v.min().item() for v in finite), "vmax": max(v.max().item() for v in finite)}
    limits, told = ends if same_shades else {}, []
    for n, axes in enumerate(panels):
        matrix, title = values[n].double(), titles[n]
        image = axes.imshow(matrix.masked_fill(~matrix.isfinite(), torch.nan).numpy(), cmap=HEAT, **limits)
        axes.set(ylabel=labels[0], xlabel=labels[1])
        axes.set_title(fill(title, int((widths[n] + BESIDE / 2) / LETTER)), fontsize=10)
        for size, part in zip(matrix.shape, (axes.axhline, axes.axvline), strict=True):
            for at in range(lines[n], size, lines[n]) if lines else ():
                part(at - 0.5, color="white", linewidth=2)
        if written[n]:
            write_numbers(axes, values[n], image)
        elif values[n].dtype != torch.bool and (n + 1 == len(values) or not same_shades):
            colour_bar(axes, image)
        if not written[n]:
            for axis in (axes.xaxis, axes.yaxis):
                axis.set_major_locator(MaxNLocator(6, **WHOLE))
        rows = [f"row {i}: {' '.join(map(number, row))}" for i, row in enumerate(values[n])]
        told.append(f"{title}, {'; '.join(rows) if matrix.numel() <= 64 else ' x '.join(map(str, matrix.shape))}")
        for i, row in enumerate([] if chosen is None else chosen[n].tolist()):
            for rank, j in enumerate(row, start=1):
                axes.add_patch(Rectangle((j - 0.45, i - 0.45), 0.9, 0.9, fill=False, edgecolor=VERMILION, linewidth=3))
                badge = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
                axes.text(j + 0.44, i - 0.44, rank, fontsize=SMALL, ha="right", va="top", bbox=badge)
            told[-1] += f"; row {i} chooses {' '.join(map(str, row))}"
    return Picture(figure, f"{len(values)} matrices. {'. '.join(told)}." if len(values) > 1 else f"Matrix {told[0]}.")


def is_written(matrix: Shaped[Tensor, "_ _"], least: float, among: int) -> bool:
    """Whether the numbers of a matrix, one of so many in a figure, can be read in cells of `least` inches.

    Of yes or no only those of a small one: they are seen.
    """
    most = 64 if matrix.dtype == torch.bool else 400 if among <= 2 else 100
    return matrix.numel() <= most and matrix.shape[1] * least <= PAGE - BESIDE


def sides(matrix: Shaped[Tensor, "_ _"], among: int, ranked: bool) -> tuple[bool, float, float]:
    """Whether numbers are written, and least and best side of a cell in inches, which may have to hold a rank too."""
    longest = max(len(number(value)) for value in matrix.flatten()[:400])
    least = max((5 * longest + 3) / 72, 0.44 if ranked else 0.25)
    if is_written(matrix, least, among):
        return True, least, max(least, 0.6 if ranked else 0.45)
    return False, max(NARROW / matrix.shape[1], 0.043), 2.9 / max(matrix.shape)


def in_rows(
    shapes: Sequence[Sequence[int]], least: Sequence[float], best: Sequence[float]
) -> tuple[Figure, list[Axes], list[float]]:
    """Axes for matrices of so many rows and columns, whose cells have a least and a best side, and widths, in inches.

    As many stand in a row as have room.
    """
    n = len(shapes)

    def wide(side, columns):  # the widest of each column of the figure
        return [max(NARROW, *(shapes[i][1] * side[i] for i in range(place, n, columns))) for place in range(columns)]

    columns = next(c for c in range(n, 0, -1) if c == 1 or sum(wide(least, c)) <= PAGE - c * BESIDE)
    room = PAGE - columns * BESIDE
    shrunk = min(1.0, room / sum(wide(best, columns)))
    side = [max(small, shrunk * large) for small, large in zip(least, best, strict=True)]
    heights = [
        max(shapes[i][0] * side[i] for i in range(start, min(start + columns, n))) for start in range(0, n, columns)
    ]
    widths = wide(side, columns)
    size = min(PAGE, sum(widths) + columns * BESIDE), sum(heights) + len(heights) * ABOVE
    figure = Figure(figsize=size, layout="constrained")
    ratios = {"width_ratios": widths, "height_ratios": heights}
    axes = list(figure.subplots(len(heights), columns, squeeze=False, **ratios).flat)
    for unused in axes[n:]:
        unused.remove()
    return figure, axes[:n], [widths[i % columns] for i in range(n)]


def write_numbers(axes: Axes, matrix: Shaped[Tensor, "_ _"], image) -> None:
    """Each entry in its cell, dark on light and light on dark; ticks at every row and column."""
    axes.set_xticks(range(matrix.shape[1]), minor=False)
    axes.set_yticks(range(matrix.shape[0]), minor=False)
    for i, j in np.ndindex(*matrix.shape):
        shade = image.norm(float(matrix[i, j])) if matrix[i, j].double().isfinite() else 1.0
        axes.text(
            j,
            i,
            number(matrix[i, j]),
            ha="center",
            va="center",
            color="white" if shade < 0.5 else BLACK,
            fontsize=SMALL,
        )
