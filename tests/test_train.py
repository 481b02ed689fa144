import itertools
import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from interrupted import die
from small_fashion import write_fashion_mnist

import bra.train.__main__ as command_line
from bra.data import RecallBoards
from bra.data.recall import Recall, hit_rates
from bra.files import read_lines, read_tensors
from bra.train import loop
from bra.train.augment import Augment
from bra.train.config import TrainConfig
from bra.train.evaluation import evaluate
from bra.train.learner import Learner
from bra.train.loop import complete, keep_history, prepare, train
from bra.train.models import load_model
from bra.train.parallel import memory_told
from bra.train.report import evaluate_again, table

ROOT = Path(__file__).parent.parent

SHORT = TrainConfig(steps=6, batch=8, warmup=2, evaluate_every=3, device="cpu", drop_path=0.2)


@pytest.fixture(autouse=True)
def few_held_out_boards(monkeypatch):
    def few(self):
        return RecallBoards(self.recall, 64) if self.data == "recall" else real(self)

    real = TrainConfig.open_data
    monkeypatch.setattr(TrainConfig, "open_data", few)


def losses(folder):
    """All that metrics.jsonl says but the time."""
    lines = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in lines]


def command(*arguments, **options):
    env = os.environ | {"PYTHONWARNINGS": "error"}
    return subprocess.Popen([sys.executable, "-m", "bra.train", "--device", "cpu", *map(str, arguments)], env=env,
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, **options)  # fmt: skip


def fashion(folder, **changes):
    """Settings for a small data set of images."""
    write_fashion_mnist(folder / "data")
    changes = {"batch": 4, "data": f"fashion-mnist:{folder / 'data'}"} | changes
    return replace(SHORT, **changes)


def test_a_run_leaves_all_that_the_readme_promises(tmp_path):
    run = train(replace(SHORT, out=tmp_path / "run"))
    assert sorted(path.name for path in run.path.iterdir()) == [
        "best.safetensors",
        "boards.png",
        "checkpoint.safetensors",
        "config.json",
        "curves.png",
        "data.json",
        "explorer.html",
        "metrics.jsonl",
        "model.safetensors",
        "routing.jsonl",
        "summary.json",
    ]
    assert json.loads((run.path / "config.json").read_text())["steps"] == 6
    assert [line["step"] for line in losses(run.path)] == [0, 1, 2, 3, 3, 4, 5, 6, 6]
    model, data, _ = load_model(run.path)
    assert evaluate(model, data) == json.loads(run.summary.read_text())["held_out"]
    assert [page["step"] for page in read_lines(run.routing)] == [0, 6]
    page = (run.path / "explorer.html").read_text()
    assert '"steps": [0, 6]' in page and re.search(f'"source": "{run.path}, held-out image [0-3]"', page)
    found = table(run)
    assert f"open {run.path / 'explorer.html'} in a browser" in found
    assert re.search(r"topk routing +\d+\.\d\d% +\d\.\d{3}\n", found)
    assert re.search(r"guessing a shape on the board +25\.00% +-\n", found)
    assert re.search(r"same weights, blind routing +\d+\.\d\d% +0\.\d{3}\n", found)


@pytest.mark.parametrize("kind", ["boards", "images"])
def test_a_run_that_was_interrupted_goes_on_bit_for_bit(kind, tmp_path):
    augment = Augment(mixup=0.8, cutmix=1.0, smoothing=0.1)
    config = SHORT if kind == "boards" else fashion(tmp_path, average=0.9, augment=augment, accumulate=2)
    whole = train(replace(config, out=tmp_path / "whole"))

    def interrupt(step, model):
        if step == 5:
            signal.raise_signal(signal.SIGINT)

    with pytest.raises(KeyboardInterrupt, match="stopped after step 5; the same command with --resume goes on"):
        complete(prepare(replace(config, out=tmp_path / "parts")), interrupt)
    parts = train(replace(config, out=tmp_path / "parts", resume=True))
    assert losses(parts.path) == losses(whole.path)
    for name in ("checkpoint", "best", "model"):
        a, b = (read_tensors(run.path / f"{name}.safetensors")[0] for run in (whole, parts))
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a)


def test_an_explorer_that_a_kill_left_out_is_written_when_the_run_is_asked_again(tmp_path):
    run = train(replace(SHORT, out=tmp_path / "run"))
    page, weights = run.explorer.read_text(), run.weights.read_bytes()
    run.explorer.unlink()
    train(replace(SHORT, out=tmp_path / "run", resume=True))
    assert run.explorer.read_text() == page and run.weights.read_bytes() == weights


