"""Check of notebook 01: a map cut into regions."""

import torch
from einops import rearrange

from bra.checks.judge import Answer, Fact, Mistake, Verdict, judge, numbers, recall
from bra.partition import partition_regions


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
    y, x = torch.meshgrid(torch.arange(4.0), torch.arange(8.0), indexing="ij")
    inputs = [((10 * y + x)[None, :, :, None], (2, 2)), (numbers(2, 24, 36, 5), (3, 4))]
    return judge(cut, inputs, partition_regions, mistakes, "Your cut equals partition_regions on every map tried.")


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
