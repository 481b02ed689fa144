"""Step 06. Local context enhancement (LCE): what routing loses at short range, given back by a small convolution."""

from jaxtyping import Bool, Float
from torch import Tensor, nn


class LocalContextEnhancement(nn.Module):
    """A depthwise convolution over the map of values: the LCE(V) that the paper adds to the attention.

    Each channel is filtered by itself, with zeros beyond the border: c * kernel^2 weights and c biases.
    Raises ValueError for a kernel that is even (it would shift the map) or below 1.
    """

    def __init__(self, dim: int, kernel: int = 5):
        super().__init__()
        if kernel < 1 or kernel % 2 == 0:
            raise ValueError(f"kernel must be odd and at least 1, but is {kernel}")
        self.conv = nn.Conv2d(dim, dim, kernel, padding=kernel // 2, groups=dim)

    def forward(
        self, v: Float[Tensor, "b h w c"], real: Bool[Tensor, "b h w"] | None = None
    ) -> Float[Tensor, "b h w c"]:
        """Filter a channels-last map; its size stays. What is not `real` counts as zeros, as beyond the border."""
        if real is not None:
            v = v.masked_fill(~real[..., None], 0)
        return self.conv(v.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)
