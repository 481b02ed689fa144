import errno
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from bra.data import DamagedImage, ImageFolder, ImageSettings, copies, imagenet100
from bra.data.copies import shrink
from bra.data.imagenet100 import CLASSES

SETTINGS = ImageSettings(size=8, workers=0)


@pytest.fixture
def imagenet(tmp_path, monkeypatch):
    """ImageNet with two training images a class and one held out, and a class that is not asked for."""
    monkeypatch.setattr(imagenet100, "COUNTS", {"train": 200, "val": 100})
    draw = np.random.default_rng(0)
    for name in [*CLASSES, "n00000000"]:
        for split, count in (("train", 2), ("val", 1)):
            (tmp_path / "in" / split / name).mkdir(parents=True)
            for i in range(count):
                pixels = draw.integers(256, size=(37, 41 + 10 * i, 3), dtype=np.uint8)
                Image.fromarray(pixels).save(tmp_path / "in" / split / name / f"{name}_{i}.JPEG")
    return tmp_path / "in"


def make(imagenet, out, resize=None, corrupt="fatal", workers=1):
    return imagenet100.imagenet100(imagenet, out, resize, corrupt, workers)


def opened(path):
    """The image, its file closed again."""
    with Image.open(path) as image:
        image.load()
    return image


def test_the_list_is_that_of_cmc():
    assert len(CLASSES) == 100 and len(set(CLASSES.values())) == 100
    assert list(CLASSES)[:2] == ["n02869837", "n01749939"] and list(CLASSES)[-1] == "n02090622"
    assert (CLASSES["n02869837"], CLASSES["n01558993"], CLASSES["n02090622"]) == ("bonnet", "robin", "borzoi")
    assert imagenet100.COUNTS == {"train": 126_689, "val": 5_000}
    assert all(name[0] == "n" and name[1:].isdigit() and len(name) == 9 for name in CLASSES)


def test_links_to_the_class_folders(imagenet, tmp_path):
    out = tmp_path / "out"
    assert make(Path(os.path.relpath(imagenet)), out) == []
    data = ImageFolder(out, SETTINGS)
    assert (data.count, data.held_out_count) == (200, 100)
    assert data.classes == [CLASSES[name] for name in sorted(CLASSES)]
    linked = out / "train" / "n02869837"
    assert linked.is_symlink() and linked.resolve() == imagenet / "train" / "n02869837"
    linked.unlink()
    make(imagenet, out)  # goes on
    assert linked.is_symlink()


def test_says_all_that_is_missing_and_makes_nothing(imagenet, tmp_path):
    for path in ((imagenet / "train" / "n02869837"), (imagenet / "train" / "n01749939")):
        for file in path.iterdir():
            file.unlink()
    (imagenet / "train" / "n02869837").rmdir()
    (imagenet / "val" / "n02090622" / "more.JPEG").write_bytes(b"")
    with pytest.raises(ValueError) as caught:
        make(imagenet, tmp_path / "out")
    for part in (
        "train has no images of 2 classes: n02869837, n01749939;",
        "train has 196 images of the hundred classes, not 200;",
        "val has 101 images of the hundred classes, not 100;",
        "val has not 1 of each: n02090622 2",
    ):
        assert part in str(caught.value)
    assert not (tmp_path / "out").exists()
    with pytest.raises(FileNotFoundError, match=r"imagenet must hold train/ and val/, but .*nowhere.train does not"):
        make(tmp_path / "nowhere", tmp_path / "out")


def test_validation_images_in_one_folder_are_to_be_sorted_first(imagenet, tmp_path):
    for file in list((imagenet / "val").glob("*/*")):
        file.rename(imagenet / "val" / file.name)
        file.parent.rmdir()
    with pytest.raises(ValueError, match=r"val must hold a folder for each class, .*: sort them first, as valprep\.sh"):
        make(imagenet, tmp_path / "out")


def test_copies_have_a_short_side_at_most_and_are_never_larger(imagenet, tmp_path):
    Image.new("RGB", (20, 11)).save(imagenet / "val" / "n02869837" / "n02869837_0.JPEG")
    assert make(imagenet, tmp_path / "out", resize=16, workers=2) == []
    sizes = {path.name[-6]: opened(path).size for path in sorted((tmp_path / "out" / "train").glob("*/*"))}
    assert sizes == {"0": (18, 16), "1": (22, 16)}
    assert opened(tmp_path / "out" / "val" / "n02869837" / "n02869837_0.JPEG").size == (20, 11)
    assert ImageFolder(tmp_path / "out", SETTINGS).count == 200
    names = {path.relative_to(imagenet).as_posix() for path in imagenet.rglob("*.JPEG") if "n00000000" not in path.name}
    assert {path.relative_to(tmp_path / "out").as_posix() for path in (tmp_path / "out").rglob("*.JPEG")} == names


def test_an_interrupted_call_goes_on_and_nothing_else_does(image_folder, tmp_path, monkeypatch):
    out = tmp_path / "out"
    shrink(image_folder, out, 16, "fatal", 1)
    paths = sorted(out.glob("*/*/*.*"))
    old, lost = paths[0], paths[1]
    old.write_bytes(b"kept")
    lost.rename(lost.with_name(lost.name + ".part"))  # as a call that was killed leaves it
    shrink(image_folder, out, 16, "fatal", 1)
    assert old.read_bytes() == b"kept" and min(opened(lost).size) == 16
    assert sorted(out.glob("*/*/*.*")) == paths, "no part is left"
    for resize, source in ((17, image_folder), (16, out)):
        with pytest.raises(FileExistsError, match=r"out .*out was made with other settings, which .*made\.json tells"):
            shrink(source, out, resize, "fatal", 1)
    (tmp_path / "other").mkdir()
    (tmp_path / "other" / "thesis.txt").write_text("mine")
    with pytest.raises(FileExistsError, match=r"out .*other is not empty: give another folder"):
        shrink(image_folder, tmp_path / "other", 16, "fatal", 1)
    assert os.listdir(tmp_path / "other") == ["thesis.txt"]


