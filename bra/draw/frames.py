"""Where the regions of a view lie on its image: framed, dimmed, or under pseudo-colours.

A map that the grid does not divide is padded below and at the right, so the last regions may reach beyond the image;
of what lies beyond it nothing is drawn.
"""

from collections.abc import Mapping, Sequence

import torch
from jaxtyping import Float
from matplotlib.axes import Axes
from matplotlib.patheffects import withStroke
from torch import Tensor

from bra.draw.picture import BLACK, HEAT, Point
from bra.draw.regions import READS, outline_box, show_grid
from bra.look.views import View
from bra.patterns import Grid

SIDE = 4.0  # inches, the longer side of an image


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


def panel(image: Tensor) -> Point:
    """Width and height of an image's panel, in inches."""
    longer = max(image.shape[1:])
    return SIDE * max(0.5, image.shape[2] / longer), SIDE * max(0.5, image.shape[1] / longer)


def require_region(name: str, region: int, grid: Grid) -> None:
    """Raise ValueError unless the grid has that region."""
    if region not in range(grid[0] * grid[1]):
        raise ValueError(f"{name} must be between 0 and {grid[0] * grid[1] - 1}, but is {region}")
