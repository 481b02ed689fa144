"""A run folder that somebody edited, or a disk damaged, is told in one line, and left as it is."""

import json
import shutil
import sys
from dataclasses import replace

import pytest
from interrupted import die

import bra.train.__main__ as command_line
from bra.data import RecallBoards
from bra.files import read_tensors, tensors_to_bytes
from bra.train.config import TrainConfig
from bra.train.loop import keep_history, prepare, train
from bra.train.runs import RunFolder

SHORT = TrainConfig(steps=5, batch=6, warmup=1, evaluate_every=3, device="cpu")
COMMAND = ["--steps", "5", "--batch", "6", "--warmup", "1", "--evaluate-every", "3", "--device", "cpu"]


@pytest.fixture(autouse=True)
def few_held_out_boards(monkeypatch):
    monkeypatch.setattr(TrainConfig, "open_data", lambda self: RecallBoards(self.recall, 32))


@pytest.fixture(scope="module")
def folders(tmp_path_factory):
    """Two runs: one that was interrupted after its fourth step, one that ended."""
    place = tmp_path_factory.mktemp("runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(TrainConfig, "open_data", lambda self: RecallBoards(self.recall, 32))
        training = prepare(replace(SHORT, out=place / "interrupted"))
        die(training, at=4, watch=keep_history(training))
        train(replace(SHORT, out=place / "ended"))
    return place


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def without(prefix):
    """Drops the entries of a checkpoint whose names begin so."""
    return lambda tensors: {name: value for name, value in tensors.items() if not name.startswith(prefix)}


def misshapen(tensors):
    return tensors | {"optimizer.3.exp_avg": tensors["optimizer.3.exp_avg"][:2]}


def edited(run, name, change):
    path = getattr(run, name)
    if path.suffix == ".safetensors":
        tensors, metadata = read_tensors(path)
        path.write_bytes(tensors_to_bytes(change(tensors), **metadata))
    else:
        path.write_text(change(path.read_text()))


CASES = [
    ("interrupted", "metrics", lambda text: text + "5\n", r"metrics\.jsonl must hold a JSON object"),
    (
        "interrupted",
        "metrics",
        lambda text: text + '{"loss": 1.5}\n',
        r"a step on every line, but line \d+ is",
    ),
    ("interrupted", "metrics", lambda text: text + '{"step": "3"}\n', r"a step on every line, but line \d+"),
    ("interrupted", "routing", lambda text: text + "[]\n", r"routing\.jsonl must hold a JSON object"),
    (
        "interrupted",
        "data",
        lambda text: text.replace("cross", "crux"),
        r"must have the classes .* crux, not cross",
    ),
    ("interrupted", "data", lambda text: "{}", r"data\.json must list the classes"),
    ("interrupted", "data", lambda text: '{"classes": [1, 2]}', r"data\.json must list the classes as strings"),
    ("interrupted", "settings", lambda text: text.replace('"board"', '"nono"'), r"with other settings \(model 'nono'"),
    ("interrupted", "settings", lambda text: "[]", r"config\.json must hold a JSON object"),
    ("interrupted", "best", lambda tensors: tensors, None),
    ("interrupted", "checkpoint", without("optimizer."), r"holds 3 steps, but no part of the optimiser"),
    ("interrupted", "checkpoint", without("optimizer.3.exp_avg"), r"the optimiser's part 3 holds step \(\)"),
    ("interrupted", "checkpoint", misshapen, r"the optimiser's part 3 holds exp_avg \(2, "),
    ("interrupted", "checkpoint", without("model.head"), r"does not fit the model: missing head\.bias"),
    ("ended", "summary", lambda text: "", r"summary\.json is not JSON"),
    ("ended", "summary", lambda text: text[: len(text) // 2], r"summary\.json is not JSON"),
    ("ended", "summary", lambda text: "{}", r"summary\.json must hold the accuracy on held-out images"),
    ("ended", "summary", lambda text: '{"held_out": {"accuracy": "1"}}', r"must hold the accuracy on held-out"),
]


@pytest.mark.parametrize(("which", "name", "change", "message"), CASES)
def test_a_damaged_run_is_told_in_one_line_and_left_as_it_is(
    folders, which, name, change, message, tmp_path, monkeypatch, capsys
):
    shutil.copytree(folders / which, tmp_path / "run")
    edited(RunFolder(tmp_path / "run"), name, change)
    before = contents(tmp_path / "run")
    monkeypatch.setattr(sys, "argv", ["bra.train", *COMMAND, "--out", str(tmp_path / "run"), "--resume"])
    if message is None:  # what is whole goes on: the cases above it fail for their own reasons
        command_line.main()
        told = capsys.readouterr()
        assert "accuracy" in told.out and command_line.BUSY in told.err
        return
    with pytest.raises(SystemExit, match=message) as stopped:
        command_line.main()
    assert stopped.value.code.startswith("error: ") and "\n" not in stopped.value.code
    assert contents(tmp_path / "run") == before


@pytest.mark.parametrize(
    ("name", "change", "message"),
    [
        (
            "settings",
            lambda text: text.replace('"board"', '"nono"'),
            "model must be one of board, board-pyramid, nano, .* is 'nono'",
        ),
        ("settings", lambda text: text.replace('"topk"', '"bottomk"'), "router must be one of topk, .* is 'bottomk'"),
        ("data", lambda text: text.replace("cross", "crux"), "crux, not cross"),
        ("summary", lambda text: "{}", "must hold the accuracy"),
        ("weights", without("head"), r"model\.safetensors does not fit the model: missing head\.bias"),
    ],
)
def test_a_damaged_run_is_not_evaluated_again(folders, name, change, message, tmp_path, monkeypatch, unchecked):
    shutil.copytree(folders / "ended", tmp_path / "run")
    edited(RunFolder(tmp_path / "run"), name, change)
    monkeypatch.setattr(sys, "argv", ["bra.train", "evaluate", str(tmp_path / "run"), "--device", "cpu"])
    with pytest.raises(SystemExit, match=f"error: .*{message}"):
        command_line.main()


def test_a_run_can_be_read_without_being_touched(folders, tmp_path):
    shutil.copytree(folders / "ended", tmp_path / "run")
    before = contents(tmp_path / "run")
    run = RunFolder(tmp_path / "run")
    assert run.ended and run.all_kept() == ["model", "best"]
    assert run.read_settings()["steps"] == 5 and run.read_classes()[0] == "cross"
    assert [line["step"] for line in run.read_metrics()][-1] == 5
    assert run.read_summary()["held_out"] == [line for line in run.read_metrics() if "held_out" in line][-1]["held_out"]
    assert [page["step"] for page in run.read_routing()] == [0, 5]
    assert contents(tmp_path / "run") == before
    nowhere = RunFolder(tmp_path / "nowhere")
    assert not nowhere.ended and nowhere.all_kept() == [] and nowhere.read_metrics() == []
    assert not nowhere.path.exists()
    written = {path.name for path in run.path.iterdir()}
    assert written <= {value.name for value in vars(run).values()}, "every file has its name in RunFolder"


def test_settings_of_a_run_come_back_as_they_went(folders):
    config = TrainConfig.from_settings(RunFolder(folders / "ended").read_settings())
    assert json.loads(json.dumps(config.settings())) == RunFolder(folders / "ended").read_settings()
