import errno
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bra.data import Arrays
from bra.files import read_json, read_tensors, tensors_to_bytes
from bra.train.writer import RunWriter, scalars

PIXELS = torch.zeros(7, 1, 2, 3, dtype=torch.uint8)
CATS_AND_DOGS = Arrays(PIXELS, torch.zeros(7).long(), PIXELS[:3], torch.zeros(3).long(), ["cat", "dog"])


def contents(folder):
    return {str(path.relative_to(folder)): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def tensors():
    """A few of different kinds."""
    return {"model.a": torch.randn(2, 3), "optimizer.0.step": torch.tensor(5.0), "average.n": torch.tensor([7, 11])}


def begun(tmp_path, steps=4):
    """A run whose metrics tell of so many steps, and of an evaluation after the third."""
    run = RunWriter(tmp_path / "run", {}, resume=False)
    for step in range(1, steps + 1):
        run.log(step=step, loss=0.5)
        if step == 3:
            run.log(step=3, held_out={"accuracy": 0.25})
    return run


def board_scalars(folder):
    """What TensorBoard itself reads: steps and values by name."""
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    accumulator = EventAccumulator(str(folder))
    accumulator.Reload()
    return {
        name: {event.step: event.value for event in accumulator.Scalars(name)}
        for name in accumulator.Tags()["scalars"]
    }  # fmt: skip


def test_a_checkpoint_brings_back_tensors_and_metadata_exactly(tmp_path):
    run, given = RunWriter(tmp_path / "run", {}, resume=False), tensors()
    run.save_checkpoint(3, given, processes=2)
    found, metadata = run.load_checkpoint()
    assert metadata == {"step": "3", "processes": "2"}
    assert found.keys() == given.keys()
    for name, value in given.items():
        assert torch.equal(found[name], value) and found[name].dtype == value.dtype
    run.save_checkpoint(13, {"model.b": torch.zeros(1)})
    found, metadata = run.load_checkpoint()
    assert list(found) == ["model.b"] and metadata == {"step": "13", "processes": "1"}, "only the last one is kept"


def test_loading_a_checkpoint_changes_nothing(tmp_path):
    run = begun(tmp_path)
    run.save_checkpoint(3, tensors())
    before = contents(run.path)
    run.load_checkpoint()
    assert contents(run.path) == before


def test_rewinding_drops_the_metrics_after_a_step_and_a_torn_line(tmp_path):
    run = begun(tmp_path)
    with run.metrics.open("a") as file:
        file.write('{"step": 5, "lo')
    assert [line["step"] for line in run.read_metrics()] == [1, 2, 3, 3, 4]
    run.rewind(3)
    assert run.metrics.read_text().endswith('{"step": 3, "held_out": {"accuracy": 0.25}}\n')
    assert [line["step"] for line in run.read_metrics()] == [1, 2, 3, 3]
    run.log(step=4)
    assert [line["step"] for line in run.read_metrics()] == [1, 2, 3, 3, 4]
    run.rewind(0)
    assert run.read_metrics() == []


def test_rewinding_drops_the_pages_of_the_history_too(tmp_path):
    run = begun(tmp_path)
    run.rewind(4)
    assert not run.routing.exists(), "a run that keeps no history gets none"
    for step in (0, 2, 3, 4):
        run.note_routing({"step": step, "index": [[step]]})
    with run.routing.open("a") as file:
        file.write('{"step": 5, "in')
    run.rewind(3)
    assert [json.loads(line) for line in run.routing.read_text().splitlines()] == [
        {"step": step, "index": [[step]]} for step in (0, 2, 3)
    ]


def test_a_lost_checkpoint_is_not_taken_for_a_run_that_has_not_begun(tmp_path):
    run = RunWriter(tmp_path / "run", {}, resume=False)
    assert run.load_checkpoint() is None
    run.log(step=1)
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is missing: put it back"):
        run.load_checkpoint()
    assert run.read_metrics() == [{"step": 1}]


def test_damaged_files_are_named(tmp_path):
    run = RunWriter(tmp_path / "run", {}, resume=False)
    run.metrics.write_text('{"step": 1}\noops\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl, line 2, is not JSON"):
        run.read_metrics()
    for file, read, kind in (
        (run.checkpoint, run.load_checkpoint, "a checkpoint"),
        (run.best, run.read_best, "the best weights of a run"),
    ):
        whole = tensors_to_bytes({"model.a": torch.zeros(1)})
        file.write_bytes(whole)
        with pytest.raises(ValueError, match=rf"{file.name} is not {kind}: its metadata lack the step"):
            read()
        file.write_bytes(whole[:-1])
        with pytest.raises(ValueError, match=rf"{file.name} is not a whole safetensors file"):
            read()
    for content, message in (("{", "is not JSON"), ("[]", "must hold a JSON object")):
        (run.path / "config.json").write_text(content)
        with pytest.raises(ValueError, match=rf"config\.json {message}"):
            RunWriter(run.path, {}, resume=True)
    with pytest.raises(FileNotFoundError, match=r"nothing\.json"):
        read_json(run.path / "nothing.json")


def test_what_a_crash_left_half_written_does_not_block_a_new_run(tmp_path):
    (tmp_path / "config.json.part").write_text("{")
    RunWriter(tmp_path, {}, resume=False)
    assert (tmp_path / "config.json").exists() and not (tmp_path / "config.json.part").exists()


def test_the_best_weights_are_kept_and_the_first_of_equals(tmp_path):
    run = RunWriter(tmp_path / "run", {}, resume=False)
    models = [nn.Linear(2, 3) for _ in range(4)]
    kept = []
    for step, (accuracy, model) in enumerate(zip([1 / 3, 0.25, 1 / 3, 0.5], models, strict=True)):
        run.keep_best(step, accuracy, model)
        weights, metadata = read_tensors(run.best)
        kept.append([torch.equal(weights["weight"], m.weight) for m in models].index(True))
        assert run.read_best() == {"step": kept[-1], "accuracy": [1 / 3, 0.25, 1 / 3, 0.5][kept[-1]]}
        assert weights.keys() == {"weight", "bias"} and metadata.keys() == {"step", "accuracy"}
    assert kept == [0, 0, 0, 3]
    RunWriter(run.path, {}, resume=True).keep_best(9, 0.4, models[0])
    assert run.read_best() == {"step": 3, "accuracy": 0.5}, "a run that goes on knows what it had"


def test_finishing_leaves_weights_and_summary(tmp_path):
    run, model = RunWriter(tmp_path / "run", {}, resume=False), nn.Linear(2, 3)
    run.finish(model, {"held_out": {"accuracy": 0.25}})
    assert torch.equal(read_tensors(run.weights)[0]["weight"], model.weight)
    assert read_json(run.summary) == {"held_out": {"accuracy": 0.25}}


def test_only_the_writer_writes(tmp_path):
    run = begun(tmp_path)
    run.save_checkpoint(3, tensors(), processes=2)
    before = contents(tmp_path)
    reader = RunWriter(run.path, {"other": 1}, resume=False, writer=False)
    for step in (0, 5):
        reader.open_tensorboard(step)
        reader.log(step=step, loss=0.5)
        reader.note_routing({"step": step})
        reader.save_checkpoint(step, {})
        reader.rewind(step)
        reader.keep_best(step, 0.5, nn.Linear(2, 3))
        reader.finish(nn.Linear(2, 3), {})
    assert reader.read_metrics() == run.read_metrics() and reader.load_checkpoint()[1] == {
        "step": "3",
        "processes": "2",
    }
    assert contents(tmp_path) == before
    RunWriter(tmp_path / "nowhere", {}, resume=False, writer=False).log(step=1)
    assert not (tmp_path / "nowhere").exists()


def test_the_numbers_of_a_line_have_names():
    line = {
        "step": 3,
        "loss": 2.5,
        "held_out": {"accuracy": 0.25, "hit_rate": [0.5, 1.0]},
        "note": "x",
        "damaged": ["a"],
    }
    assert scalars(line) == [
        ("loss", 2.5), ("held_out/accuracy", 0.25), ("held_out/hit_rate/0", 0.5), ("held_out/hit_rate/1", 1.0)
    ]  # fmt: skip


def test_tensorboard_reads_what_was_logged(tmp_path):
    run = RunWriter(tmp_path / "run", {}, resume=False)
    run.log(step=0, loss=9.0)  # before it was opened
    run.open_tensorboard(0)
    run.log(step=0, held_out={"accuracy": 0.125, "hit_rate": [0.5, 0.25]}, seconds=3.0)
    run.log(step=1, loss=2.5, learning_rate=0.375, hit_rate=[0.75, 0.0])
    run.log(step=2, loss=1.5, note="not a number", damaged=["a.jpg"])
    run.save_checkpoint(2, tensors())
    expected = {
        "held_out/accuracy": {0: 0.125},
        "held_out/hit_rate/0": {0: 0.5},
        "held_out/hit_rate/1": {0: 0.25},
        "seconds": {0: 3},
        "loss": {1: 2.5, 2: 1.5},
        "learning_rate": {1: 0.375},
        "hit_rate/0": {1: 0.75},
        "hit_rate/1": {1: 0},
    }
    assert board_scalars(run.path / "tensorboard") == expected
    assert [line["step"] for line in run.read_metrics()] == [0, 0, 1, 2]


def test_tensorboards_file_is_complete_at_a_checkpoint_and_at_the_end(tmp_path):
    """TensorBoard's writer is a thread that dies with the process, and what it holds would be lost."""
    run, calls = RunWriter(tmp_path / "run", {}, resume=False), []
    run.tensorboard_writer = SimpleNamespace(
        add_scalar=lambda *call: calls.append(call),
        flush=lambda: calls.append("flush"),
        close=lambda: calls.append("close"),
    )
    run.log(step=7, loss=2.5)
    run.save_checkpoint(7, tensors())
    run.finish(nn.Linear(2, 3), {})
    assert calls == [("loss", 2.5, 7), "flush", "close"]


def test_tensorboard_forgets_just_the_steps_that_are_taken_again(tmp_path):
    run = RunWriter(tmp_path / "run", {}, resume=False)
    run.open_tensorboard(0)
    for step in (1, 2, 3, 4, 5):
        run.log(step=step, loss=float(step))
    run.save_checkpoint(3, tensors())
    run.tensorboard_writer.close()
    again = RunWriter(run.path, {}, resume=True)
    again.rewind(3)
    again.open_tensorboard(3)
    again.log(step=4, loss=40.0)
    again.finish(nn.Linear(2, 3), {})
    lines = {line["step"]: line["loss"] for line in again.read_metrics()}
    assert board_scalars(run.path / "tensorboard")["loss"] == lines == {1: 1, 2: 2, 3: 3, 4: 40}


def test_without_tensorboard_the_message_says_how_to_get_it(tmp_path, monkeypatch):
    run = RunWriter(tmp_path / "run", {}, resume=False)
    monkeypatch.setitem(sys.modules, "torch.utils.tensorboard", None)
    with pytest.raises(ValueError, match=r"tensorboard must be installed: pip install \".*\[tensorboard\]\""):
        run.open_tensorboard(0)


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no limit of a file's size")
def test_when_the_system_has_no_room_the_file_is_named_and_the_old_one_intact(tmp_path):
    """By the limit of a file's size: the write fails as on a full disk, halfway through."""
    script = """
import resource, sys, torch
from pathlib import Path
from bra.train.writer import RunWriter
run = RunWriter(Path(sys.argv[1]), {}, resume=False)
run.save_checkpoint(3, {"a": torch.full((11,), 7.0)}, processes=1)
resource.setrlimit(resource.RLIMIT_FSIZE, (5003, 5003))
try:
    run.save_checkpoint(5, {"a": torch.zeros(5003)})
except OSError as error:
    print(error.errno, error.filename)
try:
    for step in range(5003):
        run.log(step=step)
except OSError as error:
    print(error.errno, error.filename, step)
"""
    path = tmp_path / "run"
    done = subprocess.run([sys.executable, "-W", "error", "-c", script, path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    saving, logging = done.stdout.splitlines()
    assert saving == f"{errno.EFBIG} {path / 'checkpoint.safetensors'}"
    number, file, step = logging.split()
    assert (int(number), file) == (errno.EFBIG, str(path / "metrics.jsonl"))
    assert sorted(contents(path)) == ["checkpoint.safetensors", "config.json", "metrics.jsonl"], "and no .part"
    run = RunWriter(path, {}, resume=True)
    found, metadata = run.load_checkpoint()
    assert metadata["step"] == "3" and found["a"].tolist() == [7.0] * 11
    assert [line["step"] for line in run.read_metrics()] == list(range(int(step))), "whole lines only"


def test_a_run_is_never_overwritten(tmp_path):
    path = tmp_path / "run"
    RunWriter(path, {"k": 4, "grid": (2, 3)}, resume=False).log(step=1)
    before = contents(path)
    with pytest.raises(FileExistsError, match=r"run holds this run already: --resume goes on with it"):
        RunWriter(path, {"k": 4, "grid": (2, 3)}, resume=False)
    for resume in (True, False):
        with pytest.raises(FileExistsError, match=r"run holds a run with other settings \(k 4, not 2\): give --out"):
            RunWriter(path, {"k": 2, "grid": (2, 3)}, resume)
    with pytest.raises(FileExistsError, match="of another version"):
        RunWriter(path, {"k": 4}, resume=True)
    RunWriter(path, {"k": 4, "grid": (2, 3)}, resume=True)
    assert contents(path) == before


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(FileExistsError, match="is not empty and not a run"):
        RunWriter(tmp_path, {}, resume=True)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_run_goes_on_with_data_that_have_moved_but_not_with_other_classes(tmp_path):
    path = tmp_path / "run"
    RunWriter(path, {"data": "folder:/a", "corrupt": "fatal", "k": 4}, resume=False).describe_data(CATS_AND_DOGS)
    moved = RunWriter(path, {"data": "folder:/b", "corrupt": "skip", "k": 4}, resume=True)
    before = contents(path)
    for classes, message in (
        (["dog", "cat"], "cat, not dog; dog, not cat"),
        (["cat", "dog", "owl"], "2 classes, not 3"),
    ):
        with pytest.raises(ValueError, match=rf"data must have the classes of .*data\.json: {message}"):
            moved.check(classes)
    assert contents(path) == before, "what is refused is not noted"
    moved.describe_data(CATS_AND_DOGS)
    assert json.loads((path / "config.json").read_text()) == {"data": "folder:/b", "corrupt": "skip", "k": 4}
    assert json.loads((path / "data.json").read_text()) == {
        "asks": "classes",
        "classes": ["cat", "dog"],
        "images": {"training": 7, "held_out": 3},
    }
    with pytest.raises(FileExistsError, match="data 'folder:/b', not 'hf:b'"):
        RunWriter(path, {"data": "hf:b", "corrupt": "skip", "k": 4}, resume=True)
