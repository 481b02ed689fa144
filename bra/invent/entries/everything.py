"""Everything: every region reads all of them. The dense baseline: what there is to reach, at its full price.

1. Equation. I^r = (0 ... r - 1) in every row: attention among all tokens. k is ignored.
2. What teaches the choice? There is none.
3. Cost. 2 n^2 c for attention: r / k times that of top-k, and so beyond the budget.
"""

from bra.layer import BiLevelRoutingAttention
from bra.patterns import Grid, all_regions
from bra.topk import TableRouter


def make_layer(dim: int, heads: int, grid: Grid, k: int) -> BiLevelRoutingAttention:
    """A layer of `dim` channels whose regions read every region."""
    return BiLevelRoutingAttention(dim, heads, grid, k, router=TableRouter(all_regions(grid)), lce_kernel=0)
