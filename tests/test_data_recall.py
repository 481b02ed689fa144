import pytest
import torch

import bra
from bra.data.recall import CELL, COLOURS, EMPTY, SHAPES, SQUARE, WAYS, Boards, Recall, hit_rates, news_ways, sprites


def read_board(task, image):
    """What stands in each cell, read off the picture itself: the index of the sprite that fits best."""
    known = (sprites() / 127.5 - 1).flatten(1)
    cells = bra.partition_regions(image.permute(1, 2, 0)[None], (task.cells, task.cells))[0]
    return torch.cdist(cells.transpose(1, 2).flatten(1), known).argmin(dim=1).tolist()


@pytest.mark.parametrize("task", [Recall(), Recall(cells=5, glyphs=7, noise=0.2), Recall(cells=3, glyphs=8, noise=0.0)])
def test_the_picture_says_what_the_answer_says(task):
    boards = task.sample(64, seed=3)
    assert boards.image.shape == (64, 3, task.cells * CELL, task.cells * CELL)
    for image, label, square, target in zip(*boards, strict=True):
        board = read_board(task, image)
        shape, colour = divmod(board[target], len(COLOURS))
        assert shape == label, "the target must show the shape asked for"
        assert board[square] == SQUARE * len(COLOURS) + colour, "the question must be a square in the target's colour"
        glyphs = [cell for i, cell in enumerate(board) if cell != EMPTY and i != square]
        assert len(glyphs) == task.glyphs
        assert len({g // len(COLOURS) for g in glyphs}) == len({g % len(COLOURS) for g in glyphs}) == task.glyphs


def test_nothing_but_the_colours_gives_the_answer_away():
    boards = Recall().sample(20_000, seed=0)
    for name, sides in (("label", len(SHAPES)), ("square", 16), ("target", 16)):
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

    def rates(square, target):
        return hit_rates([routes], Boards(image, label, torch.tensor(square), torch.tensor(target)))

    assert rates([0, 1], [2, 2]) == {"hit_rate": [1.0], "reverse_hit_rate": [0.5]}
    assert rates([0, 0], [1, 1]) == {"hit_rate": [1.0], "reverse_hit_rate": [0.0]}
    assert rates([1, 1], [0, 3]) == {"hit_rate": [0.5], "reverse_hit_rate": [1.0]}


def test_by_which_way_question_and_answer_meet():
    first = torch.tensor([[0, 1], [1, 1], [2, 2], [3, 3], [4, 4], [5, 5]])  # region 0 reads 1
    second = torch.tensor([[0, 0], [1, 1], [2, 0], [3, 1], [4, 4], [3, 4]])  # 2 reads 0, 3 reads 1, 5 reads 3 and 4
    pairs = {"direct": (1, 0), "second hand": (1, 2), "none": (0, 3), "if 2 reads 0 first": (2, 1), "common": (4, 3)}
    tables = [bra.Routes(table[None].expand(5, -1, -1), torch.zeros(5, 6, 6)) for table in (first, second)]
    square, target = (torch.tensor(side) for side in zip(*pairs.values(), strict=True))
    boards = Boards(torch.zeros(5, 3, 8, 8), square, square, target)
    assert [WAYS[i] for i in news_ways(tables, boards)] == [
        "direct", "second hand", "none", "second hand", "common reader"
    ]  # fmt: skip
    assert [WAYS[i] for i in news_ways(tables[::-1], boards)] == [
        "direct", "none", "none", "none", "common reader"
    ], "in the other order 1 is read too late"  # fmt: skip


@pytest.mark.parametrize("seed", range(5))
def test_ways_agree_with_a_walk_over_sets(seed):
    tables = [bra.random_regions((3, 4), 2, 10 * seed + i) for i in range(2)]
    pairs = [(i, j) for i in range(12) for j in range(12) if i != j]
    square, target = (torch.tensor(side) for side in zip(*pairs, strict=True))
    routes = [bra.Routes(t.expand(len(pairs), -1, -1), torch.zeros(len(pairs), 12, 12)) for t in tables]
    rows = [set(row) for table in tables for row in table.tolist()]
    heard = [{i} for i in range(12)]
    for table in tables:
        heard = [heard[i].union(*(heard[j] for j in row)) for i, row in enumerate(table.tolist())]
    read = {(i, j) for table in tables for i, row in enumerate(table.tolist()) for j in row}

    def way(i, j):
        if {(i, j), (j, i)} & read:
            return "direct"
        for name, known in {"common reader": rows, "second hand": heard}.items():
            if any({i, j} <= each for each in known):
                return name
        return "none"

    found = news_ways(routes, Boards(torch.zeros(len(pairs), 3, 8, 8), square, square, target))
    assert [WAYS[i] for i in found] == [way(i, j) for i, j in pairs]
    assert {way(i, j) for i, j in pairs} == set(WAYS), "all four ways must be tried"


def test_says_what_is_wrong():
    for glyphs in (0, 9):
        with pytest.raises(ValueError, match=f"glyphs must be between 1 and 8, but is {glyphs}"):
            Recall(glyphs=glyphs)
    with pytest.raises(ValueError, match=r"cells must be at least 3 for 4 glyphs and the square, but is 2"):
        Recall(cells=2)
    with pytest.raises(ValueError, match=r"noise must be at least 0 and finite, but is -0\.1"):
        Recall(noise=-0.1)
    with pytest.raises(ValueError, match="noise must be at least 0 and finite, but is inf"):
        Recall(noise=float("inf"))
    routes = bra.Routes(torch.zeros(1, 9, 2, dtype=torch.int64), torch.zeros(1, 9, 9))
    with pytest.raises(ValueError, match="routes must have one region a cell, 16, but block 0 has 9"):
        hit_rates([routes], Recall().sample(1, 0))
