"""UPerNet's head, which transformers keeps, on the maps of a `Backbone`."""

from collections.abc import Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn


class UperNet(nn.Module):
    """transformers' `UperNetHead` (Xiao et al., Unified Perceptual Parsing, 2018): pooled context above a pyramid.

    channels, reduction: of the maps, finest first. width: of all its maps; 512 in the official configuration, where it
    costs about ten times what the stages of BiFormer-T cost. It pools the whole map: news reaches every pixel, whatever
    the router does. Batch norm of a map of one pixel: it cannot be trained with one image a batch. The auxiliary head
    of the official configuration is left out. Raises ImportError without transformers.
    """

    def __init__(self, channels: Sequence[int], reduction: Sequence[int], classes: int, width: int = 512):
        from transformers import UperNetConfig
        from transformers.models.upernet.modeling_upernet import UperNetHead

        super().__init__()
        config = UperNetConfig(hidden_size=width, num_labels=classes, pool_scales=[1, 2, 3, 6])
        self.head = UperNetHead(config, in_channels=list(channels))

    def forward(self, maps: Sequence[Float[Tensor, "b _ _ _"]], size: Sequence[int]) -> Float[Tensor, "b classes h w"]:
        """Logits of every pixel of images of this size (h, w)."""
        return F.interpolate(self.head(tuple(maps)), tuple(size), mode="bilinear", align_corners=False)
