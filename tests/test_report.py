import json

import pytest
import torch

import bra
from bra.data import RecallBoards
from bra.evaluation import evaluate
from bra.recall import Recall
from bra.report import best_block, blindfold, draw_boards, finish, table
from bra.runs import RunFolder


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
        read = ", ".join(map(str, index[0, boards.query[0]].tolist()))
        assert f"region {boards.query[0]} reads {read} and should" in draw_boards(model, data, hit_rate).alt


def test_the_best_block_counts():
    assert best_block({"loss": 1.0, "accuracy": 0.5, "hit_rate": [0.2, 0.7], "other": 3}) == {
        "loss": 1.0,
        "accuracy": 0.5,
        "hit_rate": 0.7,
    }
    assert best_block({"accuracy": 0.5}) == {"accuracy": 0.5}


def test_the_table_tells_chance_from_the_number_of_glyphs(tmp_path, data):
    settings = {"data": "recall", "router": "local", "seed": 0, "recall": {"glyphs": 5}}
    run = RunFolder(tmp_path / "run", settings, resume=False)
    run.log(step=1, loss=2.0, accuracy=0.1, hit_rate=[0.0, 0.0])
    run.log(step=1, held_out={"accuracy": 0.125, "hit_rate": [0.25, 0.5]}, seconds=61.4)
    finish(run, bra.biformer_nano(), data)
    lines = table(run).splitlines()
    assert [line.split() for line in lines[1:3]] == [
        ["local", "routing", "12.50%", "0.500"],
        ["guessing", "a", "shape", "on", "the", "board", "20.00%", "-"],
    ]
    assert lines[3] == "61 s of training on cpu"
    settings["router"] = "topk"
    seeing = RunFolder(tmp_path / "topk", settings, resume=False)
    for line in run.read_metrics():
        seeing.log(**line)
    model = bra.biformer_nano()
    finish(seeing, model, data)
    blind = json.loads(seeing.summary.read_text())["blind"]
    assert blind == evaluate(blindfold(model, 0), data)
    assert blind["hit_rate"] != evaluate(model, data)["hit_rate"]
    assert "blind" not in json.loads(run.summary.read_text()), "a table is blind already"
