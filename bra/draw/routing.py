"""What one layer does with one image, as `bra.views` tells it: the still twins of the explorer's pictures.

Regions stand where the layer has them. A map that the grid does not divide is padded below and at the right, so the
last regions may reach beyond the image; of what lies beyond it nothing is drawn. Images have 3 channels, or 1: grey;
anything else raises ValueError.
"""

from collections.abc import Mapping, Sequence

import numpy as np
import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from bra.draw.images import ASKS, READS, SHOULD, in_colour, name_frames, outline_box, show_grid, side_by_side
from bra.draw.picture import BLACK, HEAT, SKY, VERMILION, Picture, Point
from bra.patterns import Grid
from bra.statistics import RoutingStatistics, rollout
from bra.views import View

SIDE = 4.0  # inches, the longer side of an image
BARS = 32  # that can still be told apart
TOKEN = {"marker": "o", "color": VERMILION, "markeredgecolor": BLACK, "markersize": 7, "linestyle": "none"}


def routing(image: Float[Tensor, "c h w"], view: View, query: int, target: int | None = None) -> Picture:
    """Whom the query's region reads: on the image by rank, among its affinities, and in the whole affinity matrix.

    target: a region that it should read. Raises ValueError for a region that is not on the grid.
    """
    require_region("query", query, view.grid)
    image = in_colour(image)
    width, height = panel(image)
    figure = Figure(figsize=(width + 8.2, max(height, 3.2) + 0.8), layout="constrained")
    first, bars, matrix = figure.subplots(1, 3, width_ratios=[width, 4.2, 3.6])
    read = ranks(view.index[query].tolist())
    show(first, dimmed(image, view, {query, *read}), view, f"region {query} reads")
    frame_regions(first, view, {region: str(rank) for region, rank in read.items()}, READS)
    keys = {"the query's region": ASKS, "reads, by rank": READS}
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
        f"the affinity of region {query} to each region, and the affinity matrix with the chosen cells marked.",
    )


def affinity_bars(axes: Axes, view: View, query: int, read: Mapping[int, int]) -> None:
    """The query's affinities as bars, best first; those read are coloured, hatched, and bear their rank."""
    row = view.affinity[query].double()
    order = row.argsort(descending=True, stable=True).tolist()
    kept = [*read, *(region for region in order if region not in read)][:BARS]
    regions = [region for region in order if region in kept]
    many = len(regions) > 16
    for place, region in enumerate(regions):
        masked = not row[region].isfinite()
        height = 0.0 if masked else row[region].item()
        looks = {"facecolor": SKY, "hatch": "///"} if region in read else {"facecolor": "#DDDDDD"}
        axes.bar(place, height, width=0.8, edgecolor=BLACK, linewidth=0.6, **looks)
        words = ([f"{read[region]}"] if region in read else []) + ["-inf"] * masked
        style = {
            "ha": "center",
            "va": "bottom",
            "fontsize": 6.5 if many else 8,
            "rotation": 90 if many or masked else 0,
        }
        axes.annotate(": ".join(words), (place, max(0.0, height)), (0, 2), textcoords="offset points", **style)
    shown = row[regions][row[regions].isfinite()].tolist() or [0.0]
    low, high = min(0.0, *shown), max(0.0, *shown)
    span = high - low or 1.0
    axes.set_ylim(low - 0.04 * span, high + 0.14 * span)  # room for the ranks
    axes.axhline(0, color=BLACK, linewidth=0.8)
    axes.set_xticks(range(len(regions)), regions, fontsize=7, rotation=90 if many else 0)
    some = "" if len(regions) == len(row) else f", {len(regions)} of {len(row)}"
    axes.set_title(f"its affinity to each region, best first{some}", fontsize=10)
    axes.set_xlabel("region; above a bar: the rank of one that is read", fontsize=8)
    axes.tick_params(axis="y", labelsize=7)


