import math

import pytest
import torch
from matplotlib.colors import to_hex, to_rgba

import bra
from bra import draw
from bra.draw.frames import dimmed, owners
from bra.draw.picture import HEAT, PAGE
from bra.draw.regions import ASKS, READS, SHOULD, side_by_side
from bra.look.statistics import LayerStatistics, RoutingStatistics, rollout
from bra.look.views import View, look

GRID, SIZE = (3, 2), (7, 9)  # regions of 3 x 5 tokens; the last reach beyond the map, and have 1 x 4 on it
PIXELS = (7 * 11, 9 * 13)  # a token has 11 x 13
INDEX = torch.tensor([[1, 2, 5], [4, 0, 3], [5, 3, 2], [0, 3, 1], [3, 5, 4], [2, 1, 0]])


@pytest.fixture
def image():
    return torch.rand(3, *PIXELS) * 2 - 1


def a_view(**changes):
    affinity = torch.randn(6, 6)
    return View(**{"name": "mine", "grid": GRID, "size": SIZE, "index": INDEX, "affinity": affinity, **changes})


def expected_box(region):
    """Left, top, width and height in pixels of a region of `a_view` on the image."""
    row, column = divmod(region, 2)
    bottom, right = min(7, 3 * row + 3), min(9, 5 * column + 5)
    return 65 * column - 0.5, 33 * row - 0.5, 13 * (right - 5 * column), 11 * (bottom - 3 * row)


