import json
import math

import pytest
import torch
from matplotlib.colors import to_hex
from matplotlib.figure import Figure

from bra import draw
from bra.draw.picture import YELLOW
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
    figure = Figure()
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


@pytest.mark.parametrize("step", [*draw.flow.BOXES, *draw.flow.FRAMES])
def test_the_map_lights_one_step(step):
    picture = draw.bra_map(step)
    (axes,) = picture.figure.axes
    lit = [patch for patch in axes.patches if to_hex(patch.get_facecolor()) == YELLOW.lower()]
    assert len(lit) == 1
    bold = [text.get_text() for text in axes.texts if text.get_weight() == "bold"]
    assert len(bold) == 1 and step in bold[0]
    assert step in picture.alt.split("Lit here: ")[1]


def test_token_grids_draw_borders_only_between_regions():
    owner = torch.tensor([[0, 0, 1], [0, 0, 1]])
    values = torch.tensor([[10, 11, 12], [20, 21, 22]])
    picture = draw.token_grids(values, [owner, owner.clone().zero_()], ["two", "one"], real=values < 22)
    two, one = picture.figure.axes
    assert [line.get_xydata().tolist() for line in two.lines] == [[[2, 0], [2, 1]], [[2, 1], [2, 2]]]
    assert not one.lines
    assert [t.get_text() for t in two.texts][:4] == ["10", "0", "11", "0"]
    assert sum(patch.get_hatch() is not None for patch in two.patches) == 1
    assert "two, region 0: 10 11 20 21; region 1: 12 22" in picture.alt
    assert "1 tokens are padding" in picture.alt


def test_token_rows_show_values_and_their_regions():
    picture = draw.token_rows(torch.tensor([[5, 6]]), torch.tensor([[3, 1]]), ["region 0"], "gathered")
    assert [t.get_text() for t in picture.figure.axes[0].texts] == ["5", "3", "6", "1"]
    assert picture.alt == "gathered. region 0: 5 6."


def test_matrices_frame_what_is_chosen_in_each_row():
    picture = draw.matrices(
        [torch.tensor([[0.5, 2, 1], [3, -1.25, 0]])], ["A"], chosen=[torch.tensor([[1, 2], [0, 2]])]
    )
    (axes,) = picture.figure.axes
    assert [(p.get_x() + 0.45, p.get_y() + 0.45) for p in axes.patches] == [(1, 0), (2, 0), (0, 1), (2, 1)]
    assert [t.get_text() for t in axes.texts] == [".50", "2", "1", "3", "-1.25", "0", "1", "2", "1", "2"]
    assert picture.alt.startswith("Matrix A, row 0: .50 2 1; row 1: 3 -1.25 0; row 0 chooses 1 2")


def test_region_tables_fill_what_the_region_reads():
    picture = draw.region_tables({"t": torch.tensor([[0, 0], [5, 2]])}, (2, 3), 1)
    (axes,) = picture.figure.axes
    assert [(p.get_x() + 0.5, p.get_y() + 0.5) for p in axes.patches] == [(2, 1), (2, 0)]
    assert axes.lines[0].get_xydata().tolist() == [[1, 0]]


def test_heat_maps_show_the_row_of_the_query():
    affinity = torch.arange(36.0).reshape(6, 6)
    picture = draw.heat_maps(torch.zeros(3, 20, 30), affinity, (2, 3), [4], torch.tensor([[5, 0]] * 6))
    _, axes = picture.figure.axes
    assert axes.get_images()[0].get_array().tolist() == [[24, 25, 26], [27, 28, 29]]
    assert [t.get_text() for t in axes.texts] == ["1", "2"]
    assert "region 4 (row 1, column 1) prefers region 5, reads 5 0" in picture.alt


def test_patches_cut_out_the_right_pixels():
    image = torch.arange(4 * 6.0).reshape(1, 4, 6).expand(3, 4, 6) / 24
    picture = draw.routed_patches(image, (2, 3), 1, torch.tensor([[0], [5]]))
    shown = [axes.get_images()[0].get_array()[..., 0] for axes in picture.figure.axes]
    assert [a[0, 0] for a in shown] == pytest.approx([2 / 48 + 0.5, 16 / 48 + 0.5])
    assert [a.shape for a in shown] == [(2, 2), (2, 2)]


def test_curves_name_lines_and_marks():
    picture = draw.curves([1, 2], {"a": [1, 4], "b": [2, 3]}, ("x", "y"), log="xy", marks={"best": (2, 3)})
    (axes,) = picture.figure.axes
    assert [line.get_ydata().tolist() for line in axes.lines] == [[1, 4], [2, 3], [3]]
    assert len({line.get_linestyle() for line in axes.lines[:2]}) == 2, "not by colour alone"
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert "a from 1 to 4" in picture.alt and "marked at 2: best" in picture.alt


def test_the_data_flow_shows_every_shape():
    picture = draw.data_flow({"x": "1 2 3", "out": "4 5"}, {(0, 1): "v"})
    assert [t.get_text() for t in picture.figure.axes[0].texts if t.get_text()] == ["x", "1 2 3", "out", "4 5", "v"]
    assert "v from x to out" in picture.alt


def test_photos_stand_side_by_side():
    picture = draw.images([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)], ["dark", "bright"])
    assert [axes.get_images()[0].get_array().max() for axes in picture.figure.axes] == [0.5, 1]
    assert "dark; bright" in picture.alt


@pytest.mark.parametrize(
    ("value", "text"), [(3, "3"), (-0.5, "-.50"), (0.25, ".25"), (12.34, "12.3"), (1e-9, ".00"), (-math.inf, "-inf")]
)
def test_numbers_are_short(value, text):
    assert draw.tokens.number(value) == text


def test_lines_part_a_matrix_into_blocks():
    picture = draw.matrices([torch.zeros(6, 6), torch.zeros(2, 2)], ["A", "B"], lines=(3, 1))
    assert [[line.get_ydata()[0] for line in axes.lines[:1]] for axes in picture.figure.axes] == [[2.5], [0.5]]
    assert [[line.get_xdata()[0] for line in axes.lines[1:]] for axes in picture.figure.axes] == [[2.5], [0.5]]


def test_routed_photos_outline_what_each_routing_reads():
    index = torch.tensor([[[0], [1]], [[1], [0]]])
    picture = draw.routed_photos(torch.zeros(3, 20, 40), index, (1, 2), 1, ["a", "b"])
    rows = [[patch.get_x() for patch in axes.patches] for axes in picture.figure.axes]
    assert rows == [[24.5, 19.5], [4.5, 19.5]], "the region that is read, 5 pixels inside, then the one that asks"
    assert "region 1 reads: a: 1; b: 0" in picture.alt
