"""Step 11. Train BiFormer: `python -m bra.train --help`.

Every random number of a step is drawn from (seed, step), so a run that was interrupted goes on as if it had not been.
"""

import copy
import itertools
import json
import math
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Literal

import torch
import tyro
from torch import nn
from tqdm.auto import tqdm

from bra import draw
from bra.biformer import BASE, FULL, NANO, SMALL, TINY, BiFormer
from bra.data import DataSet, RecallBoards, derive_seed, open_data
from bra.engine import evaluate, learning_rate, make_optimizer, stop_request, to_device, train_step
from bra.layer import BiLevelRoutingAttention, record_routes
from bra.patterns import Grid, all_regions, axial_regions, dilated_regions, local_regions, random_regions
from bra.recall import Recall
from bra.runs import RunFolder, environment, load_weights, read_tensors
from bra.topk import TableRouter

MODELS = {"nano": NANO, "tiny": TINY, "small": SMALL, "base": BASE}
TABLES = {"local": local_regions, "axial": axial_regions, "dilated": dilated_regions}
LOG_EVERY = 10  # steps


@dataclass(frozen=True)
class TrainConfig:
    """Train a BiFormer and keep its settings, metrics, weights and pictures in a run folder."""

    data: str = "recall"
    """What to learn: recall, fashion-mnist:FOLDER or folder:FOLDER (with train/CLASS/* and val/CLASS/*)."""
    model: Literal["nano", "tiny", "small", "base"] = "nano"
    """Which BiFormer."""
    router: Literal["topk", "local", "axial", "dilated", "random", "all"] = "topk"
    """Who chooses the regions: content (topk), a fixed table, or nobody (all)."""
    k: int | None = None
    """Regions that each region reads; None: as the model has it."""
    steps: int | None = None
    """Length of training; None: as suits the data."""
    batch: int = 128
    """Images a step."""
    learning_rate: float = 2e-3
    """Peak of the learning rate: linear warm-up before, half a cosine to 0 after."""
    warmup: int = 100
    """Steps of warm-up."""
    weight_decay: float = 0.05
    """AdamW's, on weight matrices and filters; not on biases and norms."""
    drop_path: float = 0.0
    """Stochastic depth in the last block, rising from 0."""
    evaluate_every: int = 100
    """Steps between two evaluations on held-out images; each is followed by a checkpoint."""
    image_size: int = 224
    """Side of the images of folder:FOLDER, in pixels."""
    workers: int = 2
    """Processes that decode the images of folder:FOLDER."""
    seed: int = 0
    """Seed of weights, data and drop path."""
    recall: Recall = field(default_factory=Recall)
    """Difficulty of the recall boards."""
    device: str = "auto"
    """cpu, cuda, mps, ...; auto takes the best there is."""
    out: Path | None = None
    """The run folder; None: runs/DATA-ROUTER."""
    resume: bool = False
    """Go on with the run in the folder, if there is one."""

    def __post_init__(self):
        for name, lowest in {
            "steps": 1,
            "batch": 1,
            "warmup": 0,
            "evaluate_every": 1,
            "image_size": 1,
            "workers": 0,
        }.items():
            value = getattr(self, name)
            if value is not None and value < lowest:
                raise ValueError(f"{name} must be at least {lowest}, but is {value}")
        if not self.learning_rate > 0 or not self.weight_decay >= 0:
            rates = f"{self.learning_rate} and {self.weight_decay}"
            raise ValueError(f"learning_rate must be above 0 and weight_decay at least 0, but they are {rates}")

    def folder(self) -> Path:
        """Where the run is kept."""
        return self.out or Path("runs") / f"{self.data.partition(':')[0]}-{self.router}"

    def settings(self) -> dict:
        """What makes the run what it is: all but where it runs and is kept."""
        return {name: value for name, value in asdict(self).items() if name not in ("device", "out", "resume")}


def pick_device(name: str) -> torch.device:
    """The device called `name`. Raises ValueError if there is none such on this machine."""
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        torch.empty(0, device=name)
    except (RuntimeError, AssertionError, ValueError) as error:
        raise ValueError(f"device must be auto or one of this machine, but is {name!r}: {error}") from error
    return torch.device(name)


