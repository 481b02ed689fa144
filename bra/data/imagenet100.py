"""ImageNet-100, the hundred classes of Tian et al. (2020, CMC), out of a folder of ImageNet.

Other lists go by the same name; numbers do not compare across them. The first lemma of WordNet names a class.
"""

from pathlib import Path

from bra.data.files import IMAGE_FORMATS
from bra.data.folder import class_files, read_classes
from bra.data.shrink import Corrupt, begin, copy_smaller, write_once

LIST = (Path(__file__).parent / "imagenet100.txt").read_text(encoding="utf-8")
CLASSES = dict(line.split("\t") for line in LIST.splitlines())  # the readable name of each WordNet id
COUNTS = {"train": 126_689, "val": 5_000}  # images


def find_images(imagenet: Path) -> dict[str, dict[str, list[Path]]]:
    """The images of the hundred classes by split and class. Raises FileNotFoundError or ValueError if any is missing.

    All that is missing is said at once.
    """
    found, missing = {}, []
    for split, count in COUNTS.items():
        folder = imagenet / split
        if not folder.is_dir():
            raise FileNotFoundError(f"imagenet must hold train/ and val/, but {folder} does not exist")
        if lost := [name for name in CLASSES if not (folder / name).is_dir()]:
            if len(lost) == len(CLASSES) and any(path.suffix.lower() in IMAGE_FORMATS for path in folder.iterdir()):
                raise ValueError(
                    f"{folder} must hold a folder for each class, but holds the images themselves: sort them first, "
                    "as valprep.sh of github.com/soumith/imagenetloader.torch does, for one"
                )
            missing.append(f"{folder} lacks {len(lost)} class folders: {', '.join(lost)}")
            continue
        found[split] = {name: class_files(folder, name) for name in CLASSES}
        if (total := sum(map(len, found[split].values()))) != count:
            even = COUNTS["val"] // len(CLASSES)
            odd = [f"{name} {len(paths)}" for name, paths in found["val"].items() if len(paths) != even] if split == "val" else []
            detail = f" (of each class {even}, but {', '.join(odd)})" if odd else ""
            missing.append(f"{folder} holds {total} images of the hundred classes, not {count}{detail}")
    if missing:
        raise ValueError("; ".join(missing))
    return found
