"""Check of notebook 06: the depthwise convolution of the LCE."""

import torch.nn.functional as F
from torch import Tensor

from bra.checks.judge import Answer, Mistake, Verdict, judge, numbers


def lce(depthwise: Answer) -> Verdict:
    """depthwise(v, weight, bias): (b h w c), (c s s), (c) -> (b h w c), zeros beyond the border.

    ``out[b, y, x, c] = bias[c] + sum over m, n of weight[c, m, n] * v[b, y + m - s // 2, x + n - s // 2, c]``
    """

    def filtered(mode: str = "constant", shift: int = 0) -> Answer:
        def answer(v: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
            half = weight.shape[-1] // 2
            around = (half - shift, half + shift) * 2
            padded = F.pad(v.permute(0, 3, 1, 2), around, mode=mode)
            return F.conv2d(padded, weight[:, None], bias, groups=len(weight)).permute(0, 2, 3, 1)

        return answer

    def changed(change: Answer) -> Answer:
        return lambda v, weight, bias: filtered()(v, change(weight), bias)

    mistakes = [
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
        Mistake("Your filter is off by one token: its middle, s // 2, belongs to the token itself.", filtered(shift=1)),
        Mistake("Your filter is off by one token: its middle, s // 2, belongs to the token itself.",
                filtered(shift=-1)),
    ]  # fmt: skip
    inputs = [
        (numbers(1, 4, 4, 1), numbers(1, 3, 3, seed=1), numbers(1, seed=2)),
        (numbers(2, 7, 6, 3), numbers(3, 5, 5, seed=1), numbers(3, seed=2)),
    ]
    return judge(
        depthwise, inputs, filtered(), mistakes, "Each channel is filtered by itself, zeros beyond the border."
    )
