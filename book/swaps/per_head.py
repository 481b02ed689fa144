"""Routing for each head: a head is treated as an image of its own."""

from einops import rearrange, repeat
from torch import nn

from bra import TopKRouter, attend, region_means


class AttentionPerHead(nn.Module):
    """A layer's `attend`: each head reads the k regions that its channels choose."""

    def __init__(self, k):
        super().__init__()
        self.router = TopKRouter(k)

    def forward(self, q, k, v, index, heads, scale, valid=None):
        """As `bra.attend`; the layer's index, one for all heads, is not used."""
        q, k, v = (rearrange(x, "b r t (m d) -> (b m) r t d", m=heads) for x in (q, k, v))
        if valid is not None and valid.ndim == 3:  # of each image: its heads share it
            valid = repeat(valid, "b r t -> (b m) r t", m=heads)
        real = () if valid is None else (valid.any(dim=-1),)
        index = self.router(region_means(q, valid), region_means(k, valid), *real).index
        out = attend(q, k, v, index, 1, scale, valid)
        return rearrange(out, "(b m) r t d -> b r t (m d)", m=heads)
