"""Check of notebook 12: routing rollout."""

import torch
from torch import Tensor

from bra.checks.judge import Answer, Mistake, Verdict, judge


def follow(
    index: Tensor, *,
    last_first: bool = False, kept: float = 0.5, read: float = 0.5, share: bool = True, twice: bool = True,
    columns: bool = False, product: bool = True, blocks: slice = slice(None),
) -> Tensor:  # fmt: skip
    """Where the content of every region comes from, after all blocks (n r k). Each keyword can make one mistake."""
    own = torch.eye(index.shape[1])
    steps = []
    for table in index[blocks]:
        each = torch.full(table.shape, 1 / table.shape[1] if share else 1.0)
        mixed = own.new_zeros(own.shape)
        mixed = mixed.scatter_add(1, table, each) if twice else mixed.scatter(1, table, each)
        steps.append(kept * own + read * (mixed.T if columns else mixed))
    if not product:
        return torch.stack(steps).mean(dim=0)
    found = own
    for step in steps:
        found = found @ step if last_first else step @ found
    return found


def but(says: str, **mistake) -> Mistake:
    """A mistake: what to say, and which keywords of `follow` make it."""
    return Mistake(says, lambda index: follow(index, **mistake))


MISTAKES = [
    but("The product is in the wrong order: what the last block does comes last, so its matrix stands leftmost.",
        last_first=True),
    but("The matrix of a block is transposed: row i says whom region i reads.", columns=True),
    but("The identity is missing: a region keeps its own content beside what it reads.", kept=0.0, read=1.0),
    but("Identity and routes are added, but not halved: a row must sum to 1.", kept=1.0, read=1.0),
    but("1/k is missing: each of the k routed regions gives a k-th.", share=False),
    Mistake("Your result is transposed: row i is what region i holds.", lambda index: follow(index).T),
    Mistake("The identity is added once, at the end. Every block keeps half.",
            lambda index: (follow(index, kept=0.0, read=1.0) + torch.eye(index.shape[1])) / 2),
    Mistake("You multiply entry by entry. Blocks follow each other: a matrix product, @.",
            lambda index: torch.stack([follow(table[None]) for table in index]).prod(dim=0)),
    but("You take the mean over the blocks. What one block has mixed, the next mixes again: a product.", product=False),
    but("You stop after the first block.", blocks=slice(1)),
    but("You use the last block alone.", blocks=slice(-1, None)),
    but("A region that is listed twice in a row gives twice as much: add, do not set.", twice=False),
]  # fmt: skip


def explorer(rollout: Answer) -> Verdict:
    """rollout(index): where every region's content comes from, (r r), for the routing index (n r k) of n blocks."""
    draw = torch.Generator().manual_seed(0)
    distinct = torch.rand(3, 5, 5, generator=draw).argsort(dim=2)[:, :, :2]
    repeated = torch.randint(7, (2, 7, 3), generator=draw)
    return judge(rollout, [(distinct,), (repeated,)], follow, MISTAKES, "Your rollout goes from block to block.")
