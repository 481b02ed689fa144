"""Data with an answer for every pixel or every object: what their batches are, and how an image is cut with its labels.

The crops are those of mmsegmentation's configurations for ADE20K, of which the official BiFormer uses one.
"""

import random
from abc import abstractmethod
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, NamedTuple

import numpy as np
import torch
from jaxtyping import Bool, Float, Int, Integer, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset
from tqdm.auto import tqdm

from bra.data.base import IGNORED
from bra.data.decoding import Box, DamagedImage, Key, Side, upright_size
from bra.data.loading import MEAN, first_whole
from bra.data.names import printable

LONGEST = 4  # the longer side is scaled to at most so many times what the shorter one is meant to have
LARGEST_SHARE, TRIES = 0.75, 10  # of one class in a crop; another crop is tried so often
FILLING = torch.tensor([round(255 * mean) for mean in MEAN], dtype=torch.uint8)  # colour beside an image: 0 in the end


class Pixels(NamedTuple):
    """Images with the class of each of their pixels, IGNORED where none is given.

    Training: square crops, image and label alike. Held out: one image, scaled; its label as large as it was annotated.
    """

    image: UInt8[Tensor, "b 3 h w"]
    label: Int[Tensor, "b y x"]


class Objects(NamedTuple):
    """Images as large as they are, with zeros at their right and bottom where another of the batch is larger.

    Of the lists of objects, the shorter ones end with entries whose label is 0. A box goes from its first column and
    row to those behind its last ones.
    """

    image: UInt8[Tensor, "b 3 h w"]
    size: Int[Tensor, "b 2"]  # height and width without the zeros
    label: Int[Tensor, "b n"]  # category, 1 to the number of classes; 0: no object
    boxes: Float[Tensor, "b n 4"]  # left, top, right, bottom, in pixels of the image
    masks: Bool[Tensor, "b n y x"]  # as large as the image; 0 x 0 unless the settings ask for masks
    crowd: Bool[Tensor, "b n"]  # COCO's iscrowd: many objects in one, never in training
    area: Float[Tensor, "b n"]  # COCO's, in pixels


@dataclass(frozen=True)
class DenseSettings:
    """How images with labels for pixels or objects are read. Raises ValueError for values out of range."""

    size: int = 512
    """Classes of pixels: side of a training crop, and shorter side of a held-out image, in pixels."""
    scales: tuple[float, float] = (0.5, 2.0)
    """Classes of pixels, training: the shorter side is scaled to `size` times a random number between these."""
    flip: bool = True
    """Training: mirror every second image, left for right."""
    masks: bool = False
    """Objects: read the mask of each, too."""
    workers: int = 2
    """Processes that decode; 0: the main process does."""
    corrupt: Literal["fatal", "skip"] = "fatal"
    """Damaged images: stop at the first, or go on without them and list them."""

    def __post_init__(self):
        for name, lowest in {"size": 1, "workers": 0}.items():
            if getattr(self, name) < lowest:
                raise ValueError(f"{name} must be at least {lowest}, but is {getattr(self, name)}")
        least, most = self.scales
        if not 0 < least <= most < float("inf"):
            raise ValueError(f"scales must be two numbers above 0, the smaller first, but is {self.scales}")
        if self.corrupt not in ("fatal", "skip"):
            raise ValueError(f"corrupt must be fatal or skip, but is {self.corrupt!r}")


class Crop(NamedTuple):
    """A part of a scaled image: size of the whole, then first column and row, and size, of the part."""

    width: int
    height: int
    left: int
    top: int
    columns: int
    rows: int

    def box(self, width: int, height: int) -> Box:
        """The part in the image of width x height that is to be scaled."""
        across, down = width / self.width, height / self.height
        right, bottom = self.left + self.columns, self.top + self.rows
        return self.left * across, self.top * down, right * across, bottom * down

    def of(self, label: Integer[np.ndarray, "y x"]) -> Integer[np.ndarray, "rows columns"]:
        """The part of a label: at the middle of each pixel, the one that lies there before scaling."""
        height, width = label.shape
        rows = (2 * np.arange(self.top, self.top + self.rows) + 1) * height // (2 * self.height)
        columns = (2 * np.arange(self.left, self.left + self.columns) + 1) * width // (2 * self.width)
        return label[rows[:, None], columns]


