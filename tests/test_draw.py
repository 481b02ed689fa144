import json

import pytest
import torch

from bra import draw
from bra.recall import Recall


@pytest.fixture
def boards():
    return Recall(noise=0.0).sample(3, 0)


def test_a_picture_shows_itself_with_its_alternative_text(boards, tmp_path):
    picture = draw.routed_boards(
        boards.image, torch.zeros(3, 16, 1, dtype=torch.long), (4, 4), boards.query, boards.target, "abc"
    )
    data, metadata = picture._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == picture.alt
    assert picture.alt in repr(picture), "tools without pictures show the text"
    picture.save(tmp_path / "x.png")
    assert (tmp_path / "x.png").read_bytes().startswith(b"\x89PNG")


def test_boards_say_in_words_what_they_show(boards):
    index = torch.arange(16).repeat(3, 16, 1)[:, :, :2]
    index[1, boards.query[1], 1] = boards.target[1]
    picture = draw.routed_boards(boards.image, index, (4, 4), boards.query, boards.target, "abc")
    hits = sum(int(t) in index[b, q].tolist() for b, (q, t) in enumerate(zip(boards.query, boards.target, strict=True)))
    assert f"on {hits} of them the right region is read" in picture.alt
    assert (
        f"board 2: region {boards.query[1]} reads 0, {boards.target[1]} and should read {boards.target[1]}"
        in picture.alt
    )


@pytest.mark.parametrize("grid", [(2, 3), (3, 2)])
def test_regions_are_outlined_where_they_lie(grid):
    figure = draw.Figure()
    axes = figure.subplots()
    draw.show_image(axes, torch.zeros(3, 12, 18), grid, "")
    height, width = 12 / grid[0], 18 / grid[1]
    for region in range(6):
        draw.outline_region(axes, region, grid, 0.0, edgecolor="red")
        box = axes.patches[-1].get_bbox()
        row, column = region // grid[1], region % grid[1]
        assert box.bounds == pytest.approx((column * width - 0.5, row * height - 0.5, width, height))


def test_no_mark_is_told_by_its_colour_alone(boards):
    index = torch.full((3, 16, 1), 5)
    axes = draw.routed_boards(boards.image, index, (4, 4), boards.query, boards.target, "abc").figure.axes[0]
    assert len({str(patch.get_linestyle()) for patch in axes.patches}) == 3
    assert [text.get_text() for text in axes.texts] == ["1"], "the rank stands in words"


def test_curves_draw_the_numbers_of_the_metrics():
    metrics = [
        {"step": 10, "loss": 2.0, "accuracy": 0.25, "hit_rate": [0.5, 0.25]},
        {"step": 20, "loss": 1.0, "accuracy": 0.5, "hit_rate": [0.5, 0.25]},
        {"step": 20, "held_out": {"accuracy": 0.75, "hit_rate": [0.5, 1.0]}, "seconds": 1.0},
    ]
    picture = draw.training_curves(metrics)
    loss, accuracy, hits = picture.figure.axes
    assert loss.lines[0].get_xydata().tolist() == [[10, 2], [20, 1]]
    assert accuracy.lines[1].get_xydata().tolist() == [[20, 0.75]]
    assert [line.get_ydata().tolist() for line in hits.lines] == [[0.5], [1.0]]
    assert "from 2.00 to 1.00" in picture.alt
    plain = [{k: v for k, v in m.items() if k != "hit_rate"} for m in metrics]
    plain[2]["held_out"] = {"accuracy": 0.75}
    assert len(draw.training_curves(plain).figure.axes) == 2


def test_router_comparison_draws_one_mark_a_seed():
    runs = [
        {"label": label, "held_out": {"accuracy": a, "hit_rate": [a / 2, a]}} for label in ("x", "y") for a in (0.5, 1)
    ]
    picture = draw.router_comparison(json.loads(json.dumps(runs)), 0.25)
    accuracy, hits = picture.figure.axes
    assert [bar.get_height() for bar in accuracy.patches] == [0.75, 0.75]
    assert accuracy.lines[0].get_ydata().tolist() == [0.5, 1] == hits.lines[0].get_ydata().tolist()
    assert "x: accuracy 0.75, hit rate 0.75" in picture.alt
