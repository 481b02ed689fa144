"""`python -m bra.bench gpu`: all that a GPU must show, with one command. `make gpu` runs it.

What was measured is kept after every piece in book/results/gpu_NAME.json, so that an interruption costs a piece at
most, and a second call goes on. --rehearse does all of it at toy sizes on a CPU, in Triton's interpreter.
"""

import os
import re
import shutil
import sys
import tempfile
import time
from importlib.util import find_spec
from itertools import product
from pathlib import Path
from typing import Literal

import torch
import tyro
from tqdm.auto import tqdm

from bra.arguments import errors_in_one_line
from bra.bench.gpu.core import CORE
from bra.bench.gpu.correct import CORRECT
from bra.bench.gpu.largest import LARGEST
from bra.bench.gpu.record import Record, failures, measured_code, run
from bra.bench.gpu.setting import REAL, TOY, Part, Setting, for_gpu
from bra.bench.gpu.speed import MODES, SPEED
from bra.bench.gpu.training import TRAINING
from bra.bench.ways import require_clone
from bra.files import read_json
from bra.files import results as results_file
from bra.kernels.costs import WAYS as COUNTED
from bra.kernels.fused import interpreted

PARTS = {part.name: part for part in (CORRECT, CORE, *SPEED, LARGEST, *TRAINING)}
BEGAN = "BRA_GPU_BEGAN"  # environment variable: when the command began that this process goes on with
GO_ON = 75  # exit status: time is over, the same command goes on


def is_lost(device: str) -> bool:
    """Whether the GPU answers no more, as after an access to memory that is not there: only a new process helps."""
    try:
        torch.ones(1, device=device).sum().item()
    except RuntimeError:
        return True
    return False


def restart(began: float, **variables: str) -> None:
    """Begin the same command in a new process, which goes on with what this one has begun."""
    sys.stdout.flush()
    command = [sys.executable, "-m", "bra.bench", *sys.argv[1:]]
    os.execve(sys.executable, command, os.environ | {BEGAN: str(began)} | variables)


def measure(part: Part, setting: Setting, record: Record, until: float) -> bool:
    """Measure the pieces of a part that are not held yet, until time is over; whether all are held then."""
    pieces = part.pieces(setting)
    due = [name for name in pieces if not record.holds(part.name, name)]
    if kept := len(pieces) - len(due):
        print(f"{part.name}: {kept} of {len(pieces)} pieces are measured; --again measures them anew", flush=True)
    for name in tqdm(due, desc=part.name, unit="piece", disable=not due):
        if time.time() > until:
            return False
        found = run(pieces[name])
        record.keep(part.name, name, found)
        for reason in failures(found):
            tqdm.write(f"{part.name}, {name}, failed: {reason}")
        if is_lost(setting.device):
            restart(record.began)
    return True


def show(parts: list[Part], setting: Setting, record: Record, until: float) -> int:
    """Measure the parts, print what their rows say; the exit status: 0, 1 if anything failed, 75 if time is over."""
    print(f"{setting.gpu}: {record.path}", flush=True)
    with torch.compiler.set_stance(setting.stance):
        complete = all(judge(part, setting, record, until) for part in parts)
    failed = [
        f"{piece['part']}, {piece['name']}" for part in parts for piece in record.of(part.name) if failures(piece)
    ]
    if failed:
        print(f"{len(failed)} failed: {'; '.join(failed)}")
    if not complete:
        print("time is over: the same command goes on")
        return GO_ON
    return 1 if failed else 0


def judge(part: Part, setting: Setting, record: Record, until: float) -> bool:
    """Measure a part, then print and keep what its rows say; False if time was over before all of it was measured."""
    complete = measure(part, setting, record, until)
    record.verdicts[part.name] = part.verdicts(setting, record.rows(part.name))
    record.write()
    print(part.name, *record.verdicts[part.name], sep="\n  ", flush=True)
    return complete


def on_this_gpu(official: Path | None) -> Setting:
    """The real sizes. Raises ValueError without a GPU."""
    if not torch.cuda.is_available():
        raise ValueError("there is no GPU with CUDA here; --rehearse runs every part on the CPU, at toy sizes")
    name, bf16 = torch.cuda.get_device_name(), torch.cuda.is_bf16_supported(including_emulation=False)
    predicted = for_gpu(read_json(results_file("kernels_predicted.json"))["rows"], name)
    work = Path("runs") / "gpu" / f"{short(name)}-{measured_code()}"
    precisions = ("fp32", "bf16", "fp16") if bf16 else ("fp32", "fp16")
    half, workers = "bf16" if bf16 else "fp16", os.cpu_count() or 1
    return Setting(name, "cuda", work, REAL, predicted, precisions, precisions, half, workers, official)


def to_rehearse(work: Path, official: Path | None) -> Setting:
    """Toy sizes, with made-up predictions."""
    torch.set_num_threads(1)
    predicted = [
        {"gpu": "rehearsal", "size": size, "stage": stage, **core._asdict(), "way": way, "mode": mode}
        | {"precision": "fp16", "seconds": 1e-3}
        for ((size, stage), core), way, mode in product(TOY.cores.items(), COUNTED, MODES)
    ]
    return Setting("rehearsal", "cpu", work, TOY, predicted, official=official, stance="force_eager")


def interpret(began: float) -> None:
    """See to it that Triton interprets: it looks when it is first imported, which `import torch` may do.

    Raises ValueError where there is no Triton.
    """
    if find_spec("triton") is None:
        raise ValueError("the rehearsal needs Triton's interpreter: pip install triton, on Linux")
    if not interpreted():
        restart(began, TRITON_INTERPRET="1")


def short(name: str) -> str:
    """A GPU's name as a part of a file's: H100_80GB_HBM3."""
    return re.sub(r"\W+", "_", name.removeprefix("NVIDIA "))


def main(
    parts: tyro.conf.Positional[tuple[Literal[(*PARTS,)], ...]] = (),
    official: Path | None = None,
    rehearse: bool = False,
    again: bool = False,
    minutes: float | None = None,
    results: Path | None = None,
) -> None:
    """Measure all that a GPU must show, and say what the numbers mean. An interrupted call goes on.

    Args:
        parts: What to measure; nothing: everything.
        official: A clone of the official BiFormer repository; its code is run beside ours.
        rehearse: Every part on the CPU, at toy sizes, in Triton's interpreter: no results, but no typos either.
        again: Measure anew what the results hold already.
        minutes: Begin nothing new after so many; the exit status is then 75, and the same command goes on.
        results: Folder to write gpu_NAME.json to: book/results, or a temporary one for a rehearsal.
    """
    began = float(os.environ.get(BEGAN, time.time()))
    with errors_in_one_line(ValueError, OSError):
        if official:
            require_clone(official)
        if rehearse:
            interpret(began)
            folder = results or Path(tempfile.mkdtemp(prefix="bra_rehearsal_"))
            print("A rehearsal: what is said below holds for no GPU (Triton's interpreter cuts bf16 off).")
            setting = to_rehearse(folder / "runs", official and official.resolve())
        else:
            folder, setting = results or Path("book/results"), on_this_gpu(official and official.resolve())
        chosen = [PARTS[name] for name in parts or PARTS]
        if again and BEGAN not in os.environ:
            for part in chosen:
                shutil.rmtree(setting.work / part.name, ignore_errors=True)
        record = Record(folder / f"gpu_{short(setting.gpu)}.json", began, again)
        status = show(chosen, setting, record, began + 60 * (minutes or torch.inf))
    sys.exit(status)
