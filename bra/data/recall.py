"""The built-in task: boards on which we know which region a query must read.

A board is a grid of cells of 8 x 8 pixels. Some cells hold glyphs, each of another shape and another colour.
One more cell holds a plain square, the question, in the colour of one of the glyphs. The label is the shape of that
glyph, the target. Whoever cannot look at it, wherever it lies, can only guess among the shapes not yet excluded.
"""

import math
from dataclasses import dataclass, field
from typing import ClassVar, NamedTuple

import torch
from jaxtyping import Float, Int, UInt8
from torch import Tensor

from bra.data.base import WHOLE, DataSet, derive_seed
from bra.topk import Routes

CELL = 8  # pixels on a cell's side
SHAPES = ("cross", "plus", "ring", "diamond", "bars", "corner", "tee", "zigzag")
BITMAPS = """
##..## ..##.. ###### ..##.. ##..## ##.... ###### ###...
.####. ..##.. ##..## .####. ##..## ##.... ###### ###...
..##.. ###### #....# ###### ##..## ##.... ..##.. .####.
..##.. ###### #....# ###### ##..## ##.... ..##.. .####.
.####. ..##.. ##..## .####. ##..## ###### ..##.. ...###
##..## ..##.. ###### ..##.. ##..## ###### ..##.. ...###
"""
COLOURS = {  # Okabe and Ito's colour-blind-safe palette on black, with white
    "white": (255, 255, 255),
    "orange": (230, 159, 0),
    "sky blue": (86, 180, 233),
    "green": (0, 158, 115),
    "yellow": (240, 228, 66),
    "blue": (0, 114, 178),
    "vermilion": (213, 94, 0),
    "purple": (204, 121, 167),
}
SQUARE = len(SHAPES)  # the square's "shape" in `sprites`
DRAWN_AT_ONCE = 256  # held-out boards: drawn in parts, so that memory stays small
EMPTY = (SQUARE + 1) * len(COLOURS)  # the index of the empty cell in `sprites`


class Boards(NamedTuple):
    """A batch of boards; regions are numbered row by row, as `partition_regions` does on a grid of the cells.

    image: (b 3 h w), about -1 to 1. label: (b), the shape asked for. square, target: (b), the region that asks
    and the region that holds the answer.
    """

    image: Float[Tensor, "b 3 h w"]
    label: Int[Tensor, " b"]
    square: Int[Tensor, " b"]
    target: Int[Tensor, " b"]


def sprites() -> UInt8[Tensor, "sprites 3 8 8"]:
    """Every shape, then the square, in every colour (index: shape * 8 + colour), and last the empty cell."""
    columns = [line.split() for line in BITMAPS.split("\n") if line]
    masks = torch.zeros(SQUARE + 1, CELL, CELL)
    for shape in range(SQUARE):
        rows = [line[shape] for line in columns]
        masks[shape, 1:-1, 1:-1] = torch.tensor([[pixel == "#" for pixel in row] for row in rows])
    masks[SQUARE, 1:-1, 1:-1] = 1
    colours = torch.tensor(list(COLOURS.values()))
    painted = masks[:, None, None] * colours[None, :, :, None, None]  # shape colour rgb y x
    return torch.cat([painted.flatten(0, 1), torch.zeros(1, 3, CELL, CELL)]).to(torch.uint8)


@dataclass(frozen=True)
class Recall:
    """The task and its difficulty.

    cells: cells on a side of the board. glyphs: how many lie on it, 1 to 8. noise: standard deviation of the
    normal noise added to every pixel, in units of the range -1 to 1.
    Raises ValueError for values outside these, or a board too small for its glyphs and the square.
    """

    cells: int = 4
    glyphs: int = 4
    noise: float = 0.1

    def __post_init__(self):
        if not 1 <= self.glyphs <= len(SHAPES):
            raise ValueError(f"glyphs must be between 1 and {len(SHAPES)}, but is {self.glyphs}")
        if self.cells**2 < self.glyphs + 1:
            least = math.isqrt(self.glyphs) + 1
            raise ValueError(
                f"cells must be at least {least} for {self.glyphs} glyphs and the square, but is {self.cells}"
            )
        if not 0 <= self.noise < math.inf:
            raise ValueError(f"noise must be at least 0 and finite, but is {self.noise}")

    def sample(self, count: int, seed: int) -> Boards:
        """`count` boards, all at once; the same seed gives the same boards."""
        draw = torch.Generator().manual_seed(seed)

        def distinct(things: int, of: int) -> Int[Tensor, "b things"]:
            return torch.rand(count, of, generator=draw).argsort(dim=1)[:, :things]

        place = distinct(self.glyphs + 1, self.cells**2)  # the first is the target's, the last one the square's
        shape, colour = distinct(self.glyphs, len(SHAPES)), distinct(self.glyphs, len(COLOURS))
        glyph = shape * len(COLOURS) + colour
        square = SQUARE * len(COLOURS) + colour[:, :1]
        board = torch.full((count, self.cells**2), EMPTY).scatter(1, place, torch.cat([glyph, square], dim=1))
        image = self.paint(board)
        if self.noise:
            image.add_(torch.randn(image.shape, generator=draw), alpha=self.noise)
        return Boards(image, shape[:, 0], place[:, -1], place[:, 0])

    def paint(self, board: Int[Tensor, "b cells"]) -> Float[Tensor, "b 3 h w"]:
        """The picture of each board, from the sprite index of each cell: -1 is black, 1 is full brightness."""
        pictures = (sprites() / 127.5 - 1)[board]  # b cells rgb y x
        pictures = pictures.unflatten(1, (self.cells, self.cells))
        return pictures.permute(0, 3, 1, 4, 2, 5).flatten(4, 5).flatten(2, 3).contiguous()


