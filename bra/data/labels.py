"""Images with a mask each, whose bytes stand for classes: read, and cut alike."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int, Integer, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset, default_collate

from bra.data.decoding import check_whole, cut_to, first_whole, naming_damage, open_image, upright_size
from bra.data.dense import Crop, DenseSettings, fill_up, in_words, random_crop, scaled_size, upright_sizes
from bra.data.names import printable

UNKNOWN = -1  # for a byte that stands for no class


class Pair(NamedTuple):
    """An image's file, what to call it, and the file of its mask."""

    content: Path
    name: str
    mask: Path


class Coding(NamedTuple):
    """What the bytes of masks mean: the class of each, IGNORED or UNKNOWN; and in words what is allowed."""

    classes: Integer[np.ndarray, "256"]
    allowed: str

    def decode(self, path: Path) -> UInt8[np.ndarray, "y x"]:
        """The class of each pixel of a mask. Raises DamagedImage; ValueError for bytes that stand for no class."""
        pixels = read_mask(path)
        label = self.classes[pixels]
        if (label == UNKNOWN).any():
            raise ValueError(f"{printable(path)} must hold {self.allowed}, but holds {pixels[label == UNKNOWN][0]}")
        return label.astype(np.uint8)


def require_bytes(path: Path, mask: Image.Image) -> None:
    """Raise ValueError unless the mask has one channel of bytes, grey ones or numbers of a palette."""
    if mask.mode not in ("L", "P"):
        raise ValueError(
            f"{printable(path)} must be a mask of one byte a pixel, grey or with a palette, but its mode is {mask.mode}"
        )


def require_size(pair: Pair, size: tuple[int, int], sizes: set[tuple[int, int]]) -> None:
    """Raise ValueError unless the mask's (width, height) is one that its image may have when it is upright."""
    if size not in sizes:
        fitting = f"as large as its image upright, {in_words(sizes)}"
        raise ValueError(f"{printable(pair.mask)} must be {fitting}, but is {in_words({size})}")


def read_mask(path: Path) -> UInt8[np.ndarray, "y x"]:
    """The bytes of a mask. Raises DamagedImage; ValueError if it has other pixels than `require_bytes` allows."""
    with naming_damage(str(path)), Image.open(path, formats=["PNG"]) as mask:
        mask.load()
    require_bytes(path, mask)
    return np.array(mask)


def check_pair(pair: Pair) -> None:
    """Look at the ends and headers of both files. Raises DamagedImage; ValueError for a mask that does not fit."""
    check_whole(pair.content)
    check_whole(pair.mask)
    with open_image(pair.content, pair.name) as image:
        sizes = upright_sizes(image)
    with naming_damage(str(pair.mask)), Image.open(pair.mask, formats=["PNG"]) as mask:
        pass
    require_bytes(pair.mask, mask)
    require_size(pair, mask.size, sizes)


class PixelFiles(Dataset):
    """Images and labels, read when asked for: what `first_whole` returns of `read` for each `Key`."""

    def __init__(self, sources: list[Pair], coding: Coding, settings: DenseSettings, replace: bool):
        self.sources, self.coding, self.settings, self.replace = sources, coding, settings, replace

    def __getitem__(self, key):
        return first_whole(self.read, self.sources, key, self.replace)

    def read(self, pair: Pair, seed: int | None) -> tuple[UInt8[Tensor, "3 h w"], Int[Tensor, "y x"]]:
        """A random crop; without a seed all of the image, scaled, and the label as it is.

        Raises DamagedImage; ValueError for a mask that does not fit.
        """
        label = self.coding.decode(pair.mask)
        height, width = label.shape
        if seed is None:
            columns, rows = scaled_size(width, height, self.settings.size)
            crop, mirror = Crop(columns, rows, 0, 0, columns, rows), False
        else:
            crop, mirror = random_crop(label, self.settings, seed)
        with open_image(pair.content, pair.name) as image:
            found = upright_size(image)
            pixels = cut_to(image, crop.box(*found), crop.columns, crop.rows)
        require_size(pair, (width, height), {found})
        label = torch.from_numpy((label if seed is None else crop.of(label)).astype(np.int64))
        if mirror:
            pixels, label = pixels.flip(-1), label.flip(-1)
        return (pixels, label) if seed is None else fill_up(pixels, label, self.settings.size)


def collate(samples: list) -> tuple[list, dict[str, str]]:
    """[images, labels] of the whole ones, nothing if there is none, and what was wrong with the others, by name."""
    whole = [found for found, _ in samples if found is not None]
    damage = {name: message for _, wrong in samples for name, message in wrong.items()}
    return default_collate(whole) if whole else [], damage
