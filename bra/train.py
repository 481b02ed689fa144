"""Step 11. Train BiFormer: `python -m bra.train --help`.

Every random number of a step is drawn from (seed, step), so a run that was interrupted goes on as if it had not been.
"""

import itertools
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

from bra.biformer import BASE, FULL, NANO, SMALL, TINY, BiFormer
from bra.data import DamagedImage, DataSet, ImageSettings, RecallBoards, derive_seed, open_data
from bra.engine import evaluate, learning_rate, make_optimizer, normalised, stop_request, to_device, train_step
from bra.patterns import Grid, all_regions, axial_regions, dilated_regions, local_regions, random_regions
from bra.recall import Recall
from bra.report import best_block, finish, table
from bra.runs import RunFolder, read_json
from bra.topk import TableRouter
from bra.weights import load_weights, read_tensors

MODELS = {"nano": NANO, "tiny": TINY, "small": SMALL, "base": BASE}
TABLES = {"local": local_regions, "axial": axial_regions, "dilated": dilated_regions}
LOG_EVERY = 10  # steps


@dataclass(frozen=True)
class TrainConfig:
    """Train a BiFormer and keep its settings, metrics, weights and pictures in a run folder."""

    data: str = "recall"
    """What to learn: recall, fashion-mnist:FOLDER, folder:FOLDER (with train/CLASS/* and val/CLASS/*) or hf:NAME."""
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
    """Side of the images of folder:FOLDER and hf:NAME, in pixels."""
    workers: int = 2
    """Processes that decode the images of folder:FOLDER and hf:NAME."""
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
        if not 0 < self.learning_rate < math.inf or not 0 <= self.weight_decay < math.inf:
            rates = f"{self.learning_rate} and {self.weight_decay}"
            raise ValueError(
                f"learning_rate must be above 0, weight_decay at least 0, both finite, but they are {rates}"
            )
        if self.router == "all" and self.k is not None:
            raise ValueError(f"k must be left out with router all, which reads every region, but is {self.k}")

    def image_settings(self) -> ImageSettings:
        """How images are decoded."""
        return ImageSettings(size=self.image_size, workers=self.workers)

    def folder(self) -> Path:
        """Where the run is kept."""
        return self.out or Path("runs") / f"{self.data.partition(':')[0]}-{self.router}"

    def settings(self) -> dict:
        """What makes the run what it is: all but where it runs and is kept."""
        return {
            name: value for name, value in asdict(self).items() if name not in ("device", "workers", "out", "resume")
        }


def pick_device(name: str) -> torch.device:
    """The device called `name`. Raises ValueError if there is none such on this machine."""
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        torch.ones(1, device=name).sum().item()
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
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
    data = open_data(config.data, config.recall, config.image_settings())
    if config.batch > data.count:
        raise ValueError(f"batch must be at most the number of training images, {data.count}, but is {config.batch}")
    config = replace(config, steps=config.steps or data.steps)
    model = build_model(config, data).to(device)
    optimizer = make_optimizer(model, config.weight_decay)
    run = RunFolder(config.folder(), config.settings(), config.resume)
    first = config.steps if run.summary.exists() else run.load_checkpoint(model, optimizer)
    return Training(config, data, model, optimizer, run, first)


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
    if training.first == 0 and not run.read_metrics():
        run.save_checkpoint(0, model, training.optimizer)  # first: metrics without a checkpoint would look like a loss
        run.log(step=0, held_out=evaluate(model, training.data), seconds=0)
    saved = training.first
    with stop_request() as stop, tqdm(total=config.steps, initial=training.first, desc=str(run.path)) as bar:
        for step, batch in zip(range(training.first, config.steps), batches, strict=False):
            torch.manual_seed(derive_seed("step", config.seed, step))
            batch = normalised(to_device(batch, device), training.data)
            rate = learning_rate(step, config.learning_rate, config.warmup, config.steps)
            try:
                measured = train_step(model, training.optimizer, batch, rate)
            except FloatingPointError as error:
                kept = f"{run.checkpoint} holds the state after {saved} steps"
                raise FloatingPointError(f"stopped at step {step}: {error}; {kept}") from error
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
                saved = done
            if stop.is_set() and done < config.steps:
                raise KeyboardInterrupt(f"stopped after step {done}; the same command with --resume goes on")


def complete(training: Training) -> RunFolder:
    """Take the steps that are left and write what a run leaves at its end; nothing, if it had ended before."""
    if not training.run.summary.exists():
        fit(training)
        finish(training.run, training.model, training.data)
    return training.run


def train(config: TrainConfig) -> RunFolder:
    """Train as `config` says, and return the run's folder. Raises what `prepare` and `fit` raise."""
    return complete(prepare(config))


def load_model(folder: Path) -> tuple[BiFormer, DataSet, TrainConfig]:
    """The trained model of a run folder, ready to evaluate, with its data and settings.

    Raises FileNotFoundError if the run is not finished; ValueError if its weights do not fit.
    """
    settings = read_json(folder / "config.json")
    config = TrainConfig(**settings | {"recall": Recall(**settings["recall"]), "out": folder, "device": "cpu"})
    data = open_data(config.data, config.recall, config.image_settings())
    model, source = build_model(config, data), folder / "model.safetensors"
    load_weights(model, read_tensors(source)[0], source)
    return model.eval(), data, config


def main() -> None:
    """The command line: what the user can mend is said in one line; only our own mistakes show a traceback."""
    try:
        try:
            training = prepare(tyro.cli(TrainConfig, prog="python -m bra.train"))
        except (ValueError, OSError) as error:
            sys.exit(f"error: {error}")
        print(table(complete(training)))
    except KeyboardInterrupt as stopped:
        print(str(stopped) or "stopped", file=sys.stderr)
        sys.exit(130)
    except (FloatingPointError, DamagedImage, OSError) as error:
        sys.exit(f"error: {str(error).splitlines()[-1]}")  # from a worker process, the message comes below a traceback


if __name__ == "__main__":
    main()
