"""Who chooses the regions of a model: the one list of routers that settings, experiments and command lines know."""

from collections.abc import Callable
from functools import partial

from jaxtyping import Int
from torch import Tensor, nn

from bra.data import derive_seed
from bra.patterns import (
    Grid,
    all_regions,
    axial_regions,
    column_regions,
    dilated_regions,
    local_regions,
    random_regions,
    row_regions,
)
from bra.topk import TableRouter

MakeRouter = Callable[[Grid, int], nn.Module]  # of one layer, from its grid and k
Regions = Callable[[Grid, int], Int[Tensor, "r k"]]


def follow(regions: Regions, grid: Grid, k: int) -> TableRouter:
    """A router that reads by a table, which is the same in every layer."""
    return TableRouter(regions(grid, k))


def every_region(grid: Grid, k: int) -> Int[Tensor, "r r"]:
    """Every region reads all of them, whatever k is."""
    return all_regions(grid)


def drawn(seed: int, layer: int, grid: Grid, k: int) -> Int[Tensor, "r k"]:
    """The random table of a layer."""
    return random_regions(grid, k, derive_seed("table", seed, layer))


def crossed(layer: int, grid: Grid, k: int) -> Int[Tensor, "r k"]:
    """Rows in the first layer, columns in the next, and so on: after two, news of every region is everywhere."""
    return (row_regions, column_regions)[layer % 2](grid, k)


class AnotherTableEachLayer:
    """Tables of which each layer has its own, so that two layers reach further than one."""

    def __init__(self, table: Callable[[int, Grid, int], Int[Tensor, "r k"]]):
        self.table, self.made = table, 0

    def __call__(self, grid: Grid, k: int) -> TableRouter:
        self.made += 1
        return TableRouter(self.table(self.made - 1, grid, k))


# What makes the routers of a model, from the run's seed. None: the model's own, which choose by content.
# All can be pickled, and so can the models that keep them.
ROUTERS: dict[str, Callable[[int], MakeRouter | None]] = {
    "topk": lambda seed: None,
    "local": lambda seed: partial(follow, local_regions),
    "axial": lambda seed: partial(follow, axial_regions),
    "dilated": lambda seed: partial(follow, dilated_regions),
    "crossed": lambda seed: AnotherTableEachLayer(crossed),
    "random": lambda seed: AnotherTableEachLayer(partial(drawn, seed)),
    "random-once": lambda seed: partial(follow, partial(drawn, seed, 0)),
    "all": lambda seed: partial(follow, every_region),
}
