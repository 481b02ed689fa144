import io
import itertools
import json
import math

import pytest
import torch
from matplotlib import colormaps
from matplotlib.colors import to_hex, to_rgb
from matplotlib.figure import Figure
from matplotlib.text import Annotation
from PIL import Image

from bra import draw
from bra.data.recall import Recall
from bra.draw.picture import HEAT, LINES, PAGE, YELLOW
from bra.draw.regions import ASKS, READS, SHOULD

GRID = (2, 3)  # of `wide`, whose regions have 7 x 11 pixels


@pytest.fixture
def boards():
    return Recall(noise=0.0).sample(3, 0)


@pytest.fixture
def wide():
    """Two images whose height, width, rows and columns all differ."""
    return torch.rand(2, 3, 14, 33) * 2 - 1


def shown(axes):
    """The numbers of the image on the axes."""
    return torch.from_numpy(axes.get_images()[0].get_array().data)


def pixels(image):
    """How an image must be shown: height, width, and colours of 0 to 1."""
    return image.permute(1, 2, 0) / 2 + 0.5


def shows(axes, image):
    """Whether an image as those of `wide` is shown, under the lines of its grid."""
    lines = [10.5, 21.5], [6.5]
    under = (axes.get_xticks().tolist(), axes.get_yticks().tolist()) == lines
    return under and torch.allclose(shown(axes), pixels(image))


def region_at(axes, x, y):
    """The region of GRID that holds a point of the image on the axes."""
    height, width = axes.get_images()[0].get_size()
    return math.floor((y + 0.5) / height * GRID[0]) * GRID[1] + math.floor((x + 0.5) / width * GRID[1])


def framed(axes, style):
    """The regions that are framed in this style, in the order drawn."""
    boxes = [box for box in axes.patches if to_hex(box.get_edgecolor()) == to_hex(style["edgecolor"])]
    return [region_at(axes, *box.get_center()) for box in boxes if box.get_linestyle() == style["linestyle"]]


def badges(axes):
    """The words on an image, each with the region on which it stands."""
    return [(text.get_text(), region_at(axes, *text.get_position())) for text in axes.texts]


def titles(picture):
    return [axes.get_title() for axes in picture.figure.axes]


def lightness(colour):
    """Of a colour on a screen, 0 black to 1 white (the relative luminance of WCAG 2)."""
    red, green, blue = (c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in to_rgb(colour))
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def in_cells(axes, corner):
    """What is written in each cell, by row and column; cell (0, 0) begins at (corner, corner)."""
    found = {}
    for text in axes.texts:
        x, y = text.get_position()
        found.setdefault((math.floor(y - corner), math.floor(x - corner)), []).append(text.get_text())
    return found


def looks(line):
    return line.get_color(), line.get_marker(), line.get_linestyle()


def named(axes):
    """The names in the legend, each with the looks of the line beside it."""
    legend = axes.get_legend()
    return dict(zip([text.get_text() for text in legend.get_texts()], map(looks, legend.legend_handles), strict=True))


def ticks(axis):
    """The labels along an axis, each with its place."""
    return [(place, label.get_text()) for place, label in zip(axis.get_ticklocs(), axis.get_ticklabels(), strict=True)]


def arrows(axes):
    """The points of each arrow, start to tip: a line that ends where an arrow begins is a part of it."""
    lines = {tuple(line.get_xydata()[-1]): line.get_xydata().tolist() for line in axes.lines}
    tips = [text for text in axes.texts if isinstance(text, Annotation)]
    assert all(tip.arrowprops["arrowstyle"] == "->" for tip in tips)
    return [[*lines.get(tip.xyann, [tip.xyann]), tip.xy] for tip in tips]


def distance(x, y, points):
    """From a point to a path along the axes."""
    sides = [
        (min(a, c) - x, x - max(a, c), min(b, d) - y, y - max(b, d)) for (a, b), (c, d) in itertools.pairwise(points)
    ]
    return min(math.hypot(max(left, right, 0), max(low, high, 0)) for left, right, low, high in sides)


def test_a_picture_shows_itself_with_its_alternative_text(boards, tmp_path):
    picture = draw.routed_boards(
        boards.image, torch.zeros(3, 16, 1, dtype=torch.long), (4, 4), boards.square, boards.target, "abc"
    )
    data, metadata = picture._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG")
    assert metadata["image/png"]["alt"] == picture.alt
    assert picture.alt in repr(picture), "tools without pictures show the text"
    picture.save(tmp_path / "x.png")
    for file in (io.BytesIO(data["image/png"]), tmp_path / "x.png"):
        with Image.open(file) as image:
            image.load()
            assert image.text["Description"] == picture.alt, "the file brings its text along"


def test_heat_reads_in_greyscale():
    steps = [lightness(colormaps[HEAT](shade)) for shade in range(256)]
    assert all(dark < bright for dark, bright in itertools.pairwise(steps))
    table = draw.matrices([torch.zeros(2, 3)], ["A"])
    heat = draw.heat_maps(torch.zeros(3, 14, 33), torch.zeros(6, 6), GRID, [0])
    assert all(picture.figure.axes[-1].get_images()[0].get_cmap().name == HEAT for picture in (table, heat))


def test_boards_say_in_words_what_they_show(boards):
    index = torch.arange(16).repeat(3, 16, 1)[:, :, :2]
    index[1, boards.square[1], 1] = boards.target[1]
    picture = draw.routed_boards(boards.image, index, (4, 4), boards.square, boards.target, "abc")
    hits = sum(
        int(t) in index[b, q].tolist() for b, (q, t) in enumerate(zip(boards.square, boards.target, strict=True))
    )
    assert f"on {hits} of them the right region is read" in picture.alt
    assert (
        f"board 2: region {boards.square[1]} reads 0, {boards.target[1]} and should read {boards.target[1]}"
        in picture.alt
    )


