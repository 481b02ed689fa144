"""Which way on a GPU."""

from collections.abc import Callable

import torch
from torch import Tensor

from bra.attention import attend_gathered, attend_masked
from bra.kernels.fused import attend_fused, why_not

LEAST_CAPABILITY = (8, 0)  # below it (a T4 has 7.5) Triton emits no matrix instructions for these programs


def way_on_cuda(q: Tensor, index: Tensor) -> Callable[..., Tensor]:
    """The way that `attend` takes on CUDA. By counted bytes, not yet measured (`python -m bra.bench gpu` will)."""
    t, r, k = q.shape[2], index.shape[1], index.shape[2]
    if t <= 8 and r <= 4 * k:
        return attend_masked  # 4 tokens fill a tile of 16 badly; all tokens as one matrix move less
    if torch.cuda.get_device_capability(q.device) < LEAST_CAPABILITY or why_not(q):
        return attend_gathered
    return attend_fused
