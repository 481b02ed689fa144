"""Checks of notebook 13: the learning rate of a step, and what a smaller card needs."""

import math
from collections.abc import Callable

from bra.checks.inputs import sizes
from bra.checks.judge import Answer, Fact, Mistake, judge, number, recall
from bra.checks.verdict import Verdict

OWN = ("bra.train.learner.learning_rate",)  # what an answer may not call


def rate(
    step: int, peak: float, warmup: int, steps: int, least: float, *,
    first: int = 1, bottom: float = 0.0, longer: int = 0, begin: float = 1.0, less: float = 1.0, last: int = 0,
    half: Callable[[float], float] = lambda x: (1 + math.cos(math.pi * x)) / 2,
    stretch: Callable[[float, float, float], float] = lambda half, peak, least: least + (peak - least) * half,
) -> float:  # fmt: skip
    """The rate of a step, from 0. Each keyword can make one mistake."""
    if step < warmup + longer:
        return bottom * least + (peak - bottom * least) * (step + first) / warmup
    return stretch(half((step - begin * warmup) / (steps - less * warmup - last)), peak, least)


def but(says: str, **mistake) -> Mistake:
    """A mistake: what to say, and which keywords of `rate` make it."""
    return Mistake(says, number(lambda *given: rate(*given, **mistake)))


MISTAKES = [
    but("Your curve ends at 0: `least` is not used.", stretch=lambda half, peak, least: peak * half),
    but("You cut the curve off at `least`. Stretch it: it must fall from the peak to `least`.",
        stretch=lambda half, peak, least: max(least, peak * half)),
    but("You add `least` to a curve from the peak to 0: it then begins above the peak.",
        stretch=lambda half, peak, least: least + peak * half),
    but("1 + cos goes from 2 to 0: halve it.", half=lambda x: 1 + math.cos(math.pi * x)),
    but("Your curve rises from `least` to the peak. It must fall: 1 + cos, not 1 - cos.",
        half=lambda x: (1 - math.cos(math.pi * x)) / 2),
    but("Your curve is a straight line. Half a cosine is asked for.", half=lambda x: 1 - x),
    but("That is a quarter of a cosine, cos(pi x / 2). Half of one is (1 + cos(pi x)) / 2.",
        half=lambda x: math.cos(math.pi * x / 2)),
    but("That is a whole cosine, down and up again: pi x, not 2 pi x.",
        half=lambda x: (1 + math.cos(2 * math.pi * x)) / 2),
    but("math.cos takes radians: half a turn is pi, not 180.", half=lambda x: (1 + math.cos(180 * x)) / 2),
    but("Your cosine begins at step 0. It begins at the peak, where the warm-up ends.", begin=0.0, less=0.0),
    but("You count the cosine's steps from the end of the warm-up, but divide by all steps: it does not reach `least`.",
        less=0.0),
    but("You divide by the steps that are left after the warm-up, but count from step 0.", begin=0.0),
    but("Your curve is at `least` one step too soon: it reaches it at `steps`, one after the last.", last=1),
    but("The first step has the rate 0 and learns nothing. Steps count from 0: take step + 1.", first=0),
    but("Your warm-up begins at `least`. It begins at 0: the first step has a share 1 / warmup of the peak.",
        bottom=1.0),
    Mistake("Your warm-up is missing: the rate stands at the peak from the start.",
            number(lambda step, peak, warmup, *given: rate(max(step, warmup), peak, warmup, *given))),
    Mistake("Your warm-up is missing: the cosine runs before it begins.",
            number(lambda *given: rate(*given, longer=-given[2]))),
    but("Your warm-up is one step too long, and rises above the peak: step < warmup, not <=.", longer=1),
]  # fmt: skip


def imagenet100(rate_at: Answer) -> Verdict:
    """rate_at(step, peak, warmup, steps, least) -> the rate of a step, from 0: warm-up to the peak, then to `least`.

    ``peak * (step + 1) / warmup`` while step < warmup; then half a cosine from the peak, at step = warmup, to `least`,
    at step = steps. Those tried are far larger than a real rate, so that no mistake is lost by rounding.
    """
    size = sizes()
    settings = 2.0 * size(1), 5, size(24), 0.25
    inputs = [(step, *settings) for step in (22, 14, settings[2], 0, 4, 5)]
    inputs += [(7, 3.0, 3, size(50), 0.5), (2, 3.0, 3, 50, 0.0)]
    return judge(number(rate_at), inputs, number(rate), MISTAKES, "It rises to the peak, and ends at the least rate.")


def imagenet100_recall(parts, rate) -> Verdict:
    """The least `--accumulate` for 1024 images on a card that fits 200, and the rate at a batch of 256."""
    facts = [
        Fact("my_parts", parts, 8, "The parts are equal, and none may be larger than 200 images.", {
            4: "Each part would have 256 images: more than the card fits.",
            5: "1024 is not a multiple of 5, and 1024 / 5 is above 200.",
            6: "1024 is not a multiple of 6: the parts would not be equal.",
            7: "1024 is not a multiple of 7: the parts would not be equal.",
            16: "That fits, but so do fewer and larger parts.",
            128: "That is how many images a part has. In how many parts?",
            200: "That is how many images the card fits. In how many parts?",
        }),
        Fact("my_rate", rate, 2.5e-4, "The rate is scaled in proportion to the batch.", {
            1e-3: "That is the rate for 1024. A smaller batch gets a smaller one.",
            4e-3: "The other way round: a smaller batch gets a smaller rate.",
            5e-4: "The rate is scaled in proportion to the batch, not to its root.",
        }),
    ]  # fmt: skip
    return recall(facts, "A step in parts is a step of 1024 images; a batch of 256 is another one, with its own rate.")
