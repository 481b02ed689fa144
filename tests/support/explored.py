"""An explorer to drive, and what a page that shows it says: sentences, outlines, bars, matrix."""

import re

import pytest
import torch
from browser import marks, pixels

# A network of one's own with two BRA layers: 4 x 4 regions on 5 x 11 tokens, the last row of them all padding, and
# 2 x 3 regions on 2 x 5 tokens. As text, because notebooks run it too.
SETUP = """
import torch
from torch import nn
from bra import BRA2d
from bra.explorer import Explorer
from bra.explorer.portrait import Portrait, read_history
from bra.look.views import look

class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, 8, 4, stride=4)
        self.deep = nn.ModuleDict({"fine": BRA2d(8, 2, (4, 4), 3)})
        self.halve = nn.Conv2d(8, 8, 2, stride=2)
        self.coarse = nn.Sequential(BRA2d(8, 4, (2, 3), 2))
        for layer in (self.deep["fine"], self.coarse[0]):
            nn.init.normal_(layer.qkv.weight)  # far from an even share

    def forward(self, x):
        return self.coarse(self.halve(self.deep["fine"](self.stem(x))))

torch.manual_seed(1)
image = torch.rand(3, 20, 44, dtype=torch.float64) * 2 - 1
views = look(Mine().double(), image)

def table_of(step):
    turned = [(view.index.roll(step, 0).tolist(), view.affinity.roll(step, 0).tolist()) for view in views]
    return {"step": step, "index": [index for index, _ in turned], "affinity": [affinity for _, affinity in turned]}

explorer = Explorer(Portrait(image, views, title="a & b", step=40, truth=(5, 3), columns={"of 9": ["7/9", "<b>"]},
                             history=read_history([table_of(3), table_of(7)])))
"""


def status(page):
    return page.locator(".status").text_content()


def pointed(page):
    return page.locator(".pointer").text_content()


def regions(page, kind, view):
    """The regions that have an outline of this kind."""
    return [view.locate(int(y), int(x))[0] for y, x in marks(page, kind)]


def tokens_of(view, region):
    """How many tokens of a region are on the map."""
    return sum(view.locate(y, x)[0] == region for y in range(view.size[0]) for x in range(view.size[1]))


def region_name(view, region):
    return "region {} (row {}, column {})".format(region, *divmod(region, view.grid[1]))


def expect_reads(page, explorer, block, query, step=40):
    """Everything that shows whom a region reads: the sentence, the outlines with their ranks, and the query."""
    view, index = explorer.views[block], table_at(explorer, block, step)[0]
    reads = index[query].tolist()
    text = f"{view.label}, step {step}: {region_name(view, query)} reads {', '.join(map(str, reads))}"
    if query == 5:
        rank = ["1st", "2nd", "3rd"][reads.index(3)] if 3 in reads else None
        text += f". It should read 3: {f'a hit, its {rank} choice' if rank else 'a miss'}"
    if query == 3:
        asking = index[5].tolist()
        rank = ["1st", "2nd", "3rd"][asking.index(3)] if 3 in asking else None
        text += f". Region 5, which asks, should read it: {f'a hit, its {rank} choice' if rank else 'a miss'}"
    assert status(page) == f"{text}."
    assert regions(page, "asks", view) == [query]
    assert regions(page, "reads", view) == reads
    assert page.locator(".stage .rank").all_text_contents() == [str(i + 1) for i in range(len(reads))]
    assert regions(page, "should", view) == {5: [3]}.get(query, [])
    assert regions(page, "asker", view) == {3: [5]}.get(query, [])
    keys = {key.strip() for key in page.locator(".key").filter(visible=True).all_text_contents()}
    told = {5: {"the right answer"}, 3: {"asks for it"}}.get(query, set())
    assert keys & {"the right answer", "asks for it"} == told


def table_at(explorer, block, step):
    """Index and affinity of a step: SETUP turns the rows of those of before."""
    view, turn = explorer.views[block], 0 if step == 40 else step
    return view.index.roll(turn, 0), view.affinity.roll(turn, 0)


def spot(page, part, row, column, rows, columns):
    """The place on the screen of one of rows x columns equal cells of a part, which is scrolled to."""
    page.locator(part).scroll_into_view_if_needed()
    box = page.locator(part).bounding_box()
    return box["x"] + (column + 0.5) / columns * box["width"], box["y"] + (row + 0.5) / rows * box["height"]


def click(page, part, *cell):
    page.mouse.click(*spot(page, part, *cell))


def hover(page, part, *cell):
    page.mouse.move(*spot(page, part, *cell))


