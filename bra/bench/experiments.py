"""The experiments that the book reports: `python -m bra.bench.experiments recall_routers`.

Each trains a few settings with three seeds and writes their summaries to book/results/NAME.json. An experiment that
was interrupted goes on where it stopped.
"""

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Literal

import tyro

from bra.arguments import errors_in_one_line
from bra.data.recall import Recall
from bra.files import write_atomically
from bra.measure import environment
from bra.train import complete, prepare, train
from bra.train.config import TrainConfig
from bra.train.history import RoutingHistory
from bra.train.routers import ROUTERS
from bra.train.runs import RunFolder

BY_CONTENT = {f"top-{k}": TrainConfig(router="topk", k=k) for k in (8, 4, 2, 1)}
ROUTED = BY_CONTENT | {name: TrainConfig(router=name) for name in ROUTERS if name != "topk"}
FORMING = "recall_forming"  # how the routing of top-4 forms
FORMING_STEPS = (0, 10, 20, 40, 60, 80, 100, 150, 200, 300, 400, 500)
FORMING_BOARDS, FORMING_SEED = 1024, 1
SAME_COST = ("top-4", *(name for name in ROUTERS if name not in ("topk", "all")))  # each region reads 4
FASHION = TrainConfig(data="fashion-mnist:/usr/share/datasets/fashion-mnist", steps=936)  # 2 epochs
BOARDS = {
    "4x4 cells": Recall(),
    "8 glyphs": Recall(glyphs=8),
    "noise 0.5": Recall(noise=0.5),
    "noise 1": Recall(noise=1.0),
    "6x6 cells": Recall(cells=6),
    "8x8 cells": Recall(cells=8),
}
EXPERIMENTS = {
    "recall_routers": ROUTED,
    "recall_without": {
        f"{name} without {' and '.join(parts)}": replace(ROUTED[name], without=parts)
        for parts in (("lce",), ("position",), ("lce", "position"))
        for name in ("top-4", "dilated", "random")
    },
    "recall_boards": {f"top-4, {name}": replace(ROUTED["top-4"], recall=recall) for name, recall in BOARDS.items()}
    | {f"all, {name}": replace(ROUTED["all"], recall=BOARDS[name]) for name in ("8 glyphs", "noise 0.5", "noise 1")},
    "fashion_mnist": {
        name: replace(FASHION, router=ROUTED[name].router, k=ROUTED[name].k) for name in (*SAME_COST, "all")
    },
}
SEEDS = (0, 1, 2)
WINDOW = 10  # steps over which a curve is averaged


def curve(metrics: list[dict], name: str) -> list:
    """The training batches' `name`, rounded means over each WINDOW steps: a number each, or one for each block."""
    values = [line[name] for line in metrics if name in line]
    windows = [values[i : i + WINDOW] for i in range(0, len(values) - WINDOW + 1, WINDOW)]
    if values and isinstance(values[0], list):
        return [[round(sum(block) / WINDOW, 4) for block in zip(*window, strict=True)] for window in windows]
    return [round(sum(window) / WINDOW, 4) for window in windows]


def steps_to(metrics: list[dict], accuracy: float) -> int | None:
    """The first step after which the last WINDOW training batches, of fresh boards, reach `accuracy` in the mean."""
    values = [line["accuracy"] for line in metrics if "accuracy" in line]
    reached = (n for n in range(WINDOW, len(values) + 1) if sum(values[n - WINDOW : n]) >= accuracy * WINDOW)
    return next(reached, None)


def collect(run: RunFolder) -> dict:
    """What the book keeps of a run: its summary, and how it got there."""
    metrics = run.read_metrics()
    found = run.read_summary() | {"steps_to_95": steps_to(metrics, 0.95)}
    return found | {name: curve(metrics, name) for name in ("loss", "accuracy", "hit_rate", "reverse_hit_rate")}


def keep_histories(name: str) -> list[dict]:
    """A watched run for each seed; tables of the first seed only. One that was interrupted begins again."""
    runs = []
    for seed in SEEDS:
        history = RoutingHistory(Recall().sample(FORMING_BOARDS, FORMING_SEED), FORMING_STEPS)
        out = Path("runs") / "experiments" / name / str(seed)
        shutil.rmtree(out, ignore_errors=True)
        complete(prepare(replace(ROUTED["top-4"], seed=seed, out=out)), history)
        tables = () if seed == SEEDS[0] else ("index", "affinity")
        pages = [{key: value for key, value in page.items() if key not in tables} for page in history.pages]
        runs.append({"seed": seed, "pages": pages})
    return runs


def run_experiment(name: str, results: Path) -> Path:
    """Train every setting of the experiment with every seed; returns the file of its results."""
    runs = keep_histories(name) if name == FORMING else []
    for label, config in EXPERIMENTS.get(name, {}).items():
        for seed in SEEDS:
            out = Path("runs") / "experiments" / name / f"{label}-{seed}"
            runs.append(
                {"label": label, "seed": seed} | collect(train(replace(config, seed=seed, out=out, resume=True)))
            )
    content = {"command": f"python -m bra.bench.experiments {name}", "environment": environment()}
    lines = ",\n".join("  " + json.dumps(run) for run in runs)  # one line a run
    path = results / f"{name}.json"
    write_atomically(path, json.dumps(content, indent=1)[:-2] + f',\n "runs": [\n{lines}\n ]\n}}\n')
    return path


def main(name: tyro.conf.Positional[Literal[(*EXPERIMENTS, FORMING)]], results: Path = Path("book/results")) -> None:
    """Run one experiment and write its results.

    Args:
        name: Which experiment.
        results: Folder to write NAME.json to.
    """
    with errors_in_one_line(ValueError, OSError, FloatingPointError):
        print(run_experiment(name, results))


if __name__ == "__main__":
    tyro.cli(main, prog="python -m bra.bench.experiments")
