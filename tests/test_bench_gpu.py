"""`python -m bra.bench gpu` without a GPU: rehearsed whole in a process of its own; its record and verdicts here."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from bra.attention import attend_gathered
from bra.bench.gpu import command as gpu
from bra.bench.gpu import core as gpu_core
from bra.bench.gpu import correct as gpu_correct
from bra.bench.gpu import largest as gpu_largest
from bra.bench.gpu import record as gpu_record
from bra.bench.gpu import setting as gpu_setting
from bra.bench.gpu import speed as gpu_speed
from bra.bench.gpu import training as gpu_training
from bra.bench.gpu.record import Record, measured_code
from bra.bench.gpu.setting import REAL, TOY, Part, Setting
from bra.bench.jobs import WAYS, Core, Job, Layer
from bra.files import read_json, results
from bra.kernels.fused import why_not

SETTING = Setting("rehearsal", "cpu", Path("nowhere"), TOY, [])
needs_triton = pytest.mark.skipif(why_not(torch.device("cpu")) is not None, reason="no Triton")


def ran(*words, **variables):
    """The command in a process of its own, as a user starts it: without what these tests import."""
    environment = {name: value for name, value in os.environ.items() if name != "TRITON_INTERPRET"} | variables
    environment |= {"PYTHONPATH": str(Path(gpu.__file__).parents[3]), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "bra.bench", "gpu", *words]
    return subprocess.run(command, capture_output=True, text=True, env=environment, check=False)


@pytest.mark.slow
@needs_triton
def test_the_rehearsal_runs_every_part(tmp_path):
    done = ran("--rehearse", "--results", str(tmp_path))
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-2000:]
    content = read_json(tmp_path / "gpu_rehearsal.json")
    setting = replace(SETTING, work=tmp_path)
    kept = [(piece["part"], piece["name"]) for piece in content["pieces"]]
    assert kept == [(part.name, name) for part in gpu.PARTS.values() for name in part.pieces(setting)]
    assert content["command"] == f"python -m bra.bench gpu --rehearse --results {tmp_path}"
    assert content["environment"].keys() >= {"commit", "gpu", "torch", "triton"}
    rows = {}
    for piece in content["pieces"]:
        assert piece["rows"] and piece["code"] == measured_code()
        rows.setdefault(piece["part"], []).extend(piece["rows"])
    left_out = {(row["part"], row["way"]) for part in rows.values() for row in part if "left_out" in row}
    assert left_out == {("core", "flex")}, "only flex has no backward pass on a CPU"
    assert {row["way"] for row in rows["correct"]} == {*WAYS}
    assert all(
        set(row["errors"]) == {"output"} | ({f"gradient of {x}" for x in "qkv"} if row["way"] != "flex" else set())
        for row in rows["correct"]
    )
    measured = [row for row in rows["core"] if "left_out" not in row]
    assert all(row["seconds"] > 0 and row["kernel_seconds"] > 0 for row in measured)
    assert {(row["way"], row["mode"]) for row in measured if row["way"] == "fused"} == {
        ("fused", "inference"), ("fused", "train")
    }  # fmt: skip
    assert {row["way"] for row in rows["models"]} == {"ours", "gathered", "expanded", "dense"}
    assert {row["precision"] for row in rows["models"] + rows["models-fp32"]} == {"bf16", "fp32"}
    assert {row["way"] for row in rows["compiled"]} == {"ours", "compiled"}
    assert [(row["way"], row["size"]) for row in rows["largest"]] == [("ours", 128), ("expanded", 128), ("dense", 128)]
    assert rows["recall"][0]["held_out"].keys() >= {"accuracy", "hit_rate"}
    assert {row["kind"] for row in rows["images"]} >= {"loader", "augmentation", "training", "both"}
    assert rows["resume"] == [
        {"part": "resume", "precision": "bf16", "killed_after": 3, "steps": 6, "difference": 0.0}
    ]  # fmt: skip
    for part, verdicts in content["verdicts"].items():
        assert verdicts and all(line in done.stdout for line in verdicts), part
    assert not list(Path("book/results").glob("gpu_rehearsal*"))


@pytest.mark.skipif(torch.cuda.is_available(), reason="there is a GPU")
def test_without_a_gpu_it_says_so_in_one_line(monkeypatch, tmp_path):
    with pytest.raises(SystemExit, match=r"^error: there is no GPU with CUDA here; --rehearse runs every part") as said:
        gpu.main(results=tmp_path)
    assert "\n" not in str(said.value)
    monkeypatch.setattr(gpu, "find_spec", lambda name: None)
    with pytest.raises(SystemExit, match=r"^error: the rehearsal needs Triton's interpreter: pip install triton"):
        gpu.main(rehearse=True, results=tmp_path)
    assert not list(tmp_path.iterdir())


def test_a_triton_that_compiles_is_replaced_by_one_that_interprets(monkeypatch):
    began = []
    monkeypatch.setattr(gpu, "interpreted", lambda: False)
    monkeypatch.setattr(gpu, "find_spec", lambda name: "here")
    monkeypatch.setattr(os, "execve", lambda path, command, environment: began.append((command, environment)))
    monkeypatch.setattr(sys, "argv", ["x", "gpu", "--rehearse"])
    gpu.interpret(12.5)
    ((command, environment),) = began
    assert command[1:] == ["-m", "bra.bench", "gpu", "--rehearse"]
    assert environment["TRITON_INTERPRET"] == "1" and environment["BRA_GPU_BEGAN"] == "12.5"


def three(done, broken=()):
    """A part of three pieces that note when they are measured; the broken ones fail."""

    def piece(name):
        done.append(name)
        if name in broken:
            raise ZeroDivisionError("by nothing\nat all")
        return [{"part": "three", "name": name}]

    names = ("first", "second", "third")
    return Part(
        "three",
        lambda setting: {name: lambda name=name: piece(name) for name in names},
        lambda setting, rows: [f"{len(rows)} rows"],
    )


def shown(path, part, began=0.0, again=False, until=torch.inf):
    return gpu.show([part], SETTING, Record(path, began, again), until)


def test_a_second_call_goes_on_where_the_first_was_stopped(tmp_path, capsys):
    done, path = [], tmp_path / "gpu_x.json"
    part = three(done)
    interrupted = three(done)

    def stopped(setting):
        return part.pieces(setting) | {"second": lambda: (_ for _ in ()).throw(KeyboardInterrupt)}

    with pytest.raises(KeyboardInterrupt):
        shown(path, interrupted._replace(pieces=stopped))
    assert done == ["first"] and [piece["name"] for piece in read_json(path)["pieces"]] == ["first"]
    assert shown(path, part, began=1e12) == 0
    assert done == ["first", "second", "third"]
    assert "three: 1 of 3 pieces are measured; --again measures them anew" in capsys.readouterr().out
    assert read_json(path)["verdicts"] == {"three": ["3 rows"]}
    assert shown(path, part, began=1e12) == 0 and len(done) == 3
    assert shown(path, part, began=1e12, again=True) == 0 and len(done) == 6
    assert shown(path, part, began=0.0, again=True) == 0 and len(done) == 6, "a new process of the same call"


def test_other_code_is_measured_anew(tmp_path, monkeypatch):
    done, path = [], tmp_path / "gpu_x.json"
    shown(path, three(done))
    monkeypatch.setattr("bra.bench.gpu.record.measured_code", lambda: "other")
    shown(path, three(done), began=1e12)
    assert len(done) == 6 and {piece["code"] for piece in read_json(path)["pieces"]} == {"other"}


def test_a_piece_that_fails_says_why_and_the_others_go_on(tmp_path, capsys):
    done, path = [], tmp_path / "gpu_x.json"
    assert shown(path, three(done, broken=["second"])) == 1
    assert done == ["first", "second", "third"]
    found = {piece["name"]: piece.get("failed") for piece in read_json(path)["pieces"]}
    assert found == {"first": None, "second": "ZeroDivisionError: by nothing", "third": None}
    assert "1 failed: three, second" in capsys.readouterr().out
    assert shown(path, three(done), began=1e12) == 0 and done[3:] == ["second"], "what failed is tried again"


def test_when_time_is_over_nothing_new_begins(tmp_path, capsys):
    done = []
    assert shown(tmp_path / "gpu_x.json", three(done), until=0.0) == 75 and not done
    assert "time is over: the same command goes on" in capsys.readouterr().out


def test_a_gpu_that_answers_no_more_gets_a_new_process(tmp_path, monkeypatch):
    begun, done, path = [], [], tmp_path / "gpu_x.json"
    monkeypatch.setattr(gpu, "is_lost", lambda device: done == ["first", "second"])
    monkeypatch.setattr(gpu, "restart", lambda began: begun.append(began))
    shown(path, three(done, broken=["second"]), began=7.0)
    assert begun == [7.0] and "failed" in read_json(path)["pieces"][1]
    shown(path, three(done), began=7.0)  # what the new process does
    assert done == ["first", "second", "third"], "the piece that failed is not tried again in the same call"


def test_a_gpu_is_lost_if_it_adds_up_nothing(monkeypatch):
    assert not gpu.is_lost("cpu")

    def fail(*args, **kwargs):
        raise RuntimeError("CUDA error: an illegal memory access was encountered")

    monkeypatch.setattr(torch, "ones", fail)
    assert gpu.is_lost("cpu")


def test_names_and_predictions_of_a_gpu():
    assert gpu.short("NVIDIA H100 80GB HBM3") == "H100_80GB_HBM3" and gpu.short("Tesla T4") == "Tesla_T4"
    rows = read_json(results("kernels_predicted.json"))["rows"]
    found = {name: {row["gpu"] for row in gpu_setting.for_gpu(rows, name)} for name in (
        "NVIDIA H100 80GB HBM3", "NVIDIA A100-SXM4-80GB", "Tesla T4", "NVIDIA GeForce RTX 4090", "NVIDIA T400",
    )}  # fmt: skip
    assert list(found.values()) == [{"H100"}, {"A100"}, {"T4"}, {"RTX 4090"}, set()]
    small = replace(SETTING, sizes=REAL, predicted=gpu_setting.for_gpu(rows, "Tesla T4"))
    (about, jobs) = gpu_core.core_pieces(small)["stage 2 at 512, train"].args[1:]
    predicted = [row for row in small.predicted if (row["size"], row["stage"]) == (512, 2)]
    assert {tuple(row[x] for x in "brtck") for row in predicted} == {tuple(jobs[0].case)} == {(4, 256, 16, 128, 4)}
    assert about == {"part": "core", "size": 512, "stage": 2} and {job.precision for job in jobs} == {"fp16"}


@pytest.mark.parametrize("wrong", ["output", "gradient of k", "nan", None])
def test_a_wrong_way_is_called_wrong(monkeypatch, wrong):
    class Wrong(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            return 1.01 * grad

    def way(q, k, v, *others):
        out = attend_gathered(q, Wrong.apply(k) if wrong == "gradient of k" else k, v, *others)
        return out * {"output": 1.01, "nan": torch.nan}.get(wrong, 1)

    monkeypatch.setattr(gpu_correct, "WAYS", {"gathered": attend_gathered, "planted": way})
    setting = replace(SETTING, precisions=("fp32",))
    rows = gpu_correct.check(setting, "odd", Core(1, 5, 3, 64, 3), gpu_correct.VARIANTS[1])
    plain, planted = gpu_correct.verdicts(setting, rows)
    assert plain.startswith("gathered, plain PyTorch, is right in fp32: worst error ")
    assert planted.startswith(f"planted is {'WRONG' if wrong else 'right'} in fp32: worst error ")
    if wrong == "gradient of k":
        assert "(gradient of k, odd, padded and read twice, fp32)" in planted


def test_plain_pytorch_is_judged_too_and_a_way_that_cannot_run_says_why(monkeypatch):
    def far(*given):
        return 1.01 * attend_gathered(*given)

    def absent(*given):
        raise RuntimeError("attend_absent cannot run here: it needs more\nthan this")

    def broken(*given):
        raise IndexError("out of range")

    monkeypatch.setattr(gpu_correct, "WAYS", {"gathered": far, "absent": absent, "broken": broken})
    rows = gpu_correct.check(replace(SETTING, precisions=("fp32",)), "odd", Core(1, 5, 3, 64, 3), "full")
    found = gpu_correct.verdicts(SETTING, rows)
    assert found[0].startswith("gathered, plain PyTorch, is WRONG in fp32: worst error ")
    assert found[1:] == [
        "absent left out in odd, full, fp32: RuntimeError: attend_absent cannot run here: it needs more",
        "broken failed in odd, full, fp32: IndexError: out of range",
    ]


def core_row(way, seconds, kernel_seconds, **others):
    about = {"part": "core", "size": 1024, "stage": 1, "mode": "train", "precision": "fp16", "way": way}
    return about | {"seconds": seconds, "kernel_seconds": kernel_seconds, "bytes": None} | others


def test_predictions_are_confirmed_or_refuted():
    guesses = {"gathered": 10e-4, "fused": 6e-4, "flex": 12e-4}
    predicted = [core_row(way, seconds, None) for way, seconds in guesses.items()]
    rows = [
        core_row("gathered", 30e-4, 20e-4), core_row("ours", 30e-4, 10e-4), core_row("fused", 50e-4, 8.2e-4),
        core_row("flex", 9e-4, 18e-4), core_row("dense", 40e-4, None),
    ]  # fmt: skip
    assert gpu_core.core_verdicts(replace(SETTING, predicted=predicted), rows) == [
        "stage 1 at 1024, train, fp16: of gathered's 2000 us: ours 0.50, fused 0.41 (predicted 0.60), "
        "flex 0.90 (predicted 1.20), dense 2.00",
        "fused faster or slower than gathered: confirmed in 1 of 1 cases",
        "flex faster or slower than gathered: confirmed in 0 of 1 cases; refuted: stage 1 at 1024, train, fp16",
        "gathered takes 2.00 of the predicted time (2.00 to 2.00)",
        "fused takes 1.37 of the predicted time (1.37 to 1.37)",
        "flex takes 1.50 of the predicted time (1.50 to 1.50)",
        "attend takes the fastest way, or one within 10%, in 0 of 1 cases",
        "stage 1 at 1024, train, fp16: fused takes 0.82 of its time",
    ]
    alone = gpu_core.core_verdicts(SETTING, rows)
    assert "predicted" not in "".join(alone) and "ours 0.50, fused 0.41, flex 0.90, dense 2.00" in alone[0]


def test_modules_are_told_beside_ours():
    about = {"b": 2, "side": 3, "c": 32, "grid": 5, "k": 7, "mode": "train", "precision": "bf16"}
    rows = [
        about | {"way": "ours", "seconds": 2e-3, "bytes": 3 * 2**20},
        about | {"way": "expanded", "seconds": 5e-3, "bytes": 6 * 2**20},
        about | {"way": "dense", "left_out": "OutOfMemoryError: too large"},
    ]
    assert gpu_speed.module_verdicts(SETTING, rows) == [
        "b2 side3 c32 grid5 k7, train, bf16: ours 2.00 ms, 3 MB; expanded 2.50x the time, 2.00x the memory",
        "dense left out in b2 side3 c32 grid5 k7, train, bf16: OutOfMemoryError: too large",
    ]


def test_a_way_without_memory_is_left_out_and_those_that_do_not_fit_together_run_alone(monkeypatch):
    prepare = Job.prepare
    beside = []

    def scarce(job):
        if job.way == "dense":
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return prepare(job)

    def together(functions, repeats, device):
        beside.append(len(functions))
        if len(functions) > 1:
            raise torch.cuda.OutOfMemoryError("CUDA out of memory")
        return dict.fromkeys(functions, 0.5)

    monkeypatch.setattr(Job, "prepare", scarce)
    monkeypatch.setattr(gpu_speed, "median_seconds", together)
    jobs = [Job(Layer(1, 6, 32, 2, 1), way, "train") for way in ("ours", "dense", "gathered")]
    ours, dense, gathered = gpu_speed.measure(SETTING, {"part": "layer"}, jobs)
    assert ours["seconds"] == gathered["seconds"] == 0.5 and beside == [2, 1, 1]
    assert dense["left_out"] == "OutOfMemoryError: CUDA out of memory" and "seconds" not in dense


@pytest.mark.parametrize("most", [0, 64, 704, 1216, 4096])
def test_the_largest_image_is_found(monkeypatch, most):
    tried = []

    def trial(job):
        tried.append(job.case.size)
        return (0.1, None) if job.case.size <= most else (0.0, "OutOfMemoryError: too large")

    monkeypatch.setattr(gpu_largest, "trial", trial)
    found = gpu_largest.largest(replace(SETTING, sizes=REAL), "ours")
    assert found["size"] == (most or None), tried
    assert found["ended"] == "memory" and len(tried) <= 12 and all(size % 64 == 0 for size in tried)
    (told,) = gpu_largest.largest_verdicts(SETTING, [found])
    assert (f"ours: {most} pixels" if most else "ours: none: OutOfMemoryError") in told
    monkeypatch.setattr(gpu_largest, "trial", lambda job: (0.1 if job.case.size < 900 else 99.0, None))
    found = gpu_largest.largest(replace(SETTING, sizes=REAL), "ours")
    assert found["ended"] == "patience" and found["size"] == 1024


def test_what_training_shows_is_told(monkeypatch):
    def row(label, seed, accuracy, hits):
        return {"label": label, "seed": seed, "held_out": {"accuracy": accuracy, "hit_rate": hits}}

    found = gpu_training.recall_verdicts(SETTING, [row("top-4", 0, 1.0, [0.2, 1.0]), row("top-4", 1, 1.0, [1.0, 0.3])])
    assert found == [
        "top-4, seeds 0, 1: 100.0% right, hit rate 1.00 (on a CPU 100.0%, 1.00)",
        "content routing finds what it should: confirmed",
    ]
    assert "refuted" in gpu_training.recall_verdicts(SETTING, [row("top-4", 0, 0.9, [0.2, 1.0])])[1]
    rates = {"loader": 300, "augmentation": 1000, "training": 250, "both": 190}
    *_, told = gpu_training.image_verdicts(SETTING, [{"kind": kind, "rate": rate} for kind, rate in rates.items()])
    assert told == "the GPU is the slow one; 100 epochs of ImageNet-100 would take 18.5 hours"
    rates["loader"] = 199
    *_, told = gpu_training.image_verdicts(SETTING, [{"kind": kind, "rate": rate} for kind, rate in rates.items()])
    assert told.startswith("the loader is the slow one")
    resumed = {"precision": "bf16", "killed_after": 5, "steps": 9, "difference": 0.0}
    told = [
        gpu_training.kill_verdicts(SETTING, [resumed | found])[0].partition(": ")[2]
        for found in (
            {},
            {"difference": 2e-3, "of_two_whole_runs": 1e-3},
            {"difference": 3e-3, "of_two_whole_runs": 1e-3},
        )
    ]
    assert told == [
        "goes on with the same losses, bit for bit",
        "goes on as alike as two whole runs are: losses differ by 2.0e-03 and 1.0e-03",
        "WRONG: losses differ by 3.0e-03, those of two whole runs by 1.0e-03",
    ]


def test_the_fingerprint_is_of_what_is_measured_not_of_who_measures(tmp_path):
    (tmp_path / "bench" / "gpu").mkdir(parents=True)
    found = []
    for name in ("layer.py", "bench/jobs.py", "bench/gpu/core.py", "layer.py"):
        (tmp_path / name).write_text(f"# {len(found)}")
        found.append(measured_code(tmp_path))
    first, jobs, core, changed = found
    assert first == jobs == core != changed
    assert Path(gpu.__file__).parents[2] == gpu_record.PACKAGE
