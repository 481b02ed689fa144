"""Checks for notebooks 04 to 06: what is done to tokens."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from bra.checks.judge import Answer, Mistake, Verdict, judge, numbers


def gather(gather_backward: Answer) -> Verdict:
    """gather_backward(grad, index): from the gathered tokens' gradient (b r k*t c) that of the regions (b r t c).

    ``out[b, j, m]`` is the sum of ``grad[b, i, n * t + m]`` over all i and n with ``index[b, i, n] == j``.
    """

    def backward(grad: Tensor, index: Tensor) -> Tensor:
        b, r, k = index.shape
        rows = index + r * torch.arange(b)[:, None, None]
        out = torch.zeros(b * r, grad.shape[2] // k * grad.shape[3])
        return out.index_add(0, rows.flatten(), grad.reshape(b * r * k, -1)).reshape(b, r, -1, grad.shape[3])

    def last_wins(grad: Tensor, index: Tensor) -> Tensor:
        (b, r, k), out = index.shape, torch.zeros_like(backward(grad, index))
        for n, i, rank in torch.cartesian_prod(*(torch.arange(size) for size in (b, r, k))).tolist():
            out[n, index[n, i, rank]] = grad.unflatten(2, (k, -1))[n, i, rank]
        return out

    def add_by_index(grad: Tensor, index: Tensor) -> Tensor:
        (b, _, k), out = index.shape, torch.zeros_like(backward(grad, index))
        for rank in range(k):
            rows = torch.arange(b)[:, None], index[:, :, rank]
            out[rows] = out[rows] + grad.unflatten(2, (k, -1))[:, :, rank]
        return out

    def average(grad: Tensor, index: Tensor) -> Tensor:
        readers = F.one_hot(index, index.shape[1]).sum(dim=(1, 2)).clamp(min=1)
        return backward(grad, index) / readers[:, :, None, None]

    def one_image(grad: Tensor, index: Tensor) -> Tensor:
        b, r, k = index.shape
        out = torch.zeros(b * r, grad.shape[2] // k * grad.shape[3])
        return out.index_add(0, index.flatten(), grad.reshape(b * r * k, -1)).reshape(b, r, -1, grad.shape[3])

    def token_major(grad: Tensor, index: Tensor) -> Tensor:
        return backward(rearrange(grad, "b r (t k) c -> b r (k t) c", k=index.shape[2]), index)

    mistakes = [
        Mistake("Where several regions read the same one, you keep only the last gradient. Add them up.", last_wins),
        Mistake("`out[rows] += ...` adds each row once, however often `rows` names it. Use index_add.", add_by_index),
        Mistake("You average over the readers. A gradient is the sum over all uses.", average),
        Mistake("All gradients go to the first image. Region i of image n is row n * r + i of the flat matrix.",
                one_image),
        Mistake("Your gradient stays with the region that reads. It belongs to the region that was read.",
                lambda grad, index: grad.unflatten(2, (index.shape[2], -1)).sum(dim=2)),
        Mistake("You take the gathered axis as (t k). It is (k t): all tokens of the first region come first.",
                token_major),
    ]  # fmt: skip
    unread = numbers(3, 6, 6, seed=2)
    unread[:, :, -1] = -torch.inf  # nobody reads the last region
    inputs = [
        (numbers(2, 7, 3 * 4, 5), numbers(2, 7, 7, seed=1).topk(3).indices),
        (numbers(3, 6, 2 * 5, 4), unread.topk(2).indices),
        (numbers(1, 3, 2 * 5, 2), torch.tensor([[[0, 0], [2, 0], [1, 1]]])),  # a table may name a region twice
    ]
    return judge(gather_backward, inputs, backward, mistakes, "It is the gradient that autograd computes.")


def attention(attend_by_hand: Answer) -> Verdict:
    """attend_by_hand(q, keys, values, heads): (b r t c), twice (b r n c) -> (b r t c); scale (c / heads)^(-1/2).

    For each head softmax(scale q keys^T) values, the heads side by side.
    """

    def attend(split="(m d)", merge="(m d)", power=-0.5, axis=-1, one_head=False, all_channels=False) -> Answer:
        def answer(q: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
            m = 1 if one_head else heads
            q, keys, values = (rearrange(x, f"b r n {split} -> b r m n d", m=m) for x in (q, keys, values))
            width = q.shape[-1] * (heads if all_channels else 1)
            weights = (q @ keys.transpose(-2, -1) * width**power).softmax(dim=axis)
            return rearrange(weights @ values, f"b r m n d -> b r n {merge}")

        return answer

    def mixed(q: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
        q, keys, values = (x.reshape(*x.shape[:2], heads, x.shape[2], -1) for x in (q, keys, values))
        weights = (q @ keys.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)
        return rearrange(weights @ values, "b r m n d -> b r n (m d)")

    mistakes = [
        Mistake("The scale is missing: multiply the scores by (c / heads)^(-1/2).", attend(power=0)),
        Mistake("You scale by all channels. Here count the channels of one head, c / heads.",
                attend(all_channels=True)),
        Mistake("You multiply by the root of the head's channels. Divide by it.", attend(power=0.5)),
        Mistake("Your softmax runs over the queries. For each query, the weights of the keys must sum to 1.",
                attend(axis=-2)),
        Mistake("Your softmax runs over the heads. It must run over the keys.", attend(axis=2)),
        Mistake("Your heads take every m-th channel. A head holds neighbouring channels: (m d), not (d m).",
                attend(split="(d m)", merge="(d m)")),
        Mistake("You put the heads together in another order than you took them apart: (m d) both times.",
                attend(merge="(d m)")),
        Mistake("You use one head for all channels. Split the channels first.", attend(one_head=True)),
        Mistake("You use one head for all channels. Split the channels first.",
                lambda q, keys, values, heads: attend(one_head=True)(q * heads**0.5, keys, values, heads)),
        Mistake("You reshape (n, c) to (heads, n, d) at once, which mixes tokens and channels. Split the channels, "
                "then move the heads in front of the tokens.", mixed),
        Mistake("Keys and values are swapped: scores come from the keys, and the values are summed.",
                lambda q, keys, values, heads: attend()(q, values, keys, heads)),
        Mistake("You add up keys. The weights come from the keys, but they weigh values.",
                lambda q, keys, values, heads: attend()(q, keys, keys, heads)),
    ]  # fmt: skip
    inputs = [
        (numbers(1, 1, 2, 8), numbers(1, 1, 3, 8, seed=1), numbers(1, 1, 3, 8, seed=2), 2),
        (numbers(2, 3, 5, 28), numbers(2, 3, 6, 28, seed=1), numbers(2, 3, 6, 28, seed=2), 4),
        (100 * numbers(1, 2, 3, 4), numbers(1, 2, 5, 4, seed=1), numbers(1, 2, 5, 4, seed=2), 2),  # e^100 is no number
    ]
    return judge(attend_by_hand, inputs, attend(), mistakes, "Every head attends as it should.")


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
