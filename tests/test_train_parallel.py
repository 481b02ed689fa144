import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from interrupted import die
from labelled import SIZES, write_masks
from small_fashion import write_fashion_mnist

from bra.files import read_tensors
from bra.train import parallel, prepare, train
from bra.train.config import TrainConfig
from bra.train.parallel import open_accelerator, pick_device, share_batch_norm, stop_request

ROOT = Path(__file__).parent.parent
TORCHRUN = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node"]


@pytest.fixture
def config(tmp_path):
    """Six steps on a data set of 30 training and 21 held-out images, which no two processes share evenly."""
    write_fashion_mnist(tmp_path / "data")
    return TrainConfig(
        data=f"fashion-mnist:{tmp_path / 'data'}", steps=6, batch=8, warmup=2, evaluate_every=3, device="cpu"
    )


def launched(processes, config, *more):
    """The outcome of `python -m bra.train` in several processes."""
    told = ("data", "steps", "batch", "warmup", "evaluate_every", "device", "out")
    arguments = [f"--{name.replace('_', '-')}={getattr(config, name)}" for name in told]
    command = [*TORCHRUN, str(processes), "-m", "bra.train", *arguments, *more]
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "error::FutureWarning"}
    return subprocess.run(command, env=env, cwd=ROOT, capture_output=True, text=True, timeout=300, check=False)


def lines(folder):
    """The metrics of a run without the time."""
    found = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    return [{name: value for name, value in line.items() if name != "seconds"} for line in found]


def agree(a, b):
    """Whether two runs took the same steps, up to the order in which sums are rounded."""
    assert [line.keys() for line in lines(a)] == [line.keys() for line in lines(b)]
    for one, two in zip(lines(a), lines(b), strict=True):
        if "held_out" in one:
            flips = 0 if one["step"] == 0 else 2.5  # of 21 images: an untrained model hardly prefers a class
            expected = pytest.approx(two["held_out"]["accuracy"], abs=flips / 21)
            assert one["held_out"]["accuracy"] == expected, "every held-out image counts once"
        else:
            assert one == pytest.approx(two, rel=1e-5)
    one, two = (read_tensors(folder / "model.safetensors")[0] for folder in (a, b))
    for name in one:
        # some biases have no gradient but rounding, which AdamW makes large: those before batch norm, and those of keys
        if not name.endswith(("bias", "running_mean")):
            assert torch.allclose(one[name], two[name], rtol=0, atol=1e-4), name


def test_two_processes_train_as_one_does_with_the_doubled_batch(config, tmp_path):
    one = train(replace(config, out=tmp_path / "one"))
    done = launched(2, replace(config, out=tmp_path / "two"))
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("topk routing") == 1, "only the first process speaks"
    agree(one.path, tmp_path / "two")
    assert read_tensors(tmp_path / "two" / "checkpoint.safetensors")[1] == {"step": "6", "processes": "2"}


@pytest.mark.slow
def test_a_run_goes_on_in_another_number_of_processes_and_says_so(config, tmp_path):
    whole = train(replace(config, out=tmp_path / "whole"))
    die(prepare(replace(config, out=tmp_path / "parts")), at=5)
    done = launched(2, replace(config, out=tmp_path / "parts"), "--resume")
    assert done.returncode == 0, done.stderr
    notes = [line for line in lines(tmp_path / "parts") if "note" in line]
    assert notes == [{"step": 3, "note": "goes on with 2 processes instead of 1"}]
    metrics = tmp_path / "parts" / "metrics.jsonl"
    metrics.write_text("".join(line for line in metrics.read_text().splitlines(True) if "note" not in line))
    agree(whole.path, tmp_path / "parts")


