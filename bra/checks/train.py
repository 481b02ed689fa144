"""Checks of notebook 11: the hit rate of one block."""

import torch
from torch import Tensor

from bra.checks.inputs import generator, sizes
from bra.checks.judge import Answer, Fact, Mistake, judge, number, recall
from bra.checks.verdict import Verdict

OWN = ("bra.data.recall.hit_rates",)  # what an answer may not call


def reads(index: Tensor, square: Tensor, target: Tensor) -> Tensor:
    """Of each board, which of the k regions that the square's region reads is the target's (b k)."""
    return index[torch.arange(len(square)), square] == target[:, None]


def hit(index: Tensor, square: Tensor, target: Tensor) -> Tensor:
    """On which boards the square's region reads the target's (b)."""
    return reads(index, square, target).any(dim=1)


def rate(index: Tensor, square: Tensor, target: Tensor) -> Tensor:
    """The right answer."""
    return hit(index, square, target).double().mean()


def across(index: Tensor, square: Tensor, target: Tensor) -> Tensor:
    """Every board with the squares of all boards (b b k)."""
    return (index[:, square] == target[:, None]).double()


def anywhere(index: Tensor, square: Tensor, target: Tensor) -> Tensor:
    """Of each board, which regions read the target's, the square's or another (b r)."""
    return (index == target[:, None, None]).any(dim=2)


MISTAKES = [
    Mistake("You ask whether the target's region reads the square's. That is the reverse hit rate.",
            lambda index, square, target: rate(index, target, square)),
    Mistake("You count boards on which either region reads the other. Only the square's region must read.",
            lambda *given: (hit(*given) | hit(given[0], given[2], given[1])).double().mean()),
    Mistake("You look at the first choice only. All k regions are read: the rank does not matter.",
            lambda index, *given: rate(index[:, :, :1], *given)),
    Mistake("You leave out the first choice, the one of rank 0.", lambda index, *given: rate(index[:, :, 1:], *given)),
    Mistake("You take the mean over k as well. A board counts whole if *any* of the k regions is the target's.",
            lambda *given: reads(*given).double().mean()),
    Mistake("A region that is listed twice in a row is still one hit: any, not the sum.",
            lambda *given: reads(*given).sum(dim=1).double().mean()),
    Mistake("You take the mean over all regions. The row of the square's region is asked for.",
            lambda *given: anywhere(*given).double().mean()),
    Mistake("You count a board if any region of it reads the target's. It must be the square's region.",
            lambda *given: anywhere(*given).any(dim=1).double().mean()),
    Mistake("`index[:, square]` pairs every board with the squares of all boards. Take index[torch.arange(b), square].",
            lambda *given: across(*given).amax(dim=2).mean()),
    Mistake("torch.isin finds a target that another board reads. Compare each board with its own.",
            lambda index, square, target: torch.isin(
                target, index[torch.arange(len(square)), square]).double().mean()),
    Mistake("That is the share of misses.", lambda *given: 1 - rate(*given)),
    Mistake("You count the hits. The share of the boards is asked for.",
            lambda *given: hit(*given).double().sum()),
    Mistake("That is in percent. A share lies between 0 and 1.", lambda *given: 100 * rate(*given)),
    Mistake("You have an answer for each board. The mean over the boards is missing.", hit),
    Mistake("You have an answer for each board. The mean over the boards is missing.",
            lambda *given: hit(*given).double()),
]  # fmt: skip


def boards(b: int, index: Tensor, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Index, squares and targets of b boards: a quarter are hits at rank 0, a quarter at rank 1, the others by luck."""
    draw, (r, k) = generator(seed), index.shape[1:]
    square, each = torch.randint(r, (b,), generator=draw), torch.arange(b)
    routed = index[each, square, each % 4 % k]
    return index, square, torch.where(each % 4 < 2, routed, torch.randint(r, (b,), generator=draw))


def train(hits: Answer) -> Verdict:
    """hits(index, square, target): (b r k), (b), (b) -> the share of boards whose square's region reads the target's.

    ``target[b]`` must be among ``index[b, square[b]]``, the k regions that the region of the square reads.
    """
    draw, size = generator(), sizes()
    many, few, r = size(67), size(31), size(13)
    wishes = torch.randn(many, r, r, generator=draw) + 2 * torch.randn(many, 1, r, generator=draw)  # some are popular
    inputs = [
        boards(many, wishes.topk(3).indices, seed=1),
        boards(few, torch.randint(5, (few, 5, 4), generator=draw), seed=2),  # a table may name a region twice
    ]
    praise = "A hit: the square's region reads the target's, at whatever rank."
    return judge(number(hits), inputs, rate, MISTAKES, praise)


def train_recall(hit_rate, accuracy) -> Verdict:
    """Hit rate of a random table of k = 9 on 6 x 6 cells, and accuracy if a miss is a guess among four glyphs."""
    facts = [
        Fact("my_hit_rate", hit_rate, 9 / 36, "It is k / R: how many regions has the board?", {
            9 / 6: "A board of 6 x 6 cells has as many regions as cells, not 6.",
            1 / 36: "Each region reads 9 of them, not one.",
            8 / 35: "That is a row that names its own region. In the mean over all draws it does so in k of R.",
            9 / 35: "That is a row without its own region. In the mean over all draws it is among them in k of R.",
            25: "That is in percent. A share lies between 0 and 1.",
            1 / 9: "You divide by k. It is k that is read, out of R.",
        }),
        Fact("my_accuracy", accuracy, 0.4375, "Add what is known, on a hit, and what is guessed, on a miss.", {
            0.25: "A miss is not always wrong: some guesses are right.",
            0.1875: "Those are the guesses that are right. The hits come to that.",
            0.5: "Only a miss is guessed. How many boards are misses?",
            0.0625: "You multiply. A board is right by a hit, or else by a guess: add.",
            0.34375: "It guesses among the four glyphs on the board, not among all eight shapes.",
            0.44: "That is rounded too far: give four digits.",
            43.75: "That is in percent. A share lies between 0 and 1.",
        }),
    ]  # fmt: skip
    return recall(facts, "So far a router gets that does not look.")
