"""Folders of images made from others: smaller copies, which are decoded faster."""

import json
import os
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image
from tqdm.auto import tqdm

from bra.data.decoding import IMAGE_FORMATS, DamagedImage, leave_signals_to_the_parent, open_image
from bra.data.folder import read_classes, split_files

QUALITY = 95  # of the JPEGs
AT_ONCE = 16  # images that a process is given
Corrupt = Literal["fatal", "skip"]


class Copy(NamedTuple):
    """One image to copy, and the least that its shorter side is scaled to."""

    source: Path
    target: Path
    resize: int


def write_whole(path: Path, content: bytes) -> None:
    """Write a file so that there is never half of it under its name."""
    part = path.with_name(path.name + ".part")
    part.write_bytes(content)
    os.replace(part, path)


def check_numbers(resize: int | None, workers: int) -> None:
    """Raise ValueError if one is too small."""
    for name, value in {"resize": resize, "workers": workers}.items():
        if value is not None and value < 1:
            raise ValueError(f"{name} must be at least 1, but is {value}")


def begin(out: Path, settings: dict) -> None:
    """Make the folder `out`, or go on with it. Raises FileExistsError if it holds anything but this same work."""
    made = out / "made.json"
    content = json.dumps(settings, indent=2).encode() + b"\n"
    if made.exists():
        if made.read_bytes() != content:
            raise FileExistsError(f"out {out} was made with other settings, which {made} tells: give another folder")
    elif out.exists() and any(path.suffix != ".part" for path in out.iterdir()):
        raise FileExistsError(f"out {out} is not empty: give another folder")
    else:
        out.mkdir(parents=True, exist_ok=True)
        write_whole(made, content)


def copy_smaller(copy: Copy) -> str | None:
    """Write the copy, unless it is there already. Returns what is wrong with a damaged image."""
    if copy.target.exists():
        return None
    try:
        with open_image(copy.source, str(copy.source)) as image:
            scale = min(1, copy.resize / min(image.size))  # never larger
            size = [round(side * scale) for side in image.size]
            image.draft(None, size)
            image = image.convert("RGB").resize(size, Image.Resampling.BICUBIC, reducing_gap=2)
    except DamagedImage as error:
        return str(error)
    content = BytesIO()
    image.save(content, "JPEG", quality=QUALITY)
    write_whole(copy.target, content.getvalue())
    return None


def copy_folder(
    files: dict[str, dict[str, list[Path]]], out: Path, resize: int, corrupt: Corrupt, workers: int
) -> list[str]:
    """Copy the images, by split and class, to OUT/SPLIT/CLASS as JPEGs whose shorter side is at most `resize`.

    What an earlier call copied stays. Returns what is wrong with each damaged image, and writes it to
    OUT/damaged.txt; raises DamagedImage instead at the first, if `corrupt` is fatal.
    """
    copies = [
        Copy(path, out / split / name / copy_name(path), resize)
        for split, by_class in files.items()
        for name, paths in by_class.items()
        for path in paths
    ]
    targets = Counter(copy.target for copy in copies)
    if twice := [str(target) for target, count in targets.items() if count > 1]:
        raise ValueError(f"two images would be copied to the same file: {', '.join(twice)}")
    for folder in {target.parent for target in targets}:
        folder.mkdir(parents=True, exist_ok=True)
    damaged = []
    with ProcessPoolExecutor(workers, initializer=leave_signals_to_the_parent) as pool:
        messages = pool.map(copy_smaller, copies, chunksize=AT_ONCE)  # before the bar, whose thread no fork should see
        try:
            for message in tqdm(messages, desc=str(out), total=len(copies)):
                if message and corrupt == "fatal":
                    raise DamagedImage(message)
                damaged += [message] if message else []
        finally:  # after an error or Ctrl-C, only what is in hand is still finished
            pool.shutdown(cancel_futures=True)
    write_whole(out / "damaged.txt", "".join(f"{message}\n" for message in damaged).encode())
    return damaged


def copy_name(path: Path) -> str:
    """The name of an image's copy, which is a JPEG: the same where that says so."""
    return path.name if IMAGE_FORMATS[path.suffix.lower()] == "JPEG" else f"{path.name}.jpg"


def shrink(folder: Path, out: Path, resize: int, corrupt: Corrupt, workers: int) -> list[str]:
    """Copy a data folder (train/CLASS/*, val/CLASS/*, classes.txt) with images whose shorter side is at most `resize`.

    Goes on where an interrupted call stopped. Returns what is wrong with the damaged images that were left out.
    Raises what `check_numbers`, `split_files`, `read_classes`, `begin` and `copy_folder` raise.
    """
    check_numbers(resize, workers)
    files, names = split_files(folder), folder / "classes.txt"
    read_classes(names, list(files["train"]))
    begin(out, {"command": "shrink", "source": str(folder.resolve()), "resize": resize})
    if names.exists():
        write_whole(out / "classes.txt", names.read_bytes())
    return copy_folder(files, out, resize, corrupt, workers)
