import pytest
import torch

import bra
from bra.data.recall import CELL, COLOURS, EMPTY, SHAPES, SQUARE, Boards, Recall, hit_rates, sprites


def read_board(task, image):
    """What stands in each cell, read off the picture itself: the index of the sprite that fits best."""
    known = (sprites() / 127.5 - 1).flatten(1)
    cells = bra.partition_regions(image.permute(1, 2, 0)[None], (task.cells, task.cells))[0]
    return torch.cdist(cells.transpose(1, 2).flatten(1), known).argmin(dim=1).tolist()


@pytest.mark.parametrize("task", [Recall(), Recall(cells=5, glyphs=7, noise=0.2), Recall(cells=3, glyphs=8, noise=0.0)])
def test_the_picture_says_what_the_answer_says(task):
    boards = task.sample(64, seed=3)
    assert boards.image.shape == (64, 3, task.cells * CELL, task.cells * CELL)
    for image, label, query, target in zip(*boards, strict=True):
        board = read_board(task, image)
        shape, colour = divmod(board[target], len(COLOURS))
        assert shape == label, "the target must show the shape asked for"
        assert board[query] == SQUARE * len(COLOURS) + colour, "the query must be a square in the target's colour"
        glyphs = [cell for i, cell in enumerate(board) if cell != EMPTY and i != query]
        assert len(glyphs) == task.glyphs
        assert len({g // len(COLOURS) for g in glyphs}) == len({g % len(COLOURS) for g in glyphs}) == task.glyphs


def test_nothing_but_the_colours_gives_the_answer_away():
    boards = Recall().sample(20_000, seed=0)
    for name, sides in (("label", len(SHAPES)), ("query", 16), ("target", 16)):
        share = getattr(boards, name).bincount(minlength=sides) / 20_000
        assert (share - 1 / sides).abs().max() < 0.01, f"{name} must be uniform"
    together = (boards.square * 16 + boards.target).bincount(minlength=256).view(16, 16)
    assert together.diagonal().sum() == 0
    assert (together[~torch.eye(16, dtype=torch.bool)] / 20_000 - 1 / 240).abs().max() < 0.002


def test_the_seed_decides():
    task = Recall()
    assert torch.equal(task.sample(9, 1).image, task.sample(9, 1).image)
    assert not torch.equal(task.sample(9, 1).label, task.sample(9, 2).label)


def test_sprites_are_distinct_shapes_within_their_border():
    masks = sprites()[::8].amax(dim=1).bool()[: SQUARE + 1]  # in white
    assert len({tuple(m.flatten().tolist()) for m in masks}) == SQUARE + 1
    inner = torch.zeros(CELL, CELL, dtype=torch.bool)
    inner[1:-1, 1:-1] = True
    assert not masks[:, ~inner].any(), "no glyph may touch its cell's border"
    assert (sprites()[EMPTY] == 0).all()


def test_hit_rates_by_hand():
    index = torch.tensor([[[1, 2], [2, 3], [3, 0], [2, 1]]] * 2)
    routes = bra.Routes(index, torch.zeros(2, 4, 4))
    image, label = torch.zeros(2, 3, 16, 16), torch.zeros(2)

    def rates(query, target):
        return hit_rates([routes], Boards(image, label, torch.tensor(query), torch.tensor(target)))

    assert rates([0, 1], [2, 2]) == {"hit_rate": [1.0], "reverse_hit_rate": [0.5]}
    assert rates([0, 0], [1, 1]) == {"hit_rate": [1.0], "reverse_hit_rate": [0.0]}
    assert rates([1, 1], [0, 3]) == {"hit_rate": [0.5], "reverse_hit_rate": [1.0]}


def test_says_what_is_wrong():
    for glyphs in (0, 9):
        with pytest.raises(ValueError, match=f"glyphs must be between 1 and 8, but is {glyphs}"):
            Recall(glyphs=glyphs)
    with pytest.raises(ValueError, match=r"cells must be at least 3 for 4 glyphs and the query, but is 2"):
        Recall(cells=2)
    with pytest.raises(ValueError, match=r"noise must be at least 0 and finite, but is -0\.1"):
        Recall(noise=-0.1)
    with pytest.raises(ValueError, match="noise must be at least 0 and finite, but is inf"):
        Recall(noise=float("inf"))
    routes = bra.Routes(torch.zeros(1, 9, 2, dtype=torch.int64), torch.zeros(1, 9, 9))
    with pytest.raises(ValueError, match="routes must have one region a cell, 16, but block 0 has 9"):
        hit_rates([routes], Recall().sample(1, 0))
