"""The figures' one home: matplotlib pictures with one palette, readable in greyscale, each with alternative text.

Every function returns a `Picture`: the figure, and a sentence or two that say what it shows to a reader who
does not see it.
"""

import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from bra.patterns import Grid

# Okabe and Ito's palette; whatever has a colour here also differs in line style, hatch or label
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
BLOCK_STYLES = (("o-", BLUE), ("s--", ORANGE), ("^:", GREEN), ("d-.", PURPLE))


@dataclass(frozen=True)
class Picture:
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
        """For Jupyter: the picture, its alternative text beside it."""
        return {"image/png": self.png()}, {"image/png": {"alt": self.alt}}

    def __repr__(self):
        return f"Picture: {self.alt}"


def training_curves(metrics: Sequence[dict]) -> Picture:
    """Loss, accuracy and hit rate by step, from the lines of a run's metrics.jsonl."""
    steps = [line for line in metrics if "loss" in line]
    tests = [line for line in metrics if "held_out" in line]
    blocks = len(tests[-1]["held_out"].get("hit_rate", []))
    figure = Figure(figsize=(10 if blocks else 7, 3), layout="constrained")
    loss, accuracy, *hits = figure.subplots(1, 3 if blocks else 2)

    at = [line["step"] for line in steps]
    losses = [line["loss"] for line in steps]
    loss.plot(at, losses, color=BLUE)
    loss.set(title="Training loss", xlabel="step", ylabel="cross-entropy")
    alt = f"Training curves over {at[-1]} steps. The loss goes from {losses[0]:.2f} to {losses[-1]:.2f}"

    accuracy.plot(at, [line["accuracy"] for line in steps], color=SKY, label="training batch")
    at = [line["step"] for line in tests]
    shares = [line["held_out"]["accuracy"] for line in tests]
    accuracy.plot(at, shares, "o-", color=VERMILION, label="held out")
    accuracy.set(title="Accuracy", xlabel="step", ylim=(0, 1.03))
    accuracy.legend(loc="lower right")
    alt += f", held-out accuracy from {shares[0]:.2f} to {shares[-1]:.2f}"

    for block in range(blocks):
        rates = [line["held_out"]["hit_rate"][block] for line in tests]
        marker, colour = BLOCK_STYLES[block % len(BLOCK_STYLES)]
        hits[0].plot(at, rates, marker, color=colour, label=f"block {block}")
        alt += f", hit rate of block {block} from {rates[0]:.2f} to {rates[-1]:.2f}"
    for axes in hits:
        axes.set(title="Hit rate, held out", xlabel="step", ylim=(0, 1.03))
        axes.legend(loc="lower right")
    return Picture(figure, alt + ".")


def router_comparison(runs: Sequence[dict], chance: float) -> Picture:
    """Held-out accuracy and best block's hit rate of each router, a mark a seed, from the runs of an experiment."""
    labels = list(dict.fromkeys(run["label"] for run in runs))
    figure = Figure(figsize=(9, 3.2), layout="constrained")
    accuracy, hits = figure.subplots(1, 2, sharex=True)
    told = []
    for i, label in enumerate(labels):
        found = [run["held_out"] for run in runs if run["label"] == label]
        shares, rates = [f["accuracy"] for f in found], [max(f["hit_rate"]) for f in found]
        for axes, values, colour in ((accuracy, shares, BLUE), (hits, rates, VERMILION)):
            axes.bar(i, np.mean(values), color=colour, alpha=0.35, edgecolor=colour, width=0.7)
            beside = i + np.linspace(-0.2, 0.2, len(values)) if len(values) > 1 else [i]
            axes.plot(beside, values, "o", color=colour, markeredgecolor="white")
        told.append(f"{label}: accuracy {np.mean(shares):.2f}, hit rate {np.mean(rates):.2f}")
    accuracy.axhline(chance, color=BLACK, linestyle="--", linewidth=1, label="guessing a shape on the board")
    accuracy.set(title="Accuracy, held out", ylim=(0, 1.25))
    accuracy.legend(loc="upper center", fontsize=8)
    hits.set(title="Hit rate of the better block", ylim=(0, 1.25))
    for axes in (accuracy, hits):
        axes.set_yticks(np.linspace(0, 1, 6))
        axes.set_xticks(range(len(labels)), labels, rotation=30)
    return Picture(figure, "Bars for each router, with one mark for each seed. " + "; ".join(told) + ".")


