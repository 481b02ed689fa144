"""COCO's files of annotated objects (instances_*.json): read, and checked before anything is learnt from them.

See cocodataset.org, "Data format". Numbers that the format leaves out are put in: crowd 0, area that of the box.
"""

import json
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path, PureWindowsPath
from typing import NamedTuple

import numpy as np

from bra.data.decoding import IMAGE_FORMATS
from bra.data.names import printable
from bra.data.outlines import Outline, require_outline
from bra.files import read_json

THIN = 0.01  # pixel: what is thinner has no area
EDGE = 1  # pixel that a box may reach over its image's edge: programs round in their own ways
log = logging.getLogger(__name__)


class Thing(NamedTuple):
    """An annotated object: category from 1; left, top, right, bottom; COCO's crowd and area; its outline, if kept."""

    label: int
    box: tuple[float, float, float, float]
    crowd: bool
    area: float
    outline: Outline | None


class Photograph(NamedTuple):
    """An image's file and what to call it, its size, and its objects."""

    content: Path
    name: str
    width: int
    height: int
    things: list[Thing]


class Photographs(Sequence):
    """Photographs, kept as text in one block of memory.

    Worker processes share a block with their parent. A million small objects they would copy bit by bit, as Python
    counts in each of them who uses it.
    """

    def __init__(self, folder: Path, photographs: list[Photograph]):
        texts = [json.dumps([p.content.relative_to(folder).as_posix(), *p[2:5]]).encode() for p in photographs]
        self.folder, self.block = folder, np.frombuffer(b"".join(texts), np.uint8)
        self.ends = np.cumsum([0] + [len(text) for text in texts])

    def __len__(self):
        return len(self.ends) - 1

    def __getitem__(self, i: int) -> Photograph:
        if not 0 <= i < len(self):
            raise IndexError(i)
        name, width, height, things = json.loads(self.block[self.ends[i] : self.ends[i + 1]].tobytes())
        path = self.folder / name
        return Photograph(path, printable(path), width, height, [Thing(*thing) for thing in things])


def read_instances(path: Path, folder: Path, masks: bool) -> tuple[dict[int, str], list[Photograph]]:
    """The categories by id, in the order of ids, and the images of `folder` with their objects.

    masks: keep outlines. Leaves out objects whose boxes have no area, as two of COCO have none, and says so in a line.
    Raises ValueError for what is not JSON, of the wrong type, of an unknown image or category, twice there, or outside
    its image or folder; FileNotFoundError, with how many and the first, if files are missing.
    """
    content = read_json(path)
    categories = read_categories(content, path)
    images = read_images(content, path, folder)
    number = {identity: i for i, identity in enumerate(categories, 1)}
    empty = []
    for where, entry in entries(content, "annotations", path):
        photograph = known(images, field(entry, "image_id", int, where), "images", where)
        label = known(number, field(entry, "category_id", int, where), "categories", where)
        box = read_box(entry, photograph, where)
        if min(box[2] - box[0], box[3] - box[1]) < THIN:
            empty.append(where)
            continue
        crowd, area = entry.get("iscrowd", 0), entry.get("area", (box[2] - box[0]) * (box[3] - box[1]))
        if crowd not in (0, 1) or not is_number(area):
            raise ValueError(
                f"{where} must have an iscrowd of 0 or 1 and an area, but they are {crowd!r}, {area!r:.80}"
            )
        outline = entry.get("segmentation") if masks else None
        if masks:
            require_outline(outline, photograph.width, photograph.height, where)
        photograph.things.append(Thing(label, box, bool(crowd), float(area), outline))
    if empty:
        log.warning("%d objects are left out, whose boxes have no area, the first: %s", len(empty), empty[0])
    return categories, list(images.values())


