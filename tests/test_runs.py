import os

import pytest
import torch
from torch import nn

from bra import runs
from bra.runs import RunFolder, environment, write_atomically
from bra.weights import tensors_to_bytes


def trained(steps=3):
    model = nn.Sequential(nn.Linear(3, 4), nn.BatchNorm1d(4))
    optimizer = torch.optim.AdamW(model.parameters(), lr=0.1)
    for _ in range(steps):
        optimizer.zero_grad()
        model(torch.randn(5, 3)).square().sum().backward()
        optimizer.step()
    return model, optimizer


def flat(state):
    """All numbers of a nested state, in the order of their names."""
    if isinstance(state, dict):
        return torch.cat([flat(state[key]) for key in sorted(state)])
    if isinstance(state, list | tuple):
        return torch.cat([flat(value) for value in state])
    return torch.as_tensor(0 if state is None else state, dtype=torch.float64).flatten()


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_checkpoint_brings_back_weights_and_optimiser_exactly(tmp_path):
    run = RunFolder(tmp_path / "run", {}, resume=False)
    model, optimizer = trained()
    run.save_checkpoint(3, model, optimizer)
    other, other_optimizer = trained(steps=1)
    assert run.load_checkpoint(other, other_optimizer) == 3
    for a, b in ((model.state_dict(), other.state_dict()), (optimizer.state_dict(), other_optimizer.state_dict())):
        assert torch.equal(flat(a), flat(b))


def test_resuming_drops_the_metrics_after_the_checkpoint_and_a_torn_line(tmp_path):
    run = RunFolder(tmp_path / "run", {}, resume=False)
    model, optimizer = trained()
    for step in (1, 2, 3, 4):
        run.log(step=step, loss=0.5)
    run.save_checkpoint(3, model, optimizer)
    with run.metrics.open("a") as file:
        file.write('{"step": 5, "lo')
    run.load_checkpoint(model, optimizer)
    assert [line["step"] for line in run.read_metrics()] == [1, 2, 3]
    run.log(step=4)
    assert [line["step"] for line in run.read_metrics()] == [1, 2, 3, 4]


def test_a_lost_checkpoint_is_not_taken_for_a_run_that_has_not_begun(tmp_path):
    run = RunFolder(tmp_path / "run", {}, resume=False)
    assert run.load_checkpoint(*trained()) == 0
    run.log(step=1)
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is missing: put it back"):
        run.load_checkpoint(*trained())
    assert run.read_metrics() == [{"step": 1}]


def test_damaged_files_are_named(tmp_path):
    run = RunFolder(tmp_path / "run", {}, resume=False)
    run.metrics.write_text('{"step": 1}\noops\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"metrics\.jsonl has a line that is not JSON"):
        run.read_metrics()
    run.checkpoint.write_bytes(tensors_to_bytes({"model.a": torch.zeros(1)}))
    with pytest.raises(ValueError, match=r"checkpoint\.safetensors is not a checkpoint"):
        run.load_checkpoint(*trained())
    for content, message in (("{", "is not JSON"), ("[]", "must hold a JSON object")):
        (run.path / "config.json").write_text(content)
        with pytest.raises(ValueError, match=rf"config\.json {message}"):
            RunFolder(run.path, {}, resume=True)


def test_what_a_crash_left_half_written_does_not_block_a_new_run(tmp_path):
    (tmp_path / "config.json.part").write_text("{")
    RunFolder(tmp_path, {}, resume=False)
    assert (tmp_path / "config.json").exists()


def test_writing_is_all_or_nothing(tmp_path, monkeypatch):
    path = tmp_path / "file"
    write_atomically(path, "old")

    def disk_full(*args):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(runs.os, "fsync", disk_full)
    with pytest.raises(OSError, match="No space left"):
        write_atomically(path, "new" * 1000)
    assert path.read_text() == "old"


def test_a_run_is_never_overwritten(tmp_path):
    path = tmp_path / "run"
    RunFolder(path, {"k": 4, "grid": (2, 3)}, resume=False).log(step=1)
    before = contents(path)
    with pytest.raises(FileExistsError, match=r"run holds this run already: --resume goes on with it"):
        RunFolder(path, {"k": 4, "grid": (2, 3)}, resume=False)
    for resume in (True, False):
        with pytest.raises(FileExistsError, match=r"run holds a run with other settings \(k 4, not 2\): give --out"):
            RunFolder(path, {"k": 2, "grid": (2, 3)}, resume)
    with pytest.raises(FileExistsError, match="of another version"):
        RunFolder(path, {"k": 4}, resume=True)
    RunFolder(path, {"k": 4, "grid": (2, 3)}, resume=True)
    assert contents(path) == before


def test_a_folder_of_something_else_is_left_alone(tmp_path):
    (tmp_path / "thesis.tex").write_text("mine")
    with pytest.raises(FileExistsError, match="is not empty and not a run"):
        RunFolder(tmp_path, {}, resume=True)
    assert os.listdir(tmp_path) == ["thesis.tex"]


def test_a_checkpoint_of_another_model_is_refused_and_kept(tmp_path):
    run = RunFolder(tmp_path / "run", {}, resume=False)
    run.save_checkpoint(3, *trained())
    run.log(step=9)
    before = contents(run.path)
    other = nn.Linear(3, 4)
    with pytest.raises(
        ValueError, match=r"checkpoint\.safetensors does not fit the model: missing bias; missing weight; unknown 0"
    ):
        run.load_checkpoint(other, torch.optim.AdamW(other.parameters()))
    assert contents(run.path) == before


def test_environment_names_what_a_number_depends_on():
    found = environment()
    assert found["torch"] == torch.__version__ and found["threads"] >= 1
    assert set(found) == {"date", "commit", "platform", "processor", "gpu", "threads", "python", "torch", "numpy"}
