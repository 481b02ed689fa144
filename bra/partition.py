"""Step 01. Cut a feature map into regions, put it together again, and say which tokens a region covers.

A map (b h w c) and a grid (rows, columns) give r = rows * columns regions of t tokens. Regions are numbered
row by row over the map, tokens row by row within their region (paper, "region partition").
"""

from collections.abc import Sequence
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Int, Shaped
from torch import Tensor

from bra.arguments import require_axes, require_grid
from bra.patterns import Grid


def partition_regions(x: Shaped[Tensor, "b h w c"], grid: Grid) -> Shaped[Tensor, "b r t c"]:
    """Cut a map into regions: X in R^(HWC) becomes X^r in R^(S^2 x HW/S^2 x C).

    With regions of high = h / rows by wide = w / columns tokens,
    ``out[b, row // high * columns + column // wide, row % high * wide + column % wide] == x[b, row, column]``.

    Raises ValueError if x is not (b h w c), a grid entry is below 1, or the grid does not divide the map.
    """
    require_axes("x", x, "b h w c")
    require_grid(grid)
    (h, w), (rows, columns) = x.shape[1:3], grid
    if h % rows or w % columns:
        raise ValueError(f"grid {tuple(grid)} does not divide x of {h} x {w} tokens; pad_to_grid makes it fit")
    return rearrange(x, "b (rows high) (columns wide) c -> b (rows columns) (high wide) c", rows=rows, columns=columns)


def merge_regions(regions: Shaped[Tensor, "b r t c"], grid: Grid, size: Sequence[int]) -> Shaped[Tensor, "b h w c"]:
    """Put the regions back in their places: the inverse of `partition_regions`; size = (h, w).

    Raises ValueError if regions is not (b r t c), or grid and size do not belong to it.
    """
    require_axes("regions", regions, "b r t c")
    require_grid(grid)
    (rows, columns), (h, w), (r, t) = grid, size, regions.shape[1:3]
    if h % rows or w % columns or r != rows * columns or t * r != h * w:
        raise ValueError(f"{r} regions of {t} tokens do not make a map of {h} x {w} tokens on grid {tuple(grid)}")
    high = h // rows
    return rearrange(regions, "b (rows columns) (high wide) c -> b (rows high) (columns wide) c", rows=rows, high=high)


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
    valid_map = torch.ones(h, w, dtype=torch.bool, device=x.device)
    if below or beside:
        x = F.pad(x, (0, 0, 0, beside, 0, below))
        valid_map = F.pad(valid_map, (0, beside, 0, below))
    return x, valid_map


def real_map(sizes: Int[Tensor, "b 2"], size: Sequence[int]) -> Bool[Tensor, "b h w"]:
    """Which places of maps of one size (h, w) are real: of each image those above and left of its height and width.

    Every second one, ``[:, ::2, ::2]``, are those of a map at twice the stride, whose sizes are rounded up.
    """
    rows, columns = (torch.arange(end, device=sizes.device) < sizes[:, axis, None] for axis, end in enumerate(size))
    return rows[:, :, None] & columns[:, None, :]


def middle_region(grid: Grid) -> int:
    """The region in the middle of the grid. Raises ValueError for a grid that is none."""
    require_grid(grid)
    return grid[0] // 2 * grid[1] + grid[1] // 2


@dataclass(frozen=True, eq=False)
class RegionGrid:
    """Which tokens each region of a map covers: grid (rows, columns) of regions on a map of size (h, w) tokens.

    A map that the grid does not divide is padded below and beside it, as `pad_to_grid` does: its last regions may reach
    beyond the map, or lie outside it altogether. Tokens of the map are counted row by row.
    Raises ValueError unless there is at least one region and one token.
    """

    grid: Grid
    size: tuple[int, int]

    def __post_init__(self) -> None:
        require_grid(self.grid)
        if min(self.size) < 1:
            raise ValueError(f"size must be (h, w) of at least one token each, but is {tuple(self.size)}")

    @property
    def count(self) -> int:
        """R: how many regions there are."""
        return self.grid[0] * self.grid[1]

    @property
    def cell(self) -> tuple[int, int]:
        """Tokens down and across a region, of the padded map."""
        return -(-self.size[0] // self.grid[0]), -(-self.size[1] // self.grid[1])

    def box(self, region: int) -> tuple[int, int, int, int]:
        """Row and column of the region's first token, and how many tokens it has down and across, without padding."""
        place = divmod(region, self.grid[1])
        row, column = (min(at * side, end) for at, side, end in zip(place, self.cell, self.size, strict=True))
        low = row, column
        height, width = (min(side, end - at) for at, side, end in zip(low, self.cell, self.size, strict=True))
        return row, column, height, width

    def is_real(self, region: int) -> bool:
        """Whether it holds a token of the map, and not only padding."""
        return min(self.box(region)[2:]) > 0

    def middle(self, region: int) -> int | None:
        """The token in the middle of a region; None if it is all padding."""
        row, column, height, width = self.box(region)
        return (row + height // 2) * self.size[1] + column + width // 2 if self.is_real(region) else None

    def locate(self, row: int, column: int) -> tuple[int, int]:
        """Region and place in it of the token at (row, column) of the map. Raises ValueError if there is none."""
        if not (0 <= row < self.size[0] and 0 <= column < self.size[1]):
            raise ValueError(f"token must be on the map of {self.size[0]} x {self.size[1]}, but is ({row}, {column})")
        (down, y), (right, x) = divmod(row, self.cell[0]), divmod(column, self.cell[1])
        return down * self.grid[1] + right, y * self.cell[1] + x

    def region_at(self, row: int, column: int) -> int:
        """The region of the token at (row, column) of the map."""
        return self.locate(row, column)[0]

    def owners(self) -> Int[Tensor, "h w"]:
        """The region of every token of the map."""
        row, column = (torch.arange(end) // side for end, side in zip(self.size, self.cell, strict=True))
        return row[:, None] * self.grid[1] + column
