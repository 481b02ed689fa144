"""Checks for notebooks 00 to 03: regions, and who reads whom."""

import torch
from einops import rearrange
from torch import Tensor

from bra.adjacency import region_means
from bra.checks.judge import Answer, Mistake, Verdict, judge, numbers
from bra.partition import partition_regions
from bra.patterns import Grid


def patterns(windows: Answer) -> Verdict:
    """windows(grid, side) -> (r, side^2): each region reads its window of side x side regions, in rising order."""

    def table(grid: Grid, side: int, columns: int | None = None) -> Tensor:
        region = torch.arange(grid[0] * grid[1])
        row, column = region // (columns or grid[1]), region % (columns or grid[1])
        window = row // side * (grid[1] // side) + column // side
        return (window[:, None] == window).nonzero()[:, 1].reshape(len(region), -1)

    def from_itself(grid: Grid, side: int) -> Tensor:
        steps = torch.arange(side)[:, None] * grid[1] + torch.arange(side)
        return torch.arange(grid[0] * grid[1])[:, None] + steps.flatten()

    def runs(grid: Grid, side: int) -> Tensor:
        return torch.arange(grid[0] * grid[1])[:, None] // side**2 * side**2 + torch.arange(side**2)

    def sliding(grid: Grid, side: int) -> Tensor:
        region, step = torch.arange(grid[0] * grid[1]), torch.arange(side)
        top = (region // grid[1] - side // 2).clamp(0, grid[0] - side)
        left = (region % grid[1] - side // 2).clamp(0, grid[1] - side)
        return (grid[1] * top + left)[:, None] + (grid[1] * step[:, None] + step).flatten()

    mistakes = [
        Mistake("Your window slides along with the region. These windows lie side by side and do not overlap.",
                sliding),
        Mistake("Your windows are runs of consecutive regions. With side 2, the window of region 0 goes on below: "
                "on a 4 x 4 grid it holds 0, 1, 4, 5.", runs),
        Mistake("Your window starts at the region itself. Windows do not overlap: region 1 shares that of region 0.",
                from_itself),
        Mistake("Every region reads the window of region 0. Find its window from the region's own row and column.",
                lambda grid, side: table(grid, side)[:1].expand(grid[0] * grid[1], -1)),
        Mistake("You have one row for each window. The table needs one for each region.",
                lambda grid, side: table(grid, side).unique(dim=0)),
        Mistake("You have a row for each region, but in the order of the windows. Row i belongs to region i.",
                lambda grid, side: table(grid, side).unique(dim=0).repeat_interleave(side**2, dim=0)),
        Mistake("You count regions from 1. The first is region 0.", lambda grid, side: table(grid, side) + 1),
        Mistake("Rows and columns are mixed up: region i lies in row i // columns and column i % columns.",
                lambda grid, side: table(grid, side, columns=grid[0])),
    ]  # fmt: skip
    inputs = [((4, 4), 2), ((4, 8), 2), ((6, 9), 3)]
    verdict = judge(windows, inputs, table, mistakes, "Every region reads its own window.")
    if not verdict and judge(lambda *given: windows(*given).sort(dim=1).values, inputs, table, [], ""):
        return Verdict(False, "You have the right regions in another order. Within a row of the table they must rise.")
    return verdict


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
        Mistake("You split the map into (rows, columns, u, v). First split h into (rows, u), then w into (columns, v).",
                lambda x, grid: rearrange(x.reshape(len(x), *grid, x.shape[1] // grid[0], -1, x.shape[3]),
                                          "b i x y v c -> b (i y) (x v) c")),
        Mistake("Both of your orders run column by column: regions over the map, and tokens inside their region.",
                as_if("b (i u) (j v) c -> b (j i) (v u)")),
        Mistake("Your regions hold tokens from all over the map, not neighbours: split h into (rows, u), rows first.",
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


def adjacency(masked_means: Answer) -> Verdict:
    """masked_means(regions, valid) -> (b r c): the mean of each region's real tokens, zeros where there are none."""

    def total(regions: Tensor, valid: Tensor) -> Tensor:
        return (regions * valid[:, :, None]).sum(dim=2)

    mistakes = [
        Mistake("Padded tokens count in your mean. They may hold anything: leave them out.",
                lambda regions, valid: regions.mean(dim=2)),
        Mistake("You divide by all tokens of a region. Divide by the number of its real ones.",
                lambda regions, valid: total(regions, valid) / valid.shape[1]),
        Mistake("You divide every region by the same number. Count the real tokens of each.",
                lambda regions, valid: total(regions, valid) / valid.sum(dim=1).double().mean().float()),
        Mistake("That is the sum of the real tokens. Divide by how many there are.", total),
        Mistake("A region without real tokens gives 0 / 0, which is NaN. Its mean must be 0.",
                lambda regions, valid: total(regions, valid) / valid.sum(dim=1)[:, None]),
        Mistake("You average the padded tokens: in the mask, True means real.",
                lambda regions, valid: region_means(regions, ~valid)),
        Mistake("That is the maximum, not the mean.",
                lambda regions, valid: regions.masked_fill(~valid[:, :, None], -torch.inf).amax(dim=2)),
    ]  # fmt: skip
    valid = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 1, 1]]).bool()
    some = numbers(2, 5, 3, 4)
    some[:, 0, 1] = 0.0  # a real token may be zero
    inputs = [(some, valid), (numbers(2, 6, 3, 4), torch.cat([valid, valid[:1] & False]))]
    praise = "Only real tokens count, and a region without any gets zeros."
    return judge(masked_means, inputs, region_means, mistakes, praise)


def topk(stable_top_k: Answer) -> Verdict:
    """stable_top_k(affinity, k): (b r r) -> (b r k), best first; of equal affinities the lower region first."""

    def best(affinity: Tensor, k: int) -> Tensor:
        return affinity.argsort(dim=-1, descending=True, stable=True)[:, :, :k]

    def not_itself(affinity: Tensor, k: int) -> Tensor:
        return best(affinity.masked_fill(torch.eye(affinity.shape[-1]).bool(), -torch.inf), k)

    mistakes = [
        Mistake("You take the smallest affinities. Take the largest.",
                lambda affinity, k: affinity.argsort(dim=-1, stable=True)[:, :, :k]),
        Mistake("You have the right regions, the worst of them first. The best comes first.",
                lambda affinity, k: best(affinity, k).flip(-1)),
        Mistake("You have the right regions, sorted by their number. Sort them by affinity, best first.",
                lambda affinity, k: best(affinity, k).sort(dim=-1).values),
        Mistake("You sort columns: that tells by whom a region is wanted. Row i is what region i wants.",
                lambda affinity, k: best(affinity.transpose(1, 2), k)),
        Mistake("Every image of the batch uses the routes of the first. Each has its own.",
                lambda affinity, k: best(affinity[:1].expand_as(affinity), k)),
        Mistake("You average the affinity over the batch. Each image has its own routes.",
                lambda affinity, k: best(affinity.mean(dim=0).expand_as(affinity), k)),
        Mistake("All regions read the same ones. Each row makes its own choice.",
                lambda affinity, k: best(affinity.mean(dim=1, keepdim=True).expand_as(affinity), k)),
        Mistake("You forbid a region to read itself. It competes like any other.", not_itself),
        Mistake("You return affinities. Return the numbers of the regions.",
                lambda affinity, k: affinity.topk(k).values),
        Mistake("Of two equal affinities you take the higher region first. Take the lower.",
                lambda affinity, k: affinity.shape[-1] - 1 - best(affinity.flip(-1), k)),
    ]  # fmt: skip
    ties = torch.tensor([[1.0, 2, 2, 2, 0], [0, 0, 0, 0, 0], [3, 1, 3, 1, 3], [0, 1, 0, 1, 0], [5, 4, 4, 5, 5]])
    close = 1 + 1e-6 * numbers(1, 7, 7).argsort(dim=-1)
    low = numbers(1, 7, 7, seed=1) * 1e4
    low[:, :, 1::3] = -torch.inf  # regions of nothing but padding
    inputs = [(numbers(2, 5, 5), 3), (torch.stack([ties, ties.flip(1)]), 2), (torch.zeros(1, 40, 40), 40)]
    inputs += [(close, 3), (low, 7)]
    return judge(stable_top_k, inputs, best, mistakes, "Best first, each row for itself, ties in order.")
