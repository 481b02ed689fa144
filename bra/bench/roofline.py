"""`python -m bra.bench.roofline`: how long each way of `attend` should take on four GPUs, before anybody measures it.

A roofline: a kernel takes as long as the slowest of four things, its bytes over the memory bus, its requests to the
cache, its multiply-adds, its exponentials; and each launch costs a little. Bytes and products are counted
(bra/kernels/costs.py), the GPUs' rates are published, and what share of them a kernel gets is *assumed* here.
Writes book/results/kernels_predicted.json.
"""

import json
from collections import defaultdict
from dataclasses import asdict, dataclass
from functools import cache
from itertools import product
from pathlib import Path

import torch
import tyro

from bra.bench.jobs import HEAD, Core, Mode
from bra.files import write_atomically
from bra.kernels.costs import WAYS, Cost, Kernel, Reading
from bra.measure import environment


@dataclass(frozen=True)
class GPU:
    """A GPU's rates, a second: bytes from memory and cache; multiply-adds of matrix units and without; exponentials.

    images: how many fit into a batch of the predictions, as a share of the largest GPU's.
    """

    memory: float
    cache: float
    matrix: float
    plain: float
    powers: float
    images: float = 1.0
    triton_has_matrix_units: bool = True


GPUS = {  # published (A100 of 80 GB, H100 SXM), but for the caches' rates: taken from what others measured
    "T4": GPU(320e9, 1.2e12, 32.5e12, 4.05e12, 1.0e12, images=0.25, triton_has_matrix_units=False),
    "RTX 4090": GPU(1008e9, 5.0e12, 82.6e12, 41.3e12, 5.2e12),
    "A100": GPU(2039e9, 5.0e12, 156e12, 9.75e12, 2.4e12),
    "H100": GPU(3350e9, 5.5e12, 494.7e12, 33.5e12, 3.9e12),
}
SHARES = {"memory": 0.8, "products of PyTorch's kernels": 0.5, "products of flex": 0.35, "products of fused": 0.25}
LAUNCH = 4e-6  # seconds
TRITON = ("fused", "flex")  # compiled by Triton, which does not use the matrix units of GPUs like the T4
SHAPES = {  # image size and routed stage: the largest GPU's batch, regions, tokens, channels, k
    (224, 1): Core(128, 49, 64, 64, 1),
    (224, 2): Core(128, 49, 16, 128, 4),
    (224, 3): Core(128, 49, 4, 256, 16),
    (512, 1): Core(16, 256, 64, 64, 1),
    (512, 2): Core(16, 256, 16, 128, 4),
    (512, 3): Core(16, 256, 4, 256, 16),
    (1024, 1): Core(4, 256, 256, 64, 1),
    (1024, 2): Core(4, 256, 64, 128, 4),
    (1024, 3): Core(4, 256, 16, 256, 16),
}


def batch_for(case: Core, gpu: GPU) -> Core:
    """The case with as many images as the predictions for this GPU are made with."""
    return case._replace(b=int(case.b * gpu.images))


@cache
def cost_of(case: Core, way: str) -> Cost:
    """What a way costs, in float16, if every region reads k others, drawn by chance."""
    draw = torch.Generator().manual_seed(0)
    index = torch.rand(case.b, case.r, case.r, generator=draw).argsort(dim=-1)[..., : case.k]
    return WAYS[way](Reading(index, case.t, case.c, case.c // HEAD))


def predicted_seconds(cost: Cost, way: str, gpu: GPU, mode: Mode) -> float:
    """The sum over a way's kernels."""
    rate = gpu.plain if way in TRITON and not gpu.triton_has_matrix_units else gpu.matrix
    rate *= SHARES.get(f"products of {way}", SHARES["products of PyTorch's kernels"])
    kernels = cost.forward + (cost.backward if mode == "train" else [])
    return sum(roof(kernel, gpu, rate) for kernel in kernels)


def roof(kernel: Kernel, gpu: GPU, rate: float) -> float:
    """The slowest of what a kernel does, and its launches."""
    return kernel.launches * LAUNCH + max(
        kernel.least / (SHARES["memory"] * gpu.memory),
        (kernel.loads + kernel.stores) / gpu.cache,
        kernel.products / rate,
        kernel.powers / gpu.powers,
    )


def predictions() -> list[dict]:
    """One row for each GPU, shape, way and mode."""
    rows = []
    for (name, gpu), ((size, stage), case), way in product(GPUS.items(), SHAPES.items(), WAYS):
        case = batch_for(case, gpu)
        for mode in ("inference", "train"):
            seconds = float(f"{predicted_seconds(cost_of(case, way), way, gpu, mode):.3g}")
            row = {"gpu": name, "size": size, "stage": stage, **case._asdict(), "way": way, "mode": mode}
            rows.append(row | {"precision": "fp16", "seconds": seconds})
    return rows


def table(rows: list[dict], mode: Mode) -> str:
    """Microseconds, a line for each GPU and shape, the fastest way marked."""
    lines = [f"{'GPU':9}{'image':>6} stage" + "".join(f"{way:>10}" for way in WAYS)]
    cases = defaultdict(dict)
    for row in rows:
        if row["mode"] == mode:
            cases[row["gpu"], row["size"], row["stage"]][row["way"]] = 1e6 * row["seconds"]
    for (gpu, size, stage), times in cases.items():
        marks = {way: "*" if time == min(times.values()) else " " for way, time in times.items()}
        lines.append(f"{gpu:9}{size:6}{stage:6}" + "".join(f"{times[way]:9.0f}{marks[way]}" for way in WAYS))
    return "\n".join(lines)


def main(results: Path = Path("book/results")) -> None:
    """Predict, print, and write RESULTS/kernels_predicted.json."""
    rows = predictions()
    assumed = {"shares": SHARES, "launch_seconds": LAUNCH, "gpus": {name: asdict(gpu) for name, gpu in GPUS.items()}}
    content = {"command": "python -m bra.bench.roofline", "measured": False, "assumed": assumed}
    lines = ",\n".join("  " + json.dumps(row) for row in rows)
    head = json.dumps(content | {"environment": environment()}, indent=1)[:-2]
    write_atomically(results / "kernels_predicted.json", head + f',\n "rows": [\n{lines}\n ]\n}}\n')
    for mode in ("inference", "train"):
        print(f"Predicted, not measured: microseconds, float16, {mode}; * is the fastest")
        print(table(rows, mode), "\n")


if __name__ == "__main__":
    tyro.cli(main, prog="python -m bra.bench.roofline")
