"""Tokens as tables of numbers: token maps cut into regions, gathered tokens."""

import math
import re
from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Int, Shaped
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from bra.draw.picture import BLACK, BLUE, GREEN, ORANGE, PAGE, PURPLE, SKY, SMALL, VERMILION, YELLOW, Picture
from bra.draw.regions import TITLE, side_by_side

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
    figure, panels = side_by_side(len(owners), (max(0.55 * w, 1.8) + 0.2, 0.55 * h + TITLE))
    told = []
    for axes, owner, title in zip(panels, owners, titles, strict=True):
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
    beside = max(map(len, labels)) * 6 / 72 + 0.6  # inches: 6 points a letter
    figure = Figure(figsize=(min(PAGE, 0.55 * n + beside), 0.55 * r + 0.6), layout="constrained")
    axes = figure.subplots()
    blank(axes, (r, n), title)
    axes.set_yticks(np.arange(r) + 0.5, labels)
    for i, j in np.ndindex(r, n):
        cell(axes, j, i, number(rows[i, j]), int(owners[i, j]), True)
    told = [f"{label}: {' '.join(map(number, row))}" for label, row in zip(labels, rows, strict=True)]
    return Picture(figure, f"{title}. {'; '.join(told)}.")


def cell(axes: Axes, x: int, y: int, text: str, region: int, valid: bool) -> None:
    """One token: its value, tinted by its region, whose number stands small in the corner."""
    tint, strength = TINTS[region % len(TINTS)]
    axes.add_patch(Rectangle((x, y), 1, 1, facecolor=tint, alpha=strength * (1 if valid else 0.3), edgecolor="none"))
    axes.add_patch(
        Rectangle((x, y), 1, 1, fill=False, edgecolor="#888888", linewidth=0.6, hatch=None if valid else "////")
    )
    axes.text(x + 0.54, y + 0.62, text, ha="center", va="center", fontsize=11)
    axes.text(x + 0.05, y + 0.04, region, ha="left", va="top", fontsize=SMALL, color="#222222")


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
