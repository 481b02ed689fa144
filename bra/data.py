"""Data sets for training: the recall boards, Fashion-MNIST, and folders of images.

Each is a `DataSet`: its training batches are a function of (seed, step) alone, so that a run which starts again
at step n sees what it would have seen.
"""

import gzip
import hashlib
import math
import zlib
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import ClassVar, NamedTuple

import numpy as np
import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor
from torch.utils.data import DataLoader

from bra.images import IMAGE_FORMATS, ImageFiles, check_whole
from bra.recall import SHAPES, Boards, Recall

FASHION_CLASSES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]
MOST_BYTES = 2**31  # in an IDX file: more than any such data set, less than a small machine's memory


class Batch(NamedTuple):
    """Images (b c h w), about -1 to 1, and their labels (b)."""

    image: Float[Tensor, "b c h w"]
    label: Int[Tensor, " b"]


class DataSet(ABC):
    """What `bra.train` needs of a data set."""

    classes: list[str]
    channels: int
    count: float  # training images; infinite where they are made
    steps: int  # a sensible length of training at batch 128

    @abstractmethod
    def training(self, size: int, seed: int, start: int) -> Iterator[NamedTuple]:
        """Endless batches of `size`, beginning with that of step `start`."""

    @abstractmethod
    def held_out(self, size: int) -> Iterator[NamedTuple]:
        """Every held-out image once, in batches of at most `size`."""


def derive_seed(*parts: int | str) -> int:
    """A seed for each purpose and step, so that no two streams of random numbers share one."""
    return int.from_bytes(hashlib.sha256(repr(parts).encode()).digest()[:7], "big")


def shuffled_batches(count: int, size: int, seed: int, start: int) -> Iterator[Int[Tensor, " size"]]:
    """Endless batches of indices: each epoch its own order, its last incomplete batch left out."""
    per_epoch = count // size
    epoch, skip = divmod(start, per_epoch)
    while True:
        order = torch.randperm(count, generator=torch.Generator().manual_seed(derive_seed("epoch", seed, epoch)))
        yield from order[: per_epoch * size].view(per_epoch, size)[skip:]
        epoch, skip = epoch + 1, 0


