"""Two small data sets of real photographs that Python packages ship: nuclei with masks, and trees with boxes.

They are cut into tiles, in the layouts that `masks:` and `coco:` read; nothing of them is kept in this repository.
"""

import json
import xml.etree.ElementTree as ElementTree
from io import BytesIO
from itertools import pairwise
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Bool, Integer, UInt8
from PIL import Image

from bra.data.copies import begin
from bra.data.decoding import naming_damage
from bra.data.outlines import runs_of
from bra.data.packages import Package, read_package
from bra.files import write_atomically

STARDIST = Package(
    "stardist",
    "0.9.2",
    (
        "stardist/data/images/img2d.tif",
        "stardist/data/images/mask2d.tif",
        "stardist-0.9.2.dist-info/licenses/LICENSE.txt",
    ),
)
DEEPFOREST = Package(
    "deepforest",
    "2.1.0",
    (
        "deepforest/data/2019_YELL_2_528000_4978000_image_crop2.png",
        "deepforest/data/2019_YELL_2_528000_4978000_image_crop2.xml",
        "deepforest/data/2019_YELL_2_541000_4977000_image_crop.png",
        "deepforest/data/2019_YELL_2_541000_4977000_image_crop.xml",
        "deepforest-2.1.0.dist-info/licenses/LICENSE",
    ),
)
NUCLEI_TILE, TREES_TILE = 128, 400  # pixels a side, about
TRAINED = 0.75  # share of the nuclei's picture, from the left, that is for training
NUCLEI_SOURCE = (
    "The picture img2d.tif and the mask mask2d.tif of the Python package stardist 0.9.2, cut into tiles. The package\n"
    "says that they are from the Data Science Bowl 2018: Caicedo et al., Nucleus segmentation across imaging\n"
    "experiments, Nature Methods 16, 2019. Its licence:\n\n"
)
TREES_SOURCE = (
    "Two aerial photographs of the Python package deepforest 2.1.0 with their boxes of trees, cut into tiles. Their\n"
    "names say that they are from NEON's site YELL (Yellowstone, 2019). The package's licence:\n\n"
)
CROWD = 0.5  # of an object that a tile's edge cuts, a part smaller than this share is ignored when results are judged


class Example(NamedTuple):
    """A tile's pixels, its objects as COCO writes them, but for ids, and the class of each pixel if that is known."""

    pixels: UInt8[np.ndarray, "y x ..."]
    objects: list[dict]
    classes: UInt8[np.ndarray, "y x"] | None = None


class Tile(NamedTuple):
    """A part of a picture: its first column and row, and those behind its last ones."""

    left: int
    top: int
    right: int
    bottom: int

    def of(self, picture: Integer[np.ndarray, "y x ..."]) -> Integer[np.ndarray, "rows columns ..."]:
        """The pixels in it."""
        return picture[self.top : self.bottom, self.left : self.right]


def tiles(left: int, right: int, height: int, side: int) -> list[Tile]:
    """The columns from left to right and all rows, cut into tiles of about `side` x `side`, none over another."""
    across = np.linspace(left, right, max(1, round((right - left) / side)) + 1).round().astype(int).tolist()
    down = np.linspace(0, height, max(1, round(height / side)) + 1).round().astype(int).tolist()
    return [Tile(x, y, right, bottom) for y, bottom in pairwise(down) for x, right in pairwise(across)]


def make_nuclei(out: Path, archive: Path | None) -> dict[str, list[Example]]:
    """Nuclei, white in the dark (fluorescence): 512 x 512 pixels, the left part for training, the right one held out.

    Writes OUT for both masks:OUT (background, nucleus) and coco:OUT, and OUT/SOURCE.txt, where it is from and its
    licence. Returns the tiles. Raises what `read_package` and `begin` raise; DamagedImage.
    """
    files = read_package(STARDIST, archive)
    picture, numbers = (decode(name, files[name], "TIFF") for name in STARDIST.members[:2])
    height, width = numbers.shape
    edge = round(TRAINED * width)
    whole = np.bincount(numbers.ravel())
    examples = {
        split: [nuclei_of(picture, numbers, tile, whole) for tile in tiles(left, right, height, NUCLEI_TILE)]
        for split, left, right in (("train", 0, edge), ("val", edge, width))
    }
    begin(out, {"command": "nuclei", "package": f"{STARDIST.name} {STARDIST.version}"})
    write_coco(out, examples, "nucleus")
    for split, made in examples.items():
        for i, example in enumerate(made):
            write_png(out / "images" / split / f"{i:02}.png", example.pixels)
            write_png(out / "annotations" / split / f"{i:02}.png", example.classes)
    write_atomically(out / "classes.txt", "background\nnucleus\n")
    write_atomically(out / "SOURCE.txt", NUCLEI_SOURCE.encode() + files[STARDIST.members[2]])
    return examples


