"""Routing for each head: a head is treated as an image of its own, with a router of its own."""

from einops import rearrange, repeat
from torch import Tensor, nn

from bra import TopKRouter, attend, region_means


class AttentionPerHead(nn.Module):
    """A layer's `attend`: each head reads the k regions that its own channels choose.

    The layer's index, one for all heads, is not used.
    """

    def __init__(self, k: int):
        super().__init__()
        self.router = TopKRouter(k)

    def forward(self, q: Tensor, k: Tensor, v: Tensor, index: Tensor, heads: int, scale: float, valid=None) -> Tensor:
        """As `bra.attend`."""
        q, k, v = (rearrange(x, "b r t (m d) -> (b m) r t d", m=heads) for x in (q, k, v))
        real = ()
        if valid is not None:
            if valid.ndim == 3:  # of each image: its heads share it
                valid = repeat(valid, "b r t -> (b m) r t", m=heads)
            real = (valid.any(dim=-1),)
        index = self.router(region_means(q, valid), region_means(k, valid), *real).index
        return rearrange(attend(q, k, v, index, 1, scale, valid), "(b m) r t d -> b r t (m d)", m=heads)
