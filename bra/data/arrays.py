"""Data sets that fit into memory, and Fashion-MNIST from its files."""

import gzip
import math
import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import Int, UInt8
from torch import Tensor

from bra.data.base import WHOLE, Batch, DataSet, held_out_batches, shuffled_batches

FASHION_CLASSES = ["t-shirt", "trouser", "pullover", "dress", "coat", "sandal", "shirt", "sneaker", "bag", "boot"]
BORDER = 2  # pixels around Fashion-MNIST: 28 x 28 become 32 x 32
MOST_BYTES = 2**31  # that an IDX file may claim: more than any such data set has, and any machine can hold


@dataclass
class Arrays(DataSet):
    """A data set that fits into memory: pixels (n c h w) of 0..255 and labels (n), for training and held out."""

    pixels: UInt8[Tensor, "n c h w"]
    labels: Int[Tensor, " n"]
    held_out_pixels: UInt8[Tensor, "m c h w"]
    held_out_labels: Int[Tensor, " m"]
    classes: list[str]

    def __post_init__(self):
        self.channels, self.count, self.damaged = self.pixels.shape[1], len(self.labels), []
        self.held_out_count, self.image_bytes = len(self.held_out_labels), self.pixels[:1].nbytes
        self.steps = 4 * max(1, self.count // 128)

    def training(self, size, seed, start, shard=WHOLE):
        mine = shard.part(size)
        for index in shuffled_batches(len(self.labels), size, seed, start):
            yield Batch(self.pixels[index[mine]], self.labels[index[mine]])

    def held_out(self, size, shard=WHOLE):
        for index in map(list, held_out_batches(self.held_out_count, size, shard)):
            yield Batch(self.held_out_pixels[index], self.held_out_labels[index])


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
    """Fashion-MNIST (Xiao et al., 2017) from its four gzipped IDX files, with a border of 2 black pixels all around.

    28 x 28 pixels would be 7 x 7 tokens, and a grid of 4 x 4 regions would leave 7 regions partly empty. 32 x 32 give
    every region as many tokens.

    Raises FileNotFoundError for a missing file, ValueError for a damaged one or labels that do not fit.
    """
    parts = []
    for split in ("train", "t10k"):
        pixels = read_idx(folder / f"{split}-images-idx3-ubyte.gz", 3)[:, None]
        labels = read_idx(folder / f"{split}-labels-idx1-ubyte.gz", 1).long()
        if len(pixels) != len(labels) or len(labels) == 0 or labels.max() >= len(FASHION_CLASSES):
            raise ValueError(f"{folder}: {split} must have a label of 0 to 9 for each of its {len(pixels)} images")
        parts += [F.pad(pixels, (BORDER,) * 4), labels]
    return Arrays(*parts, FASHION_CLASSES)
