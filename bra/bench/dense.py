"""`python -m bra.bench.dense`: what attention costs inside a segmenter and a detector on large images, on a CPU.

BiFormer-T under a Semantic FPN and under torchvision's RetinaNet, one image, with three kinds of attention: BRA with
regions of 64 pixels; full, every token reading every other in PyTorch's fused kernel; windows, the k nearest regions in
place of the k best. Writes book/results/dense_cpu.json.
"""

import json
import statistics
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Literal, NamedTuple

import torch
import torch.nn.functional as F
import tyro
from torch import nn

from bra.bench.jobs import Mode, raised_by
from bra.biformer import FULL, TINY, BiFormer, BiFormerConfig
from bra.dense import Backbone, Segmenter, SemanticFPN, detector
from bra.files import write_atomically
from bra.measure import environment, seconds
from bra.patterns import local_regions
from bra.topk import TableRouter

CONFIG = TINY
REGION = 64  # pixels
CLASSES = {"segmenter": 150, "detector": 80}  # ADE20K's and COCO's
SIZES = ((512, 512), (800, 1333), (1024, 1024))
FITTED = ((384, 384), (512, 512), (640, 640))  # sizes from whose peaks of memory those of larger images are computed
MEMORY = 24 * 2**30
ATTENTIONS = ("bra", "full", "windows")


class Case(NamedTuple):
    """One measurement; host is what stands on the backbone, attention what is in it, and an image (height, width)."""

    host: Literal["segmenter", "detector"]
    attention: Literal["bra", "full", "windows"]
    height: int
    width: int
    mode: Mode

    @property
    def pixels(self) -> int:
        return self.height * self.width