def affinity_matrix(axes: Axes, view: View, query: int) -> None:
    """How much region i (row) wants to read region j (column): dots on what is read, a frame around the query's row."""
    affinity = view.affinity.double()
    axes.imshow(affinity.masked_fill(~affinity.isfinite(), torch.nan).numpy(), cmap=HEAT)
    regions, k = view.index.shape
    cell = 3.2 * 72 / regions  # points
    dots = {
        "s": min(8, max(1.5, 0.5 * cell)) ** 2,
        "color": BLACK,
        "edgecolor": "white",
        "linewidth": min(1, 0.1 * cell),
    }
    axes.scatter(view.index.flatten().numpy(), np.repeat(np.arange(regions), k), **dots)
    axes.add_patch(Rectangle((-0.5, query - 0.5), regions, 1, fill=False, **scaled(ASKS, 2 * cell)))
    axes.set_title("affinity of all regions; dots: read", fontsize=10)
    axes.set_xlabel("is read", fontsize=8)
    axes.set_ylabel("reads", fontsize=8)
    axes.set_yticks([query])
    axes.set_xticks([0, regions - 1] if regions > 1 else [0])
    axes.tick_params(labelsize=7)


def readers(image: Float[Tensor, "c h w"], view: View, query: int) -> Picture:
    """Who reads the query's region, and at which rank: 1 for whom it is the first choice.

    Regions that are all padding are left out. Raises ValueError for a region that is not on the grid.
    """
    require_region("query", query, view.grid)
    found = {i: ranks(read)[query] for i, read in enumerate(view.index.tolist()) if query in read}
    found = {i: rank for i, rank in found.items() if min(box(view, i, view.size)[1]) > 0}
    image = in_colour(image)
    width, height = panel(image)
    figure = Figure(figsize=(width, height + 0.8), layout="constrained")
    axes = figure.subplots()
    show(axes, dimmed(image, view, {query, *found}), view, f"{count(len(found), 'region')} that read region {query}")
    frame_regions(axes, view, {i: str(rank) for i, rank in found.items()}, READS)
    frame_regions(axes, view, {query: ""}, ASKS)
    name_frames(figure, {"the query's region": ASKS, "reads it, at this rank": READS})
    told = ", ".join(f"{i} as choice {rank}" for i, rank in found.items()) or "none"
    return Picture(figure, f"{view.label}, {view.grid[0]} x {view.grid[1]} regions: region {query} is read by {told}.")


def token_attention(image: Float[Tensor, "c h w"], view: View, row: int, column: int) -> Picture:
    """The weights of the token at (row, column) of the map, laid back on the image, head by head.

    As in the paper's figures: the image in grey under pseudo-colours, the stronger the greater the weight. Each head
    has a scale of its own, whose end its title names, and what an even share would be. Raises ValueError as
    `View.token_map` does.
    """
    weights = view.token_map(row, column)
    query = view.locate(row, column)[0]
    image = in_colour(image)
    width, height = panel(image)
    figure, (first, *heads) = side_by_side(len(weights) + 1, (0.8 * width, 0.8 * height + 0.4))
    down, across = pixels_a_token(view, image.shape[1:])
    at = ((column + 0.5) * across - 0.5, (row + 0.5) * down - 0.5)
    show(first, image, view, f"token ({row}, {column}) in region {query}")
    frame_regions(first, view, {query: ""}, ASKS)
    first.plot(*at, **TOKEN)
    even = 1 / max(1, tokens_read(view, query))
    told = []
    for head, axes in enumerate(heads):
        most = weights[head].max().item()
        blend(axes, image, weights[head], view, f"head {head}: up to {most:.1%}, even {even:.1%}")
        frame_regions(axes, view, dict.fromkeys(view.index[query].tolist(), ""), READS)
        axes.plot(*at, **{**TOKEN, "markersize": 4})
        best = divmod(int(weights[head].argmax()), view.size[1])
        told.append(f"head {head} gives most, {most:.1%}, to token {best}")
    read = listed(ranks(view.index[query].tolist()))
    return Picture(
        figure,
        f"{view.label}: weights of the token ({row}, {column}) of {view.size[0]} x {view.size[1]}, in region {query}, "
        f"which reads {read}. {'; '.join(told)}.",
    )


def routing_rollout(image: Float[Tensor, "c h w"], views: Sequence[View], query: int) -> Picture:
    """How much the query's region, after the last of the blocks, may hold of every region's input (`bra.statistics`).

    Raises ValueError as `rollout` does, and for a region that is not on the grid.
    """
    shares = rollout(views)
    view = views[-1]
    require_region("query", query, view.grid)
    share, image = shares[query], in_colour(image)
    figure, (first, second) = side_by_side(2, (panel(image)[0], panel(image)[1] + 0.4))
    show(first, image, view, f"region {query}")
    frame_regions(first, view, {query: ""}, ASKS)
    blend(second, image, share[owners(view, view.size)], view, f"may hold, up to {share.max():.1%}")
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