def entries(content: dict, name: str, path: Path) -> Iterator[tuple[str, dict]]:
    """Each object of a list of the file, and what to call it. Raises ValueError if it is no such list."""
    found = content.get(name)
    if not isinstance(found, list) or not all(isinstance(entry, dict) for entry in found):
        raise ValueError(f"{printable(path)} must hold a list of objects called {name}, but holds {found!r:.80}")
    yield from ((f"{printable(path)}, {name}, id {entry.get('id')!r:.40},", entry) for entry in found)


def field(entry: dict, name: str, kind: type, where: str):
    """A value of an object. Raises ValueError unless it is there, and of this kind."""
    value = entry.get(name)
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(f"{where} must have a {name} of type {kind.__name__}, but it is {value!r:.80}")
    return value


def known(these: dict, key: int, what: str, where: str):
    """What stands under this key. Raises ValueError if nothing does."""
    if key not in these:
        raise ValueError(f"{where} must refer to one of the {len(these)} {what}, but refers to {key}")
    return these[key]


def is_number(value: object) -> bool:
    """Whether it is a finite number."""
    return isinstance(value, int | float) and not isinstance(value, bool) and abs(value) < float("inf")


def read_categories(content: dict, path: Path) -> dict[int, str]:
    """Names by id, in the order of ids. Raises ValueError if there is none, or an id twice."""
    listed = entries(content, "categories", path)
    found = {field(entry, "id", int, where): field(entry, "name", str, where) for where, entry in listed}
    if not found or len(found) != len(content["categories"]):
        raise ValueError(f"{printable(path)} must hold categories, each id once, but holds {len(found)} ids")
    return dict(sorted(found.items()))


def read_images(content: dict, path: Path, folder: Path) -> dict[int, Photograph]:
    """Images by id, without objects as yet. Raises what `read_instances` raises about images."""
    images: dict[int, Photograph] = {}
    for where, entry in entries(content, "images", path):
        identity, width, height = (field(entry, name, int, where) for name in ("id", "width", "height"))
        if identity in images or min(width, height) < 1:
            raise ValueError(f"{where} must be there once and at least 1 x 1, but is {width} x {height} or there twice")
        file = folder / require_inside(field(entry, "file_name", str, where), where)
        images[identity] = Photograph(file, printable(file), width, height, [])
    if not images:
        raise ValueError(f"{printable(path)} must hold images, but holds none")
    if missing := [photograph.name for photograph in images.values() if not photograph.content.exists()]:
        count = f"{len(missing)} of the {len(images)} images"
        raise FileNotFoundError(f"{count} that {printable(path)} names do not exist, the first: {missing[0]}")
    return images


def require_inside(name: str, where: str) -> str:
    """The name, if it is that of an image in a folder or below it, on any system. Raises ValueError if it is not."""
    path = PureWindowsPath(name)  # which takes / and \ for what they are on Windows
    if path.anchor or ".." in path.parts or path.suffix.lower() not in IMAGE_FORMATS:
        allowed = f"an image ({', '.join(IMAGE_FORMATS)}) in the folder or below it"
        raise ValueError(f"{where} must have as file_name {allowed}, but it is '{printable(name):.80}'")
    return name


def read_box(entry: dict, photograph: Photograph, where: str) -> tuple[float, float, float, float]:
    """Left, top, right, bottom, cut off at the image's edges. Raises ValueError for no box, or one that is outside."""
    values, (width, height) = entry.get("bbox"), photograph[2:4]
    if not isinstance(values, list) or len(values) != 4 or not all(map(is_number, values)):
        allowed = "four numbers, left, top, width and height"
        raise ValueError(f"{where} must have a bbox of {allowed}, but it is {values!r:.80}")
    left, top, right, bottom = values[0], values[1], values[0] + values[2], values[1] + values[3]
    if not (-EDGE <= left <= right <= width + EDGE and -EDGE <= top <= bottom <= height + EDGE):
        raise ValueError(f"{where} must have a bbox inside its image of {width} x {height}, but it is {values}")
    left, right = (float(min(max(side, 0), width)) for side in (left, right))
    top, bottom = (float(min(max(side, 0), height)) for side in (top, bottom))
    return left, top, right, bottom
