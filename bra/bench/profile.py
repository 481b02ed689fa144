"""`python -m bra.bench.profile`: where a training step of BiFormer-S goes on a CPU, beside Swin-T's, if timm is here.

PyTorch's profiler tells the time that each operation takes by itself, without those that it calls; here they are added
up by what they are for. Writes book/results/bench_profile_cpu.json.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import torch
import tyro
from torch.profiler import ProfilerActivity, profile

from bra.bench.jobs import Job, Model
from bra.bench.peers import present_peers
from bra.files import write_atomically
from bra.measure import environment

CASE = Model("S", 8, 224, 7)
GROUPS = {  # parts of the names of PyTorch's operations: the first that is found decides
    "norms and GELU": ("_norm", "gelu"),
    "attention": ("attention", "bmm", "softmax", "index_select", "index_add", "scatter", "topk", "aten::log"),
    "linear layers": ("aten::mm", "aten::addmm"),
    "copies and zeros": ("copy", "cat", "fill", "zero"),
}


def group_of(name: str, shapes: list) -> str:
    """What an operation, with inputs of these shapes, is for. A convolution with one channel a filter is depthwise."""
    if "convolution" in name:
        backward = "backward" in name
        weight = shapes[2 if backward else 1]
        kind = f"depthwise {weight[2]} x {weight[3]}" if weight[1] == 1 else "other convolutions"
        return f"{kind}, backward" if backward else kind
    return next((group for group, parts in GROUPS.items() if any(part in name for part in parts)), "the rest")


def seconds_by_group(step: Callable[[], None], steps: int) -> dict[str, float]:
    """The mean seconds of one step in each group, the largest first."""
    step()
    with profile(activities=[ProfilerActivity.CPU], record_shapes=True) as recorded:
        for _ in range(steps):
            step()
    found = defaultdict(float)
    for event in recorded.key_averages(group_by_input_shape=True):
        found[group_of(event.key, event.input_shapes)] += event.self_cpu_time_total / 1e6 / steps
    return dict(sorted(found.items(), key=lambda item: -item[1]))


def main(threads: tuple[int, ...] = (1, 2), steps: int = 5, results: Path = Path("book/results")) -> None:
    """Profile training steps.

    Args:
        threads: Numbers of threads to run with, one after the other.
        steps: Steps that are profiled, after one that is not.
        results: Folder to write bench_profile_cpu.json to.
    """
    peers, rows = present_peers(), []
    for count in threads:
        torch.set_num_threads(count)
        for way in ("ours", *(name for name in peers if name == "timm Swin-T")):
            found = seconds_by_group(Job(CASE, way, "train").prepare(), steps)
            rows += [{"threads": count, "way": way, "group": group, "seconds": s} for group, s in found.items()]
            whole = sum(found.values())
            print(f"{way}, threads: {count}, {whole:.2f} s a step")
            print(*(f"{s:7.3f} s {s / whole:6.1%} {group}" for group, s in found.items()), sep="\n")
    content = {"command": " ".join(["python -m bra.bench.profile", *sys.argv[1:]]), "seed": 0, "steps": steps}
    content |= {"environment": environment(), "case": CASE._asdict(), "peers": peers, "rows": rows}
    write_atomically(results / "bench_profile_cpu.json", json.dumps(content, indent=1) + "\n")


if __name__ == "__main__":
    tyro.cli(main, prog="python -m bra.bench.profile")
