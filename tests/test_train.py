import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace

import pytest
import torch

from bra import train as module
from bra.data import RecallBoards
from bra.engine import evaluate
from bra.recall import Recall
from bra.report import table
from bra.train import TrainConfig, load_model, pick_device, prepare, train
from bra.weights import read_tensors

SHORT = TrainConfig(steps=6, batch=8, warmup=2, evaluate_every=3, device="cpu", drop_path=0.2)


@pytest.fixture(autouse=True)
def few_held_out_boards(monkeypatch):
    real = module.open_data
    few = lambda name, recall, *rest: RecallBoards(recall, 64) if name == "recall" else real(name, recall, *rest)  # noqa: E731
    monkeypatch.setattr(module, "open_data", few)


def losses(folder):
    """All that metrics.jsonl says but the time."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def command(*arguments, **options):
    env = os.environ | {"PYTHONWARNINGS": "error"}
    return subprocess.Popen([sys.executable, "-m", "bra.train", "--device", "cpu", *map(str, arguments)], env=env,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # fmt: skip


def test_a_run_leaves_all_that_the_readme_promises(tmp_path):
    run = train(replace(SHORT, out=tmp_path / "run"))
    assert sorted(path.name for path in run.path.iterdir()) == [
        "boards.png",
        "checkpoint.safetensors",
        "config.json",
        "curves.png",
        "metrics.jsonl",
        "model.safetensors",
        "summary.json",
    ]
    assert json.loads((run.path / "config.json").read_text())["steps"] == 6
    assert [line["step"] for line in losses(run.path)] == [0, 1, 2, 3, 3, 4, 5, 6, 6]
    model, data, _ = load_model(run.path)
    assert evaluate(model, data) == json.loads(run.summary.read_text())["held_out"]
    found = table(run)
    assert re.search(r"topk routing +\d+\.\d\d% +\d\.\d{3}\n", found)
    assert re.search(r"guessing a shape on the board +25\.00% +-\n", found)
    assert re.search(r"same weights, blind routing +\d+\.\d\d% +0\.\d{3}\n", found)


def test_a_run_that_was_interrupted_goes_on_bit_for_bit(tmp_path, monkeypatch):
    whole = train(replace(SHORT, out=tmp_path / "whole"))
    step, count = module.train_step, itertools.count()

    def stop_at_the_fifth(*args, **kwargs):
        if next(count) == 4:
            signal.raise_signal(signal.SIGINT)
        return step(*args, **kwargs)

    monkeypatch.setattr(module, "train_step", stop_at_the_fifth)
    with pytest.raises(KeyboardInterrupt, match="stopped after step 5; the same command with --resume goes on"):
        train(replace(SHORT, out=tmp_path / "parts"))
    parts = train(replace(SHORT, out=tmp_path / "parts", resume=True))
    assert losses(parts.path) == losses(whole.path)
    a, b = (read_tensors(run.checkpoint)[0] for run in (whole, parts))
    assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_the_seed_decides_and_other_seeds_differ(tmp_path):
    runs = [losses(train(replace(SHORT, seed=s, out=tmp_path / n)).path) for s, n in ((1, "a"), (1, "b"), (2, "c"))]
    assert runs[0] == runs[1] != runs[2]


def test_a_run_that_was_killed_before_its_first_evaluation_begins_again(tmp_path, monkeypatch):
    def killed(*args, **kwargs):
        raise SystemError

    with monkeypatch.context() as patch:
        patch.setattr(module, "train_step", killed)
        with pytest.raises(SystemError):
            train(replace(SHORT, out=tmp_path / "run"))
    assert read_tensors(tmp_path / "run" / "checkpoint.safetensors")[1]["step"] == "0"
    begun = train(replace(SHORT, out=tmp_path / "run", resume=True))
    assert [line["step"] for line in losses(begun.path)] == [0, 1, 2, 3, 3, 4, 5, 6, 6]


def test_a_run_that_was_killed_during_its_first_evaluation_begins_again(tmp_path, monkeypatch):
    def killed(*args, **kwargs):
        raise SystemError

    with monkeypatch.context() as patch:
        patch.setattr(module, "evaluate", killed)
        with pytest.raises(SystemError):
            train(replace(SHORT, out=tmp_path / "run"))
    begun = train(replace(SHORT, out=tmp_path / "run", resume=True))
    assert [line["step"] for line in losses(begun.path)] == [0, 1, 2, 3, 3, 4, 5, 6, 6]


def test_every_step_draws_its_own_drop_path(tmp_path, monkeypatch):
    drawn, step = [], module.train_step

    def spy(*args, **kwargs):
        drawn.append(torch.rand(1).item())
        return step(*args, **kwargs)

    monkeypatch.setattr(module, "train_step", spy)
    train(replace(SHORT, out=tmp_path / "run"))
    assert len(set(drawn)) == SHORT.steps


def test_a_finished_run_is_left_as_it_is(tmp_path):
    run = train(replace(SHORT, out=tmp_path / "run"))
    run.checkpoint.unlink()  # to save space
    before = {path.name: path.read_bytes() for path in run.path.iterdir()}
    train(replace(SHORT, out=tmp_path / "run", resume=True))
    assert {path.name: path.read_bytes() for path in run.path.iterdir()} == before


def test_a_nan_loss_stops_the_run_says_where_and_keeps_the_checkpoint(tmp_path, monkeypatch):
    sample = Recall.sample

    def poisoned(self, count, seed):
        boards = sample(self, count, seed)
        if count == SHORT.batch and next(calls) == 4:
            boards.image.fill_(float("nan"))
        return boards

    calls = itertools.count()
    monkeypatch.setattr(Recall, "sample", poisoned)
    with pytest.raises(
        FloatingPointError,
        match=r"stopped at step 4: the loss is nan .*checkpoint\.safetensors holds the state after 3 steps",
    ):
        train(replace(SHORT, out=tmp_path / "run"))
    tensors, metadata = read_tensors(tmp_path / "run" / "checkpoint.safetensors")
    assert metadata["step"] == "3" and all(torch.isfinite(value).all() for value in tensors.values())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 17}, "k must be between 1 and the number of regions, 16, but is 17"),
        ({"k": 0}, "k must be between 1 and the number of regions, 16, but is 0"),
        ({"data": "folder:/nowhere"}, "data folder .*nowhere.train does not exist"),
        ({"data": "mnist"}, "data must be recall, fashion-mnist:FOLDER, folder:FOLDER or hf:NAME"),
        ({"model": "tiny"}, "model must be nano for recall"),
        ({"device": "toaster"}, "device must be auto or one of this machine, but is 'toaster'"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(tmp_path, change, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        prepare(replace(SHORT, out=tmp_path / "run", **change))
    assert not (tmp_path / "run").exists()


def test_auto_takes_a_device_that_works():
    torch.zeros(1, device=pick_device("auto"))
    assert pick_device("cpu") == torch.device("cpu")


def test_the_command_line_says_what_is_wrong_without_a_traceback(tmp_path):
    for arguments, message in [
        (["--k", "99"], "error: k must be between 1 and the number of regions, 16, but is 99"),
        (["--recall.glyphs", "9"], "glyphs must be between 1 and 8, but is 9"),
        (["--router", "best"], "invalid choice 'best' for argument '--router'"),
    ]:
        process = command("--out", tmp_path / "run", *arguments)
        out, err = process.communicate(timeout=120)
        assert process.returncode in (1, 2) and out == "" and message in err and "Traceback" not in err


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
def test_ctrl_c_ends_the_command_with_a_checkpoint(tmp_path):
    process = command("--out", tmp_path / "run", "--evaluate-every", 1000, "--batch", 8)
    metrics = tmp_path / "run" / "metrics.jsonl"
    for _ in range(600):
        if metrics.exists() and metrics.read_text():
            break
        time.sleep(0.1)
    process.send_signal(signal.SIGINT)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command with --resume goes on" in err and "Traceback" not in err
    step = int(re.search(r"stopped after step (\d+)", err)[1])
    assert read_tensors(tmp_path / "run" / "checkpoint.safetensors")[1]["step"] == str(step)
