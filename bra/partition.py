"""Step 01. Cut a feature map into regions, and put it together again.

A map (b h w c) and a grid (rows, columns) give r = rows * columns regions of t tokens. Regions are numbered
row by row over the map, tokens row by row within their region (paper, section 3.2, "region partition").
"""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Shaped
from torch import Tensor

from bra.arguments import require_axes, require_grid
from bra.patterns import Grid


def partition_regions(x: Shaped[Tensor, "b h w c"], grid: Grid) -> Shaped[Tensor, "b r t c"]:
    """Cut a map into regions: X in R^(HWC) becomes X^r in R^(S^2 x HW/S^2 x C).

    With region height u = h / rows and region width v = w / columns,
    ``out[b, i * columns + j, m * v + n] == x[b, i * u + m, j * v + n]``.

    Raises ValueError if x is not (b h w c), a grid entry is below 1, or the grid does not divide the map.
    """
    require_axes("x", x, "b h w c")
    require_grid(grid)
    h, w = x.shape[1:3]
    if h % grid[0] or w % grid[1]:
        raise ValueError(f"grid {tuple(grid)} does not divide x of {h} x {w} tokens; pad_to_grid makes it fit")
    return rearrange(x, "b (i u) (j v) c -> b (i j) (u v) c", i=grid[0], j=grid[1])


def merge_regions(regions: Shaped[Tensor, "b r t c"], grid: Grid, size: tuple[int, int]) -> Shaped[Tensor, "b h w c"]:
    """Put the regions back in their places: the inverse of `partition_regions`; size = (h, w).

    Raises ValueError if regions is not (b r t c), or grid and size do not belong to it.
    """
    require_axes("regions", regions, "b r t c")
    require_grid(grid)
    (rows, columns), (h, w), (r, t) = grid, size, regions.shape[1:3]
    if h % rows or w % columns or r != rows * columns or t * r != h * w:
        raise ValueError(f"{r} regions of {t} tokens do not make a map of {h} x {w} tokens on grid {tuple(grid)}")
    return rearrange(regions, "b (i j) (u v) c -> b (i u) (j v) c", i=rows, u=h // rows)


def pad_to_grid(
    x: Shaped[Tensor, "b h w c"], grid: Grid
) -> tuple[Shaped[Tensor, "b padded_h padded_w c"], Bool[Tensor, "padded_h padded_w"]]:
    """Zeros at the bottom and at the right until the grid divides the map, and which tokens are real.

    Raises ValueError if x is not (b h w c) or a grid entry is below 1.
    """
    require_axes("x", x, "b h w c")
    require_grid(grid)
    h, w = x.shape[1:3]
    below, beside = -h % grid[0], -w % grid[1]
    valid = torch.ones(h, w, dtype=torch.bool, device=x.device)
    if below or beside:
        x = F.pad(x, (0, 0, 0, beside, 0, below))
        valid = F.pad(valid, (0, beside, 0, below))
    return x, valid