def test_boards_frame_who_asks_what_it_reads_and_what_it_should(wide):
    index = torch.tensor([0, 1]).repeat(2, 6, 1)
    index[0, 4], index[1, 2] = torch.tensor([5, 3]), torch.tensor([4, 0])
    picture = draw.routed_boards(wide, index, GRID, torch.tensor([4, 2]), torch.tensor([3, 1]), ["left", "right"])
    left, right = picture.figure.axes
    assert [framed(left, style) for style in (ASKS, READS, SHOULD)] == [[4], [5, 3], [3]]
    assert [framed(right, style) for style in (ASKS, READS, SHOULD)] == [[2], [4, 0], [1]]
    assert badges(left) == [("1", 5), ("2", 3)] and badges(right) == [("1", 4), ("2", 0)]
    assert titles(picture) == ["left", "right"]
    assert shows(left, wide[0]) and shows(right, wide[1])
    assert all(box.get_path_effects() for box in left.patches), "a rim shows a frame on a glyph of its own colour"
    assert picture.alt == (
        "Which shape has the colour of the plain square? 2 boards on a 2 x 3 grid; on 1 of them the right region is "
        "read: board 1: region 4 reads 5, 3 and should read 3; board 2: region 2 reads 4, 0 and should read 1."
    )
    assert picture.figure.get_suptitle() == "Which shape has the colour of the plain square?"


def test_the_legend_names_each_frame(boards):
    index = torch.zeros(3, 16, 1, dtype=torch.long)
    (legend,) = draw.routed_boards(boards.image, index, (4, 4), boards.square, boards.target, "abc").figure.legends
    colours = [to_hex(handle.get_edgecolor()) for handle in legend.legend_handles]
    names = dict(zip([text.get_text() for text in legend.get_texts()], colours, strict=True))
    styles = {"the region that asks": ASKS, "reads, by rank": READS, "should read": SHOULD}
    assert names == {name: to_hex(style["edgecolor"]) for name, style in styles.items()}


def test_an_image_is_shown_as_it_is_under_its_grid(wide):
    axes = Figure().subplots()
    draw.show_image(axes, wide[0] * 1.5, GRID, "an image")
    assert torch.allclose(shown(axes), pixels(wide[0] * 1.5).clamp(0, 1))
    assert axes.get_xticks().tolist() == [10.5, 21.5] and axes.get_yticks().tolist() == [6.5]
    assert all(line.get_visible() for line in (*axes.get_xgridlines(), *axes.get_ygridlines()))
    assert axes.get_title() == "an image"


def test_a_badge_stands_in_the_lower_corner_of_its_region(wide):
    axes = Figure().subplots()
    draw.show_image(axes, wide[0], GRID, "")
    for region in range(6):
        draw.outline_region(axes, region, GRID, 1, f"no. {region}", **READS)
        (x, y), (middle, centre) = axes.texts[-1].get_position(), axes.patches[-1].get_center()
        assert x < middle and y > centre, "rows count downwards"
        assert to_hex(axes.texts[-1].get_bbox_patch().get_facecolor()) == READS["edgecolor"].lower()
    assert badges(axes) == [(f"no. {region}", region) for region in range(6)]
    draw.outline_region(axes, 0, GRID, 1, **READS)
    assert len(axes.texts) == 6, "no label, no badge"


@pytest.mark.parametrize("grid", [(2, 3), (3, 2)])
def test_regions_are_outlined_where_they_lie(grid):
    figure = Figure()
    axes = figure.subplots()
    draw.show_image(axes, torch.zeros(3, 12, 18), grid, "")
    height, width = 12 / grid[0], 18 / grid[1]
    for region in range(6):
        row, column = region // grid[1], region % grid[1]
        for inset in (0.0, 1.5):
            draw.outline_region(axes, region, grid, inset, edgecolor="red")
            corner = (column * width - 0.5 + inset, row * height - 0.5 + inset)
            size = (width - 2 * inset, height - 2 * inset)
            assert axes.patches[-1].get_bbox().bounds == pytest.approx((*corner, *size))


def test_no_mark_is_told_by_its_colour_alone(boards):
    index = torch.full((3, 16, 1), 5)
    axes = draw.routed_boards(boards.image, index, (4, 4), boards.square, boards.target, "abc").figure.axes[0]
    assert len({str(patch.get_linestyle()) for patch in axes.patches}) == 3
    assert [text.get_text() for text in axes.texts] == ["1"], "the rank stands in words"


def test_curves_draw_the_numbers_of_the_metrics():
    metrics = [
        {"step": 10, "loss": 2.0, "accuracy": 0.25, "hit_rate": [0.5, 0.25]},
        {"step": 10, "held_out": {"accuracy": 0.375, "hit_rate": [0.25, 0.75]}},
        {"step": 20, "loss": 1.0, "accuracy": 0.5, "hit_rate": [0.5, 0.25]},
        {"step": 20, "held_out": {"accuracy": 0.75, "hit_rate": [0.5, 1.0]}, "seconds": 1.0},
    ]
    picture = draw.training_curves(metrics)
    loss, accuracy, hits = picture.figure.axes
    assert loss.lines[0].get_xydata().tolist() == [[10, 2], [20, 1]]
    assert accuracy.lines[0].get_xydata().tolist() == [[10, 0.25], [20, 0.5]]
    assert accuracy.lines[1].get_xydata().tolist() == [[10, 0.375], [20, 0.75]]
    assert [line.get_xydata().tolist() for line in hits.lines] == [[[10, 0.25], [20, 0.5]], [[10, 0.75], [20, 1]]]
    assert "over 20 steps. The loss goes from 2.00 to 1.00, held-out accuracy from 0.38 to 0.75" in picture.alt
    assert picture.alt.endswith("block 0 from 0.25 to 0.50, hit rate of block 1 from 0.75 to 1.00.")
    plain = [{k: v for k, v in m.items() if k != "hit_rate"} for m in metrics]
    plain[1]["held_out"] = plain[3]["held_out"] = {"accuracy": 0.75}
    assert len(draw.training_curves(plain).figure.axes) == 2


