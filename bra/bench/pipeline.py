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
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import tyro
from PIL import Image

from bra.arguments import errors_in_one_line
from bra.bench.jobs import Job, Model, peak_bytes
from bra.biformer import TINY, BiFormer
from bra.data import Batch, ImageFolder, ImageSettings
from bra.data.images import AHEAD
from bra.files import write_atomically
from bra.measure import environment, median_seconds
from bra.train.augment import Preparation
from bra.train.learner import Learner
from bra.train.parallel import open_accelerator
from bra.train.recipes import imagenet100

COUNT = 512  # JPEGs
REPEATS = 3


def make_jpegs(folder: Path, shorter: int) -> int:
    """COUNT JPEGs in train/a and one in val/a, of smooth noise with grain; returns the mean size in bytes."""
    draw, sizes = np.random.default_rng(0), []
    for split, count in (("train", COUNT), ("val", 1)):
        (folder / split / "a").mkdir(parents=True)
        for i in range(count):
            coarse = Image.fromarray(draw.integers(256, size=(12, 16, 3), dtype=np.uint8))
            pixels = np.asarray(coarse.resize((500, 375), Image.Resampling.BICUBIC), dtype=np.int16)
            pixels = np.clip(pixels + draw.normal(0, 12, pixels.shape), 0, 255).astype(np.uint8)
            image = Image.fromarray(pixels).resize((round(500 * shorter / 375), shorter), Image.Resampling.BICUBIC)
            path = folder / split / "a" / f"{i}.jpg"
            image.save(path, quality=90)
            sizes.append(path.stat().st_size)
    return round(sum(sizes) / len(sizes))


def loader_rate(folder: Path, settings: ImageSettings, batch: int) -> float:
    """Images a second that the loader delivers, once its workers have prepared as much as they do ahead."""
    steps, rates = COUNT // batch, []
    for seed in range(REPEATS):
        batches = ImageFolder(folder, settings).training(batch, seed, 0)
        for _ in itertools.islice(batches, 1 + AHEAD * settings.workers):
            pass
        begun = time.perf_counter()
        for _ in itertools.islice(batches, steps):
            pass
        rates.append(steps * batch / (time.perf_counter() - begun))
    return statistics.median(rates)


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
        accelerator = open_accelerator(device, precision)
    recipe = replace(imagenet100(), workers=0)
    rows = []
    with tempfile.TemporaryDirectory() as made:
        for shorter in (375, 256):
            folder = Path(made) / str(shorter)
            size = make_jpegs(folder, shorter)
            for count in workers:
                rate = loader_rate(folder, replace(recipe.images(), workers=count), batch)
                rows.append({"part": "loader", "shorter_side": shorter, "bytes": size, "workers": count, "rate": rate})
        data = ImageFolder(folder, recipe.images())
        data.classes = [str(i) for i in range(100)]
    pixels = torch.randint(256, (batch, 3, 224, 224), dtype=torch.uint8, device=accelerator.device)
    bytes_batch = Batch(pixels, torch.arange(batch, device=accelerator.device) % 100)
    prepare = Preparation(recipe.augment, data)
    ready = prepare(bytes_batch)
    learner = Learner(BiFormer(replace(TINY, num_classes=100, drop_path=recipe.drop_path)), accelerator, average=0.999)
    steps = {
        "augmentation": lambda: prepare(bytes_batch),
        "training": lambda: learner.step(bytes_batch, lambda part: ready, 1e-4),
    }
    for part, seconds in median_seconds(steps, REPEATS, device).items():
        rows.append({"part": part, "batch": batch, "precision": precision, "rate": batch / seconds})
    for b in memory:
        found = peak_bytes(Job(Model("T", b, 224, 7), "ours", "train", device, autocast=device != "cpu"))
        rows.append({"part": "memory", "batch": b, "bytes": found})
    content = {"command": " ".join(["python -m bra.bench.pipeline", *sys.argv[1:]]), "seed": 0}
    content |= {"environment": environment(), "rows": rows}
    write_atomically(results / f"pipeline_{device}.json", json.dumps(content, indent=1) + "\n")
    for row in rows:
        print(row)


if __name__ == "__main__":
    tyro.cli(main, prog="python -m bra.bench.pipeline")
