"""Images on disk or as bytes: decode them, cut them to size, and find those that are damaged before training does."""

import math
import os
import random
import signal
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

IMAGE_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP"}
GRACE = 20  # seconds
END_MARKS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}  # the last bytes of a whole file
RATIOS = 3 / 4, 4 / 3  # width to height of a random crop
Side = int | float
Box = tuple[Side, Side, Side, Side]  # left, top, right, bottom


class DamagedImage(ValueError):
    """A file that is not, or not wholly, an image."""


class Source(NamedTuple):
    """An image that is not decoded yet: its file or its bytes, what to call it, and its label."""

    content: Path | bytes
    name: str
    label: int


class Sample(NamedTuple):
    """A decoded image and its label, and what was wrong with those that were tried before it, by name."""

    pixels: UInt8[Tensor, "3 h w"] | None  # None: all that were tried are damaged
    label: int
    damage: dict[str, str]


@contextmanager
def open_image(content: Path | bytes, name: str) -> Iterator[Image.Image]:
    """The image, to decode inside the block. Raises DamagedImage, with its name, if it is not wholly one."""
    try:
        file = BytesIO(content) if isinstance(content, bytes) else content
        with Image.open(file, formats=sorted(set(IMAGE_FORMATS.values()))) as image:
            image.info.pop("transparency", None)  # we drop it anyway, and Pillow would warn
            if image.mode[0] in "IF":  # Pillow would cut their values off at 255
                raise ValueError(f"its mode {image.mode} has more than 8 bits a channel: convert it first")
            yield image
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        raise DamagedImage(f"{name} is not a whole image: {error}") from error


def check_whole(path: Path) -> None:
    """Raise DamagedImage if the file is cut short. Looks at its last bytes; decodes it only if these are odd.

    Damage in the middle shows only when the image is decoded.
    """
    mark = END_MARKS.get(IMAGE_FORMATS[path.suffix.lower()])
    with path.open("rb") as file:
        length = file.seek(0, 2)
        file.seek(max(0, length - 16))
        end = file.read().rstrip(b"\0")
    if mark is None or not end.endswith(mark):
        with open_image(path, str(path)) as image:
            image.load()


def centre_box(width: int, height: int, share: float) -> Box:
    """The square around the middle whose side is this share of the shorter side."""
    side = share * min(width, height)
    left, top = (width - side) / 2, (height - side) / 2
    return left, top, left + side, top + side


def random_box(width: int, height: int, least_area: float, seed: int) -> Box:
    """A crop of `least_area` to 1 of the image's area and of 3/4 to 4/3 in shape, as torchvision's RandomResizedCrop.

    In an image too long for ten tries, the largest such crop in the middle.
    """
    draw = random.Random(seed)
    for _ in range(10):
        area = width * height * draw.uniform(least_area, 1)
        ratio = math.exp(draw.uniform(*map(math.log, RATIOS)))
        w, h = round(math.sqrt(area * ratio)), round(math.sqrt(area / ratio))
        if 0 < w <= width and 0 < h <= height:
            left, top = draw.randint(0, width - w), draw.randint(0, height - h)
            return left, top, left + w, top + h
    w, h = min(width, height * RATIOS[1]), min(height, width / RATIOS[0])
    return (width - w) / 2, (height - h) / 2, (width + w) / 2, (height + h) / 2


def cut(image: Image.Image, box: Box, size: int) -> UInt8[Tensor, "3 size size"]:
    """The box, scaled to `size` x `size`. A JPEG is decoded no larger than that needs.

    The camera's note which side is up (EXIF) is left unread, as is usual with ImageNet.
    """
    width, height = image.size
    left, top, right, bottom = box
    image.draft(None, (math.ceil(width * size / (right - left)), math.ceil(height * size / (bottom - top))))
    across, down = image.width / width, image.height / height
    box = (left * across, top * down, right * across, bottom * down)
    scaled = image.convert("RGB").resize((size, size), Image.Resampling.BICUBIC, box, reducing_gap=2)
    return torch.from_numpy(np.array(scaled)).permute(2, 0, 1)


class ImageFiles(Dataset):
    """Images, decoded when asked for: a `Sample` for each key (index, seed of the crop; None: held out).

    `choose` makes the box to cut of width, height and that seed. An image is replaced by the next whole one of the
    list, if `replace` is set and it is damaged and not held out.
    """

    def __init__(self, sources: Sequence[Source], size: int, choose: Callable[..., Box], replace: bool):
        self.sources, self.size, self.choose, self.replace = sources, size, choose, replace

    def __getitem__(self, key: tuple[int, int | None]) -> Sample:
        index, seed = key
        damage = {}
        for i in range(index, index + (len(self.sources) if self.replace and seed is not None else 1)):
            source = self.sources[i % len(self.sources)]
            try:
                with open_image(source.content, source.name) as image:
                    return Sample(cut(image, self.choose(*image.size, seed), self.size), source.label, damage)
            except DamagedImage as error:
                damage[source.name] = str(error)
        return Sample(None, 0, damage)


def leave_signals_to_the_parent(worker: int = 0) -> None:
    """Ctrl-C reaches the whole group of processes, and a cluster's SIGTERM may: the parent decides what they mean.

    A worker that SIGTERM ended at once would take the parent with it, before it has written its checkpoint. So it
    stays for GRACE seconds; a parent that has left its workers behind waits as long at its end.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):  # Windows has neither the alarm nor the problem
        signal.signal(signal.SIGALRM, lambda number, frame: os._exit(0))
        signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(GRACE))
