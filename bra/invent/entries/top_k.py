"""Top-k: the layer as it is. What every entry is compared with.

1. Equation. A = Q^r (K^r)^T over the regions' means; I^r = the k largest of each row; one softmax over their tokens.
2. What teaches the choice? Nothing directly: no gradient passes through the choice. W_q and W_k learn from attention
   among the tokens that were chosen, and the means follow them. With k = 1 that softmax never compares two regions.
3. Cost. One product of r x r x c for the affinity; 2 n k t c for attention, n tokens in all and t in a region.
"""

from bra.layer import BiLevelRoutingAttention
from bra.patterns import Grid


def make_layer(dim: int, heads: int, grid: Grid, k: int) -> BiLevelRoutingAttention:
    """A layer of `dim` channels whose regions read k others."""
    return BiLevelRoutingAttention(dim, heads, grid, k, lce_kernel=0)
