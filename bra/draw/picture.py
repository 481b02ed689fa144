"""What every figure is: a matplotlib figure with its alternative text; how large it is shown; and the one palette."""

import io
import math
from dataclasses import dataclass
from pathlib import Path

from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from matplotlib.text import Text

# Okabe and Ito's palette; whatever has a colour here also differs in line style, hatch, number or label
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
LINES = (("o-", BLUE), ("s--", VERMILION), ("^:", GREEN), ("d-.", PURPLE), ("v-", BLACK), ("x--", ORANGE))
Point = tuple[int | float, int | float]
HEAT = "cividis"  # even steps of lightness: it reads in greyscale, and with any kind of colour vision

COLUMN = 688  # CSS pixels: the book's column of text at 1280, JupyterLab's is wider; what is wider is scaled down
DOTS = 100  # pixels an inch of a figure
PAGE = 6.75  # inches, with the rim of the file less than the column: the widest figure that is shown as it is
SMALL = 9  # points, the smallest text: it is shown a little larger, see `smallest_text`
WHOLE = {"integer": True, "steps": [1, 2, 5, 10]}  # ticks of an axis on which only whole numbers mean something
EXPONENT = 0.7  # matplotlib's size of an exponent, of the text's


@dataclass(frozen=True)
class Picture:
    """A figure and its alternative text. The last expression of a cell, it is shown with both."""

    figure: Figure
    alt: str

    def png(self) -> bytes:
        """The figure as the content of a PNG file on white, the alternative text among its metadata."""
        buffer = io.BytesIO()
        looks = {"dpi": DOTS, "bbox_inches": "tight", "facecolor": "white"}  # dark pages would swallow black text
        self.figure.savefig(buffer, format="png", metadata={"Description": self.alt}, **looks)
        return buffer.getvalue()

    def save(self, path: Path) -> None:
        """Write the figure as a PNG file."""
        path.write_bytes(self.png())

    def _repr_mimebundle_(self, include=None, exclude=None):
        """For Jupyter: the picture, beside it its alternative text and the size of its smallest text."""
        png = self.png()
        told = {"alt": self.alt, "smallest_text": round(smallest_text(self.figure, width(png)), 2)}
        return {"image/png": png}, {"image/png": told}

    def __repr__(self):
        return f"Picture: {self.alt}"


def width(png: bytes) -> int:
    """Of a PNG file, in pixels: a browser shows a pixel as one of CSS, where the page is wide enough."""
    return int.from_bytes(png[16:20], "big")


def smallest_text(figure: Figure, pixels: int) -> float:
    """The smallest text of a figure that has been drawn, in points (CSS: 72 are 96 pixels) as a page shows it.

    A text of p points has p / 72 * DOTS pixels, and 72 / 96 points for each as far as the page shows them in full:
    shown = p * DOTS / 96 * min(1, COLUMN / pixels), with the figure's width in pixels. inf for one without text.
    """
    texts = [text for text in figure.findobj(Text) if text.get_visible() and text.get_text().strip()]
    sizes = [text.get_fontsize() * (EXPONENT if "^" in text.get_text() else 1) for text in texts]
    return min(sizes, default=math.inf) * DOTS / 96 * min(1, COLUMN / pixels)


def colour_bar(axes: Axes, image: AxesImage) -> None:
    """What the shades of an image on `axes` mean, beside it."""
    axes.figure.colorbar(image, cax=axes.inset_axes((1.03, 0, 0.04, 1))).ax.tick_params(labelsize=SMALL)


def count(number: int, thing: str) -> str:
    """1 region, 2 regions."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
