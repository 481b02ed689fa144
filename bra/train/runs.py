"""What a training run leaves on disk, written so that a crash at any moment loses nothing already there.

config.json              the resolved settings
data.json                the classes, in the order of the model's outputs, and the numbers of images
metrics.jsonl            one JSON object a line, in the order of the steps
routing.jsonl            for boards: how the routing formed, a line a page of the diary
checkpoint.safetensors   weights, optimiser, moving average of the last save: where `resume` goes on
best.safetensors         the weights that were evaluated best so far
model.safetensors        the weights at the end
explorer.html            the first held-out image, and whom each of its regions reads
tensorboard/             the metrics again, if they were asked for
summary.json             results, hardware and versions at the end
"""

import json
import math
import os
from pathlib import Path

from torch import Tensor, nn

from bra.files import read_tensors, tensors_to_bytes


def may_change(name: str, before: object, now: object) -> bool:
    """Whether a run may go on with this setting changed: what to do about damaged images, or where the data are."""
    return name == "corrupt" or (name == "data" and str(before).partition(":")[0] == str(now).partition(":")[0])


class RunFolder:
    """The folder of one run.

    Opening it for another config than it holds raises FileExistsError, and so does opening one that has begun
    without `resume`. Nothing is written when it raises. Of several processes only the `writer` writes.
    """

    def __init__(self, path: Path, config: dict, resume: bool, writer: bool = True):
        self.path, self.writer, self.board = path, writer, None
        self.metrics, self.routing = path / "metrics.jsonl", path / "routing.jsonl"
        self.data = path / "data.json"
        self.checkpoint = path / "checkpoint.safetensors"
        self.best = path / "best.safetensors"
        self.weights = path / "model.safetensors"
        self.summary, self.explorer = path / "summary.json", path / "explorer.html"
        self.settings = path / "config.json"
        self.config = config = json.loads(json.dumps(config))
        if not writer:
            return
        if self.settings.exists():
            before = read_json(self.settings)
            changed = [
                f"{name} {before.get(name)!r}, not {value!r}"
                for name, value in config.items()
                if before.get(name) != value and not (resume and may_change(name, before.get(name), value))
            ]
            if changed or before.keys() != config.keys():
                raise FileExistsError(
                    f"{path} holds a run with other settings ({'; '.join(changed) or 'of another version'}): "
                    "give --out another folder, or move this one away"
                )
            if not resume:
                raise FileExistsError(f"{path} holds this run already: --resume goes on with it, --out starts another")
        elif path.exists() and any(file.suffix != ".part" for file in path.iterdir()):
            raise FileExistsError(f"{path} is not empty and not a run: give --out another folder")
        else:
            write_atomically(self.settings, json.dumps(config, indent=2) + "\n")

    def describe_data(self, classes: list[str], count: int | float, held_out_count: int) -> None:
        """Note what is learnt from, and the settings if they changed.

        Raises ValueError if the run began with other classes, or in another order.
        """
        if self.data.exists():
            before = read_json(self.data)["classes"]
            if before != classes:
                differ = [f"{a}, not {b}" for a, b in zip(before, classes, strict=False) if a != b]
                differ = differ[:3] or [f"{len(before)} classes, not {len(classes)}"]
                raise ValueError(f"data must have the classes of {self.data}: {'; '.join(differ)}")
        elif self.writer:
            numbers = {"training": count if math.isfinite(count) else None, "held_out": held_out_count}
            write_atomically(self.data, json.dumps({"classes": classes, "images": numbers}, indent=1) + "\n")
        if self.writer and read_json(self.settings) != self.config:
            write_atomically(self.settings, json.dumps(self.config, indent=2) + "\n")

    def log(self, **values) -> None:
        """Add one line to metrics.jsonl, and to TensorBoard's file if it is open."""
        if not self.writer:
            return
        add_line(self.metrics, values)
        if self.board:
            for name, value in scalars(values):
                self.board.add_scalar(name, value, values["step"])

    def note_routing(self, page: dict) -> None:
        """Add one page of the diary to routing.jsonl."""
        if self.writer:
            add_line(self.routing, page)

    def open_tensorboard(self, first: int) -> None:
        """Write what is logged from now on, after step `first`, for TensorBoard too."""
        if self.writer:
            self.board = require_tensorboard()(self.path / "tensorboard", purge_step=first + 1)

    def read_metrics(self) -> list[dict]:
        """All lines of metrics.jsonl. Raises ValueError as `read_lines` does."""
        return read_lines(self.metrics)

    def save_checkpoint(self, step: int, tensors: dict[str, Tensor], processes: int = 1) -> None:
        """All that training needs to go on after `step` steps, in one file."""
        if self.writer:
            if self.metrics.exists():
                with self.metrics.open("rb+") as file:
                    os.fsync(file.fileno())  # lines of before a checkpoint reach the disk before it does
            if self.board:
                self.board.flush()
            write_atomically(self.checkpoint, tensors_to_bytes(tensors, step=str(step), processes=str(processes)))

    def load_checkpoint(self) -> tuple[dict[str, Tensor], dict[str, str]] | None:
        """Tensors and metadata of the last checkpoint; None if the run has not begun.

        Raises ValueError if the file is damaged or lost.
        """
        if not self.checkpoint.exists():
            if self.read_metrics():
                raise ValueError(f"{self.checkpoint} is missing: put it back, or give --out another folder")
            return None
        tensors, metadata = read_tensors(self.checkpoint)
        if not all(metadata.get(name, "").isdigit() for name in ("step", "processes")):
            raise ValueError(f"{self.checkpoint} is not a checkpoint: its metadata lack the step or the processes")
        return tensors, metadata

    def rewind(self, step: int) -> None:
        """Drop the metrics and the pages of the diary after `step`."""
        for path in (self.metrics, self.routing) if self.writer else ():
            if path.exists():
                kept = [line for line in read_lines(path) if line["step"] <= step]
                write_atomically(path, "".join(json.dumps(line) + "\n" for line in kept))

    def keep_best(self, step: int, accuracy: float, model: nn.Module) -> None:
        """Keep the weights if no better ones have been kept."""
        if self.writer and (not self.best.exists() or accuracy > self.read_best()["accuracy"]):
            record = {"step": str(step), "accuracy": repr(accuracy)}
            write_atomically(self.best, tensors_to_bytes(model.state_dict(), **record))

    def read_best(self) -> dict:
        """Step and accuracy of best.safetensors. Raises ValueError if the file is damaged."""
        metadata = read_tensors(self.best)[1]
        if not {"step", "accuracy"} <= metadata.keys():
            raise ValueError(
                f"{self.best} is not the best weights of a run: its metadata lack the step or the accuracy"
            )
        return {"step": int(metadata["step"]), "accuracy": float(metadata["accuracy"])}

    def finish(self, model: nn.Module, summary: dict) -> None:
        """Write the weights and the summary."""
        if not self.writer:
            return
        if self.board:
            self.board.close()
        write_atomically(self.weights, tensors_to_bytes(model.state_dict()))
        write_atomically(self.summary, json.dumps(summary, indent=2) + "\n")


def require_tensorboard() -> type:
    """PyTorch's writer for TensorBoard. Raises ValueError if that is not installed."""
    try:
        from torch.utils.tensorboard import SummaryWriter
    except ImportError as error:
        raise ValueError('tensorboard must be installed: pip install "bra[tensorboard]"') from error
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
