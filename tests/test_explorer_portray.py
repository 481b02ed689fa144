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
from torch import nn

from bra import official
from bra.biformer import NANO, BiFormer
from bra.data import Arrays, DamagedImage, DataSet, RecallBoards, normalise
from bra.data.recall import Recall
from bra.data.recall_where import RecallBoxes, RecallPixels
from bra.dense import Backbone, PixelHead, Segmenter
from bra.explorer.page import portrait_page
from bra.explorer.payload import pack
from bra.explorer.portray import (
    LARGEST,
    answer,
    marks,
    of_held_out,
    of_photograph,
    of_pixels,
    open_photograph,
    outlined,
)
from bra.files import read_json
from bra.look.views import look
from bra.train import train
from bra.train.config import TrainConfig
from bra.train.models import build_model, load_model
from bra.train.report import of_run
from bra.train.tasks import Boxes

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
    assert portrait.source == f"{COMMITTED}, held-out image {number}"
    assert (
        portrait.question == "Which shape has the colour of the plain square?" and portrait.asker == "the plain square"
    )
    assert portrait.says == f"The network says {said}, and that is right." and said == is_
    assert str(COMMITTED) not in portrait.title and portrait.title.endswith("?")
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


def test_the_board_on_which_the_training_shows_is_opened(run):
    """Of four boards: one that is hit from the first, one that is never hit, one learnt, one forgotten."""
    summary = read_json(run / "summary.json")
    summary["held_out"] |= {"hit_rate": [0.1, 0.9], "reverse_hit_rate": [0.5, 0.5]}
    (run / "summary.json").write_text(json.dumps(summary))
    boards = [board(number) for number in range(4)]

    def tables(number, hit):
        """Block 1, the best, hits or misses; block 0 does the other."""
        asking, answer = boards[number].square.item(), boards[number].target.item()
        index = torch.full((2, 16, 4), (answer + 1) % 16)
        index[1 if hit else 0, asking, 2] = answer
        return {"index": index.tolist(), "affinity": torch.zeros(2, 16, 16).tolist()}

    def note(numbers):
        hits = {"hit": (True, True), "never": (False, False), "learnt": (False, True), "forgotten": (True, False)}
        pages = []
        for i, step in enumerate((0, 500)):
            first, *more = [tables(n, hits[kind][i]) for n, kind in enumerate(numbers)]
            pages.append(json.dumps({"step": step, **first, "more": more}))
        (run / "routing.jsonl").write_text("\n".join(pages) + "\n")
        return of_run(run, None)

    opened = note(["hit", "never", "learnt", "forgotten"])
    assert opened.source == f"{run}, held-out image 2" and torch.equal(opened.image, boards[2].image[0])
    assert opened.history[0].index[1].tolist() == tables(2, False)["index"][1] and len(opened.history) == 2
    assert note(["learnt", "learnt"]).source == f"{run}, held-out image 0"
    assert note(["forgotten", "hit", "never"]).source == f"{run}, held-out image 0", "the first, if there is none"
    note(["hit", "never", "learnt", "forgotten"])
    assert [len(of_run(run, number).history) for number in (0, 1, 2, 3, 4)] == [2, 2, 2, 2, 0]


def test_a_run_that_still_trains_shows_its_best_weights_so_far(run):
    (run / "model.safetensors").rename(run / "best.safetensors")
    (run / "summary.json").unlink()
    portrait = of_run(run)
    assert portrait.source == f"{run}, best weights so far, held-out image 0"
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
    assert portrait.source == f"{COMMITTED}, cat.png" and "cat" not in portrait.title and not portrait.asker
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
    assert portrait.source == "x, held-out image 1" and portrait.question == "Which of 2 classes does the image show?"
    assert re.fullmatch("The network says (cat, but it is dog|dog, and that is right).", portrait.says)
    assert portrait.truth is None and not portrait.columns


def test_a_portrait_leaves_the_model_as_it_is():
    model, data, _ = load_model(COMMITTED)
    model.train()
    of_held_out(model, data, "x")
    assert model.training and all(p.dtype == torch.float32 for p in model.parameters())


