"""What a training run leaves on disk, written so that a crash at any moment loses nothing already there.

config.json              the resolved settings
metrics.jsonl            one JSON object a line, in the order of the steps
checkpoint.safetensors   weights and optimiser state of the last save: where `resume` goes on
model.safetensors        the weights at the end
summary.json             results, hardware and versions at the end
"""

import datetime
import json
import os
import platform
import subprocess
from pathlib import Path

import numpy
import torch
from torch import nn

from bra.weights import load_weights, read_tensors, tensors_to_bytes


class RunFolder:
    """The folder of one run.

    Opening it for another config than it holds raises FileExistsError, and so does opening one that has begun
    without `resume`. Nothing is written when it raises.
    """

    def __init__(self, path: Path, config: dict, resume: bool):
        self.path = path
        self.metrics = path / "metrics.jsonl"
        self.checkpoint = path / "checkpoint.safetensors"
        self.weights = path / "model.safetensors"
        self.summary = path / "summary.json"
        settings = path / "config.json"
        self.config = config = json.loads(json.dumps(config))
        if settings.exists():
            before = read_json(settings)
            changed = [
                f"{name} {before.get(name)!r}, not {value!r}"
                for name, value in config.items()
                if before.get(name) != value
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
            write_atomically(settings, json.dumps(config, indent=2) + "\n")

    def log(self, **values) -> None:
        """Add one line to metrics.jsonl."""
        with self.metrics.open("a") as file:
            file.write(json.dumps(values) + "\n")

    def read_metrics(self) -> list[dict]:
        """All lines of metrics.jsonl; a last line that a crash cut short is left out.

        Raises ValueError for any other line that is not JSON.
        """
        lines = self.metrics.read_text().split("\n")[:-1] if self.metrics.exists() else []
        try:
            return [json.loads(line) for line in lines]
        except ValueError as error:
            raise ValueError(f"{self.metrics} has a line that is not JSON: {error}") from error

    def save_checkpoint(self, step: int, model: nn.Module, optimizer: torch.optim.Optimizer) -> None:
        """All that training needs to go on after `step` steps, in one file."""
        tensors = {f"model.{name}": value for name, value in model.state_dict().items()}
        for i, state in optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{name}": value for name, value in state.items()}
        write_atomically(self.checkpoint, tensors_to_bytes(tensors, step=str(step)))

    def load_checkpoint(self, model: nn.Module, optimizer: torch.optim.Optimizer) -> int:
        """Put the last checkpoint back and drop the metrics after it; returns its step, 0 if the run has not begun.

        Raises ValueError if the file is damaged, lost, or does not fit the model.
        """
        if not self.checkpoint.exists():
            if self.read_metrics():
                raise ValueError(f"{self.checkpoint} is missing: put it back, or give --out another folder")
            return 0
        tensors, metadata = read_tensors(self.checkpoint)
        if "step" not in metadata:
            raise ValueError(f"{self.checkpoint} is not a checkpoint: its metadata lack the step")
        weights = {name.removeprefix("model."): value for name, value in tensors.items() if name.startswith("model.")}
        load_weights(model, weights, self.checkpoint)
        state: dict[int, dict[str, Tensor]] = {}
        for key in tensors.keys() - {f"model.{name}" for name in weights}:
            _, i, name = key.split(".")
            state.setdefault(int(i), {})[name] = tensors[key]
        optimizer.load_state_dict({"state": state, "param_groups": optimizer.state_dict()["param_groups"]})
        step = int(metadata["step"])
        kept = [line for line in self.read_metrics() if line["step"] <= step]
        write_atomically(self.metrics, "".join(json.dumps(line) + "\n" for line in kept))
        return step

    def finish(self, model: nn.Module, summary: dict) -> None:
        """Write the weights and the summary."""
        write_atomically(self.weights, tensors_to_bytes(model.state_dict()))
        write_atomically(self.summary, json.dumps(summary, indent=2) + "\n")


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that under its name there is always the old or the new content, whole."""
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    with part.open("wb") as file:
        file.write(content.encode() if isinstance(content, str) else content)
        file.flush()
        os.fsync(file.fileno())
    os.replace(part, path)


def read_json(path: Path) -> dict:
    """The object in a JSON file. Raises FileNotFoundError; ValueError if there is none."""
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, but holds {content!r}")
    return content


def environment() -> dict:
    """What a measured number depends on besides its command: date, commit, hardware, versions."""
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        check=False,
    )
    return {
        "date": datetime.date.today().isoformat(),
        "commit": git.stdout.strip() or "unknown",
        "platform": platform.platform(),
        "processor": cpu_name(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "numpy": numpy.__version__,
    }


def cpu_name() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()
