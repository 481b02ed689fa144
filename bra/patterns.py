"""Step 00. Region tables that do not look at the content, the controls of routing; and what attention costs.

A table is an integer tensor (r k): row i lists the k regions that region i reads, itself often first. Every
table is fixed before an image is seen, so none of them can follow what the image shows.
"""

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from bra.arguments import require_grid, require_k

Grid = tuple[int, int]


def region_offsets(grid: Grid) -> tuple[Int[Tensor, "r r"], Int[Tensor, "r r"]]:
    """Rows down and columns right from region i to region j, as two tables (r r).

    Raises ValueError for a grid with an entry below 1.
    """
    require_grid(grid)
    region = torch.arange(grid[0] * grid[1])
    row, column = region // grid[1], region % grid[1]
    return row[None, :] - row[:, None], column[None, :] - column[:, None]


def nearest_regions(grid: Grid, k: int, preferred: Bool[Tensor, "r r"]) -> Int[Tensor, "r k"]:
    """The k regions nearest to each region: first those preferred, then, to fill up, the others.

    Distance is Euclidean between region centres; of equally near regions the lower index comes first.
    Raises ValueError for a k outside 1..r.
    """
    down, right = region_offsets(grid)
    require_k(k, len(down))
    distance = down**2 + right**2
    distance[~preferred] += distance.max() + 1
    return distance.argsort(dim=-1, stable=True)[:, :k]


def all_regions(grid: Grid) -> Int[Tensor, "r r"]:
    """Every region reads every region: dense attention, with k = r."""
    down, _ = region_offsets(grid)
    return torch.arange(len(down)).expand(len(down), -1)


def local_regions(grid: Grid, k: int) -> Int[Tensor, "r k"]:
    """Each region reads the k regions nearest to it, itself first (a window)."""
    down, _ = region_offsets(grid)
    return nearest_regions(grid, k, torch.ones_like(down, dtype=torch.bool))


def axial_regions(grid: Grid, k: int) -> Int[Tensor, "r k"]:
    """Each region reads along its row and its column, nearest first (stripes)."""
    down, right = region_offsets(grid)
    return nearest_regions(grid, k, (down == 0) | (right == 0))


def row_regions(grid: Grid, k: int) -> Int[Tensor, "r k"]:
    """Each region reads along its row, nearest first; a k beyond the row goes on with the nearest others."""
    down, _ = region_offsets(grid)
    return nearest_regions(grid, k, down == 0)


def column_regions(grid: Grid, k: int) -> Int[Tensor, "r k"]:
    """Each region reads along its column, nearest first; a k beyond the column goes on with the nearest others."""
    _, right = region_offsets(grid)
    return nearest_regions(grid, k, right == 0)


def dilated_regions(grid: Grid, k: int, step: int = 2) -> Int[Tensor, "r k"]:
    """Each region reads regions that lie multiples of `step` away in both directions, nearest first.

    Raises ValueError for a step below 1.
    """
    if step < 1:
        raise ValueError(f"step must be at least 1, but is {step}")
    down, right = region_offsets(grid)
    return nearest_regions(grid, k, (down % step == 0) & (right % step == 0))


def random_regions(grid: Grid, k: int, seed: int = 0) -> Int[Tensor, "r k"]:
    """Each region reads k distinct regions, drawn once from `seed`; it need not read itself."""
    down, _ = region_offsets(grid)
    require_k(k, len(down))
    draws = torch.rand(down.shape, generator=torch.Generator().manual_seed(seed))
    return draws.argsort(dim=-1)[:, :k]


def attention_cost(table: Int[Tensor, "r k"], tokens: int, channels: int) -> int:
    """Multiply-adds of both attention products when `table` says who reads whom.

    Each of the r * tokens queries meets k * tokens keys, once for its scores and once for its weighted sum:
    2 * r * k * tokens^2 * channels. With k = r this is the 2 (HW)^2 C of dense attention.
    """
    return 2 * table.numel() * tokens**2 * channels
