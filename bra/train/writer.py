"""The folder of a run that trains: what is written there, and when it is refused."""

import contextlib
import json
import math
import os
from pathlib import Path

from torch import Tensor, nn

from bra.arguments import install
from bra.data import DataSet
from bra.files import add_line, tensors_to_bytes, write_atomically
from bra.train.runs import RunFolder, read_steps


class RunWriter(RunFolder):
    """The folder of a run that trains. Of several processes only the `writer` writes.

    Opening it for another config than it holds raises FileExistsError, and so does opening one that has begun
    without `resume`. Nothing is written when it raises.
    """

    def __init__(self, path: Path, config: dict, resume: bool, writer: bool = True):
        super().__init__(path)
        self.writer, self.tensorboard_writer = writer, None
        self.config = json.loads(json.dumps(config))
        if not writer:
            return
        if self.settings.exists():
            self.check_settings(resume)
        elif path.exists() and any(file.suffix != ".part" for file in path.iterdir()):
            raise FileExistsError(f"{path} is not empty and not a run: give --out another folder")
        else:
            write_atomically(self.settings, json.dumps(self.config, indent=2) + "\n")

    def check_settings(self, resume: bool) -> None:
        """Raise FileExistsError if the folder holds a run with other settings, or this one without `resume`."""
        before = self.read_settings()
        changed = [
            f"{name} {before.get(name)!r}, not {value!r}"
            for name, value in self.config.items()
            if before.get(name) != value and not (resume and may_change(name, before.get(name), value))
        ]
        if changed or before.keys() != self.config.keys():
            raise FileExistsError(
                f"{self.path} holds a run with other settings ({'; '.join(changed) or 'of another version'}): "
                "give --out another folder, or move this one away"
            )
        if not resume:
            raise FileExistsError(f"{self.path} holds this run already: --resume goes on with it, --out starts another")

    def describe_data(self, data: DataSet) -> None:
        """Note what is learnt from, and the settings if they changed."""
        if not self.writer:
            return
        if not self.data.exists():
            count = data.count if math.isfinite(data.count) else None
            content = {"asks": data.asks, "classes": data.classes}
            content["images"] = {"training": count, "held_out": data.held_out_count}
            write_atomically(self.data, json.dumps(content, indent=1) + "\n")
        if self.read_settings() != self.config:
            write_atomically(self.settings, json.dumps(self.config, indent=2) + "\n")

    def log(self, **values) -> None:
        """Add one line to metrics.jsonl, and to TensorBoard's file if it is open."""
        if not self.writer:
            return
        add_line(self.metrics, values)
        if self.tensorboard_writer:
            for name, value in scalars(values):
                self.tensorboard_writer.add_scalar(name, value, values["step"])

    def note_routing(self, page: dict) -> None:
        """Add one page of the history to routing.jsonl."""
        if self.writer:
            add_line(self.routing, page)

    def open_tensorboard(self, first: int) -> None:
        """Write what is logged from now on, after step `first`, for TensorBoard too."""
        if self.writer:
            self.tensorboard_writer = require_tensorboard()(self.tensorboard, purge_step=first + 1)

    def save_checkpoint(self, step: int, tensors: dict[str, Tensor], processes: int = 1) -> None:
        """All that training needs to go on after `step` steps, in one file."""
        if self.writer:
            if self.metrics.exists():
                with self.metrics.open("rb+") as file:
                    os.fsync(file.fileno())  # lines of before a checkpoint reach the disk before it does
            if self.tensorboard_writer:
                self.tensorboard_writer.flush()
            write_atomically(self.checkpoint, tensors_to_bytes(tensors, step=str(step), processes=str(processes)))

    def rewind(self, step: int) -> None:
        """Drop the metrics and the history of the routing after `step`."""
        if not self.writer:
            return
        for path in (self.metrics, self.routing):
            if path.exists():
                kept = [line for line in read_steps(path) if line["step"] <= step]
                write_atomically(path, "".join(json.dumps(line) + "\n" for line in kept))

    def discard(self) -> None:
        """Take away what the run has written, if it has taken no step: it could not, and bars the way to another."""
        if self.writer and not any("loss" in line for line in self.read_metrics()):
            for path in self.all_files():
                path.unlink(missing_ok=True)
            with contextlib.suppress(OSError):  # somebody else's files stay, and TensorBoard's
                self.path.rmdir()

    def keep_best(self, step: int, score: float, model: nn.Module) -> None:
        """Keep the weights if none of a better score have been kept."""
        if self.writer and (not self.best.exists() or score > self.read_best()[self.score]):
            record = {"step": str(step), self.score: repr(score)}
            write_atomically(self.best, tensors_to_bytes(model.state_dict(), **record))

    def finish(self, model: nn.Module, summary: dict) -> None:
        """Write the weights and the summary."""
        if not self.writer:
            return
        if self.tensorboard_writer:
            self.tensorboard_writer.close()
        write_atomically(self.weights, tensors_to_bytes(model.state_dict()))
        write_atomically(self.summary, json.dumps(summary, indent=2) + "\n")


def may_change(name: str, before: object, now: object) -> bool:
    """Whether a run may go on with this setting changed: what to do about damaged images, or where the data are."""
    return name == "corrupt" or (name == "data" and str(before).partition(":")[0] == str(now).partition(":")[0])


def require_tensorboard() -> type:
    """PyTorch's writer for TensorBoard. Raises ValueError if that is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError(f"tensorboard must be installed: {install('tensorboard')}") from error
    return SummaryWriter


def scalars(values: dict, prefix: str = "") -> list[tuple[str, float]]:
    """The numbers of a line of metrics with their names, such as held_out/hit_rate/0."""
    found = []
    for name, value in values.items():
        if isinstance(value, list):
            value = dict(enumerate(value))
        if isinstance(value, dict):
            found += scalars(value, f"{prefix}{name}/")
        elif isinstance(value, (int, float)) and name != "step":
            found.append((f"{prefix}{name}", value))
    return found
