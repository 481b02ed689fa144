"""A real picture: nuclei marked by routing, all regions, windows, or convolution. `python -m bra.bench.nuclei`.

The data are made by ``python -m bra.data nuclei --out data/nuclei``: the left three quarters of one picture to learn
from, the right quarter held out. So small a picture can tell whether the pieces work, not which network is better.
"""

import json
from dataclasses import replace
from pathlib import Path

import torch
import tyro
from jaxtyping import Float
from torch import Tensor, nn
from tqdm.auto import tqdm

from bra.arguments import errors_in_one_line
from bra.biformer import NANO, BiFormer, Stage
from bra.data import DenseSettings, derive_seed, normalise, own_masks
from bra.dense import Backbone, Segmenter, SemanticFPN
from bra.files import write_atomically
from bra.measure import environment
from bra.patterns import local_regions
from bra.topk import TableRouter
from bra.train.evaluation import evaluate
from bra.train.learner import Learner, learning_rate
from bra.train.parallel import open_accelerator
from bra.train.tasks import Pixels

SIZE, STEPS, BATCH, RATE, SEEDS = 128, 80, 4, 2e-3, range(3)
SMALL = replace(NANO, stages=(Stage(64, 2, heads=2, k=4), Stage(128, 2, heads=4, k=4)), num_classes=0)
READERS = ("top-4", "all", "local", "convolution")


class Convolution(nn.Conv2d):
    """A depthwise convolution in an attention's place: each token reads the 7 x 7 tokens around it."""

    def __init__(self, channels: int):
        super().__init__(channels, channels, 7, padding=3, groups=channels)

    def forward(self, x: Float[Tensor, "b h w c"]) -> Float[Tensor, "b h w c"]:
        """Channels-last, as attention."""
        return super().forward(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1)


def network(reader: str, classes: int) -> Segmenter:
    """Two stages of two blocks, strides 4 and 8, 4 x 4 regions of 32 pixels, under a small Semantic FPN."""
    config = SMALL
    if reader == "all":
        config = replace(SMALL, stages=tuple(replace(stage, k=16) for stage in SMALL.stages))
    if reader == "local":
        config = replace(SMALL, router=lambda grid, k: TableRouter(local_regions(grid, k)))
    model = BiFormer(config)
    if reader == "convolution":
        for stage in model.stages:
            for block in stage:
                block.attention = Convolution(block.attention.dim)
    backbone = Backbone(model)
    return Segmenter(backbone, SemanticFPN(backbone.channels, backbone.reduction, classes, width=64, head_width=64))


def run(reader: str, seed: int, data) -> dict:
    """Train one network and measure it on the held-out tiles."""
    torch.manual_seed(derive_seed("weights", seed))
    learner = Learner(network(reader, len(data.classes)), Pixels(data), open_accelerator("cpu", "fp32"))

    def prepare(batch):
        return normalise(batch.image, data.mean, data.std), batch.label

    batches = data.training(BATCH, seed, 0)
    for step, batch in zip(tqdm(range(STEPS), desc=f"{reader}, seed {seed}"), batches, strict=False):
        torch.manual_seed(derive_seed("step", seed, step))
        learner.step(batch, prepare, learning_rate(step, RATE, STEPS // 10, STEPS))
    found = evaluate(learner.model, data)
    parameters = sum(p.numel() for p in learner.model.parameters())
    return {"label": reader, "seed": seed, "parameters": parameters, "held_out": found}


def main(data: Path = Path("data/nuclei"), results: Path = Path("book/results")) -> None:
    """Train on a picture of nuclei and write the results.

    Args:
        data: What `python -m bra.data nuclei` made.
        results: Folder to write nuclei.json to.
    """
    with errors_in_one_line(ValueError, OSError):
        opened = own_masks(data, DenseSettings(SIZE, workers=0))
        runs = [run(reader, seed, opened) for seed in SEEDS for reader in READERS]
        runs.sort(key=lambda each: READERS.index(each["label"]))
        content = {"command": "python -m bra.bench.nuclei", "environment": environment(), "steps": STEPS, "runs": runs}
        write_atomically(results / "nuclei.json", json.dumps(content, indent=1) + "\n")
        for each in runs:
            print(f"{each['label']:12} seed {each['seed']}: mean IoU {each['held_out']['iou']:.1%}")


if __name__ == "__main__":
    tyro.cli(main, prog="python -m bra.bench.nuclei")
