"""`python -m bra.explorer`."""

import sys
from pathlib import Path

import pytest
from PIL import Image
from skimage import data as photographs

from bra.explorer.__main__ import Request, main, write

COMMITTED = Path(__file__).parent.parent / "book" / "results" / "recall-topk"

OF_A_RUN = "error: weights must be a published checkpoint, but are of a run"


def say(monkeypatch, *arguments):
    monkeypatch.setattr(sys, "argv", ["explorer", *map(str, arguments)])
    main()


def test_it_writes_a_file_and_names_it(tmp_path, monkeypatch, capsys):
    out = tmp_path / "board.html"
    say(monkeypatch, "--run", COMMITTED, "--number", 3, "--out", out)
    assert capsys.readouterr().out == f"{out} ({out.stat().st_size / 1000:,.0f} kB): open it in a browser\n"
    assert f"{COMMITTED}, held-out image 3" in out.read_text()


def test_a_photograph_alone_or_in_a_run(tmp_path):
    Image.fromarray(photographs.chelsea()).save(tmp_path / "cat.png")
    for change, title, source in (
        ({"model": "nano", "size": 48}, "What does an untrained BiFormer nano look at?", "cat.png"),
        ({"run": COMMITTED}, "What has this network learnt to look at?", f"{COMMITTED}, cat.png"),
    ):
        page = write(Request(image=tmp_path / "cat.png", out=tmp_path / "page.html", **change)).read_text()
        assert f"<title>{title}</title>" in page and f'"source": "{source}"' in page


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ([], "error: run or image must be given: --run FOLDER, --image FILE, or both"),
        (["--run", "{}"], "error: {} holds no weights of a run: train first, or give another folder"),
        (["--run", COMMITTED, "--number", 5000], "error: number must be between 0 and 4095, but is 5000"),
        (["--image", "{}/nothing.jpg"], "error: image {}/nothing.jpg is no file"),
        (["--image", "{}", "--size", 32], "error: image {} is no file"),
        (
            ["--image", "{}/cat.png", "--number", 5],
            "error: number must be left out beside image: it would change nothing",
        ),
        (["--run", COMMITTED, "--size", 32], "error: size must be left out beside run: it would change nothing"),
        (["--run", COMMITTED, "--out", "{}"], "error: out must be a file, but {} is a folder"),
        (["--image", "{}/notes.jpg"], "error: {}/notes.jpg is not a whole image: cannot identify image file"),
        (["--image", "{}/notes.jpg", "--size", 0], "error: size must be between 1 and 2048 pixels, but is 0"),
        (["--image", "{}/cat.png", "--size", 32, "--weights", "{}/notes.jpg"], "error: {}/notes.jpg"),
        (["--run", COMMITTED, "--out", "{}/notes.jpg/x.html"], "error: [Errno "),
        (["--weights", COMMITTED], f"{OF_A_RUN}: --run {COMMITTED} opens it"),
        (["--image", "{}/cat.png", "--weights", COMMITTED / "model.safetensors"], f"{OF_A_RUN}: --run {COMMITTED} "),
    ],
)
def test_what_is_wrong_is_said_in_one_line(arguments, message, tmp_path, monkeypatch, capsys):
    (tmp_path / "notes.jpg").write_text("no image")
    Image.fromarray(photographs.chelsea()).save(tmp_path / "cat.png")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        say(monkeypatch, *(str(a).format(tmp_path) for a in arguments))
    assert str(stopped.value).startswith(message.format(tmp_path)) and "\n" not in str(stopped.value)
    assert not (tmp_path / "explorer.html").exists()
