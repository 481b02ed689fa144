"""`attend_fused`: the programs of step 09 as operators that PyTorch can differentiate, compile, and run in autocast."""

import math
import os
from typing import Any

import torch
from torch import Tensor

LOG2_E = 1 / math.log(2)
HALF = (torch.float16, torch.bfloat16)
WIDEST_HEAD = 128  # channels: a tile of more does not fit a GPU's registers


def attend_fused(
    q: Tensor, k: Tensor, v: Tensor, index: Tensor, heads: int, scale: float, valid_keys: Tensor | None = None
) -> Tensor:
    """What `attend_gathered` computes, in one walk over what each region reads: nothing gathered is ever stored.

    q, k, v: (b r t c) with any strides; the parts of one wider tensor are read where they are. index: (b r k), in which
    a region may be named twice. valid_keys: (b r k t), which of the selected tokens get attention. Sums are taken in
    float32 (float64 for float64) and in a fixed order, so two runs have the same gradients, bit for bit.

    Raises ValueError for heads of more than 128 channels; RuntimeError where it cannot run, or for a second derivative.
    """
    if q.shape[-1] // heads > WIDEST_HEAD:
        raise ValueError(
            f"heads must have at most {WIDEST_HEAD} channels each in attend_fused, but have {q.shape[-1] // heads}"
        )
    if torch.is_autocast_enabled(q.device.type):
        q, k, v = (x.to(torch.get_autocast_dtype(q.device.type)) for x in (q, k, v))
    b, r, n = index.shape
    table = (
        index + torch.arange(0, b * r, r, device=index.device)[:, None, None]
    )  # rows of all images, as in notebook 04
    out, _ = attend_rows(*map(as_rows, (q, k, v)), table.view(b * r, n).int(), heads, scale, valid_keys)
    return out.view(q.shape)


def why_not(device: torch.device) -> str | None:
    """Why the programs cannot run on a device, in one line; None if they can."""
    try:
        import triton  # noqa: F401
    except ImportError:
        return "it needs Triton (pip install triton, on Linux)"
    if device.type != "cuda" and not interpreted():
        return f"it needs a GPU with CUDA, but q is on {device.type} (TRITON_INTERPRET=1 lets a CPU do it, slowly)"
    return None


def interpreted() -> bool:
    """Whether Triton interprets its programs instead of compiling them: it looks when it is first imported."""
    return os.environ.get("TRITON_INTERPRET") == "1"


def as_rows(x: Tensor) -> Tensor:
    """(b r t c) as a matrix of (b*r*t) rows, in place where neighbouring channels are neighbours in memory."""
    return (x if x.stride(-1) == 1 else x.contiguous()).flatten(0, 2)


@torch.library.custom_op("bra::attend", mutates_args=())
def attend_rows(
    q: Tensor, k: Tensor, v: Tensor, table: Tensor, heads: int, scale: float, valid: Tensor | None
) -> tuple[Tensor, Tensor]:
    """q, k, v: (rows c); table: (regions n). The output, and log2 of each query's sum of 2^score (rows heads)."""
    if reason := why_not(q.device):
        raise RuntimeError(f"attend_fused cannot run here: {reason}; way=attend_gathered can")
    from bra.kernels.programs import forward

    out, lse = empty_outputs(q, k, v, table, heads, scale, valid)
    grid, settings = plan(q, table, heads, scale, valid)
    strides = q.stride(0), k.stride(0), v.stride(0)
    forward[grid](q, k, v, table, as_bytes(valid), out, lse, *strides, heads, q.shape[1], **settings)
    return out, lse


@attend_rows.register_fake
def empty_outputs(
    q: Tensor, k: Tensor, v: Tensor, table: Tensor, heads: int, scale: float, valid: Tensor | None
) -> tuple[Tensor, Tensor]:
    """Where the output and the log-sum-exp go."""
    wide = torch.float64 if q.dtype == torch.float64 else torch.float32
    return q.new_empty(q.shape), q.new_empty((q.shape[0], heads), dtype=wide)