def build_model(config: TrainConfig, data: DataSet) -> BiFormer:
    """The model that `config` asks for, its weights drawn from the seed. Raises ValueError if k does not fit."""
    model = MODELS[config.model]
    if isinstance(data, RecallBoards):
        if config.model != "nano":
            raise ValueError(
                f"model must be nano for recall, whose boards are too small for the others, but is {config.model}"
            )
        model = replace(model, grid=(config.recall.cells, config.recall.cells))  # one region a cell
    k = math.prod(model.grid) if config.router == "all" else config.k
    if k is not None:
        model = replace(model, stages=tuple(s if s.k == FULL else replace(s, k=k) for s in model.stages))
    torch.manual_seed(derive_seed("weights", config.seed))
    return BiFormer(
        replace(
            model,
            num_classes=len(data.classes),
            in_channels=data.channels,
            drop_path=config.drop_path,
            router=table_router(config.router, config.seed),
        )
    )


def table_router(name: str, seed: int) -> Callable[[Grid, int], nn.Module] | None:
    """What makes the routers of a model whose regions follow the table `name`; None for topk, the model's own."""
    if name == "topk":
        return None
    if name == "all":
        return lambda grid, k: TableRouter(all_regions(grid))
    if name == "random":  # each layer its own table, so that two layers reach further than one
        seeds = itertools.count()
        return lambda grid, k: TableRouter(random_regions(grid, k, derive_seed("table", seed, next(seeds))))
    return lambda grid, k: TableRouter(TABLES[name](grid, k))


@dataclass
class Training:
    """A run that is ready to start: all that could be wrong with its settings has been checked."""

    config: TrainConfig
    data: DataSet
    model: BiFormer
    optimizer: torch.optim.Optimizer
    run: RunFolder
    first: int
    """The step to go on with."""


def prepare(config: TrainConfig) -> Training:
    """Check the settings, read the data, build the model and open the run's folder.

    Raises ValueError, FileNotFoundError or FileExistsError, and has then written nothing.
    """
    device = pick_device(config.device)
    data = open_data(config.data, config.recall, config.image_size, config.workers)
    if config.batch > data.count:
        raise ValueError(f"batch must be at most the number of training images, {data.count}, but is {config.batch}")
    config = replace(config, steps=config.steps or data.steps)
    model = build_model(config, data).to(device)
    optimizer = make_optimizer(model, config.weight_decay)
    run = RunFolder(config.folder(), config.settings(), config.resume)
    return Training(config, data, model, optimizer, run, run.load_checkpoint(model, optimizer))


def fit(training: Training) -> None:
    """Take the steps that are left, and evaluate and save every so often.

    Raises FloatingPointError at a loss that is not finite, KeyboardInterrupt after Ctrl-C or SIGTERM; the last
    good checkpoint is then in the folder.
    """
    config, model, run = training.config, training.model, training.run
    device = next(model.parameters()).device
    started = time.perf_counter() - max((line.get("seconds", 0) for line in run.read_metrics()), default=0)
    batches = training.data.training(config.batch, config.seed, training.first)
    model.train()
    with stop_request() as stop, tqdm(total=config.steps, initial=training.first, desc=str(run.path)) as bar:
        for step, batch in zip(range(training.first, config.steps), batches, strict=False):
            torch.manual_seed(derive_seed("step", config.seed, step))
            rate = learning_rate(step, config.learning_rate, config.warmup, config.steps)
            try:
                measured = train_step(model, training.optimizer, to_device(batch, device), rate)
            except FloatingPointError as error:
                raise FloatingPointError(f"stopped at step {step}: {error}; {run.checkpoint} is intact") from error
            done = step + 1
            bar.update()
            if done % LOG_EVERY == 0 or done == config.steps:
                run.log(step=done, learning_rate=rate, **measured)
                bar.set_postfix({name: f"{value:.3f}" for name, value in best_block(measured).items()})
            if evaluated := done % config.evaluate_every == 0 or done == config.steps:
                seconds = time.perf_counter() - started
                run.log(step=done, held_out=evaluate(model, training.data), seconds=seconds)
            if evaluated or stop.is_set():
                run.save_checkpoint(done, model, training.optimizer)
            if stop.is_set() and done < config.steps:
                raise KeyboardInterrupt(f"stopped after step {done}; the same command with --resume goes on")


def best_block(measured: dict) -> dict[str, float]:
    """The numbers worth a glance: loss, accuracy, and the hit rate of the best block."""
    shown = {name: measured[name] for name in ("loss", "accuracy") if name in measured}
    return shown | ({"hit_rate": max(measured["hit_rate"])} if "hit_rate" in measured else {})


