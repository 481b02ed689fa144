"""What a data set is: batches for training that are a function of (seed, step) alone, and images held out.

A run that starts again at step n therefore sees what it would have seen. Several processes share a batch: each
takes its `Shard`, and together they hold what one process alone would.
"""

import hashlib
import math
import os
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Literal, NamedTuple

import torch
from jaxtyping import Float, Int, Shaped
from torch import Tensor

IGNORED = 255  # the class of a pixel without a label


class Shard(NamedTuple):
    """Which part of every batch one process takes: that of process `rank`, from 0, of `world_size` processes."""

    rank: int = 0
    world_size: int = 1

    def part(self, size: int) -> slice:
        """Its entries, next to each other, in a batch of `size`. Raises ValueError if not all shards are alike."""
        if size % self.world_size:
            raise ValueError(f"size must be a multiple of the number of shards, {self.world_size}, but is {size}")
        each = size // self.world_size
        return slice(self.rank * each, (self.rank + 1) * each)


WHOLE = Shard()


class Batch(NamedTuple):
    """Images (b c h w), bytes 0..255 or floats that are normalised already, and their labels (b)."""

    image: Shaped[Tensor, "b c h w"]
    label: Int[Tensor, " b"]


def machine_memory() -> float:
    """Bytes of this machine's memory; infinite where the system does not say."""
    try:
        return float(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"))
    except (AttributeError, OSError, ValueError):  # Windows has no sysconf
        return math.inf


class DataSet(ABC):
    """What `bra.train` needs of a data set."""

    asks: Literal["classes", "pixels", "boxes"] = "classes"  # of each image its class, of each pixel, or for boxes
    scored: tuple[int, ...] | None = None  # of pixels, the classes whose mean IoU is the score; None: all
    classes: list[str]
    channels: int
    count: float  # training images; infinite where they are made
    held_out_count: int
    steps: int  # a sensible length of training at batch 128; where pixels or objects are labelled, at batch 16
    mean: tuple[float, ...] = (0.5,)  # of the pixels, 0..1: one for all channels, or one a channel
    std: tuple[float, ...] = (0.5,)
    damaged: list[str]  # the images that were skipped so far, each once
    image_bytes: int = 0  # that an image of a batch takes
    at_once: int = 1  # images that are made together, however small the batch
    one_by_one: bool = False  # whether held-out images are judged alone: beside others of other sizes they are padded
    asker: str = ""  # in words, what lies in the region that asks, where it is known which one should be read

    @property
    def question(self) -> str:
        """What is asked of every image, in a sentence. Data that ask something else say so."""
        count = f"{len(self.classes)} class{'es' * (len(self.classes) != 1)}"
        return {
            "classes": f"Which of {count} does the image show?",
            "pixels": f"Which of {count} does each pixel belong to?",
            "boxes": f"Where are the objects of {count}?",
        }[self.asks]

    @abstractmethod
    def training(self, size: int, seed: int, start: int, shard: Shard = WHOLE) -> Iterator[NamedTuple]:
        """Endless batches, `size` images over all shards together, beginning with that of step `start`."""

    @abstractmethod
    def held_out(self, size: int, shard: Shard = WHOLE) -> Iterator[NamedTuple]:
        """Every held-out image once over all shards together, in batches of at most `size`."""

    def require_batch(self, size: int, parts: int = 1) -> None:
        """Raise ValueError unless training can take batches of `size`, each in so many parts (processes x accumulate).

        A part needs two images, for batch norm and mixing. So data of too few images have no batch at all, and are
        told first: advice about the batch would be in vain.
        """
        if self.count < 2 * parts:
            parted = f" for batches in {parts} parts (processes x accumulate)" if parts > 1 else ""
            raise ValueError(f"data must hold at least {2 * parts} training images{parted}, but holds {self.count}")
        if size % parts or size < 2 * parts:
            raise ValueError(
                f"batch must be a multiple of processes x accumulate, {parts}, at least twice, but is {size}"
            )
        if size > self.count:
            raise ValueError(f"batch must be at most the number of training images, {self.count}, but is {size}")
        count, memory = max(size, self.at_once), machine_memory()
        if (needed := count * self.image_bytes) > memory:
            advice = "give smaller images (--image-size, --recall.cells)"
            if self.at_once * self.image_bytes <= memory:
                advice += " or a smaller --batch"
            raise ValueError(
                f"batch must fit into this machine's memory, {memory / 1e9:,.1f} GB, but {count} images at once take "
                f"{needed / 1e9:,.1f} GB: {advice}"
            )


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


def held_out_batches(count: int, size: int, shard: Shard) -> Iterator[range]:
    """The indices of each batch of at most `size`: of three shards, each takes every third image."""
    mine = range(shard.rank, count, shard.world_size)
    for first in range(0, len(mine), size):
        yield mine[first : first + size]


def normalise(
    pixels: Shaped[Tensor, "b c h w"], mean: tuple[float, ...] = (0.5,), std: tuple[float, ...] = (0.5,)
) -> Float[Tensor, "b c h w"]:
    """Bytes 0..255 as (p / 255 - mean) / std, which is -1..1 for a mean and std of 0.5; floats stay as they are."""
    if pixels.is_floating_point():
        return pixels
    # as tensors: instead of dividing by a plain number, a GPU multiplies by its inverse, which is rounded
    scale, shift = (
        torch.tensor(values, device=pixels.device).view(-1, 1, 1)
        for values in ([255 * s for s in std], [m / s for m, s in zip(mean, std, strict=True)])
    )
    return pixels / scale - shift
