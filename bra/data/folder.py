"""Folders of images, one for each class."""

import logging
import os
from collections import Counter
from collections.abc import Iterable
from pathlib import Path

from tqdm.auto import tqdm

from bra.data.decoding import IMAGE_FORMATS, DamagedImage, Source, check_whole
from bra.data.images import Images, ImageSettings
from bra.data.names import normalised, printable, spelt_out

SHOWN = 6  # kinds of files that are named in one line
log = logging.getLogger(__name__)


def is_image(name: str) -> bool:
    """Whether a file of this name is read as an image; a hidden one is not."""
    return name[0] != "." and os.path.splitext(name)[1].lower() in IMAGE_FORMATS


def image_files(folder: Path) -> list[Path]:
    """What bears the name of an image in a folder, sorted; whether it can be read is found out later."""
    return sorted(path for path in folder.iterdir() if is_image(path.name))


def class_folders(folder: Path) -> dict[str, Path]:
    """The folder of each class, by its normalised name and sorted; hidden folders are no classes.

    Raises FileNotFoundError if the folder is missing; ValueError if it holds none, or two whose names look alike.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"data folder {printable(folder)} does not exist")
    found: dict[str, Path] = {}
    for path in sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."):
        twin = found.setdefault(normalised(path.name), path)
        if twin is not path:
            raise ValueError(
                f"data folder {printable(folder)} must not hold classes that look alike, but holds "
                f"{printable(path.name)} twice, as {spelt_out(twin.name)} and {spelt_out(path.name)}: rename one, or "
                "make them one"
            )
    if not found:
        raise ValueError(f"data folder {printable(folder)} holds no class folders")
    return dict(sorted(found.items()))


def class_files(folder: Path) -> dict[str, list[Path]]:
    """The images of each class, sorted. Says what other files there are, in one line.

    Raises what `class_folders` raises; ValueError if a class has no image, or other files outnumber images.
    """
    folders = class_folders(folder)
    files = {name: image_files(path) for name, path in folders.items()}
    for name, paths in files.items():
        if not paths:
            others = listed(other_files([folders[name]])) or "nothing else"
            raise ValueError(
                f"data folder {printable(folders[name])} holds no image ({', '.join(IMAGE_FORMATS)}), but {others}"
            )
    others = other_files(folders.values())
    others.update(
        f"{kind(path.name)} outside the class folders"
        for path in folder.iterdir()
        if path.name[0] != "." and not path.is_dir()
    )
    tell_others(folder, others, sum(map(len, files.values())))
    return files


def tell_others(folder: Path, others: Counter[str], count: int) -> None:
    """Say in one line what is passed over, if anything is. Raises ValueError if it is more than `count` images."""
    if not others:
        return
    passed = f"data folder {printable(folder)}: {others.total()} files are passed over ({listed(others)})"
    if others.total() > count:
        raise ValueError(
            f"{passed}, more than the {count} that are read, which are {', '.join(IMAGE_FORMATS)} right inside the "
            "class folders: convert them, or move them out of the data folder"
        )
    log.warning("%s, %d images are read", passed, count)


def kind(name: str) -> str:
    """A file's suffix, in words if it has none."""
    return printable(os.path.splitext(name)[1].lower()) or "without a suffix"


def other_files(folders: Iterable[Path]) -> Counter[str]:
    """How many files in and below these class folders are not read, by kind; hidden ones are not counted."""
    found: Counter[str] = Counter()
    for folder in folders:
        for place, below, names in os.walk(folder):
            below[:] = [name for name in below if name[0] != "." and not is_image(name)]
            if place == str(folder):
                found.update(kind(name) for name in names if name[0] != "." and not is_image(name))
            else:
                found.update(f"{kind(name)} in sub-folders of a class" for name in names if name[0] != ".")
    return found


def listed(counts: Counter[str]) -> str:
    """The counts in words, such as 9 .tif, 2 .gif; the largest first, the last ones together."""
    ordered = sorted(counts.items(), key=lambda item: (-item[1], item[0]))
    parts = [f"{count} {what}" for what, count in ordered[:SHOWN]]
    rest = sum(count for _, count in ordered[SHOWN:])
    return ", ".join(parts + ([f"{rest} of other kinds"] if rest else []))


def split_files(folder: Path) -> dict[str, dict[str, list[Path]]]:
    """The images by split and class. Says, in one line, where train and val write the same name in different ways.

    Raises what `class_files` raises; ValueError if val has classes of its own.
    """
    files = {split: class_files(folder / split) for split in ("train", "val")}
    if unknown := sorted(files["val"].keys() - files["train"].keys()):
        names = ", ".join(map(printable, unknown))
        raise ValueError(f"data folder {printable(folder / 'val')} has classes that train lacks: {names}")
    for name, paths in files["val"].items():
        train, val = (path.parent.name for path in (files["train"][name][0], paths[0]))
        if train != val:
            log.warning(
                "data folder %s: class %s is %s in train and %s in val, taken for the same",
                *(printable(folder), printable(name), spelt_out(train), spelt_out(val)),
            )
    return files


def read_classes(path: Path, folders: list[str]) -> list[str]:
    """The readable name of each class folder, from lines "folder<TAB>name"; without the file, the folder's own.

    Raises ValueError, with what is missing and what is extra, if the file does not name just these folders.
    """
    if not path.exists():
        return folders
    text = path.read_text(encoding="utf-8-sig", errors="surrogateescape")  # as Python reads the names of files
    lines = [line.split("\t") for line in text.split("\n") if line.strip()]
    if wrong := [line for line in lines if len(line) != 2]:
        raise ValueError(
            f"{printable(path)} must hold lines of a folder, a tab and a name, but one is "
            f"'{printable(' '.join(wrong[0]))}'"
        )
    names = {normalised(name): title for name, title in lines}
    if len(lines) != len(folders) or names.keys() != set(folders):
        missing, extra = (
            ", ".join(map(printable, sorted(these))) or "none"
            for these in (set(folders) - names.keys(), names.keys() - set(folders))
        )
        raise ValueError(
            f"{printable(path)} must name every folder of train once and no other, but has {len(lines)} lines for "
            f"{len(folders)} folders: missing {missing}; extra {extra}"
        )
    return [names[name] for name in folders]


class ImageFolder(Images):
    """Images as FOLDER/train/CLASS/* and FOLDER/val/CLASS/*; FOLDER/classes.txt may give the classes readable names.

    Raises FileNotFoundError if a folder is missing; ValueError if one is empty, if more files are passed over than
    read, if val has classes that train lacks, if classes.txt does not fit, or if an image is cut short or cannot be
    read, which `settings` may allow: then it is left out.
    """

    def __init__(self, folder: Path, settings: ImageSettings):
        files = split_files(folder)
        folders = list(files["train"])
        classes = read_classes(folder / "classes.txt", folders)
        label = {name: i for i, name in enumerate(folders)}
        everything = [
            (split, Source(path, printable(path), label[name]))
            for split, by_class in files.items()
            for name, paths in by_class.items()
            for path in paths
        ]
        kept, damaged = {"train": [], "val": []}, []
        for split, source in tqdm(everything, desc=f"checking {printable(folder)}", delay=2, leave=False):
            try:
                check_whole(source.content)
                kept[split].append(source)
            except DamagedImage:
                if settings.corrupt == "fatal":
                    raise
                damaged.append(source.name)
        if emptied := [split for split, sources in kept.items() if not sources]:
            where = printable(folder / emptied[0])
            raise ValueError(f"all images in data folder {where} are damaged, the first: {damaged[0]}")
        super().__init__(kept["train"], kept["val"], classes, settings)
        self.damaged += damaged
