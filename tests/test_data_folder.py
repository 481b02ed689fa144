import os

import numpy as np
import pytest
from PIL import Image

from bra.data import DamagedImage, ImageFolder, ImageSettings
from bra.data.copies import shrink

FATAL, SKIP = (ImageSettings(size=8, workers=0, corrupt=corrupt) for corrupt in ("fatal", "skip"))


def save(path):
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.fromarray(np.full((7, 5, 3), 99, np.uint8)).save(path)


def test_files_that_are_passed_over_are_counted_in_one_line_for_each_split(image_folder, caplog):
    ImageFolder(image_folder, FATAL)
    assert caplog.messages == []
    red, blue = image_folder / "train" / "red", image_folder / "train" / "blue"
    for path in (red / "a.tif", red / "b.TIF", blue / "c.tif", blue / "d.gif"):
        save(path)
    (red / "README").write_text("scans")
    for path in (red / "more" / "e.png", red / "more" / "deep" / "f.png", image_folder / "train" / "g.png"):
        save(path)
    hidden = [
        red / ".h.tif",
        red / ".cache" / "i.tif",
        image_folder / "train" / ".j" / "k.tif",
        image_folder / "train" / "._m.png",
    ]
    for path in (*hidden, image_folder / "val" / "red" / "l.bmp.gif"):
        save(path)
    assert ImageFolder(image_folder, FATAL).count == 10
    assert caplog.messages == [
        f"data folder {image_folder / 'train'}: 8 files are passed over (3 .tif, 2 .png in sub-folders of a class, "
        "1 .gif, 1 .png outside the class folders, 1 without a suffix), 10 images are read",
        f"data folder {image_folder / 'val'}: 1 files are passed over (1 .gif), 4 images are read",
    ]


def test_classes_that_are_links_are_looked_through_too(image_folder, tmp_path_factory, caplog):
    elsewhere = tmp_path_factory.mktemp("elsewhere") / "blue"
    (image_folder / "train" / "blue").rename(elsewhere)
    (image_folder / "train" / "blue").symlink_to(elsewhere, target_is_directory=True)
    save(elsewhere / "a.tif")
    assert ImageFolder(image_folder, FATAL).count == 10
    assert "1 files are passed over (1 .tif)" in caplog.messages[0]


def test_more_kinds_than_fit_into_a_line_are_added_up(image_folder, caplog):
    for i in range(9):
        (image_folder / "train" / "red" / f"x.{i}").write_text("")
    ImageFolder(image_folder, FATAL)
    assert "9 files are passed over (1 .0, 1 .1, 1 .2, 1 .3, 1 .4, 1 .5, 3 of other kinds)" in caplog.messages[0]


@pytest.mark.parametrize("read", [lambda folder: ImageFolder(folder, SKIP), lambda f: shrink(f, f / "o", 9, "skip", 1)])
def test_data_of_which_more_is_passed_over_than_read_are_refused(read, image_folder):
    for i in range(4):
        save(image_folder / "val" / "red" / f"{i}.tiff")
    read(image_folder)  # as many
    save(image_folder / "val" / "red" / "5.tif")
    expected = (
        r"val: 5 files are passed over \(4 \.tiff, 1 \.tif\), more than the 4 that are read, which are \.jpg, .* right "
        "inside the class folders: convert them, or move them out of the data folder"
    )
    with pytest.raises(ValueError, match=expected):
        read(image_folder)


def test_a_class_without_images_says_what_it_has_instead(image_folder):
    save(image_folder / "val" / "green" / "6.tif")
    with pytest.raises(ValueError, match=r"green holds no image \(\.jpg, .*\), but 1 \.tif$"):
        ImageFolder(image_folder, SKIP)
    (image_folder / "val" / "green" / "6.tif").unlink()
    with pytest.raises(ValueError, match=r"green holds no image \(\.jpg, .*\), but nothing else$"):
        ImageFolder(image_folder, SKIP)


def dangling(path, monkeypatch):
    path.unlink()
    path.symlink_to(path.parent / "nowhere.png")


def folder(path, monkeypatch):
    path.unlink()
    save(path / "inside.png")


def forbidden(path, monkeypatch):
    opened = type(path).open

    def refuse(self, *arguments, **options):
        if self == path:
            raise PermissionError(13, "Permission denied", str(self))
        return opened(self, *arguments, **options)

    monkeypatch.setattr(type(path), "open", refuse)


@pytest.mark.parametrize(
    ("spoil", "message"),
    [
        (dangling, "it is gone, or a link that leads nowhere"),
        (folder, os.strerror(21)),
        (forbidden, "Permission denied"),
    ],
)
def test_an_image_that_cannot_be_read_is_fatal_or_left_out_and_named(spoil, message, image_folder, monkeypatch):
    path = image_folder / "train" / "blue" / "3.png"
    spoil(path, monkeypatch)
    with pytest.raises(DamagedImage, match=rf"blue.3\.png cannot be read: {message}$"):
        ImageFolder(image_folder, FATAL)
    data = ImageFolder(image_folder, SKIP)
    assert data.damaged == [str(path)] and (data.count, data.held_out_count) == (9, 4)


@pytest.mark.parametrize("spoil", [dangling, folder])
def test_an_image_that_can_no_longer_be_read_is_replaced_in_training_and_left_out_of_copies(
    spoil, image_folder, tmp_path_factory, monkeypatch
):
    data = ImageFolder(image_folder, SKIP)
    path = image_folder / "train" / "blue" / "3.png"
    spoil(path, monkeypatch)
    assert next(data.training(10, 0, 0)).image.shape == (10, 3, 8, 8) and data.damaged == [str(path)]
    with pytest.raises(DamagedImage, match=r"blue.3\.png cannot be read"):
        shrink(image_folder, tmp_path_factory.mktemp("fatal"), 16, "fatal", 1)
    (told,) = shrink(image_folder, tmp_path_factory.mktemp("skip"), 16, "skip", 1)
    assert told.startswith(f"{path} cannot be read: ")
