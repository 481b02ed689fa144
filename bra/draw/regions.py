"""Images with outlined regions, and tables of who reads whom, without a `View`."""

from collections.abc import Mapping, Sequence

import numpy as np
from jaxtyping import Float, Int
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.patheffects import withStroke
from torch import Tensor

from bra.draw.picture import BLACK, HEAT, PAGE, SKY, SMALL, VERMILION, Picture, Point, colour_bar
from bra.partition import partition_regions
from bra.patterns import Grid

RIM = [withStroke(linewidth=5, foreground=BLACK)]  # so that a frame shows on a glyph of its own colour
ASKS = {"edgecolor": "white", "linestyle": ":", "linewidth": 3, "path_effects": RIM}
READS = {"edgecolor": SKY, "linestyle": "--", "linewidth": 2, "path_effects": RIM}
TITLE = 0.3  # inches, the height of one
QUESTION = "Which shape has the colour of the plain square?"
SHOULD = {"edgecolor": VERMILION, "linestyle": "-", "linewidth": 2.5, "path_effects": RIM}


def side_by_side(panels: int, size: Point) -> tuple[Figure, list[Axes]]:
    """Axes of one size each, in as many rows of equal length as a page needs to show them large enough.

    size: (width, height) in inches, a title included. A row may make them up to a quarter narrower, but no wider.
    """
    rows = -(-panels // max(1, min(panels, int(PAGE / (0.75 * size[0])))))
    columns = -(-panels // rows)
    width = min(size[0], PAGE / columns)
    height = (size[1] - TITLE) * width / size[0] + TITLE
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = list(figure.subplots(rows, columns, squeeze=False).flat)
    for unused in axes[panels:]:
        unused.remove()
    return figure, axes[:panels]


def in_colour(image: Float[Tensor, "c h w"]) -> Float[Tensor, "3 h w"]:
    """The image in three channels: one of a single channel is grey. Raises ValueError for what is no image."""
    if image.ndim != 3 or image.shape[0] not in (1, 3) or 0 in image.shape:
        raise ValueError(f"image must be (3 h w) or (1 h w), at least one pixel, but its shape is {tuple(image.shape)}")
    return image.expand(3, -1, -1)


def show_image(axes: Axes, image: Float[Tensor, "c h w"], grid: Grid, title: str) -> None:
    """One image, -1 black to 1 bright, under its region grid."""
    image = in_colour(image)
    axes.imshow((image.permute(1, 2, 0) / 2 + 0.5).clamp(0, 1).numpy())
    show_grid(axes, grid, (image.shape[1] / grid[0], image.shape[2] / grid[1]), title)


def show_grid(axes: Axes, grid: Grid, cell: Point, title: str) -> None:
    """The lines between regions of cell = (height, width) pixels, and a title."""
    height, width = cell
    axes.set_xticks(np.arange(1, grid[1]) * width - 0.5, [])
    axes.set_yticks(np.arange(1, grid[0]) * height - 0.5, [])
    axes.grid(color="#777777", linewidth=0.5)
    axes.tick_params(length=0)
    axes.set_title(title, fontsize=10)


def outline_region(axes: Axes, region: int, grid: Grid, inset: int | float, label: str = "", **style) -> None:
    """Outline a region of the image on `axes`, `inset` pixels inside its border; a label stands in its lower corner."""
    h, w = axes.get_images()[0].get_size()
    height, width, (row, column) = h / grid[0], w / grid[1], divmod(region, grid[1])
    outline_box(axes, (column * width - 0.5, row * height - 0.5), (height, width), inset, label, **style)


def outline_box(axes: Axes, corner: Point, size: Point, inset: int | float, label: str = "", **style) -> None:
    """Outline size = (height, width) pixels below and right of a corner (x, y), as `outline_region` does."""
    (x, y), (height, width) = corner, size
    axes.add_patch(Rectangle((x + inset, y + inset), width - 2 * inset, height - 2 * inset, fill=False, **style))
    if label:
        badge = {"boxstyle": "circle,pad=0.15", "facecolor": style["edgecolor"], "edgecolor": BLACK}
        axes.text(
            x + inset + min(0.4, width / 20),
            y + height - min(0.7, height / 11),
            label,
            fontsize=SMALL,
            va="bottom",
            bbox=badge,
        )


def number_region(axes: Axes, region: int, grid: Grid, number: int) -> None:
    """A small number in the upper right corner of a region of the image on `axes`: its colour stays to be seen."""
    h, w = axes.get_images()[0].get_size()
    height, width, (row, column) = h / grid[0], w / grid[1], divmod(region, grid[1])
    at = (column + 0.96) * width - 0.5, (row + 0.04) * height - 0.5
    badge = {"facecolor": "white", "edgecolor": "none", "pad": 1.2}
    axes.text(*at, str(number), fontsize=SMALL, ha="right", va="top", bbox=badge)


def routed_boards(
    images: Float[Tensor, "b 3 h w"],
    index: Int[Tensor, "b r k"],
    grid: Grid,
    query: Int[Tensor, " b"],
    target: Int[Tensor, " b"],
    titles: Sequence[str],
    question: str = QUESTION,
) -> Picture:
    """The question of the boards, on each the region that asks, those it reads by rank, and that it should read."""
    figure, panels = side_by_side(len(images), (2.9, 3.2))
    told, hits = [], 0
    for board, axes in enumerate(panels):
        show_image(axes, images[board], grid, titles[board])
        asking, answer = int(query[board]), int(target[board])
        read = index[board, asking].tolist()
        for rank, region in enumerate(read, start=1):
            outline_region(axes, region, grid, 0.9, str(rank), **READS)
        outline_region(axes, answer, grid, 0.1, **SHOULD)
        outline_region(axes, asking, grid, 0.1, **ASKS)
        told.append(f"board {board + 1}: region {asking} reads {', '.join(map(str, read))} and should read {answer}")
        hits += answer in read
    name_frames(figure, {"the region that asks": ASKS, "reads, by rank": READS, "should read": SHOULD})
    figure.suptitle(question, fontsize=11)
    alt = f"{question} {len(images)} boards on a {grid[0]} x {grid[1]} grid; on {hits} of them the right region is read"
    return Picture(figure, f"{alt}: {'; '.join(told)}.")


def name_frames(figure: Figure, keys: Mapping[str, dict]) -> None:
    """A legend below the figure: what a frame of each style means."""
    handles = [Rectangle((0, 0), 1, 1, facecolor=BLACK, **style) for style in keys.values()]
    figure.legend(handles, keys, loc="outside lower center", ncols=3, frameon=False, handleheight=1.6)


def region_tables(tables: Mapping[str, Int[Tensor, "r k"]], grid: Grid, region: int) -> Picture:
    """For each table the grid, the asking region (a dot) and the regions that it reads (filled, by rank)."""
    figure, panels = side_by_side(len(tables), (2.3, 2.5))
    told = []
    for axes, (name, table) in zip(panels, tables.items(), strict=True):
        axes.set(xlim=(-0.5, grid[1] - 0.5), ylim=(grid[0] - 0.5, -0.5), aspect="equal", title=name)
        axes.set_xticks(np.arange(grid[1] + 1) - 0.5, [])
        axes.set_yticks(np.arange(grid[0] + 1) - 0.5, [])
        axes.grid(color=BLACK, linewidth=0.6)
        axes.tick_params(length=0)
        for rank, (row, column) in enumerate((divmod(j, grid[1]) for j in table[region].tolist()), start=1):
            axes.add_patch(Rectangle((column - 0.5, row - 0.5), 1, 1, facecolor=SKY, edgecolor=BLACK))
            if table.shape[1] <= 16:
                axes.text(column + 0.4, row - 0.38, rank, ha="right", va="top", fontsize=SMALL)
        axes.plot(region % grid[1], region // grid[1], "o", color=VERMILION, markeredgecolor=BLACK, markersize=7)
        told.append(f"{name}: {' '.join(map(str, table[region].tolist()))}")
    return Picture(figure, f"On a {grid[0]} x {grid[1]} grid, what region {region} reads. {'; '.join(told)}.")


def images(images: Sequence[Float[Tensor, "_ h w"]], titles: Sequence[str], grid: Grid = (1, 1)) -> Picture:
    """Images of one size side by side, -1 black to 1 bright, under a grid."""
    shape = images[0].shape[2] / images[0].shape[1]
    figure, panels = side_by_side(len(images), (2.6 * shape, 2.8))
    for image, axes, title in zip(images, panels, titles, strict=True):
        show_image(axes, image, grid, title)
    return Picture(figure, f"{len(images)} images on a {grid[0]} x {grid[1]} grid: {'; '.join(titles)}.")


def routed_photos(
    image: Float[Tensor, "3 h w"],
    index: Sequence[Int[Tensor, "r _"]] | Int[Tensor, "n r k"],
    grid: Grid,
    query: int,
    titles: Sequence[str],
) -> Picture:
    """The same image once for each routing (r k): the region that asks dotted, the regions that it reads by rank."""
    figure, panels = side_by_side(len(index), (3.9, 2.8))
    told = []
    for axes, read, title in zip(panels, (table[query] for table in index), titles, strict=True):
        show_image(axes, image, grid, title)
        for rank, region in enumerate(read.tolist(), start=1):
            outline_region(axes, region, grid, 5, str(rank), **READS)
        outline_region(axes, query, grid, 0, **ASKS)
        told.append(f"{title}: {', '.join(map(str, read.tolist()))}")
    return Picture(figure, f"An image on a {grid[0]} x {grid[1]} grid; region {query} reads: {'; '.join(told)}.")


def heat_maps(
    image: Float[Tensor, "3 h w"],
    affinity: Float[Tensor, "r r"],
    grid: Grid,
    queries: Sequence[int],
    index: Int[Tensor, "r k"] | None = None,
) -> Picture:
    """The image, and how much each region of `queries` wants to read every region; `index` marks those it reads."""
    figure, (first, *panels) = side_by_side(len(queries) + 1, (4.2, 3.0))
    show_image(first, image, grid, "the image")
    told = []
    for axes, query in zip(panels, queries, strict=True):
        row = affinity[query].reshape(grid)
        colour_bar(axes, axes.imshow(row.numpy(), cmap=HEAT))
        axes.set_title(f"affinity of region {query}", fontsize=10)
        axes.set_xlabel("number of a region: row + column")
        axes.set_xticks(range(grid[1]), [f"+{column}" for column in range(grid[1])])
        axes.set_yticks(range(grid[0]), [str(grid[1] * y) for y in range(grid[0])])
        told.append(f"region {query} (row {query // grid[1]}, column {query % grid[1]}) prefers region {row.argmax()}")
        outline_region(first, query, grid, 2, **ASKS, clip_on=False)  # whole, at the edge of the image too
        number_region(first, query, grid, query)
        outline_region(axes, query, grid, 0.03, **ASKS, clip_on=False)
        for rank, region in enumerate([] if index is None else index[query].tolist(), start=1):
            outline_region(axes, region, grid, 0.1, **READS, clip_on=False)
            number_region(axes, region, grid, rank)
        if index is not None:
            told[-1] += f", reads {' '.join(map(str, index[query].tolist()))}"
    return Picture(figure, f"An image on a {grid[0]} x {grid[1]} grid, with heat maps. {'; '.join(told)}.")


def routed_patches(image: Float[Tensor, "3 h w"], grid: Grid, query: int, index: Int[Tensor, "r k"]) -> Picture:
    """The region that asks, of the image, and beside it, cut out, the regions that it reads."""
    pieces = partition_regions(image.permute(1, 2, 0)[None], grid)[0]
    height, width = image.shape[1] // grid[0], image.shape[2] // grid[1]
    shown = [query, *index[query].tolist()]
    figure, panels = side_by_side(len(shown), (1.4, 1.4 * height / width + TITLE))
    for place, (axes, region) in enumerate(zip(panels, shown, strict=True)):
        piece = pieces[region].reshape(height, width, 3).permute(2, 0, 1)
        show_image(axes, piece, (1, 1), f"{place}. reads {region}" if place else f"region {region}")
    reads = " ".join(map(str, index[query].tolist()))
    return Picture(figure, f"Cut out of the image: region {query}, and the regions that it reads: {reads}.")
