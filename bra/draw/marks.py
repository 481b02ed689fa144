"""What a network says of pixels and of objects: marks and boxes on images."""

from collections.abc import Sequence

import numpy as np
from jaxtyping import Bool, Float, Int
from matplotlib.axes import Axes
from matplotlib.collections import LineCollection
from matplotlib.patches import Patch
from matplotlib.patheffects import withStroke
from torch import Tensor

from bra.data.base import IGNORED
from bra.draw.picture import BLACK, BLUE, GREEN, ORANGE, PAGE, PURPLE, SKY, VERMILION, YELLOW, Picture, count
from bra.draw.regions import ASKS, READS, SHOULD, in_colour, name_frames, routed_boards, show_image, side_by_side
from bra.patterns import Grid

QUESTION = "Mark the glyph that has the colour of the plain square."
RIM = [withStroke(linewidth=4.5, foreground=BLACK)]
MARKED = {"edgecolor": YELLOW, "linestyle": "-", "linewidth": 2, "path_effects": RIM}
FILLS = (SKY, ORANGE, GREEN, VERMILION, BLUE, YELLOW, PURPLE)
HATCHES = ("", "//", "..", "xx", "\\\\", "oo", "--")  # in greyscale a class is known by them
MOST = 7  # classes that are told apart in one figure


def outline_mask(axes: Axes, mask: Bool[Tensor, "h w"], **style) -> None:
    """Lines along the borders of the pixels of a mask."""
    padded = np.pad(mask.numpy(), 1).astype(np.int8)
    lines = []
    for axis in (0, 1):
        for row, column in np.argwhere(np.diff(padded, axis=axis)):
            x, y = column - 1.5, row - 1.5  # of the pixel before the border, its upper left corner
            start, end = ((x, y + 1), (x + 1, y + 1)) if axis == 0 else ((x + 1, y), (x + 1, y + 1))
            lines.append([start, end])
    add_lines(axes, lines, **style)


def outline_boxes(axes: Axes, boxes: Float[Tensor, "n 4"], **style) -> None:
    """Boxes of left, top, right, bottom; the last two lie just beyond."""
    corners = [[(x, y), (z, y), (z, w), (x, w), (x, y)] for x, y, z, w in (boxes - 0.5).tolist()]
    add_lines(axes, corners, **style)


def add_lines(axes: Axes, lines: list, edgecolor: str, **style) -> None:
    """Lines in the style of a frame."""
    axes.add_collection(LineCollection(lines, colors=edgecolor, **style), autolim=False)


def outline(axes: Axes, found: Tensor, **style) -> None:
    """A mask (h w) or boxes (n 4)."""
    (outline_boxes if found.is_floating_point() else outline_mask)(axes, found, **style)


def marked_boards(
    images: Float[Tensor, "b 3 h w"],
    index: Int[Tensor, "b r k"],
    grid: Grid,
    target: Int[Tensor, " b"],
    square: Int[Tensor, " b"],
    found: Sequence[Tensor],
    titles: Sequence[str],
) -> Picture:
    """Boards of which the *target* must read the square, and what the network marks: masks (h w) or boxes (n 4)."""
    picture = routed_boards(images, index, grid, target, square, titles, QUESTION)
    for axes, marks in zip(picture.figure.axes, found, strict=True):
        outline(axes, marks, **MARKED)
    (legend,) = picture.figure.legends
    legend.remove()
    names = "the right glyph", "it reads, by rank", "the square: it should read it", "is marked"
    name_frames(picture.figure, dict(zip(names, (ASKS, READS, SHOULD, MARKED), strict=True)))
    return Picture(picture.figure, f"{picture.alt[:-1]}. What the network marks is outlined: {'; '.join(titles)}.")


def class_maps(image: Float[Tensor, "3 h w"], maps: dict[str, Int[Tensor, "h w"]], classes: Sequence[str]) -> Picture:
    """An image, and beside it named maps of the class of each pixel; the classes that are most are told apart."""
    figure, (first, *panels) = side_by_side(1 + len(maps), (4.2 * image.shape[2] / max(image.shape[1:]), 3.4))
    show_image(first, image, (1, 1), "the image")
    everywhere = np.concatenate([said[said != IGNORED].numpy().ravel() for said in maps.values()])
    most = np.bincount(everywhere, minlength=len(classes)).argsort()[::-1][:MOST]
    shown = [int(c) for c in most if (everywhere == c).any()]
    grey = in_colour(image).mean(dim=0, keepdim=True)
    told = []
    for axes, (name, said) in zip(panels, maps.items(), strict=True):
        show_image(axes, grey, (1, 1), name)
        for place, c in enumerate(shown):
            levels, there = [0.5, 1.5], (said == c).numpy()
            if there.any() and place:  # the most frequent one stays as it is
                looks = {"colors": [FILLS[place - 1]], "alpha": 0.55, "hatches": [HATCHES[place - 1]]}
                axes.contourf(there.astype(float), levels=levels, **looks)
        told.append(f"{name}: " + ", ".join(f"{classes[c]} {(said == c).float().mean():.0%}" for c in shown))
    keys = [Patch(facecolor="white", edgecolor=BLACK)]
    keys += [Patch(facecolor=f, hatch=h, edgecolor=BLACK) for f, h in zip(FILLS, HATCHES, strict=True)]
    names = [classes[c] for c in shown]
    columns = int(PAGE * 72 / (6 * max(map(len, names), default=0) + 50))  # 6 points a letter, and the patch
    figure.legend(keys[: len(shown)], names, loc="outside lower center", ncols=max(1, min(4, columns)), frameon=False)
    return Picture(figure, f"An image and the classes of its pixels. {'; '.join(told)}.")


def boxed(image: Float[Tensor, "3 h w"], found: dict[str, Float[Tensor, "n 4"]]) -> Picture:
    """The same image once for each name, with its boxes."""
    figure, panels = side_by_side(len(found), (4.6 * image.shape[2] / max(image.shape[1:]), 3.6))
    for axes, (name, boxes) in zip(panels, found.items(), strict=True):
        show_image(axes, image, (1, 1), f"{name}: {count(len(boxes), 'object')}")
        outline_boxes(axes, boxes, **MARKED)
    told = ", ".join(f"{name} {count(len(boxes), 'object')}" for name, boxes in found.items())
    return Picture(figure, f"An image with boxes around objects: {told}.")
