import itertools
import json
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from PIL import Image
from skimage import data as photographs
from small_fashion import write_fashion_mnist

from bra import official
from bra.biformer import NANO, BiFormer
from bra.data import Arrays, DamagedImage, RecallBoards, normalise
from bra.data.recall import Recall
from bra.explorer.page import portrait_page
from bra.explorer.payload import pack
from bra.explorer.portray import LARGEST, of_held_out, of_photograph, of_pixels, open_photograph
from bra.files import read_json
from bra.look.views import look
from bra.train import train
from bra.train.config import TrainConfig
from bra.train.models import load_model
from bra.train.report import of_run

COMMITTED = Path(__file__).parent.parent / "book" / "results" / "recall-topk"


@pytest.fixture
def run(tmp_path):
    """A copy of the committed run."""
    return Path(shutil.copytree(COMMITTED, tmp_path / "run"))


@pytest.fixture
def photograph(tmp_path):
    """A photograph that is wider than high."""
    path = tmp_path / "cat.png"
    Image.fromarray(photographs.chelsea()).save(path)
    return path


def board(number):
    return next(itertools.islice(RecallBoards(Recall()).held_out(1), number, None))


@pytest.mark.parametrize("number", [0, 300])
def test_a_runs_portrait_is_of_its_last_weights_and_one_held_out_board(number):
    portrait, expected = of_run(COMMITTED, number), board(number)
    model, data, _ = load_model(COMMITTED)
    model = model.double()
    assert torch.equal(portrait.image, expected.image[0])
    assert portrait.truth == (expected.square.item(), expected.target.item())
    said = data.classes[model(normalise(expected.image, data.mean, data.std).double()).argmax()]
    is_ = data.classes[expected.label.item()]
    assert portrait.title == f"{COMMITTED}, held-out image {number}: says {said}, is {is_}"
    views = look(model, expected.image.double())
    for found, wanted in zip(portrait.views, views, strict=True):
        assert found.name == wanted.name and found.affinity.dtype == found.weights.dtype == torch.float64
        assert all(torch.equal(getattr(found, x), getattr(wanted, x)) for x in ("index", "affinity", "weights"))
    assert portrait.step == 500
    assert len(portrait.history) == (0 if number else 14), "the history is about the first board"


def test_hit_rates_stand_beside_the_blocks_and_the_best_block_comes_first(run):
    summary = read_json(run / "summary.json")
    for rates, best in (([0.25, 0.96], 1), ([0.9, 0.1], 0)):
        summary["held_out"] |= {"hit_rate": rates, "reverse_hit_rate": [0.5, 0.0626]}
        (run / "summary.json").write_text(json.dumps(summary))
        portrait = of_run(run)
        assert portrait.block == best
        assert portrait.columns == {
            "asking region reads the right one, 4096 boards": [f"{rate:.1%}" for rate in rates],
            "right one reads the asking one, 4096 boards": ["50.0%", "6.3%"],
        }
        assert f'"block": {best},' in portrait_page(portrait)
    del summary["held_out"]["reverse_hit_rate"]
    (run / "summary.json").write_text(json.dumps(summary))
    assert list(of_run(run).columns) == ["asking region reads the right one, 4096 boards"], (
        "a run of before it was measured"
    )


def test_the_first_board_has_the_history_of_the_training_and_others_have_none(run):
    views = of_run(run).views
    index, affinity = [v.index.tolist() for v in views], [v.affinity.tolist() for v in views]
    pages = [{"step": step, "index": index, "affinity": affinity} for step in (0, 10, 500)]
    (run / "routing.jsonl").write_text("".join(json.dumps(page) + "\n" for page in pages))
    portrait = of_run(run)
    payload = pack(portrait)
    assert payload["steps"] == [0, 10, 500] and portrait.start()["step"] == 500
    assert of_run(run, number=1).history == []