@pytest.mark.slow
def test_two_processes_judge_pixels_as_one_does(tmp_path):
    """Of three held-out images, each of its own size, one process has two."""
    (tmp_path / "data").mkdir()
    write_masks(tmp_path / "data", SIZES[:4], SIZES[4:7])
    config = TrainConfig(
        data=f"masks:{tmp_path / 'data'}", steps=1, batch=4, warmup=0, evaluate_every=1, device="cpu", image_size=32
    )
    one = train(replace(config, workers=0, out=tmp_path / "one"))
    done = launched(2, replace(config, out=tmp_path / "two"), "--image-size=32", "--workers=0")
    assert done.returncode == 0, done.stderr
    untrained, one_step, trained = lines(one.path)
    first, step, last = lines(tmp_path / "two")
    assert step["loss"] == pytest.approx(one_step["loss"], rel=0.05), "but for how many pixels each has labelled"
    for name, value in untrained["held_out"].items():
        assert first["held_out"][name] == pytest.approx(value, abs=1e-3), "a pixel or two may be undecided"
    assert last["held_out"].keys() == trained["held_out"].keys()


@pytest.mark.slow
def test_what_is_wrong_is_said_once_and_ends_all_processes(config, tmp_path):
    done = launched(2, replace(config, out=tmp_path / "run", batch=9))
    assert done.returncode != 0 and not (tmp_path / "run").exists()
    assert "error: batch must be a multiple of processes x accumulate, 2, at least twice, but is 9" in done.stderr
    train(replace(config, out=tmp_path / "run"))
    done = launched(2, replace(config, out=tmp_path / "run"))
    assert done.returncode != 0
    assert done.stderr.count("holds this run already: --resume goes on with it") == 1


def test_a_notebook_can_launch_processes(config, tmp_path):
    script = "\n".join(
        [
            "from pathlib import Path",
            "from accelerate import notebook_launcher",
            "from bra.train.config import TrainConfig",
            "from bra.train import train",
            f"config = TrainConfig(data={config.data!r}, steps=6, batch=8, warmup=2, evaluate_every=3,",
            f"                     device='cpu', out=Path({str(tmp_path / 'launched')!r}))",
            "notebook_launcher(train, (config,), num_processes=2)",
        ]
    )
    env = os.environ | {"OMP_NUM_THREADS": "1", "PYTHONPATH": str(ROOT)}
    done = subprocess.run([sys.executable, "-c", script], env=env, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    agree(train(replace(config, out=tmp_path / "one")).path, tmp_path / "launched")


def test_auto_takes_a_device_that_works():
    torch.zeros(1, device=pick_device("auto"))
    assert pick_device("cpu") == torch.device("cpu")


def test_devices_and_precisions_that_are_not_here_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="device must be auto or one of this machine, but is 'toaster'"):
        open_accelerator("toaster", "fp32")
    with pytest.raises(ValueError, match="device must be a kind, such as cuda, but is 'cpu:0'"):
        open_accelerator("cpu:0", "fp32")
    with pytest.raises(ValueError, match="precision must be fp32, bf16, fp16, but is 'fp8'"):
        open_accelerator("cpu", "fp8")
    with pytest.raises(ValueError, match="precision must be fp32 or bf16 on a CPU, but is 'fp16'"):
        open_accelerator("cpu", "fp16")
    monkeypatch.setattr(parallel, "pick_device", lambda name: torch.device("cuda"))
    monkeypatch.setattr(torch.cuda, "is_bf16_supported", lambda including_emulation: False)
    monkeypatch.setattr(torch.cuda, "get_device_name", lambda: "an old GPU")
    with pytest.raises(ValueError, match="precision must be fp32 or fp16 on an old GPU, which lacks bf16"):
        open_accelerator("cuda", "bf16")


def test_an_accelerator_has_the_precision_that_was_asked_for_last():
    assert [open_accelerator("cpu", name).mixed_precision for name in ("bf16", "fp32", "bf16")] == [
        "bf16",
        "no",
        "bf16",
    ]


def test_sharing_batch_norm_keeps_its_names_weights_and_evaluation():
    model = torch.nn.Sequential(torch.nn.Conv2d(3, 5, 1), torch.nn.BatchNorm2d(5))
    x = torch.randn(2, 3, 7, 4)
    model(x)
    before, names = model.eval()(x), list(model.state_dict())
    share_batch_norm(model)
    assert torch.equal(model(x), before) and list(model.state_dict()) == names
    assert type(model[1]) is parallel.SharedBatchNorm2d


def test_ctrl_c_is_a_request_first_and_an_order_the_second_time():
    handler = signal.getsignal(signal.SIGINT)
    with stop_request() as stop:
        assert not stop.is_set()
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is handler
    with stop_request() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
