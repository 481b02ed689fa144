"""Checks of notebook 02: the means of regions, padding masked, and their affinity."""

import torch
from torch import Tensor

from bra.adjacency import region_affinity, region_means
from bra.checks.inputs import numbers, sizes
from bra.checks.judge import Answer, Fact, Mistake, judge, recall
from bra.checks.parts import Part
from bra.checks.verdict import Verdict

OWN = ("bra.adjacency.region_means",)  # what an answer may not call


def mistaken() -> list[Mistake]:
    """What may go wrong with a mean that knows a mask."""

    def total(regions: Tensor, valid: Tensor) -> Tensor:
        return (regions * valid[:, :, None]).sum(dim=2)

    return [
        Mistake("Padded tokens count in your mean. They may hold anything: leave them out.",
                lambda regions, valid: regions.mean(dim=2)),
        Mistake("You divide by all tokens of a region. Divide by the number of its real ones.",
                lambda regions, valid: total(regions, valid) / valid.shape[1]),
        Mistake("You divide every region by the same number. Count the real tokens of each.",
                lambda regions, valid: total(regions, valid) / valid.sum(dim=1).double().mean().float()),
        Mistake("That is the sum of the real tokens. Divide by how many there are.", total),
        Mistake("A region without real tokens gives 0 / 0, which is NaN. Its mean must be 0.",
                lambda regions, valid: total(regions, valid) / valid.sum(dim=1)[:, None]),
        Mistake("You average the padded tokens: in the mask, True means real.",
                lambda regions, valid: region_means(regions, ~valid)),
        Mistake("That is the maximum, not the mean.",
                lambda regions, valid: regions.masked_fill(~valid[:, :, None], -torch.inf).amax(dim=2)),
    ]  # fmt: skip


def padded() -> list[tuple[Tensor, Tensor]]:
    """Regions and which of their tokens are real; the second time one without any."""
    size = sizes()
    valid = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 1, 1]]).bool()
    valid = torch.cat([valid, valid[:, :1].expand(-1, size(3) - 3)], dim=1)
    some, other = (numbers(size(2), r, valid.shape[1], size(4)) for r in (5, 6))
    some[:, 0, 1] = 0.0  # a real token may be zero
    return [(some, valid), (other, torch.cat([valid, valid[:1] & False]))]


def adjacency(masked_means: Answer) -> Verdict:
    """masked_means(regions, valid) -> (b r c): the mean of each region's real tokens, zeros where there are none."""
    praise = "Only real tokens count, and a region without any gets zeros."
    return judge(masked_means, padded(), region_means, mistaken(), praise, "b r c")


def means(own_means: Answer) -> Verdict:
    """own_means(regions, valid=None) -> (b r c): what `region_means` does, first without a mask."""

    def where_masked(answer: Answer) -> Answer:
        return lambda regions, valid=None: region_means(regions) if valid is None else answer(regions, valid)

    mistakes = [Mistake(mistake.says, where_masked(mistake.answer)) for mistake in mistaken()] + [
        Mistake("You average over the regions. The tokens of a region are axis 2 of (b r t c).",
                lambda regions, valid=None: regions.mean(dim=1)),
        Mistake("You average over the channels. The tokens of a region are axis 2 of (b r t c).",
                lambda regions, valid=None: regions.mean(dim=3)),
        Mistake("Without a mask you return the sum. Divide by the number of tokens.",
                lambda regions, valid=None: regions.sum(dim=2)),
        Mistake("The axis of the tokens must be gone: (b r c), not (b r 1 c).",
                lambda regions, valid=None: regions.mean(dim=2, keepdim=True)),
    ]  # fmt: skip
    return judge(own_means, [(numbers(2, 7, 5, 3),), *padded()], region_means, mistakes, "Means of real tokens.")


def affinity(own_affinity: Answer) -> Verdict:
    """own_affinity(q_means, k_means) -> (b r r): what `region_affinity` does."""
    mistakes = [
        Mistake("Your affinity is transposed: row i, column j tells how much i wants to read j, so q belongs to i.",
                lambda q, k: k @ q.mT),
        Mistake("You compare queries with queries. Row i is the mean query of i with the mean keys of all.",
                lambda q, k: q @ q.mT),
        Mistake("You compare keys with keys. Row i is the mean query of i with the mean keys of all.",
                lambda q, k: k @ k.mT),
        Mistake("You multiply by C^(-1/2), as the official code does. It changes no order: leave it out.",
                lambda q, k: q @ k.mT * q.shape[-1] ** -0.5),
        Mistake("A softmax is too much here: top k needs the order alone, and later steps the plain numbers.",
                lambda q, k: (q @ k.mT).softmax(dim=-1)),
        Mistake("You compare channels, (b c c). The affinity compares regions: sum over c.", lambda q, k: q.mT @ k),
        Mistake("Every image of the batch is compared with the keys of the first.", lambda q, k: q @ k[:1].mT),
    ]  # fmt: skip
    inputs = [(numbers(2, 7, 5), numbers(2, 7, 5, seed=1)), (numbers(3, 4, 4), numbers(3, 4, 4, seed=1))]
    return judge(own_affinity, inputs, region_affinity, mistakes, "Row i is what region i wants.")


PARTS = [
    Part(region_means, '''
def region_means(regions, valid=None):
    """(b r t c) -> (b r c): the mean of each region's tokens. With valid (r t): of its real ones; 0 if it has none."""
    ...
''', means),
    Part(region_affinity, '''
def region_affinity(q_means, k_means):
    """(b r c), (b r c) -> (b r r): row i, column j is the mean query of i times the mean key of j. No scale."""
    ...
''', affinity),
]  # fmt: skip


def adjacency_recall(key_bias_matters, query_bias_matters) -> Verdict:
    """Whether a bias of all keys, or of all queries, changes any region's favourite."""
    facts = [
        Fact("a_key_bias_matters", key_bias_matters, False,
             "q.(k_j + u) = q.k_j + q.u, and the second term is the same for all j: the order of a row stays."),
        Fact("a_query_bias_matters", query_bias_matters, True,
             "(q + u).k_j = q.k_j + u.k_j, and the second term is another one for each j."),
    ]  # fmt: skip
    return recall(facts, "What is added to a whole row changes no favourite; a query bias adds to each entry its own.")