def expect_matrix(page, explorer, step):
    """The matrix of the first block: colours, grey where there is but padding, and a dot for each route."""
    index, affinity = table_at(explorer, 0, step)
    found, finite = pixels(page, ".matrix canvas"), affinity.isfinite()
    finite[12:] = False  # these regions are padding, and so is all that they would read
    assert (found[..., 3] == 255).tolist() == finite.tolist()
    brightness, order = torch.tensor(found[..., :3].sum(axis=-1))[finite], affinity[finite].argsort()
    assert (brightness[order].diff() >= -3).all(), "brighter is higher"
    assert brightness[order[-1]] - brightness[order[0]] > 300
    dots = page.locator(".matrix path.dots").get_attribute("d")
    places = [(int(float(y)), int(float(x))) for x, y in re.findall(r"M([\d.]+) ([\d.]+)", dots)]
    assert places == [(reader, read) for reader in range(12) for read in index[reader].tolist()]


def brightest(view, region, attention):
    """The attention at the bright end of the colours: the largest, but at least four times an even share."""
    even = 1 / sum(tokens_of(view, read) for read in view.index[region].tolist())
    return max(attention.max(), min(1, 4 * even))


def expect_overlay(page, view, region, attention, within=6):
    """The canvas over the image: bright where the token reads much, dark where its region does not read."""
    found = pixels(page, ".stage canvas:nth-child(2)")
    assert found.shape == (*view.size, 4)
    lit = {region, *view.index[region].tolist()}
    for row in range(view.size[0]):
        for column in range(view.size[1]):
            share = attention[row, column] / brightest(view, region, attention)
            if share > 2e-3:
                assert abs(found[row, column, 3] - (90 + 130 * share)) < within
            elif share == 0:
                dark = 0 if view.locate(row, column)[0] in lit else 110
                assert found[row, column].tolist() == [0, 0, 0, dark]
    if within == 6:
        assert found[..., 3].argmax() == attention.argmax()


def expect_pair(page, explorer, reader, read, step=40):
    """The sentence on one pair, and its marks in matrix and image."""
    view, (index, affinity) = explorer.views[0], table_at(explorer, 0, step)
    found = re.fullmatch(
        r"Affinity of region (\d+) to region (\d+): (.*), (?:its (\d)\w\w choice|not read)\.", pointed(page)
    )
    assert (int(found[1]), int(found[2])) == (reader, read)
    if affinity[reader, read].isinf():
        assert found[3] == "none (padding)"
    else:
        assert float(found[3]) == pytest.approx(affinity[reader, read].item(), rel=2e-3, abs=2e-3)
    reads = index[reader].tolist()
    assert found[4] == (str(reads.index(read) + 1) if read in reads else None)
    over = page.locator(".matrix rect.over")
    assert [int(over.get_attribute(name)) for name in ("y", "x")] == [reader, read]
    (query,) = regions(page, "asks", view)
    assert set(regions(page, "over", view)) == {region for region in (reader, read) if region < 12} - {query}


def bar_spot(page, region, regions=16):
    """The place on the screen of a bar: right of the ends of the scale, a ninth of the width."""
    box = page.locator(".row svg").bounding_box()
    return box["x"] + (40 + (region + 0.5) / regions * 320) / 360 * box["width"], box["y"] + box["height"] / 2


def bar_ranks(page):
    """The rank above each bar that has one."""
    marks = page.locator(".row .tick:not(.place)")
    places = marks.evaluate_all("all => all.map(one => Number(one.getAttribute('x')))")
    return {int(x // 20): int(rank) for x, rank in zip(places, marks.all_text_contents(), strict=True)}


def expect_bars(page, affinity, values):
    """Bars in proportion to the values, up and down from zero."""
    text = " ".join(path.get_attribute("d") for path in page.locator(".row path.rest, .row path.read").all())
    found = sorted(tuple(map(float, bar)) for bar in re.findall(r"M([\d.]+) ([\d.]+)v(-?[\d.e-]+)", text))
    zero = float(page.locator(".row path.zero").get_attribute("d").split()[1].split("H")[0])
    finite = affinity[affinity.isfinite()]
    low, high = min(0, finite.min().item()), max(0, finite.max().item())
    unit = 70 / (high - low) if high > low else 0
    assert zero == pytest.approx(84 + low * unit, abs=0.1)
    heights = [0 if value == -torch.inf else value * unit for value in values.tolist()]
    assert [-v for _, _, v in found] == pytest.approx(heights, abs=0.1)
    assert all(y == pytest.approx(zero) for _, y, _ in found)
