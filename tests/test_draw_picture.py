"""How large every figure is shown, and its text: each function of `draw` that returns a picture draws one here."""

import io
import math

import pytest
import torch
from matplotlib.figure import Figure
from PIL import Image

from bra import draw, local_regions
from bra.data.recall import Recall
from bra.draw.picture import COLUMN, DOTS, SMALL, Picture, smallest_text, width
from bra.look.statistics import LayerStatistics, RoutingStatistics
from bra.look.views import View


def boards(n):
    shown = Recall(noise=0.0).sample(n, 0)
    index = torch.tensor([[1, 2, 5, 7]] * 16).repeat(n, 1, 1)
    return shown.image, index, (4, 4), shown.square, shown.target


def a_view(grid=(4, 4)):
    regions = grid[0] * grid[1]
    index = torch.arange(4).repeat(regions, 1)
    weights = torch.rand(regions, 4, 2, 16).softmax(dim=-1)
    return View(
        grid, (2 * grid[0], 2 * grid[1]), "stage 0, block 0", index, 300 * torch.randn(regions, regions), weights
    )


def statistics(n):
    layers = [LayerStatistics(f"stage 0, block {i}", (7, 7), 4, 0.5, 1.5, 2.5) for i in range(n)]
    return RoutingStatistics(256, layers, torch.rand(n, n, dtype=torch.float64))


def metrics(n):
    held_out = {"accuracy": 0.5, "hit_rate": [0.5, 0.25]}
    return [{"step": 0, "held_out": held_out}, *({"step": i, "loss": 2.0, "accuracy": 0.25} for i in range(n))]


