"""A training run from its settings to its end: `prepare`, then `fit` in `complete`.

Every random number of a step is drawn from (seed, step), so a run that was interrupted goes on as if it had not been.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass

import torch
from accelerate.utils import gather_object
from torch import nn
from tqdm.auto import tqdm

from bra.data import DataSet, RecallBoards, WrongLabel, derive_seed, printable
from bra.train.augment import Preparation
from bra.train.config import TrainConfig
from bra.train.evaluation import evaluate
from bra.train.history import RoutingHistory, steps_to_note
from bra.train.learner import Learner, learning_rate
from bra.train.models import build_model, load_model
from bra.train.parallel import memory_told, open_accelerator, stop_request
from bra.train.report import best_block, finish, write_explorer
from bra.train.runs import RunFolder
from bra.train.tasks import TASKS
from bra.train.writer import RunWriter, require_tensorboard

HISTORY_BOARDS = 256  # held-out boards on which hit rates are noted while a run trains; of the first, the routes


@dataclass
class Training:
    """A run that is ready to start: all that could be wrong with its settings has been checked."""

    config: TrainConfig
    data: DataSet
    learner: Learner
    run: RunWriter
    first: int
    """The step to go on with."""


def prepare(config: TrainConfig) -> Training:
    """Check the settings, read the data, build the model and open the run's folder.

    Raises ValueError, FileNotFoundError or FileExistsError, and has then written nothing.
    """
    accelerator = open_accelerator(config.device, config.precision)
    parts = accelerator.num_processes * config.accumulate
    if config.tensorboard:
        require_tensorboard()
    data = config.open_data()
    config = config.resolved(data, parts)
    learner = Learner(
        build_model(config, data),
        TASKS[data.asks](data),
        accelerator,
        weight_decay=config.weight_decay,
        average=config.average,
        clip=config.clip,
        parts=config.accumulate,
        compiled=config.compile,
    )
    with accelerator.main_process_first():  # alone first: it may refuse the folder, or make it
        run = RunWriter(config.folder(), config.settings(), config.resume, accelerator.is_main_process)
        run.check(data.classes)  # all of it, before anything is changed
        first = config.steps if run.ended else go_on(run, learner)
    run.describe_data(data)
    seen = [name for line in run.read_metrics() for name in line.get("damaged", [])]
    data.damaged.extend(sorted(set(seen) - set(data.damaged)))  # those that the run met before it was interrupted
    if config.tensorboard and not run.ended:
        run.open_tensorboard(first)
    return Training(config, data, learner, run, first)


def go_on(run: RunWriter, learner: Learner) -> int:
    """Put the last checkpoint back and drop the metrics after it; returns its step, 0 if the run has not begun.

    Another number of processes than before is stated, and allowed: the batches stay, but not what augmentation and
    drop path draw. Raises ValueError if the checkpoint does not fit the model.
    """
    found = run.load_checkpoint()
    if found is None:
        return 0
    tensors, metadata = found
    step, before, now = int(metadata["step"]), int(metadata["processes"]), learner.shard.world_size
    learner.load(tensors, run.checkpoint, step)
    run.rewind(step)
    if before != now:
        run.log(step=step, note=f"goes on with {now} processes instead of {before}")
    return step


Watch = Callable[[int, nn.Module], None]


def look_away(step: int, model: nn.Module) -> None:
    """Watches nothing."""


def fit(training: Training, watch: Watch = look_away) -> None:
    """Take the steps that are left, and evaluate and save every so often.

    `watch` is called with 0 and the untrained model, and after each step with its number and the model.
    Raises FloatingPointError at a loss that is not finite, KeyboardInterrupt after Ctrl-C or SIGTERM; the last
    good checkpoint is then in the folder.
    """
    config, learner, run, data = training.config, training.learner, training.run, training.data
    started = time.perf_counter() - max((line.get("seconds", 0) for line in run.read_metrics()), default=0)
    prepare_batch = Preparation(config.augment, data)
    batches = data.training(config.batch, config.seed, training.first, learner.shard)
    saved = training.first
    with stop_request() as stop, progress_bar(training) as bar:
        if training.first == 0 and not run.read_metrics():
            save(training, 0)  # before any metrics: metrics without a checkpoint mean that it was lost
            examine(training, 0, 0.0)
            watch(0, learner.model)
        for step, batch in zip(range(training.first, config.steps), batches, strict=False):
            rank = [learner.shard.rank] if learner.shard.rank else []
            torch.manual_seed(derive_seed("step", config.seed, step, *rank))
            rate = learning_rate(step, config.learning_rate, config.warmup, config.steps, config.decay)
            try:
                measured = learner.step(batch, prepare_batch, rate)
            except FloatingPointError as error:
                kept = f"{run.checkpoint} holds the state after {saved} steps"
                raise FloatingPointError(f"stopped at step {step}: {error}; {kept}") from error
            done = step + 1
            run.log(step=done, learning_rate=rate, **measured)
            bar.set_postfix({name: f"{value:.3f}" for name, value in best_block(measured).items()}, refresh=False)
            bar.update(config.batch)
            watch(done, learner.model)
            if due := done % config.evaluate_every == 0 or done == config.steps:
                examine(training, done, time.perf_counter() - started)
            stopped = learner.any_process(stop.is_set())
            if due or stopped:
                save(training, done)
                saved = done
            if stopped and done < config.steps:
                raise KeyboardInterrupt(f"stopped after step {done}; the same command with --resume goes on")


def progress_bar(training: Training) -> tqdm:
    """Images done, images a second, time left; in the first process only."""
    config = training.config
    done, total = training.first * config.batch, config.steps * config.batch
    hidden = not training.run.writer
    return tqdm(
        total=total, initial=done, desc=printable(training.run.path), unit=" images", unit_scale=True, disable=hidden
    )


def examine(training: Training, step: int, seconds: float) -> None:
    """Evaluate, log it with the images that were skipped so far, and keep the weights if they are the best."""
    learner, run = training.learner, training.run
    held_out = evaluate(learner.evaluated, training.data, accelerator=learner.accelerator)
    damaged = sorted(set(gather_object(training.data.damaged)))
    run.keep_best(
        step, held_out[learner.task.score], learner.evaluated
    )  # before the log: an evaluation in the log is not repeated after a crash
    run.log(step=step, held_out=held_out, seconds=seconds, **({"damaged": damaged} if damaged else {}))


def save(training: Training, step: int) -> None:
    """Write the checkpoint."""
    learner = training.learner
    training.run.save_checkpoint(step, learner.tensors(), learner.shard.world_size)


def complete(training: Training, watch: Watch | None = None) -> RunFolder:
    """Take the steps that are left and write what a run leaves at its end; nothing, if it had ended before.

    watch: as for `fit`; None: a history of the routing that the run keeps, if its data are boards.
    """
    if not training.run.ended:
        try:
            with memory_told():
                fit(training, watch or keep_history(training))
        except (MemoryError, WrongLabel):  # nothing was learnt yet: a folder would bar the way to another try
            training.run.discard()
            raise
        if training.run.writer:
            finish(training.run, training.learner.evaluated, training.data)
        training.learner.accelerator.wait_for_everyone()
    elif training.run.writer and not training.run.explorer.exists():  # it was killed just before
        model, data, _ = load_model(training.run.path)
        write_explorer(training.run, model, data)
    return training.run


def keep_history(training: Training) -> Watch:
    """A history of the routing on held-out boards, kept in the run folder; without boards, `look_away`."""
    if not isinstance(training.data, RecallBoards):
        return look_away
    boards = next(training.data.held_out(HISTORY_BOARDS))
    return RoutingHistory(boards, steps_to_note(training.config.steps), keep=training.run.note_routing)


def train(config: TrainConfig) -> RunFolder:
    """Train as `config` says, and return the run's folder. Raises what `prepare` and `fit` raise."""
    return complete(prepare(config))