def finish(training: Training) -> None:
    """Write the weights, the pictures and the summary of a run that has taken its last step."""
    config, model, run = training.config, training.model, training.run
    last = [line for line in run.read_metrics() if "held_out" in line][-1]
    summary = {"held_out": last["held_out"], "seconds": last["seconds"], "device": str(next(model.parameters()).device)}
    summary["parameters"] = sum(p.numel() for p in model.parameters())
    draw.training_curves(run.read_metrics()).save(run.path / "curves.png")
    if config.data == "recall":
        if config.router == "topk":
            summary["blind"] = evaluate(blindfold(model, config.seed), training.data)
        draw_boards(model, training.data, best=last["held_out"]["hit_rate"]).save(run.path / "boards.png")
    run.finish(model, summary | {"environment": environment()})


def blindfold(model: BiFormer, seed: int) -> BiFormer:
    """The same weights, but every region reads regions chosen at random."""
    model = copy.deepcopy(model)
    for i, layer in enumerate(module for module in model.modules() if isinstance(module, BiLevelRoutingAttention)):
        layer.router = TableRouter(random_regions(layer.grid, layer.router.k, derive_seed("blind", seed, i)))
    return model.to(next(model.parameters()).device)


def load_model(folder: Path) -> tuple[BiFormer, DataSet, TrainConfig]:
    """The trained model of a run folder, ready to evaluate, with its data and settings.

    Raises FileNotFoundError if the run is not finished; ValueError if its weights do not fit.
    """
    settings = json.loads((folder / "config.json").read_text())
    config = TrainConfig(**settings | {"recall": Recall(**settings["recall"]), "out": folder, "device": "cpu"})
    data = open_data(config.data, config.recall, config.image_size, config.workers)
    model, source = build_model(config, data), folder / "model.safetensors"
    load_weights(model, read_tensors(source)[0], source)
    return model.eval(), data, config


@torch.no_grad()
def draw_boards(model: BiFormer, data: DataSet, best: list[float]) -> draw.Picture:
    """Four held-out boards under the block whose hit rate is best."""
    boards = next(data.held_out(4))
    model.eval()
    with record_routes(model) as routes:
        said = model(boards.image.to(next(model.parameters()).device)).argmax(dim=1)
    titles = [f"says {data.classes[s]}, is {data.classes[i]}" for s, i in zip(said, boards.label, strict=True)]
    index = routes[best.index(max(best))].index.cpu()
    return draw.routed_boards(boards.image, index, model.config.grid, boards.query, boards.target, titles)


def train(config: TrainConfig) -> RunFolder:
    """Train as `config` says, and return the run's folder; a run that is finished already is left as it is.

    Raises what `prepare` and `fit` raise.
    """
    training = prepare(config)
    if not training.run.summary.exists():
        fit(training)
        finish(training)
    return training.run


def report(run: RunFolder) -> str:
    """A short table: what the run reached, and what one gets without looking."""
    config, summary = run.config, json.loads(run.summary.read_text())
    rows = [(f"{config['router']} routing", best_block(summary["held_out"]))]
    if config["data"] == "recall":
        rows.append(("guessing a shape on the board", {"accuracy": 1 / config["recall"]["glyphs"]}))
    if "blind" in summary:
        rows.append(("same weights, blind routing", best_block(summary["blind"])))
    lines = [f"{'':32}accuracy  hit rate (best block)"]
    for name, values in rows:
        hit = f"{values['hit_rate']:8.3f}" if "hit_rate" in values else f"{'-':>8}"
        lines.append(f"{name:32}{values['accuracy']:8.2%}  {hit}")
    files = ", ".join(sorted(path.name for path in run.path.iterdir()))
    return "\n".join([*lines, f"{summary['seconds']:.0f} s of training on {summary['device']}", f"{run.path}: {files}"])


def main() -> None:
    """The command line."""
    try:
        training = prepare(tyro.cli(TrainConfig, prog="python -m bra.train"))
    except (ValueError, OSError) as error:
        sys.exit(f"error: {error}")
    try:
        if not training.run.summary.exists():
            fit(training)
            finish(training)
    except KeyboardInterrupt as stopped:
        print(stopped, file=sys.stderr)
        sys.exit(130)
    except FloatingPointError as error:
        sys.exit(f"error: {error}")
    print(report(training.run))


if __name__ == "__main__":
    main()