PHOTO, BOARD, WIDE = torch.zeros(3, 42, 63), torch.zeros(3, 32, 32), torch.zeros(3, 32, 96)
NAMES = ["local", "axial", "dilated", "random", "all"]
ROUTERS = ["top-4", "top-1", "dilated", "random-once", "top-4, independent", "top-1, independent", *NAMES]
RUNS = [{"label": label, "held_out": {"accuracy": 0.5, "hit_rate": [0.5]}} for label in ROUTERS]
MANY = torch.arange(54)[:, None].expand(54, 4)
TITLES = ["20 of 20 found, 0 false; no hit"] * 4
CHOSEN = [torch.tensor([[0, 1]] * 6)] * 2
FIGURES = {  # as large and as crowded as notebooks and runs have them
    "bra_map": [lambda: draw.bra_map("kernels"), lambda: draw.bra_map("adjacency")],
    "data_flow": [lambda: draw.data_flow({f"{i} step": "1 6 4 8 = b r t c" for i in range(8)}, {(1, 6): "v"})],
    "curves": [
        lambda: draw.curves([224, 512, 1024], {"a": [1e5, 1e9, 3e11]}, ("side", "multiply-adds"), log="xy"),
        lambda: draw.curves([224, 512], {"a": [0.9, 1.1]}, ("side", "times"), log="xy", marks={"S*": (512, 1.0)}),
        lambda: draw.curves([1, 2, 3], {"a": [0.0001, 0.0002, 0.00015]}, ("epoch", "rate")),
    ],
    "bars": [lambda: draw.bars({"gather, then attend": dict.fromkeys(["gather loads", *NAMES], 3)}, "maps", "Loads")],
    "scaling": [lambda: draw.scaling((512, 1024), {"a": [0.9, 32.0]}, {"a": [0.2, 0.9]}, "A model, one image")],
    "training_curves": [lambda: draw.training_curves(metrics(500))],
    "router_comparison": [lambda: draw.router_comparison(RUNS, 0.25)],
    "routing_statistics": [lambda n=n: draw.routing_statistics(statistics(n)) for n in (2, 15)],
    "images": [
        lambda: draw.images([PHOTO] * 4, ["stride 16: 21 x 32"] * 4),
        lambda: draw.images([BOARD] * 5, ["CutMix\ntarget [0.66, 0.34]"] * 5),
        lambda: draw.images([WIDE], ["a panorama"]),
    ],
    "heat_maps": [lambda: draw.heat_maps(PHOTO, torch.randn(54, 54), (6, 9), [11, 40, 49], MANY)],
    "region_tables": [lambda: draw.region_tables(dict.fromkeys(NAMES, local_regions((7, 7), 9)), (7, 7), 16)],
    "routed_photos": [lambda: draw.routed_photos(PHOTO, [MANY] * 3, (6, 9), 11, ["second stage, first block"] * 3)],
    "routed_patches": [lambda: draw.routed_patches(PHOTO, (6, 9), 11, torch.arange(12).expand(54, 12))],
    "routed_boards": [lambda n=n: draw.routed_boards(*boards(n), TITLES[:n]) for n in (1, 4)],
    "marked_boards": [lambda: draw.marked_boards(*boards(4), [torch.zeros(0, 4)] * 4, TITLES)],
    "class_maps": [
        lambda: draw.class_maps(
            PHOTO, {"found": torch.arange(63).expand(42, 63) // 9}, ["a name with many letters"] * 7
        )
    ],
    "boxed": [lambda: draw.boxed(PHOTO, dict.fromkeys(["annotated", "found"], torch.tensor([[3.0, 2, 9, 5]])))],
    "routing": [lambda grid=grid: draw.routing(BOARD, a_view(grid), 9, 3) for grid in ((4, 4), (16, 16))],
    "readers": [lambda: draw.readers(BOARD, a_view((16, 16)), 1)],
    "routed_stages": [lambda: draw.routed_stages(PHOTO, {f"stage {i}, last block": a_view() for i in range(3)})],
    "token_attention": [lambda: draw.token_attention(BOARD, a_view(), 4, 6)],
    "routing_rollout": [lambda: draw.routing_rollout(PHOTO, [a_view()] * 2, 5)],
    "matrices": [
        lambda: draw.matrices([torch.randint(-11, 12, (16, 16)), torch.randn(4, 4)], ["scores", "means"], lines=(4, 1)),
        lambda: draw.matrices([torch.zeros(4, 8)] * 2, ["input before", "output before"], lines=(4, 4)),
        lambda: draw.matrices([torch.zeros(7, 7)] * 4, NAMES[:4], same_shades=True),
        lambda: draw.matrices([torch.randn(6, 6)] * 2, ["correct", "swapped"], ("reads", "is read"), CHOSEN),
        lambda: draw.matrices([torch.rand(42, 63)] * 2, ["change of the attention", "change of LCE"]),
        lambda: draw.matrices([torch.rand(49, 49)] * 2 + [torch.ones(2, 2)], ["stage 1: 64 tokens"] * 3),
    ],
    "token_grids": [lambda: draw.token_grids(torch.zeros(4, 4), [torch.zeros(4, 4).long()] * 4, NAMES[:4])],
    "token_rows": [lambda: draw.token_rows(torch.zeros(2, 8), torch.zeros(2, 8).long(), ["region 0 gets"] * 2, "rows")],
}
ON_AXES = {"outline_region", "show_image", "Picture"}  # they return no picture


def test_every_figure_is_measured():
    assert set(FIGURES) == set(draw.__all__) - ON_AXES


@pytest.mark.parametrize("name", FIGURES)
def test_text_can_be_read_where_figures_are_shown(name):
    for make in FIGURES[name]:
        picture = make()
        data, told = picture._repr_mimebundle_()
        pixels = width(data["image/png"])
        assert pixels <= COLUMN, "panels must break into rows instead of shrinking"
        assert told["image/png"]["smallest_text"] >= SMALL


def a_figure(size, inches, **style):
    figure = Figure(figsize=(inches, 2))
    figure.text(0.01, 0.5, "words", fontsize=size, **style)
    figure.text(0.99, 0.9, "to the right rim", ha="right", fontsize=30)
    return Picture(figure, "words")


@pytest.mark.parametrize("size, inches", [(12, 7), (8, 7), (12, 14), (9, 3)])
def test_points_are_those_of_the_page(size, inches):
    picture = a_figure(size, inches)
    png = picture.png()
    with Image.open(io.BytesIO(png)) as image:
        assert width(png) == image.width
    letters = size / 72 * DOTS * min(1, COLUMN / width(png))  # in CSS pixels, of which a point has 4/3
    assert smallest_text(picture.figure, width(png)) == pytest.approx(letters * 3 / 4)
    assert picture._repr_mimebundle_()[1]["image/png"]["smallest_text"] == round(letters * 3 / 4, 2)


def test_text_counts_as_far_as_it_is_seen():
    assert smallest_text(Figure(), 100) == math.inf
    small = a_figure(2, 3, visible=False)
    assert smallest_text(small.figure, 300) == pytest.approx(30 * DOTS / 96)
    exponent = Figure()
    exponent.text(0, 0, "$10^{6}$", fontsize=10)
    assert smallest_text(exponent, 300) == pytest.approx(7 * DOTS / 96), "an exponent is smaller than its number"


def test_a_figure_stands_on_white_wherever_it_is_shown():
    picture = a_figure(12, 3)
    picture.figure.set_facecolor((1, 1, 1, 0))  # as notebooks may set it
    with Image.open(io.BytesIO(picture.png())) as image:
        assert image.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255)
        assert image.convert("RGBA").getextrema()[3] == (255, 255)
