"""`python -m bra.bench`: time and peak memory of the core op, the layer and the models, against the alternatives.

In one run, in turns: ours; the gather from an expanded tensor, as the official code does it; dense attention; and,
given a clone, the official code itself, and, if asked for, models of others. Medians. Writes
book/results/bench_PART_DEVICE.json and scaling_DEVICE.png.
"""

import json
import math
import sys
from collections.abc import Collection
from dataclasses import replace
from functools import partial
from itertools import product
from pathlib import Path
from typing import Literal

import torch
import tyro
from tqdm.auto import tqdm

from bra import draw
from bra.arguments import errors_in_one_line
from bra.attention import attend, attend_gathered
from bra.bench.gpu import command
from bra.bench.jobs import PUBLISHED, Core, Job, Layer, Mode, Model, Part, matrix_rate, peak_bytes, times
from bra.bench.peers import PEERS, peer_multiply_adds, present_peers
from bra.bench.ways import require_clone
from bra.biformer import BiFormer
from bra.files import write_atomically
from bra.measure import environment, multiply_adds

STAGES = ((64, 64, 1), (16, 128, 4), (4, 256, 16))  # tokens a region, channels and k of the routed stages at 224
CORES = [Core(b, r, *stage) for b, r in ((8, 49), (1, 256)) for stage in STAGES]
LAYERS = [  # the routed stages at 224, 512 and 1024 pixels
    Layer(b, side >> stage, c, grid, k)
    for b, side, grid in ((8, 56, 7), (1, 128, 16), (1, 256, 16))
    for stage, (_, c, k) in enumerate(STAGES)
]
BATCHES = [Model("S", 8, 224, 7)]  # what the peers are as large as
SIZES = (224, 512, 1024)


def grid_for(size: int) -> int:
    """The official configurations' regions a side: 7 for classification at 224, 16 for large images."""
    return 7 if size <= 256 else 16


def groups(
    part: str,
    sizes: tuple[int, ...],
    model: str,
    compiled: bool,
    official: Path | None,
    peers: Collection[str] = (),
) -> list[list]:
    """What is measured in turns: [case, mode, ways, repeats at most] each."""
    found = []
    if part in ("core", "all"):
        found += [[case, "train", ["ours", "expanded", "dense"], 9] for case in CORES]
    if part in ("layer", "all"):
        for case, mode in product(LAYERS, ("inference", "train")):
            found.append([case, mode, ["ours", "expanded", "dense"], 5 if case.side < 256 else 3])
    if part in ("models", "all"):
        ways = ["ours", *(["compiled"] if compiled else []), *(["official"] if official else ["expanded"])]
        cases = [*BATCHES, *(Model(model, 1, size, grid_for(size)) for size in sizes)]
        for case, mode in product(cases, ("inference", "train")):
            # a training step of the dense model at 1024 pixels takes minutes; its layers are measured above
            affordable = case.size < 1024 or mode == "inference"
            others = [*(["dense"] if affordable else []), *(peers if case in BATCHES else [])]
            found.append([case, mode, [*ways, *others], 5 if case.size < 512 else 3])
    return found


def measure(case: Part, mode: Mode, ways: list[str], repeats: int, template: Job) -> list[dict]:
    """One row a way."""
    jobs = [replace(template, case=case, mode=mode, way=way) for way in ways]
    return [
        {"part": type(case).__name__.lower(), **case._asdict(), "mode": mode, "way": job.way, "seconds": spent}
        | {"bytes": None if job.way == "compiled" else peak_bytes(job)}  # compiling needs more than running
        for job, spent in zip(jobs, times(jobs, repeats), strict=True)
    ]


def floor(case: Model, mode: Mode, rate: float, way: str = "ours") -> dict:
    """Multiply-adds, and the seconds that they take at `rate`: no way of computing can be faster."""
    an_image = peer_multiply_adds(way) if way in PEERS else by_definition(case)
    needed = an_image * case.b * (3 if mode == "train" else 1)
    return {"multiply_adds": needed, "floor_seconds": needed / rate}


def by_definition(case: Model) -> int:
    """Multiply-adds of a BiFormer for one image, forward, if nothing is computed that is then masked."""
    with torch.device("meta"):
        gathered = partial(attend, way=attend_gathered)
        model = BiFormer(replace(PUBLISHED[case.name], grid=(case.grid,) * 2, attend=gathered)).eval()
        images = torch.empty(1, 3, case.size, case.size)
    return multiply_adds(lambda: model(images))