def test_training_curves_name_what_they_show():
    held_out = {"accuracy": 0.5, "hit_rate": [0.5, 0.25]}
    picture = draw.training_curves([{"step": 1, "loss": 2.0, "accuracy": 0.25}, {"step": 1, "held_out": held_out}])
    loss, accuracy, hits = picture.figure.axes
    assert titles(picture) == ["Training loss", "Accuracy", "Hit rate, held out"]
    assert [axes.get_xlabel() for axes in picture.figure.axes] == ["step"] * 3
    assert loss.get_ylabel() == "cross-entropy"
    assert named(accuracy) == {"training batch": looks(accuracy.lines[0]), "held out": looks(accuracy.lines[1])}
    assert named(hits) == {"block 0": looks(hits.lines[0]), "block 1": looks(hits.lines[1])}
    assert all(one != other for one, other in zip(*map(looks, hits.lines), strict=True)), "not by colour alone"
    assert accuracy.get_ylim() == hits.get_ylim() == (0, 1.03), "a share is shown on the whole scale"


def test_router_comparison_draws_one_mark_a_seed():
    runs = [
        {"label": label, "held_out": {"accuracy": a, "hit_rate": [a / 2, a / 4][:: 1 if label == "x" else -1]}}
        for label, seeds in {"x": (0.5, 1.0), "y": (0.125, 0.375), "z": (0.75,)}.items()
        for a in seeds
    ]
    picture = draw.router_comparison(json.loads(json.dumps(runs)), 0.2)
    accuracy, hits = picture.figure.axes
    for axes, heights in ((accuracy, [0.75, 0.25, 0.75]), (hits, [0.375, 0.125, 0.375])):
        assert [bar.get_center()[0] for bar in axes.patches] == pytest.approx([0, 1, 2])
        assert [bar.get_height() for bar in axes.patches] == heights
    *marks, luck = hits.lines
    assert [mark.get_ydata().tolist() for mark in marks] == [[0.25, 0.5], [0.0625, 0.1875], [0.375]]
    *marks, chance = accuracy.lines
    assert [mark.get_ydata().tolist() for mark in marks] == [[0.5, 1], [0.125, 0.375], [0.75]]
    assert all(round(x) == n for n, mark in enumerate(marks) for x in mark.get_xdata()), "marks stand on their bars"
    assert list(chance.get_ydata()) == [0.2, 0.2] and list(luck.get_ydata()) == [0.25, 0.25], "4 of 16 regions"
    assert "x: accuracy 0.75, hit rate 0.38; y: accuracy 0.25, hit rate 0.12; z: " in picture.alt


def test_router_comparison_names_routers_and_chance():
    runs = [{"label": label, "held_out": {"accuracy": 0.5, "hit_rate": [0.5]}} for label in "pqr"]
    picture = draw.router_comparison(runs, 0.2)
    assert titles(picture) == ["Accuracy, held out", "Hit rate of the better block"]
    assert ticks(picture.figure.axes[1].xaxis) == [(0, "p"), (1, "q"), (2, "r")], "named once, below both"
    for axes in picture.figure.axes:
        assert axes.get_xticks().tolist() == [0, 1, 2]
        assert axes.get_ylim()[0] == 0 and axes.get_ylim()[1] > 1
        assert axes.get_yticks() == pytest.approx([0, 0.2, 0.4, 0.6, 0.8, 1])
    for axes, guess in zip(
        picture.figure.axes, ("guessing a shape on the board", "four regions of 16 at random"), strict=True
    ):
        legend = axes.get_legend()
        assert [text.get_text() for text in legend.get_texts()] == ["mean", "one seed", guess]
        bar, mark, line = legend.legend_handles
        assert bar.get_height() and mark.get_marker() == axes.lines[0].get_marker() == "o"
        assert looks(line) == looks(axes.lines[-1]) and line.get_linestyle() == "--"


@pytest.mark.parametrize("step", [*draw.flow.BOXES, *draw.flow.FRAMES])
def test_the_map_lights_one_step(step):
    picture = draw.bra_map(step)
    (axes,) = picture.figure.axes
    lit = [patch for patch in axes.patches if to_hex(patch.get_facecolor()) == YELLOW.lower()]
    assert len(lit) == 1
    bold = [text.get_text() for text in axes.texts if text.get_weight() == "bold"]
    assert len(bold) == 1 and step in bold[0]
    assert step in picture.alt.split("Lit here: ")[1]
    assert all(lit[0].get_linewidth() > other.get_linewidth() for other in axes.patches if other is not lit[0])


def test_the_map_joins_the_steps_that_hand_something_on():
    axes = draw.bra_map("layer").figure.axes[0]
    words = {text.get_text(): text.get_position() for text in axes.texts if text.get_text()}
    steps = {word.split()[1]: words.pop(word) for word in list(words) if word[:2].isdigit() and "\n" in word}
    assert set(steps) == set(draw.flow.BOXES)
    ends = {"tokens": words.pop("tokens"), "+": words.pop("+")}
    width, height = draw.flow.WIDTH, draw.flow.HEIGHT

    def step_at(x, y):
        boxes = [n for n, (a, b) in steps.items() if abs(x - a) < width / 2 + 0.01 and abs(y - b) < height / 2 + 0.01]
        return next(iter(boxes + [n for n, at in ends.items() if math.dist(at, (x, y)) < 0.25]), "outside")

    labels = {}
    for points in arrows(axes):
        ways = [label for label, at in words.items() if distance(*at, points) < 0.15]
        labels[step_at(*points[0]), step_at(*points[-1])] = " ".join(ways)
        for (x, y), towards in (points[:2], points[:-3:-1]):
            reach = 0.2 / math.dist((x, y), towards)
            beside = step_at(x + reach * (towards[0] - x), y + reach * (towards[1] - y))
            assert beside not in steps, "no arrow crosses the box where it begins or ends"
    assert labels == {
        ("tokens", "partition"): "q, k, v",
        ("partition", "adjacency"): "means of\nq and k",
        ("adjacency", "topk"): "affinity",
        ("patterns", "topk"): "instead",
        ("topk", "gather"): "index",
        ("partition", "gather"): "k and v",
        ("partition", "attention"): "queries",
        ("gather", "attention"): "",
        ("partition", "lce"): "values, merged",
        ("attention", "+"): "merge",
        ("lce", "+"): "",
        ("+", "outside"): "project",
    }
    (left, right), (low, high) = axes.get_xlim(), axes.get_ylim()
    assert all(left < x < right and low < y < high for points in arrows(axes) for x, y in points)


