"""Who chooses the regions of a model: the one list of routers that settings, experiments and command lines know."""

from collections.abc import Callable
from functools import partial

from jaxtyping import Int
from torch import Tensor, nn

from bra.data import derive_seed
from bra.patterns import Grid, all_regions, axial_regions, dilated_regions, local_regions, random_regions
from bra.topk import TableRouter

MakeRouter = Callable[[Grid, int], nn.Module]  # of one layer, from its grid and k
Regions = Callable[[Grid, int], Int[Tensor, "r k"]]


def follow(regions: Regions, grid: Grid, k: int) -> TableRouter:
    """A router that reads by a table, which is the same in every layer."""
    return TableRouter(regions(grid, k))


def every_region(grid: Grid, k: int) -> Int[Tensor, "r r"]:
    """Every region reads all of them, whatever k is."""
    return all_regions(grid)


class AnotherTableEachLayer:
    """Random tables, each layer its own, so that two layers reach further than one."""

    def __init__(self, seed: int):
        self.seed, self.made = seed, 0

    def __call__(self, grid: Grid, k: int) -> TableRouter:
        self.made += 1
        return TableRouter(random_regions(grid, k, derive_seed("table", self.seed, self.made - 1)))


# What makes the routers of a model, from the run's seed. None: the model's own, which choose by content.
# All can be pickled, and so can the models that keep them.
ROUTERS: dict[str, Callable[[int], MakeRouter | None]] = {
    "topk": lambda seed: None,
    "local": lambda seed: partial(follow, local_regions),
    "axial": lambda seed: partial(follow, axial_regions),
    "dilated": lambda seed: partial(follow, dilated_regions),
    "random": AnotherTableEachLayer,
    "all": lambda seed: partial(follow, every_region),
}
