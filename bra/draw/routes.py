"""Figures of one `View`: whom a region reads, who reads it, a token's attention, the rollout.

Images have 3 channels, or 1: grey; anything else raises ValueError.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from torch import Tensor

from bra.draw.frames import (
    blend,
    dimmed,
    frame_regions,
    listed,
    panel,
    pixels_a_token,
    require_region,
    scaled,
    show,
)
from bra.draw.picture import BLACK, HEAT, PAGE, SKY, SMALL, VERMILION, Picture, colour_bar, count
from bra.draw.regions import ASKS, READS, SHOULD, TITLE, in_colour, name_frames, side_by_side
from bra.look.statistics import rollout
from bra.look.views import View
from bra.partition import middle_region

BARS = 32  # that can still be told apart
TOKEN = {"marker": "o", "color": VERMILION, "markeredgecolor": BLACK, "markersize": 7, "linestyle": "none"}


def routing(image: Float[Tensor, "c h w"], view: View, query: int, target: int | None = None) -> Picture:
    """Whom the region that asks reads: on the image by rank, in the whole affinity matrix, and among its affinities.

    target: a region that it should read. Raises ValueError for a region that is not on the grid.
    """
    require_region("query", query, view.grid)
    image = in_colour(image)
    height = panel(image)[1] + TITLE
    figure = Figure(figsize=(PAGE, height + 3.2), layout="constrained")
    rows = figure.add_gridspec(2, 2, height_ratios=[height, 2.4])
    first, bars, matrix = (figure.add_subplot(at) for at in (rows[0, 0], rows[1, :], rows[0, 1]))
    read = view.reads(query)
    show(first, dimmed(image, view, {query, *read}), view, f"region {query} reads")
    frame_regions(first, view, {region: str(rank) for region, rank in read.items()}, READS)
    keys = {"the region that asks": ASKS, "reads, by rank": READS}
    told = ""
    if target is not None:
        require_region("target", target, view.grid)
        frame_regions(first, view, {target: ""}, SHOULD)
        keys["should read"] = SHOULD
        told = f" and should read {target}, which it does{'' if target in read else ' not'}"
    frame_regions(first, view, {query: ""}, ASKS)
    name_frames(figure, keys)
    affinity_bars(bars, view, query, read)
    affinity_matrix(matrix, view, query)
    return Picture(
        figure,
        f"{view.label}, {view.grid[0]} x {view.grid[1]} regions: region {query} reads {listed(read)}{told}. Beside it "
        f"the affinity matrix with the chosen cells marked; below, the affinity of region {query} to each region.",
    )


def routed_stages(image: Float[Tensor, "c h w"], views: Mapping[str, View]) -> Picture:
    """The same image once for each view, by name: its middle region dotted, the regions that it reads by rank."""
    image = in_colour(image)
    figure, panels = side_by_side(len(views), (panel(image)[0], panel(image)[1] + TITLE))
    told = []
    for axes, (name, view) in zip(panels, views.items(), strict=True):
        query = middle_region(view.grid)
        read = view.reads(query)
        show(axes, image, view, name)
        frame_regions(axes, view, {region: str(rank) for region, rank in read.items()}, READS)
        frame_regions(axes, view, {query: ""}, ASKS)
        told.append(f"{name}: {listed(read)}")
    rows, columns = view.grid
    return Picture(figure, f"An image on a {rows} x {columns} grid; region {query} reads: {'; '.join(told)}.")


def affinity_bars(axes: Axes, view: View, query: int, read: Mapping[int, int]) -> None:
    """The query's affinities as bars, best first; those read are coloured, hatched, and bear their rank."""
    row = view.affinity[query].double()
    order = row.argsort(descending=True, stable=True).tolist()
    kept = [*read, *(region for region in order if region not in read)][:BARS]
    regions = [region for region in order if region in kept]
    for place, region in enumerate(regions):
        masked = not row[region].isfinite()
        height = 0.0 if masked else row[region].item()
        looks = {"facecolor": SKY, "hatch": "///"} if region in read else {"facecolor": "#DDDDDD"}
        axes.bar(place, height, width=0.8, edgecolor=BLACK, linewidth=0.6, **looks)
        words = ([f"{read[region]}"] if region in read else []) + ["-inf"] * masked
        style = {"ha": "center", "va": "bottom", "fontsize": SMALL, "rotation": 90 if masked else 0}
        axes.annotate(": ".join(words), (place, max(0.0, height)), (0, 2), textcoords="offset points", **style)
    shown = row[regions][row[regions].isfinite()].tolist() or [0.0]
    low, high = min(0.0, *shown), max(0.0, *shown)
    span = high - low or 1.0
    axes.set_ylim(low - 0.04 * span, high + 0.14 * span)  # room for the ranks
    axes.axhline(0, color=BLACK, linewidth=0.8)
    steep = len(regions) > 16 and max(regions) > 99  # three digits
    axes.set_xticks(range(len(regions)), regions, fontsize=SMALL, rotation=90 if steep else 0)
    some = "" if len(regions) == len(row) else f", {len(regions)} of {len(row)}"
    axes.set_title(f"affinity of region {query} to each region, best first{some}", fontsize=10)
    axes.set_xlabel("region; above a bar: the rank of one that is read", fontsize=SMALL)
    axes.tick_params(axis="y", labelsize=SMALL)
    axes.set_xlim(-0.7, len(regions) - 0.3)