def test_a_run_that_still_trains_shows_its_best_weights_so_far(run):
    (run / "model.safetensors").rename(run / "best.safetensors")
    (run / "summary.json").unlink()
    portrait = of_run(run)
    assert f"{run}, best weights so far, held-out image 0: says" in portrait.title
    assert not portrait.columns, "nothing has been measured with these"
    (run / "best.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="run holds no weights of a run: train first, or give another folder"):
        of_run(run)


@pytest.mark.parametrize("number", [-1, 4096])
def test_a_board_that_is_not_held_out_is_refused(number):
    with pytest.raises(ValueError, match=f"number must be between 0 and 4095, but is {number}"):
        of_run(COMMITTED, number)


def test_a_photograph_in_a_runs_model(photograph):
    portrait = of_run(COMMITTED, photograph=photograph)
    assert portrait.title == f"{COMMITTED}, cat.png"
    assert portrait.truth is None and not portrait.history and not portrait.columns, "no right answer is known"
    pixels = open_photograph(photograph, 32, 1.0)
    assert torch.equal(portrait.image, pixels / 127.5 - 1)
    model, data, _ = load_model(COMMITTED)
    (view, *_) = look(model.double(), normalise(pixels[None], data.mean, data.std).double())
    assert torch.equal(portrait.views[0].index, view.index)


def test_a_model_of_one_channel_sees_photographs_grey(tmp_path, photograph):
    write_fashion_mnist(tmp_path / "data")
    config = TrainConfig(data=f"fashion-mnist:{tmp_path / 'data'}", steps=1, batch=4, warmup=0, device="cpu")
    path = train(replace(config, out=tmp_path / "run")).path
    assert "data-explorer" in (path / "explorer.html").read_text()
    assert of_run(path).image.shape[0] == 1 and not (path / "routing.jsonl").exists()
    portrait = of_run(path, photograph=photograph)
    side = of_run(path).image.shape[-1]
    grey = open_photograph(photograph, side, 1.0).float().mean(dim=0)
    assert portrait.image.shape == (1, side, side)
    assert (portrait.image[0] - (grey / 127.5 - 1)).abs().max() < 1 / 127
    with pytest.raises(ValueError, match="number must be between 0 and 20, but is 21"):
        of_run(path, 21)


def test_held_out_photographs_are_shown_as_they_are():
    images = torch.randint(256, (3, 1, 28, 28), dtype=torch.uint8)
    data = Arrays(images, torch.tensor([0, 1, 0]), images, torch.tensor([0, 1, 0]), ["cat", "dog"])
    model = BiFormer(replace(NANO, in_channels=1, num_classes=2, grid=(2, 2)))
    portrait = of_held_out(model, data, "x", number=1)
    shown = next(itertools.islice(data.held_out(1), 1, None)).image[0]
    assert torch.equal(portrait.image, shown / 127.5 - 1)
    assert re.fullmatch("x, held-out image 1: says (cat|dog), is dog", portrait.title)
    assert portrait.truth is None and not portrait.columns


def test_a_portrait_leaves_the_model_as_it_is():
    model, data, _ = load_model(COMMITTED)
    model.train()
    of_held_out(model, data, "x")
    assert model.training and all(p.dtype == torch.float32 for p in model.parameters())


def test_a_photograph_and_an_untrained_model_of_ones_choice(photograph):
    portrait, again, other = (of_photograph(photograph, "nano", size=64, seed=s) for s in (1, 1, 2))
    assert portrait.title == "cat.png, BiFormer nano, untrained: random weights"
    assert portrait.image.shape == (3, 64, 64) and len(portrait.views) == 2
    assert portrait_page(portrait) == portrait_page(again) != portrait_page(other)


def test_published_weights_are_loaded_and_named(photograph, monkeypatch):
    monkeypatch.setattr(official, "load", lambda model, path: model.head.weight.data.fill_(7))
    seen = []
    monkeypatch.setattr("bra.explorer.portray.look", lambda model, image: seen.append(model) or look(model, image))
    portrait = of_photograph(photograph, weights=Path("/x/biformer_tiny.pth"), size=32)
    assert portrait.title == "cat.png, BiFormer tiny, weights of biformer_tiny.pth"
    assert (seen[0].head.weight == 7).all()


@pytest.mark.parametrize("size", [0, LARGEST + 1])
def test_a_size_that_is_no_size_or_too_large_is_refused(photograph, size):
    with pytest.raises(ValueError, match=f"size must be between 1 and 2048 pixels, but is {size}"):
        of_photograph(photograph, size=size)


def test_a_photograph_is_turned_as_its_camera_was(tmp_path):
    upright = Image.fromarray(photographs.chelsea())
    upright.save(tmp_path / "upright.png")
    exif = Image.Exif()
    exif[0x0112] = 6  # shown rightly only when turned clockwise by 90 degrees
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "turned.png", exif=exif)
    a, b = (open_photograph(tmp_path / name, 50, 1.0) for name in ("upright.png", "turned.png"))
    assert torch.equal(a, b)
    upright.transpose(Image.Transpose.ROTATE_90).save(tmp_path / "plain.png")
    assert not torch.equal(a, open_photograph(tmp_path / "plain.png", 50, 1.0))


def test_the_middle_square_is_shown(tmp_path):
    pixels = Image.new("RGB", (60, 20), "red")
    pixels.paste("blue", (20, 0, 40, 20))
    pixels.save(tmp_path / "flag.png")
    red, green, blue = open_photograph(tmp_path / "flag.png", 8, 1.0)
    assert red.max() < 32 and green.max() == 0 and blue.min() > 223


def test_a_damaged_or_missing_photograph_is_named(tmp_path, photograph):
    (tmp_path / "half.png").write_bytes(photograph.read_bytes()[:50_000])
    with pytest.raises(DamagedImage, match=r"half\.png is not a whole image"):
        of_photograph(tmp_path / "half.png", size=32)
    (tmp_path / "notes.jpg").write_text("no image")
    with pytest.raises(DamagedImage, match=r"notes\.jpg is not a whole image"):
        of_run(COMMITTED, photograph=tmp_path / "notes.jpg")
    with pytest.raises(FileNotFoundError, match=r"image .*nothing\.png is no file"):
        of_photograph(tmp_path / "nothing.png")


def test_weights_in_half_precision_are_looked_at_in_float64():
    model, data, _ = load_model(COMMITTED)
    pixels = board(0).image[0]
    exact, rounded = (of_pixels(m, pixels, data, "x").views[0] for m in (model, model.to(torch.bfloat16)))
    assert rounded.affinity.dtype == torch.float64
    assert torch.allclose(exact.affinity, rounded.affinity, atol=0.05 * exact.affinity.abs().max().item())
