"""Kill training in every way that one can think of, and look whether it goes on as if nothing had been.

    python tests/support/kills.py FASHION_MNIST_FOLDER WORK_FOLDER

Every life of a run is a fork of this process, so that it starts at once. Prints one JSON object.
"""

import json
import os
import random
import resource
import signal
import sys
import time
from dataclasses import replace
from pathlib import Path

import torch

from bra.files import read_tensors
from bra.train.augment import Augment
from bra.train.config import TrainConfig
from bra.train.loop import complete, look_away, prepare

DATA, WORK = sys.argv[1], Path(sys.argv[2])
CONFIG = TrainConfig(
    data=f"fashion-mnist:{DATA}",
    batch=4,
    warmup=2,
    evaluate_every=3,
    average=0.9,
    drop_path=0.3,
    augment=Augment(mixup=0.8, smoothing=0.1),
    device="cpu",
    resume=True,
)


def live(name, before=lambda: None, watch=look_away, steps=24):
    """The process number of a new life of the run called `name`."""
    number = os.fork()
    if number:
        return number
    try:
        sys.stderr = open(WORK / f"{name}.stderr", "a")  # noqa: SIM115
        before()
        complete(prepare(replace(CONFIG, out=WORK / name, steps=steps)), watch)
        os._exit(0)
    except BaseException as error:
        print(type(error).__name__, error, file=sys.stderr, flush=True)
        os._exit(7)


def end(number):
    """How a life ended: its exit status, or minus the signal that killed it."""
    return os.waitstatus_to_exitcode(os.waitpid(number, 0)[1])


def left(name):
    """What a run leaves that must not depend on its history: metrics without the time, and the weights."""
    lines = [json.loads(line) for line in (WORK / name / "metrics.jsonl").read_text().splitlines()]
    files = [read_tensors(WORK / name / f"{file}.safetensors") for file in ("model", "best", "checkpoint")]
    weights = [({key: value.tolist() for key, value in tensors.items()}, about) for tensors, about in files]
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines], weights


def same(name, steps=24):
    """Whether the run called `name` ended as the one that was never disturbed; begins a last life first."""
    assert end(live(name, steps=steps)) == 0, (WORK / f"{name}.stderr").read_text()
    return left(name) == left(f"whole-{steps}")


def killed_at_random_moments():
    """Ten kills, at moments spread over the run."""
    draw, ends, steps = random.Random(0), [], []
    for _ in range(10):
        number = live("random")
        time.sleep(draw.uniform(0.02, LENGTH / 5))
        os.kill(number, signal.SIGKILL)
        ends.append(end(number))
        metrics = WORK / "random" / "metrics.jsonl"
        steps.append(max((json.loads(line)["step"] for line in metrics.read_text().splitlines()), default=0)
                     if metrics.exists() else None)  # fmt: skip
    return {"killed": sum(e == -signal.SIGKILL for e in ends), "at": steps, "same": same("random")}


def killed_at_every_write():
    """A life for each file that is put in place, killed just before it, and one just after it."""
    kills, replace_file = 0, os.replace
    assert end(live("whole-6", steps=6)) == 0
    for after in (False, True):
        for count in range(1, 100):

            def die(source, target, life={"writes": 0}, count=count, after=after):  # noqa: B006
                life["writes"] += 1
                if life["writes"] == count and not after:
                    os.kill(os.getpid(), signal.SIGKILL)
                replace_file(source, target)
                if life["writes"] == count and after:
                    os.kill(os.getpid(), signal.SIGKILL)

            def rig(die=die):
                os.replace = die

            name = f"write-{count}-{after}"
            if end(live(name, rig, steps=6)) == 0:
                break
            kills += 1
            if not same(name, steps=6):
                return {"kills": kills, "same": False, "run": name}
    return {"kills": kills, "same": True}


def killed_while_writing_a_checkpoint():
    """A checkpoint half written under its passing name."""

    def rig():
        write = os.fsync

        def half(file, life={"writes": 0}):  # noqa: B006
            life["writes"] += os.fstat(file).st_size > 1_000_000  # no other file is as large
            if life["writes"] == 3:
                os.ftruncate(file, os.fstat(file).st_size // 2)
                os.kill(os.getpid(), signal.SIGKILL)
            write(file)

        os.fsync = half

    ended = end(live("half", rig))
    parts = [path.name for path in (WORK / "half").glob("*.part")]
    return {"killed": ended == -signal.SIGKILL, "part": parts, "same": same("half")}


def told_to_stop():
    """SIGTERM, as a cluster sends before it takes a machine away."""
    ended = end(live("term", watch=lambda step, model: step == 8 and os.kill(os.getpid(), signal.SIGTERM)))
    said = (WORK / "term.stderr").read_text().strip().splitlines()[-1]
    return {"status": ended, "said": said, "same": same("term")}


def disk_full():
    """No file may grow beyond 20,000 bytes from step 8 on: what is said of it is shorter, a checkpoint is not."""
    ended = end(
        live(
            "full", watch=lambda step, model: step == 8 and resource.setrlimit(resource.RLIMIT_FSIZE, (20_000, 20_000))
        )
    )
    said = (WORK / "full.stderr").read_text().strip().splitlines()[-1]
    parts = [path.name for path in (WORK / "full").glob("*.part")]
    return {"status": ended, "said": said, "part": parts, "same": same("full")}


torch.set_num_threads(1)
begun = time.perf_counter()
assert end(live("whole-24")) == 0, (WORK / "whole-24.stderr").read_text()
LENGTH = time.perf_counter() - begun
checks = (killed_at_random_moments, killed_at_every_write, killed_while_writing_a_checkpoint, told_to_stop, disk_full)
print(json.dumps({check.__name__: check() for check in checks}))
