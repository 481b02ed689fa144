"""The figures' one home: matplotlib pictures with one palette, readable in greyscale, each with alternative text.

Every function returns a `Picture`: the figure, and a sentence or two that say what it shows to a reader who
does not see it.
"""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from jaxtyping import Float, Int
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from bra.patterns import Grid

# Okabe and Ito's palette; whatever has a colour here also differs in line style, hatch or label
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip


class Picture(NamedTuple):
    """A figure and its alternative text. The last expression of a cell, it is shown with both."""

    figure: Figure
    alt: str

    def png(self) -> bytes:
        """The figure as the content of a PNG file, the alternative text among its metadata."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=120, bbox_inches="tight", metadata={"Description": self.alt})
        return buffer.getvalue()

    def save(self, path: Path) -> None:
        """Write the figure as a PNG file."""
        path.write_bytes(self.png())

    def _repr_mimebundle_(self, include=None, exclude=None):
        """For Jupyter: the picture, and its alternative text for screen readers and for tools without pictures."""
        return {"image/png": self.png(), "text/plain": f"Picture: {self.alt}"}, {"image/png": {"alt": self.alt}}


def training_curves(metrics: Sequence[dict]) -> Picture:
    """Loss, accuracy and hit rate by step, from the lines of a run's metrics.jsonl."""
    steps = [line for line in metrics if "loss" in line]
    tests = [line for line in metrics if "held_out" in line]
    routed = bool(tests) and "hit_rate" in tests[-1]["held_out"]
    figure = Figure(figsize=(10 if routed else 7, 3), layout="constrained")
    axes = figure.subplots(1, 3 if routed else 2)
    axes[0].plot([s["step"] for s in steps], [s["loss"] for s in steps], color=BLUE)
    axes[0].set(title="Training loss", xlabel="step", ylabel="cross-entropy")
    axes[1].plot([s["step"] for s in steps], [s["accuracy"] for s in steps], color=SKY, label="training batch")
    axes[1].plot([t["step"] for t in tests], [t["held_out"]["accuracy"] for t in tests], "o-", color=VERMILION, label="held out")
    axes[1].set(title="Accuracy", xlabel="step", ylim=(0, 1.03))
    axes[1].legend(loc="lower right")
    alt = f"Training curves over {steps[-1]['step']} steps. The loss goes from {steps[0]['loss']:.2f} to {steps[-1]['loss']:.2f}"
    if tests:
        alt += f", held-out accuracy from {tests[0]['held_out']['accuracy']:.2f} to {tests[-1]['held_out']['accuracy']:.2f}"
    if routed:
        for block in range(len(tests[-1]["held_out"]["hit_rate"])):
            rates = [t["held_out"]["hit_rate"][block] for t in tests]
            axes[2].plot([t["step"] for t in tests], rates, ["o-", "s--", "^:", "d-."][block % 4], label=f"block {block}",
                         color=[BLUE, ORANGE, GREEN, PURPLE][block % 4])  # fmt: skip
            alt += f"; hit rate of block {block} from {rates[0]:.2f} to {rates[-1]:.2f}"
        axes[2].set(title="Hit rate, held out", xlabel="step", ylim=(0, 1.03))
        axes[2].legend(loc="lower right")
    return Picture(figure, alt + ".")


def outline_region(axes, region: int, grid: Grid, size: tuple[int, int], inset: float, **style) -> None:
    """Outline one region of a picture of size (h, w) pixels, `inset` pixels inside its border."""
    height, width = size[0] / grid[0], size[1] / grid[1]
    corner = (region % grid[1] * width - 0.5 + inset, region // grid[1] * height - 0.5 + inset)
    axes.add_patch(Rectangle(corner, width - 2 * inset, height - 2 * inset, fill=False, **style))


def routed_boards(
    images: Float[Tensor, "b 3 h w"],
    index: Int[Tensor, "b r k"],
    grid: Grid,
    query: Int[Tensor, " b"],
    target: Int[Tensor, " b"],
    titles: Sequence[str],
) -> Picture:
    """Boards, on each the query's region, the regions that it reads by rank, and the region that it should read."""
    figure = Figure(figsize=(3 * len(images), 3.7), layout="constrained")
    size, hits = tuple(images.shape[2:]), 0
    for board, axes in enumerate(np.atleast_1d(figure.subplots(1, len(images)))):
        axes.imshow((images[board].permute(1, 2, 0) / 2 + 0.5).clamp(0, 1))
        axes.set_xticks(np.arange(1, grid[1]) * size[1] / grid[1] - 0.5, [])
        axes.set_yticks(np.arange(1, grid[0]) * size[0] / grid[0] - 0.5, [])
        axes.grid(color="#777777", linewidth=0.5)
        axes.tick_params(length=0)
        axes.set_title(titles[board], fontsize=10)
        asks, answers, read = int(query[board]), int(target[board]), index[board, query[board]].tolist()
        hits += answers in read
        for rank, region in enumerate(read, start=1):
            outline_region(axes, region, grid, size, 0.9, edgecolor=SKY, linestyle="--", linewidth=2)
            row, column = divmod(region, grid[1])
            axes.text(column * size[1] / grid[1] + 0.8, (row + 1) * size[0] / grid[0] - 1.2, str(rank), fontsize=9,
                      color="black", va="bottom", bbox={"boxstyle": "circle,pad=0.15", "facecolor": SKY, "edgecolor": "black"})  # fmt: skip
        outline_region(axes, answers, grid, size, 0.1, edgecolor=VERMILION, linestyle="-", linewidth=2.5)
        outline_region(axes, asks, grid, size, 0.1, edgecolor="white", linestyle=":", linewidth=3)
    keys = {"the query's region": ("white", ":", 3), "reads, by rank": (SKY, "--", 2), "should read": (VERMILION, "-", 2.5)}
    figure.legend(
        [Rectangle((0, 0), 1, 1, facecolor="black", edgecolor=c, linestyle=s, linewidth=w) for c, s, w in keys.values()],
        keys, loc="outside lower center", ncols=3, frameon=False, handleheight=1.6, handlelength=1.8,
    )  # fmt: skip
    told = "; ".join(
        f"board {b + 1}: region {int(query[b])} reads {', '.join(map(str, index[b, query[b]].tolist()))}, should read {int(target[b])}"
        for b in range(len(images))
    )
    return Picture(figure, f"{len(images)} boards on a {grid[0]} x {grid[1]} grid; on {hits} of them the right region is read. {told}.")
