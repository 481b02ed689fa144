import json
import os
import re
import subprocess
import sys
import unicodedata

import numpy as np
import pytest
from PIL import Image

from bra.data import ImageFolder, ImageSettings, printable
from bra.data.copies import shrink
from bra.data.names import normalised, spelt_out

SETTINGS = ImageSettings(size=8, workers=0)
STRICT = {"PYTHONIOENCODING": "ascii:strict", "LANG": "C", "LC_ALL": "C"}
ONE, TWO = (unicodedata.normalize(form, "Crème") for form in ("NFC", "NFD"))  # alike on a screen


@pytest.mark.parametrize(
    ("name", "text", "ascii_only"),
    [
        ("plain name.jpg", "plain name.jpg", "plain name.jpg"),
        ("naïve 犬", "naïve 犬", r"na\u00efve \u72ac"),
        (os.fsdecode(b"caf\xe9"), r"caf\xe9", r"caf\xe9"),
        ("two\nlines\x1b[2J", r"two\x0alines\x1b[2J", r"two\x0alines\x1b[2J"),
        ("left\u202eright\U000e0001", r"left\u202eright\U000e0001", r"left\u202eright\U000e0001"),
        (r"C:\new", r"C:\new", r"C:\new"),
    ],
)
def test_any_name_becomes_one_line_of_text(name, text, ascii_only):
    assert printable(name) == text == printable(text)
    assert spelt_out(name) == ascii_only
    text.encode()


def test_names_are_alike_whichever_way_their_accents_are_written():
    assert ONE != TWO and normalised(TWO) == ONE == normalised(ONE)
    assert (spelt_out(ONE), spelt_out(TWO)) == (r"Cr\u00e8me", r"Cre\u0300me")


@pytest.fixture
def odd_folder(image_folder):
    """One class renamed to bytes that are not UTF-8, one to what is not ASCII, and a damaged image with such a name."""
    for split in ("train", "val"):
        (image_folder / split / "red").rename(image_folder / split / "naïve")
        try:
            (image_folder / split / "blue").rename(image_folder / split / os.fsdecode(b"caf\xe9"))
        except OSError:
            pytest.skip("this disk holds UTF-8 names only")
    (image_folder / "train" / "naïve" / os.fsdecode(b"\xff\n.png")).write_bytes(b"no image")
    return image_folder


def run(module, *words):
    command = [sys.executable, "-W", "error", "-m", module, *words]
    done = subprocess.run(command, capture_output=True, check=False, env=os.environ | STRICT)
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout.decode("ascii")


@pytest.mark.slow
def test_a_run_about_names_that_are_not_utf_8_ends_well_under_a_strict_stdout(odd_folder, tmp_path):
    folder = tmp_path / os.fsdecode(b"r\xfcn")
    words = ["--image-size", "32", "--batch", "2", "--steps", "1", "--workers", "0", "--device", "cpu"]
    told = run("bra.train", *words, "--corrupt", "skip", "--data", f"folder:{odd_folder}", "--out", folder)
    assert rf"left out, damaged: 1 images: {odd_folder}/train/na\xefve/\xff\x0a.png" in told
    assert rf"open {tmp_path}/r\xfcn/explorer.html in a browser" in told
    page = (folder / "explorer.html").read_text(encoding="utf-8")
    shown = json.loads(re.search(r'\nmount\("\w+", (.*)\);\n', page)[1])["payload"]
    assert shown["source"].endswith(r"r\xfcn, held-out image 0") and r" caf\xe9" in shown["says"]
    assert not list(folder.glob("*.part"))
    assert "best.safetensors" in run("bra.train", "evaluate", folder)
    out = tmp_path / os.fsdecode(b"p\xe4ge.html")
    assert r"p\xe4ge.html (" in run("bra.explorer", "--run", folder, "--number", "3", "--out", out) and out.exists()


def test_classes_and_damaged_images_are_named_so_that_any_file_can_hold_them(odd_folder):
    data = ImageFolder(odd_folder, ImageSettings(size=8, corrupt="skip"))
    assert data.classes == [r"caf\xe9", "naïve"]
    assert data.damaged == [rf"{odd_folder}/train/naïve/\xff\x0a.png"]


def test_copies_keep_names_that_are_not_utf_8(odd_folder, tmp_path):
    words = ["--folder", odd_folder, "--out", tmp_path / "out", "--resize", "16", "--corrupt", "skip"]
    told = run("bra.data", "shrink", *words)
    damaged = (tmp_path / "out" / "damaged.txt").read_text(encoding="utf-8")
    assert damaged.startswith(rf"{odd_folder}/train/naïve/\xff\x0a.png is not a whole image: ")
    assert damaged.count("\n") == 1 and damaged.encode("ascii", "backslashreplace").decode() in told
    assert {os.fsencode(path.name) for path in (tmp_path / "out" / "val").iterdir()} == {b"caf\xe9", "naïve".encode()}


def test_readable_names_may_be_given_to_folders_that_are_not_utf_8(odd_folder):
    (odd_folder / "classes.txt").write_bytes(b"caf\xe9\tcoffee house\n" + "naïve\tnaïf\n".encode())
    assert ImageFolder(odd_folder, ImageSettings(size=8, corrupt="skip")).classes == ["coffee house", "naïf"]
    (odd_folder / "classes.txt").write_bytes("caf\xe9\tcoffee house\nnaïve\tnaïf\n".encode())
    with pytest.raises(ValueError, match=r"missing caf\\xe9; extra café"):
        ImageFolder(odd_folder, ImageSettings(size=8, corrupt="skip"))


def make_class(folder, name, grey):
    (folder / name).mkdir(parents=True)
    Image.fromarray(np.full((11, 13, 3), grey, np.uint8)).save(folder / name / f"{grey}.png")


@pytest.mark.parametrize(("train", "val"), [(ONE, TWO), (TWO, ONE)])
def test_a_class_whose_name_is_written_in_two_ways_is_one_class_and_that_is_said(train, val, tmp_path, caplog):
    make_class(tmp_path / "in" / "train", train, 30)
    make_class(tmp_path / "in" / "train", "Zebra", 50)
    make_class(tmp_path / "in" / "val", val, 70)
    (tmp_path / "in" / "classes.txt").write_text(f"{val}\tcream\nZebra\tzebra\n", encoding="utf-8")
    data = ImageFolder(tmp_path / "in", SETTINGS)
    assert data.classes == ["cream", "zebra"] and next(data.held_out(1)).label.tolist() == [0]
    (said,) = caplog.messages
    assert said == (
        f"data folder {tmp_path / 'in'}: class {ONE} is {spelt_out(train)} in train and {spelt_out(val)} in val, "
        "taken for the same"
    )
    shrink(tmp_path / "in", tmp_path / "out", 9, "fatal", 1)
    assert [path.parent.name for path in sorted((tmp_path / "out").glob("*/Cr*/*"))] == [ONE, ONE]


def test_two_classes_that_look_alike_are_refused(tmp_path):
    for name, grey in ((ONE, 30), (TWO, 50)):
        make_class(tmp_path / "train", name, grey)
    if len(list((tmp_path / "train").iterdir())) == 1:
        pytest.skip("this disk writes every name in one way")
    with pytest.raises(ValueError, match=r"holds Crème twice, as Cre\\u0300me and Cr\\u00e8me: rename one"):
        ImageFolder(tmp_path, SETTINGS)
