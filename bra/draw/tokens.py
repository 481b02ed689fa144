"""Tensors as tables of numbers: token maps cut into regions, gathered tokens, matrices."""

import math
import re
from collections.abc import Sequence

import numpy as np
import torch
from jaxtyping import Bool, Int, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from bra.draw.picture import BLACK, BLUE, GREEN, HEAT, ORANGE, PURPLE, SKY, VERMILION, YELLOW, Picture

# by region: colour and strength, so that neighbours differ in greyscale too; the region's number stands in the corner
TINTS = ((SKY, 0.15), (ORANGE, 0.5), (GREEN, 0.5), (PURPLE, 1.0), (YELLOW, 0.6), (VERMILION, 0.4), (BLUE, 0.5))


def token_grids(
    values: Shaped[Tensor, "h w"],
    owners: Sequence[Int[Tensor, "h w"]],
    titles: Sequence[str],
    valid_map: Bool[Tensor, "h w"] | None = None,
) -> Picture:
    """The same token map once for each way to share it out: tint, border and small number say a token's region.

    Tokens that are not real are hatched.
    """
    h, w = values.shape
    figure = Figure(figsize=(0.55 * w * len(owners) + 0.8, 0.55 * h + 0.6), layout="constrained")
    told = []
    for axes, owner, title in zip(np.atleast_1d(figure.subplots(1, len(owners))), owners, titles, strict=True):
        blank(axes, (h, w), title)
        for y, x in np.ndindex(h, w):
            cell(axes, x, y, number(values[y, x]), int(owner[y, x]), valid_map is None or bool(valid_map[y, x]))
            for dy, dx in ((0, 1), (1, 0)):
                inside = y + dy < h and x + dx < w
                if inside and owner[y, x] != owner[y + dy, x + dx]:  # a border between two regions
                    axes.plot([x + dx, x + 1], [y + dy, y + 1], color=BLACK, linewidth=2.5)
        axes.add_patch(Rectangle((0, 0), w, h, fill=False, linewidth=2.5))
        regions = [values[owner == region].flatten().tolist() for region in owner.unique()]
        listed = [
            f"region {r}: {' '.join(map(number, tokens))}" for r, tokens in zip(owner.unique(), regions, strict=True)
        ]
        told.append(f"{title}, {'; '.join(listed) if values.numel() <= 64 else f'{len(listed)} regions'}")
    padded = "" if valid_map is None else f" {int((~valid_map).sum())} tokens are padding."
    return Picture(figure, f"{h} x {w} tokens with their regions. {'. '.join(told)}.{padded}")


