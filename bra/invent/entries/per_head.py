"""Per head: each head chooses k regions by its own channels, instead of all heads together.

1. Equation. Of head m: A_m = Q^r_m (K^r_m)^T over its own channels of the means, I_m = the k largest of each row.
   It attends to the regions of I_m alone. The paper's A is the sum of the A_m: there all heads must agree.
2. What teaches the choice? As for top-k nothing directly, and with k = 1 no head compares two regions.
3. Cost. The multiply-adds of top-k, to the last one: the heads share out the channels of both products. But up to
   heads * k regions are read, and a way that gathers would fetch each region once for every head that chose it.

The index that is told is I_1, then I_2, ...: (b r heads*k). A hit is a hit of any head.
"""

from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bra.attention import attend
from bra.layer import BiLevelRoutingAttention
from bra.patterns import Grid
from bra.topk import Routes, TopKRouter


class PerHeadRouter(nn.Module):
    """A `TopKRouter` that sees each head's channels as an image of its own."""

    def __init__(self, heads: int, k: int):
        super().__init__()
        self.heads, self.top = heads, TopKRouter(k)

    def forward(
        self,
        q_means: Float[Tensor, "b r c"],
        k_means: Float[Tensor, "b r c"],
        valid_regions: Bool[Tensor, " r"] | Bool[Tensor, "b r"] | None = None,
    ) -> Routes:
        """Routes whose index holds the heads' choices one after the other; the affinity is that of the keenest head."""
        q_means, k_means = (rearrange(x, "b r (m d) -> (b m) r d", m=self.heads) for x in (q_means, k_means))
        if valid_regions is not None and valid_regions.ndim == 2:
            valid_regions = valid_regions.repeat_interleave(self.heads, dim=0)
        index, affinity = self.top(q_means, k_means, valid_regions)
        index = rearrange(index, "(b m) r k -> b r (m k)", m=self.heads)
        return Routes(index, rearrange(affinity, "(b m) r s -> b m r s", m=self.heads).amax(dim=1))


def attend_per_head(
    q: Float[Tensor, "b r t c"],
    k: Float[Tensor, "b r t c"],
    v: Float[Tensor, "b r t c"],
    index: Int[Tensor, "b r n"],
    heads: int,
    scale: float | None = None,
    valid: Bool[Tensor, "r t"] | Bool[Tensor, "b r t"] | None = None,
) -> Float[Tensor, "b r t c"]:
    """`bra.attend` with the heads as images of one head, each with its own part of the index, n = heads * k."""
    q, k, v = (rearrange(x, "b r t (m d) -> (b m) r t d", m=heads) for x in (q, k, v))
    if valid is not None and valid.ndim == 3:
        valid = valid.repeat_interleave(heads, dim=0)
    out = attend(q, k, v, rearrange(index, "b r (m k) -> (b m) r k", m=heads), heads=1, scale=scale, valid=valid)
    return rearrange(out, "(b m) r t d -> b r t (m d)", m=heads)


def make_layer(dim: int, heads: int, grid: Grid, k: int) -> BiLevelRoutingAttention:
    """A layer of `dim` channels in which each head of each region reads k regions of its own choice."""
    router = PerHeadRouter(heads, k)
    return BiLevelRoutingAttention(dim, heads, grid, k, router=router, attend=attend_per_head, lce_kernel=0)