def table(rows: list[dict]) -> str:
    """One line a case and mode: each way's time and memory, and how many times ours it is."""
    lines, cases = [], {}
    for row in rows:
        fields = {"core": Core, "layer": Layer, "model": Model}[row["part"]]._fields
        name = " ".join(f"{field}{row[field]}" if field != "name" else row["name"] for field in fields)
        cases.setdefault((row["part"], name, row["mode"]), {})[row["way"]] = row
    for (part, name, mode), ways in cases.items():
        ours, told = ways["ours"], []
        for way, row in ways.items():
            memory = f" {row['bytes'] / 2**20:6.0f} MB" if row["bytes"] else ""
            ratio = "" if row is ours else f" = {row['seconds'] / ours['seconds']:.2f}x"
            told.append(f"{way} {1000 * row['seconds']:8.1f} ms{ratio}{memory}")
        if "floor_seconds" in ours:
            told.append(f"one matrix product {1000 * ours['floor_seconds']:.1f} ms")
        lines.append(f"{part:5} {name:22} {mode:9} " + "; ".join(told))
    return "\n".join(lines)


def scaling(rows: list[dict], model: str) -> draw.Picture | None:
    """Time and memory of a training step against the image's size; None if fewer than two sizes were measured."""
    rows = [row for row in rows if row["part"] == "model" and row["mode"] == "train" and row["name"] == model]
    sizes = sorted({row["size"] for row in rows})
    if len(sizes) < 2:
        return None
    ways = list(dict.fromkeys(row["way"] for row in rows))
    seconds = {(row["way"], row["size"]): row["seconds"] for row in rows}
    peaks = {(row["way"], row["size"]): (row["bytes"] or math.nan) / 2**30 for row in rows}
    return draw.scaling(
        sizes,
        {way: [seconds.get((way, size), math.nan) for size in sizes] for way in ways},
        {way: [peaks.get((way, size), math.nan) for size in sizes] for way in ways if way != "compiled"},
        f"One training step of BiFormer-{model}, one image",
    )


def main(
    part: tyro.conf.Positional[Literal["core", "layer", "models", "all"]] = "all",
    official: Path | None = None,
    device: str = "cpu",
    autocast: bool = False,
    compiled: bool = False,
    peers: bool = False,
    model: Literal["T", "S", "B"] = "T",
    sizes: tuple[int, ...] = SIZES,
    repeats: int = 9,
    results: Path = Path("book/results"),
) -> None:
    """Measure speed and memory. `python -m bra.bench gpu` measures all that a GPU must show.

    Args:
        part: What to measure.
        official: A clone of the official BiFormer repository; its code is run beside ours.
        device: cpu, cuda, ...
        autocast: In bfloat16: of layers and models by autocast, of the attention alone its tensors.
        compiled: Our models under torch.compile, too: minutes more.
        peers: Beside BiFormer-S at 224 pixels also timm's Swin-T and birder's BiFormer-S, those that are installed.
        model: The model that is measured at each of the sizes.
        sizes: Sides of square images, in pixels.
        repeats: Measurements of each, after a warm-up; large models take fewer.
        results: Folder to write bench_PART_DEVICE.json to, or bench_peers_DEVICE.json, and scaling_DEVICE.png.
    """
    with errors_in_one_line(ValueError, OSError):
        if repeats < 1:
            raise ValueError(f"repeats must be at least 1, but is {repeats}")
        if official:
            require_clone(official)
    template = Job(CORES[0], "ours", "train", device, "bf16" if autocast else "fp32", official and official.resolve())
    rate, rows = matrix_rate(device), []
    about = {"command": " ".join(["python -m bra.bench", *sys.argv[1:]]), "repeats": repeats, "seed": 0}
    about |= {"environment": environment(), "matrix_product_multiply_adds_per_second": rate}
    if peers:
        about["peers"] = present_peers()
    name = f"bench_{'peers' if peers else part}"
    suffix = f"{device}_bfloat16" if autocast else device
    print(f"one matrix product of 4096 x 4096: {rate / 1e9:.1f} G multiply-adds/s")
    for case, mode, ways, most in tqdm(groups(part, sizes, model, compiled, official, about.get("peers", ()))):
        found = measure(case, mode, ways, min(repeats, most), template)
        if isinstance(case, Model):
            found = [row | floor(case, mode, rate, row["way"]) for row in found]
        rows += found
        tqdm.write(table(found))
        content = about | {"rows": rows}  # after each, so that an interrupted run loses little
        write_atomically(results / f"{name}_{suffix}.json", json.dumps(content, indent=1) + "\n")
    if picture := scaling(rows, model):
        picture.save(results / f"scaling_{suffix}.png")


if __name__ == "__main__":
    if sys.argv[1:2] == ["gpu"]:
        tyro.cli(command.main, prog="python -m bra.bench gpu", args=sys.argv[2:])
    else:
        tyro.cli(main, prog="python -m bra.bench")
