"""Images with a mask each, whose bytes stand for classes: read, and cut alike."""

from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import Int, Integer, UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import default_collate

from bra.data.decoding import WrongLabel, check_whole, cut_to, naming_damage, open_image, upright_size
from bra.data.dense import (
    Crop,
    DenseFiles,
    DenseSettings,
    fill_up,
    in_words,
    random_crop,
    scaled_size,
    upright_sizes,
    whole_ones,
)
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
        """The class of each pixel of a mask. Raises DamagedImage; WrongLabel for bytes that stand for no class."""
        pixels = read_mask(path)
        label = self.classes[pixels]
        if (label == UNKNOWN).any():
            raise WrongLabel(f"{printable(path)} must hold {self.allowed}, but holds {pixels[label == UNKNOWN][0]}")
        return label.astype(np.uint8)


def require_bytes(path: Path, mask: Image.Image) -> None:
    """Raise WrongLabel unless the mask has one channel of bytes, grey ones or numbers of a palette."""
    if mask.mode not in ("L", "P"):
        raise WrongLabel(
            f"{printable(path)} must be a mask of one byte a pixel, grey or with a palette, but its mode is {mask.mode}"
        )


def require_size(pair: Pair, size: tuple[int, int], sizes: set[tuple[int, int]]) -> None:
    """Raise WrongLabel unless the mask's (width, height) is one that its image may have when it is upright."""
    if size not in sizes:
        fitting = f"as large as its image upright, {in_words(sizes)}"
        raise WrongLabel(f"{printable(pair.mask)} must be {fitting}, but is {in_words({size})}")


def read_mask(path: Path) -> UInt8[np.ndarray, "y x"]:
    """The bytes of a mask. Raises DamagedImage; WrongLabel if it has other pixels than `require_bytes` allows."""
    with naming_damage(str(path)), Image.open(path, formats=["PNG"]) as mask:
        mask.load()
    require_bytes(path, mask)
    return np.array(mask)


def check_pair(pair: Pair) -> None:
    """Look at the ends and headers of both files. Raises DamagedImage; WrongLabel for a mask that does not fit."""
    check_whole(pair.content)
    check_whole(pair.mask)
    with open_image(pair.content, pair.name) as image:
        sizes = upright_sizes(image)
    with naming_damage(str(pair.mask)), Image.open(pair.mask, formats=["PNG"]) as mask:
        pass
    require_bytes(pair.mask, mask)
    require_size(pair, mask.size, sizes)


class PixelFiles(DenseFiles):
    """Images and the class of each pixel, read when asked for."""

    def __init__(self, sources: list[Pair], coding: Coding, settings: DenseSettings, replace: bool):
        super().__init__(sources, settings, replace)
        self.coding = coding

    def read(self, pair: Pair, seed: int | None) -> tuple[UInt8[Tensor, "3 h w"], Int[Tensor, "y x"]]:
        """A random crop; without a seed all of the image, scaled, and the label as it is.

        Raises DamagedImage; WrongLabel for a mask that does not fit.
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


def collate(samples: list) -> tuple[list, dict[str, ValueError]]:
    """[images, labels] of the whole ones, nothing if there is none, and what was wrong with the others, by name."""
    whole, damage = whole_ones(samples)
    return default_collate(whole) if whole else [], damage
