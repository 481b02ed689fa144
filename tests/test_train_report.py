import json
import re

import pytest
import torch

import bra
from bra.data import WHOLE, Arrays, DataSet, Pixels, RecallBoards, normalise
from bra.data.recall import Recall
from bra.data.recall_where import RecallBoxes, RecallPixels
from bra.dense import PixelHead, Segmenter
from bra.files import read_json
from bra.train.config import TrainConfig
from bra.train.evaluation import evaluate
from bra.train.models import build_model
from bra.train.report import best_block, blindfold, draw_boards, draw_photo, finish, table
from bra.train.writer import RunWriter


@pytest.fixture
def data():
    return RecallBoards(Recall(), held_out_count=32)


def test_blindfolding_changes_the_routes_and_no_weight(data):
    model = bra.biformer_nano()
    blind = blindfold(model, 0)
    assert all(torch.equal(a, b) for a, b in zip(model.parameters(), blind.parameters(), strict=True))
    images = data.task.sample(2, 0).image
    tables = [routes.index for routes in blind.routes(images)]
    assert all(torch.equal(t[0], t[1]) and t.shape == (2, 16, 4) for t in tables)
    assert not torch.equal(tables[0], tables[1]), "each layer draws its own table"
    seeing = model.routes(images)[0].index
    assert not torch.equal(seeing[0], seeing[1]), "the model itself still routes by content"


def test_boards_are_drawn_under_the_best_block(data):
    model = bra.biformer_nano().eval()
    boards = next(data.held_out(4))
    for block, hit_rate in ((0, [0.9, 0.1]), (1, [0.1, 0.9])):
        index = model.routes(boards.image)[block].index
        read = ", ".join(map(str, index[0, boards.square[0]].tolist()))
        assert f"region {boards.square[0]} reads {read} and should" in draw_boards(model, data, hit_rate).alt


@pytest.mark.parametrize("kind", ["pixels", "boxes"])
def test_boards_that_ask_where_are_drawn_from_the_target_to_the_square(kind):
    data = {"pixels": RecallPixels, "boxes": RecallBoxes}[kind](Recall(), held_out_count=4)
    model, boards = build_model(TrainConfig(data=f"recall-{kind}"), data).eval(), next(data.held_out(4))
    if kind == "pixels":  # says the truth, and one pixel more on each board
        said = boards.label.clone()
        said[:, 0, 0] = 1
        model.register_forward_hook(lambda *_: torch.nn.functional.one_hot(said, 2).permute(0, 3, 1, 2))
        titles = [f"{n - 1} of {n} marked are right" for n in said.sum(dim=(1, 2)).tolist()]
    else:
        scores = torch.tensor([[0.9, 0.6], [0.9, 0.4]] * 2)
        said = [{"boxes": box.repeat(2, 1), "scores": s} for box, s in zip(boards.boxes, scores, strict=True)]
        model.register_forward_hook(lambda *_: said)
        titles = ["2 boxes", "1 box"] * 2
    picture = draw_boards(model, data, [0.5, 0.25])
    assert [axes.get_title() for axes in picture.figure.axes] == titles
    for number, (asks, answers) in enumerate(zip(boards.target.tolist(), boards.square.tolist(), strict=True), 1):
        assert re.search(rf"board {number}: region {asks} reads [\d, ]+ and should read {answers}\b", picture.alt)


def test_the_best_block_counts():
    assert best_block({"loss": 1.0, "accuracy": 0.5, "hit_rate": [0.2, 0.7], "other": 3}) == {
        "loss": 1.0,
        "accuracy": 0.5,
        "hit_rate": 0.7,
    }
    assert best_block({"accuracy": 0.5}) == {"accuracy": 0.5}


def test_the_table_tells_chance_from_the_number_of_glyphs(tmp_path, data):
    settings = {"data": "recall", "router": "local", "seed": 0, "recall": {"glyphs": 5}}
    run = RunWriter(tmp_path / "run", settings, resume=False)
    run.log(step=1, loss=2.0, accuracy=0.1, hit_rate=[0.0, 0.0])
    run.log(step=1, held_out={"accuracy": 0.125, "hit_rate": [0.25, 0.5]}, seconds=61.4)
    run.keep_best(1, 0.125, bra.biformer_nano())
    finish(run, bra.biformer_nano(), data)
    lines = table(run).splitlines()
    assert [line.split() for line in lines[1:3]] == [
        ["local", "routing", "12.50%", "0.500"],
        ["guessing", "a", "shape", "on", "the", "board", "20.00%", "-"],
    ]
    assert lines[3] == "61 s of training on cpu"
    settings["router"] = "topk"
    seeing = RunWriter(tmp_path / "topk", settings, resume=False)
    for line in run.read_metrics():
        seeing.log(**line)
    model = bra.biformer_nano()
    seeing.keep_best(1, 0.125, model)
    finish(seeing, model, data)
    blind = json.loads(seeing.summary.read_text())["blind"]
    assert blind == evaluate(blindfold(model, 0), data)
    assert blind["hit_rate"] != evaluate(model, data)["hit_rate"]
    assert "blind" not in json.loads(run.summary.read_text()), "a table is blind already"


