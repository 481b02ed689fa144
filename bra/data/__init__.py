"""Data sets for training: the recall boards, Fashion-MNIST, folders of images, data sets of a hub, dense ones.

Each is a `DataSet`. Dense ones label pixels (masks, ADE20K) or objects (COCO). `python -m bra.data` prepares folders.
"""

import os
from pathlib import Path

from bra.data.arrays import FASHION_CLASSES, Arrays, fashion_mnist, read_idx
from bra.data.base import WHOLE, Batch, DataSet, Shard, derive_seed, normalise, shuffled_batches
from bra.data.coco import CocoObjects
from bra.data.decoding import DamagedImage, WrongLabel, check_whole, open_image
from bra.data.dense import IGNORED, DenseSettings, Objects, Pixels
from bra.data.folder import ImageFolder
from bra.data.hub import HubImages
from bra.data.images import Images, ImageSettings
from bra.data.masks import MaskImages, ade20k, own_masks
from bra.data.names import printable
from bra.data.recall import Recall, RecallBoards
from bra.data.recall_where import RecallBoxes, RecallPixels
from bra.data.workers import WorkersLost

__all__ = [
    "BOARDS",
    "FASHION_CLASSES",
    "IGNORED",
    "WHOLE",
    "Arrays",
    "Batch",
    "CocoObjects",
    "DamagedImage",
    "DataSet",
    "DenseSettings",
    "HubImages",
    "ImageFolder",
    "ImageSettings",
    "Images",
    "MaskImages",
    "Objects",
    "Pixels",
    "RecallBoards",
    "Shard",
    "WorkersLost",
    "WrongLabel",
    "ade20k",
    "check_whole",
    "derive_seed",
    "fashion_mnist",
    "normalise",
    "open_data",
    "open_image",
    "own_masks",
    "printable",
    "read_idx",
    "shuffled_batches",
]


BOARDS = {"recall": RecallBoards, "recall-pixels": RecallPixels, "recall-boxes": RecallBoxes}
LABELLED = {"masks": own_masks, "ade20k": ade20k, "coco": CocoObjects}
KINDS = f"{', '.join(BOARDS)}, fashion-mnist:FOLDER, folder:FOLDER, hf:NAME, masks:FOLDER, ade20k:FOLDER or coco:FOLDER"


def open_data(name: str, recall: Recall, images: ImageSettings, dense: DenseSettings | None = None) -> DataSet:
    """The data set called `name`, one of KINDS. dense: for those of pixels and objects; None: as they are by default.

    Raises ValueError for another name, and what the data sets raise.
    """
    kind, _, place = name.partition(":")
    place = os.path.expanduser(place)  # a shell leaves the ~ of folder:~/images as it is
    if name in BOARDS:
        return BOARDS[name](recall)
    if kind == "fashion-mnist" and place:
        return fashion_mnist(Path(place))
    if kind == "folder" and place:
        return ImageFolder(Path(place), images)
    if kind == "hf" and place:
        return HubImages(place, images)
    if kind in LABELLED and place:
        return LABELLED[kind](Path(place), dense or DenseSettings())
    raise ValueError(f"data must be {KINDS}, but is {name!r}")