def token_rows(rows: Shaped[Tensor, "r n"], owners: Int[Tensor, "r n"], labels: Sequence[str], title: str) -> Picture:
    """One row of tokens for each label: the regions laid out, or what each region has gathered."""
    r, n = rows.shape
    figure = Figure(figsize=(0.55 * n + 1.6, 0.5 * r + 0.6), layout="constrained")
    axes = figure.subplots()
    blank(axes, (r, n), title)
    axes.set_yticks(np.arange(r) + 0.5, labels)
    for i, j in np.ndindex(r, n):
        cell(axes, j, i, number(rows[i, j]), int(owners[i, j]), True)
    told = [f"{label}: {' '.join(map(number, row))}" for label, row in zip(labels, rows, strict=True)]
    return Picture(figure, f"{title}. {'; '.join(told)}.")


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
    shades in all of them.
    """
    most = 400 if len(values) <= 2 else 100  # numbers that can still be read
    widths = [min(0.45 * max(4, v.shape[1]), 5.5 if v.numel() <= most else 3.2) for v in values]
    height = max(width * v.shape[0] / v.shape[1] for width, v in zip(widths, values, strict=True))
    figure = Figure(figsize=(sum(widths) + 1.1 * len(values), max(height, 1.8) + 1), layout="constrained")
    panels = figure.subplots(1, len(values), squeeze=False, width_ratios=widths)[0]
    finite = [v[v.double().isfinite()] for v in values]  # whatever is masked with -inf has no shade
    ends = {"vmin": min(v.min().item() for v in finite), "vmax": max(v.max().item() for v in finite)}
    limits, told = ends if same_shades else {}, []
    for n, axes in enumerate(panels):
        matrix, title = values[n].double(), titles[n]
        image = axes.imshow(matrix.masked_fill(~matrix.isfinite(), torch.nan).numpy(), cmap=HEAT, **limits)
        axes.set(title=title, ylabel=labels[0], xlabel=labels[1])
        for size, part in zip(matrix.shape, (axes.axhline, axes.axvline), strict=True):
            for at in range(lines[n], size, lines[n]) if lines else ():
                part(at - 0.5, color="white", linewidth=2)
        if matrix.numel() <= most and not (values[n].dtype == torch.bool and matrix.numel() > 64):
            write_numbers(axes, values[n], image)
        rows = [f"row {i}: {' '.join(map(number, row))}" for i, row in enumerate(values[n])]
        told.append(f"{title}, {'; '.join(rows) if matrix.numel() <= 64 else ' x '.join(map(str, matrix.shape))}")
        for i, row in enumerate([] if chosen is None else chosen[n].tolist()):
            for rank, j in enumerate(row, start=1):
                axes.add_patch(Rectangle((j - 0.45, i - 0.45), 0.9, 0.9, fill=False, edgecolor=VERMILION, linewidth=3))
                axes.text(j + 0.42, i - 0.42, rank, fontsize=7, ha="right", va="top", backgroundcolor="white")
            told[-1] += f"; row {i} chooses {' '.join(map(str, row))}"
    return Picture(figure, f"{len(values)} matrices. {'. '.join(told)}." if len(values) > 1 else f"Matrix {told[0]}.")


def write_numbers(axes: Axes, matrix: Shaped[Tensor, "_ _"], image) -> None:
    """Each entry in its cell, dark on light and light on dark; ticks at every row and column."""
    axes.set_xticks(range(matrix.shape[1]), minor=False)
    axes.set_yticks(range(matrix.shape[0]), minor=False)
    for i, j in np.ndindex(*matrix.shape):
        shade = image.norm(float(matrix[i, j])) if matrix[i, j].double().isfinite() else 1.0
        axes.text(
            j, i, number(matrix[i, j]), ha="center", va="center", color="white" if shade < 0.5 else BLACK, fontsize=9
        )


def cell(axes: Axes, x: int, y: int, text: str, region: int, valid: bool) -> None:
    """One token: its value, tinted by its region, whose number stands small in the corner."""
    tint, strength = TINTS[region % len(TINTS)]
    axes.add_patch(Rectangle((x, y), 1, 1, facecolor=tint, alpha=strength * (1 if valid else 0.3), edgecolor="none"))
    axes.add_patch(
        Rectangle((x, y), 1, 1, fill=False, edgecolor="#888888", linewidth=0.6, hatch=None if valid else "////")
    )
    axes.text(x + 0.5, y + 0.55, text, ha="center", va="center", fontsize=11)
    axes.text(x + 0.06, y + 0.06, region, ha="left", va="top", fontsize=7.5, color="#222222")


def blank(axes: Axes, size: tuple[int, int], title: str) -> None:
    """Empty axes for size = (rows, columns) cells, row 0 on top."""
    axes.set(xlim=(-0.05, size[1] + 0.05), ylim=(size[0] + 0.05, -0.05), aspect="equal", xticks=[], yticks=[])
    axes.spines[:].set_visible(False)
    axes.tick_params(length=0)
    axes.set_title(title, fontsize=10)


def number(value) -> str:
    """As short as it can be without a lie: integers plain, others with at most two decimals."""
    value = float(value)
    if not math.isfinite(value):
        return str(value)
    if value == round(value):
        return str(round(value))
    return re.sub(r"^(-?)0\.", r"\1.", f"{value:.2f}") if abs(value) < 10 else f"{value:.1f}"
