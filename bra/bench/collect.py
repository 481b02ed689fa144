"""What an experiment keeps of a run: its summary, and how it got there."""

import torch

from bra.data import BOARDS
from bra.data.recall import WAYS, news_ways
from bra.layer import record_routes
from bra.train.models import load_model
from bra.train.runs import RunFolder

WINDOW = 10  # steps over which a curve is averaged


def curve(metrics: list[dict], name: str) -> list:
    """The training batches' `name`, rounded means over each WINDOW steps: a number each, or one for each block."""
    values = [line[name] for line in metrics if name in line]
    windows = [values[i : i + WINDOW] for i in range(0, len(values) - WINDOW + 1, WINDOW)]
    if values and isinstance(values[0], list):
        return [[round(sum(block) / WINDOW, 4) for block in zip(*window, strict=True)] for window in windows]
    return [round(sum(window) / WINDOW, 4) for window in windows]


def steps_to(metrics: list[dict], share: float, score: str = "accuracy") -> int | None:
    """The first step after which the last WINDOW training batches, of fresh boards, reach `share` in the mean."""
    values = [line[score] for line in metrics if score in line]
    reached = (n for n in range(WINDOW, len(values) + 1) if sum(values[n - WINDOW : n]) >= share * WINDOW)
    return next(reached, None)


def held_out_curve(metrics: list[dict], score: str = "accuracy") -> list:
    """(step, score on held-out images) of every evaluation."""
    return [[line["step"], round(line["held_out"][score], 4)] for line in metrics if "held_out" in line]


@torch.no_grad()
def by_way(run: RunFolder) -> dict[str, dict[str, float]]:
    """For each way in which question and answer can meet: the share of the held-out boards, and how many are right."""
    model, data, _ = load_model(run.path)
    ways, right = [], []
    for boards in data.held_out(256):
        with record_routes(model) as routes:
            right.append(model(boards.image).argmax(dim=1) == boards.label)
        ways.append(news_ways(routes, boards))
    ways, right = torch.cat(ways), torch.cat(right)
    found = {}
    for number, way in enumerate(WAYS):
        boards = ways == number
        if boards.any():
            found[way] = {"share": boards.double().mean().item(), "accuracy": right[boards].double().mean().item()}
    return found


def collect(run: RunFolder) -> dict:
    """What the book keeps of a run."""
    metrics = run.read_metrics()
    found = run.read_summary() | {"held_out_curve": held_out_curve(metrics, run.score)}
    found["steps_to_95"] = steps_to(metrics, 0.95, run.score)
    data = run.read_settings()["data"]
    if data == "recall":
        found["by_way"] = by_way(run)
    if data in BOARDS:
        kept = ("step", "hit_rate", "entropy")
        found["history"] = [{name: page[name] for name in kept} for page in run.read_routing()]
    return found | {name: curve(metrics, name) for name in ("loss", run.score, "hit_rate", "reverse_hit_rate")}
