"""The experiments that the book reports: `python -m bra.experiments recall_routers`.

Each trains a few settings with three seeds and writes their summaries to book/results/NAME.json. An experiment that
was interrupted goes on where it stopped.
"""

import json
import sys
from dataclasses import replace
from pathlib import Path
from typing import Literal

import tyro

from bra.runs import environment, write_atomically
from bra.train import TrainConfig, train

EXPERIMENTS = {
    "recall_routers": {
        "top-4": TrainConfig(router="topk", k=4),
        "top-2": TrainConfig(router="topk", k=2),
        "top-1": TrainConfig(router="topk", k=1),
        "local": TrainConfig(router="local"),
        "axial": TrainConfig(router="axial"),
        "dilated": TrainConfig(router="dilated"),
        "random": TrainConfig(router="random"),
        "all": TrainConfig(router="all"),
    },
    "fashion_mnist": {"top-4": TrainConfig(data="fashion-mnist:/usr/share/datasets/fashion-mnist")},
}
SEEDS = (0, 1, 2)


def run_experiment(name: str, results: Path) -> Path:
    """Train every setting of the experiment with every seed; returns the file of its results."""
    runs = []
    for label, config in EXPERIMENTS[name].items():
        for seed in SEEDS:
            out = Path("runs") / "experiments" / name / f"{label}-{seed}"
            run = train(replace(config, seed=seed, out=out, resume=True))
            runs.append({"label": label, "seed": seed} | json.loads(run.summary.read_text()))
    content = {"command": f"python -m bra.experiments {name}", "environment": environment(), "runs": runs}
    path = results / f"{name}.json"
    write_atomically(path, json.dumps(content, indent=1) + "\n")
    return path


def main(name: tyro.conf.Positional[Literal[tuple(EXPERIMENTS)]], results: Path = Path("book/results")) -> None:
    """Run one experiment and write its results.

    Args:
        name: Which experiment.
        results: Folder to write NAME.json to.
    """
    try:
        print(run_experiment(name, results))
    except (ValueError, OSError, FloatingPointError) as error:
        sys.exit(f"error: {error}")


if __name__ == "__main__":
    tyro.cli(main, prog="python -m bra.experiments")
