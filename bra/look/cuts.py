"""Interventions on routes: the same network, but some regions may not read others, or may read only what is said."""

import copy
from collections.abc import Mapping

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bra.look.calls import bra_layers
from bra.topk import Routes, top_k_regions


class Forbid(nn.Module):
    """The same router, but what `forbidden` (b r r) marks is not read: the next best region is, so that k stays.

    forbidden[b, i, j]: in image b region i may not read region j. A row must leave at least k regions.
    """

    def __init__(self, router: nn.Module, forbidden: Bool[Tensor, "b r r"]):
        super().__init__()
        self.router, self.k = router, router.k
        self.register_buffer("forbidden", forbidden)

    def forward(self, q_means: Float[Tensor, "b r c"], k_means: Float[Tensor, "b r c"]) -> Routes:
        """The routes among those that are allowed."""
        affinity = self.router(q_means, k_means).affinity.masked_fill(self.forbidden, -torch.inf)
        return Routes(top_k_regions(affinity, self.k), affinity)


class LeaveOut(nn.Module):
    """The same router, but what `forbidden` (b r r) marks is not read, and nothing else comes in its place.

    The region reads the best of what is left of its k once more: k stays, and no news comes in that was not there.
    (`Forbid` lets the next best region in, whose news may disturb.) A row must keep one of its k.
    """

    def __init__(self, router: nn.Module, forbidden: Bool[Tensor, "b r r"]):
        super().__init__()
        self.router, self.k = router, router.k
        self.register_buffer("forbidden", forbidden)

    def forward(self, q_means: Float[Tensor, "b r c"], k_means: Float[Tensor, "b r c"]) -> Routes:
        """The routes that are left, one of them named more than once."""
        index, affinity = self.router(q_means, k_means)
        cut = self.forbidden.gather(2, index)
        best = index.gather(2, (~cut).int().argmax(dim=2, keepdim=True))
        return Routes(torch.where(cut, best, index), affinity)


class ReadOnly(nn.Module):
    """Every region reads what `index` (b r k) says, in each image something else, and nothing besides.

    A region may be named twice: if all are named equally often, the softmax is that over each of them once.
    """

    def __init__(self, index: Int[Tensor, "b r k"]):
        super().__init__()
        self.k = index.shape[2]
        self.register_buffer("index", index)

    def forward(self, q_means: Float[Tensor, "b r c"], k_means: Float[Tensor, "b r c"]) -> Routes:
        """The given routes; no affinity is asked."""
        return Routes(self.index, q_means.new_zeros(*self.index.shape[:2], self.index.shape[1]))


def rerouted(model: nn.Module, routers: Mapping[int, nn.Module]) -> nn.Module:
    """A copy of `model` in which the BRA layers of these numbers, in the order of its modules, ask these routers.

    Raises ValueError for a number that no layer has.
    """
    twin = copy.deepcopy(model)
    layers = list(bra_layers(twin).values())
    for number, router in routers.items():
        if not 0 <= number < len(layers):
            raise ValueError(f"routers must name layers 0 to {len(layers) - 1}, but name {number}")
        layers[number].router = router
    return twin