def test_a_frame_stands_around_what_the_kernels_do_at_once():
    axes = draw.bra_map("kernels").figure.axes[0]
    (lit,) = [patch for patch in axes.patches if to_hex(patch.get_facecolor()) == YELLOW.lower()]
    words = {text.get_text(): text.get_position() for text in axes.texts if text.get_text()}
    inside = {word.split("\n")[0] for word, at in words.items() if lit.get_bbox().contains(*at)}
    assert inside == {"04 gather", "05 attention", "09 kernels: both at once", "index"}


def test_the_fixed_table_is_an_alternative():
    axes = draw.bra_map("layer").figure.axes[0]
    (dashed,) = [box for box in axes.patches if box.get_linestyle() == "--"]
    (dotted,) = [text for text in axes.texts if isinstance(text, Annotation) and text.arrowprops["linestyle"] == ":"]
    words = {text.get_text(): text.get_position() for text in axes.texts}
    here = {word.split("\n")[0] for word, at in words.items() if dashed.get_bbox().contains(*at)}
    assert here - {""} == {"00 patterns"}
    assert dashed.get_bbox().contains(*dotted.xyann)


def test_the_map_numbers_the_steps_as_the_notebooks_do():
    picture = draw.bra_map("layer")
    for told in (
        "cut into regions (01)",
        "an affinity between regions (02)",
        "its top k an index (03)",
        "a fixed table gives the index instead (00)",
        "gathers keys and values (04)",
        "the attention (05)",
        "a convolution of the merged values (06)",
        "07 is the whole",
        "09 gathers nothing and does 04 and 05 at once",
    ):
        assert told in picture.alt
    drawn = {text.get_text()[:2]: text.get_text()[3:].split("\n")[0] for text in picture.figure.axes[0].texts}
    steps = ("partition", "adjacency", "topk", "gather", "attention", "lce", "layer")
    assert {f"0{n}": step for n, step in enumerate(("patterns", *steps))}.items() <= drawn.items()


def test_token_grids_draw_borders_only_between_regions():
    owner = torch.tensor([[0, 0, 1], [0, 0, 1]])
    values = torch.tensor([[10, 11, 12], [20, 21, 22]])
    picture = draw.token_grids(values, [owner, owner.clone().zero_()], ["two", "one"], valid_map=values < 22)
    two, one = picture.figure.axes
    assert [line.get_xydata().tolist() for line in two.lines] == [[[2, 0], [2, 1]], [[2, 1], [2, 2]]]
    assert not one.lines
    assert [t.get_text() for t in two.texts][:4] == ["10", "0", "11", "0"]
    assert sum(patch.get_hatch() is not None for patch in two.patches) == 1
    *_, real, padded = [box for box in two.patches if box.get_fill() and box.get_x() == 2]
    assert real.get_facecolor()[:3] == padded.get_facecolor()[:3] and real.get_alpha() > padded.get_alpha()
    assert picture.alt.startswith("2 x 3 tokens with their regions. two, region 0: 10 11 20 21; region 1: 12 22. one")
    assert "1 tokens are padding" in picture.alt


def test_token_grids_lie_as_the_map_does():
    values, owner = torch.arange(6).reshape(2, 3) + 10, torch.tensor([[0, 4, 1], [3, 5, 2]])
    real = torch.tensor([[True, True, True], [True, True, False]])
    picture = draw.token_grids(values, [owner, owner.flip(1)], ["one way", "another"], real)
    assert titles(picture) == ["one way", "another"]
    for axes, regions in zip(picture.figure.axes, (owner, owner.flip(1)), strict=True):
        expected = {(y, x): [str(int(values[y, x])), str(int(regions[y, x]))] for y in range(2) for x in range(3)}
        assert in_cells(axes, 0) == expected
        assert axes.get_xlim() == pytest.approx((0, 3), abs=0.1)
        assert axes.get_ylim() == pytest.approx((2, 0), abs=0.1), "row 0 on top"
        assert [box.get_xy() for box in axes.patches if box.get_hatch()] == [(2, 1)]
        border = axes.patches[-1]
        assert border.get_bbox().bounds == (0, 0, 3, 2) and border.get_linewidth() == 2.5 and not border.get_fill()


def test_neighbouring_regions_differ_in_tint_and_in_greyscale():
    (axes,) = draw.token_grids(torch.zeros(1, 8), [torch.tensor([[0, 1, 2, 3, 4, 5, 6, 6]])], ["a row"]).figure.axes
    tints = [box.get_facecolor() for box in axes.patches if box.get_fill()]
    assert len(set(tints)) == 7 and tints[6] == tints[7]
    greys = [lightness([strength * c + 1 - strength for c in colour]) for *colour, strength in tints[:7]]
    assert all(abs(one - other) > 0.1 for one, other in itertools.pairwise(greys))


def test_token_rows_show_values_and_their_regions():
    picture = draw.token_rows(torch.tensor([[5, 6]]), torch.tensor([[3, 1]]), ["region 0"], "gathered")
    assert [t.get_text() for t in picture.figure.axes[0].texts] == ["5", "3", "6", "1"]
    assert picture.alt == "gathered. region 0: 5 6."