def test_the_history_of_a_run_that_died_is_that_of_one_that_did_not(tmp_path):
    config = replace(SHORT, steps=15)
    whole = train(replace(config, out=tmp_path / "whole"))
    training = prepare(replace(config, out=tmp_path / "parts"))
    die(training, at=11, watch=keep_history(training))
    assert [page["step"] for page in read_lines(training.run.routing)] == [0, 10]
    assert read_tensors(training.run.checkpoint)[1]["step"] == "9", "so that step 10 is taken again"
    parts = train(replace(config, out=tmp_path / "parts", resume=True))
    assert parts.routing.read_text() == whole.routing.read_text()
    assert [page["step"] for page in read_lines(parts.routing)] == [0, 10, 14, 15]
    last = read_lines(parts.routing)[-1]
    model, data, _ = load_model(parts.path)
    boards = next(data.held_out(64))
    routes = model.routes(boards.image)
    assert last["index"] == [r.index[0].tolist() for r in routes], "the history is about the first held-out board"
    rates = hit_rates(routes, boards)["hit_rate"]
    assert last["hit_rate"] == pytest.approx(rates, abs=1e-4), "and tells how often all of them are right"


@pytest.mark.skipif(not hasattr(os, "fork"), reason="Windows has no fork")
@pytest.mark.slow
def test_a_run_survives_every_kind_of_death(tmp_path):
    write_fashion_mnist(tmp_path / "data")
    script = [sys.executable, "tests/support/kills.py", str(tmp_path / "data"), str(tmp_path)]
    env = os.environ | {"PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "1"}
    done = subprocess.run(script, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    found = json.loads(done.stdout)
    assert {name: outcome["same"] for name, outcome in found.items()} == dict.fromkeys(found, True)
    assert found["killed_at_random_moments"]["killed"] == 10
    assert found["killed_at_every_write"]["kills"] >= 12
    assert found["killed_while_writing_a_checkpoint"]["killed"]
    assert found["killed_while_writing_a_checkpoint"]["part"] == ["checkpoint.safetensors.part"]
    assert "stopped after step 8; the same command with --resume goes on" in found["told_to_stop"]["said"]
    assert re.search(r"File too large: '.*full.*'", found["disk_full"]["said"])
    assert found["disk_full"]["part"] == []


def test_the_seed_decides_and_other_seeds_differ(tmp_path):
    runs = [losses(train(replace(SHORT, seed=s, out=tmp_path / n)).path) for s, n in ((1, "a"), (1, "b"), (2, "c"))]
    assert runs[0] == runs[1] != runs[2]


def test_a_run_that_was_killed_before_its_first_evaluation_begins_again(tmp_path):
    die(prepare(replace(SHORT, out=tmp_path / "run")), at=1)
    assert read_tensors(tmp_path / "run" / "checkpoint.safetensors")[1]["step"] == "0"
    begun = train(replace(SHORT, out=tmp_path / "run", resume=True))
    assert [line["step"] for line in losses(begun.path)] == [0, 1, 2, 3, 3, 4, 5, 6, 6]


def test_a_run_that_was_killed_during_its_first_evaluation_begins_again(tmp_path, monkeypatch):
    def killed(*args, **kwargs):
        raise SystemError

    with monkeypatch.context() as patch:
        patch.setattr(loop, "evaluate", killed)
        with pytest.raises(SystemError):
            train(replace(SHORT, out=tmp_path / "run"))
    begun = train(replace(SHORT, out=tmp_path / "run", resume=True))
    assert [line["step"] for line in losses(begun.path)] == [0, 1, 2, 3, 3, 4, 5, 6, 6]


def test_training_is_watched_from_its_start_to_its_end(tmp_path):
    seen = []
    complete(prepare(replace(SHORT, out=tmp_path / "run")), lambda step, model: seen.append((step, model.training)))
    assert [step for step, _ in seen] == list(range(7))


def test_with_an_average_it_is_the_average_that_is_evaluated_and_kept(tmp_path):
    run = train(fashion(tmp_path, average=0.9, out=tmp_path / "run"))
    checkpoint = read_tensors(run.checkpoint)[0]
    kept = read_tensors(run.weights)[0]
    assert all(torch.equal(value, checkpoint[f"average.module.{name}"]) for name, value in kept.items())
    assert not torch.equal(kept["head.weight"], checkpoint["model.head.weight"])
    model, data, _ = load_model(run.path)
    assert evaluate(model, data) == json.loads(run.summary.read_text())["held_out"]


def test_the_best_weights_are_those_of_the_best_evaluation(tmp_path, monkeypatch):
    told, asked, weights = iter([0.1, 0.4, 0.3]), [], {}
    monkeypatch.setattr(loop, "evaluate", lambda model, *_, **__: asked.append(model) or {"accuracy": next(told)})
    training = prepare(fashion(tmp_path, average=0.9, out=tmp_path / "run"))
    average = training.learner.evaluated
    run = complete(training, lambda step, model: weights.update({step: average.head.weight.detach().clone()}))
    assert average is not training.learner.model and all(model is average for model in asked)
    assert run.read_best() == {"step": 3, "accuracy": 0.4}
    assert torch.equal(read_tensors(run.best)[0]["head.weight"], weights[3])
    assert torch.equal(read_tensors(run.weights)[0]["head.weight"], weights[6])
    assert json.loads(run.summary.read_text())["best"] == {"step": 3, "accuracy": 0.4}


def test_evaluating_again_gives_the_accuracy_that_was_noted(tmp_path):
    run = train(replace(SHORT, out=tmp_path / "run"))
    noted = json.loads(run.summary.read_text())
    lines = evaluate_again(run.path, device="cpu").splitlines()
    for line, name, accuracy in zip(
        lines[1:], ("best", "model"), (noted["best"]["accuracy"], noted["held_out"]["accuracy"]), strict=True
    ):
        assert line.split() == [f"{name}.safetensors", f"{accuracy:.4%}", f"{accuracy:.4%}"]
    with pytest.raises(FileNotFoundError, match="holds no weights of a run"):
        evaluate_again(tmp_path)


def test_evaluating_again_finds_data_that_have_moved(tmp_path):
    run = train(fashion(tmp_path, out=tmp_path / "run"))
    (tmp_path / "data").rename(tmp_path / "moved")
    with pytest.raises(FileNotFoundError):
        evaluate_again(run.path, device="cpu")
    told = evaluate_again(run.path, data=f"fashion-mnist:{tmp_path / 'moved'}", device="cpu")
    assert "model.safetensors" in told


def test_damaged_images_are_fatal_or_left_out_by_choice_and_named(image_folder, tmp_path):
    damaged = image_folder / "train" / "red" / "1.png"
    content = damaged.read_bytes()
    damaged.write_bytes(content[:60] + bytes(30) + content[90:])  # its end is as it should be
    config = replace(SHORT, data=f"folder:{image_folder}", batch=4, image_size=32, workers=0)
    with pytest.raises(ValueError, match=r"1\.png is not a whole image"):
        train(replace(config, out=tmp_path / "fatal"))
    run = train(replace(config, corrupt="skip", out=tmp_path / "skip"))
    summary = json.loads(run.summary.read_text())
    assert [Path(name).name for name in summary["damaged"]] == ["1.png"]
    assert re.search(r"left out, damaged: 1 images: .*1\.png", table(run))


def test_tensorboard_is_written_when_asked_for(tmp_path):
    run = train(replace(SHORT, tensorboard=True, out=tmp_path / "run"))
    assert list((run.path / "tensorboard").glob("events.*"))


def test_a_compiled_model_and_its_lower_precision_reach_the_learner(tmp_path, monkeypatch):
    seen = {}

    class Spy(Learner):
        def __init__(self, model, task, accelerator, **options):
            seen.update(options, precision=accelerator.mixed_precision)
            super().__init__(model, task, accelerator, **options | {"compiled": False})

    monkeypatch.setattr(loop, "Learner", Spy)
    prepare(replace(SHORT, precision="bf16", compile=True, clip=None, accumulate=2, average=0.5, out=tmp_path / "run"))
    expected = {"weight_decay": 0.05, "average": 0.5, "clip": None, "parts": 2, "compiled": True, "precision": "bf16"}
    assert seen == expected


def test_the_committed_run_is_small_whole_and_what_training_still_gives(tmp_path):
    kept = ROOT / "book" / "results" / "recall-topk"
    assert sum(path.stat().st_size for path in kept.iterdir()) < 2_000_000
    recorded = losses(kept)
    settings = json.loads((kept / "config.json").read_text())
    training = prepare(TrainConfig.from_settings(settings, out=tmp_path / "run", device="cpu"))
    die(training, at=20)
    found = [line for line in losses(tmp_path / "run") if "loss" in line]
    for new, old in zip(found, [line for line in recorded if "loss" in line], strict=False):
        assert new["learning_rate"] == old["learning_rate"]
        assert new["loss"] == pytest.approx(old["loss"], abs=5e-3), f"step {new['step']}"
    assert len(found) == 20
    model, *_ = load_model(kept)
    assert evaluate(model, RecallBoards(Recall(), 512))["accuracy"] > 0.99
    assert recorded[-1]["held_out"]["accuracy"] > 0.99


def test_every_step_draws_its_own_drop_path(tmp_path, monkeypatch):
    drawn, step = [], Learner.step

    def spy(*args, **kwargs):
        drawn.append(torch.rand(1).item())
        return step(*args, **kwargs)

    monkeypatch.setattr(Learner, "step", spy)
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


@pytest.mark.parametrize("steps", [0, 4])
def test_too_little_memory_is_told_and_leaves_no_run_that_has_not_begun(steps, tmp_path, monkeypatch, capsys):
    sample, calls = Recall.sample, itertools.count()

    def greedy(self, count, seed):
        if count == SHORT.batch and next(calls) == steps:
            torch.empty(2**60)
        return sample(self, count, seed)

    monkeypatch.setattr(Recall, "sample", greedy)
    place = ["--out", str(tmp_path / "run"), "--device", "cpu", "--steps", "6", "--batch", "8", "--evaluate-every", "3"]
    monkeypatch.setattr(sys, "argv", ["bra.train", *place])
    with pytest.raises(SystemExit) as stopped:
        command_line.main()
    assert re.match("error: there is too little memory: take a smaller --batch .*allocate", stopped.value.code)
    assert "\n" not in stopped.value.code
    if steps:
        assert read_tensors(tmp_path / "run" / "checkpoint.safetensors")[1]["step"] == "3"
    else:
        assert not (tmp_path / "run").exists()


def test_other_errors_are_no_matter_of_memory():
    with pytest.raises(RuntimeError, match="size mismatch") as found, memory_told():
        raise RuntimeError("size mismatch")
    assert not isinstance(found.value, MemoryError)
    with pytest.raises(MemoryError, match="too little memory"), memory_told():
        raise MemoryError


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 17}, "k must be between 1 and the number of regions, 16, but is 17"),
        ({"k": 0}, "k must be between 1 and the number of regions, 16, but is 0"),
        ({"data": "folder:/nowhere"}, "data folder .*nowhere.train does not exist"),
        ({"data": "mnist"}, "data must be recall, recall-pixels, recall-boxes, fashion-mnist:FOLDER, folder:FOLDER"),
        ({"model": "tiny"}, "model must be one of board, board-pyramid, nano for recall"),
        ({"device": "toaster"}, "device must be auto or one of this machine, but is 'toaster'"),
    ],
)
def test_bad_settings_are_refused_before_anything_is_written(tmp_path, change, message):
    with pytest.raises((ValueError, FileNotFoundError), match=message):
        prepare(replace(SHORT, out=tmp_path / "run", **change))
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--k", "99"], "error: k must be between 1 and the number of regions, 16, but is 99"),
        (["--recall.glyphs", "9"], "glyphs must be between 1 and 8, but is 9"),
        (["--router", "best"], "invalid choice 'best' for argument '--router'"),
        (["--precision", "fp8"], "invalid choice 'fp8' for argument '--precision'"),
        (["--precision", "fp16"], "error: precision must be fp32 or bf16 on a CPU, but is 'fp16'"),
        (["--accumulate", "3"], "processes x accumulate, 3, at least twice, but is 128"),
        (["--batch", "8", "--accumulate", "8"], "processes x accumulate, 8, at least twice, but is 8"),
        (["imagenet100", "--workers", "0"], "imagenet100/train does not exist"),
        (["evaluate", "nowhere"], "error: nowhere holds no weights of a run"),
        (["imagenet"], "imagenet"),
    ],
)
def test_the_command_line_says_what_is_wrong_without_a_traceback(arguments, message, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    place = [] if "evaluate" in arguments else ["--out", "run", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["bra.train", *arguments, *place])
    with pytest.raises(SystemExit) as stopped:
        command_line.main()
    told = capsys.readouterr()
    assert message in f"{stopped.value.code} {told.err}" and "Traceback" not in told.err
    assert stopped.value.code not in (0, None)
    assert not (tmp_path / "run").exists()


def test_a_recipe_may_stand_first_and_be_changed(monkeypatch):
    asked = []
    monkeypatch.setattr(command_line, "prepare", lambda config: asked.append(config) or sys.exit(0))
    monkeypatch.setattr(
        sys, "argv", ["bra.train", "imagenet100", "--augment.mixup", "0", "--epochs", "5", "--model", "small"]
    )
    with pytest.raises(SystemExit):
        command_line.main()
    config = asked[0]
    assert (config.batch, config.average, config.augment.cutmix) == (1024, 0.999, 1.0), "as the recipe has it"
    assert (config.augment.mixup, config.epochs, config.model) == (0, 5, "small"), "as it was asked for"


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no SIGINT for one process")
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_ctrl_c_or_sigterm_ends_the_command_with_a_checkpoint(number, tmp_path):
    process = command("--out", tmp_path / "run", "--evaluate-every", 1000, "--batch", 8)
    metrics = tmp_path / "run" / "metrics.jsonl"
    for _ in range(600):
        if metrics.exists() and metrics.read_text():
            break
        time.sleep(0.1)
    process.send_signal(number)
    _, err = process.communicate(timeout=60)
    assert process.returncode == 130 and "the same command with --resume goes on" in err and "Traceback" not in err
    step = int(re.search(r"stopped after step (\d+)", err)[1])
    assert read_tensors(tmp_path / "run" / "checkpoint.safetensors")[1]["step"] == str(step)
