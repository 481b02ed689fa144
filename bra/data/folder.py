"""Folders of images, one for each class."""

from pathlib import Path

from tqdm.auto import tqdm

from bra.data.decoding import IMAGE_FORMATS, DamagedImage, Source, check_whole
from bra.data.images import Images, ImageSettings


def image_files(folder: Path) -> list[Path]:
    """The images in a folder, sorted; hidden files are none. Raises FileNotFoundError for a link that leads nowhere."""
    paths = sorted(p for p in folder.iterdir() if p.suffix.lower() in IMAGE_FORMATS and p.name[0] != ".")
    for path in paths:
        if path.is_symlink() and not path.exists():
            raise FileNotFoundError(f"data image {path} is a link that leads nowhere")
    return [path for path in paths if path.is_file()]


def class_files(folder: Path) -> dict[str, list[Path]]:
    """The images of each class folder, sorted; hidden folders are no classes.

    Raises FileNotFoundError if the folder is missing, ValueError if it or a class folder is empty.
    """
    if not folder.is_dir():
        raise FileNotFoundError(f"data folder {folder} does not exist")
    files = {}
    for sub in sorted(path for path in folder.iterdir() if path.is_dir() and path.name[0] != "."):
        files[sub.name] = image_files(sub)
        if not files[sub.name]:
            raise ValueError(f"data folder {sub} holds no image ({', '.join(IMAGE_FORMATS)})")
    if not files:
        raise ValueError(f"data folder {folder} holds no class folders")
    return files


def split_files(folder: Path) -> dict[str, dict[str, list[Path]]]:
    """The images by split and class. Raises what `class_files` raises; ValueError if val has classes of its own."""
    files = {split: class_files(folder / split) for split in ("train", "val")}
    if unknown := sorted(files["val"].keys() - files["train"].keys()):
        raise ValueError(f"data folder {folder / 'val'} has classes that train lacks: {', '.join(unknown)}")
    return files


def read_classes(path: Path, folders: list[str]) -> list[str]:
    """The readable name of each class folder, from lines "folder<TAB>name"; without the file, the folder's own.

    Raises ValueError, with what is missing and what is extra, if the file does not name just these folders.
    """
    if not path.exists():
        return folders
    lines = [line.split("\t") for line in path.read_text(encoding="utf-8-sig").splitlines() if line.strip()]
    if wrong := [line for line in lines if len(line) != 2]:
        raise ValueError(f"{path} must hold lines of a folder, a tab and a name, but one is {' '.join(wrong[0])!r}")
    names = dict(lines)
    if len(lines) != len(folders) or names.keys() != set(folders):
        missing, extra = sorted(set(folders) - names.keys()), sorted(names.keys() - set(folders))
        raise ValueError(
            f"{path} must name every folder of train once and no other, but has {len(lines)} lines for {len(folders)} "
            f"folders: missing {', '.join(missing) or 'none'}; extra {', '.join(extra) or 'none'}"
        )
    return [names[name] for name in folders]


class ImageFolder(Images):
    """Images as FOLDER/train/CLASS/* and FOLDER/val/CLASS/*; FOLDER/classes.txt may give the classes readable names.

    Raises FileNotFoundError if a folder is missing; ValueError if one is empty, if val has classes that train lacks,
    if classes.txt does not fit, or if an image is cut short, which `settings` may allow: then it is left out.
    """

    def __init__(self, folder: Path, settings: ImageSettings):
        files = split_files(folder)
        folders = list(files["train"])
        classes = read_classes(folder / "classes.txt", folders)
        label = {name: i for i, name in enumerate(folders)}
        everything = [
            (split, Source(path, str(path), label[name]))
            for split, by_class in files.items()
            for name, paths in by_class.items()
            for path in paths
        ]
        kept, damaged = {"train": [], "val": []}, []
        for split, source in tqdm(everything, desc=f"checking {folder}", delay=2, leave=False):
            try:
                check_whole(source.content)
                kept[split].append(source)
            except DamagedImage:
                if settings.corrupt == "fatal":
                    raise
                damaged.append(source.name)
        if emptied := [split for split, sources in kept.items() if not sources]:
            raise ValueError(f"all images in data folder {folder / emptied[0]} are damaged, the first: {damaged[0]}")
        super().__init__(kept["train"], kept["val"], classes, settings)
        self.damaged += damaged
