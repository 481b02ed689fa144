"""`attend_flex`: the routing index as the block table of PyTorch's FlexAttention."""

from collections.abc import Callable
from functools import cache
from typing import Any, no_type_check

import torch
from torch import Tensor

LARGEST_BLOCK = 128  # tokens on a side of a block, a power of two
SMALLEST_BLOCK = {"cpu": 16, "cuda": 128}  # a GPU's kernels have tiles of up to 128, of which a block must be made
MOST_SHAPES = 256  # that are compiled before PyTorch gives up with an error


def attend_flex(
    q: Tensor, k: Tensor, v: Tensor, index: Tensor, heads: int, scale: float, valid_keys: Tensor | None = None
) -> Tensor:
    """What `attend_gathered` computes, as FlexAttention: blocks that nobody reads are skipped, nothing is gathered.

    What is read of a block is said twice. The block table, made of `index`, says which blocks are loaded; a bias on the
    scores, log(how often the key is read), is -inf for what is not. If a region is whole blocks (`block_size`), only
    what is read is loaded; else blocks of 128 tokens hold parts of several regions, and what they hold besides is
    loaded in vain.

    Raises RuntimeError where it cannot run (`why_not`).
    """
    if reason := why_not(q, k, v):
        raise RuntimeError(f"attend_flex cannot run here: {reason}; way=attend_gathered can")
    b, r, t, _ = q.shape
    valid_keys = index.new_ones(1, 1, 1, 1, dtype=torch.bool) if valid_keys is None else valid_keys
    reads = torch.zeros(b, r, r, valid_keys.shape[3], dtype=torch.float32, device=q.device)
    seen = valid_keys.float().expand(*index.shape, -1)
    bias = reads.scatter_add(2, index[..., None].expand_as(seen), seen).log()
    said = valid_keys.shape[3]  # t, or 1 where nothing is said of single tokens

    @no_type_check  # it is compiled: jaxtyping's hook of the tests would be in the way
    def read_often(score, image, head, query, key):
        return score + bias[image, query // t, key // t, key % said]

    q, k, v = (x.unflatten(-1, (heads, -1)).flatten(1, 2).transpose(1, 2) for x in (q, k, v))  # b m (r t) d
    mask = blocks_read(index, r, t, block_size(t, index.device.type))
    with torch._dynamo.config.patch(recompile_limit=MOST_SHAPES):
        out = compiled()(q, k, v, score_mod=read_often, block_mask=mask, scale=scale)
    return out.transpose(1, 2).flatten(2).unflatten(1, (r, t))


def why_not(q: Tensor, k: Tensor, v: Tensor) -> str | None:
    """Why FlexAttention cannot run on these, in one line; None if it can."""
    if q.dtype == torch.float64:
        return "FlexAttention has no float64"
    if q.device.type == "cpu" and torch.is_grad_enabled() and any(x.requires_grad for x in (q, k, v)):
        return "on a CPU FlexAttention has no backward pass"
    if q.device.type not in ("cpu", "cuda"):
        return f"FlexAttention is compiled for CUDA and CPUs, but q is on {q.device.type}"
    return None


@cache
def compiled() -> Callable[..., Tensor]:
    """FlexAttention, compiled: not compiled it would ignore the block table.

    Once for each shape; a new table is no new shape. (Code for all shapes at once does not compile in torch 2.13, CPU.)
    """
    from torch.nn.attention.flex_attention import flex_attention  # brings sympy along, which `import bra` need not

    return torch.compile(flex_attention, fullgraph=True, dynamic=False)


def block_size(t: int, device: str) -> int:
    """Tokens on a side of a block: the largest power of two that divides a region, or LARGEST_BLOCK over several.

    device: its type. On CUDA nothing below 128 is taken: torch 2.13 refuses other sizes for some GPUs and precisions.
    """
    whole = min(t & -t, LARGEST_BLOCK)
    return whole if whole >= SMALLEST_BLOCK[device] else LARGEST_BLOCK


def blocks_read(index: Tensor, r: int, t: int, size: int) -> Any:
    """The `BlockMask` of an index: which blocks, of `size` tokens, each block of queries reads."""
    from torch.nn.attention.flex_attention import BlockMask

    b = index.shape[0]
    read = torch.zeros(b, r, r, dtype=torch.bool, device=index.device).scatter(2, index, True)
    token = torch.arange(r * t, device=index.device)
    count = -(-r * t // size)
    holds = torch.zeros(count, r, device=index.device)
    holds[token // size, token // t] = 1.0  # block, region
    needed = holds @ read.float() @ holds.T > 0  # b block block
    number = needed.sum(dim=-1, dtype=torch.int32)[:, None]
    table = needed.int().argsort(dim=-1, descending=True, stable=True).int()[:, None]
    return BlockMask.from_kv_blocks(number, table, BLOCK_SIZE=size, seq_lengths=(r * t, r * t))
