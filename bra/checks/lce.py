"""Checks of notebook 06: the depthwise convolution of the LCE, as a function and as a module."""

import torch.nn.functional as F
from torch import Tensor, nn

from bra.checks.inputs import numbers, sizes
from bra.checks.judge import Answer, Fact, Mistake, judge, recall
from bra.checks.parts import Part, loaded
from bra.checks.verdict import Verdict
from bra.lce import LocalContextEnhancement

OWN = ("bra.lce.LocalContextEnhancement",)  # what an answer may not call


def filtered(mode: str = "constant", shift: int = 0, fixed: int | None = None) -> Answer:
    """The right answer; each argument can make one mistake."""

    def answer(v: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        half = weight.shape[-1] // 2 if fixed is None else fixed
        around = (half - shift, half + shift) * 2
        padded = F.pad(v.permute(0, 3, 1, 2), around, mode=mode)
        return F.conv2d(padded, weight[:, None], bias, groups=len(weight)).permute(0, 2, 3, 1)

    return answer


def mistaken() -> list[Mistake]:
    """What may go wrong with a depthwise convolution."""

    def changed(change: Answer) -> Answer:
        return lambda v, weight, bias: filtered()(v, change(weight), bias)

    return [
        Mistake("The bias is missing.", lambda v, weight, bias: filtered()(v, weight, 0 * bias)),
        Mistake("You add the bias once for each entry of the filter. Add it once.",
                lambda v, weight, bias: filtered()(v, weight, bias * weight[0].numel())),
        Mistake("You add the values themselves to the result. LCE is the filter alone.",
                lambda v, weight, bias: v + filtered()(v, weight, bias)),
        Mistake("Your filter is turned by 180 degrees. weight[:, 0, 0] belongs to the neighbour above on the left.",
                changed(lambda weight: weight.flip(1, 2))),
        Mistake("Rows and columns of your filter are swapped.", changed(lambda weight: weight.transpose(1, 2))),
        Mistake("All channels use the filter of channel 0. Each has its own.",
                changed(lambda weight: weight[:1].expand_as(weight))),
        Mistake("Your map wraps around: beyond the border there must be zeros. torch.roll alone cannot do that.",
                filtered("circular")),
        Mistake("Your map is continued at the border by its last row and column. There must be zeros.",
                filtered("replicate")),
        Mistake("Your filter is off by one token: its middle, kernel // 2, belongs to the token itself.",
                filtered(shift=1)),
        Mistake("Your filter is off by one token: its middle, kernel // 2, belongs to the token itself.",
                filtered(shift=-1)),
    ]  # fmt: skip


PRAISE = "Each channel is filtered by itself, zeros beyond the border."


def lce(depthwise: Answer) -> Verdict:
    """depthwise(v, weight, bias): (b h w c), (c kernel kernel), (c) -> (b h w c), zeros beyond the border.

    ``out[b, y, x, c] = bias[c] + sum of weight[c, down, right] * v[b, y + down - half, x + right - half, c]`` over down
    and right, with half = kernel // 2.
    """
    size = sizes()
    c = size(3)
    inputs = [
        (numbers(1, 4, 4, 1), numbers(1, 3, 3, seed=1), numbers(1, seed=2)),
        (numbers(2, size(7), size(6), c), numbers(c, 5, 5, seed=1), numbers(c, seed=2)),
    ]
    return judge(depthwise, inputs, filtered(), mistaken(), PRAISE, "b h w c")


def module(own: type[nn.Module]) -> Verdict:
    """own(dim, kernel=5), called with (b h w c): what `LocalContextEnhancement` does, with the same weights."""

    def run(v: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        dim, kernel, _ = weight.shape
        state = {"conv.weight": weight[:, None], "conv.bias": bias}
        return loaded(own(dim) if kernel == 5 else own(dim, kernel), state)(v)

    mistakes = [
        *mistaken(),
        Mistake("Your padding is 2, whatever the kernel. It must be kernel // 2.", filtered(fixed=2)),
        Mistake("Your map shrinks: the convolution needs padding=kernel // 2.", filtered(fixed=0)),
        Mistake("Your map leaves with the channels first. Permute it back: (b h w c).",
                lambda *given: filtered()(*given).permute(0, 3, 1, 2)),
    ]  # fmt: skip
    inputs = [
        (numbers(2, 7, 6, 3), numbers(3, 5, 5, seed=1), numbers(3, seed=2)),
        (numbers(2, 6, 9, 4), numbers(4, 3, 3, seed=1), numbers(4, seed=2)),
    ]
    return judge(run, inputs, filtered(), mistakes, PRAISE)


PARTS = [
    Part(LocalContextEnhancement, '''
class LocalContextEnhancement(nn.Module):
    """A depthwise convolution (b h w c) -> (b h w c), zeros beyond the border: one nn.Conv2d, named self.conv."""

    def __init__(self, dim, kernel=5):
        super().__init__()
        ...

    def forward(self, v):
        ...
''', module),
]  # fmt: skip


def lce_recall(weights, field, ordinary_weights) -> Verdict:
    """Weights of an LCE of 96 channels, kernel 7; side of the field of four; weights of an ordinary convolution."""
    facts = [
        Fact("my_weights", weights, 4800, "A filter of 7 x 7 and a bias for each channel.", {
            4704: "The biases are weights, too: one for each channel.",
            451_680: "That is an ordinary convolution. Here each channel is filtered by itself.",
        }),
        Fact("my_field", field, 25, "The first sees 7; each further one adds kernel - 1.", {
            28: "The squares overlap: each further layer adds kernel - 1, not kernel.",
            13: "That is after two layers. There are four.",
            24: "Four layers add 4 (kernel - 1); the token itself comes to that.",
            625: "That is how many tokens the square holds. The question is its side.",
            (25, 25): "The square is as high as wide: one number, its side.",
        }),
        Fact("my_ordinary_weights", ordinary_weights, 451_680, "A filter for each pair of channels, and the biases.", {
            4800: "An ordinary convolution has a filter for each pair of channels.",
            451_584: "The biases are weights, too: one for each channel.",
        }),
    ]  # fmt: skip
    return recall(facts, "Depthwise, the filter costs little: 94 times fewer weights.")