@torch.library.custom_op("bra::attend_backward", mutates_args=())
def attend_rows_backward(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, table: Tensor, out: Tensor, lse: Tensor,
    heads: int, scale: float, valid: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    """The gradients of q, k and v. Queries walk over what they read; keys walk over who reads them."""
    from bra.kernels.programs import backward_keys, backward_queries

    grad, delta = grad.contiguous(), torch.empty_like(lse)
    dq, dk, dv = (q.new_empty(q.shape) for _ in range(3))
    grid, settings = plan(q, table, heads, scale, valid)
    common = q.stride(0), k.stride(0), v.stride(0), heads, q.shape[1], scale
    mask = as_bytes(valid)
    backward_queries[grid](q, k, v, table, mask, out, lse, grad, delta, dq, *common, **settings)
    readers, starts = inverted(table)
    backward_keys[grid](q, k, v, readers, starts, mask, lse, grad, delta, dk, dv, *common, **settings)
    return dq, dk, dv


@attend_rows_backward.register_fake
def _(
    grad: Tensor, q: Tensor, k: Tensor, v: Tensor, table: Tensor, out: Tensor, lse: Tensor,
    heads: int, scale: float, valid: Tensor | None,
) -> tuple[Tensor, Tensor, Tensor]:  # fmt: skip
    return q.new_empty(q.shape), k.new_empty(k.shape), v.new_empty(v.shape)


def inverted(table: Tensor) -> tuple[Tensor, Tensor]:
    """The table read backwards: readers (regions*n) and starts (regions + 1).

    readers[starts[i] : starts[i + 1]] are the places of the flat table that name region i, in rising order.
    """
    named, readers = table.flatten().sort(stable=True)
    regions = torch.arange(len(table) + 1, device=table.device, dtype=table.dtype)
    return readers, torch.searchsorted(named, regions)


def keep_for_backward(ctx: Any, inputs: tuple, output: tuple[Tensor, Tensor]) -> None:
    """What the backward pass needs."""
    q, k, v, table, ctx.heads, ctx.scale, valid = inputs
    ctx.save_for_backward(q, k, v, table, *output, valid)
    ctx.mark_non_differentiable(output[1])
    ctx.set_materialize_grads(False)


def differentiate(ctx: Any, grad: Tensor | None, _: Tensor | None) -> tuple[Tensor | None, ...]:
    """`attend_rows_backward`, as autograd wants it."""
    if grad is None:
        return (None,) * 7
    q, k, v, table, out, lse, valid = ctx.saved_tensors
    found = attend_rows_backward(grad, q, k, v, table, out, lse, ctx.heads, ctx.scale, valid)
    return *found, None, None, None, None


attend_rows.register_autograd(differentiate, setup_context=keep_for_backward)


def as_bytes(valid: Tensor | None) -> Tensor | None:
    """Triton has no bool in memory."""
    return None if valid is None else valid.contiguous().view(torch.uint8)


def plan(q: Tensor, table: Tensor, heads: int, scale: float, valid: Tensor | None) -> tuple[tuple[int], dict]:
    """How many programs, and their settings."""
    import triton
    import triton.language as tl

    (regions, n), d = table.shape, q.shape[1] // heads
    t, half = q.shape[0] // max(1, regions), q.dtype in HALF
    own, step = tile(t, q.dtype)
    settings = {
        "log2_scale": scale * LOG2_E,
        "WIDE": tl.float64 if q.dtype == torch.float64 else tl.float32,
        "EXACT": "ieee" if torch.get_float32_matmul_precision() == "highest" else "tf32",
        "CAST": interpreted() and q.dtype == torch.bfloat16,
        "N": n,
        "T": t,
        "D": d,
        "OWN": own,
        "STEP": step,
        "WIDTH": max(16, triton.next_power_of_2(d)),
        "MASKED": valid is not None,
        "num_warps": (2 if own < 64 else 4) if half else (4 if own < 64 else 8),
    }
    return (regions * triton.cdiv(t, own) * heads,), settings


def tile(t: int, dtype: torch.dtype) -> tuple[int, int]:
    """OWN and STEP, the rows and columns of a tile of scores. Tensor cores multiply nothing smaller than 16 rows."""
    return max(16, min(64, 1 << (t - 1).bit_length())), 64 if dtype in HALF else 32