def test_copies_are_whole_or_not_there(tmp_path, monkeypatch):
    Image.new("RGB", (20, 20)).save(tmp_path / "x.png")
    job = copies.Copy(tmp_path / "x.png", tmp_path / "y.jpg", 16)
    replace = os.replace
    monkeypatch.setattr(os, "replace", lambda part, path: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        copies.copy_smaller(job)
    assert not job.target.exists()
    monkeypatch.setattr(os, "replace", replace)
    assert copies.copy_smaller(job) is None and opened(job.target).size == (16, 16)


def test_a_disk_that_is_full_is_no_damaged_image(tmp_path, monkeypatch):
    Image.new("RGB", (20, 20)).save(tmp_path / "x.png")

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(OSError, match=r"No space left on device: .*y\.jpg"):
        copies.copy_smaller(copies.Copy(tmp_path / "x.png", tmp_path / "lost" / "y.jpg", 16))


def test_damaged_images_are_fatal_or_left_out_and_named(image_folder, tmp_path):
    paths = [image_folder / "train" / "red" / "2.JPG", image_folder / "val" / "blue" / "1.png"]
    for path in paths:
        path.write_bytes(path.read_bytes()[:200])
    with pytest.raises(DamagedImage, match=r"red.2\.JPG is not a whole image"):
        shrink(image_folder, tmp_path / "out", 16, "fatal", 2)
    for _ in range(2):  # a second call names them again
        damaged = shrink(image_folder, tmp_path / "out", 16, "skip", 2)
        assert [message.partition(" is not")[0] for message in damaged] == [str(path) for path in paths]
        assert (tmp_path / "out" / "damaged.txt").read_text().splitlines() == damaged
    data = ImageFolder(tmp_path / "out", SETTINGS)
    assert (data.count, data.held_out_count) == (9, 3)


def test_copies_are_named_for_what_they_are_and_never_overwrite_each_other(image_folder, tmp_path):
    (image_folder / "classes.txt").write_text("red\tdeep red\nblue\tsky blue\n")
    shrink(image_folder, tmp_path / "out", 16, "fatal", 1)
    assert sorted(os.listdir(tmp_path / "out" / "val" / "red")) == ["0.JPG", "1.png.jpg"]
    assert opened(tmp_path / "out" / "val" / "red" / "1.png.jpg").format == "JPEG"
    assert ImageFolder(tmp_path / "out", SETTINGS).classes == ["sky blue", "deep red"]
    Image.new("RGB", (9, 9)).save(image_folder / "val" / "red" / "1.png.jpg")
    with pytest.raises(ValueError, match=r"two images would be copied to the same file: .*red.1\.png\.jpg"):
        shrink(image_folder, tmp_path / "other", 16, "fatal", 1)


def test_numbers_out_of_range_are_refused_before_anything_is_made(image_folder, tmp_path):
    for resize, workers, message in (
        (0, 1, "resize must be at least 1, but is 0"),
        (9, 0, "workers must be at least 1"),
    ):
        with pytest.raises(ValueError, match=message):
            shrink(image_folder, tmp_path / "out", resize, "fatal", workers)
        assert not (tmp_path / "out").exists()


def test_where_no_links_can_be_made_it_says_what_to_do(imagenet, tmp_path, monkeypatch):
    def refuse(*arguments, **options):
        raise OSError("a required privilege is not held")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    with pytest.raises(OSError, match=r"no symbolic links can be made here \(a .*use --resize 256, .* another --out"):
        make(imagenet, tmp_path / "out")
    make(imagenet, tmp_path / "another", resize=256)
    assert any((tmp_path / "another" / "train").rglob("*.*")), "as that error says"


def command(*arguments):
    process = [sys.executable, "-W", "error", "-m", "bra.data", *map(str, arguments)]
    return subprocess.run(process, capture_output=True, text=True, check=False)


@pytest.mark.slow
def test_the_command_line(image_folder, tmp_path, monkeypatch):
    (image_folder / "train" / "red" / "2.JPG").write_bytes(b"")
    failed = command("shrink", "--folder", image_folder, "--out", tmp_path / "out", "--resize", 16)
    assert failed.returncode == 1 and failed.stdout == "" and "Traceback" not in failed.stderr
    assert failed.stderr.splitlines()[-1].startswith(
        f"error: {image_folder / 'train' / 'red' / '2.JPG'} is not a whole"
    )
    done = command("shrink", "--folder", image_folder, "--out", tmp_path / "out", "--resize", 16, "--corrupt", "skip")
    assert done.returncode == 0 and "1 damaged images were left out, and named in damaged.txt:" in done.stdout
    small = tmp_path / "home" / "out"
    monkeypatch.setenv("HOME", str(small.parent))
    assert command("shrink", f"--folder={image_folder}", "--out=~/out", "--corrupt=skip").returncode == 0
    assert len(list(small.glob("*/*/*"))) == 13
    missing = command("imagenet100", "--imagenet", tmp_path / "no", "--out", tmp_path / "x")
    assert missing.returncode == 1 and missing.stderr.startswith("error: imagenet must hold train/ and val/")
