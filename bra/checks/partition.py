"""Checks of notebook 01: a map cut into regions, put together again, and padded."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from bra.checks.inputs import numbers, sizes
from bra.checks.judge import Answer, Fact, Mistake, Wrong, judge, recall
from bra.checks.parts import Part
from bra.checks.verdict import Verdict
from bra.partition import merge_regions, pad_to_grid, partition_regions

OWN = ("bra.partition.partition_regions",)  # what an answer may not call


def partition(cut: Answer) -> Verdict:
    """cut(x, grid) -> (b r t c): what `partition_regions` does."""

    def as_if(pattern: str) -> Answer:
        return lambda x, grid: rearrange(x, f"{pattern} c", i=grid[0], j=grid[1])

    mistakes = [
        Mistake("Your regions are horizontal strips: of a 4 x 8 map, row 0 of region 1 should start at column 4. "
                "A reshape alone cannot cut squares.",
                lambda x, grid: x.reshape(len(x), grid[0] * grid[1], -1, x.shape[-1])),
        Mistake("Your regions are numbered column by column. Region 1 lies to the right of region 0, not below it.",
                as_if("b (i u) (j v) c -> b (j i) (u v)")),
        Mistake("Inside a region your tokens run column by column. Token 1 lies to the right of token 0.",
                as_if("b (i u) (j v) c -> b (i j) (v u)")),
        Mistake("You split the map into (rows, columns, high, wide). First split h into (rows, high), then w into "
                "(columns, wide).",
                lambda x, grid: rearrange(x.reshape(len(x), *grid, x.shape[1] // grid[0], -1, x.shape[3]),
                                          "b i x y v c -> b (i y) (x v) c")),
        Mistake("Both of your orders run column by column: regions over the map, and tokens inside their region.",
                as_if("b (i u) (j v) c -> b (j i) (v u)")),
        Mistake("Your regions hold tokens from all over the map, not neighbours: split h into (rows, high), rows "
                "first.",
                as_if("b (u i) (v j) c -> b (i j) (u v)")),
        Mistake("Rows and columns of the grid are swapped: grid[0] counts the regions from top to bottom.",
                lambda x, grid: partition_regions(x, grid[::-1])),
        Mistake("Every image of the batch gets the regions of the first.",
                lambda x, grid: partition_regions(x, grid)[:1].expand(len(x), -1, -1, -1)),
        Mistake("Regions and tokens are swapped: the axes are (b r t c).",
                lambda x, grid: partition_regions(x, grid).transpose(1, 2)),
    ]  # fmt: skip
    size = sizes()
    y, x = torch.meshgrid(torch.arange(2.0 * size(2)), torch.arange(2.0 * size(4)), indexing="ij")
    (i, j), channels = (size(3), size(4)), size(5)
    inputs = [((10 * y + x)[None, :, :, None], (2, 2)), (numbers(2, i * size(8), j * size(9), channels), (i, j))]
    praise = "Your cut equals partition_regions on every map tried."
    return judge(cut, inputs, partition_regions, mistakes, praise, "b r t c")


def partition_recall(region, place) -> Verdict:
    """Region and place of the token in row 5, column 11, of 6 x 20 tokens on a grid of (2, 4)."""
    facts = [
        Fact("my_region", region, 6, "A region has 3 x 5 tokens. Its number is its row times 4, plus its column.", {
            5: "You number the regions column by column. They run row by row.",
            7: "You count regions from 1. The first is region 0.",
            4: "A row of the grid has 4 regions, not 2: its columns count.",
        }),
        Fact("my_place", place, 11, "Inside the region count the rows and the columns that are left over.", {
            5: "You number the tokens column by column. They run row by row.",
            12: "You count places from 1. The first is place 0.",
            7: "A row of a region has 5 tokens: its width counts, not its height.",
        }),
    ]  # fmt: skip
    return recall(facts, "One division with remainder for each axis gives both.")


def merge(put_together: Answer) -> Verdict:
    """put_together(regions, grid, size) -> (b h w c): what `merge_regions` does."""

    def as_if(pattern: str) -> Answer:
        def answer(regions: Tensor, grid: tuple[int, int], size: tuple[int, int]) -> Tensor:
            (i, j), (h, w) = grid, size
            return rearrange(regions, pattern, i=i, j=j, u=h // i, v=w // j)

        return answer

    mistakes = [
        Mistake("You reshape alone: that lays whole regions one behind the other. Each belongs in its square.",
                lambda regions, grid, size: regions.reshape(len(regions), *size, -1)),
        Mistake("You take the regions as numbered column by column. Region 1 lies to the right of region 0.",
                as_if("b (j i) (u v) c -> b (i u) (j v) c")),
        Mistake("Inside a region you take the tokens column by column. Token 1 lies to the right of token 0.",
                as_if("b (i j) (v u) c -> b (i u) (j v) c")),
        Mistake("You join (high, rows) to the height, and so scatter the tokens. First (rows, high), then (columns, "
                "wide).",
                as_if("b (i j) (u v) c -> b (u i) (v j) c")),
        Mistake("Rows and columns of the grid are swapped: grid[0] counts the regions from top to bottom.",
                lambda regions, grid, size: merge_regions(regions, grid[::-1], size)),
        Mistake("Height and width are swapped: size is (h, w).",
                lambda regions, grid, size: merge_regions(regions, grid, size[::-1])),
    ]  # fmt: skip
    inputs = [(numbers(1, 4, 4, 1), (2, 2), (4, 4)), (numbers(2, 12, 72, 5), (3, 4), (24, 36))]
    return judge(put_together, inputs, merge_regions, mistakes, "Your map equals merge_regions'.")


def pad(fill_up: Answer) -> Verdict:
    """fill_up(x, grid) -> the padded map, and its valid_map: what `pad_to_grid` does."""

    def both(x: Tensor, grid: tuple[int, int]) -> tuple[Tensor, Tensor]:
        found = fill_up(x, grid)
        if found is None or found is ...:
            raise Wrong("Your function returns nothing yet.")
        if not (isinstance(found, tuple | list) and len(found) == 2 and all(isinstance(y, Tensor) for y in found)):
            raise Wrong("It must return two tensors: the padded map, and valid_map.")
        if found[1].dtype != torch.bool:
            raise Wrong(f"valid_map must be bool, but is {found[1].dtype}.")
        return found[0], found[1]

    def around(change: Answer, side: int = 0) -> Answer:
        """Pad x by (beside, below) = change(h, w, grid), at the right and bottom, or for side = 1 left and top."""

        def answer(x: Tensor, grid: tuple[int, int]) -> Tensor:
            beside, below = change(*x.shape[1:3], grid)
            return F.pad(x, (0, 0, beside, 0, below, 0) if side else (0, 0, 0, beside, 0, below))

        return answer

    filled = [
        Mistake("Your zeros stand above and on the left. They belong below and on the right.",
                around(lambda h, w, grid: (-w % grid[1], -h % grid[0]), side=1)),
        Mistake("You pad the width by what the height lacks, and the other way round. F.pad counts from the last axis: "
                "channels, width, height.", around(lambda h, w, grid: (-h % grid[0], -w % grid[1]))),
        Mistake("You swap rows and columns of the grid: grid[0] must divide the height, grid[1] the width.",
                around(lambda h, w, grid: (-w % grid[0], -h % grid[1]))),
        Mistake("You add what is left over, h % rows. What is missing is -h % rows.",
                around(lambda h, w, grid: (w % grid[1], h % grid[0]))),
        Mistake("You pad a map that fits already. Then nothing is missing: -h % rows is 0.",
                around(lambda h, w, grid: (grid[1] - w % grid[1], grid[0] - h % grid[0]))),
        Mistake("You return the map as it came: nothing is padded.", lambda x, grid: x),
    ]  # fmt: skip
    real = [
        Mistake("Your valid_map is upside down: True means a real token, False padding.",
                lambda x, grid: ~pad_to_grid(x, grid)[1]),
        Mistake("Your valid_map says that every token is real. Those of the padding are not.",
                lambda x, grid: pad_to_grid(x, grid)[1] | True),
        Mistake("Your valid_map has the size of the map before padding. It must have that of the padded map.",
                lambda x, grid: torch.ones(x.shape[1:3]).bool()),
        Mistake("Your valid_map calls a token padding if it is 0. A real token may be 0, too: ask where it stands.",
                lambda x, grid: (pad_to_grid(x, grid)[0] != 0).any(dim=-1)[0]),
    ]  # fmt: skip
    some = numbers(2, 6, 8, 3)
    some[:, 2, 3] = 0.0
    inputs = [(some, (3, 4)), (some, (4, 5)), (numbers(2, 7, 9, 1), (3, 5)), (numbers(1, 1, 2, 4), (3, 5))]
    praise = "Zeros below and on the right, and the mask tells them."
    verdict = judge(lambda *given: both(*given)[0], inputs, lambda *given: pad_to_grid(*given)[0], filled, praise)
    if not verdict:
        return verdict
    return judge(lambda *given: both(*given)[1], inputs, lambda *given: pad_to_grid(*given)[1], real, praise)


PARTS = [
    Part(partition_regions, '''
def partition_regions(x, grid):
    """(b h w c) -> (b r t c): regions row by row, and row by row the tokens in each. grid = (rows, columns)."""
    ...
''', partition),
    Part(merge_regions, '''
def merge_regions(regions, grid, size):
    """(b r t c) -> (b h w c): the way back. size = (h, w)."""
    ...
''', merge),
    Part(pad_to_grid, '''
def pad_to_grid(x, grid):
    """(b h w c) -> x with zeros below and on the right until grid divides it, and valid_map (h w), True where real."""
    ...
''', pad),
]  # fmt: skip
