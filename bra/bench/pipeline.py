"""`python -m bra.bench.pipeline`: which part of training on photographs is the slow one?

Images a second of the loader (JPEGs made for the purpose, 500 x 375 pixels as ImageNet's usually are, and their copies
with a shorter side of 256), of the augmentation, and of BiFormer-T's training step, each alone; and the memory that a
step takes. Writes book/results/pipeline_DEVICE.json.
"""

import itertools
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch
import tyro
from PIL import Image

from bra.arguments import errors_in_one_line
from bra.bench.jobs import Job, Model, peak_bytes
from bra.biformer import TINY, BiFormer, BiFormerConfig
from bra.data import Batch, ImageFolder, ImageSettings
from bra.data.loading import AHEAD
from bra.files import write_atomically
from bra.measure import environment, median_seconds
from bra.train.augment import Preparation
from bra.train.config import TrainConfig
from bra.train.learner import Learner
from bra.train.parallel import open_accelerator
from bra.train.recipes import imagenet100
from bra.train.tasks import Classes

COUNT = 512  # JPEGs
REPEATS = 3


def make_jpegs(folder: Path, shorter: int, count: int) -> int:
    """`count` JPEGs in train/a and one in val/a, of smooth noise with grain; returns the mean size in bytes."""
    draw, sizes = np.random.default_rng(0), []
    for split, number in (("train", count), ("val", 1)):
        (folder / split / "a").mkdir(parents=True)
        for i in range(number):
            coarse = Image.fromarray(draw.integers(256, size=(12, 16, 3), dtype=np.uint8))
            pixels = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), dtype=np.int16)
            pixels = np.clip(pixels + draw.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)
            image = Image.fromarray(pixels).resize((round(500 * shorter / 375), shorter), Image.Resampling.BICUBIC)
            path = folder / split / "a" / f"{i}.jpg"
            image.save(path, quality=90)
            sizes.append(path.stat().st_size)
    return round(sum(sizes) / len(sizes))


def look_away(batch: Batch) -> None:
    """Does nothing with a batch."""


def loader_rate(
    folder: Path, settings: ImageSettings, batch: int, steps: int, use: Callable[[Batch], object] = look_away
) -> float:
    """Images a second that the loader delivers and `use` uses, once its workers have prepared as much as they do ahead.

    `use` must have done what it was asked when it returns, as a training step has, which tells its loss.
    """
    rates = []
    for seed in range(REPEATS):
        batches = ImageFolder(folder, settings).training(batch, seed, 0)
        for ready in itertools.islice(batches, 1 + AHEAD * settings.workers):
            use(ready)
        begun = time.perf_counter()
        for ready in itertools.islice(batches, steps):
            use(ready)
        rates.append(steps * batch / (time.perf_counter() - begun))
    return statistics.median(rates)


class Pieces(NamedTuple):
    """What a training step on photographs is made of, and a batch that is on the device already."""

    prepare: Preparation
    learner: Learner
    batch: Batch

    @classmethod
    def of(
        cls,
        recipe: TrainConfig,
        model: BiFormerConfig,
        folder: Path,
        device: str,
        precision: str,
        compiled: bool = False,
    ) -> "Pieces":
        """Those of a recipe and a model, as if the folder held 100 classes. Raises what `open_accelerator` raises."""
        accelerator, size = open_accelerator(device, precision), recipe.image_size
        data = ImageFolder(folder, recipe.images())
        data.classes = [str(i) for i in range(100)]
        network = BiFormer(replace(model, num_classes=100, drop_path=recipe.drop_path))
        learner = Learner(network, Classes(data), accelerator, average=recipe.average, compiled=compiled)
        pixels = torch.randint(256, (recipe.batch, 3, size, size), dtype=torch.uint8, device=accelerator.device)
        labels = torch.arange(recipe.batch, device=accelerator.device) % 100
        return cls(Preparation(recipe.augment, data), learner, Batch(pixels, labels))

    def step(self, batch: Batch) -> dict:
        """Augment a batch, and learn from it."""
        return self.learner.step(batch, self.prepare, 1e-4)

    def alone(self) -> dict[str, Callable[[], object]]:
        """The augmentation and the training step, each alone."""
        ready = self.prepare(self.batch)
        return {
            "augmentation": lambda: self.prepare(self.batch),
            "training": lambda: self.learner.step(self.batch, lambda part: ready, 1e-4),
        }


def main(
    device: str = "cpu",
    precision: str = "fp32",
    workers: tuple[int, ...] = (0, 1, 2),
    batch: int = 64,
    memory: tuple[int, ...] = (4, 8, 16),
    results: Path = Path("book/results"),
) -> None:
    """Measure the parts of training BiFormer-T on photographs of 224 pixels with the recipe for ImageNet-100.

    Args:
        device: cpu, cuda, ...
        precision: fp32, bf16 or fp16, of the training step.
        workers: Numbers of decoding processes.
        batch: Images a step.
        memory: Batches whose peak memory is measured, in fp32 (bf16 on a GPU).
        results: Folder to write pipeline_DEVICE.json to.
    """
    with errors_in_one_line(ValueError):
        open_accelerator(device, precision)
    recipe = replace(imagenet100(), workers=0, batch=batch)
    rows = []
    with tempfile.TemporaryDirectory() as made:
        for shorter in (375, 256):
            folder = Path(made) / str(shorter)
            size = make_jpegs(folder, shorter, COUNT)
            for count in workers:
                rate = loader_rate(folder, replace(recipe.images(), workers=count), batch, COUNT // batch)
                rows.append({"part": "loader", "shorter_side": shorter, "bytes": size, "workers": count, "rate": rate})
        steps = Pieces.of(recipe, TINY, folder, device, precision).alone()
    for part, seconds in median_seconds(steps, REPEATS, device).items():
        rows.append({"part": part, "batch": batch, "precision": precision, "rate": batch / seconds})
    memory_precision = "fp32" if device == "cpu" else "bf16"
    for b in memory:
        found = peak_bytes(Job(Model("T", b, 224, 7), "ours", "train", device, memory_precision))
        rows.append({"part": "memory", "batch": b, "bytes": found})
    content = {"command": " ".join(["python -m bra.bench.pipeline", *sys.argv[1:]]), "seed": 0}
    content |= {"environment": environment(), "rows": rows}
    write_atomically(results / f"pipeline_{device}.json", json.dumps(content, indent=1) + "\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    tyro.cli(main, prog="python -m bra.bench.pipeline")