@dataclass(frozen=True)
class RecallBoards(DataSet):
    """Fresh boards for every step; `held_out_count` others, the same for every run, are held out."""

    task: Recall
    held_out_count: int = 4096
    damaged: list[str] = field(default_factory=list, init=False)  # stays empty
    count: ClassVar = math.inf
    classes: ClassVar = list(SHAPES)
    channels: ClassVar = 3
    steps: ClassVar = 500
    question: ClassVar = "Which shape has the colour of the plain square?"
    asker: ClassVar = "the plain square"
    at_once: ClassVar = DRAWN_AT_ONCE

    @property
    def image_bytes(self) -> int:
        """Of a board of floats."""
        return 4 * 3 * (CELL * self.task.cells) ** 2

    def training(self, size, seed, start, shard=WHOLE):
        mine = shard.part(size)
        while True:  # every shard draws the whole batch: what a board holds depends on how many are drawn with it
            boards = self.task.sample(size, derive_seed("recall", seed, start))
            yield Boards(*(value[mine] for value in boards))
            start += 1

    def held_out(self, size, shard=WHOLE):
        for first in range(0, self.held_out_count, DRAWN_AT_ONCE):
            count = min(DRAWN_AT_ONCE, self.held_out_count - first)
            part = self.task.sample(count, derive_seed("recall held out", first))
            mine = slice((shard.rank - first) % shard.world_size, None, shard.world_size)
            for batch in zip(*(value[mine].split(size) for value in part), strict=True):
                if len(batch[0]):  # the last part may be too short for every shard
                    yield Boards(*batch)


WAYS = ("none", "direct", "common reader", "second hand")  # how news of the target may meet the question


def news_ways(routes: list[Routes], boards: Boards) -> Int[Tensor, " b"]:
    """For each board a number in WAYS: how question and answer can meet along the routes, the first of these ways.

    Direct: in some block the square's region reads the target's or the other way round. Common reader: in some block a
    third region reads both. Second hand: after all blocks some region has heard of both, by reading regions that had
    read them before. None: no region has.
    """
    boards_, regions = len(boards.square), routes[0].index.shape[1]
    board = torch.arange(boards_, device=boards.square.device)
    heard = torch.eye(regions, device=board.device).expand(boards_, -1, -1)  # b r r: region i has heard of region j
    direct = torch.zeros(boards_, dtype=torch.bool, device=board.device)
    shared = direct.clone()
    for index, _ in routes:
        reads = torch.zeros_like(heard, memory_format=torch.contiguous_format).scatter(2, index, 1.0)
        direct |= (reads[board, boards.square, boards.target] + reads[board, boards.target, boards.square]) > 0
        shared |= (reads[board, :, boards.square] * reads[board, :, boards.target]).any(dim=1)
        heard = ((heard + reads @ heard) > 0).float()
    both = (heard[board, :, boards.square] * heard[board, :, boards.target]).any(dim=1)
    way = torch.where(both, WAYS.index("second hand"), WAYS.index("none"))
    way[shared] = WAYS.index("common reader")
    way[direct] = WAYS.index("direct")
    return way


def hit_rates(routes: list[Routes], boards: Boards) -> dict[str, list[float]]:
    """For each block, how often the right regions meet.

    hit_rate: the share of boards on which the square's region routes to the target's. reverse_hit_rate: the share
    on which the target's region routes to the square's, the other way for an answer to travel.
    Raises ValueError if the routes have not one region a cell.
    """
    cells = boards.image.shape[-2] * boards.image.shape[-1] // CELL**2
    for block, regions in enumerate(r.index.shape[1] for r in routes):
        if regions != cells:
            raise ValueError(f"routes must have one region a cell, {cells}, but block {block} has {regions}")
    board = torch.arange(len(boards.square), device=boards.square.device)

    def met(reader: Tensor, read: Tensor) -> list[float]:
        return [(r.index[board, reader] == read[:, None]).any(dim=1).double().mean().item() for r in routes]

    return {"hit_rate": met(boards.square, boards.target), "reverse_hit_rate": met(boards.target, boards.square)}
