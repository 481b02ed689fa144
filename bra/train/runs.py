"""What a training run leaves on disk, written so that a crash at any moment loses nothing already there.

config.json              the resolved settings
data.json                the classes, in the order of the model's outputs, and the numbers of images
metrics.jsonl            one JSON object a line, in the order of the steps
routing.jsonl            for boards: the history of the routing, a line for each step at which it was noted
checkpoint.safetensors   weights, optimiser, moving average of the last save: where `resume` goes on
best.safetensors         the weights that were evaluated best so far
model.safetensors        the weights at the end
summary.json             results, hardware and versions at the end
curves.png               loss and accuracy over the steps
boards.png, routes.png   for boards, for photographs: whom some regions read
answers.png              for photographs of which pixels or boxes are asked: the truth, and what the network says
explorer.html            the first held-out image, and whom each of its regions reads
tensorboard/             the metrics again, if they were asked for
"""

from collections.abc import Sequence
from pathlib import Path

from torch import Tensor

from bra.files import read_json, read_lines, read_tensors
from bra.train.tasks import SCORES


class RunFolder:
    """The folder of a run, to read: its attributes are the paths of its files. Making one opens none of them."""

    def __init__(self, path: Path):
        self.path = path
        self.settings, self.data = path / "config.json", path / "data.json"
        self.metrics, self.routing = path / "metrics.jsonl", path / "routing.jsonl"
        self.checkpoint = path / "checkpoint.safetensors"
        self.best, self.weights = path / "best.safetensors", path / "model.safetensors"
        self.summary, self.explorer = path / "summary.json", path / "explorer.html"
        self.curves, self.boards, self.routes = (path / f"{name}.png" for name in ("curves", "boards", "routes"))
        self.answers = path / "answers.png"
        self.tensorboard = path / "tensorboard"

    def all_files(self) -> list[Path]:
        """Every file that a run may leave here, those of TensorBoard aside."""
        named = [path for path in vars(self).values() if isinstance(path, Path)]
        return [path for path in named if path not in (self.path, self.tensorboard)]

    @property
    def ended(self) -> bool:
        """Whether the run has taken its last step: the summary is written after the weights."""
        return self.summary.exists()

    def kept_weights(self, which: str) -> Path:
        """The file of the weights `model`, those at the end, or `best`."""
        return {"model": self.weights, "best": self.best}[which]

    def all_kept(self) -> list[str]:
        """Which weights the folder holds, those at the end first."""
        return [which for which in ("model", "best") if self.kept_weights(which).exists()]

    def read_settings(self) -> dict:
        """The settings. Raises FileNotFoundError; ValueError if there are none in the file."""
        return read_json(self.settings)

    def read_classes(self) -> list[str]:
        """The classes. Raises FileNotFoundError; ValueError if the file does not list them."""
        classes = read_json(self.data).get("classes")
        if not isinstance(classes, list) or not all(isinstance(name, str) for name in classes):
            raise ValueError(f"{self.data} must list the classes as strings, but has {classes!r}")
        return classes

    def check_classes(self, classes: Sequence[str]) -> None:
        """Raise ValueError if the run began with other classes, or in another order."""
        if not self.data.exists():
            return
        before = self.read_classes()
        if before != list(classes):
            differ = [f"{a}, not {b}" for a, b in zip(before, classes, strict=False) if a != b]
            differ = differ[:3] or [f"{len(before)} classes, not {len(classes)}"]
            raise ValueError(f"data must have the classes of {self.data}: {'; '.join(differ)}")

    def check(self, classes: Sequence[str]) -> None:
        """Read all that is short. Raises ValueError if any of it is damaged, or the classes are others."""
        self.check_classes(classes)
        self.read_metrics()
        self.read_routing()
        if self.best.exists():
            self.read_best()
        if self.ended:
            self.read_summary()

    def read_metrics(self) -> list[dict]:
        """All lines of metrics.jsonl. Raises ValueError for a line without one."""
        return read_steps(self.metrics)

    def read_routing(self) -> list[dict]:
        """The history of the routing. Raises ValueError for a line without one."""
        return read_steps(self.routing)

    @property
    def score(self) -> str:
        """What counts on held-out images: accuracy, iou or ap, by what the data ask."""
        asks = read_json(self.data).get("asks", "classes") if self.data.exists() else "classes"
        return SCORES.get(asks, "accuracy")

    def read_summary(self) -> dict:
        """The summary. Raises FileNotFoundError; ValueError if it does not say what was reached."""
        summary = read_json(self.summary)
        held_out = summary.get("held_out")
        if not isinstance(held_out, dict) or not isinstance(held_out.get(self.score), float):
            raise ValueError(f"{self.summary} must hold the {self.score} on held-out images, but does not")
        return summary

    def read_best(self) -> dict:
        """Step and score of best.safetensors. Raises ValueError if the file is damaged."""
        metadata = read_tensors(self.best)[1]
        try:
            return {"step": int(metadata["step"]), self.score: float(metadata[self.score])}
        except (KeyError, ValueError) as error:
            raise ValueError(
                f"{self.best} is not the best weights of a run: its metadata lack the step or the {self.score}"
            ) from error

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


def read_steps(path: Path) -> list[dict]:
    """The lines of a file, each of which says its step. Raises ValueError for any that does not."""
    lines = read_lines(path)
    for n, line in enumerate(lines, 1):
        if not isinstance(line.get("step"), int):
            raise ValueError(f"{path} must hold a step on every line, but line {n} is {line!r:.80}")
    return lines