def affinity_matrix(axes: Axes, view: View, query: int) -> None:
    """How much region i (row) wants to read region j (column): dots on what is read, a frame around the query's row."""
    affinity = view.affinity.double()
    colour_bar(axes, axes.imshow(affinity.masked_fill(~affinity.isfinite(), torch.nan).numpy(), cmap=HEAT))
    regions, k = view.index.shape
    cell = 2.6 * 72 / regions  # points
    dots = {
        "s": min(8, max(1.5, 0.5 * cell)) ** 2,
        "color": BLACK,
        "edgecolor": "white",
        "linewidth": min(1, 0.1 * cell),
    }
    axes.scatter(view.index.flatten().numpy(), np.repeat(np.arange(regions), k), **dots)
    axes.add_patch(Rectangle((-0.5, query - 0.5), regions, 1, fill=False, **scaled(ASKS, 2 * cell)))
    axes.set_title("affinity of all regions; dots: read", fontsize=10)
    axes.set_xlabel("is read", fontsize=SMALL)
    axes.set_ylabel("reads", fontsize=SMALL)
    axes.set_yticks([query])
    axes.set_xticks([0, regions - 1] if regions > 1 else [0])
    axes.tick_params(labelsize=SMALL)


def readers(image: Float[Tensor, "c h w"], view: View, query: int) -> Picture:
    """Who reads the region that asks, and at which rank: 1 for whom it is the first choice.

    Regions that are all padding are left out. Raises ValueError for a region that is not on the grid.
    """
    require_region("query", query, view.grid)
    found = view.readers(query)
    image = in_colour(image)
    width, height = panel(image)
    figure = Figure(figsize=(width, height + 0.8), layout="constrained")
    axes = figure.subplots()
    show(axes, dimmed(image, view, {query, *found}), view, f"{count(len(found), 'region')} that read region {query}")
    frame_regions(axes, view, {i: str(rank) for i, rank in found.items()}, READS)
    frame_regions(axes, view, {query: ""}, ASKS)
    name_frames(figure, {"the chosen region": ASKS, "reads it, at this rank": READS})
    told = ", ".join(f"{i} as choice {rank}" for i, rank in found.items()) or "none"
    return Picture(figure, f"{view.label}, {view.grid[0]} x {view.grid[1]} regions: region {query} is read by {told}.")


def token_attention(image: Float[Tensor, "c h w"], view: View, row: int, column: int) -> Picture:
    """The weights of the token at (row, column) of the map, laid back on the image, head by head.

    As in the paper's figures: the image in grey under pseudo-colours, the stronger the greater the weight. Each head
    has a scale of its own, whose end its title names, and what an even share would be. Raises ValueError as
    `View.token_map` does.
    """
    weights = view.token_map(row, column)
    query = view.region_at(row, column)
    image = in_colour(image)
    width, height = panel(image)
    figure, (first, *heads) = side_by_side(len(weights) + 1, (0.85 * width, 0.85 * height + 2 * TITLE))
    down, across = pixels_a_token(view, image.shape[1:])
    at = ((column + 0.5) * across - 0.5, (row + 0.5) * down - 0.5)
    show(first, image, view, f"token ({row}, {column}) in region {query}")
    frame_regions(first, view, {query: ""}, ASKS)
    first.plot(*at, **TOKEN)
    even = 1 / max(1, view.tokens_read(query))
    told = []
    for head, axes in enumerate(heads):
        most = weights[head].max().item()
        blend(axes, image, weights[head], view, f"head {head}: up to {most:.1%}\nall alike {even:.1%}")
        frame_regions(axes, view, dict.fromkeys(view.index[query].tolist(), ""), READS)
        axes.plot(*at, **{**TOKEN, "markersize": 4})
        best = divmod(int(weights[head].argmax()), view.size[1])
        told.append(f"head {head} gives most, {most:.1%}, to token {best}")
    read = listed(view.reads(query))
    return Picture(
        figure,
        f"{view.label}: weights of the token ({row}, {column}) of {view.size[0]} x {view.size[1]}, in region {query}, "
        f"which reads {read}. {'; '.join(told)}.",
    )


def routing_rollout(image: Float[Tensor, "c h w"], views: Sequence[View], query: int) -> Picture:
    """How much the region that asks, after the last of the blocks, may hold of every region's input: see `rollout`.

    Raises ValueError as `rollout` does, and for a region that is not on the grid.
    """
    shares = rollout(views)
    view = views[-1]
    require_region("query", query, view.grid)
    share, image = shares[query], in_colour(image)
    figure, (first, second) = side_by_side(2, (panel(image)[0], panel(image)[1] + TITLE))
    show(first, image, view, f"region {query}")
    frame_regions(first, view, {query: ""}, ASKS)
    blend(second, image, share[view.owners()], view, f"may hold, up to {share.max():.1%}")
    frame_regions(second, view, {query: ""}, ASKS)
    best = ", ".join(
        f"{share[i]:.1%} of {i}" for i in share.argsort(descending=True, stable=True)[:5].tolist() if share[i]
    )
    blocks = count(len(views), "block")
    return Picture(
        figure,
        f"Rollout of the routing of {blocks} on {view.grid[0]} x {view.grid[1]} regions: what region {query} may "
        f"hold in the end. It reaches {int((share > 0).sum())} of {len(share)} regions; most: {best}.",
    )
