"""Checks of notebook 12: who reads whom in a table, and routing rollout."""

import torch
from torch import Tensor

from bra.checks.inputs import generator, sizes
from bra.checks.judge import Answer, Fact, Mistake, judge, recall
from bra.checks.verdict import Verdict

OWN = ("bra.look.statistics.rollout",)  # what an answer may not call


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
    draw, size = generator(), sizes()
    blocks, r, more = size(3), size(5), size(7)
    distinct = torch.rand(blocks, r, r, generator=draw).argsort(dim=2)[:, :, :2]
    repeated = torch.randint(more, (2, more, 3), generator=draw)
    praise = "Your rollout goes from block to block."
    return judge(rollout, [(distinct,), (repeated,)], follow, MISTAKES, praise)


def explorer_recall(reads_3, reads_1, share_itself, share_random) -> Verdict:
    """Who reads 3 and 1, and what share of the regions reads itself, here and at random.

    Region 0 reads 0, 3; region 1 reads 3, 1; region 2 reads 3, 2; region 3 reads 3, 4; regions 4 and 5 read 5, 3.
    """
    percent = "That is in percent. A share lies between 0 and 1."
    facts = [
        Fact("reads_3", reads_3, frozenset(range(6)), "Look for 3 in the second row; the numbers above it read it.", {
            frozenset({3, 4}): "Those are the regions that region 3 reads. Who reads it?",
            frozenset({0, 1, 2, 4, 5}): "A region may read itself, too.",
            frozenset({1, 2, 3}): "You look at first choices only. Every region reads two.",
            frozenset({0, 4, 5}): "You look at second choices only. Every region reads two.",
        }),
        Fact("reads_1", reads_1, frozenset({1}), "Look for 1 in the second row; the numbers above it read it.", {
            frozenset({1, 3}): "Those are the regions that region 1 reads. Who reads it?",
            frozenset(): "A region may read itself, too.",
        }),
        Fact("share_itself", share_itself, 5 / 6, "In how many columns does the upper number stand below as well?", {
            1.0: "Not every column names its own region below.",
            3 / 6: "You look at one of the two choices only. Either may be the region itself.",
            2 / 6: "You look at one of the two choices only. Either may be the region itself.",
            5 / 12: "Divide by the number of regions, not of entries.",
            1 / 6: "That is the share of regions that do not read themselves.",
            5: "That is how many. What share of the regions?",
            83.3: percent,
        }),
        Fact("share_random", share_random, 2 / 6, "It is k / R.", {
            1 / 6: "Every region reads two, not one.",
            1 / 5: "Every region reads two; and a random router may choose the region itself.",
            2 / 5: "A random router may choose the region itself: it draws from all of them.",
            1 / 36: "One choice for each region, not for each pair of them; and every region makes two.",
            2: "That is k, how many it reads. How many could it read?",
            33.3: percent,
        }),
    ]  # fmt: skip
    return recall(facts, "Without the random router nobody could say whether such a share is large.")
