"""Soft routing: a region's affinity is added to its tokens' scores."""

from torch import nn

from bra import attend, region_affinity, region_means
from bra.attention import attend_gathered


class SoftAttention(nn.Module):
    """A layer's `attend`: of the regions read, those of higher affinity get more.

    At a high temperature it is the layer as we know it, at a low one that with k = 1.
    """

    def __init__(self, temperature=1.0):
        super().__init__()
        self.temperature = temperature

    def forward(self, q, k, v, index, heads, scale, valid=None):
        """As `bra.attend`."""
        affinity = region_affinity(region_means(q, valid), region_means(k, valid))
        added = affinity.gather(2, index)[..., None] / self.temperature  # b r k 1

        def way(q, k, v, index, heads, scale, valid_keys=None):
            mask = added.expand(*index.shape, q.shape[2])  # b r k t
            if valid_keys is not None:
                mask = mask.masked_fill(~valid_keys, float("-inf"))
            return attend_gathered(q, k, v, index, heads, scale, mask)

        return attend(q, k, v, index, heads, scale, valid, way)