def test_a_photograph_and_an_untrained_model_of_ones_choice(photograph):
    portrait, again, other = (of_photograph(photograph, "nano", size=64, seed=s) for s in (1, 1, 2))
    assert portrait.title == "What does an untrained BiFormer nano look at?" and portrait.source == "cat.png"
    assert portrait.says == "Its weights are random: it has learnt nothing yet."
    assert portrait.question.startswith("What does the photograph show?")
    assert portrait.image.shape == (3, 64, 64) and len(portrait.views) == 2
    assert portrait_page(portrait) == portrait_page(again) != portrait_page(other)


def test_published_weights_are_loaded_and_named(photograph, monkeypatch):
    monkeypatch.setattr(official, "load", lambda model, path: model.head.weight.data.fill_(7))
    seen = []
    monkeypatch.setattr("bra.explorer.portray.look", lambda model, image: seen.append(model) or look(model, image))
    portrait = of_photograph(photograph, weights=Path("/x/biformer_tiny.pth"), size=32)
    assert portrait.title == "What has BiFormer tiny learnt to look at?"
    assert portrait.says == "Its weights are those of biformer_tiny.pth." and portrait.source == "cat.png"
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


def test_a_segmenter_is_shown_all_of_a_photograph(tmp_path, photograph, monkeypatch):
    data = Three()
    data.asks = "pixels"
    monkeypatch.setattr("bra.train.report.load_model", lambda *_, **__: (segmenter(None), data, None))
    monkeypatch.setattr("bra.train.report.of_first", lambda _: 40)
    (tmp_path / "model.safetensors").touch()
    image = of_run(tmp_path, photograph=photograph).image
    height, width = image.shape[1:]
    assert width / height == pytest.approx(451 / 300, rel=0.02)
    assert open_photograph(photograph, 40, None).shape == (3, 40, 60), "its shorter side is scaled"


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


