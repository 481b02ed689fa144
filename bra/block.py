"""What the stages of a BiFormer are made of: blocks, the last stage's attention, and stochastic depth."""

import torch
import torch.nn.functional as F
from einops import rearrange
from jaxtyping import Bool, Float
from torch import Tensor, nn

from bra.arguments import require_heads
from bra.lce import LocalContextEnhancement


class FullAttention(nn.Module):
    """Every token attends to every token: the last stage's attention in the official code.

    Y = W_o (softmax(d^(-1/2) Q K^T) V + LCE(X)), d = dim / heads: the projection has no bias, the scale is the
    head's, and the LCE reads X, the attention's input (in a block norm1's output), rather than V.
    Raises ValueError for heads that do not divide dim.
    """

    def __init__(self, dim: int, heads: int, lce_kernel: int = 5):
        super().__init__()
        require_heads(dim, heads)
        self.heads = heads
        self.qkv = nn.Linear(dim, 3 * dim, bias=False)
        self.lce = LocalContextEnhancement(dim, lce_kernel) if lce_kernel else None
        self.out = nn.Linear(dim, dim)

    def forward(
        self, x: Float[Tensor, "b h w c"], real: Bool[Tensor, "b h w"] | None = None
    ) -> Float[Tensor, "b h w c"]:
        """Attend over a channels-last map; its size stays. real: as in `BiLevelRoutingAttention`."""
        q, k, v = rearrange(self.qkv(x), "b h w (three m d) -> three b m (h w) d", three=3, m=self.heads)
        mask = None if real is None else real.flatten(1)[:, None, None]  # of the keys, for every head and query
        out = F.scaled_dot_product_attention(q, k, v, attn_mask=mask)
        out = rearrange(out, "b m (h w) d -> b h w (m d)", h=x.shape[1])
        if self.lce is not None:
            out = out + self.lce(x, real)
        return self.out(out)


class DropPath(nn.Module):
    """Stochastic depth (Huang et al., 2016): in training, drop a sample's branch with probability `rate`."""

    def __init__(self, rate: float):
        super().__init__()
        self.rate = rate

    def forward(self, x: Float[Tensor, "b ..."]) -> Float[Tensor, "b ..."]:
        """What is kept is divided by 1 - rate, so that the expectation stays."""
        if not self.training or self.rate == 0:
            return x
        keep = torch.rand(len(x), *[1] * (x.ndim - 1), device=x.device) >= self.rate
        return x * keep / (1 - self.rate)

    def extra_repr(self) -> str:
        return f"rate={self.rate}"


class Block(nn.Module):
    """Position code, attention and MLP, each added to its input (paper, figure 3).

    The position code is a depthwise convolution of `position_kernel` x `position_kernel`, odd; 0 leaves it out.
    """

    def __init__(self, dim: int, attention: nn.Module, mlp_ratio: int, drop_path: float, position_kernel: int = 3):
        super().__init__()
        padding = position_kernel // 2
        self.position = nn.Conv2d(dim, dim, position_kernel, padding=padding, groups=dim) if position_kernel else None
        self.norm1 = nn.LayerNorm(dim, eps=1e-6)
        self.attention = attention
        self.norm2 = nn.LayerNorm(dim, eps=1e-6)
        self.mlp = nn.Sequential(nn.Linear(dim, mlp_ratio * dim), nn.GELU(), nn.Linear(mlp_ratio * dim, dim))
        self.drop_path = DropPath(drop_path)

    def forward(
        self, x: Float[Tensor, "b c h w"], real: Bool[Tensor, "b h w"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Maps enter and leave channels-first; between, tokens are channels-last.

        real: which tokens of each image are real, None: all. Nothing at those depends on what stands elsewhere.
        """
        mask = () if real is None else (real,)  # without one, an attention that knows of no masks will do
        if real is not None:
            x = x.masked_fill(~real[:, None], 0)
        if self.position is not None:
            x = x + self.position(x)
        x = x.permute(0, 2, 3, 1)
        x = x + self.drop_path(self.attention(self.norm1(x), *mask))
        x = x + self.drop_path(self.mlp(self.norm2(x)))
        return x.permute(0, 3, 1, 2)
