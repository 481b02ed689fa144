"""Step 02. Which regions are related: one descriptor a region, one affinity a pair of regions."""

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from bra.arguments import require_axes


def region_means(
    regions: Float[Tensor, "b r t c"], valid: Bool[Tensor, "r t"] | Bool[Tensor, "b r t"] | None = None
) -> Float[Tensor, "b r c"]:
    """The mean of each region's tokens: Q^r and K^r of the paper.

    With `valid`, of all images (r t) or of each (b r t), the mean of its real tokens; a region without any gets zeros.
    Half precision gives float32 means.
    Raises ValueError if regions is not (b r t c).
    """
    require_axes("regions", regions, "b r t c")
    dtype = torch.promote_types(regions.dtype, torch.float32)
    if valid is None:
        return regions.mean(dim=2, dtype=dtype)
    share = valid.to(dtype) / valid.sum(dim=-1, keepdim=True).clamp(min=1)
    return (regions * share[..., None]).sum(dim=2)


def region_affinity(q_means: Float[Tensor, "b r c"], k_means: Float[Tensor, "b r c"]) -> Float[Tensor, "b r r"]:
    """How much region i (row) wants to read region j (column): A^r = Q^r (K^r)^T, as in the paper.

    Not symmetric: i may want to read j while j has no use for i. The official code also multiplies by
    C^(-1/2); a positive factor changes no order of real numbers, so we leave it out.
    Raises ValueError if an argument is not (b r c) or their shapes differ.
    """
    require_axes("q_means", q_means, "b r c")
    if q_means.shape != k_means.shape:
        raise ValueError(f"k_means must have the shape of q_means, {tuple(q_means.shape)}, not {tuple(k_means.shape)}")
    return q_means @ k_means.transpose(-2, -1)