def normalise(pixels: UInt8[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
    """0..255 to -1..1."""
    return pixels / 127.5 - 1


@dataclass(frozen=True)
class RecallBoards(DataSet):
    """Fresh boards for every step; `held_out_count` others, the same for every run, are held out."""

    task: Recall
    held_out_count: int = 4096
    count: ClassVar = math.inf
    classes: ClassVar = list(SHAPES)
    channels: ClassVar = 3
    steps: ClassVar = 500

    def training(self, size, seed, start):
        while True:
            yield self.task.sample(size, derive_seed("recall", seed, start))
            start += 1

    def held_out(self, size):
        for first in range(0, self.held_out_count, 256):  # drawn in parts, so that memory stays small
            part = self.task.sample(min(256, self.held_out_count - first), derive_seed("recall held out", first))
            for batch in zip(*(value.split(size) for value in part), strict=True):
                yield Boards(*batch)


@dataclass
class Arrays(DataSet):
    """A data set that fits into memory: pixels (n c h w) of 0..255 and labels (n), for training and held out."""

    pixels: UInt8[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    held_out_pixels: UInt8[Tensor, "m c h w"]
    held_out_labels: Int[Tensor, " m"]
    classes: list[str]

    def __post_init__(self):
        self.channels, self.count = self.pixels.shape[1], len(self.labels)
        self.steps = 4 * max(1, self.count // 128)

    def training(self, size, seed, start):
        for index in shuffled_batches(len(self.labels), size, seed, start):
            yield Batch(normalise(self.pixels[index]), self.labels[index])

    def held_out(self, size):
        for pixels, labels in zip(self.held_out_pixels.split(size), self.held_out_labels.split(size), strict=True):
            yield Batch(normalise(pixels), labels)


def read_idx(path: Path, dimensions: int) -> UInt8[Tensor, "..."]:
    """The bytes of a gzipped IDX file, in the shape that its header says.

    Raises FileNotFoundError; ValueError for a file that is not gzip, not IDX of bytes with so many dimensions,
    or shorter or longer than its header says.
    """
    magic = bytes([0, 0, 8, dimensions])
    try:
        with gzip.open(path) as file:
            head = file.read(4 + 4 * dimensions)
            if head[:4] != magic or len(head) < 4 + 4 * dimensions:
                raise ValueError(
                    f"{path} must begin with the IDX magic {magic.hex()}, but begins with {head[:4].hex()}"
                )
            shape = np.frombuffer(head, ">u4", dimensions, offset=4).astype(np.int64)
            size = math.prod(shape.tolist())
            if not 0 < size < MOST_BYTES:
                raise ValueError(f"{path} must hold 1 to {MOST_BYTES} bytes, but its header says {shape.tolist()}")
            body = file.read(size + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise ValueError(f"{path} is not a whole gzip file: {error}") from error
    if len(body) != size:
        raise ValueError(
            f"{path} must hold {size} bytes as its header says, but holds {'more' if len(body) > size else len(body)}"
        )
    return torch.from_numpy(np.frombuffer(body, np.uint8).reshape(shape).copy())


def fashion_mnist(folder: Path) -> Arrays:
    """Fashion-MNIST (Xiao et al., 2017) from its four gzipped IDX files.

    Raises FileNotFoundError for a missing file, ValueError for a damaged one or labels that do not fit.
    """
    parts = []
    for split in ("train", "t10k"):
        pixels = read_idx(folder / f"{split}-images-idx3-ubyte.gz", 3)[:, None]
        labels = read_idx(folder / f"{split}-labels-idx1-ubyte.gz", 1).long()
        if len(pixels) != len(labels) or len(labels) == 0 or labels.max() >= len(FASHION_CLASSES):
            raise ValueError(f"{folder}: {split} must have a label of 0 to 9 for each of its {len(pixels)} images")
        parts += [pixels, labels]
    return Arrays(*parts, FASHION_CLASSES)


class ImageFolder(DataSet):
    """Images as FOLDER/train/CLASS/* and FOLDER/val/CLASS/*, scaled and cut to `size` x `size`.

    Raises FileNotFoundError if a folder is missing; ValueError if one is empty, if val has classes that train
    lacks, or if an image is cut short.
    """

    channels = 3

    def __init__(self, folder: Path, size: int, workers: int = 2):
        self.size, self.workers = size, workers
        self.train_files, self.val_files = {}, {}
        for split, files in (("train", self.train_files), ("val", self.val_files)):
            if not (folder / split).is_dir():
                raise FileNotFoundError(f"data folder {folder / split} does not exist")
            for sub in sorted(path for path in (folder / split).iterdir() if path.is_dir() and path.name[0] != "."):
                files[sub.name] = sorted(p for p in sub.iterdir() if p.suffix.lower() in IMAGE_FORMATS and p.is_file())
                if not files[sub.name]:
                    raise ValueError(f"data folder {sub} holds no image ({', '.join(IMAGE_FORMATS)})")
            if not files:
                raise ValueError(f"data folder {folder / split} holds no class folders")
        if unknown := sorted(self.val_files.keys() - self.train_files.keys()):
            raise ValueError(f"data folder {folder / 'val'} has classes that train lacks: {', '.join(unknown)}")
        for path in (
            path for files in (self.train_files, self.val_files) for paths in files.values() for path in paths
        ):
            check_whole(path)
        self.classes = list(self.train_files)
        self.count = sum(map(len, self.train_files.values()))
        self.steps = 100 * max(1, self.count // 128)

    def files(self, by_class: dict[str, list[Path]]) -> ImageFiles:
        """The images of a split, labelled with the index of their class in `classes`."""
        label = {name: i for i, name in enumerate(self.classes)}
        return ImageFiles([(path, label[name]) for name, paths in by_class.items() for path in paths], self.size)

    def training(self, size, seed, start):
        files = self.files(self.train_files)
        batches = (index.tolist() for index in shuffled_batches(len(files), size, seed, start))
        for pixels, labels in DataLoader(files, batch_sampler=batches, num_workers=self.workers):
            yield Batch(normalise(pixels), labels)

    def held_out(self, size):
        for pixels, labels in DataLoader(self.files(self.val_files), batch_size=size, num_workers=self.workers):
            yield Batch(normalise(pixels), labels)


def open_data(name: str, recall: Recall, image_size: int, workers: int) -> DataSet:
    """The data set called `name`: recall, fashion-mnist:FOLDER or folder:FOLDER.

    Raises ValueError for another name, and what the data sets raise.
    """
    kind, _, folder = name.partition(":")
    if name == "recall":
        return RecallBoards(recall)
    if kind == "fashion-mnist" and folder:
        return fashion_mnist(Path(folder))
    if kind == "folder" and folder:
        return ImageFolder(Path(folder), image_size, workers)
    raise ValueError(f"data must be recall, fashion-mnist:FOLDER or folder:FOLDER, but is {name!r}")
