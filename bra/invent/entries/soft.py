"""Soft: what is read counts more where the regions fit, so that a gradient reaches what the choice is made from.

1. Equation. I^r as top-k has it. To the score of a token of region j, read by region i, the regions' affinity is added:
   O = softmax(s (Q (K^g)^T + A_ij)) V^g with A_ij = Q^r_i . K^r_j. That is attention times exp(s A_ij), made to sum to
   one: log softmax of s A over the regions read, as far as a softmax can tell.
2. What teaches the choice? A_ij rises where region j helped more than the others that were read, and with it the means
   from which the next choice is made. What was not read still teaches nothing; with k = 1 there is nothing to compare,
   A_ij cancels, and this is top-k.
3. Cost. The affinity a second time, with gradient: r x r x c multiply-adds more than top-k.
"""

from functools import partial

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bra.adjacency import region_affinity, region_means
from bra.attention import attend
from bra.gather import gather_regions
from bra.layer import BiLevelRoutingAttention
from bra.patterns import Grid


def attend_softly(
    q: Float[Tensor, "b r t c"],
    k: Float[Tensor, "b r t c"],
    v: Float[Tensor, "b r t c"],
    index: Int[Tensor, "b r k"],
    heads: int,
    scale: float | None = None,
    valid: Bool[Tensor, "r t"] | Bool[Tensor, "b r t"] | None = None,
) -> Float[Tensor, "b r t c"]:
    """`bra.attend`, but the affinity of each region that is read, with gradient, is added to its tokens' scores."""
    affinity = region_affinity(region_means(q, valid), region_means(k, valid)).gather(2, index)
    return attend(q, k, v, index, heads, scale, valid, way=partial(weigh, affinity))


def weigh(
    affinity: Float[Tensor, "b r k"],
    q: Tensor, k: Tensor, v: Tensor, index: Tensor, heads: int, scale: float,
    valid_keys: Bool[Tensor, "b r k t"] | None = None,
) -> Tensor:  # fmt: skip
    """A way for `bra.attend`: gather, then attend, as the definition does, with the affinity among the scores."""
    keys, values = gather_regions(k, index), gather_regions(v, index)
    queries, keys, values = (rearrange(x, "b r t (m d) -> (b r) m t d", m=heads) for x in (q, keys, values))
    added = (scale * affinity).to(q.dtype)[..., None].expand(*index.shape, k.shape[2])
    if valid_keys is not None:
        added = added.masked_fill(~valid_keys, float("-inf"))
    mask = rearrange(added, "b r k t -> (b r) 1 1 (k t)")
    out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=scale)
    return rearrange(out, "(b r) m t d -> b r t (m d)", r=index.shape[1])


def make_layer(dim: int, heads: int, grid: Grid, k: int) -> BiLevelRoutingAttention:
    """A layer of `dim` channels whose regions read k others, each in the measure in which it fits."""
    return BiLevelRoutingAttention(dim, heads, grid, k, attend=attend_softly, lce_kernel=0)