def photographs_run(folder, **last):
    """A finished run on photographs: the third evaluation is the last, the second was the best."""
    pixels, labels = torch.randint(256, (2, 3, 32, 32), dtype=torch.uint8), torch.zeros(2, dtype=torch.long)
    data = Arrays(pixels, labels, pixels, labels, list("abcdefgh"))
    run, model = (
        RunWriter(folder, {"data": "folder:/x", "router": "topk", "seed": 0}, resume=False),
        bra.biformer_nano(),
    )
    for step, accuracy in ((0, 0.125), (5, 0.75), (7, 0.625)):
        run.log(step=step, held_out={"accuracy": accuracy}, seconds=11.0 * step, **(last if step == 7 else {}))
        run.keep_best(step, accuracy, model)
    run.log(step=7, loss=2.0, accuracy=0.1)
    finish(run, model, data)
    return run, read_json(run.summary)


def test_the_summary_tells_the_last_and_the_best(tmp_path):
    run, summary = photographs_run(tmp_path / "run")
    weights = sum(p.numel() for p in bra.biformer_nano().parameters())
    assert summary["held_out"] == {"accuracy": 0.625} and summary["best"] == {"step": 5, "accuracy": 0.75}
    assert (summary["seconds"], summary["device"], summary["parameters"]) == (77, "cpu", weights)
    assert set(summary) == {"held_out", "untrained", "seconds", "device", "best", "parameters", "environment"}
    assert summary["untrained"] == {"accuracy": 0.125}, "what it could before"
    assert sorted(file.name for file in run.path.iterdir()) == [
        "best.safetensors", "config.json", "curves.png", "explorer.html", "metrics.jsonl", "model.safetensors",
        "routes.png", "summary.json",
    ]  # fmt: skip
    lines = table(run).splitlines()
    assert lines[1].split() == ["topk", "routing", "62.50%"] and len(lines) == 6
    assert lines[2].split() == ["before", "training", "12.50%"]
    assert lines[-1] == f"open {run.path / 'explorer.html'} in a browser: whom each region reads"
    assert lines[3] == "77 s of training on cpu" and "damaged" not in table(run)


@pytest.mark.parametrize(
    ("count", "expected"),
    [
        (2, "left out, damaged: 2 images: 0.jpg, 1.jpg"),
        (5, "left out, damaged: 5 images: 0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg"),
        (6, "left out, damaged: 6 images: 0.jpg, 1.jpg, 2.jpg, 3.jpg, 4.jpg ..."),
    ],
)
def test_the_table_names_the_first_damaged_images_and_the_summary_all(tmp_path, count, expected):
    names = [f"{i}.jpg" for i in range(count)]
    run, summary = photographs_run(tmp_path / "run", damaged=names)
    assert summary["damaged"] == names and expected in table(run).splitlines()


def test_a_photograph_is_drawn_with_the_routes_of_each_routed_stage():
    pixels = torch.randint(256, (3, 1, 64, 64), dtype=torch.uint8)
    labels = torch.zeros(3, dtype=torch.long)
    data = Arrays(pixels, labels, pixels, labels, ["a", "b"])
    model = bra.biformer_tiny(num_classes=2, in_channels=1, grid=(4, 5)).eval()
    alt = draw_photo(model, data).alt
    routes = model.routes(normalise(pixels[:1]))
    assert len(routes) == 12 and "region 12 reads" in alt, "the middle one of 4 x 5"
    for stage, block in enumerate((1, 3, 11)):
        read = ", ".join(map(str, routes[block].index[0, 12].tolist()))
        assert f"stage {stage}, last block: {read}" in alt


class Wide(DataSet):
    """One photograph of 60 x 40 pixels, each of which has a class."""

    asks, classes, channels, training = "pixels", list("ab"), 3, None

    def held_out(self, size, shard=WHOLE):
        yield Pixels(torch.zeros(1, 3, 40, 60, dtype=torch.uint8), torch.zeros(1, 40, 60, dtype=torch.long))


def test_a_photograph_is_drawn_with_what_fills_its_regions_up():
    backbone = bra.Backbone(bra.biformer_nano(num_classes=0), region=24)
    network = Segmenter(backbone, PixelHead(backbone.channels, backbone.reduction, 2)).eval()
    (axes,) = draw_photo(network, Wide()).figure.axes
    assert axes.get_images()[0].get_size() == (48, 72), "2 x 3 regions of 24 pixels"
    assert [tick + 0.5 for tick in axes.get_xticks()] == [24, 48] and [tick + 0.5 for tick in axes.get_yticks()] == [24]
