"""The experiments that the book reports: `python -m bra.bench.experiments recall_routers`.

Each trains a few settings with several seeds and writes what is kept of them to book/results/NAME.json. An experiment
that was interrupted goes on where it stopped.
"""

import json
from dataclasses import replace
from pathlib import Path
from typing import Literal

import tyro

from bra.arguments import errors_in_one_line
from bra.bench.collect import collect
from bra.bench.interventions import cuts_and_keeps, untrained_hits
from bra.data.recall import Recall
from bra.files import write_atomically
from bra.measure import environment
from bra.train import train
from bra.train.config import STARTS, TrainConfig
from bra.train.models import load_model
from bra.train.recipes import fashion_mnist
from bra.train.routers import ROUTERS

RUNS = Path("runs") / "experiments"
BY_CONTENT = {f"top-{k}": TrainConfig(router="topk", k=k) for k in (4, 2, 1)}
ROUTED = BY_CONTENT | {name: TrainConfig(router=name) for name in ROUTERS if name != "topk"}
ROUTED |= {  # W_k is not W_q before training
    f"{name}, independent": replace(ROUTED[name], start="independent") for name in ("top-4", "top-1")
}
LONGER = ("crossed", "dilated")  # what does not get there in 500 steps
LEAKS = {  # what carries news over a region's border beside routing
    "stem, LCE, position code": TrainConfig(model="nano"),
    "stem": TrainConfig(model="nano", without=("lce", "position")),
}
FASHION = fashion_mnist()
SAME_COST = ("top-4", "top-4, independent", "local", "random")  # each region reads 4
BOARDS = {  # a board that differs in one thing, and who is tried on it; 4x4 cells, 4 glyphs, no noise is recall_routers
    "8 glyphs": (Recall(glyphs=8), ("top-4", "all")),
    "noise 1": (Recall(noise=1.0), ("top-4", "all")),
    "6x6 cells": (Recall(cells=6), ("top-4",)),
}
TRAINED = {
    "recall_routers": ROUTED,
    "recall_leaks": {
        f"{name}, {leaks}": replace(config, router=ROUTED[name].router, k=ROUTED[name].k)
        for leaks, config in LEAKS.items()
        for name in ("dilated", "crossed", "random")
    },
    "recall_longer": {f"{name}, 2000 steps": replace(ROUTED[name], steps=2000) for name in LONGER},
    "recall_boards": {
        f"{name}, {label}": replace(ROUTED[name], recall=board)
        for label, (board, names) in BOARDS.items()
        for name in names
    },
    "fashion_mnist": {
        name: replace(FASHION, router=ROUTED[name].router, k=ROUTED[name].k, start=ROUTED[name].start)
        for name in (*SAME_COST, "all")
    },
}
ON_BOARDS = ("top-4", "top-2", "local", "axial", "dilated", "crossed", "random", "all")
LARGER = TrainConfig(  # of 64 pixels, on two levels; at a rate of 2e-3 nothing was learnt in these steps
    data="recall-pixels", model="board-pyramid", recall=Recall(cells=8), steps=300, batch=64, learning_rate=6e-3
)
WHERE = {  # the boards asking where: the experiment's name, and what differs from recall
    "dense_recall": (TrainConfig(data="recall-pixels", steps=400), ON_BOARDS),
    "dense_recall_boxes": (TrainConfig(data="recall-boxes", steps=400, batch=64), ("top-4", "local", "random")),
    "dense_recall_64": (LARGER, ("top-4", "local")),
}
TRAINED |= {
    experiment: {name: replace(config, router=ROUTED[name].router, k=ROUTED[name].k) for name in names}
    for experiment, (config, names) in WHERE.items()
}
SEEDS = dict.fromkeys(TRAINED, range(3)) | {"recall_routers": range(10)}
UNTRAINED, CUTS = "recall_untrained", "recall_cuts"  # nothing is trained for these, but for the top-4 of the first


def run_trained(name: str) -> list[dict]:
    """Train every setting of the experiment with every seed, all settings of one seed before the next seed."""
    runs = []
    for seed in SEEDS[name]:
        for label, config in TRAINED[name].items():
            out = RUNS / name / f"{label}-{seed}"
            run = train(replace(config, seed=seed, out=out, resume=True))
            runs.append({"label": label, "seed": seed} | collect(run))
    order = list(TRAINED[name])
    return sorted(runs, key=lambda run: order.index(run["label"]))


def run_cuts() -> list[dict]:
    """Cut the routes of the top-4 networks of recall_routers, which are trained where that is still to be done."""
    runs = []
    for seed in SEEDS["recall_routers"]:
        out = RUNS / "recall_routers" / f"top-4-{seed}"
        run = train(replace(ROUTED["top-4"], seed=seed, out=out, resume=True))
        runs.append({"seed": seed} | cuts_and_keeps(load_model(run.path)[0]))
    return runs


def run_experiment(name: str, results: Path) -> Path:
    """Run one experiment; returns the file of its results."""
    if name == UNTRAINED:
        runs = [untrained_hits(start, seed) for start in STARTS for seed in range(24)]
    else:
        runs = run_cuts() if name == CUTS else run_trained(name)
    content = {"command": f"python -m bra.bench.experiments {name}", "environment": environment()}
    lines = ",\n".join("  " + json.dumps(run) for run in runs)  # one line a run
    path = results / f"{name}.json"
    write_atomically(path, json.dumps(content, indent=1)[:-2] + f',\n "runs": [\n{lines}\n ]\n}}\n')
    return path


def main(
    name: tyro.conf.Positional[Literal[(*TRAINED, UNTRAINED, CUTS)]], results: Path = Path("book/results")
) -> None:
    """Run one experiment and write its results.

    Args:
        name: Which experiment.
        results: Folder to write NAME.json to.
    """
    with errors_in_one_line(ValueError, OSError, FloatingPointError):
        print(run_experiment(name, results))


if __name__ == "__main__":
    tyro.cli(main, prog="python -m bra.bench.experiments")
