"""Data sets for training: the recall boards, Fashion-MNIST, folders of images, and data sets of a hub.

Each is a `DataSet`. `python -m bra.data` prepares folders of images.
"""

import os
from pathlib import Path

from bra.data.arrays import FASHION_CLASSES, Arrays, fashion_mnist, read_idx
from bra.data.base import WHOLE, Batch, DataSet, Shard, derive_seed, normalise, shuffled_batches
from bra.data.decoding import DamagedImage, check_whole, open_image
from bra.data.folder import ImageFolder
from bra.data.hub import HubImages
from bra.data.images import Images, ImageSettings
from bra.data.names import printable
from bra.data.recall import Recall, RecallBoards
from bra.data.recall_where import RecallBoxes, RecallPixels
from bra.data.workers import WorkersLost

__all__ = [
    "BOARDS",
    "FASHION_CLASSES",
    "WHOLE",
    "Arrays",
    "Batch",
    "DamagedImage",
    "DataSet",
    "HubImages",
    "ImageFolder",
    "ImageSettings",
    "Images",
    "RecallBoards",
    "Shard",
    "WorkersLost",
    "check_whole",
    "derive_seed",
    "fashion_mnist",
    "normalise",
    "open_data",
    "open_image",
    "printable",
    "read_idx",
    "shuffled_batches",
]


BOARDS = {"recall": RecallBoards, "recall-pixels": RecallPixels, "recall-boxes": RecallBoxes}


def open_data(name: str, recall: Recall, images: ImageSettings) -> DataSet:
    """The data set called `name`: recall, fashion-mnist:FOLDER, folder:FOLDER or hf:NAME.

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
    raise ValueError(f"data must be recall, fashion-mnist:FOLDER, folder:FOLDER or hf:NAME, but is {name!r}")
