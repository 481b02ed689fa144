"""The largest image with which a GPU can take a training step."""

import torch

from bra.bench.gpu.setting import Part, Rows, Setting, in_one_line
from bra.bench.jobs import Job, Model
from bra.measure import seconds


def largest_pieces(setting: Setting) -> dict:
    """One for each way."""
    return {way: lambda way=way: [largest(setting, way)] for way in ("ours", "expanded", "dense")}


def largest(setting: Setting, way: str) -> dict:
    """The largest square image with which a training step fits, in steps of 64 pixels, unless time runs out first."""
    name, grid, size = setting.sizes.image
    row = {"part": "largest", "name": name, "grid": grid, "precision": setting.half, "way": way, "size": None}
    fits, fails = 0, setting.sizes.largest + 64  # of both, in pixels
    while size < fails:
        took, reason = trial(Job(Model(name, 1, size, grid), way, "train", setting.device, setting.half))
        if reason:
            fails, row["reason"] = size, reason
        else:
            fits = size
            row |= {"size": size, "seconds": took}
            if took > setting.sizes.patience:
                return row | {"ended": "patience"}
        doubled = 2 * fits if fails > setting.sizes.largest else (fits + fails) // 2
        size = min(doubled, setting.sizes.largest) // 64 * 64
        if size <= fits:
            break
    return row | {"ended": "memory" if "reason" in row else "search"}


def trial(job: Job) -> tuple[float, str | None]:
    """Seconds of a step, after one in which kernels are compiled; it may not fit: then why."""
    try:
        step = job.prepare()
        step()
        return seconds(step, torch.device(job.device)), None
    except torch.cuda.OutOfMemoryError as error:
        reason = in_one_line(error)
    torch.cuda.empty_cache()  # after the error has let go of what it held
    return 0.0, reason


def largest_verdicts(setting: Setting, rows: Rows) -> list[str]:
    """The largest image of each way."""
    why = {"memory": "{size} pixels", "patience": "{size} pixels at least, in {seconds:.0f} s a step"}
    why["search"] = "{size} pixels at least, where the search ends"
    found = []
    for row in rows:
        told = why[row["ended"]].format(**row) if row["size"] else f"none: {row['reason']}"
        found.append(f"largest image of a training step of {row['name']}, {row['precision']}, {row['way']}: {told}")
    return found


LARGEST = Part("largest", largest_pieces, largest_verdicts)