def show_board(axes: Axes, image: Float[Tensor, "3 h w"], grid: Grid, title: str) -> None:
    """One image, -1 black to 1 bright, under its region grid."""
    axes.imshow((image.permute(1, 2, 0) / 2 + 0.5).clamp(0, 1).numpy())
    height, width = image.shape[1] / grid[0], image.shape[2] / grid[1]
    axes.set_xticks(np.arange(1, grid[1]) * width - 0.5, [])
    axes.set_yticks(np.arange(1, grid[0]) * height - 0.5, [])
    axes.grid(color="#777777", linewidth=0.5)
    axes.tick_params(length=0)
    axes.set_title(title, fontsize=10)


def outline_region(axes: Axes, region: int, grid: Grid, inset: float, label: str = "", **style) -> None:
    """Outline a region of the image on `axes`, `inset` pixels inside its border; a label stands in its lower corner."""
    h, w = axes.get_images()[0].get_size()
    height, width, (row, column) = h / grid[0], w / grid[1], divmod(region, grid[1])
    corner = (column * width - 0.5 + inset, row * height - 0.5 + inset)
    axes.add_patch(Rectangle(corner, width - 2 * inset, height - 2 * inset, fill=False, **style))
    if label:
        badge = {"boxstyle": "circle,pad=0.15", "facecolor": style["edgecolor"], "edgecolor": BLACK}
        axes.text(corner[0] + 0.4, (row + 1) * height - 1.2, label, fontsize=9, va="bottom", bbox=badge)


def boards(images: Float[Tensor, "b 3 h w"], grid: Grid, titles: Sequence[str]) -> Picture:
    """Boards side by side under their region grid."""
    figure = Figure(figsize=(3 * len(images), 3.3), layout="constrained")
    for image, axes, title in zip(images, np.atleast_1d(figure.subplots(1, len(images))), titles, strict=True):
        show_board(axes, image, grid, title)
    return Picture(figure, f"{len(images)} boards on a {grid[0]} x {grid[1]} grid: {'; '.join(titles)}.")


def routed_boards(
    images: Float[Tensor, "b 3 h w"],
    index: Int[Tensor, "b r k"],
    grid: Grid,
    query: Int[Tensor, " b"],
    target: Int[Tensor, " b"],
    titles: Sequence[str],
) -> Picture:
    """Boards, on each the query's region, the regions that it reads by rank, and the region that it should read."""
    rim = [withStroke(linewidth=5, foreground=BLACK)]  # so that a frame shows on a glyph of its own colour
    asks = {"edgecolor": "white", "linestyle": ":", "linewidth": 3}
    reads = {"edgecolor": SKY, "linestyle": "--", "linewidth": 2, "path_effects": rim}
    should = {"edgecolor": VERMILION, "linestyle": "-", "linewidth": 2.5, "path_effects": rim}
    figure = Figure(figsize=(3 * len(images), 3.7), layout="constrained")
    told, hits = [], 0
    for board, axes in enumerate(np.atleast_1d(figure.subplots(1, len(images)))):
        show_board(axes, images[board], grid, titles[board])
        asking, answer = int(query[board]), int(target[board])
        read = index[board, asking].tolist()
        for rank, region in enumerate(read, start=1):
            outline_region(axes, region, grid, 0.9, str(rank), **reads)
        outline_region(axes, answer, grid, 0.1, **should)
        outline_region(axes, asking, grid, 0.1, **asks)
        told.append(f"board {board + 1}: region {asking} reads {', '.join(map(str, read))} and should read {answer}")
        hits += answer in read
    keys = {"the query's region": asks, "reads, by rank": reads, "should read": should}
    handles = [Rectangle((0, 0), 1, 1, facecolor=BLACK, **style) for style in keys.values()]
    place = {"loc": "outside lower center", "ncols": 3, "frameon": False, "handleheight": 1.6}
    figure.legend(handles, keys, **place)
    alt = f"{len(images)} boards on a {grid[0]} x {grid[1]} grid; on {hits} of them the right region is read"
    return Picture(figure, f"{alt}: {'; '.join(told)}.")
