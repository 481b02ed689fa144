"""Checks of notebook 04: a gather, and its gradient."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from bra.checks.inputs import numbers, sizes
from bra.checks.judge import Answer, Fact, Mistake, judge, recall
from bra.checks.parts import Part
from bra.checks.verdict import Verdict
from bra.gather import gather_regions

OWN = ("bra.gather.gather_regions",)  # what an answer may not call


def gather(gather_backward: Answer) -> Verdict:
    """gather_backward(grad, index): from the gathered tokens' gradient (b r k*t c) that of the regions (b r t c).

    ``out[b, j, token]`` is the sum of ``grad[b, i, n * t + token]`` over all i and n with ``index[b, i, n] == j``.
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
        Mistake("All gradients go to the first image. Region i of image b is row b * r + i of the flat matrix.",
                one_image),
        Mistake("Your gradient stays with the region that reads. It belongs to the region that was read.",
                lambda grad, index: grad.unflatten(2, (index.shape[2], -1)).sum(dim=2)),
        Mistake("You take the gathered axis as (t k). It is (k t): all tokens of the first region come first.",
                token_major),
    ]  # fmt: skip
    size = sizes()
    b, r, t = size(2), size(7), size(4)
    few = size(6)
    unread = numbers(3, few, few, seed=2)
    unread[:, :, -1] = -torch.inf  # nobody reads the last region
    inputs = [
        (numbers(b, r, 3 * t, size(5)), numbers(b, r, r, seed=1).topk(3).indices),
        (numbers(3, few, 2 * 5, 4), unread.topk(2).indices),
        (numbers(1, 3, 2 * 5, 2), torch.tensor([[[0, 0], [2, 0], [1, 1]]])),  # an index may name a region twice
    ]
    praise = "It is the gradient that autograd computes."
    return judge(gather_backward, inputs, backward, mistakes, praise, "b r t c")


def gather_recall(shape, megabytes, expanded_megabytes) -> Verdict:
    """Shape and MB of the gathered keys, and MB of the expanded gather's gradient: 8 images, 49 x 16 tokens, k = 4."""
    facts = [
        Fact("my_shape", shape, (8, 49, 64, 128), "It is (b, r, k t, c).", {
            (8, 49, 4, 16, 128): "Routed regions and their tokens share one axis: k t.",
            (8, 49, 16, 128): "That is the shape of the keys. Each region gathers the tokens of 4.",
        }),
        Fact("my_megabytes", megabytes, 12.845, "Multiply the shape, times 4 bytes; 1 MB is 1,000,000 bytes.", {
            12.25: "You divide by 1024 twice. Here 1 MB is 1,000,000 bytes.",
            25.69: "You count keys and values. The keys alone are asked for.",
            3.211: "That is before the gather. k times as much comes out of it.",
        }),
        Fact("my_expanded_megabytes", expanded_megabytes, 157.35, "The expanded tensor is (b, r, r, t, c).", {
            314.7: "You count keys and values. The keys alone are asked for.",
            150.06: "You divide by 1024 twice. Here 1 MB is 1,000,000 bytes.",
            629.4: "Its tensor is (b, r, r, t, c): k is not in it.",
        }),
    ]  # fmt: skip
    return recall(facts, "The expanded gradient is R / k, about 12, times as large as what is gathered.")


def forward(own_gather: Answer) -> Verdict:
    """own_gather(regions, index) -> (b r k*t c): what `gather_regions` does."""

    def chosen(regions: Tensor, index: Tensor) -> Tensor:  # b r k t c
        return gather_regions(regions, index).unflatten(2, (index.shape[2], -1))

    mistakes = [
        Mistake("Every image gathers the tokens of the first. Region i of image n is row n * r + i of the flat matrix.",
                lambda regions, index: regions[0, index].flatten(2, 3)),
        Mistake("Your gathered axis is (t k). It must be (k t): all tokens of the best region come first.",
                lambda regions, index: rearrange(chosen(regions, index), "b r k t c -> b r (t k) c")),
        Mistake("Routed regions and their tokens must share one axis: (b r k*t c), not (b r k t c).", chosen),
        Mistake("Every region gets its own tokens, k times. Expand the regions along axis 1, not 2: (b 1 r t c).",
                lambda regions, index: regions.repeat(1, 1, index.shape[2], 1)),
        Mistake("You gather regions 0 to k - 1 for everybody: the index is not used.",
                lambda regions, index: gather_regions(regions, torch.arange(index.shape[2]).expand_as(index))),
        Mistake("You sort the routed regions by their number. Keep the order of the index.",
                lambda regions, index: gather_regions(regions, index.sort(dim=-1).values)),
        Mistake("Every image uses the routes of the first.",
                lambda regions, index: gather_regions(regions, index[:1].expand_as(index))),
        Mistake("You add the routed regions up. Put their tokens one behind the other.",
                lambda regions, index: chosen(regions, index).sum(dim=2)),
    ]  # fmt: skip
    inputs = [
        (numbers(2, 7, 4, 5), numbers(2, 7, 7, seed=1).topk(3).indices),
        (numbers(3, 5, 2, 6), numbers(3, 5, 5, seed=1).topk(5).indices),
    ]
    return judge(own_gather, inputs, gather_regions, mistakes, "Each region has the tokens that it reads.")


PARTS = [
    Part(gather_regions, '''
def gather_regions(regions, index):
    """(b r t c), (b r k) -> (b r k*t c): for each region all tokens of the k regions in its row of index, in order."""
    ...
''', forward),
]  # fmt: skip
