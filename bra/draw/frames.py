"""Where the regions of a `View` lie on its image: framed, dimmed, or under pseudo-colours.

A map that the grid does not divide is padded below and at the right, so the last regions may reach beyond the image;
of what lies beyond it nothing is drawn.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from torch import Tensor

from bra.draw.picture import BLACK, HEAT, SMALL, Point
from bra.draw.regions import READS, outline_box, show_grid
from bra.look.views import View
from bra.patterns import Grid

SIDE = 3.4  # inches, the longer side of an image: two stand side by side


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
            shown = label if points > 1.6 * SMALL else ""  # smaller regions have no room for what can be read
            outline_box(axes, corner, size, inset * min(size), shown, **scaled(style, points))


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
    (down, across), (row, column, height, width) = pixels_a_token(view, image), view.box(region)
    return (column * across - 0.5, row * down - 0.5), (height * down, width * across)


def pixels_a_token(view: View, image: Sequence[int]) -> tuple[float, float]:
    """Height and width of a token of the map on an image of (height, width) pixels."""
    return image[0] / view.size[0], image[1] / view.size[1]


def owners(view: View, size: Sequence[int]) -> Tensor:
    """(h w), the region of every pixel of an image of that size."""
    row, column = (
        ((torch.arange(n) + 0.5) / pixels).long() for n, pixels in zip(size, pixels_a_token(view, size), strict=True)
    )
    return view.owners()[row[:, None], column]


def dimmed(image: Float[Tensor, "3 h w"], view: View, bright: set[int]) -> Float[Tensor, "3 h w"]:
    """The image, a little darker outside some regions."""
    inside = torch.isin(owners(view, image.shape[1:]), torch.tensor(sorted(bright)))
    return torch.where(inside, image, 0.55 * (image + 1) - 1)


def listed(read: Mapping[int, int]) -> str:
    """The regions that are read, best first."""
    return ", ".join(map(str, read))


def panel(image: Tensor) -> Point:
    """Width and height of an image's panel, in inches."""
    longer = max(image.shape[1:])
    return SIDE * max(0.5, image.shape[2] / longer), SIDE * max(0.5, image.shape[1] / longer)


def require_region(name: str, region: int, grid: Grid) -> None:
    """Raise ValueError unless the grid has that region."""
    if region not in range(grid[0] * grid[1]):
        raise ValueError(f"{name} must be between 0 and {grid[0] * grid[1] - 1}, but is {region}")