def region_of(box):
    """The region of whose frame this is, which must be where the layer has it."""
    x, y = box.get_center()
    region = int((y + 0.5) // 33) * 2 + int((x + 0.5) // 65)
    left, top, width, height = expected_box(region)
    margin = (width - box.get_width()) / 2
    assert 0 <= margin <= 0.11 * min(width, height)
    assert box.get_bbox().bounds == pytest.approx(
        (left + margin, top + margin, width - 2 * margin, height - 2 * margin)
    )
    return region


def framed(axes, style):
    """The regions framed in this style, in the order drawn."""
    boxes = [box for box in axes.patches if to_hex(box.get_edgecolor()) == to_hex(style["edgecolor"])]
    assert all(box.get_linestyle() == style["linestyle"] and box.get_path_effects() for box in boxes)
    return [region_of(box) for box in boxes]


def badges(axes):
    """The words on the image, each with the region in which it stands."""
    return {
        int((y + 0.5) // 33) * 2 + int((x + 0.5) // 65): t.get_text() for t in axes.texts for x, y in [t.get_position()]
    }


def shown(axes, layer=0):
    return torch.from_numpy(axes.get_images()[layer].get_array().data)


def is_bright(axes, image):
    """The regions that are shown as bright as they are; the others must be darker."""
    pixels = image.permute(1, 2, 0) / 2 + 0.5
    found = []
    for region in range(6):
        left, top, width, height = (int(x + 0.5) for x in expected_box(region))
        part = shown(axes)[top : top + height, left : left + width], pixels[top : top + height, left : left + width]
        if torch.allclose(*part, atol=1e-5):
            found.append(region)
        else:
            assert torch.allclose(part[0], 0.55 * part[1], atol=1e-5)
    return found


def names(figure):
    return [text.get_text() for text in figure.legends[0].get_texts()]


def texts(axes):
    return [text.get_text() for text in axes.texts if text.get_text()]


def test_owners_are_the_regions_of_the_layer():
    view = a_view()
    tokens = owners(view, SIZE)
    assert all(tokens[y, x] == view.locate(y, x)[0] for y in range(7) for x in range(9))
    pixels = owners(view, PIXELS)
    assert torch.equal(pixels, tokens.repeat_interleave(11, 0).repeat_interleave(13, 1))


def test_routing_frames_what_the_query_reads_where_the_layer_has_it(image):
    picture = draw.routing(image, a_view(), 4, target=1)
    first, _, _ = picture.figure.axes
    assert [framed(first, style) for style in (ASKS, READS, SHOULD)] == [[4], [3, 5, 4], [1]]
    assert badges(first) == {3: "1", 5: "2", 4: "3"}
    assert is_bright(first, image) == [3, 4, 5]
    assert first.get_xticks().tolist() == [64.5] and first.get_yticks().tolist() == [32.5, 65.5]
    assert (first.get_xlim(), first.get_ylim()) == ((-0.5, 116.5), (76.5, -0.5))
    assert names(picture.figure) == ["the region that asks", "reads, by rank", "should read"]
    assert picture.alt.startswith("mine, 3 x 2 regions: region 4 reads 3, 5, 4 and should read 1, which it does not. ")
    assert "region 4 reads 3, 5, 4 and should read 5, which it does. " in draw.routing(image, a_view(), 4, target=5).alt
    assert "should" not in draw.routing(image, a_view(), 4).alt
    assert names(draw.routing(image, a_view(), 4).figure) == ["the region that asks", "reads, by rank"]


def test_routing_shows_the_affinities_of_the_query_best_first(image):
    affinity = torch.randn(6, 6)
    affinity[2] = torch.tensor([0.5, -1.0, 3.0, 2.0, -4.0, 1.0])
    bars = draw.routing(image, a_view(affinity=affinity), 2).figure.axes[1]
    assert [bar.get_height() for bar in bars.patches] == pytest.approx([3, 2, 1, 0.5, -1, -4])
    assert [label.get_text() for label in bars.get_xticklabels()] == ["2", "3", "5", "0", "1", "4"]
    assert [bool(bar.get_hatch()) for bar in bars.patches] == [True] * 3 + [False] * 3
    assert [text.get_text() for text in bars.texts] == ["3", "2", "1", "", "", ""]
    low, high = bars.get_ylim()
    assert low < -4 and high > 3.5, "room for the ranks"


def test_the_affinity_matrix_marks_what_is_read_and_the_row_of_the_query(image):
    view = a_view()
    matrix = draw.routing(image, view, 4).figure.axes[2]
    assert torch.allclose(shown(matrix), view.affinity.double())
    assert matrix.get_images()[0].get_cmap().name == HEAT
    dots = matrix.collections[0].get_offsets().tolist()
    assert sorted(map(tuple, dots)) == sorted((int(j), i) for i, row in enumerate(INDEX.tolist()) for j in row)
    assert matrix.patches[0].get_bbox().bounds == (-0.5, 3.5, 6, 1)
    assert (matrix.get_ylabel(), matrix.get_xlabel()) == ("reads", "is read") and matrix.yaxis_inverted()


def test_affinities_of_padding_do_not_break_it():
    layer = bra.BRA2d(3, 1, GRID, 6)
    image = torch.randn(3, 2, 3)
    (view,) = look(layer, image)
    picture = draw.routing(image, view, 0)
    first, bars, matrix = picture.figure.axes
    assert len([box for box in first.patches if to_hex(box.get_edgecolor()) == READS["edgecolor"].lower()]) == 4
    assert [text.split(": ")[1] for text in texts(bars) if "-inf" in text] == ["-inf"] * 2
    assert matrix.get_images()[0].get_array().mask.sum() == 12
    assert draw.readers(image, view, 0).figure.axes[0].get_title() == "4 regions that read region 0"
    nothing = View(GRID, SIZE, "mine", INDEX, torch.full((6, 6), -math.inf))
    assert picture.png() and draw.routing(torch.randn(3, *PIXELS), nothing, 1).png()


def test_of_many_regions_those_read_and_the_best_are_shown():
    index = torch.arange(49).roll(1)[:, None].repeat(1, 2)
    index[:, 1] = 40
    affinity = -torch.arange(49.0).repeat(49, 1)  # 0 is best, so 40 would not be among 32
    view = View((7, 7), (14, 14), "mine", index, affinity)
    bars = draw.routing(torch.zeros(3, 56, 56), view, 1).figure.axes[1]
    assert [label.get_text() for label in bars.get_xticklabels()] == [str(i) for i in [*range(31), 40]]
    assert bars.get_title().endswith("best first, 32 of 49")
    assert [text.get_text() for text in bars.texts] == ["1", *[""] * 30, "2"]


def test_readers_are_those_that_read_the_region_with_their_rank(image):
    picture = draw.readers(image, a_view(), 3)
    (axes,) = picture.figure.axes
    assert [framed(axes, style) for style in (ASKS, READS)] == [[3], [1, 2, 3, 4]]
    assert badges(axes) == {1: "3", 2: "2", 3: "2", 4: "1"}
    assert is_bright(axes, image) == [1, 2, 3, 4]
    assert axes.get_title() == "4 regions that read region 3"
    assert picture.alt == (
        "mine, 3 x 2 regions: region 3 is read by 1 as choice 3, 2 as choice 2, 3 as choice 2, 4 as choice 1."
    )
    nobody = draw.readers(image, a_view(index=torch.tensor([[1]] * 6)), 3)
    assert nobody.alt.endswith("is read by none.") and framed(nobody.figure.axes[0], READS) == []
    once = draw.readers(image, a_view(index=torch.tensor([[2, 3, 3]] * 6)), 3)
    assert set(badges(once.figure.axes[0]).values()) == {"2"}, "the better rank of a region that is listed twice"


def a_look():
    """A view with weights of three heads, and an image of its map's aspect."""
    layer = bra.BRA2d(15, 3, GRID, 2)
    layer.qkv.weight.data *= 5
    (view,) = look(layer, torch.randn(15, *SIZE))
    return view


def test_token_attention_lays_each_head_on_the_grey_image(image):
    view = a_look()
    picture = draw.token_attention(image, view, 6, 1)
    first, *heads = picture.figure.axes
    assert len(heads) == 3
    assert torch.allclose(shown(first), image.permute(1, 2, 0) / 2 + 0.5)
    assert framed(first, ASKS) == [4]
    assert first.lines[0].get_xydata().tolist() == [[1.5 * 13 - 0.5, 6.5 * 11 - 0.5]]
    weights = view.token_map(6, 1)
    for head, axes in enumerate(heads):
        _, heat = axes.get_images()
        assert torch.allclose(shown(axes), (image.mean(dim=0) / 2 + 0.5)[..., None].expand(-1, -1, 3))
        strength = weights[head] / weights[head].max()
        assert torch.allclose(torch.from_numpy(heat.get_array().data), strength)
        assert heat.get_cmap().name == HEAT and heat.get_clim() == (0, 1)
        alpha = torch.from_numpy(heat.get_alpha())
        order = strength.flatten().argsort()
        assert (alpha.flatten()[order].diff() >= 0).all() and alpha.max() > 0.5
        assert (alpha[strength == 0] == 0).all(), "what is not read stays grey"
        assert heat.get_extent() == [-0.5, 116.5, 76.5, -0.5] and heat.get_interpolation() == "nearest"
        assert sorted(framed(axes, READS)) == sorted(view.index[4].tolist())
        n = sum(expected_box(region)[2] * expected_box(region)[3] for region in view.index[4].tolist()) / 13 / 11
        assert n < 30 and axes.get_title() == f"head {head}: up to {weights[head].max():.1%}\nall alike {1 / n:.1%}"
        row, column = divmod(int(weights[head].argmax()), 9)
        assert f"head {head} gives most, {weights[head].max():.1%}, to token ({row}, {column})" in picture.alt
    assert (
        "token (6, 1) of 7 x 9, in region 4, which reads " + ", ".join(map(str, view.index[4].tolist())) in picture.alt
    )


def test_token_attention_of_one_that_reads_padding_alone():
    layer = bra.BRA2d(3, 1, GRID, 1, router=bra.TableRouter(torch.full((6, 1), 5)))
    image = torch.randn(3, 2, 1)
    (view,) = look(layer, image)
    heat = draw.token_attention(image, view, 1, 0).figure.axes[1].get_images()[1]
    assert (heat.get_array() == 0).all()


def test_stages_are_drawn_on_their_own_maps(image):
    """5 x 6 tokens in 3 x 2 regions, of which the last row reaches beyond the map, and 2 x 4, where it lies there."""

    def view(size, rows):
        index = torch.tensor(rows)
        return View((3, 2), size, "x", index, torch.zeros(6, 6))

    views = {"fine": view((5, 6), [[1, 0]] * 6), "coarse": view((2, 4), [[3, 2]] * 6)}
    picture = draw.routed_stages(image, views)
    assert picture.alt == "An image on a 3 x 2 grid; region 3 reads: fine: 1, 0; coarse: 3, 2."
    assert [axes.get_title() for axes in picture.figure.axes] == list(views)
    height = image.shape[1]
    for axes, tokens, cell in zip(picture.figure.axes, (5, 2), (2, 1), strict=True):
        lines = [tick + 0.5 for tick in axes.get_yticks()]
        assert lines == pytest.approx([height / tokens * cell, height / tokens * cell * 2]), "where the tokens are"
    assert [text.get_text() for text in picture.figure.axes[0].texts] == ["1", "2"]


def test_the_rollout_lies_on_the_regions(image):
    views = [a_view(index=INDEX[:, :1]), a_view()]
    picture = draw.routing_rollout(image, views, 4)
    first, second = picture.figure.axes
    assert framed(first, ASKS) == framed(second, ASKS) == [4]
    row = rollout(views)[4]
    heat = shown(second, 1)
    assert heat.shape == SIZE
    for y in range(7):
        for x in range(9):
            assert heat[y, x].item() == pytest.approx((row[views[0].locate(y, x)[0]] / row.max()).item())
    assert second.get_title() == f"may hold, up to {row.max():.1%}"
    best = ", ".join(f"{row[i]:.1%} of {i}" for i in row.argsort(descending=True, stable=True)[:5].tolist() if row[i])
    assert (
        f"of 2 blocks on 3 x 2 regions: what region 4 may hold in the end. It reaches {(row > 0).sum()} of 6"
        in picture.alt
    )
    assert picture.alt.endswith(f"most: {best}.")


def some_statistics(n):
    layers = [
        LayerStatistics(f"layer {i}", GRID if i % 3 else (7, 7), i % 5 + 1, 0.05 * i, 0.5 + 0.1 * i, 1.0 + 0.1 * i)
        for i in range(n)
    ]
    overlap = torch.rand(n, n, dtype=torch.float64)
    same = torch.tensor([[a.grid == b.grid for b in layers] for a in layers])
    return RoutingStatistics(40, layers, overlap.masked_fill(~same, math.nan))


@pytest.mark.parametrize("n", [1, 5, 12])
def test_statistics_stand_beside_those_of_random_routing(n):
    statistics = some_statistics(n)
    picture = draw.routing_statistics(statistics)
    *bars, matrix = picture.figure.axes
    kinds = ["self_share", "distance", "entropy"]
    for axes, kind in zip(bars, kinds, strict=True):
        assert [bar.get_width() for bar in axes.patches] == [getattr(layer, kind) for layer in statistics.layers]
        assert [bar.get_y() + bar.get_height() / 2 for bar in axes.patches] == pytest.approx(list(range(n)))
        lines = [segment.tolist() for segment in axes.collections[0].get_segments()]
        assert [line[0][0] for line in lines] == [getattr(layer, f"random_{kind}") for layer in statistics.layers]
        assert [(line[0][1] + line[1][1]) / 2 for line in lines] == pytest.approx(list(range(n)))
    assert [axes.get_title() for axes in bars] == ["reads itself, share", "distance, regions", "entropy, bits"]
    assert bars[0].get_ylim() == (n - 0.5, -0.5), "the first layer on top"
    assert [label.get_text() for label in bars[0].get_yticklabels()] == [f"layer {i}" for i in range(n)]
    others = 100 * statistics.overlap.clone().fill_diagonal_(math.nan).numpy()
    assert matrix.get_images()[0].get_array().filled(math.nan) == pytest.approx(others, nan_ok=True)
    assert matrix.child_axes[0].get_ylim() == (0, 100), "a bar says what shades mean"
    random = statistics.random_overlap
    words = {text.get_position(): text.get_text() for text in matrix.texts}
    assert words == {
        (j, i): f"{100 * statistics.overlap[i, j]:.0f}\n({100 * random[i, j]:.0f})"
        for i in range(n)
        for j in range(n)
        if i != j and not statistics.overlap[i, j].isnan()
    }
    assert names(picture.figure.subfigs[0]) == ["a random router"] and "in brackets" in matrix.get_title()
    assert [label.get_text() for label in matrix.get_yticklabels()] == [f"layer {i}" for i in range(n)]
    one = statistics.layers[-1]
    told = f"{one.label}: {one.self_share:.2f} (random {one.random_self_share:.2f}), {one.distance:.2f} ("
    assert told in picture.alt and f"over {statistics.images} images" in picture.alt


@pytest.mark.parametrize("n", [1, 12])
def test_words_do_not_overlap(n):
    figure = draw.routing_statistics(some_statistics(n)).figure
    figure.draw_without_rendering()
    for axes in figure.axes:
        labels = [*axes.texts, *axes.get_yticklabels(), *axes.get_xticklabels()]
        boxes = [label.get_window_extent() for label in labels if label.get_text() and label.get_visible()]
        pairs = [(a, b) for i, a in enumerate(boxes) for b in boxes[:i]]
        assert not any(a.overlaps(b) for a, b in pairs)


def rest_of(figure):
    """What a figure wants beside the image."""
    view = a_look()
    return {"token_attention": (view, 6, 1), "routing_rollout": ([view], 4)}.get(figure.__name__, (view, 4))


FIGURES = [draw.routing, draw.readers, draw.token_attention, draw.routing_rollout]


@pytest.mark.parametrize("figure", FIGURES)
def test_an_image_of_one_channel_is_grey(figure, image):
    rest = rest_of(figure)
    grey, coloured = (figure(one, *rest).figure.axes for one in (image[:1], image[:1].expand(3, -1, -1)))
    for mine, expected in zip(grey, coloured, strict=True):
        assert len(mine.get_images()) == len(expected.get_images())
        for a, b in zip(mine.get_images(), expected.get_images(), strict=True):
            assert a.get_array().shape == b.get_array().shape and (a.get_array() == b.get_array()).all()
    assert shown(grey[0]).shape == (*PIXELS, 3)


@pytest.mark.parametrize("figure", FIGURES)
def test_what_is_no_image_is_refused(figure, image, unchecked):
    rest = rest_of(figure)
    for wrong in (image[None, :1], image[:2], image[0], image[:, :0]):
        with pytest.raises(ValueError, match=r"image must be .*, but its shape is ") as found:
            figure(wrong, *rest)
        assert str(tuple(wrong.shape)) in str(found.value)


def test_images_of_one_channel_are_grey(image):
    grey, coloured = draw.images([image[:1], image[:1].expand(3, -1, -1)], ["a", "b"]).figure.axes
    assert torch.equal(shown(grey), shown(coloured)) and shown(grey).shape == (*PIXELS, 3)


@pytest.mark.parametrize("query", [-1, 6])
def test_a_region_that_is_not_there_is_refused(image, query):
    message = f"must be between 0 and 5, but is {query}"
    for figure in (draw.routing, draw.readers):
        with pytest.raises(ValueError, match=f"query {message}"):
            figure(image, a_view(), query)
    with pytest.raises(ValueError, match=f"query {message}"):
        draw.routing_rollout(image, [a_view()], query)
    with pytest.raises(ValueError, match=f"target {message}"):
        draw.routing(image, a_view(), 0, target=query)


def test_frames_are_thinner_on_small_regions(image):
    index = torch.arange(256)[:, None]
    many = View((16, 16), (32, 32), "mine", index, torch.zeros(256, 256))
    few = draw.routing(torch.zeros(3, 64, 64), View((2, 2), (4, 4), "mine", index[:4], torch.zeros(4, 4)), 1)
    thin, thick = (
        picture.figure.axes[0].patches[0] for picture in (draw.routing(torch.zeros(3, 64, 64), many, 1), few)
    )
    assert thin.get_linewidth() < READS["linewidth"] == thick.get_linewidth()
    rims = [box.get_path_effects()[0] for box in (thin, thick)]
    assert all(to_rgba(rim._gc["foreground"]) == to_rgba("black") for rim in rims), "a rim that shows on any ground"
    assert {text.get_fontsize() for box in (thin, thick) for text in box.figure.axes[0].texts} == {9}
    index = torch.arange(1024)[:, None]
    tiny = View((32, 32), (32, 32), "mine", index, torch.zeros(1024, 1024))
    assert not draw.readers(torch.zeros(3, 64, 64), tiny, 1).figure.axes[0].texts, "no room for a rank"


def test_the_rest_is_dimmed_a_little(image):
    found = dimmed(image, a_view(), {0})
    assert torch.equal(found[:, :33, :65], image[:, :33, :65])
    assert torch.allclose(found[:, 33:] + 1, 0.55 * (image[:, 33:] + 1), atol=1e-6)


def test_the_lines_of_regions_beyond_the_image_do_not_stretch_it():
    view = View((5, 1), (6, 4), "mine", torch.zeros(5, 1, dtype=torch.long), torch.zeros(5, 5))
    axes = draw.readers(torch.zeros(3, 24, 16), view, 0).figure.axes[0]
    assert (axes.get_xlim(), axes.get_ylim()) == ((-0.5, 15.5), (23.5, -0.5))
    assert axes.get_title() == "3 regions that read region 0"


@pytest.mark.parametrize(
    "panels, wide, columns", [(1, 3, 1), (3, 2.6, 3), (4, 2.9, 2), (4, 1, 4), (5, 2.6, 3), (7, 1.4, 4), (2, 9, 1)]
)
def test_many_panels_stand_in_rows_without_empty_ones(panels, wide, columns):
    figure, axes = side_by_side(panels, (wide, 2))
    assert len(axes) == len(figure.axes) == panels
    assert len({one.get_subplotspec().colspan.start for one in axes}) == columns
    assert figure.get_figwidth() <= PAGE
    assert figure.get_figwidth() / columns >= 0.75 * wide or columns == 1, "rows instead of shrinking"
