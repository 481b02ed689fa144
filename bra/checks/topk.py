"""Check of notebook 03: the best k regions, ties to the lower number."""

import torch
from torch import Tensor

from bra.checks.inputs import numbers, sizes
from bra.checks.judge import Answer, Fact, Mistake, judge, recall
from bra.checks.parts import Part
from bra.checks.verdict import Verdict
from bra.topk import top_k_regions

OWN = ("bra.topk.top_k_regions",)  # what an answer may not call


def best(affinity: Tensor, k: int) -> Tensor:
    """The right answer, in which ties have an order."""
    return affinity.argsort(dim=-1, descending=True, stable=True)[:, :, :k]


def mistaken() -> list[Mistake]:
    """What may go wrong with a choice."""

    def not_itself(affinity: Tensor, k: int) -> Tensor:
        return best(affinity.masked_fill(torch.eye(affinity.shape[-1]).bool(), -torch.inf), k)

    return [
        Mistake("You take the smallest affinities. Take the largest.",
                lambda affinity, k: affinity.argsort(dim=-1, stable=True)[:, :, :k]),
        Mistake("You have the right regions, the worst of them first. The best comes first.",
                lambda affinity, k: best(affinity, k).flip(-1)),
        Mistake("You have the right regions, sorted by their number. Sort them by affinity, best first.",
                lambda affinity, k: best(affinity, k).sort(dim=-1).values),
        Mistake("You sort columns: that tells by whom a region is wanted. Row i is what region i wants.",
                lambda affinity, k: best(affinity.transpose(1, 2), k)),
        Mistake("Every image of the batch uses the routes of the first. Each has its own.",
                lambda affinity, k: best(affinity[:1].expand_as(affinity), k)),
        Mistake("You average the affinity over the batch. Each image has its own routes.",
                lambda affinity, k: best(affinity.mean(dim=0).expand_as(affinity), k)),
        Mistake("All regions read the same ones. Each row makes its own choice.",
                lambda affinity, k: best(affinity.mean(dim=1, keepdim=True).expand_as(affinity), k)),
        Mistake("You forbid a region to read itself. It competes like any other.", not_itself),
        Mistake("You return affinities. Return the numbers of the regions.",
                lambda affinity, k: affinity.topk(k).values),
        Mistake("Of two equal affinities you take the higher region first. Take the lower.",
                lambda affinity, k: affinity.shape[-1] - 1 - best(affinity.flip(-1), k)),
    ]  # fmt: skip


def topk(stable_top_k: Answer) -> Verdict:
    """stable_top_k(affinity, k): (b r r) -> (b r k), best first; of equal affinities the lower region first."""
    ties = torch.tensor([[1.0, 2, 2, 2, 0], [0, 0, 0, 0, 0], [3, 1, 3, 1, 3], [0, 1, 0, 1, 0], [5, 4, 4, 5, 5]])
    size = sizes()
    r = size(7)
    close = 1 + 1e-6 * numbers(1, r, r).argsort(dim=-1)
    low = numbers(1, r, r, seed=1) * 1e4
    low[:, :, 1::3] = -torch.inf  # regions of nothing but padding
    ties, all_equal, some = torch.stack([ties, ties.flip(1)]), size(40), size(5)
    inputs = [(numbers(2, some, some), 3), (ties, 2), (torch.zeros(1, all_equal, all_equal), all_equal)]
    inputs += [(close, 3), (low, r)]
    return judge(stable_top_k, inputs, best, mistaken(), "Best first, each row for itself, ties in order.", "b r k")


def without_ties(own_choice: Answer) -> Verdict:
    """own_choice(affinity, k): what `top_k_regions` does, which promises nothing of ties."""
    inputs = [(numbers(2, 5, 5), 3), (numbers(3, 11, 11, seed=1), 11)]
    return judge(own_choice, inputs, best, mistaken(), "Best first, each row for itself.")


PARTS = [
    Part(top_k_regions, '''
def top_k_regions(affinity, k):
    """(b r r) -> (b r k), int64: for each row the numbers of its k largest entries, best first. Ties as you like."""
    ...
''', without_ties),
]  # fmt: skip


def topk_recall(choice, candidates) -> Verdict:
    """What a row 2, 7, 7, -1, 5 reads with k = 3, and which regions may be the one that it reads with k = 1."""
    facts = [
        Fact("my_set", listed(choice), frozenset({1, 2, 4}), "Take the three largest entries; regions count from 0.", {
            frozenset({2, 3, 5}): "You count regions from 1. The first is region 0.",
            frozenset({7, 5}): "Those are affinities. The numbers of their regions are asked for.",
            frozenset({0, 3, 4}): "Those are the smallest affinities.",
            frozenset({1, 2}): "Equal affinities are two regions, and k is 3: one more is read.",
        }),
        Fact("my_candidates", listed(candidates), frozenset({1, 2}), "Which regions have the largest affinity?", {
            frozenset({1}): "Nothing promises that the lower of two equal ones comes back. Name both.",
            frozenset({2}): "Nothing promises that the higher of two equal ones comes back. Name both.",
            frozenset({1, 2, 4}): "That is for k = 3. The third of them is never the best.",
            frozenset({2, 3}): "You count regions from 1. The first is region 0.",
            frozenset({7}): "That is the affinity. The numbers of its regions are asked for.",
        }),
    ]  # fmt: skip
    return recall(facts, "Both sevens are in with k = 3, in either order; with k = 1 either may be the one.")


def listed(choice):
    """A tensor of regions, such as `topk` gives, as a list, which compares by value; anything else as it is."""
    return choice.flatten().tolist() if isinstance(choice, Tensor) else choice