def routing_statistics(statistics: RoutingStatistics) -> Picture:
    """Of each layer self share, distance and entropy, beside those of a random router, and the layers' overlap."""
    layers = statistics.layers
    n = len(layers)
    side = max(1.6, 0.42 * n)
    figure = Figure(figsize=(8.6 + side, 1.6 + side), layout="constrained")
    *bars, matrix = figure.subplots(1, 4, sharey=True, width_ratios=[2, 2, 2, side])
    names = {"self_share": "reads itself, share", "distance": "distance, regions", "entropy": "entropy, bits"}
    for axes, (name, title) in zip(bars, names.items(), strict=True):
        values, random = ([getattr(layer, f"{which}{name}") for layer in layers] for which in ("", "random_"))
        axes.barh(range(n), values, height=0.65, color=SKY, edgecolor=BLACK, linewidth=0.6)
        axes.vlines(random, np.arange(n) - 0.42, np.arange(n) + 0.42, color=VERMILION, linestyle="--", linewidth=2)
        axes.set_title(title, fontsize=10)
        most = max(*values, *random)
        axes.set_xlim(0, 1.08 * most if most > 1e-6 else 1)
        axes.grid(axis="x", alpha=0.3)
    overlap_matrix(matrix, statistics)
    bars[0].set_yticks(range(n), [layer.label for layer in layers], fontsize=8)
    bars[0].set_ylim(n - 0.5, -0.5)
    line = Line2D([], [], color=VERMILION, linestyle="--", linewidth=2)
    figure.legend([line], ["a random router, and its overlap in brackets"], loc="outside lower center", frameon=False)
    told = [
        f"{x.label}: {x.self_share:.2f} (random {x.random_self_share:.2f}), {x.distance:.2f} "
        f"({x.random_distance:.2f}), {x.entropy:.2f} ({x.random_entropy:.2f})"
        for x in layers
    ]
    return Picture(
        figure,
        f"Routing of {count(n, 'layer')} over {count(statistics.images, 'image')}: share of regions that "
        f"read themselves, distance in regions, entropy in bits. {'; '.join(told)}. "
        "Beside them the overlap of every two layers.",
    )


def overlap_matrix(axes: Axes, statistics: RoutingStatistics) -> None:
    """Percent of what two layers could read in common; in brackets that of random routers; empty where grids differ."""
    overlap, random = statistics.overlap, statistics.random_overlap
    image = axes.imshow(overlap.numpy(), cmap=HEAT, vmin=0, vmax=1, aspect="auto")
    for i, j in np.ndindex(*overlap.shape):
        if overlap[i, j].isfinite():
            colour = "white" if image.norm(overlap[i, j].item()) < 0.5 else BLACK
            percent = f"{100 * overlap[i, j]:.0f}\n({100 * random[i, j]:.0f})"
            axes.text(j, i, percent, ha="center", va="center", fontsize=7, color=colour)
    axes.set_xticks(range(len(overlap)), [layer.label for layer in statistics.layers], fontsize=8, rotation=90)
    axes.set_title("overlap, %", fontsize=10)


def show(axes: Axes, image: Float[Tensor, "3 h w"], view: View, title: str) -> None:
    """The image, -1 black to 1 bright, under the lines of the view's regions."""
    axes.imshow((image.permute(1, 2, 0) / 2 + 0.5).clamp(0, 1).numpy())
    (down, across), (height, width) = pixels_a_token(view, image.shape[1:]), view.cell
    show_grid(axes, view.grid, (down * height, across * width), title)
    axes.set(xlim=(-0.5, image.shape[2] - 0.5), ylim=(image.shape[1] - 0.5, -0.5))  # no lines beyond it


