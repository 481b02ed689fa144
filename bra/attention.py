"""Step 05. Token-to-token attention among the gathered tokens.

`attend` has three ways to the same result and takes the cheapest: `attend_gathered` is the definition, the other two
are there for speed and memory. Step 09 adds ways that gather nothing. `python -m bra.bench` measures them.
"""

from collections.abc import Callable, Iterator
from typing import Any

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bra.arguments import require_axes, require_heads
from bra.gather import gather_regions, require_index


def attend(
    q: Float[Tensor, "b r t c"],
    k: Float[Tensor, "b r t c"],
    v: Float[Tensor, "b r t c"],
    index: Int[Tensor, "b r k"],
    heads: int,
    scale: float | None = None,
    valid: Bool[Tensor, "r t"] | Bool[Tensor, "b r t"] | None = None,
    way: Callable[..., Tensor] | None = None,
) -> Float[Tensor, "b r t c"]:
    """Each token attends to all tokens of the regions its region reads: O = softmax(scale Q (K^g)^T) V^g.

    This is the paper's attention without its LCE term, for each head's c / heads channels. One softmax runs
    over the union of the routed regions. All heads share `index`.

    q, k, v: queries, keys and values. index: (b r k), the regions that each region reads.
    scale: None means (c / heads)^(-1/2), as in `scaled_dot_product_attention`; the layer passes its own.
    valid: which tokens are real, of all images (r t) or of each (b r t); the others get no attention. A query none of
    whose selected tokens is real gets 0, never NaN.
    way: `attend_gathered`, `attend_masked`, `attend_in_pieces`; from step 09 `attend_fused`, `attend_flex`. None is the
    cheapest.
    What is not read, or not real, must still be finite: times a weight of 0, infinity would be NaN.
    Raises ValueError if a shape or type does not fit or heads does not divide c, and what `gather_regions` raises;
    RuntimeError for a second derivative, which not all ways have.
    """
    require_axes("q", q, "b r t c")
    if not q.shape == k.shape == v.shape:
        raise ValueError(
            f"q, k and v must have one shape, but have {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}"
        )
    b, r, t, c = q.shape
    require_heads(c, heads)
    require_index(index, b, r)
    shape = (b, r, t) if valid is not None and valid.ndim == 3 else (r, t)
    if valid is not None and (valid.shape != shape or valid.dtype != torch.bool):
        found = f"{tuple(valid.shape)} of {valid.dtype}"
        raise ValueError(f"valid must be (r t) = ({r}, {t}) or (b r t) = ({b}, {r}, {t}) of bool, not {found}")
    scale = (c // heads) ** -0.5 if scale is None else scale
    way = cheapest_way(q, index, heads) if way is None else way
    if valid is None:
        return way(q, k, v, index, heads, scale)
    own = valid.ndim == 3  # a mask for each image
    valid_keys = gather_regions(valid[..., None], index).view(*index.shape, t) if own else valid[index]  # b r k t
    some = valid_keys.any(dim=(2, 3))[:, :, None, None]
    # a softmax over nothing would be NaN: where no key is valid it runs over all keys, and its result becomes 0
    return way(q, k, v, index, heads, scale, torch.logical_or(valid_keys, ~some)) * some


CHOOSERS: dict[str, Callable[[Tensor, Tensor, int], Callable[..., Tensor]]] = {}
"""For a type of device, who names the cheapest way there. Step 09 does for "cuda"."""


def cheapest_way(q: Tensor, index: Tensor, heads: int) -> Callable[..., Tensor]:
    """Which way to take. The limits were measured on a CPU (`python -m bra.bench`)."""
    if choose := CHOOSERS.get(q.device.type):
        return choose(q, index, heads)
    b, r, t, c = q.shape
    k = index.shape[2]
    if t <= 8 and r <= 4 * k:
        return attend_masked  # three quarters of the products are wasted at most, and many tiny ones are slower
    half = q.dtype not in (torch.float32, torch.float64) or torch.is_autocast_enabled("cpu")
    if half or q.device.type != "cpu" or torch.compiler.is_compiling():
        return attend_gathered
    if b * r * k * t * c > 2**21:
        return attend_in_pieces  # what is gathered would take more than 8 MB, and leave the cache
    return attend_gathered


def attend_gathered(
    q: Tensor, k: Tensor, v: Tensor, index: Tensor, heads: int, scale: float, valid_keys: Tensor | None = None
) -> Tensor:
    """The definition: gather, then attend. valid_keys: (b r k t), which of the selected tokens get attention.

    Where PyTorch has a fused kernel, the weights are never stored; the gathered keys and values are, k times as many
    as there are tokens.
    """
    keys, values = gather_regions(k, index), gather_regions(v, index)
    queries, keys, values = (rearrange(x, "b r t (m d) -> (b r) m t d", m=heads) for x in (q, keys, values))
    mask = None if valid_keys is None else rearrange(valid_keys, "b r k t -> (b r) 1 1 (k t)")
    out = F.scaled_dot_product_attention(queries, keys, values, attn_mask=mask, scale=scale)
    return rearrange(out, "(b r) m t d -> b r t (m d)", r=index.shape[1])


def attend_masked(
    q: Tensor, k: Tensor, v: Tensor, index: Tensor, heads: int, scale: float, valid_keys: Tensor | None = None
) -> Tensor:
    """Gather nothing: attend to all tokens, and add log(how often its region is read) to a token's score.

    log 0 is -inf, a weight of 0, for what is not read. Some of the products are wasted, but they are large.
    """
    b, r, t, _ = q.shape
    valid_keys = index.new_ones(1, dtype=torch.bool) if valid_keys is None else valid_keys
    reads = q.new_zeros(b, r, r, t)
    reads.scatter_add_(2, index[..., None].expand(-1, -1, -1, t), valid_keys.to(q.dtype).expand(*index.shape, t))
    mask = reads.log()[:, :, None].expand(-1, -1, t, -1, -1).reshape(b, 1, r * t, r * t)
    q, k, v = (rearrange(x, "b r t (m d) -> b m (r t) d", m=heads) for x in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, scale=scale)
    return rearrange(out, "b m (r t) d -> b r t (m d)", r=r)


def attend_in_pieces(
    q: Tensor, k: Tensor, v: Tensor, index: Tensor, heads: int, scale: float, valid_keys: Tensor | None = None
) -> Tensor:
    """Gather for a few regions at a time, so that what is gathered stays in the processor's cache, and is not kept."""
    b, r, _, _ = q.shape
    q, k, v = (rearrange(x, "b r t (m d) -> (b m r) t d", m=heads) for x in (q * scale, k, v))
    first = torch.arange(0, b * heads * r, r, device=index.device)
    rows = (first.view(b, heads, 1, 1) + index[:, None]).flatten(0, 2)
    if valid_keys is not None:
        valid_keys = valid_keys[:, None].expand(-1, heads, -1, -1, -1)
        valid_keys = rearrange(valid_keys, "b m r k t -> (b m r) 1 (k t)")
    out = PieceByPiece.apply(q, k, v, rows, valid_keys)
    return rearrange(out, "(b m r) t d -> b r t (m d)", m=heads, r=r)


class PieceByPiece(torch.autograd.Function):
    """softmax(Q (K^g)^T) V^g, where row i of K^g is k[rows[i]]; the backward pass gathers and weighs again.

    With P the weights and G the gradient of the output: dV^g = P^T G, dP = G (V^g)^T,
    dS = P * (dP - rowsum(P * dP)), dQ = dS K^g, dK^g = dS^T Q. Rows of dK^g and dV^g are added where they came from.
    """

    @staticmethod
    @torch.amp.custom_fwd(device_type="cpu")
    def forward(ctx: Any, q: Tensor, k: Tensor, v: Tensor, rows: Tensor, valid_keys: Tensor | None) -> Tensor:
        """q, k, v: (i t d). rows: (i k). valid_keys: (i 1 k*t) or None."""
        ctx.save_for_backward(q, k, v, rows, valid_keys)
        out = torch.empty(q.shape, dtype=q.dtype, device=q.device)
        for piece, _, keys, values in pieces(q, k, v, rows):
            torch.bmm(weights(q[piece], keys, valid_keys, piece), values, out=out[piece])
        return out

    @staticmethod
    @torch.amp.custom_bwd(device_type="cpu")  # in the forward's precision, wherever backward is called
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        if torch.is_grad_enabled():  # that is, with create_graph=True: a gradient of this would be wrong, silently
            raise RuntimeError(
                "attend_in_pieces has no second derivative: pass way=attend_gathered to attend, and call it under "
                "torch.nn.attention.sdpa_kernel(SDPBackend.MATH)"
            )
        q, k, v, rows, valid_keys = ctx.saved_tensors
        grad, (t, d) = grad.contiguous(), q.shape[1:]
        dq, dk, dv = (torch.zeros(q.shape, dtype=q.dtype, device=q.device) for _ in range(3))
        for piece, chosen, keys, values in pieces(q, k, v, rows):
            p = weights(q[piece], keys, valid_keys, piece)
            dv.index_add_(0, chosen, torch.bmm(p.mT, grad[piece]).view(-1, t, d))
            ds = torch.bmm(grad[piece], values.mT)
            ds.sub_((p * ds).sum(dim=-1, keepdim=True)).mul_(p)
            torch.bmm(ds, keys, out=dq[piece])
            dk.index_add_(0, chosen, torch.bmm(ds.mT, q[piece]).view(-1, t, d))
        return dq, dk, dv, None, None


PIECE = 2**19  # numbers in the keys, or in the weights, of one piece: 2 MB, about a core's second-level cache


def pieces(q: Tensor, k: Tensor, v: Tensor, rows: Tensor) -> Iterator[tuple[slice, Tensor, Tensor, Tensor]]:
    """Some rows at a time: which, what they read, and its keys and values, gathered."""
    t, d = q.shape[1:]
    step = max(1, PIECE // max(1, rows.shape[1] * t * max(t, d)))
    for start in range(0, len(rows), step):
        piece = slice(start, start + step)
        chosen = rows[piece].flatten()
        keys, values = (x.index_select(0, chosen).view(len(rows[piece]), -1, d) for x in (k, v))
        yield piece, chosen, keys, values


def weights(q: Tensor, keys: Tensor, valid_keys: Tensor | None, piece: slice) -> Tensor:
    """The softmax over the keys of one piece."""
    scores = torch.bmm(q, keys.mT)
    if valid_keys is not None:
        scores.masked_fill_(~valid_keys[piece], float("-inf"))
    return scores.softmax(dim=-1)