def test_token_rows_stand_beside_their_labels():
    rows, owners = torch.tensor([[5, 6, 7], [8, 9, 10]]), torch.tensor([[3, 1, 0], [2, 2, 4]])
    picture = draw.token_rows(rows, owners, ["first", "second"], "gathered")
    (axes,) = picture.figure.axes
    assert axes.get_title() == "gathered"
    assert in_cells(axes, 0) == {
        (y, x): [str(int(rows[y, x])), str(int(owners[y, x]))] for y in range(2) for x in range(3)
    }
    assert ticks(axes.yaxis) == [(0.5, "first"), (1.5, "second")]
    assert axes.get_ylim() == pytest.approx((2, 0), abs=0.1), "row 0 on top"
    assert picture.alt == "gathered. first: 5 6 7; second: 8 9 10."


def test_matrices_frame_what_is_chosen_in_each_row():
    picture = draw.matrices(
        [torch.tensor([[0.5, 2, 1], [3, -1.25, 0]])], ["A"], chosen=[torch.tensor([[1, 2], [0, 2]])]
    )
    (axes,) = picture.figure.axes
    assert [(p.get_x() + 0.45, p.get_y() + 0.45) for p in axes.patches] == [(1, 0), (2, 0), (0, 1), (2, 1)]
    assert [t.get_text() for t in axes.texts] == [".50", "2", "1", "3", "-1.25", "0", "1", "2", "1", "2"]
    assert picture.alt.startswith("Matrix A, row 0: .50 2 1; row 1: 3 -1.25 0; row 0 chooses 1 2")
    assert in_cells(axes, -0.5) == {
        **{(0, 0): [".50"], (0, 1): ["2", "1"], (0, 2): ["1", "2"]},
        **{(1, 0): ["3", "1"], (1, 1): ["-1.25"], (1, 2): ["0", "2"]},
    }


def test_each_matrix_shows_its_own_numbers_choices_and_name():
    matrices = [torch.tensor([[1.0, 2, 3], [4, 5, 6]]), torch.tensor([[9.0, 8, 7], [6, 5, 3]])]
    chosen = [torch.tensor([[1], [0]]), torch.tensor([[2], [1]])]
    picture = draw.matrices(matrices, ["A", "B"], ("reads", "is read"), chosen)
    assert titles(picture) == ["A", "B"]
    for axes, matrix, frames in zip(picture.figure.axes, matrices, ([(1, 0), (0, 1)], [(2, 0), (1, 1)]), strict=True):
        assert (axes.get_ylabel(), axes.get_xlabel()) == ("reads", "is read"), "rows, then columns"
        assert torch.equal(shown(axes), matrix.double())
        numbers = {cell: words[0] for cell, words in in_cells(axes, -0.5).items()}
        assert numbers == {(y, x): f"{matrix[y, x]:.0f}" for y in range(2) for x in range(3)}
        assert [tuple(box.get_center()) for box in axes.patches] == frames
        assert axes.yaxis_inverted() and not axes.xaxis_inverted(), "row 0 on top"
        assert axes.get_xticks().tolist() == [0, 1, 2] and axes.get_yticks().tolist() == [0, 1]
    assert "B, row 0: 9 8 7; row 1: 6 5 3; row 0 chooses 2; row 1 chooses 1." in picture.alt


def test_every_number_stands_out_from_its_shade():
    (axes,) = draw.matrices([torch.arange(-30, 34.0).reshape(4, 16) / 100], ["A"]).figure.axes
    (image,) = axes.get_images()
    shades = image.to_rgba(image.get_array())
    for text in axes.texts:
        x, y = text.get_position()
        dark, bright = sorted((lightness(shades[y, x, :3]), lightness(text.get_color())))
        assert (bright + 0.05) / (dark + 0.05) > 4, "the contrast of two colours, 1 to 21 in WCAG 2"


@pytest.mark.parametrize("same", [True, False])
def test_equal_numbers_have_equal_shades_where_asked(same):
    picture = draw.matrices([torch.tensor([[0.0, 1]]), torch.tensor([[-2.0, 1, 5]])], ["A", "B"], same_shades=same)
    limits = [axes.get_images()[0].get_clim() for axes in picture.figure.axes]
    assert limits == ([(-2, 5), (-2, 5)] if same else [(0, 1), (-2, 5)])


def test_large_matrices_are_shades_alone():
    assert not draw.matrices([torch.zeros(9, 8).bool()], ["A"]).figure.axes[0].texts, "yes or no is seen"
    for few, many in (((20, 20), (21, 20)), ((2, 24), (2, 25))):  # 25 columns have no room
        few, many = (draw.matrices([torch.zeros(size)], ["A"]).figure.axes[0] for size in (few, many))
        assert len(few.texts) == few.get_images()[0].get_array().size and not few.child_axes
        assert not many.texts and len(many.child_axes) == 1, "then a bar says what shades mean"
    assert draw.matrices([torch.zeros(2, 201)], ["A"]).alt == "Matrix A, 2 x 201."


def test_numbers_have_room_in_their_cells():
    picture = draw.matrices([torch.full((4, 6), -1.25), torch.full((16, 16), -11.0)], ["A", "B"])
    ranked = draw.matrices([torch.zeros(4, 4)], ["A"], chosen=[torch.tensor([[0, 1]] * 4)])
    for each in (picture, ranked):
        each.png()
        for axes in each.figure.axes:
            cell = axes.transData.transform([(0, 0), (1, -1)])
            for text in axes.texts:
                box = text.get_window_extent()
                assert box.width < cell[1, 0] - cell[0, 0] and box.height < cell[1, 1] - cell[0, 1]
            boxes = [text.get_window_extent() for text in axes.texts]
            assert not any(a.overlaps(b) for i, a in enumerate(boxes) for b in boxes[:i])


