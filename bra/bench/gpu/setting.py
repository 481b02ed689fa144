"""Where and at which sizes `python -m bra.bench gpu` measures: the real sizes, and toy ones to rehearse with."""

import gc
import re
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import NamedTuple

import torch

from bra.bench.experiments import TRAINED
from bra.bench.jobs import Core, Layer, Model
from bra.bench.roofline import SHAPES
from bra.biformer import NANO, TINY, BiFormerConfig
from bra.data.recall import Recall
from bra.train.config import TrainConfig
from bra.train.recipes import imagenet100

Rows = list[dict]


@dataclass(frozen=True)
class Sizes:
    """What is measured."""

    checked: dict[str, Core]
    cores: dict[tuple[int, int], Core]
    layers: tuple[Layer, ...]
    models: tuple[Model, ...]
    matrix: int
    """Side of the matrix product that multiply-adds are held against."""
    repeats: int
    image: tuple[str, int, int]
    """Model, grid, and the smallest size of the search for the largest image; sizes are multiples of 64."""
    largest: int
    """Where the search ends."""
    patience: float
    """Seconds: an image whose step takes longer is not made larger: twice the side is sixteen times the time."""
    recall: dict[str, TrainConfig]
    seeds: range
    recipe: TrainConfig
    network: BiFormerConfig
    jpegs: int
    resumed: TrainConfig
    """The run that is killed after `killed` steps."""
    killed: int


REAL = Sizes(
    checked={
        "stage 1": Core(2, 49, 64, 64, 1),
        "stage 2": Core(2, 49, 16, 128, 4),
        "stage 3": Core(2, 49, 4, 256, 16),
        "odd": Core(3, 35, 15, 96, 5),
        "7 x 7 tokens": Core(2, 9, 49, 32, 2),
    },
    cores=SHAPES,
    layers=tuple(
        Layer(b, side >> stage, 64 << stage, grid, k)
        for b, side, grid in ((64, 56, 7), (8, 128, 16), (2, 256, 16), (1, 384, 16))  # 224, 512, 1024, 1536 pixels
        for stage, k in enumerate((1, 4, 16))
    ),
    models=(Model("T", 64, 224, 7), Model("S", 64, 224, 7), Model("B", 64, 224, 7), Model("T", 8, 512, 16))
    + (Model("T", 2, 1024, 16), Model("T", 1, 1536, 16)),
    matrix=8192,
    repeats=9,
    image=("T", 16, 256),
    largest=16384,
    patience=5.0,
    recall=TRAINED["recall_routers"],
    seeds=range(3),
    recipe=replace(imagenet100(), batch=128),
    network=TINY,
    jpegs=1024,
    resumed=TrainConfig(model="nano", steps=100, batch=64, evaluate_every=20, average=0.9, drop_path=0.1),
    killed=50,
)
TOY = replace(
    REAL,
    checked={"stage 2": Core(1, 4, 16, 32, 2), "odd": Core(1, 5, 3, 64, 3)},
    cores={(224, 1): Core(1, 4, 16, 32, 1), (512, 2): Core(1, 5, 3, 32, 3)},
    layers=(Layer(1, 6, 32, 2, 1),),
    models=(Model("T", 1, 64, 4),),
    matrix=64,
    repeats=1,
    image=("T", 4, 64),
    largest=128,
    recall={"top-4": replace(TRAINED["recall_routers"]["top-4"], steps=2, batch=8)},
    seeds=range(1),
    recipe=replace(imagenet100(), batch=4, image_size=32),
    network=NANO,
    jpegs=8,
    resumed=replace(REAL.resumed, model=None, recall=Recall(cells=3), k=2, steps=6, batch=4, evaluate_every=2),
    killed=3,
)


@dataclass(frozen=True)
class Setting:
    """One machine, and what is measured on it.

    work: a folder for runs. predicted: rows of kernels_predicted.json. precisions: of the check; trained: of the runs
    that are killed; half: the lower one of speed. stance: of torch.compile, which may do nothing.
    """

    gpu: str
    device: str
    work: Path
    sizes: Sizes
    predicted: Rows
    precisions: tuple[str, ...] = ("fp32", "bf16", "fp16")
    trained: tuple[str, ...] = ("bf16",)
    half: str = "bf16"
    workers: int = 0
    official: Path | None = None
    stance: str = "default"


class Part(NamedTuple):
    """Something that a GPU must show.

    pieces: from the setting to what is measured, one after another, and kept; each takes minutes at most.
    verdicts: what the rows of all pieces say, a sentence each.
    """

    name: str
    pieces: Callable[[Setting], dict[str, Callable[[], Rows]]]
    verdicts: Callable[[Setting, Rows], list[str]]


def for_gpu(rows: Rows, gpu: str) -> Rows:
    """Those predictions that are made for a GPU of this name, such as NVIDIA H100 80GB HBM3."""
    return [row for row in rows if re.search(rf"\b{row['gpu']}\b", gpu)]


def attempt(measure: Callable[[], dict]) -> dict:
    """What is measured; or why it is left out, for want of memory or of what a way needs; or how it failed."""
    try:
        return measure()
    except Exception as error:  # whatever a compiler or a driver may raise: the others are measured all the same
        reason = in_one_line(error)
        expected = isinstance(error, torch.cuda.OutOfMemoryError) or "cannot run here" in reason
    gc.collect()
    torch.cuda.empty_cache()
    return {"left_out" if expected else "failed": reason}


def in_one_line(error: BaseException) -> str:
    """The kind of an error, and the first line of what it says."""
    said = next((line.strip() for line in str(error).splitlines() if line.strip()), "")
    return f"{type(error).__name__}: {said}" if said else type(error).__name__


def reasons(rows: Rows, case: Callable[[dict], str]) -> list[str]:
    """A sentence for each reason for which something was left out or failed, with the first case of each."""
    found: dict[tuple, list[str]] = {}
    for row in rows:
        for kind in ("left_out", "failed"):
            if kind in row:
                found.setdefault((row.get("way"), kind.replace("_", " "), row[kind]), []).append(case(row))
    return [
        f"{way} {kind} in {cases[0]}" + (f" and {len(cases) - 1} more" if cases[1:] else "") + f": {reason}"
        for (way, kind, reason), cases in found.items()
    ]
