"""Folders of images made from others: smaller copies, which are decoded faster."""

import json
from collections import Counter
from concurrent.futures import ProcessPoolExecutor
from io import BytesIO
from pathlib import Path
from typing import Literal, NamedTuple

from PIL import Image
from tqdm.auto import tqdm

from bra.data.decoding import IMAGE_FORMATS, DamagedImage, find_turn, open_image, turned
from bra.data.folder import read_classes, split_files
from bra.data.names import printable
from bra.data.workers import explain_loss, leave_signals_to_the_parent
from bra.files import write_atomically

QUALITY = 95  # of the JPEGs
AT_ONCE = 16  # images that a process is given
Corrupt = Literal["fatal", "skip"]


class Copy(NamedTuple):
    """One image to copy, and the least that its shorter side is scaled to."""

    source: Path
    target: Path
    resize: int


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
            raise FileExistsError(
                f"out {printable(out)} was made with other settings, which {printable(made)} tells: give another folder"
            )
    elif out.exists() and any(path.suffix != ".part" for path in out.iterdir()):
        raise FileExistsError(f"out {printable(out)} is not empty: give another folder")
    else:
        out.mkdir(parents=True, exist_ok=True)
        write_atomically(made, content)


def copy_smaller(copy: Copy) -> str | None:
    """Write the copy, upright, unless it is there already. Returns what is wrong with a damaged image."""
    if copy.target.exists():
        return None
    try:
        with open_image(copy.source, str(copy.source)) as image:
            turn = find_turn(image)
            scale = min(1, copy.resize / min(image.size))  # never larger
            size = [round(side * scale) for side in image.size]
            image.draft(None, size)
            small = image.convert("RGB").resize(size, Image.Resampling.BICUBIC, reducing_gap=2)
    except DamagedImage as error:
        return str(error)
    content = BytesIO()
    turned(small, turn).save(content, "JPEG", quality=QUALITY)  # without the note, which would turn it again
    write_atomically(copy.target, content.getvalue())
    return None


def copy_folder(
    files: dict[str, dict[str, list[Path]]], out: Path, resize: int, corrupt: Corrupt, workers: int
) -> list[str]:
    """Copy the images, by split and class, to OUT/SPLIT/CLASS as JPEGs whose shorter side is at most `resize`.

    What an earlier call copied stays. Returns what is wrong with each damaged image, and writes it to
    OUT/damaged.txt. Raises ValueError if two images would become one; what `copy_all` raises.
    """
    copies = [
        Copy(path, out / split / name / copy_name(path), resize)
        for split, by_class in files.items()
        for name, paths in by_class.items()
        for path in paths
    ]
    targets = Counter(copy.target for copy in copies)
    if twice := [printable(target) for target, count in targets.items() if count > 1]:
        raise ValueError(f"two images would be copied to the same file: {', '.join(twice)}")
    folders = {target.parent for target in targets}
    for folder in folders:
        folder.mkdir(parents=True, exist_ok=True)
    try:
        damaged = copy_all(copies, printable(out), corrupt, workers)
    finally:
        for part in (part for folder in folders for part in folder.glob("*.part")):
            part.unlink()  # half a file, of a process that was killed
    write_atomically(out / "damaged.txt", "".join(f"{message}\n" for message in damaged).encode())
    return damaged


def copy_all(copies: list[Copy], title: str, corrupt: Corrupt, workers: int) -> list[str]:
    """Copy in so many processes, under a progress bar. Returns what is wrong with each damaged image.

    Raises DamagedImage instead at the first, if `corrupt` is fatal; WorkersLost if a process is killed.
    """
    damaged = []
    with (
        explain_loss(workers, fewest=1),
        ProcessPoolExecutor(workers, initializer=leave_signals_to_the_parent) as pool,
    ):
        # this starts the processes: before the bar, which runs a thread, and a process with threads should not fork
        messages = pool.map(copy_smaller, copies, chunksize=AT_ONCE)
        try:
            for message in tqdm(messages, desc=title, total=len(copies)):
                if message and corrupt == "fatal":
                    raise DamagedImage(message)
                damaged += [message] if message else []
        finally:  # after an error or Ctrl-C, images that are begun are finished, and no others begun
            pool.shutdown(cancel_futures=True)
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
        write_atomically(out / "classes.txt", names.read_bytes())
    return copy_folder(files, out, resize, corrupt, workers)
