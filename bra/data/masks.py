"""Data sets of images and masks: one's own, and ADE20K as it is downloaded."""

from pathlib import Path

import numpy as np
import torch

from bra.data.base import WHOLE
from bra.data.dense import IGNORED, DenseSettings, Pixels, keep_whole
from bra.data.folder import image_files
from bra.data.labels import UNKNOWN, Coding, Pair, PixelFiles, check_pair, collate
from bra.data.loading import Loaded
from bra.data.names import normalised, printable

ADE20K_CLASSES = 150


def own_coding(count: int) -> Coding:
    """A byte is the number of its class, of so many, or IGNORED."""
    classes = np.full(256, UNKNOWN, np.int16)
    classes[:count], classes[IGNORED] = np.arange(count), IGNORED
    return Coding(classes, f"0 to {count - 1} for its classes, or {IGNORED} for pixels without a label")


def ade20k_coding() -> Coding:
    """A byte is one more than the number of its class, and 0 is no label."""
    classes = np.full(256, UNKNOWN, np.int16)
    classes[0], classes[1 : ADE20K_CLASSES + 1] = IGNORED, np.arange(ADE20K_CLASSES)
    return Coding(classes, f"1 to {ADE20K_CLASSES} for its classes, or 0 for pixels without a label")


def find_pairs(images: Path, masks: Path) -> list[Pair]:
    """Each image with the mask that is called as it is, but for the suffix.

    Raises FileNotFoundError if a folder is missing; ValueError if it is empty or one lacks what the other has.
    """
    found = {folder: by_stem(folder) for folder in (images, masks)}
    if others := [path for path in found[masks].values() if path.suffix.lower() != ".png"]:
        raise ValueError(f"masks must be PNG files, but one is {printable(others[0])}")
    for these, those, what in ((images, masks, "mask"), (masks, images, "image")):
        if alone := sorted(found[these].keys() - found[those].keys()):
            raise ValueError(
                f"{printable(those)} must hold one {what} for each file of {printable(these)}, but lacks {len(alone)}, "
                f"the first for {printable(found[these][alone[0]].name)}"
            )
    return [Pair(path, printable(path), found[masks][stem]) for stem, path in sorted(found[images].items())]


def by_stem(folder: Path) -> dict[str, Path]:
    """The images in a folder by their names without suffix. Raises FileNotFoundError; ValueError for none, or twins."""
    if not folder.is_dir():
        raise FileNotFoundError(f"data folder {printable(folder)} does not exist")
    found: dict[str, Path] = {}
    for path in image_files(folder):
        twin = found.setdefault(normalised(path.stem), path)
        if twin is not path:
            raise ValueError(
                f"{printable(folder)} must not hold both {printable(twin.name)} and {printable(path.name)}"
            )
    if not found:
        raise ValueError(f"data folder {printable(folder)} holds no image")
    return found


class MaskImages(Loaded):
    """Images and masks in folders, {split: (images, masks)}. Held-out images come one a batch, each of its own size.

    Raises FileNotFoundError if a folder is missing; ValueError if an image has no mask or a mask no image, or if
    their sizes differ, or at a mask with other bytes than `coding` allows; DamagedImage if a file is cut short or
    cannot be read, which `settings` may allow: then the image is left out.
    """

    asks = "pixels"
    batch, collate = Pixels, staticmethod(collate)

    def __init__(
        self, folders: dict[str, tuple[Path, Path]], classes: list[str], coding: Coding, settings: DenseSettings
    ):
        kept, damaged = keep_whole({split: find_pairs(*both) for split, both in folders.items()}, check_pair, settings)
        super().__init__(*kept.values(), classes, settings)
        self.coding, self.damaged = coding, damaged
        self.image_bytes = (3 + torch.int64.itemsize) * settings.size**2
        self.steps = 100 * max(1, self.count // 16)  # of batches of 16, which are usual

    def samples(self, split, replace):
        return PixelFiles(self.sources[split], self.coding, self.settings, replace)

    def held_out(self, size, shard=WHOLE):
        yield from super().held_out(1, shard)


def own_masks(folder: Path, settings: DenseSettings) -> MaskImages:
    """FOLDER/images/train/*, FOLDER/images/val/*, and the masks in FOLDER/annotations/train, .../val as *.png.

    Each line of FOLDER/classes.txt names a class. A mask holds the number of each pixel's class, from 0, or IGNORED.
    Raises FileNotFoundError without classes.txt; ValueError if it has no line, an empty one or more than 255; and what
    `MaskImages` raises.
    """
    classes = read_names(folder / "classes.txt")
    folders = {split: (folder / "images" / split, folder / "annotations" / split) for split in ("train", "val")}
    return MaskImages(folders, classes, own_coding(len(classes)), settings)


def read_names(path: Path) -> list[str]:
    """The lines of a file of classes. Raises FileNotFoundError; ValueError as `own_masks` says."""
    if not path.exists():
        raise FileNotFoundError(f"{printable(path)} must name the classes, one a line, but does not exist")
    names = [line.strip() for line in path.read_text(encoding="utf-8-sig", errors="surrogateescape").splitlines()]
    while names and not names[-1]:
        names.pop()
    if not 0 < len(names) <= IGNORED or not all(names):
        wrong = f"line {names.index('') + 1} is empty" if "" in names else f"has {len(names)} lines"
        raise ValueError(f"{printable(path)} must name 1 to {IGNORED} classes, one a line, but {wrong}")
    return names


def ade20k(folder: Path, settings: DenseSettings) -> MaskImages:
    """ADE20K of the scene parsing challenge, the folder ADEChallengeData2016: 150 classes (Zhou et al., 2017).

    images/training/*.jpg, images/validation/*.jpg, annotations/training/*.png, annotations/validation/*.png;
    objectInfo150.txt names the classes: the first of the words that it has for each. Raises what `MaskImages` raises.
    """
    folders = {
        split: (folder / "images" / split, folder / "annotations" / split) for split in ("training", "validation")
    }
    return MaskImages(folders, ade20k_names(folder / "objectInfo150.txt"), ade20k_coding(), settings)


def ade20k_names(path: Path) -> list[str]:
    """Of each class the first name in the table's last column; without the file class 1, class 2, ...

    Raises ValueError if the table has not a line for each class below its head.
    """
    if not path.exists():
        return [f"class {number + 1}" for number in range(ADE20K_CLASSES)]
    lines = path.read_text(encoding="utf-8", errors="replace").splitlines()[1:]
    names = [line.split("\t")[-1].split(",")[0].strip() for line in lines if line.strip()]
    if len(names) != ADE20K_CLASSES:
        raise ValueError(f"{printable(path)} must name {ADE20K_CLASSES} classes below its head, but names {len(names)}")
    return names
