import itertools

import numpy as np
import pytest
import torch

from bra.data import Shard
from bra.data.recall import CELL, SHAPES, SQUARE, Boards, Recall, RecallBoards, sprites
from bra.data.recall_where import RecallBoxes, RecallPixels, box, box_boards, mark, mark_boards

TASKS = [Recall(noise=0.0), Recall(cells=5, glyphs=7, noise=0.0), Recall(cells=3, glyphs=8, noise=0.0)]
KINDS = {"pixels": RecallPixels, "boxes": RecallBoxes}


def bright(image, cell):
    """Which pixels (y, x) of a board without noise are not black in one cell, one pixel after the other."""
    cells = image.shape[2] // CELL
    row, column = divmod(int(cell), cells)
    inside = itertools.product(range(row * CELL, (row + 1) * CELL), range(column * CELL, (column + 1) * CELL))
    return {(y, x) for y, x in inside if image[:, y, x].max() > -1}


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_marked_is_what_is_painted_in_the_targets_cell(task):
    boards = task.sample(17, seed=3)
    marks = mark(boards)
    assert marks.shape == (17, 8 * task.cells, 8 * task.cells) and marks.unique().tolist() == [0, 1]
    for image, found, target in zip(boards.image, marks, boards.target, strict=True):
        assert set(map(tuple, found.nonzero().tolist())) == bright(image, target)


@pytest.mark.parametrize("task", TASKS, ids=str)
def test_boxes_are_tight_and_end_just_beyond_the_marks(task):
    boards = task.sample(17, seed=4)
    for (left, top, right, bottom), image, target in zip(
        box_boards(boards).boxes[:, 0].tolist(), boards.image, boards.target, strict=True
    ):
        rows, columns = zip(*bright(image, target), strict=True)
        assert (left, top, right, bottom) == (min(columns), min(rows), max(columns) + 1, max(rows) + 1)


def test_a_box_of_one_pixel_and_one_of_all():
    marks = torch.zeros(3, 5, 7, dtype=torch.long)
    marks[0, 4, 6] = marks[1, 0, 0] = marks[2, 1:5, 0:7:3] = 1
    assert box(marks).tolist() == [[6, 4, 7, 5], [0, 0, 1, 1], [0, 1, 7, 5]]


def test_every_shape_is_marked_as_its_sprite_whatever_its_colour():
    boards = Recall(cells=4, glyphs=8).sample(200, seed=0)
    shapes = np.array([s[0] > 0 for s in sprites()[: SQUARE * 8 : 8].numpy()])  # in white
    for found, label, target in zip(mark(boards).numpy(), boards.label.tolist(), boards.target.tolist(), strict=True):
        y, x = CELL * (target // 4), CELL * (target % 4)
        np.testing.assert_array_equal(found[y : y + CELL, x : x + CELL], shapes[label])
    assert set(boards.label.tolist()) == set(range(len(SHAPES)))


def test_what_boards_say_beside_the_marks():
    boards = Recall(cells=5).sample(3, seed=1)
    for turned in (mark_boards(boards), box_boards(boards)):
        assert all(torch.equal(getattr(turned, name), getattr(boards, name)) for name in ("image", "square", "target"))
    boxed = box_boards(boards)
    assert boxed.size.tolist() == [[40, 40]] * 3 and boxed.label.tolist() == [[1]] * 3
    assert boxed.masks.shape == (3, 1, 0, 0) and boxed.masks.dtype == torch.bool and not boxed.crowd.any()
    height, width = (boxed.boxes[:, :, i + 2] - boxed.boxes[:, :, i] for i in (1, 0))
    assert torch.equal(boxed.area, height * width)


def equal(a, b):
    return type(a) is type(b) and all(torch.equal(x, y) for x, y in zip(a, b, strict=True))


@pytest.mark.parametrize("kind", KINDS)
def test_batches_are_those_of_recall_a_function_of_seed_and_step(kind):
    data, turn = KINDS[kind](Recall()), {"pixels": mark_boards, "boxes": box_boards}[kind]
    batches = list(itertools.islice(data.training(6, 5, 0), 3))
    plain = itertools.islice(RecallBoards(Recall()).training(6, 5, 0), 3)
    assert all(equal(found, turn(boards)) for found, boards in zip(batches, plain, strict=True))
    assert equal(next(data.training(6, 5, 2)), batches[2]) and not equal(next(data.training(6, 4, 2)), batches[2])
    shards = [next(data.training(6, 5, 1, Shard(rank, 2))) for rank in range(2)]
    assert equal(type(batches[1])(*map(torch.cat, zip(*shards, strict=True))), batches[1])


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("of", [1, 3])
def test_every_held_out_board_comes_once(kind, of):
    data = KINDS[kind](Recall(), held_out_count=23)
    expected = next(RecallBoards(Recall(), held_out_count=23).held_out(23)).image
    found = [batch.image for rank in range(of) for batch in data.held_out(5, Shard(rank, of))]
    assert max(map(len, found)) == 5 and sum(map(len, found)) == 23
    assert {image.sum().item() for image in torch.cat(found)} == {image.sum().item() for image in expected}


def test_what_is_asked():
    pixels, boxes, plain = RecallPixels(Recall()), RecallBoxes(Recall()), RecallBoards(Recall())
    assert [data.asks for data in (plain, pixels, boxes)] == ["classes", "pixels", "boxes"]
    assert pixels.scored == (1,) and pixels.classes[1] == boxes.classes[0] == "asked glyph"
    assert (pixels.held_out_count, boxes.held_out_count, pixels.steps, boxes.steps) == (4096, 1024, 400, 400)
    assert isinstance(next(plain.held_out(1)), Boards)