def scaled_size(width: int, height: int, shorter: Side) -> tuple[int, int]:
    """Width and height with the shorter side scaled to `shorter`; less if the other would pass LONGEST times that."""
    scale = min(shorter / min(width, height), LONGEST * shorter / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def random_crop(label: Integer[np.ndarray, "y x"], settings: DenseSettings, seed: int) -> tuple[Crop, bool]:
    """Where to cut an image at random, and whether to mirror it then.

    The crop is a square of `settings.size`, less where the scaled image ends. It is drawn again while more than
    LARGEST_SHARE of its labelled pixels are of one class, TRIES times in all.
    """
    draw, size = random.Random(seed), settings.size
    width, height = scaled_size(*label.shape[::-1], size * draw.uniform(*settings.scales))
    mirror = draw.random() < 0.5 and settings.flip
    columns, rows = min(size, width), min(size, height)
    for _ in range(TRIES):
        crop = Crop(width, height, draw.randint(0, width - columns), draw.randint(0, height - rows), columns, rows)
        shares = np.bincount(crop.of(label).ravel(), minlength=IGNORED + 1)[:IGNORED]
        if 0 < shares.max() <= LARGEST_SHARE * shares.sum():
            break
    return crop, mirror


def fill_up(
    image: UInt8[Tensor, "3 h w"], label: Int[Tensor, "h w"], size: int
) -> tuple[UInt8[Tensor, "3 size size"], Int[Tensor, "size size"]]:
    """Both with enough at the right and the bottom to be squares: ImageNet's mean colour, and no label."""
    rows, columns = label.shape
    square = FILLING[:, None, None].repeat(1, size, size)
    square[:, :rows, :columns] = image
    labels = torch.full((size, size), IGNORED)
    labels[:rows, :columns] = label
    return square, labels


class DenseFiles(Dataset):
    """Images and their labels, read when asked for: what `first_whole` returns of `read` for each `Key`."""

    def __init__(self, sources: Sequence, settings: DenseSettings, replace: bool):
        self.sources, self.settings, self.replace = sources, settings, replace

    def __getitem__(self, key: Key) -> tuple[tuple | None, dict[str, ValueError]]:
        return first_whole(self.read, self.sources, key, self.replace)

    @abstractmethod
    def read(self, source: tuple, seed: int | None) -> tuple[Tensor, ...]:
        """Image and labels; with a seed, for training. Raises DamagedImage; WrongLabel."""


def whole_ones(samples: list) -> tuple[list[tuple], dict[str, ValueError]]:
    """What was read, and what was wrong with the others, by name."""
    damage = {name: error for _, wrong in samples for name, error in wrong.items()}
    return [found for found, _ in samples if found is not None], damage


def upright_sizes(image: Image.Image) -> set[tuple[int, int]]:
    """Width and height that it may have when it is upright: a PNG's, which only its pixels would tell, both ways."""
    return {image.size, image.size[::-1]} if image.format == "PNG" else {upright_size(image)}


def in_words(sizes: set[tuple[int, int]]) -> str:
    """Sizes (width, height), such as 61 x 47 or 47 x 61."""
    return " or ".join(f"{width} x {height}" for width, height in sorted(sizes, reverse=True))


def keep_whole(sources: dict[str, list], check: Callable, settings: DenseSettings) -> tuple[dict[str, list], list[str]]:
    """The sources, by split, that `check` finds no damage in, and the names of the others.

    Raises DamagedImage at the first that is damaged, if `settings` say so, or if all of a split are; and what `check`
    raises.
    """
    kept, damage = {split: [] for split in sources}, {split: {} for split in sources}
    for split, source in every(sources):
        try:
            check(source)
            kept[split].append(source)
        except DamagedImage as error:
            if settings.corrupt == "fatal":
                raise
            damage[split][source.name] = str(error)
    if emptied := [split for split in sources if not kept[split]]:
        first = next(iter(damage[emptied[0]].values()))
        raise DamagedImage(f"all {emptied[0]} images are damaged, the first: {first}")
    return kept, [name for found in damage.values() for name in found]


def every(sources: dict[str, list]) -> Iterator[tuple[str, NamedTuple]]:
    """Split and source, one after the other, under a progress bar if it takes long."""
    both = [(split, source) for split, these in sources.items() for source in these]
    yield from tqdm(both, desc=f"checking {printable(both[0][1].content.parent)}", delay=2, leave=False)
