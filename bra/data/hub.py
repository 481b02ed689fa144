"""Data sets of images from the Hugging Face hub, or from a folder that was downloaded from there."""

from collections.abc import Sequence
from pathlib import Path

from bra.arguments import install
from bra.data.decoding import Source
from bra.data.images import Images, ImageSettings
from bra.data.names import printable

HELD_OUT = ("validation", "val", "test")  # the first of these splits that exists is held out


class Rows(Sequence):
    """The images of a split, read from its table when asked for."""

    def __init__(self, table, image: str, label: str, name: str):
        self.table, self.image, self.label, self.name = table, image, label, name

    def __len__(self):
        return len(self.table)

    def __getitem__(self, i: int) -> Source:
        row = self.table[i]
        image = row[self.image] or {}
        content = image.get("bytes") or (Path(image["path"]) if image.get("path") else b"")  # nothing: told as damaged
        return Source(content, f"{printable(self.name)}[{i}]", row[self.label])


def load(name: str):
    """The splits of the data set. Raises ValueError without the library, OSError if the name cannot be loaded."""
    try:
        import datasets  # only here: it is large, and an extra of its own
    except ImportError as error:
        raise ValueError(f"data hf:{name} needs the library datasets: {install('hub')}") from error
    try:
        return datasets.load_dataset(name)
    except (OSError, RuntimeError, ValueError, datasets.exceptions.DatasetsError) as error:
        raise OSError(
            f"data hf:{name} could not be loaded: {error}. Is it spelt right, and is there a network? If not, run "
            f"`hf download {name} --repo-type dataset --local-dir DIR` where there is one, and give hf:DIR"
        ) from error


def find_column(features: dict, kind: type, name: str) -> str:
    """The one column of this kind. Raises ValueError, with what was found, if there is none or more than one."""
    found = [column for column, feature in features.items() if isinstance(feature, kind)]
    if len(found) != 1:
        there = ", ".join(f"{column}: {type(feature).__name__}" for column, feature in features.items())
        raise ValueError(f"data hf:{name} must have one column of {kind.__name__}s, but has {len(found)} in ({there})")
    return found[0]


class HubImages(Images):
    """The data set NAME of the hub, or a folder of its Parquet files: its split train, and one that is held out.

    Raises OSError if it cannot be loaded; ValueError if it has not these splits, with one column of images and one
    of class labels, or if an image has no label.
    """

    def __init__(self, name: str, settings: ImageSettings):
        splits = load(name)
        from datasets import ClassLabel, Image

        held_out = next((split for split in HELD_OUT if split in splits), None)
        if "train" not in splits or held_out is None:
            needed = f"a split train and one of {', '.join(HELD_OUT)}"
            raise ValueError(f"data hf:{name} must have {needed}, but has {', '.join(splits)}")
        rows = []
        for split in ("train", held_out):
            table = splits[split]
            image, label = (find_column(table.features, kind, name) for kind in (Image, ClassLabel))
            classes = splits["train"].features[label].names
            table = table.select_columns([image, label]).cast_column(image, Image(decode=False))  # left to `ImageFiles`
            if unknown := set(table.unique(label)) - set(range(len(classes))):
                raise ValueError(
                    f"data hf:{name}, {split}, must label every image 0 to {len(classes) - 1}, not {unknown}"
                )
            rows.append(Rows(table, image, label, f"{name} {split}"))
        super().__init__(*rows, classes, settings)
