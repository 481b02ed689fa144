"""What a network is asked, by the data: the class of an image, the class of every pixel, or boxes.

A task makes the network of a BiFormer, its loss, and the measure of what it says of held-out images.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from typing import ClassVar

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bra.biformer import BiFormer
from bra.data import DataSet
from bra.data.base import IGNORED
from bra.dense import Backbone, PixelHead, Segmenter, SemanticFPN
from bra.train.detection import DetectionNetwork, average_precision, ground_truth, require_detection

Sums = dict[str, list]  # of each measure, a number for each class or block, or a list of what was found in images
COMMON = 0.999  # of the cells' mass, what a network that marks nothing else must put into one


class Task(ABC):
    """score: which measure of held-out images says how good the weights are; more is better."""

    score: ClassVar[str]
    heads: ClassVar[tuple[str, ...]]  # the first is the usual one

    def __init__(self, data: DataSet):
        self.data = data

    @abstractmethod
    def network(self, model: BiFormer, head: str, backbone: dict) -> nn.Module:
        """What is trained, around the stages of `model`. backbone: the arguments of `Backbone`."""

    @abstractmethod
    def loss(self, forward: Callable, images: Tensor, targets: Tensor, batch) -> tuple[Tensor, dict[str, Tensor]]:
        """The loss on a batch, and what else is measured on it while training."""

    @abstractmethod
    def found(self, network: nn.Module, images: Tensor, batch) -> Sums:
        """What adds up, from batch to batch, to the measures of held-out images."""

    @abstractmethod
    def measures(self, sums: Sums, seen: int) -> dict:
        """The measures of `seen` held-out images, `score` among them."""