def blend(axes: Axes, image: Float[Tensor, "3 h w"], weights: Float[Tensor, "y x"], view: View, title: str) -> None:
    """The weights of the map's tokens as pseudo-colours over the grey image, the stronger the greater the weight."""
    grey = image.mean(dim=0, keepdim=True).expand(3, -1, -1)
    show(axes, grey, view, title)
    strength = (weights / weights.max().clamp(min=1e-12)).numpy()
    height, width = image.shape[1:]
    extent = (-0.5, width - 0.5, height - 0.5, -0.5)
    axes.imshow(strength, cmap=HEAT, vmin=0, vmax=1, alpha=0.75 * strength**0.5, extent=extent, interpolation="nearest")


def frame_regions(axes: Axes, view: View, labels: Mapping[int, str], style: dict) -> None:
    """Outline regions of the image on `axes`, each with its label; those that lie beyond it have no area."""
    image = axes.get_images()[0].get_size()
    inset = 0.1 if style is READS else 0.01  # of a region: a reader that reads itself has both frames
    for region, label in labels.items():
        corner, size = box(view, region, image)
        if min(size) > 0:
            points = 72 * SIDE * min(size) / max(image)
            outline_box(
                axes, corner, size, inset * min(size), label, min(9, max(5, 0.38 * points)), **scaled(style, points)
            )


def scaled(style: dict, points: float) -> dict:
    """The style of a frame, thinner where it is less than 40 points high."""
    thin = min(1.0, max(0.25, points / 40))
    return {
        **style,
        "linewidth": thin * style["linewidth"],
        "path_effects": [withStroke(linewidth=5 * thin, foreground=BLACK)],
    }


def box(view: View, region: int, image: tuple[int, int]) -> tuple[Point, Point]:
    """Of a region on an image of (height, width) pixels its upper left corner (x, y), and its (height, width)."""
    scale, place = pixels_a_token(view, image), divmod(region, view.grid[1])
    low = [min(p * c, size) * s for p, c, size, s in zip(place, view.cell, view.size, scale, strict=True)]
    high = [min((p + 1) * c, size) * s for p, c, size, s in zip(place, view.cell, view.size, scale, strict=True)]
    return (low[1] - 0.5, low[0] - 0.5), (high[0] - low[0], high[1] - low[1])


def tokens_read(view: View, region: int) -> int:
    """How many tokens share the attention of one in the region; padding has none of it."""
    sizes = [box(view, read, view.size)[1] for read in view.index[region].tolist()]
    return round(sum(height * width for height, width in sizes))


def pixels_a_token(view: View, image: Sequence[int]) -> tuple[float, float]:
    """Height and width of a token of the map on an image of (height, width) pixels."""
    return image[0] / view.size[0], image[1] / view.size[1]


def owners(view: View, size: Sequence[int]) -> Tensor:
    """(h w), the region of every pixel of an image of that size; of every token for the size of the map."""
    down, across = pixels_a_token(view, size)
    row = ((torch.arange(size[0]) + 0.5) / down).long() // view.cell[0]
    column = ((torch.arange(size[1]) + 0.5) / across).long() // view.cell[1]
    return row[:, None] * view.grid[1] + column


def dimmed(image: Float[Tensor, "3 h w"], view: View, bright: set[int]) -> Float[Tensor, "3 h w"]:
    """The image, a little darker outside some regions."""
    inside = torch.isin(owners(view, image.shape[1:]), torch.tensor(sorted(bright)))
    return torch.where(inside, image, 0.55 * (image + 1) - 1)


def ranks(read: Sequence[int]) -> dict[int, int]:
    """What a region reads, each with its rank, from 1; the better one of a region that is listed twice."""
    return {region: read.index(region) + 1 for region in dict.fromkeys(read)}


def listed(read: Mapping[int, int]) -> str:
    """The regions that are read, best first."""
    return ", ".join(map(str, read))


def count(number: int, thing: str) -> str:
    """1 region, 2 regions."""
    return f"{number} {thing}{'' if number == 1 else 's'}"


def panel(image: Tensor) -> Point:
    """Width and height of an image's panel, in inches."""
    longer = max(image.shape[1:])
    return SIDE * max(0.5, image.shape[2] / longer), SIDE * max(0.5, image.shape[1] / longer)


def require_region(name: str, region: int, grid: Grid) -> None:
    """Raise ValueError unless the grid has that region."""
    if region not in range(grid[0] * grid[1]):
        raise ValueError(f"{name} must be between 0 and {grid[0] * grid[1] - 1}, but is {region}")
