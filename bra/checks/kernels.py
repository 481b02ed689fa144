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
    """readers_of(table): (r n) -> (r n) numbers: who reads region 0, then who reads region 1, ..., each rising."""

    def right(table: Tensor) -> Tensor:
        return table.flatten().argsort(stable=True) // table.shape[1]

    def once(table: Tensor) -> Tensor:
        return (table[None] == torch.arange(len(table))[:, None, None]).any(dim=2).nonzero()[:, 1]

    mistakes = [
        Mistake("These are places in the flat table. The region that reads at place p is p // n.",
                lambda table: table.flatten().argsort(stable=True)),
        Mistake("p % n is the rank at which a region is read. Who reads it is p // n.",
                lambda table: table.flatten().argsort(stable=True) % table.shape[1]),
        Mistake("These are the regions that are read, sorted. Asked for is who reads them: take the indices of the "
                "sort, not its values.", lambda table: table.flatten().sort().values),
        Mistake("You sort each row by itself. Flatten the table first: all its places are sorted together.",
                lambda table: table.argsort(dim=1, stable=True).flatten()),
        Mistake("You begin with the region of the highest number. Begin with region 0.",
                lambda table: table.flatten().argsort(stable=True, descending=True) // table.shape[1]),
        Mistake("A region that is named twice in a row is read twice there: list its reader twice.", once),
        Mistake("You return the table as it is.", lambda table: table.flatten()),
    ]  # fmt: skip
    r = sizes()(7)
    tables = [torch.tensor([[1, 2], [0, 2], [1, 0]]), numbers(r, r).topk(3).indices, torch.tensor([[0, 0], [0, 1]])]
    praise = "Each region finds its readers in one run of places, in a fixed order."
    return judge(readers_of, [(table,) for table in tables], right, mistakes, praise)


def kernels_recall(stage_2, stage_3, old_gpu) -> Verdict:
    """Which way is predicted to win: an H100 in stage 2 at 512 pixels, in stage 3 at 224, a T4 in stage 1 at 1024."""
    one = "Write one of the five names."
    facts = [
        Fact("my_stage_2", stage_2, "fused", f"{one} It reads 4 of 256: who copies nothing, and skips the rest?", {
            "gathered": "It writes what it gathers, and reads it again.",
            "dense": "It multiplies each of the 256 regions with all the others, and reads 4.",
            "masked": "It multiplies each of the 256 regions with all the others, and reads 4.",
            "flex": "Its blocks of 128 tokens hold 8 regions: each loads what any of them reads, and a bias.",
        }),
        Fact("my_stage_3", stage_3, "dense", f"{one} 196 tokens fill few tiles well; 4 fill a quarter of one.", {
            "fused": "A tile has 16 rows, and a region only 4 tokens: most of it is empty.",
            "gathered": "16 of 49 regions are copied for every region. What is that, beside the whole map?",
            "masked": "Nearly. It writes and reads a bias besides.",
            "flex": "Its blocks of 128 tokens hold 32 regions: it loads everything, and a bias for each pair besides.",
        }),
        Fact("my_old_gpu", old_gpu, "gathered", f"{one} What does Triton not use there? How much is copied?", {
            "fused": "Triton's programs do not use the matrix units of a T4.",
            "flex": "Triton's programs do not use the matrix units of a T4; FlexAttention's is one of them.",
            "dense": "65536 tokens each attending to 65536 others.",
            "masked": "A bias for each pair of 65536 tokens.",
        }),
    ]  # fmt: skip
    return recall(facts, "These are predictions: a measurement may refute them.")
