"""What a network is asked, by the data: the class of an image, the class of every pixel, or boxes.

A task makes the network around a BiFormer, has its loss, and measures what it says of held-out images.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar, Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from bra.biformer import BiFormer
from bra.data import DataSet
from bra.data.base import IGNORED
from bra.data.recall import CELL
from bra.dense import Backbone, PixelHead, Segmenter, SemanticFPN, detector
from bra.dense.adapters import KINDS
from bra.dense.backbone import BATCH_NORMS
from bra.dense.token_boxes import token_detector
from bra.dense.upernet import UperNet
from bra.train.detection import INSTALL, DetectionNetwork, average_precision, findings, require_detection

Measured = dict[str, Tensor]


HEADS = {
    "classes": ("classifier",),
    "pixels": ("semantic-fpn", "upernet", "pixel"),
    "boxes": (*KINDS, "token"),
}  # what can stand on the stages: the first suits photographs; the last of each reads its own token alone, for boards


@dataclass(frozen=True)
class Dense:
    """What stands on the stages, where pixels or boxes are asked for.

    head: for pixels semantic-fpn, upernet or pixel; for boxes retinanet, fcos, faster-rcnn, mask-rcnn or token; None:
    pixel and token for boards, which read nothing but their own token, else semantic-fpn and retinanet.
    region: side of a region in pixels; the grid then follows the image. None: the model's grid, whatever the image.
    batch_norm: of the stages: train, or frozen, for few images a GPU.
    """

    head: Literal[(*HEADS["pixels"], *HEADS["boxes"])] | None = None
    region: int | None = None
    batch_norm: Literal[BATCH_NORMS] = "train"


class Task(ABC):
    """score: the measure of held-out images that says how good the weights are; more is better."""

    score: ClassVar[str]

    def __init__(self, data: DataSet):
        self.data = data

    @abstractmethod
    def network(self, model: BiFormer, head: str, size: int, **options) -> nn.Module:
        """What is trained: a head on the stages of `model`. size: of images, in pixels; options: of `Backbone`."""

    @abstractmethod
    def loss(self, forward: Callable, images: Tensor, targets: Tensor, batch) -> tuple[Tensor, Measured]:
        """The loss on a batch, and what else is measured on it while training."""

    @abstractmethod
    def found(self, network: nn.Module, images: Float[Tensor, "b c h w"], batch) -> dict[str, list]:
        """What is found on a batch of held-out images. Over all of them numbers are added up, other things joined."""

    @abstractmethod
    def measures(self, sums: dict[str, list], seen: int) -> dict:
        """The measures of all held-out images, `score` among them, from what was found on `seen` of them."""


class Classes(Task):
    """The class of each image."""

    score = "accuracy"

    def network(self, model, head, size, **options):
        return model

    def loss(self, forward, images, targets, batch):
        """Cross-entropy. With targets that are mixed, accuracy is against the larger share."""
        logits = forward(images.contiguous(memory_format=torch.channels_last))
        truth = targets.argmax(dim=1) if targets.is_floating_point() else targets
        right = (logits.argmax(dim=1) == truth).float().mean()
        return F.cross_entropy(logits.float(), targets), {"accuracy": right}

    def found(self, network, images, batch):
        return {"accuracy": [(network(images).argmax(dim=1) == batch.label).sum().item()]}

    def measures(self, sums, seen):
        return {"accuracy": sums["accuracy"][0] / seen}


class Pixels(Task):
    """The class of each pixel. Score: intersection over union (IoU), its mean over the classes that occur."""

    score = "iou"

    def network(self, model, head, size, **options):
        backbone = Backbone(model, **options)
        make = {"semantic-fpn": SemanticFPN, "upernet": UperNet, "pixel": PixelHead}[head]
        try:
            return Segmenter(backbone, make(backbone.channels, backbone.reduction, len(self.data.classes)))
        except ImportError as error:
            raise ValueError(f"transformers must be installed for dense.head {head}: {INSTALL}") from error

    def loss(self, forward, images, targets, batch):
        """Cross-entropy, the mean over the labelled pixels of a part of a step; the parts count alike."""
        logits = forward(images.contiguous(memory_format=torch.channels_last))
        # a batch without any labelled pixel has the loss 0, and gradient 0, not 0 / 0
        total = F.cross_entropy(logits.float(), targets, ignore_index=IGNORED, reduction="sum")
        crossed = confusion(logits.argmax(dim=1), targets, logits.shape[1])
        return total / (targets != IGNORED).sum().clamp(min=1), {"iou": self.mean_iou(crossed)}

    def found(self, network, images, batch):
        logits = network(images)
        shape = batch.label.shape[1:]
        if logits.shape[2:] != shape:  # scored at the size at which it was labelled
            logits = F.interpolate(logits, shape, mode="bilinear", align_corners=False)
        found = {"confusion": confusion(logits.argmax(dim=1), batch.label, logits.shape[1]).flatten().tolist()}
        if "square" in batch._fields:
            found["right_cell"] = [right_cells(logits, batch).sum().item()]
        return found

    def measures(self, sums, seen):
        crossed = torch.tensor(sums["confusion"]).view(len(self.data.classes), -1)
        found = {"iou": self.mean_iou(crossed).item(), "ious": iou(crossed).nan_to_num(-1).tolist()}
        found["pixel_accuracy"] = (crossed.trace() / crossed.sum().clamp(min=1)).item()
        return found | ({"right_cell": sums["right_cell"][0] / seen} if "right_cell" in sums else {})

    def mean_iou(self, crossed: Tensor) -> Float[Tensor, ""]:
        """The mean IoU of those classes that count; 0 if none of them occurs."""
        return iou(crossed)[list(self.data.scored or range(len(crossed)))].nanmean().nan_to_num(0)


class Boxes(Task):
    """The objects of each image, their boxes. Score: COCO's average precision."""

    score = "ap"

    def __init__(self, data: DataSet):
        require_detection()
        super().__init__(data)

    def network(self, model, head, size, **options):
        """Images are scaled to `size`, their shorter side, and at most 5 / 3 of it, their longer one; 800 and 1333."""
        # these begin at stride 8, but for a model of one stage
        first = min(1, len(model.config.stages) - 1) if head in ("retinanet", "fcos") else 0
        stages = range(first, len(model.config.stages))
        options["out_indices"] = (0,) if head == "token" else stages
        # batches are normalised already
        detection = {"min_size": size, "max_size": size * 5 // 3, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
        if head in ("fcos", "token"):
            detection["score_thresh"] = 0.05  # as the others have it: average precision counts the unsure ones too
        backbone, classes = Backbone(model, **options), len(self.data.classes)
        made = token_detector(backbone, classes, **detection) if head == "token" else None
        return DetectionNetwork(made or detector(head, backbone, classes, **detection))

    def loss(self, forward, images, targets, batch):
        """The sum of the detector's losses."""
        losses = forward(images, batch)
        return sum(losses.values()), {name: value.detach() for name, value in losses.items()}

    def found(self, network, images, batch):
        return {"images": findings(network(images, batch), batch)}

    def measures(self, sums, seen):
        return average_precision(sums["images"], self.data.classes)


TASKS = {"classes": Classes, "pixels": Pixels, "boxes": Boxes}
SCORES = {asks: task.score for asks, task in TASKS.items()}


def confusion(
    said: Int[Tensor, "*shape"], truth: Int[Tensor, "*shape"], classes: int
) -> Int[Tensor, "classes classes"]:
    """How many labelled pixels of each class (row) are said to be of each class (column)."""
    labelled = truth != IGNORED
    pairs = truth[labelled] * classes + said[labelled]
    return pairs.bincount(minlength=classes**2).view(classes, classes)


def iou(crossed: Int[Tensor, "classes classes"]) -> Float[Tensor, " classes"]:
    """Intersection over union of each class: n_cc / (n_c. + n_.c - n_cc); NaN for a class that is nowhere."""
    both = crossed.diagonal().double()
    return both / (crossed.sum(dim=0) + crossed.sum(dim=1) - both)


def right_cells(logits: Float[Tensor, "b 2 h w"], boards) -> Tensor:
    """For each board whether the asked glyph's cell has the most of the mark's probability, however little that is."""
    cells = boards.image.shape[-1] // CELL
    mass = F.adaptive_avg_pool2d(logits.softmax(dim=1)[:, 1:], cells).flatten(1)
    return mass.argmax(dim=1) == boards.target
