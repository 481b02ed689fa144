"""Images on disk or as bytes: decode them, cut them to size, and find those that are damaged."""

import math
import random
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
from jaxtyping import UInt8
from PIL import ExifTags, Image
from torch import Tensor

from bra.data.names import printable

IMAGE_FORMATS = {".jpg": "JPEG", ".jpeg": "JPEG", ".png": "PNG", ".webp": "WEBP", ".bmp": "BMP"}
END_MARKS = {"JPEG": b"\xff\xd9", "PNG": b"IEND\xaeB`\x82"}  # the last bytes of a whole file
RATIOS = 3 / 4, 4 / 3  # width to height of a random crop
Turn = Image.Transpose
TURNS = {  # what brings an image upright, by EXIF's number for how it lies
    2: Turn.FLIP_LEFT_RIGHT,
    3: Turn.ROTATE_180,
    4: Turn.FLIP_TOP_BOTTOM,
    5: Turn.TRANSPOSE,
    6: Turn.ROTATE_270,
    7: Turn.TRANSVERSE,
    8: Turn.ROTATE_90,
}
SIDEWAYS = {TURNS[number] for number in (5, 6, 7, 8)}  # these swap width and height
Side = int | float
Box = tuple[Side, Side, Side, Side]  # left, top, right, bottom


class DamagedImage(ValueError):
    """A file that is not, or not wholly, an image, or that cannot be read."""


class WrongLabel(ValueError):
    """What an image is labelled with does not fit it, or means nothing. Unlike damage it is never passed over."""


class Source(NamedTuple):
    """An image that is not decoded yet: its file or its bytes, what to call it, and its label."""

    content: Path | bytes
    name: str
    label: int


class Key(NamedTuple):
    """Which image of a list, and the seed of its crop; None: it is held out, and nothing is drawn."""

    index: int
    seed: int | None


@contextmanager
def naming_damage(name: str) -> Iterator[None]:
    """Raise DamagedImage, with this name, for what goes wrong while an image is read."""
    try:
        yield
    except FileNotFoundError as error:
        raise DamagedImage(f"{printable(name)} cannot be read: it is gone, or a link that leads nowhere") from error
    except (OSError, SyntaxError, ValueError, Image.DecompressionBombError) as error:
        if isinstance(error, OSError) and error.strerror:  # from the system, not from Pillow
            raise DamagedImage(f"{printable(name)} cannot be read: {error.strerror}") from error
        raise DamagedImage(f"{printable(name)} is not a whole image: {error}") from error


@contextmanager
def open_image(content: Path | bytes, name: str) -> Iterator[Image.Image]:
    """The image, to decode inside the block. Raises DamagedImage, with its name, if it is not wholly one."""
    with naming_damage(name):
        file = BytesIO(content) if isinstance(content, bytes) else content
        with Image.open(file, formats=sorted(set(IMAGE_FORMATS.values()))) as image:
            image.info.pop("transparency", None)  # lost in RGB, of which Pillow would warn
            if image.mode[0] in "IF":  # Pillow would cut their values off at 255
                raise ValueError(f"its mode {image.mode} has more than 8 bits a channel: convert it first")
            yield image


def check_whole(path: Path) -> None:
    """Raise DamagedImage if the file is cut short. Looks at its last bytes; decodes it only if these are odd.

    Damage in the middle shows only when the image is decoded.
    """
    mark = END_MARKS.get(IMAGE_FORMATS[path.suffix.lower()])
    with naming_damage(str(path)), path.open("rb") as file:
        length = file.seek(0, 2)
        file.seek(max(0, length - 16))
        end = file.read().rstrip(b"\0")
    if mark is None or not end.endswith(mark):
        with open_image(path, str(path)) as image:
            image.load()


def find_turn(image: Image.Image) -> Turn | None:
    """What brings the image upright, by the note (EXIF) that a camera leaves; None if it is, or the note is damaged."""
    if image.format == "PNG":
        image.load()  # the note may stand behind the pixels, whose damage Pillow tells only once
    with warnings.catch_warnings(action="ignore"):  # Pillow's, about damaged notes
        try:
            return TURNS.get(image.getexif().get(ExifTags.Base.Orientation))
        except Exception:  # it raises many kinds; the pixels may be whole
            return None


def turned(image: Image.Image, turn: Turn | None) -> Image.Image:
    """The image after this turn; itself without one."""
    return image if turn is None else image.transpose(turn)


def upright_size(image: Image.Image) -> tuple[int, int]:
    """Width and height of the image when it is upright."""
    return image.size[::-1] if find_turn(image) in SIDEWAYS else image.size


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
    """The box of the upright image, scaled to `size` x `size`. A JPEG is decoded no larger than that needs.

    The camera's note which side is up (EXIF) is obeyed, so that a photograph is learnt as people see it. This holds for
    ImageNet too, where a few images bear the note; training code often leaves it unread, and these images turned.
    """
    return cut_to(image, box, size, size)


def cut_to(image: Image.Image, box: Box, columns: int, rows: int) -> UInt8[Tensor, "3 rows columns"]:
    """As `cut`, scaled to so many columns and rows."""
    turn, (width, height) = find_turn(image), upright_size(image)
    left, top, right, bottom = box
    enough = (math.ceil(width * columns / (right - left)), math.ceil(height * rows / (bottom - top)))
    image.draft(None, enough[::-1] if turn in SIDEWAYS else enough)  # as it lies in the file
    upright = turned(image.convert("RGB"), turn)
    across, down = upright.width / width, upright.height / height
    box = (left * across, top * down, right * across, bottom * down)
    scaled = upright.resize((columns, rows), Image.Resampling.BICUBIC, box, reducing_gap=2)
    return torch.from_numpy(np.array(scaled)).permute(2, 0, 1)
