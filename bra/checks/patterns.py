"""Check of notebook 00: windows of regions, without looking."""

import torch
from torch import Tensor

from bra.checks.inputs import sizes
from bra.checks.judge import Answer, Fact, Mistake, judge, recall
from bra.checks.verdict import Verdict
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
    size = sizes()
    inputs = [((2 * size(2), 2 * size(2)), 2), ((2 * size(2), 2 * size(4)), 2), ((3 * size(2), 3 * size(3)), 3)]
    verdict = judge(windows, inputs, table, mistakes, "Every region reads its own window.")
    if not verdict and judge(lambda *given: windows(*given).sort(dim=1).values, inputs, table, [], ""):
        return Verdict(False, "You have the right regions in another order. Within a row of the table they must rise.")
    return verdict


def patterns_recall(share, ratio) -> Verdict:
    """What share of full attention's cost is left, and how many times the projections that is."""
    facts = [
        Fact("my_share", share, 4 / 64, "It is k / R: how many regions are there?", {
            4 / 8: "A grid of 8 x 8 regions has 64 of them, not 8.",
            1 / 64: "Each region reads 4 of them, not one.",
            6.25: "Give a share between 0 and 1, not percent.",
        }),
        Fact("my_ratio", ratio, 1, "Full attention costs HW / (2C) times the projections. What is left of that?", {
            16: "That is full attention. The share of it that is left is asked for.",
            0.5: "You divide the tokens by 4C. Full attention costs HW / (2C) times the projections.",
        }),
    ]  # fmt: skip
    return recall(facts, "What is left of attention costs as much as the projections.")
