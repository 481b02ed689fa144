"""A `Backbone` under torchvision's detectors, with the padding of their batches masked. Calling them needs it."""

from collections import OrderedDict
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Bool, Float
from torch import Tensor, nn

from bra.dense.backbone import Backbone, Sizes
from bra.partition import real_map

KINDS = ("retinanet", "fcos", "faster-rcnn", "mask-rcnn")
NEVER = -100.0  # the logit of what stands in padding: its probability and its loss are 0, and nothing is infinite


class TorchvisionPyramid(nn.Module):
    """A backbone and torchvision's `FeaturePyramidNetwork`: what torchvision's detectors call their backbone.

    extra: the coarser levels, "p6p7" (two convolutions, the first of the last map) or "pool" (every second token).
    width: channels of all levels. out_channels is torchvision's name for it; strides: of all levels, in pixels.
    sizes: of the next batch's images, if they are padded; see `mask_padding`.
    """

    def __init__(self, backbone: Backbone, extra: Literal["p6p7", "pool"] = "pool", width: int = 256):
        from torchvision.ops.feature_pyramid_network import FeaturePyramidNetwork, LastLevelMaxPool, LastLevelP6P7

        super().__init__()
        last = LastLevelP6P7(backbone.channels[-1], width) if extra == "p6p7" else LastLevelMaxPool()
        self.backbone, self.out_channels = backbone, width
        self.pyramid = FeaturePyramidNetwork(list(backbone.channels), width, last)
        coarsest = backbone.reduction[-1]
        self.strides = (*backbone.reduction, *((2 * coarsest, 4 * coarsest) if extra == "p6p7" else (2 * coarsest,)))
        self.sizes: Sizes | None = None
        self.real: dict[torch.Size, Tensor] = {}  # by the size of a map: which of its tokens are

    def forward(self, images: Float[Tensor, "b c h w"]) -> "OrderedDict[str, Tensor]":
        """The maps (b width h w) by torchvision's names: "0", "1" and so on, then "pool", or "p6" and "p7"."""
        sizes, self.sizes = self.sizes, None
        maps = self.backbone(images, sizes)
        self.real = {}
        if sizes is not None:
            real = real_map(torch.as_tensor(sizes, device=images.device), images.shape[2:])
            while real.shape[1:] not in self.real:
                self.real[real.shape[1:]], real = real, real[:, ::2, ::2]
        return self.pyramid(OrderedDict((str(i), x) for i, x in enumerate(maps)))

    def mask_padding(self, transform: nn.Module, head: nn.Module) -> None:
        """From now on nothing that stands in the padding of a batch is read.

        transform: the detector's, which alone knows the images' sizes. head: the part of the detector that convolves
        the levels. The convolutions of pyramid and head then see zeros in padding, as they do beyond the border of an
        image that is alone; a group norm does not count it; no anchor there is chosen or costs anything.
        """
        transform.register_forward_hook(self.take_sizes)
        for module in [*self.pyramid.modules(), *head.modules()]:
            if isinstance(module, nn.Conv2d):
                module.register_forward_pre_hook(self.clear)
            if isinstance(module, nn.GroupNorm):
                module.register_forward_hook(self.normalise)
            if hasattr(module, "cls_logits"):
                module.cls_logits.register_forward_hook(self.silence)

    def take_sizes(self, transform: nn.Module, inputs: tuple, outputs: tuple) -> None:
        """Keep the sizes of the images that a detector's transform has put into one batch."""
        self.sizes = outputs[0].image_sizes

    def clear(self, convolution: nn.Module, inputs: tuple[Tensor]) -> Tensor:
        """A convolution's input, with zeros in padding."""
        (x,) = inputs
        return x.masked_fill(~self.real[x.shape[2:]][:, None], 0) if self.real else x

    def normalise(self, norm: nn.GroupNorm, inputs: tuple[Tensor], out: Tensor) -> Tensor:
        """What a group norm answers if mean and variance are those of real tokens."""
        if not self.real:
            return out
        x = inputs[0].to(out.dtype).unflatten(1, (norm.num_groups, -1))  # under autocast its answer is in float32
        real = self.real[x.shape[3:]][:, None, None]
        mean = over(x, real)
        x = (x - mean) / (over((x - mean).square(), real) + norm.eps).sqrt()
        return x.flatten(1, 2) * norm.weight[:, None, None] + norm.bias[:, None, None]

    def silence(self, convolution: nn.Module, inputs: tuple[Tensor], logits: Tensor) -> Tensor:
        """Logits of anchors, those in padding too low to matter."""
        return logits.masked_fill(~self.real[logits.shape[2:]][:, None], NEVER) if self.real else logits

    def extend(self, heads: nn.Module, inputs: tuple) -> tuple:
        """What regions of interest are cut from: in padding a map goes on as it ends, and by a token more.

        `roi_align` reads between the last token and the next, or repeats the last where the tensor ends; of boxes
        thinner than a token it reads a whole one.
        """
        levels, proposals, sizes, *targets = inputs
        extended = OrderedDict()
        for (name, x), stride in zip(levels.items(), self.strides, strict=True):
            right, below = x.shape[3] + 1, x.shape[2] + 1
            alone = [each[:, : -(-h // stride), : -(-w // stride)] for each, (h, w) in zip(x, sizes, strict=True)]
            extended[name] = torch.stack(
                [F.pad(each, (0, right - each.shape[2], 0, below - each.shape[1]), mode="replicate") for each in alone]
            )
        return extended, proposals, sizes, *targets


def over(x: Float[Tensor, "b g c h w"], real: Bool[Tensor, "b 1 1 h w"]) -> Float[Tensor, "b g 1 1 1"]:
    """The mean over channels and real tokens."""
    return (x * real).mean((2, 3, 4), keepdim=True) / real.to(x.dtype).mean((2, 3, 4), keepdim=True)


def detector(
    kind: Literal["retinanet", "fcos", "faster-rcnn", "mask-rcnn"],
    backbone: Backbone,
    classes: int,
    *,
    width: int = 256,
    **options: object,
) -> nn.Module:
    """A detector of torchvision on a backbone, with padding masked: images of any sizes in, losses or boxes out.

    retinanet, fcos: official with ``Backbone(model, out_indices=(1, 2, 3))``, strides 8 to 32; 64 and 128 are added.
    faster-rcnn, mask-rcnn: official with all four stages, strides 4 to 32; 64 is added.
    Anchors are as large as the official ones: 4 strides and its next two thirds of an octave, one stride, 8 strides.
    classes: of objects; their labels count from 1, as 0 is torchvision's background.
    width: channels of the pyramid and of dense heads.
    options: the detector's own, such as min_size and max_size (images are resized to 800 and at most 1333 pixels!),
    image_mean, image_std (those of ImageNet), score_thresh. Batches are padded to multiples of the coarsest stride:
    torchvision derives the strides of anchors from the batch's size, and at other sizes they would be wrong.

    In evaluation an image's detections do not depend on its batch mates, if the backbone has regions of a size in
    pixels. Raises ValueError for an unknown kind.
    """
    if kind not in KINDS:
        raise ValueError(f"kind must be one of {', '.join(KINDS)}, but is {kind!r}")
    from torchvision.models import detection
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    pyramid = TorchvisionPyramid(backbone, "pool" if kind.endswith("rcnn") else "p6p7", width)
    scales = {"retinanet": [4 * 2 ** (i / 3) for i in range(3)], "fcos": [1]}.get(kind, [8])
    ratios = (1.0,) if kind == "fcos" else (0.5, 1.0, 2.0)
    anchors = AnchorGenerator(
        tuple(tuple(scale * stride for scale in scales) for stride in pyramid.strides), (ratios,) * len(pyramid.strides)
    )
    options = {"size_divisible": pyramid.strides[-1]} | options
    if kind in ("retinanet", "fcos"):
        make = {"retinanet": detection.RetinaNet, "fcos": detection.FCOS}[kind]
        model = make(pyramid, classes + 1, anchor_generator=anchors, **options)
        pyramid.mask_padding(model.transform, model.head)
        return model
    options = {"rpn_anchor_generator": anchors, "rpn_score_thresh": 1e-9, "box_roi_pool": pool(backbone, 7)} | options
    if kind == "mask-rcnn":
        model = detection.MaskRCNN(pyramid, classes + 1, **{"mask_roi_pool": pool(backbone, 14)} | options)
    else:
        model = detection.FasterRCNN(pyramid, classes + 1, **options)
    pyramid.mask_padding(model.transform, model.rpn.head)
    model.roi_heads.register_forward_pre_hook(pyramid.extend)
    return model


def pool(backbone: Backbone, side: int) -> nn.Module:
    """A `MultiScaleRoIAlign` that is told the strides: it would guess them from sizes, wrongly for small images."""
    from torchvision.ops.poolers import MultiScaleRoIAlign, initLevelMapper

    names = [str(i) for i in range(len(backbone.reduction))]
    found = MultiScaleRoIAlign(names, output_size=side, sampling_ratio=2)
    found.scales = [1 / stride for stride in backbone.reduction]
    first, last = (backbone.reduction[i].bit_length() - 1 for i in (0, -1))
    found.map_levels = initLevelMapper(first, last)
    return found