@pytest.mark.parametrize(
    "shapes, rows",
    [
        ([(4, 8)] * 2, [0, 0]),
        ([(7, 7)] * 4, [0, 0, 1, 1]),
        ([(49, 49), (49, 49), (2, 2)], [0, 0, 1]),
        ([(9, 70)] * 2, [0, 1]),
    ],
)
def test_matrices_break_into_rows(shapes, rows):
    figure = draw.matrices([torch.zeros(shape) for shape in shapes], ["A"] * len(shapes)).figure
    assert [axes.get_subplotspec().rowspan.start for axes in figure.axes] == rows
    assert figure.get_figwidth() <= PAGE


def test_region_tables_lie_as_the_image_does():
    one, two = torch.tensor([[0, 0]] * 6), torch.tensor([[1, 1]] * 6)
    one[4], two[4] = torch.tensor([5, 2]), torch.tensor([1, 3])
    picture = draw.region_tables({"one": one, "two": two}, GRID, 4)
    assert titles(picture) == ["one", "two"]
    for axes, read in zip(picture.figure.axes, ([(2, 1), (2, 0)], [(1, 0), (0, 1)]), strict=True):
        assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, 2.5), (1.5, -0.5)), "row 0 on top"
        assert axes.get_xticks().tolist() == [-0.5, 0.5, 1.5, 2.5] and axes.get_yticks().tolist() == [-0.5, 0.5, 1.5]
        assert all(line.get_visible() for line in (*axes.get_xgridlines(), *axes.get_ygridlines()))
        assert [tuple(box.get_center()) for box in axes.patches] == read
        assert in_cells(axes, -0.5) == {(row, column): [str(n)] for n, (column, row) in enumerate(read, start=1)}
        assert axes.lines[0].get_xydata().tolist() == [[1, 1]]
    assert picture.alt == "On a 2 x 3 grid, what region 4 reads. one: 5 2; two: 1 3."
    few, many = (draw.region_tables({"t": torch.arange(n).expand(20, n)}, (4, 5), 0).figure for n in (16, 17))
    assert len(few.axes[0].texts) == 16 and not many.axes[0].texts, "no room for the ranks of so many"


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


@pytest.mark.parametrize("routed", [True, False])
def test_heat_maps_mark_who_asks_and_what_it_reads(wide, routed):
    affinity, index = torch.rand(6, 6), torch.tensor([[0, 1]] * 6)
    index[4], index[2] = torch.tensor([5, 3]), torch.tensor([1, 5])
    picture = draw.heat_maps(wide[0], affinity, GRID, [4, 2], index if routed else None)
    image, *maps = picture.figure.axes
    assert shows(image, wide[0])
    assert framed(image, ASKS) == [4, 2] and framed(image, READS) == []
    assert badges(image) == [("4", 4), ("2", 2)]
    assert titles(picture) == ["the image", "affinity of region 4", "affinity of region 2"]
    assert not any(box.get_clip_on() for axes in (image, *maps) for box in axes.patches), "a frame at the edge is whole"
    for axes, query in zip(maps, (4, 2), strict=True):
        read = index[query].tolist() if routed else []
        assert torch.equal(shown(axes), affinity[query].reshape(GRID))
        assert framed(axes, ASKS) == [query] and framed(axes, READS) == read
        assert badges(axes) == [(str(rank), region) for rank, region in enumerate(read, start=1)]
        for (x, y), region in zip((text.get_position() for text in axes.texts), read, strict=True):
            assert x > region % 3 + 0.4 and y < region // 3 - 0.4, "a rank in the corner leaves the colour to be seen"
        assert axes.get_xticks().tolist() == [0, 1, 2] and axes.get_yticks().tolist() == [0, 1]
        assert [t.get_text() for t in axes.get_xticklabels()] == ["+0", "+1", "+2"]
        assert [t.get_text() for t in axes.get_yticklabels()] == ["0", "3"], "row and column add up to the region"
        assert axes.get_xlabel() == "number of a region: row + column"
        (bar,) = axes.child_axes
        assert bar.get_ylim() == pytest.approx((affinity[query].min().item(), affinity[query].max().item()))
        assert axes.yaxis_inverted() and not axes.xaxis_inverted(), "row 0 on top"
    assert picture.alt.startswith("An image on a 2 x 3 grid, with heat maps. region 4 (row 1, column 1) prefers ")
    assert f"; region 2 (row 0, column 2) prefers region {affinity[2].argmax()}" in picture.alt
    assert picture.alt.endswith(", reads 1 5.") == routed


def test_patches_cut_out_the_right_pixels():
    image = torch.arange(4 * 6.0).reshape(1, 4, 6).expand(3, 4, 6) / 24
    picture = draw.routed_patches(image, (2, 3), 1, torch.tensor([[0], [5]]))
    shown = [axes.get_images()[0].get_array()[..., 0] for axes in picture.figure.axes]
    assert [a[0, 0] for a in shown] == pytest.approx([2 / 48 + 0.5, 16 / 48 + 0.5])
    assert [a.shape for a in shown] == [(2, 2), (2, 2)]


def test_patches_stand_in_the_order_of_their_ranks(wide):
    picture = draw.routed_patches(wide[0], GRID, 1, torch.tensor([[0, 0], [5, 3]]))
    assert titles(picture) == ["region 1", "1. reads 5", "2. reads 3"]
    pieces = pixels(wide[0])[:7, 11:22], pixels(wide[0])[7:, 22:], pixels(wide[0])[7:, :11]
    assert all(torch.allclose(shown(a), piece) for a, piece in zip(picture.figure.axes, pieces, strict=True))
    assert picture.alt == "Cut out of the image: region 1, and the regions that it reads: 5 3."


