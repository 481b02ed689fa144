"""From the maps of a `Backbone` to a class for every pixel.

A map's token i stands over the pixels from i * stride. So maps grow by exact factors and are then cut to size: whoever
stretches a map of 3 rows to 5 moves its tokens, and further the more an image was padded.
"""

from collections.abc import Callable, Sequence

import torch.nn.functional as F
from jaxtyping import Float
from torch import Tensor, nn

from bra.dense.backbone import Backbone, Sizes

Maps = Sequence[Float[Tensor, "b _ _ _"]]


class SemanticFPN(nn.Module):
    """A feature pyramid and its sum at the finest stride (Kirillov et al., Panoptic Feature Pyramid Networks, 2019).

    P_i = smooth_i(T_i), T_i = W_i C_i + enlarge_2(T_(i+1)): each map C_i hears from all coarser ones. Then each P_i
    climbs to the finest stride by (3 x 3 convolution, norm, ReLU, twice the size)*, and the sum of all is classified.
    The official segmentation of BiFormer has these sizes, through mmsegmentation's FPN and FPNHead, and batch norm
    (semantic_segmentation/configs/_base_/models/fpn_r50.py; the paper has group norm and 128 channels).

    channels, reduction: of the maps, finest first, each stride 2^n times the one before. width: of the pyramid;
    head_width: of the sum. dropout: rate at which the sum's channels are dropped in training.
    """

    __call__: Callable[..., Tensor]

    def __init__(
        self,
        channels: Sequence[int],
        reduction: Sequence[int],
        classes: int,
        width: int = 256,
        head_width: int = 128,
        dropout: float = 0.1,
    ):
        super().__init__()
        self.reduction = tuple(reduction)
        self.lateral = nn.ModuleList(nn.Conv2d(c, width, 1) for c in channels)
        self.smooth = nn.ModuleList(nn.Conv2d(width, width, 3, padding=1) for _ in channels)
        self.climb = nn.ModuleList(climb(width, head_width, stride // reduction[0]) for stride in reduction)
        self.dropout = nn.Dropout2d(dropout)
        self.classify = nn.Conv2d(head_width, classes, 1)

    def forward(self, maps: Maps, size: Sequence[int]) -> Float[Tensor, "b classes h w"]:
        """Logits of every pixel of images of this size (h, w). maps: finest first, their sizes rounded up.

        Where images are padded, their pixels near the padding (up to 4 of the coarsest strides) are not what they would
        be without: convolutions see it, as they see a border.
        """
        above, total, finest = None, 0, maps[0].shape[2:]
        for i in reversed(range(len(maps))):
            x = self.lateral[i](maps[i])
            if above is not None:
                x = x + enlarge(above, self.reduction[i + 1] // self.reduction[i], x.shape[2:], "nearest")
            total = total + cut(self.climb[i](self.smooth[i](x)), finest)
            above = x
        return enlarge(self.classify(self.dropout(total)), self.reduction[0], size, "bilinear")


def climb(wide: int, narrow: int, factor: int) -> nn.Sequential:
    """To a stride that is `factor` times finer: convolution, norm and ReLU before every doubling, and once at least."""
    layers = []
    for step in range(max(1, factor.bit_length() - 1)):
        layers += [nn.Conv2d(narrow if step else wide, narrow, 3, padding=1, bias=False)]
        layers += [nn.BatchNorm2d(narrow), nn.ReLU(inplace=True)]
        if factor > 1:
            layers += [nn.Upsample(scale_factor=2, mode="bilinear", align_corners=False)]
    return nn.Sequential(*layers)


def enlarge(x: Float[Tensor, "b c _ _"], factor: int, size: Sequence[int], mode: str) -> Float[Tensor, "b c h w"]:
    """Every token becomes factor x factor ones; what reaches beyond size (h, w) is cut off."""
    return cut(F.interpolate(x, scale_factor=factor, mode=mode), size)


def cut(x: Float[Tensor, "b c _ _"], size: Sequence[int]) -> Float[Tensor, "b c h w"]:
    """The first h rows and w columns."""
    return x[:, :, : size[0], : size[1]]


class PixelHead(nn.Module):
    """Every token paints the stride x stride pixels that it stands over, and reads nothing else.

    Where only routing may carry news from one place to another: no pooling, no convolution wider than a token, no
    interpolation. A linear map of each token and a pixel shuffle; of several maps, the sum.
    """

    def __init__(self, channels: Sequence[int], reduction: Sequence[int], classes: int):
        super().__init__()
        self.reduction = tuple(reduction)
        both = zip(channels, reduction, strict=True)
        self.paint = nn.ModuleList(nn.Conv2d(c, classes * stride**2, 1) for c, stride in both)

    def forward(self, maps: Maps, size: Sequence[int]) -> Float[Tensor, "b classes h w"]:
        """Logits of every pixel of images of this size (h, w). maps: their sizes rounded up."""
        each = zip(maps, self.paint, self.reduction, strict=True)
        return sum(cut(F.pixel_shuffle(paint(x), stride), size) for x, paint, stride in each)


class Segmenter(nn.Module):
    """A backbone and a head: images in, logits of every pixel out."""

    def __init__(self, backbone: Backbone, head: nn.Module):
        super().__init__()
        self.backbone, self.head = backbone, head

    def forward(self, images: Float[Tensor, "b c h w"], sizes: Sizes | None = None) -> Float[Tensor, "b classes h w"]:
        """Logits of the images' size; sizes: as `Backbone.forward` takes them. In padding they mean nothing."""
        return self.head(self.backbone(images, sizes), images.shape[2:])
