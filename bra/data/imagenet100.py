"""ImageNet-100, the hundred classes of Tian et al. (2020, CMC), out of a folder of ImageNet.

Other lists go by the same name; numbers do not compare across them. The first lemma of WordNet names a class.
"""

from pathlib import Path

from bra.data.copies import Corrupt, begin, check_numbers, copy_folder
from bra.data.folder import image_files
from bra.files import write_atomically

LIST = (Path(__file__).parent / "imagenet100.txt").read_text(encoding="utf-8")
CLASSES = dict(line.split("\t") for line in LIST.splitlines())  # the readable name of each WordNet id
COUNTS = {"train": 126_689, "val": 5_000}  # images


def find_images(imagenet: Path) -> dict[str, dict[str, list[Path]]]:
    """The images of the hundred classes by split and class.

    Raises FileNotFoundError without train/ and val/; ValueError, with all that is missing, if any image is.
    """
    found, missing = {}, []
    for split, count in COUNTS.items():
        folder = imagenet / split
        if not folder.is_dir():
            raise FileNotFoundError(f"imagenet must hold train/ and val/, but {folder} does not exist")
        there = [name for name in CLASSES if (folder / name).is_dir()]
        if not there and image_files(folder):
            raise ValueError(
                f"{folder} must hold a folder for each class, but holds the images themselves: sort them first, as "
                "valprep.sh of github.com/soumith/imagenetloader.torch does"
            )
        found[split] = {name: image_files(folder / name) for name in there}
        if lost := [name for name in CLASSES if not found[split].get(name)]:
            missing.append(f"{folder} has no images of {len(lost)} classes: {', '.join(lost)}")
        if (total := sum(map(len, found[split].values()))) != count:
            missing.append(f"{folder} has {total} images of the hundred classes, not {count}")
    if odd := [
        f"{name} {len(files)}" for name, files in found["val"].items() if 0 < len(files) != COUNTS["val"] // 100
    ]:
        missing.append(f"{imagenet / 'val'} has not {COUNTS['val'] // 100} of each: {', '.join(odd)}")
    if missing:
        raise ValueError("; ".join(missing))
    return found


def link(imagenet: Path, out: Path) -> None:
    """Link each class folder. Raises OSError where the system makes no links."""
    for split in COUNTS:
        (out / split).mkdir(exist_ok=True)
        for name in CLASSES:
            here, there = out / split / name, (imagenet / split / name).resolve()
            if not here.is_symlink():
                try:
                    here.symlink_to(there, target_is_directory=True)
                except (OSError, NotImplementedError) as error:
                    raise OSError(
                        f"no symbolic links can be made here ({error}); Windows makes them in developer mode only: "
                        "use --resize 256, which copies, and another --out"
                    ) from error


def imagenet100(imagenet: Path, out: Path, resize: int | None, corrupt: Corrupt, workers: int) -> list[str]:
    """Make OUT/train/ID, OUT/val/ID and OUT/classes.txt: links to the class folders, or copies no larger than `resize`.

    Goes on where an interrupted call stopped. Returns what is wrong with the damaged images that were left out of
    the copies. Raises what `check_numbers`, `find_images`, `begin`, `link` and `copy_folder` raise.
    """
    check_numbers(resize, workers)
    files = find_images(imagenet)
    begin(out, {"command": "imagenet100", "source": str(imagenet.resolve()), "resize": resize})
    write_atomically(out / "classes.txt", LIST.encode())
    if resize is None:
        link(imagenet, out)
        return []
    return copy_folder(files, out, resize, corrupt, workers)