def test_curves_name_lines_and_marks():
    picture = draw.curves([1, 2], {"a": [1, 4], "b": [2, 3]}, ("x", "y"), log="xy", marks={"best": (2, 3)})
    (axes,) = picture.figure.axes
    assert [line.get_ydata().tolist() for line in axes.lines] == [[1, 4], [2, 3], [3]]
    assert len({line.get_linestyle() for line in axes.lines[:2]}) == 2, "not by colour alone"
    assert (axes.get_xscale(), axes.get_yscale()) == ("log", "log")
    assert "a from 1 to 4" in picture.alt and "marked at 2: best" in picture.alt


def test_curves_are_labelled():
    picture = draw.curves([1, 3, 7], {"a": [1, 4, 2], "b": [2, 3, 5]}, ("size", "cost"), "a title", marks={"M": (2, 3)})
    (axes,) = picture.figure.axes
    assert (axes.get_xlabel(), axes.get_ylabel(), axes.get_title()) == ("size", "cost", "a title")
    assert named(axes) == {"a": looks(axes.lines[0]), "b": looks(axes.lines[1])}
    assert [line.get_xydata().tolist() for line in axes.lines[:2]] == [
        [[1, 1], [3, 4], [7, 2]],
        [[1, 2], [3, 3], [7, 5]],
    ]
    assert axes.lines[2].get_xydata().tolist() == [[2, 3]]
    assert [(text.get_text(), text.xy) for text in axes.texts] == [("M", (2, 3))]
    assert picture.alt.startswith("cost against size, from 1 to 7. ")


@pytest.mark.parametrize("log", ["", "x", "y", "xy"])
def test_curves_are_logarithmic_where_asked(log):
    (axes,) = draw.curves([1, 2, 16], {"a": [1, 4, 2]}, ("x", "y"), log=log).figure.axes
    assert [scale == "log" for scale in (axes.get_xscale(), axes.get_yscale())] == ["x" in log, "y" in log]
    if "x" in log:
        assert ticks(axes.xaxis) == [(1, "1"), (2, "2"), (16, "16")]
        assert not len(axes.xaxis.get_minorticklocs())


def test_logarithmic_numbers_are_written_without_exponents():
    (axes,) = draw.curves([1, 2, 16], {"a": [3e5, 3e6, 2e11]}, ("x", "y"), log="y").figure.axes
    axes.figure.draw_without_rendering()
    assert {"1 M", "10 M", "1 G", "100 G"} <= {label.get_text() for label in axes.get_yticklabels()}
    (axes,) = draw.curves([1, 2, 16], {"a": [0.4, 3, 2.1]}, ("x", "y"), log="y").figure.axes
    axes.figure.draw_without_rendering()
    assert {"0.5", "2"} <= {label.get_text() for label in axes.get_yticklabels(minor=True)}, "one label is too few"


@pytest.mark.parametrize(
    "value, text",
    [(0.05, "0.05"), (1, "1"), (5000, "5000"), (1e4, "10 k"), (1e6, "1 M"), (2e11, "200 G"), (1e13, "10 T")],
)
def test_large_numbers_are_short(value, text):
    assert draw.plots.short(value) == text


def test_a_share_stands_on_the_whole_scale():
    for name, limits in (("hit rate", (0, 1.03)), ("share of the weights", (0, 1.03))):
        (axes,) = draw.curves([1, 2], {"a": [0.7, 0.9]}, ("x", name)).figure.axes
        assert axes.get_ylim() == limits
    (axes,) = draw.curves([1, 2], {"a": [0.7, 0.9]}, ("x", "accuracy")).figure.axes
    assert axes.get_ylim()[0] > 0.6


def test_whole_numbers_have_whole_ticks():
    (axes,) = draw.curves([1, 2, 3, 4], {"a": [1, 2, 3, 4]}, ("epoch", "y")).figure.axes
    assert all(float(tick).is_integer() for tick in axes.get_xticks())
    (axes,) = draw.curves([0.5, 1, 1.5], {"a": [1, 2, 3]}, ("x", "y")).figure.axes
    assert not all(float(tick).is_integer() for tick in axes.get_xticks())


def test_the_legend_names_lines_in_the_order_of_their_ends():
    (axes,) = draw.curves([1, 2], {"low": [5, 1], "high": [0, 3], "middle": [1, 2]}, ("x", "y")).figure.axes
    assert list(named(axes)) == ["high", "middle", "low"]


def test_more_curves_than_can_be_told_apart_are_refused():
    (axes,) = draw.curves([1, 2], {str(n): [n, n] for n in range(len(LINES))}, ("x", "y")).figure.axes
    assert len(axes.lines) == len({line.get_marker() for line in axes.lines}) == 6
    assert len({line.get_color() for line in axes.lines}) == 6
    with pytest.raises(ValueError, match="lines must be at most 6, to tell them apart, but are 7"):
        draw.curves([1, 2], {str(n): [n, n] for n in range(7)}, ("x", "y"))


def test_the_data_flow_shows_every_shape():
    picture = draw.data_flow({"x": "1 2 3", "out": "4 5"}, {(0, 1): "v"})
    assert [t.get_text() for t in picture.figure.axes[0].texts if t.get_text()] == ["x", "1 2 3", "out", "4 5", "v"]
    assert "v from x to out" in picture.alt


def test_the_data_flow_goes_down_and_skips_steps():
    shapes = {"a": "2", "b": "3", "c": "5", "d": "7", "e": "11"}
    picture = draw.data_flow(shapes, {(0, 4): "far", (1, 3): "near"})
    (axes,) = picture.figure.axes
    words = {text.get_text(): text.get_position() for text in axes.texts if text.get_text()}
    assert [(-words[step][1], -words[shape][1]) for step, shape in shapes.items()] == [(n, n) for n in range(5)]
    assert axes.get_ylim()[0] < -4 and axes.get_ylim()[1] > 0, "the first step stands on top"
    rows = {(round(-points[0][1]), round(-points[-1][1])): points for points in arrows(axes)}
    assert set(rows) == {(0, 1), (1, 2), (2, 3), (3, 4), (0, 4), (1, 3)}
    for skip, label in {(0, 4): "far", (1, 3): "near"}.items():
        near = [pair for pair, points in rows.items() if distance(*words[label], points) < 0.15]
        assert near == [skip] and words[label][1] == -2, "the label stands at the middle of its own arrow"
        assert max(x for x, _ in rows[skip]) > words["11"][0] + 2, "beside the shapes"
    assert "Beside: far from a to e; near from b to d." in picture.alt