def nuclei_of(picture: np.ndarray, numbers: np.ndarray, tile: Tile, whole: np.ndarray) -> Example:
    """A tile of the nuclei; whole: how many pixels of the picture each has."""
    part = tile.of(numbers)
    objects = []
    for number in np.unique(part[part > 0]):
        mask = part == number
        cut_off = int(mask.sum()) < CROWD * whole[number]
        objects.append(around(mask) | {"area": int(mask.sum()), "iscrowd": int(cut_off), "segmentation": runs_of(mask)})
    return Example(tile.of(picture).clip(0, 255).astype(np.uint8), objects, (part > 0).astype(np.uint8))


def around(mask: Bool[np.ndarray, "y x"]) -> dict:
    """The box around a mask, as COCO writes it: left, top, width, height."""
    rows, columns = np.flatnonzero(mask.any(axis=1)), np.flatnonzero(mask.any(axis=0))
    left, top = int(columns[0]), int(rows[0])
    return {"bbox": [left, top, int(columns[-1]) + 1 - left, int(rows[-1]) + 1 - top]}


def make_trees(out: Path, archive: Path | None) -> dict[str, list[Example]]:
    """Trees from above: the largest photograph, 2299 x 2472 pixels, for training, another, 1249 x 1035, held out.

    Both show open forest in Yellowstone. Writes OUT for coco:OUT, boxes without masks, and OUT/SOURCE.txt. Returns the
    tiles. Raises what `read_package` and `begin` raise; DamagedImage.
    """
    files = read_package(DEEPFOREST, archive)
    examples = {}
    for split, picture, boxes in (("train", *DEEPFOREST.members[:2]), ("val", *DEEPFOREST.members[2:4])):
        pixels, trees = decode(picture, files[picture], "PNG"), tree_boxes(files[boxes])
        height, width = pixels.shape[:2]
        cut = tiles(0, width, height, TREES_TILE)
        examples[split] = [Example(tile.of(pixels), trees_of(trees, tile)) for tile in cut]
    begin(out, {"command": "trees", "package": f"{DEEPFOREST.name} {DEEPFOREST.version}"})
    write_coco(out, examples, "tree")
    write_atomically(out / "SOURCE.txt", TREES_SOURCE.encode() + files[DEEPFOREST.members[4]])
    return examples


def tree_boxes(content: bytes) -> list[tuple[int, ...]]:
    """Left, top, right, bottom of each object in a file of annotations in the layout of Pascal VOC."""
    boxes = ElementTree.fromstring(content).iter("bndbox")
    return [tuple(int(box.findtext(side)) for side in ("xmin", "ymin", "xmax", "ymax")) for box in boxes]


def trees_of(trees: list[tuple[int, ...]], tile: Tile) -> list[dict]:
    """The objects of a tile: of each box what lies in it."""
    objects = []
    for box in trees:
        left, top = max(box[0], tile.left), max(box[1], tile.top)
        width, height = min(box[2], tile.right) - left, min(box[3], tile.bottom) - top
        if width > 0 and height > 0:
            cut_off = width * height < CROWD * (box[2] - box[0]) * (box[3] - box[1])
            place = [left - tile.left, top - tile.top, width, height]
            objects.append({"bbox": place, "area": width * height, "iscrowd": int(cut_off)})
    return objects


def decode(name: str, content: bytes, kind: str) -> Integer[np.ndarray, "y x ..."]:
    """The pixels of an image of this kind, as they are. Raises DamagedImage."""
    with naming_damage(name), Image.open(BytesIO(content), formats=[kind]) as image:
        return np.array(image)


def write_png(path: Path, pixels: UInt8[np.ndarray, "y x ..."]) -> None:
    """Write an image."""
    content = BytesIO()
    Image.fromarray(pixels).save(content, "PNG")
    write_atomically(path, content.getvalue())


def write_coco(out: Path, examples: dict[str, list[Example]], category: str) -> None:
    """Write OUT/SPLIT/*.png and OUT/annotations/instances_SPLIT.json, with one category."""
    for split, made in examples.items():
        images, annotations = [], []
        for i, example in enumerate(made):
            height, width = example.pixels.shape[:2]
            write_png(out / split / f"{i:02}.png", example.pixels)
            images.append({"id": i, "file_name": f"{i:02}.png", "width": width, "height": height})
            for thing in example.objects:
                annotations.append({"id": len(annotations) + 1, "image_id": i, "category_id": 1} | thing)
        content = {"images": images, "annotations": annotations, "categories": [{"id": 1, "name": category}]}
        write_atomically(out / "annotations" / f"instances_{split}.json", json.dumps(content))
