"""Data sets of images that are decoded while training goes on, and what they have in common."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal

import torch
from torch.utils.data import DataLoader, default_collate

from bra.data.base import WHOLE, Batch, DataSet, derive_seed, held_out_batches, shuffled_batches
from bra.data.decoding import Box, DamagedImage, ImageFiles, Key, Sample, Source, centre_box, random_box
from bra.data.names import printable
from bra.data.workers import leave_signals_to_the_parent, read_on

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels: red, green, blue
AHEAD = 4  # batches that each worker prepares


@dataclass(frozen=True)
class ImageSettings:
    """How images are decoded and cut. Raises ValueError for values out of range."""

    size: int = 224
    """Side of the images, in pixels."""
    least_area: float = 1.0
    """Training: the smallest share of its area that a random crop keeps; 1: no random crop, the centre crop."""
    centre: float = 1.0
    """Share of the shorter side that the centre crop keeps; 0.875 is usual with ImageNet."""
    corrupt: Literal["fatal", "skip"] = "fatal"
    """Damaged images: stop at the first, or go on without them and list them."""
    workers: int = 2
    """Processes that decode; 0: the main process does."""

    def __post_init__(self):
        for name, lowest in {"size": 1, "workers": 0}.items():
            if getattr(self, name) < lowest:
                raise ValueError(f"{name} must be at least {lowest}, but is {getattr(self, name)}")
        for name in ("least_area", "centre"):
            if not 0 < getattr(self, name) <= 1:
                raise ValueError(f"{name} must be above 0 and at most 1, but is {getattr(self, name)}")
        if self.corrupt not in ("fatal", "skip"):
            raise ValueError(f"corrupt must be fatal or skip, but is {self.corrupt!r}")

    def choose(self, width: int, height: int, seed: int | None) -> Box:
        """What to cut of an image: at random in training, its middle without a seed."""
        if seed is None or self.least_area == 1:
            return centre_box(width, height, self.centre)
        return random_box(width, height, self.least_area, seed)


def collate(samples: list[Sample]) -> tuple[list, dict[str, str]]:
    """[pixels, labels] of the whole images, nothing if there is none, and what was wrong with the others, by name."""
    whole = [(sample.pixels, sample.label) for sample in samples if sample.pixels is not None]
    damage = {name: message for sample in samples for name, message in sample.damage.items()}
    return default_collate(whole) if whole else [], damage


class Images(DataSet):
    """Images that are decoded by worker processes.

    What each step shows, its crops too, depends on the seed and the step alone: not on workers, shards or how often
    the run was interrupted. Raises DamagedImage at a damaged image if `settings` says so; else, in training, the next
    whole image of the list takes its place, and a held-out one is left out; DamagedImage too if all are damaged.
    """

    channels = 3
    mean, std = MEAN, STD

    def __init__(
        self, train: Sequence[Source], held_out: Sequence[Source], classes: list[str], settings: ImageSettings
    ):
        self.sources, self.settings = {"train": train, "held-out": held_out}, settings
        self.classes = [printable(name) for name in classes]
        self.count, self.held_out_count = len(train), len(held_out)
        self.image_bytes = 3 * settings.size**2
        self.steps = 100 * max(1, self.count // 128)
        self.damaged = []

    def training(self, size, seed, start, shard=WHOLE):
        mine = shard.part(size)

        def keys() -> Iterator[list[Key]]:
            for step, index in enumerate(shuffled_batches(self.count, size, seed, start), start):
                epoch = step // (self.count // size)
                yield [Key(i, seed=derive_seed("crop", seed, epoch, i)) for i in index[mine].tolist()]

        yield from self.load("train", keys())

    def held_out(self, size, shard=WHOLE):
        indices = held_out_batches(self.held_out_count, size, shard)
        shown = False
        for batch in self.load("held-out", ([Key(i, seed=None) for i in index] for index in indices)):
            yield batch
            shown = True
        if not shown:
            self.require_whole("held-out")

    def require_whole(self, split: str) -> None:
        """Raise DamagedImage if every image of the split is damaged."""
        # asked for as in training, a damaged image is replaced by the next: `load` raises when there is none left
        as_in_training = Key(0, seed=0)
        next(self.load(split, iter([[as_in_training]])))

    def load(self, split: str, keys: Iterator[list[Key]]) -> Iterator[Batch]:
        """A batch for each list of keys, without what is damaged; none where that leaves nothing."""
        workers, skip = self.settings.workers, self.settings.corrupt == "skip"
        loader = DataLoader(
            ImageFiles(self.sources[split], self.settings.size, self.settings.choose, replace=skip),
            batch_sampler=keys,
            collate_fn=collate,
            num_workers=workers,
            prefetch_factor=AHEAD if workers else None,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=leave_signals_to_the_parent,
        )
        for batch, damage in read_on(loader):
            if damage and not skip:
                raise DamagedImage(next(iter(damage.values())))
            if len(damage) == len(self.sources[split]):
                raise DamagedImage(f"all {len(damage)} {split} images are damaged, the first: {min(damage.values())}")
            self.damaged += [name for name in damage if name not in self.damaged]
            if batch:
                yield Batch(*batch)
