"""The boards again, asking where: mark the pixels, or give the box, of the glyph in the colour of the square.

Now the glyph's region must know the square's colour: the *target* asks, and the square has the answer. So the hit rate
is the share of boards on which the target's region routes to the square's.
"""

from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor

from bra.data.base import WHOLE
from bra.data.recall import CELL, COLOURS, SQUARE, Boards, RecallBoards, sprites

MARKED = "asked glyph"


class MarkedBoards(NamedTuple):
    """Boards and their marks: label (b h w) is 1 on the pixels of the glyph that is asked for, 0 elsewhere.

    square, target: as in `Boards`.
    """

    image: Float[Tensor, "b 3 h w"]
    label: Int[Tensor, "b h w"]
    square: Int[Tensor, " b"]
    target: Int[Tensor, " b"]


class BoxedBoards(NamedTuple):
    """Boards and the box of the glyph that is asked for: one object an image, in the form of every detection batch.

    size: height, width. label: 1, the only category. boxes: left, top, right, bottom, in pixels, the last two just
    beyond the glyph. masks: (b n 0 0), none.
    """

    image: Float[Tensor, "b 3 h w"]
    size: Int[Tensor, "b 2"]
    label: Int[Tensor, "b n"]
    boxes: Float[Tensor, "b n 4"]
    masks: Bool[Tensor, "b n y x"]
    crowd: Bool[Tensor, "b n"]
    area: Float[Tensor, "b n"]
    square: Int[Tensor, " b"]
    target: Int[Tensor, " b"]


def mark(boards: Boards) -> Int[Tensor, "b h w"]:
    """1 on the pixels of the glyph that is asked for, 0 elsewhere."""
    b, _, h, w = boards.image.shape
    glyphs = sprites()[: SQUARE * len(COLOURS) : len(COLOURS), 0] > 0  # shape y x, of the white ones
    cells = torch.zeros(b, (h // CELL) * (w // CELL), CELL, CELL, dtype=torch.long)
    cells[torch.arange(b), boards.target] = glyphs[boards.label].long()
    return cells.unflatten(1, (h // CELL, w // CELL)).transpose(2, 3).reshape(b, h, w)


def box(marks: Int[Tensor, "b h w"]) -> Float[Tensor, "b 4"]:
    """Left, top, right and bottom of what is marked; right and bottom are just beyond it."""
    sides = []
    for along in (1, 2):  # marked columns, marked rows
        there = marks.amax(dim=along)
        sides += [there.argmax(dim=1), there.shape[1] - there.flip(1).argmax(dim=1)]
    left, right, top, bottom = sides
    return torch.stack([left, top, right, bottom], dim=1).float()


def box_boards(boards: Boards) -> BoxedBoards:
    """The boards with the box of the glyph that is asked for."""
    b, _, h, w = boards.image.shape
    boxes = box(mark(boards))[:, None]
    area = (boxes[..., 2:] - boxes[..., :2]).prod(dim=2)
    size, one = torch.tensor([[h, w]]).expand(b, 2), torch.ones(b, 1, dtype=torch.long)
    return BoxedBoards(
        boards.image, size, one, boxes, one.bool()[..., None, None][..., :0, :0], one == 0, area, *boards[2:]
    )


def mark_boards(boards: Boards) -> MarkedBoards:
    """The boards with their marks."""
    return MarkedBoards(boards.image, mark(boards), *boards[2:])


@dataclass(frozen=True)
class RecallPixels(RecallBoards):
    """Mark the pixels of the glyph that has the square's colour."""

    asks: ClassVar = "pixels"
    question: ClassVar = "Which pixels are those of the glyph that has the colour of the plain square?"
    asker: ClassVar = "the glyph that has the colour of the plain square"
    classes: ClassVar = ["the rest", MARKED]
    scored: ClassVar = (1,)
    steps: ClassVar = 400

    def training(self, size, seed, start, shard=WHOLE):
        yield from map(mark_boards, super().training(size, seed, start, shard))

    def held_out(self, size, shard=WHOLE):
        yield from map(mark_boards, super().held_out(size, shard))


@dataclass(frozen=True)
class RecallBoxes(RecallBoards):
    """Find the box of the glyph that has the square's colour."""

    held_out_count: int = 1024
    asks: ClassVar = "boxes"
    question: ClassVar = "Where is the glyph that has the colour of the plain square?"
    asker: ClassVar = "the glyph that has the colour of the plain square"
    classes: ClassVar = [MARKED]
    steps: ClassVar = 400

    def training(self, size, seed, start, shard=WHOLE):
        yield from map(box_boards, super().training(size, seed, start, shard))

    def held_out(self, size, shard=WHOLE):
        yield from map(box_boards, super().held_out(size, shard))
