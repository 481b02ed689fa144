"""What every figure is: a matplotlib figure with its alternative text; and the one palette."""

import io
from dataclasses import dataclass
from pathlib import Path

from matplotlib.figure import Figure

# Okabe and Ito's palette; whatever has a colour here also differs in line style, hatch, number or label
BLACK, ORANGE, SKY, GREEN, YELLOW, BLUE, VERMILION, PURPLE = (
    "#000000", "#E69F00", "#56B4E9", "#009E73", "#F0E442", "#0072B2", "#D55E00", "#CC79A7",
)  # fmt: skip
LINES = (("o-", BLUE), ("s--", VERMILION), ("^:", GREEN), ("d-.", PURPLE), ("v-", BLACK), ("x--", ORANGE))
Point = tuple[int | float, int | float]
HEAT = "cividis"  # even steps of lightness: it reads in greyscale, and with any kind of colour vision


@dataclass(frozen=True)
class Picture:
    """A figure and its alternative text. The last expression of a cell, it is shown with both."""

    figure: Figure
    alt: str

    def png(self) -> bytes:
        """The figure as the content of a PNG file, the alternative text among its metadata."""
        buffer = io.BytesIO()
        self.figure.savefig(buffer, format="png", dpi=100, bbox_inches="tight", metadata={"Description": self.alt})
        return buffer.getvalue()

    def save(self, path: Path) -> None:
        """Write the figure as a PNG file."""
        path.write_bytes(self.png())

    def _repr_mimebundle_(self, include=None, exclude=None):
        """For Jupyter: the picture, its alternative text beside it."""
        return {"image/png": self.png()}, {"image/png": {"alt": self.alt}}

    def __repr__(self):
        return f"Picture: {self.alt}"


def count(number: int, thing: str) -> str:
    """1 region, 2 regions."""
    return f"{number} {thing}{'' if number == 1 else 's'}"
