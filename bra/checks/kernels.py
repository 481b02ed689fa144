"""Checks of notebook 09: two pieces of a softmax put together, a table read backwards, and which way wins."""

from collections.abc import Callable

import torch
from torch import Tensor

from bra.checks.inputs import numbers, sizes
from bra.checks.judge import Answer, Fact, Mistake, judge, recall
from bra.checks.verdict import Verdict


def kernels(merge: Answer) -> Verdict:
    """merge(best, total, mixed, best_2, total_2, mixed_2): twice (t), (t), (t d) -> (t d), the output of both pieces.

    best: the largest score s of the piece, total: the sum of 2^(s - best), mixed: that sum, each term times its value.
    """

    def merged(
        shrink: Callable[[Tensor, Tensor, Tensor], Tensor], of_total: bool = True, of_mixed: bool = True
    ) -> Answer:
        """A way to put them together; shrink: what a piece is multiplied by, from its best and both bests."""

        def answer(best, total, mixed, best_2, total_2, mixed_2):
            a, b = shrink(best, best, best_2), shrink(best_2, best, best_2)
            below = total * a + total_2 * b if of_total else total + total_2
            above = mixed * a[:, None] + mixed_2 * b[:, None] if of_mixed else mixed + mixed_2
            return above / below[:, None]

        return answer

    def shrunk(own: Tensor, one: Tensor, other: Tensor) -> Tensor:
        return torch.exp2(own - torch.maximum(one, other))

    def undivided(best, total, mixed, best_2, total_2, mixed_2):
        a, b = shrunk(best, best, best_2), shrunk(best_2, best, best_2)
        return mixed * a[:, None] + mixed_2 * b[:, None]

    def by_best(best, total, mixed, best_2, total_2, mixed_2):
        a, b = shrunk(best, best, best_2)[:, None], shrunk(best_2, best, best_2)[:, None]
        return (mixed / total[:, None] * a + mixed_2 / total_2[:, None] * b) / (a + b)

    right = merged(shrunk)
    mistakes = [
        Mistake("You add the pieces as they are. Each is relative to its own best score: scale both to the larger one.",
                merged(lambda own, one, other: torch.ones_like(own))),
        Mistake("You scale the totals, but not what is mixed.", merged(shrunk, of_mixed=False)),
        Mistake("You scale what is mixed, but not the totals.", merged(shrunk, of_total=False)),
        Mistake("Scores are powers of 2 here: use exp2, not exp.",
                merged(lambda own, one, other: torch.exp(own - torch.maximum(one, other)))),
        Mistake("The wrong piece shrinks: it must be the one with the smaller best, by 2^(its best - the larger best).",
                merged(lambda own, one, other: torch.exp2(torch.maximum(one, other) - own))),
        Mistake("You scale to the first piece's best. If the second's is far larger, that is infinite: scale both to "
                "the larger of the two.", merged(lambda own, one, other: torch.exp2(own - one))),
        Mistake("You scale to the second piece's best. If the first's is far larger, that is infinite: scale both to "
                "the larger of the two.", merged(lambda own, one, other: torch.exp2(own - other))),
        Mistake("You weigh the two outputs by their bests alone. A piece weighs 2^best times its total.", by_best),
        Mistake("2^best is infinite for large scores. Subtract the larger best first.",
                merged(lambda own, one, other: torch.exp2(own))),
        Mistake("You take the mean of the two outputs. A piece with larger scores must weigh more.",
                lambda best, total, mixed, best_2, total_2, mixed_2:
                (mixed / total[:, None] + mixed_2 / total_2[:, None]) / 2),
        Mistake("You forgot to divide by the total.", undivided),
    ]  # fmt: skip
    size = sizes()
    t, d = size(5), size(3)
    one = (numbers(t), 1 + numbers(t, seed=1).abs(), numbers(t, d, seed=2))
    two = (numbers(t, seed=3), 1 + numbers(t, seed=4).abs(), numbers(t, d, seed=5))
    nothing = (torch.full((t,), -torch.inf), torch.zeros(t), torch.zeros(t, d))  # a piece in which nothing counts
    inputs = [
        (*one, *two),
        (one[0] + 300, *one[1:], two[0] + 300, *two[1:]),
        (one[0] + 300, *one[1:], *two),
        (*one, two[0] + 300, *two[1:]),
        (*one, *nothing),
    ]
    praise = "Two pieces, or two thousand: it works for any number of them."
    return judge(merge, inputs, right, mistakes, praise, "t c")


def kernels_readers(readers_of: Answer) -> Verdict:
    """readers_of(index): (r k) -> (r k) numbers: who reads region 0, then who reads region 1, ..., each rising."""

    def right(index: Tensor) -> Tensor:
        return index.flatten().argsort(stable=True) // index.shape[1]

    def once(index: Tensor) -> Tensor:
        return (index[None] == torch.arange(len(index))[:, None, None]).any(dim=2).nonzero()[:, 1]

    mistakes = [
        Mistake("These are places in the flat index. The region that reads at place p is p // k.",
                lambda index: index.flatten().argsort(stable=True)),
        Mistake("p % k is the rank at which a region is read. Who reads it is p // k.",
                lambda index: index.flatten().argsort(stable=True) % index.shape[1]),
        Mistake("These are the regions that are read, sorted. Asked for is who reads them: take the indices of the "
                "sort, not its values.", lambda index: index.flatten().sort().values),
        Mistake("You sort each row by itself. Flatten the index first: all its places are sorted together.",
                lambda index: index.argsort(dim=1, stable=True).flatten()),
        Mistake("You begin with the region of the highest number. Begin with region 0.",
                lambda index: index.flatten().argsort(stable=True, descending=True) // index.shape[1]),
        Mistake("A region that is named twice in a row is read twice there: list its reader twice.", once),
        Mistake("You return the index as it is.", lambda index: index.flatten()),
    ]  # fmt: skip
    r = sizes()(7)
    indices = [torch.tensor([[1, 2], [0, 2], [1, 0]]), numbers(r, r).topk(3).indices, torch.tensor([[0, 0], [0, 1]])]
    praise = "Each region finds its readers in one run of places, in a fixed order."
    return judge(readers_of, [(index,) for index in indices], right, mistakes, praise)


def kernels_recall(gathered, in_place, kept) -> Verdict:
    """Maps that gather-then-attend loads and stores with k = 16, that attention in place does, and that are kept."""
    facts = [
        Fact("my_gathered", gathered, 98, "The gather loads and stores keys and values; attention loads them again.", {
            64: "That is the gather alone. Attention then loads what it stored.",
            66: "You count the gather's loads, or its stores. It does both.",
            50: "Keys and values are gathered, both.",
            97: "Attention loads the queries and stores the output: two maps.",
            26: "That is for k = 4.",
        }),
        Fact("my_in_place", in_place, 34, "Queries and output, one map each; k regions of keys, and k of values.", {
            4: "That is if each map were loaded once. Each region is loaded by all that read it.",
            18: "Keys and values are read, both.",
            32: "Attention loads the queries and stores the output, too.",
            33: "The output is stored, and the queries are loaded: two maps.",
            10: "That is for k = 4.",
        }),
        Fact("my_kept", kept, 32, "Kept is what the gather stores.", {
            16: "Keys and values are gathered, both.",
            0: "That is so in place. Here the backward pass needs what was gathered.",
            34: "Of these, only what is gathered is asked for.",
            64: "The gather loads as much as it stores; only what it stores is kept.",
        }),
    ]  # fmt: skip
    return recall(facts, "In place nothing that is gathered is stored, so nothing of it is kept.")