def test_photos_stand_side_by_side():
    picture = draw.images([torch.zeros(3, 4, 4), torch.ones(3, 4, 4)], ["dark", "bright"])
    assert [axes.get_images()[0].get_array().max() for axes in picture.figure.axes] == [0.5, 1]
    assert "dark; bright" in picture.alt


def test_images_have_titles_and_a_grid(wide):
    picture = draw.images(list(wide), ["left", "right"], GRID)
    assert titles(picture) == ["left", "right"]
    assert all(shows(axes, image) for axes, image in zip(picture.figure.axes, wide, strict=True))
    assert picture.alt == "2 images on a 2 x 3 grid: left; right."


@pytest.mark.parametrize(
    ("value", "text"), [(3, "3"), (-0.5, "-.50"), (0.25, ".25"), (12.34, "12.3"), (1e-9, ".00"), (-math.inf, "-inf")]
)
def test_numbers_are_short(value, text):
    assert draw.tokens.number(value) == text


def test_lines_part_a_matrix_into_blocks():
    picture = draw.matrices([torch.zeros(6, 6), torch.zeros(2, 2)], ["A", "B"], lines=(3, 1))
    assert [[line.get_ydata()[0] for line in axes.lines[:1]] for axes in picture.figure.axes] == [[2.5], [0.5]]
    assert [[line.get_xdata()[0] for line in axes.lines[1:]] for axes in picture.figure.axes] == [[2.5], [0.5]]
    (axes,) = draw.matrices([torch.zeros(6, 4)], ["A"], lines=(2,)).figure.axes
    flat = [line.get_ydata()[0] for line in axes.lines if line.get_ydata()[0] == line.get_ydata()[1]]
    steep = [line.get_xdata()[0] for line in axes.lines if line.get_xdata()[0] == line.get_xdata()[1]]
    assert flat == [1.5, 3.5] and steep == [1.5]


def test_routed_photos_outline_what_each_routing_reads():
    index = torch.tensor([[[0], [1]], [[1], [0]]])
    picture = draw.routed_photos(torch.zeros(3, 20, 40), index, (1, 2), 1, ["a", "b"])
    rows = [[patch.get_x() for patch in axes.patches] for axes in picture.figure.axes]
    assert rows == [[24.5, 19.5], [4.5, 19.5]], "the region that is read, 5 pixels inside, then the one that asks"
    assert "region 1 reads: a: 1; b: 0" in picture.alt


def test_routed_photos_tell_who_asks_from_what_it_reads(wide):
    index = torch.zeros(2, 6, 2, dtype=torch.long)
    index[:, 4] = torch.tensor([[5, 2], [1, 3]])
    picture = draw.routed_photos(wide[0], index, GRID, 4, ["one", "two"])
    assert titles(picture) == ["one", "two"]
    for axes, read in zip(picture.figure.axes, ([5, 2], [1, 3]), strict=True):
        assert shows(axes, wide[0])
        assert framed(axes, ASKS) == [4] and framed(axes, READS) == read
        assert badges(axes) == [("1", read[0]), ("2", read[1])]
    assert picture.alt == "An image on a 2 x 3 grid; region 4 reads: one: 5, 2; two: 1, 3."


@pytest.mark.parametrize("same", [False, True])
def test_what_is_masked_has_no_shade_but_can_be_read(same):
    masked = torch.tensor([[1.0, -math.inf, 3], [2, 4, -math.inf]])
    (axes,) = draw.matrices([masked], ["A"], same_shades=same).figure.axes
    assert axes.get_images()[0].get_array().mask.tolist() == [[False, True, False], [False, False, True]]
    assert axes.get_images()[0].get_clim() == (1, 4)
    assert [(t.get_text(), t.get_color()) for t in axes.texts][1] == ("-inf", "#000000")


def test_scaling_draws_each_way_on_logarithmic_axes_and_tells_its_ends():
    picture = draw.scaling([224, 512], {"ours": [1.0, 5.0], "compiled": [0.5, 4.0]}, {"ours": [2.0, 8.0]}, "A step")
    time, memory = picture.figure.axes
    assert [len(axes.lines) for axes in (time, memory)] == [2, 1]
    assert time.lines[1].get_ydata().tolist() == [0.5, 4.0] and memory.lines[0].get_xdata().tolist() == [224, 512]
    assert {axes.get_xscale() for axes in (time, memory)} == {axes.get_yscale() for axes in (time, memory)} == {"log"}
    assert "ours: 1 to 5 seconds; compiled: 0.5 to 4 seconds; ours: 2 to 8 GiB, peak." in picture.alt


def test_bars_stand_one_behind_the_other_and_a_part_looks_the_same_in_each():
    picture = draw.bars({"a": {"p": 2, "q": 3}, "b": {"q": 5}}, "bytes", "Moved")
    (axes,) = picture.figure.axes
    ends = [(bar.get_x(), bar.get_width(), round(bar.get_y() + bar.get_height() / 2)) for bar in axes.patches]
    assert ends == [(0, 2, 0), (2, 3, 0), (0, 5, 1)]
    p, q, same = ((bar.get_facecolor(), bar.get_hatch()) for bar in axes.patches)
    assert q == same and p[0] != q[0] and p[1] != q[1], "colour is not the only difference"
    assert ticks(axes.yaxis) == [(0, "a"), (1, "b")] and axes.yaxis_inverted()
    (legend,) = picture.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["p", "q"]
    assert picture.alt == "Moved, bytes. a: p 2, q 3; b: q 5."
