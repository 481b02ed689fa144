"""Check of notebook 02: the means of regions, padding masked."""

import torch
from torch import Tensor

from bra.adjacency import region_means
from bra.checks.judge import Answer, Fact, Mistake, Verdict, judge, numbers, recall


def adjacency(masked_means: Answer) -> Verdict:
    """masked_means(regions, valid) -> (b r c): the mean of each region's real tokens, zeros where there are none."""

    def total(regions: Tensor, valid: Tensor) -> Tensor:
        return (regions * valid[:, :, None]).sum(dim=2)

    mistakes = [
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
    valid = torch.tensor([[1, 1, 1], [1, 0, 0], [1, 1, 0], [1, 1, 1], [0, 1, 1]]).bool()
    some = numbers(2, 5, 3, 4)
    some[:, 0, 1] = 0.0  # a real token may be zero
    inputs = [(some, valid), (numbers(2, 6, 3, 4), torch.cat([valid, valid[:1] & False]))]
    praise = "Only real tokens count, and a region without any gets zeros."
    return judge(masked_means, inputs, region_means, mistakes, praise)


def adjacency_recall(key_bias_matters, query_bias_matters) -> Verdict:
    """Whether a bias of all keys, or of all queries, changes any region's favourite."""
    facts = [
        Fact("a_key_bias_matters", key_bias_matters, False,
             "q.(k_j + u) = q.k_j + q.u, and the second term is the same for all j: the order of a row stays."),
        Fact("a_query_bias_matters", query_bias_matters, True,
             "(q + u).k_j = q.k_j + u.k_j, and the second term is another one for each j."),
    ]  # fmt: skip
    return recall(facts, "What is added to a whole row changes no favourite; a query bias adds to each entry its own.")
