import io
import itertools
import sys

import datasets
import huggingface_hub
import numpy as np
import pytest
import torch
from PIL import Image

from bra.data import DamagedImage, HubImages, ImageSettings, open_data
from bra.data.recall import Recall

SETTINGS = ImageSettings(size=8, workers=0)
COLUMNS = {"picture": datasets.Image(), "kind": datasets.ClassLabel(names=["cat", "dog", "eel"])}


@pytest.fixture(autouse=True)
def cache(tmp_path, monkeypatch):
    """Nothing is left in the user's cache."""
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")


def png(grey):
    file = io.BytesIO()
    Image.fromarray(np.full((11, 13, 3), grey, np.uint8)).save(file, "PNG")
    return file.getvalue()


def write(folder, columns=COLUMNS, **splits):
    """A folder of Parquet files: a split's images are all grey, 10 times their label."""
    folder.mkdir(exist_ok=True)
    for split, labels in splits.items():
        images = [{"bytes": png(10 * max(label or 0, 0)), "path": None} for label in labels]
        values = {"note": ["x"] * len(labels)}
        for name, kind in columns.items():
            values[name] = images if isinstance(kind, datasets.Image) else labels
        features = datasets.Features({"note": datasets.Value("string")} | columns)
        table = datasets.Dataset.from_dict(values, features=features)
        table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    return folder


def test_reads_the_images_and_labels_of_parquet_files(tmp_path):
    folder = write(tmp_path / "set", train=[0, 1, 2, 2, 1], validation=[2, 0, 1], test=[0])
    data = open_data(f"hf:{folder}", Recall(), ImageSettings(size=8, workers=2))
    assert isinstance(data, HubImages) and data.classes == ["cat", "dog", "eel"]
    assert (data.count, data.held_out_count) == (5, 3)
    held_out = list(data.held_out(2))
    assert torch.cat([batch.label for batch in held_out]).tolist() == [2, 0, 1]
    for batch in [*held_out, *itertools.islice(data.training(5, 0, 0), 2)]:
        assert (batch.image == 10 * batch.label[:, None, None, None]).all() and batch.image.shape[1:] == (3, 8, 8)


@pytest.mark.parametrize(("splits", "count"), [({"val": 2, "test": 3}, 2), ({"test": 3}, 3)])
def test_the_first_split_that_suits_is_held_out(tmp_path, splits, count):
    folder = write(tmp_path / "set", train=[0], **{name: [1] * number for name, number in splits.items()})
    # the library calls a file val-... validation: the name that data sets give themselves is tried, too
    assert HubImages(str(folder), SETTINGS).held_out_count == count


@pytest.mark.parametrize(
    ("columns", "splits", "message"),
    [
        (COLUMNS, {"train": [0]}, "must have a split train and one of validation, val, test, but has train"),
        (COLUMNS, {"test": [0]}, "must have a split train and one of validation, val, test, but has test"),
        (
            {"kind": COLUMNS["kind"]},
            {"train": [0], "test": [0]},
            r"one column of Images, but has 0 in \(note: Value, kind: ClassLabel\)",
        ),
        (
            {"picture": COLUMNS["picture"], "kind": datasets.Value("int64")},
            {"train": [0], "test": [0]},
            r"one column of ClassLabels, but has 0 in \(note: Value, picture: Image, kind: Value\)",
        ),
        (
            COLUMNS | {"other": datasets.Image()},
            {"train": [0], "test": [0]},
            "one column of Images, but has 2 in .*other: Image",
        ),
        (COLUMNS, {"train": [0], "test": [0, -1]}, r"test, must label every image 0 to 2, not \{-1\}"),
        (COLUMNS, {"train": [0, None], "test": [0]}, r"train, must label every image 0 to 2, not \{None\}"),
    ],
)
def test_other_layouts_are_refused_with_what_was_found(tmp_path, columns, splits, message):
    folder = write(tmp_path / "set", columns, **splits)
    with pytest.raises(ValueError, match=message):
        HubImages(str(folder), SETTINGS)


def test_a_folder_may_begin_with_the_home_folder_as_a_tilde(tmp_path, monkeypatch):
    folder = write(tmp_path / "set", train=[0, 1], test=[2])
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("USERPROFILE", str(tmp_path))
    assert open_data("hf:~/set", Recall(), SETTINGS).sources["train"].name == f"{folder} train"


def test_damaged_rows_are_fatal_or_skipped_and_named(tmp_path):
    folder = tmp_path / "set"
    folder.mkdir()
    for split in ("train", "test"):
        images = [{"bytes": png(10), "path": None}, {"bytes": png(20)[:40], "path": None}, None]
        table = datasets.Dataset.from_dict({"picture": images, "kind": [1, 2, 0]}, datasets.Features(COLUMNS))
        table.to_parquet(folder / f"{split}-00000-of-00001.parquet")
    with pytest.raises(DamagedImage, match=r"set test\[1\] is not a whole image"):
        list(HubImages(str(folder), SETTINGS).held_out(3))
    data = HubImages(str(folder), ImageSettings(size=8, workers=0, corrupt="skip"))
    assert [batch.label.tolist() for batch in data.held_out(3)] == [[1]]
    assert next(data.training(3, 0, 0)).label.tolist() == [1, 1, 1]
    names = {f"{folder} {split}[{i}]" for split in ("train", "test") for i in (1, 2)}
    assert set(data.damaged) == names and len(data.damaged) == 4


def test_a_name_that_cannot_be_reached_says_what_to_do(tmp_path, monkeypatch):
    monkeypatch.setattr(datasets.config, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    expected = (
        "data hf:no/where could not be loaded: .*hf download no/where --repo-type dataset --local-dir DIR.*hf:DIR"
    )
    with pytest.raises(OSError, match=expected):
        HubImages("no/where", SETTINGS)
    (tmp_path / "empty").mkdir()
    with pytest.raises(OSError, match="empty could not be loaded"):
        HubImages(str(tmp_path / "empty"), SETTINGS)
    folder = write(tmp_path / "set", train=[0], test=[1])
    (folder / "train-00000-of-00001.parquet").write_bytes(b"PAR1 but no more")
    with pytest.raises(OSError, match="set could not be loaded"):
        HubImages(str(folder), SETTINGS)


def test_without_the_library_it_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "datasets", None)
    with pytest.raises(ValueError, match=r'data hf:x needs the library datasets: pip install ".*\[hub\]"'):
        HubImages("x", SETTINGS)
