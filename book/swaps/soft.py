"""Soft routing: the affinity of two regions is added to the scores of their tokens, and so it gets a gradient."""

from torch import Tensor, nn

from bra import attend, region_affinity, region_means
from bra.attention import attend_gathered


class SoftAttention(nn.Module):
    """A layer's `attend`: of the regions that are read, those of higher affinity get more of the attention.

    Its limits are two layers that we know: at a high temperature the layer as it is, at a low one that with k = 1.
    """

    def __init__(self, temperature: float = 1.0):
        super().__init__()
        self.temperature = temperature

    def forward(self, q: Tensor, k: Tensor, v: Tensor, index: Tensor, heads: int, scale: float, valid=None) -> Tensor:
        """As `bra.attend`."""
        affinity = region_affinity(region_means(q, valid), region_means(k, valid))
        weight = affinity.gather(2, index)[..., None] / self.temperature  # b r k 1: the same for all tokens of a region

        def way(q, k, v, index, heads, scale, valid_keys=None):
            added = weight.expand(*index.shape, q.shape[2])
            if valid_keys is not None:
                added = added.masked_fill(~valid_keys, float("-inf"))
            return attend_gathered(q, k, v, index, heads, scale, added)

        return attend(q, k, v, index, heads, scale, valid, way)
