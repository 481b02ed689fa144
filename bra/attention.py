"""Step 05. Token-to-token attention among the gathered tokens."""

import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bra.arguments import require_axes, require_heads
from bra.gather import gather_regions


def attend(
    q: Float[Tensor, "b r t c"],
    k: Float[Tensor, "b r t c"],
    v: Float[Tensor, "b r t c"],
    index: Int[Tensor, "b r n"],
    heads: int,
    scale: float | None = None,
    valid: Bool[Tensor, "r t"] | None = None,
) -> Float[Tensor, "b r t c"]:
    """Each token attends to all tokens of the regions its region reads: O = softmax(scale Q (K^g)^T) V^g.

    This is the paper's equation 6 without its LCE term, for each head's c / heads channels. One softmax runs
    over the union of the routed regions. All heads share `index`.

    q, k, v: queries, keys and values. index: (b r n), the n regions that each region reads.
    scale: None means (c / heads)^(-1/2), as in `scaled_dot_product_attention`; the layer passes its own.
    valid: which tokens are real; the others get no attention. A query none of whose selected tokens is real
    gets 0, never NaN.
    Raises ValueError if a shape does not fit or heads does not divide c, and what `gather_regions` raises.
    """
    require_axes("q", q, "b r t c")
    if not q.shape == k.shape == v.shape:
        raise ValueError(
            f"q, k and v must have one shape, but have {tuple(q.shape)}, {tuple(k.shape)}, {tuple(v.shape)}"
        )
    b, r, t, c = q.shape
    require_heads(c, heads)
    if valid is not None and valid.shape != (r, t):
        raise ValueError(f"valid must be (r t) = ({r}, {t}), not {tuple(valid.shape)}")
    keys, values = gather_regions(k, index), gather_regions(v, index)
    q, keys, values = (rearrange(x, "b r t (m d) -> (b r) m t d", m=heads) for x in (q, keys, values))
    if valid is None:
        out = F.scaled_dot_product_attention(q, keys, values, scale=scale)
    else:
        real = valid[index].flatten(0, 1).flatten(1)[:, None, None, :]  # (b r) 1 1 (k t)
        some = real.any(dim=-1, keepdim=True)  # a row without any key is left undefined by some of the fused kernels
        out = F.scaled_dot_product_attention(q, keys, values, attn_mask=real | ~some, scale=scale) * some
    return rearrange(out, "(b r) m t d -> b r t (m d)", b=b, r=r)
