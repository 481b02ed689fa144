"""What data sets have in common whose files worker processes read while training goes on."""

import os
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from typing import Any, NamedTuple

import torch
from torch.utils.data import DataLoader, Dataset

from bra.data.base import WHOLE, DataSet, derive_seed, held_out_batches, shuffled_batches
from bra.data.decoding import DamagedImage, Key, WrongLabel
from bra.data.names import printable
from bra.data.workers import leave_signals_to_the_parent, read_on

MEAN, STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)  # of ImageNet's pixels: red, green, blue
AHEAD = 4  # batches that each worker prepares


def first_whole(read: Callable, sources: Sequence, key: Key, replace: bool) -> tuple[Any | None, dict[str, ValueError]]:
    """read(source, seed) of the key's source, and what was wrong with those that were tried before it, by name.

    If `replace` is set and it is damaged and not held out, the next whole one of the list; None if there is none.
    Nothing is raised: of an error that a worker process raises, PyTorch makes a ring of references, and until that is
    found and the processes have understood that they shall end, 20 seconds are lost.
    """
    index, seed = key
    damage = {}
    for i in range(index, index + (len(sources) if replace and seed is not None else 1)):
        source = sources[i % len(sources)]
        try:
            return read(source, seed), damage
        except (DamagedImage, WrongLabel) as error:
            damage[source.name] = error
    return None, damage


class Loaded(DataSet):
    """Photographs that worker processes read, so many as `settings` say.

    What each step shows, its crops too, depends on the seed and the step alone: not on workers, shards or how often
    the run was interrupted. Raises DamagedImage at a damaged image if `settings` says so; else, in training, the next
    whole image of the list takes its place, and a held-out one is left out; DamagedImage too if all are damaged.
    Raises WrongLabel at a label that does not fit its image.
    """

    channels = 3
    mean, std = MEAN, STD
    batch: type[NamedTuple]  # what a batch is
    collate: Callable[
        [list], tuple[Sequence, dict[str, ValueError]]
    ]  # the parts of a batch, and what was wrong, by name

    def __init__(self, train: Sequence, held_out: Sequence, classes: list[str], settings):
        self.sources, self.settings = {"train": train, "held-out": held_out}, settings
        self.classes = [printable(name) for name in classes]
        self.count, self.held_out_count = len(train), len(held_out)
        self.damaged = []

    @abstractmethod
    def samples(self, split: str, replace: bool) -> Dataset:
        """What is read for each `Key`; `replace`: the next whole image for a damaged one, unless it is held out."""

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

    def load(self, split: str, keys: Iterator[list[Key]]) -> Iterator[NamedTuple]:
        """A batch for each list of keys, without what is damaged; none where that leaves nothing."""
        workers, skip = self.settings.workers, self.settings.corrupt == "skip"
        loader = DataLoader(
            self.samples(split, replace=skip),
            batch_sampler=keys,
            collate_fn=self.collate,
            num_workers=min(workers, os.cpu_count() or 1),
            prefetch_factor=AHEAD if workers else None,
            pin_memory=torch.cuda.is_available(),
            worker_init_fn=leave_signals_to_the_parent,
        )
        for parts, damage in read_on(loader):
            for error in damage.values():
                if not skip or isinstance(error, WrongLabel):
                    raise type(error)(str(error))
            if len(damage) == len(self.sources[split]):
                first = min(map(str, damage.values()))
                raise DamagedImage(f"all {len(damage)} {split} images are damaged, the first: {first}")
            self.damaged += [name for name in damage if name not in self.damaged]
            if parts:
                yield self.batch(*parts)
