"""Which way `attend` takes on CUDA.

    regions                                   GPU                      way
    t <= 8 tokens, r <= 4 k                   any                      attend_masked    4 tokens fill a tile of 16 badly
    any                                       capability 8.0 or more   attend_fused     reads in place
    any                                       older                    attend_gathered  Triton uses no matrix units
    heads wider than 128 channels, float64    any                      attend_gathered  too large for a tile

Made of few rows on purpose, so not always the winner of book/results/kernels_predicted.json: these limits follow from
counted bytes and from what Triton compiles for each GPU. They were not measured on one yet.
"""

from collections.abc import Callable

import torch
from torch import Tensor

from bra.attention import CHOOSERS, attend_gathered, attend_masked
from bra.kernels.fused import WIDEST_HEAD, attend_fused, why_not

LEAST_CAPABILITY = (8, 0)  # below it (a T4 has 7.5) Triton 3.7 emits no matrix instructions


def way_on_cuda(q: Tensor, index: Tensor, heads: int) -> Callable[..., Tensor]:
    """The cheapest way, by the table above."""
    _, r, t, c = q.shape
    if t <= 8 and r <= 4 * index.shape[2]:
        return attend_masked
    if q.dtype == torch.float64 or c // heads > WIDEST_HEAD or not fused_is_fast(q.device):
        return attend_gathered
    return attend_fused


def fused_is_fast(device: torch.device) -> bool:
    """Whether Triton is here, and the GPU new enough."""
    return why_not(device) is None and torch.cuda.get_device_capability(device) >= LEAST_CAPABILITY


CHOOSERS["cuda"] = way_on_cuda