def config_for(case: Case) -> BiFormerConfig:
    """BiFormer-T with this kind of attention."""
    if case.attention == "full":
        return replace(CONFIG, stages=tuple(replace(stage, k=FULL) for stage in CONFIG.stages))
    if case.attention == "windows":
        side = 128 if case.host == "detector" else 1  # a detector pads to multiples of its coarsest stride first
        height, width = (-(-pixels // side) * side for pixels in (case.height, case.width))
        grid = -(-height // REGION), -(-width // REGION)
        return replace(CONFIG, grid=grid, router=lambda grid, k: TableRouter(local_regions(grid, k)))
    return CONFIG


def prepare(case: Case) -> tuple[nn.Module, Callable[[], None]]:
    """The network, and a function that takes one step: forward, and in training a loss and its backward."""
    torch.manual_seed(0)
    train, size = case.mode == "train", (case.height, case.width)
    region = None if case.attention == "full" else REGION
    model, image = BiFormer(config_for(case)), torch.randn(3, *size)
    if case.host == "segmenter":
        backbone = Backbone(model, region=region)
        network = Segmenter(backbone, SemanticFPN(backbone.channels, backbone.reduction, CLASSES["segmenter"]))
        labels = torch.randint(CLASSES["segmenter"], (1, *size))
        given, loss = (image[None],), lambda logits: F.cross_entropy(logits, labels)
    else:
        backbone = Backbone(model, region=region, out_indices=(1, 2, 3))
        network = detector("retinanet", backbone, CLASSES["detector"], min_size=min(size), max_size=max(size))
        boxes = torch.tensor([[0.1, 0.1, 0.3, 0.4], [0.2, 0.5, 0.9, 0.9]]) * torch.tensor([*size[::-1], *size[::-1]])
        given, loss = ([image], [{"boxes": boxes, "labels": torch.tensor([1, 2])}]), lambda losses: sum(losses.values())
    network.train(train)

    def step():
        network.zero_grad(set_to_none=True)
        with torch.set_grad_enabled(train):
            out = network(*given)
        if train:
            loss(out).backward()

    return network, step


def in_turns(cases: list[Case], repeats: int, budget: float) -> list[dict]:
    """Median seconds of each case, in turns, after a warm-up; one that takes long runs less often, but once at least.

    budget: seconds that a case may run in all, if that is more than once.
    """
    steps, spent = [prepare(case)[1] for case in cases], [[] for _ in cases]
    cpu = torch.device("cpu")
    warm = [seconds(step, cpu) for step in steps]
    for turn in range(repeats):
        for step, once, times in zip(steps, warm, spent, strict=True):
            if not turn or (turn + 1) * once <= budget:
                times.append(seconds(step, cpu))
    return [{"seconds": statistics.median(times), "runs": len(times)} for times in spent]


def peak_bytes(case: Case) -> int:
    """How much one step needs beyond weights and image, in a process of its own."""
    script = f"import sys\nfrom bra.bench import dense\nprint(dense.weigh({json.dumps(case)}))"
    done = subprocess.run([sys.executable, "-c", script], check=True, capture_output=True, text=True)
    return int(done.stdout)


def weigh(case: list) -> int:
    """What `peak_bytes` runs in the other process."""
    _, step = prepare(Case(*case))
    return raised_by(step)


def expected_seconds(case: Case, known: dict[Case, dict]) -> float:
    """From the largest measured image: as the pixels, of full attention as their square, which it nears; 0: unknown."""
    alike = [
        other for other in known if (other.host, other.attention, other.mode) == (case.host, case.attention, case.mode)
    ]
    measured = [other for other in alike if known[other]["seconds"]]
    if not measured:
        return 0.0
    last = max(measured, key=lambda other: other.pixels)
    return known[last]["seconds"] * (case.pixels / last.pixels) ** (2 if case.attention == "full" else 1)


def measure(cases: list[Case], known: dict[Case, dict], limit: float, repeats: int) -> list[dict]:
    """A row for each case; null, and why, for what would take longer than `limit` seconds. All are added to `known`."""
    expected = {case: expected_seconds(case, known) for case in cases}
    short = [case for case in cases if expected[case] <= limit]
    found = dict(zip(short, in_turns(short, repeats, limit), strict=True))
    for case in cases:
        row = found.get(case, {"seconds": None, "runs": 0})
        if case in found:
            row |= {"bytes": peak_bytes(case)}
        else:
            row |= {"bytes": None, "reason": f"about {expected[case]:.0f} s, computed from a smaller image"}
        known[case] = case._asdict() | row
    return [known[case] for case in cases]


def kept(path: Path, content: dict) -> dict[Case, dict]:
    """The rows that an earlier run with the same settings left, on this machine with these versions: they stay."""
    earlier = json.loads(path.read_text()) if path.exists() else {"rows": []}

    def setting(of: dict) -> tuple:
        same = {key: value for key, value in of.get("environment", {}).items() if key not in ("date", "commit")}
        return same, *(of.get(name) for name in ("repeats", "seed", "model", "region", "memory"))

    rows = earlier["rows"] if setting(earlier) == setting(content) else []
    return {Case(*(row[name] for name in Case._fields)): row for row in rows}


def largest_image(host: str, attention: str, known: dict[Case, dict]) -> dict:
    """The side of the largest square image whose training step fits into MEMORY, weights and AdamW's moments included.

    Computed: peaks of memory grow with the pixels, also of full attention, whose fused kernel keeps no weights. A line
    through those of square images, at FITTED and what else is known; worst: how far one is from the line, as a share.
    """
    cases = [Case(host, attention, *size, "train") for size in FITTED]
    squares = {case: row["bytes"] for case, row in known.items() if case.height == case.width and row["bytes"]}
    peaks = {case: peak for case, peak in squares.items() if case[:2] == (host, attention) and case.mode == "train"}
    peaks |= {case: peak_bytes(case) for case in cases if case not in peaks}
    slope, start = statistics.linear_regression([case.pixels for case in peaks], list(peaks.values()))
    weights = sum(p.numel() * p.element_size() for p in prepare(cases[0])[0].parameters())
    side = int(max(0, (MEMORY - 3 * weights - start) / slope) ** 0.5) // REGION * REGION
    worst = max(abs(start + slope * case.pixels - peak) / peak for case, peak in peaks.items())
    told = {"host": host, "attention": attention, "side": side, "measured": False, "bytes_a_pixel": slope}
    return told | {"worst": worst, "peaks": [[case.height, case.width, peak] for case, peak in sorted(peaks.items())]}


def line(rows: list[dict]) -> str:
    """Seconds and memory of each attention, and how many times the seconds of the first."""
    told = ["{host:9} {height:4} x {width:4} {mode:9}".format(**rows[0])]
    for row in rows:
        if row["seconds"] is None:
            told.append(f"{row['attention']} {row['reason']}")
        else:
            times = row["seconds"] / rows[0]["seconds"]
            told.append(f"{row['attention']} {row['seconds']:.2f} s = {times:.2f}x {row['bytes'] / 2**20:.0f} MB")
    return "; ".join(told)


def main(
    sizes: tuple[tuple[int, int], ...] | None = None,
    repeats: int = 5,
    limit: float = 150.0,
    results: Path = Path("book/results"),
) -> None:
    """Measure what attention costs under dense heads.

    Args:
        sizes: Heights and widths of the images, such as 512 512 1024 1024; None: these and 800 1333.
        repeats: Measurements of each, after a warm-up; what takes long is measured less often.
        limit: Seconds: a step that would take longer is left out; what runs more than once takes no more in all.
        results: Folder to write dense_cpu.json to.
    """
    content = {"command": " ".join(["python -m bra.bench.dense", *sys.argv[1:]]), "repeats": repeats, "seed": 0}
    content |= {"model": "tiny", "region": REGION, "memory": MEMORY, "environment": environment(), "largest": []}
    known = kept(results / "dense_cpu.json", content)

    def write():  # after each, so that an interrupted run loses little
        write_atomically(results / "dense_cpu.json", json.dumps(content | {"rows": [*known.values()]}, indent=1) + "\n")

    for size, host, mode in product(sizes or SIZES, CLASSES, ("inference", "train")):
        cases = [Case(host, attention, *size, mode) for attention in ATTENTIONS]
        rows = [known[case] for case in cases if case in known]
        if len(rows) < len(cases):
            rows = measure(cases, known, limit, repeats)
        print(line(rows), flush=True)
        write()
    for host, attention in product(CLASSES, ATTENTIONS):
        content["largest"].append(found := largest_image(host, attention, known))
        print(f"{host} {attention}: {found['side']} x {found['side']} pixels fit, computed", flush=True)
        write()


if __name__ == "__main__":
    tyro.cli(main, prog="python -m bra.bench.dense")
