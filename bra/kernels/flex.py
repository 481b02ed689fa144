"""`attend_flex`: the routing index as the block table of PyTorch's FlexAttention."""

import torch
from torch import Tensor


def attend_flex(q, k, v, index, heads, scale, valid_keys=None) -> Tensor:
    """To be written."""
    raise NotImplementedError
