"""Template: each region reads its nearest neighbours, whatever it sees. Anyone can beat it.

This docstring is part of the entry: its first line is the title that the leaderboard shows. Answer, before you judge:

1. Equation. What is chosen, from what, in the symbols of the book (A, Q^r, K^r, I^r)?
   I^r: the k regions that lie nearest, a fixed table.
2. What teaches the choice? Does any gradient reach it, and by which path?
   Nothing: nothing is chosen.
3. Cost. Which products are there beside those of top-k? How many multiply-adds is that?
   None: those of top-k.
4. Prediction. On which board will it be better than top-k, on which worse, and why?
   Worse on all: the answer is rarely a neighbour.

And afterwards:

5. What came out? Do the seeds agree? If the prediction failed: which measurement would tell why?
   `python -m bra.invent leaderboard book/results/invent` shows it.
"""

from bra.layer import BiLevelRoutingAttention
from bra.patterns import Grid, local_regions
from bra.topk import TableRouter


def make_layer(dim: int, heads: int, grid: Grid, k: int) -> BiLevelRoutingAttention:
    """What the referee calls: a layer of `dim` channels on a grid of regions, of which each reads about k.

    router: an `nn.Module` that turns the means of q and k (b r c) into `bra.Routes`, see `bra.topk.TopKRouter`.
    attend=FUNCTION, if `bra.attend` is not enough: what tokens make of the regions that were chosen.
    lce_kernel must be 0: LCE carries news over a region's border, which routing should carry.
    """
    return BiLevelRoutingAttention(dim, heads, grid, k, router=TableRouter(local_regions(grid, k)), lce_kernel=0)
