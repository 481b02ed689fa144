"""A detector in which every token speaks for itself, for boards on which only routing may carry news."""

from collections import OrderedDict
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bra.dense.backbone import Backbone


class OneLevel(nn.Module):
    """A backbone of one map, as torchvision's detectors want it, no pyramid above."""

    def __init__(self, backbone: Backbone):
        super().__init__()
        self.backbone, self.out_channels = backbone, backbone.channels[0]  # torchvision's name

    def forward(self, images: Float[Tensor, "b c h w"]) -> "OrderedDict[str, Tensor]":
        """The map, called "0"."""
        return OrderedDict([("0", self.backbone(images)[0])])


def token_detector(backbone: Backbone, classes: int, **options: Any) -> nn.Module:
    """Torchvision's FCOS (Tian et al., 2019) on one map, its head without reach.

    FCOS's own head has 3 x 3 convolutions and group norms, which carry news past every router. Here each branch is one
    1 x 1 convolution before the last one, and starts as PyTorch starts convolutions: from the usual bias, which says 1%
    of every token, boards were not learnt in 300 steps. classes: of objects, whose labels count from 1. options: those
    of `torchvision.models.detection.FCOS`, such as min_size and max_size, to which images are scaled.
    """
    from torchvision.models.detection import FCOS
    from torchvision.models.detection.anchor_utils import AnchorGenerator
    from torchvision.models.detection.fcos import FCOSHead

    level, stride = OneLevel(backbone), backbone.reduction[0]
    width, head = level.out_channels, FCOSHead(level.out_channels, 1, classes + 1, num_convs=0)
    kinds, boxes = head.classification_head, head.regression_head
    for branch in (kinds, boxes):
        branch.conv = nn.Sequential(nn.Conv2d(width, width, 1), nn.ReLU())
    kinds.cls_logits = nn.Conv2d(width, classes + 1, 1)
    boxes.bbox_reg, boxes.bbox_ctrness = nn.Conv2d(width, 4, 1), nn.Conv2d(width, 1, 1)
    anchors = AnchorGenerator(((stride,),), ((1.0,),))
    # of each token its own pixels: by default an anchor lies around the corner of its token
    anchors.cell_anchors = [torch.tensor([[0.0, 0.0, stride, stride]])]
    options = {"size_divisible": stride} | options  # by default to 32: a board of 5 cells would get other regions
    return FCOS(level, classes + 1, anchor_generator=anchors, head=head, **options)