@pytest.mark.parametrize("kind", ["pixels", "boxes"])
def test_on_boards_that_ask_where_the_target_asks_and_what_is_marked_is_outlined(kind):
    data = {"pixels": RecallPixels, "boxes": RecallBoxes}[kind](Recall())
    model = build_model(TrainConfig(data=f"recall-{kind}"), data).eval()
    batch = next(itertools.islice(data.held_out(1), 7, None))
    if kind == "pixels":
        model.register_forward_hook(lambda *_: nn.functional.one_hot(batch.label, 2).permute(0, 3, 1, 2).double())
    else:
        said = [{"boxes": batch.boxes[0].double(), "scores": torch.tensor([0.9]), "labels": torch.tensor([1])}]
        model.register_forward_hook(lambda *_: said)
    held_out = {"hit_rate": [0.25, 0.75], "reverse_hit_rate": [0.5, 0.125]}
    portrait = of_held_out(model, data, "a run", held_out, number=7)
    assert portrait.truth == (batch.target.item(), batch.square.item())
    assert portrait.source == "a run, held-out image 7"
    assert portrait.says == "Outlined in white is what the network marks: asked glyph."
    asked = {"pixels": "Which pixels are those of the glyph", "boxes": "Where is the glyph"}[kind]
    assert portrait.question == f"{asked} that has the colour of the plain square?"
    assert portrait.asker == "the glyph that has the colour of the plain square"
    assert portrait.block == 1
    assert [list(values) for values in portrait.columns.values()] == [["25.0%", "75.0%"], ["50.0%", "12.5%"]]
    plain = batch.image[0].repeat_interleave(8, 1).repeat_interleave(8, 2)
    changed = (portrait.image != plain).any(dim=0)
    rows, columns = ((side // 8).unique().tolist() for side in changed.nonzero(as_tuple=True))
    row, column = divmod(batch.target.item(), 4)
    assert set(rows) <= set(range(8 * row, 8 * row + 8)) and set(columns) <= set(range(8 * column, 8 * column + 8))
    assert changed.any() and "truth" in json.dumps(pack(portrait))


def test_an_outline_is_white_within_and_black_without():
    marked = torch.zeros(5, 7, dtype=torch.long)
    marked[1:3, 2:6] = 1
    grey = torch.zeros(1, 5, 7)
    by_mask, by_box = outlined(grey, marked), outlined(grey, torch.tensor([[2.0, 1, 6, 3]]))
    assert by_mask.shape == (3, 5 * 36, 7 * 36), "small images are enlarged"
    assert torch.equal(by_mask, by_box)
    column = by_mask[0, :, 4 * 36].tolist()
    edges = [y for y, value in enumerate(column) if value == 1]
    assert edges == [35, 36, 107, 108], "on both sides of the border"
    assert [y for y, value in enumerate(column) if value == -1] == [34, 37, 106, 109]
    assert not outlined(torch.zeros(3, 300, 301), torch.zeros(300, 301, dtype=torch.long)).any(), "nothing to outline"


def test_marks_are_the_classes_of_pixels_or_sure_boxes():
    logits = torch.randn(1, 5, 3, 7)
    assert torch.equal(marks(logits), logits[0].argmax(dim=0))
    boxes = torch.rand(3, 4)
    assert torch.equal(marks([{"boxes": boxes, "scores": torch.tensor([0.9, 0.5, 0.51])}]), boxes[[0, 2]])


def segmenter(region):
    backbone = Backbone(BiFormer(replace(NANO, num_classes=0)), region=region)
    return Segmenter(backbone, PixelHead(backbone.channels, backbone.reduction, 2)).eval()


@pytest.mark.parametrize(("region", "expected"), [(None, (1, 1)), (16, (48 / 36, 64 / 52)), (12, (1, 60 / 52))])
def test_what_a_segmenter_fills_up_is_known(region, expected):
    said, larger = answer(segmenter(region), torch.randn(1, 3, 36, 52))
    assert larger == pytest.approx(expected) and said.shape == (1, 2, 36, 52)


@pytest.mark.parametrize(("region", "expected"), [(None, (64 / 64, 128 / 96)), (24, (72 / 64, 144 / 96))])
def test_what_a_detector_fills_up_is_known(region, expected):
    """40 x 60 becomes 64 x 96, then a multiple of 64, its coarsest stride, and of the region."""
    network = Boxes(Three()).network(BiFormer(replace(NANO, num_classes=0)), "retinanet", 64, region=region).eval()
    network.detector.transform.size_divisible = 64
    _, larger = answer(network, torch.randn(1, 3, 40, 60))
    assert larger == pytest.approx(expected)


class Three(DataSet):
    """Photographs with objects of three classes."""

    asks, classes, channels, held_out_count = "boxes", list("abc"), 3, 1
    training = held_out = None


@pytest.mark.parametrize("kind", ["pixels", "boxes"])
def test_a_photograph_is_shown_with_what_fills_it_up_so_that_regions_lie_right(kind):
    """A bright patch in the upper left corner; the map's tokens cover the same share of the picture."""
    data = Three()
    data.asks = kind
    network = segmenter(24)
    network.register_forward_hook(lambda module, given, said: torch.zeros_like(said))  # nothing to outline
    if kind == "boxes":
        network = Boxes(data).network(BiFormer(replace(NANO, num_classes=0)), "retinanet", 48, region=24).eval()
    pixels = torch.full((3, 40, 60), 128, dtype=torch.uint8)
    pixels[:, :10, :15] = 255
    portrait = of_pixels(network, pixels, data, "x")
    (height, width), view = portrait.image.shape[1:], portrait.views[-1]
    tokens = {"pixels": (40 / 4, 60 / 4), "boxes": (48 / 4, 72 / 4)}[kind]  # without padding
    assert view.size[0] >= tokens[0] and view.size[1] > tokens[1]
    across, down = (tokens[1] / view.size[1], tokens[0] / view.size[0])
    bright = (portrait.image[0] > 0.9).nonzero()
    assert bright.amin(dim=0).tolist()[0] <= 1
    assert (bright[:, 0].max() + 1) / height == pytest.approx(down * 10 / 40, abs=0.02)
    assert (bright[:, 1].max() + 1) / width == pytest.approx(across * 15 / 60, abs=0.02)
    assert portrait_page(portrait)
