"""Checks of notebook 10: half a pixel, and the mean IoU."""

import torch
from torch import Tensor

from bra.checks.inputs import generator, sizes
from bra.checks.judge import Answer, Fact, Mistake, judge, number, recall
from bra.checks.verdict import Verdict

OWN = ("bra.train.tasks.iou",)  # what an answer may not call

UNLABELLED = 255


def counts(said: Tensor, truth: Tensor, classes: int, labelled: bool = True) -> tuple[Tensor, Tensor, Tensor]:
    """Of each class: pixels that are both, that are said, and that are true. labelled: leave the others out."""
    if labelled:
        said, truth = said[truth != UNLABELLED], truth[truth != UNLABELLED]
    each = torch.arange(classes)[:, None]
    a, b = (each == part.flatten() for part in (said, truth))
    return (a & b).sum(dim=1).double(), a.sum(dim=1).double(), b.sum(dim=1).double()


def mean_of(both: Tensor, below: Tensor, counted: Tensor | None = None) -> Tensor:
    """The mean of both / below over the classes that are counted: those with something below."""
    counted = below > 0 if counted is None else counted
    return (both / below.clamp(min=1))[counted].mean()


def mean_iou(said: Tensor, truth: Tensor, classes: int) -> Tensor:
    """The right answer."""
    both, a, b = counts(said, truth, classes)
    return mean_of(both, a + b - both)


def other(make, **options) -> Answer:
    """A wrong way to put (both, said, true) together."""
    return lambda said, truth, classes: make(*counts(said, truth, classes, **options))


MISTAKES = [
    Mistake("You count pixels without a label: what is said there enters the unions. Leave them out on both sides.",
            other(lambda n, a, b: mean_of(n, a + b - n), labelled=False)),
    Mistake("A class that is nowhere, neither said nor true, counts as 0. Leave it out of the mean.",
            other(lambda n, a, b: (n / (a + b - n).clamp(min=1)).mean())),
    Mistake("A class that is nowhere, neither said nor true, counts as 1. Leave it out of the mean.",
            other(lambda n, a, b: torch.where(a + b > 0, n / (a + b - n).clamp(min=1), 1).mean())),
    Mistake("A class that is said, but nowhere true, has the IoU 0: it belongs to the mean.",
            other(lambda n, a, b: mean_of(n, a + b - n, b > 0))),
    Mistake("You divide by what is true. That is the share that is found; the union has what is said too.",
            other(lambda n, a, b: mean_of(n, b))),
    Mistake("You divide by what is said. That is the precision; the union has what is true too.",
            other(lambda n, a, b: mean_of(n, a))),
    Mistake("You divide by said + true, which counts what is both twice: take it off once.",
            other(lambda n, a, b: mean_of(n, a + b))),
    Mistake("That is the Dice coefficient, 2 both / (said + true). The IoU divides both by the union.",
            other(lambda n, a, b: mean_of(2 * n, a + b))),
    Mistake("You add the classes up before you divide. Divide for each class, then take the mean.",
            other(lambda n, a, b: n.sum() / (a + b - n).sum())),
    Mistake("That is the share of right pixels. Each class counts alike in the mean IoU, however small it is.",
            other(lambda n, a, b: n.sum() / b.sum())),
    Mistake("You weight the classes by how many pixels they have. Each counts alike.",
            other(lambda n, a, b: (n / (a + b - n).clamp(min=1) * b).sum() / b.sum())),
    Mistake("You add the classes' IoUs. Their mean is asked for.",
            other(lambda n, a, b: (n / (a + b - n).clamp(min=1)).sum())),
    Mistake("That is in percent. An IoU lies between 0 and 1.", lambda *given: 100 * mean_iou(*given)),
    Mistake("You have an IoU for each class. Their mean is missing.",
            other(lambda n, a, b: n / (a + b - n))),
]  # fmt: skip


def dense(mean: Answer) -> Verdict:
    """mean(said, truth, classes): the mean IoU of two maps of classes (h w); 255 in `truth` is no label."""

    def maps(seed: int, h: int, w: int, classes: int) -> tuple[Tensor, Tensor, int]:
        draw = generator(seed)
        truth = torch.randint(1, classes - 2, (h, w), generator=draw)  # 0 is only said, the last two are nowhere
        guess = torch.randint(classes - 2, (h, w), generator=draw)
        said = torch.where(torch.rand(h, w, generator=draw) < 0.6, truth, guess)
        truth[torch.rand(h, w, generator=draw) < 0.2] = UNLABELLED
        return said, truth, classes

    size = sizes()
    inputs = [maps(0, size(5), size(7), 6), maps(1, 11, 3, 5), maps(2, size(13), size(17), size(9))]
    return judge(number(mean), inputs, mean_iou, MISTAKES, "Each class counts alike, and what has no label not at all.")


def dense_recall(nearest, bilinear, corners) -> Verdict:
    """The row (0, 12) three times as long: by nearest, by bilinear; with align_corners=True, its second number."""
    facts = [
        Fact("my_nearest", nearest, (0, 0, 0, 12, 12, 12), "Each place copies the token that it lies in.", {
            (0, 12, 0, 12, 0, 12): "Each token is repeated at once: first the copies of 0.",
            (0, 0, 4, 8, 12, 12): "That is bilinear.",
        }),
        Fact("my_bilinear", bilinear, (0, 0, 4, 8, 12, 12),
             "Place i has its middle at i + 1/2; in tokens that is (i + 1/2) / 3 - 1/2; at the ends it stops.", {
            (0, 4, 8, 12, 12, 12): "Half a pixel is lost: you place the tokens at 0 and 3 of the new row.",
            (0, 2.4, 4.8, 7.2, 9.6, 12): "That is align_corners=True: the ends are tied to the ends.",
            (0, 0, 0, 12, 12, 12): "That is nearest.",
            (-4, 0, 4, 8, 12, 16): "Beyond the middle of the last token nothing is continued: it stays as it is.",
        }),
        Fact("my_corners", corners, 2.4, "With align_corners the ends of the row are tied to the ends.", {
            0: "That is without align_corners.",
            2: "There are five steps from end to end, not six.",
            4: "There are five steps from end to end, not three.",
        }),
    ]  # fmt: skip
    return recall(facts, "Half a pixel looks small; at stride 32 it is 16 of them.")
