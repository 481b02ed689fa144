"""Step 03. Which regions should this region read: the routing index, and the modules that make it.

A router is a module that maps the region means of q and k to `Routes`. Where not all tokens are real it is also
given `valid_regions`, which regions hold a real one: of all images (r), or of each (b r). Routing decides by
comparison, so no gradient passes through it. It learns all the same: the q and k whose means decide are those of the
token attention, and they get its gradient.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bra.adjacency import region_affinity
from bra.arguments import require_axes, require_k


class Routes(NamedTuple):
    """Who reads whom.

    index: (b r k) int64, the regions that each region reads, best first.
    affinity: (b r r), how much each region wants to read each region, without gradient; -inf for regions that are
    all padding.
    """

    index: Int[Tensor, "b r k"]  # type: ignore[assignment]  # it hides that of a tuple
    affinity: Float[Tensor, "b r r"]


def top_k_regions(affinity: Float[Tensor, "b r r"], k: int) -> Int[Tensor, "b r k"]:
    """The k regions of highest affinity, best first: I^r = topkIndex(A^r), as in the paper.

    Which of two equal affinities comes first is not defined.
    Raises ValueError if affinity is not (b r r) or k is outside 1..r.
    """
    require_axes("affinity", affinity, "b r r")
    require_k(k, affinity.shape[-1])
    return affinity.topk(k, dim=-1).indices


class TopKRouter(nn.Module):
    """Each region reads the k regions of highest affinity: routing by content."""

    __call__: Callable[..., Routes]

    def __init__(self, k: int):
        super().__init__()
        self.k = k

    @torch.no_grad()
    def forward(
        self,
        q_means: Float[Tensor, "b r c"],
        k_means: Float[Tensor, "b r c"],
        valid_regions: Bool[Tensor, " r"] | Bool[Tensor, "b r"] | None = None,
    ) -> Routes:
        """A region without real tokens gets the affinity -inf: it is chosen last. Of fewer than k regions all are."""
        affinity = region_affinity(q_means, k_means)
        if valid_regions is not None:
            affinity = affinity.masked_fill(~valid_regions[..., None, :], float("-inf"))
        return Routes(top_k_regions(affinity, min(self.k, affinity.shape[-1])), affinity)

    def extra_repr(self) -> str:
        return f"k={self.k}"


class TableRouter(nn.Module):
    """Each region reads what a fixed table (r k) says: a control for routing by content (see `patterns`).

    It computes the affinity all the same, at the same cost, so that one can see what content would have chosen.
    """

    __call__: Callable[..., Routes]
    table: Tensor

    def __init__(self, table: Int[Tensor, "r k"]):
        super().__init__()
        self.register_buffer("table", table.clone())

    @torch.no_grad()
    def forward(
        self,
        q_means: Float[Tensor, "b r c"],
        k_means: Float[Tensor, "b r c"],
        valid_regions: Bool[Tensor, " r"] | Bool[Tensor, "b r"] | None = None,
    ) -> Routes:
        """A table is fixed: `valid_regions` changes nothing. Raises ValueError if it has not one row a region."""
        if len(self.table) != q_means.shape[1]:
            raise ValueError(f"table must have one row a region, {q_means.shape[1]}, but has {len(self.table)}")
        index = self.table.expand(len(q_means), -1, -1)
        return Routes(index, region_affinity(q_means, k_means))

    @property
    def k(self) -> int:
        """Regions that each region reads."""
        return self.table.shape[1]

    def extra_repr(self) -> str:
        return "regions={}, k={}".format(*self.table.shape)
