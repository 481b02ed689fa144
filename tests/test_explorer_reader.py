"""An explorer in a file, in Chromium: what a reader meets who has never seen one, and the film of the training."""

import base64
import re

import numpy as np
import pytest
import torch
from browser import marks, offline, pixels
from explored import click, status

from bra.data import RecallBoards
from bra.data.recall import Recall
from bra.data.recall_where import RecallBoxes, RecallPixels
from bra.explorer import Explorer
from bra.explorer.portrait import Portrait, Snapshot
from bra.files import results
from bra.look.views import View
from bra.train.report import of_run

PARTS = (".controls", ".steps", ".says", ".stage", ".meanings", ".row", ".matrix", ".blocks", ".scroll")


def portrait_of(grid, size, k, **known):
    """A layer with affinities far apart, on an image of 8 x 8 pixels a token."""
    regions = grid[0] * grid[1]
    affinity = 5 * torch.randn(regions, regions, dtype=torch.float64)
    view = View(grid, size, "x", affinity.topk(k).indices, affinity)
    return Portrait(torch.rand(3, 8 * size[0], 8 * size[1]) * 2 - 1, [view], **known)


def joined(page, view):
    """The pairs of regions at the two ends of each curve, and its width in pixels; the thickest last."""
    found = page.locator(".stage path.curve").evaluate_all(
        """all => all.map(one => {
            const numbers = path => path.getAttribute("d").match(/-?[\\d.]+(e-\\d+)?/g).map(Number);
            const stretch = one.parentNode.transform.baseVal[0].matrix.d, head = one.nextElementSibling;
            const [x, y] = numbers(one), own = numbers(one).slice(-2);
            const [to, below] = head?.classList.contains("head") ? numbers(head) : own;
            return [y * stretch, x, below * stretch, to, parseFloat(getComputedStyle(one).strokeWidth)];
        })"""
    )
    return [
        (view.locate(int(y), int(x))[0], view.locate(int(below), int(to))[0], width)
        for y, x, below, to, width in found
    ]  # fmt: skip


def unpacked(payload, block, step):
    """Index and affinity of a layer, as any reader of the payload would take them out."""
    layer = payload["layers"][block]
    routes, regions = layer["routes"][step], layer["grid"][0] * layer["grid"][1]
    index, codes = (np.frombuffer(base64.b64decode(routes[name]), "<u2") for name in ("index", "affinity"))
    return index.reshape(regions, -1), codes.reshape(regions, regions).astype(float)


@pytest.mark.parametrize("data", [RecallBoards(Recall()), RecallPixels(Recall()), RecallBoxes(Recall())])
def test_the_task_and_what_to_do_are_told_at_once(data, browser, tmp_path):
    told = {"title": "What?", "question": data.question, "says": "The network says ring.", "source": "runs/x, image 0"}
    portrait = portrait_of((4, 4), (8, 8), 4, truth=(5, 3), asker=data.asker, **told)
    with offline(
        browser, Explorer(portrait).save_html(tmp_path / "page.html"), viewport={"width": 390, "height": 844}
    ) as page:
        assert page.title() == "What?" and data.question.endswith("?")
        assert page.locator(".task").inner_text() == f"{data.question} The network says ring."
        assert page.locator(".hint").inner_text() == f"Try first: Click {data.asker}, or move with the arrow keys."
        assert "16 regions, the fields of this 4 × 4 grid" in page.locator(".about").inner_text()
        assert "here 4 of 16" in page.locator(".about").inner_text()
        assert page.locator(".source").inner_text() == "runs/x, image 0"
        assert all(page.locator(part).bounding_box()["y"] < 600 for part in ("h3", ".task", ".about", ".hint"))
        meanings = page.locator(".meanings")
        assert meanings.locator("li").count() == page.locator("figure").count() == 3
        assert not meanings.locator("li").first.is_visible(), "on a phone it is folded"
        title, image = meanings.locator("summary").bounding_box(), page.locator(".stage").bounding_box()
        assert image["y"] - 100 < title["y"] < image["y"], "right above the image"
        meanings.locator("summary").click()
        assert meanings.locator("li").last.is_visible()
        page.set_viewport_size({"width": 600, "height": 844})
        assert meanings.locator("li").last.is_visible(), "the reader has chosen"


def test_without_a_task_nothing_empty_stands_there(page):
    assert page.locator(".task").count() == page.locator(".source").count() == 0
    assert page.locator(".hint").inner_text() == "Try first: Click a region, or move with the arrow keys."


@pytest.mark.parametrize(("grid", "size", "k"), [((4, 4), (5, 11), 3), ((3, 5), (9, 25), 5), ((1, 3), (4, 6), 2)])
def test_curves_join_the_chosen_region_with_those_it_reads(grid, size, k, browser, tmp_path):
    explorer = Explorer(portrait_of(grid, size, k))
    view, (index, codes) = explorer.views[0], unpacked(explorer.payload, 0, 0)
    real = [region for region in range(grid[0] * grid[1]) if view.is_real(region)]
    with offline(browser, explorer.save_html(tmp_path / "page.html")) as page:
        for query in real[:: max(1, len(real) // 4)]:
            row, column, height, width = view.box(query)
            click(page, ".stage", row + height // 2, column + width // 2, *size)
            page.locator("input[value=reads]").check()
            found = joined(page, view)
            expected = [(query, to) for to in index[query].tolist() if view.is_real(to)]
            expected.sort(key=lambda pair: codes[pair])
            assert [pair for *pair, _ in found] == [list(pair) for pair in expected], "the highest affinity on top"
            widths = [width for _, _, width in found]
            assert widths == sorted(widths) and 1.5 <= min(widths) <= max(widths) <= 6
            page.locator("input[value=readers]").check()
            readers = {(reader, query) for reader in real if query in index[reader]}
            assert {pair[:2] for pair in joined(page, view)} == readers


def test_curves_of_a_token_are_as_thick_as_its_attention(page, explorer):
    view = explorer.views[0]
    page.locator("input[value=tokens]").check()
    click(page, ".stage", 0, 4, 5, 11)
    attention, found = view.token_map(0, 4).mean(dim=0), joined(page, view)
    assert {from_ for from_, _, _ in found} == {1}
    cells = [(y, x) for y in range(5) for x in range(11)]
    for _, to, width in found:
        share = sum(attention[cell].item() for cell in cells if view.locate(*cell)[0] == to)
        assert width == pytest.approx(1.5 + 4.5 * share, abs=0.1)


def test_of_many_curves_the_thickest_are_drawn(browser, tmp_path):
    explorer = Explorer(portrait_of((5, 5), (10, 10), 25))
    _, codes = unpacked(explorer.payload, 0, 0)
    with offline(browser, explorer.save_html(tmp_path / "page.html")) as page:
        found = {to for _, to, _ in joined(page, explorer.views[0])}
        assert found == set(codes[12].argsort()[-16:].tolist())


@pytest.mark.parametrize(
    ("grid", "k", "window"), [((7, 7), 16, 1280), ((7, 7), 16, 390), ((4, 4), 4, 1280), ((4, 4), 4, 390)]
)
def test_numbers_do_not_collide_and_leave_the_glyphs_free(grid, k, window, browser, tmp_path):
    explorer = Explorer(portrait_of(grid, (2 * grid[0], 2 * grid[1]), k))
    with offline(
        browser, explorer.save_html(tmp_path / "page.html"), viewport={"width": window, "height": 844}
    ) as page:
        stage = page.locator(".stage").bounding_box()
        boxes = areas(page, ".stage .badge, .stage .name")
        assert len(boxes) == k + grid[0] * grid[1]
        assert not any(overlap(a, b) for i, a in enumerate(boxes) for b in boxes[:i])
        side = stage["width"] / grid[1]
        covered = 0
        for row in range(grid[0]):  # glyphs fill the inner six of eight pixels
            for column in range(grid[1]):
                x, y = stage["x"] + (column + 1 / 8) * side, stage["y"] + (row + 1 / 8) * side
                glyph = {"x": x, "y": y, "width": 0.75 * side, "height": 0.75 * side}
                covered = max(covered, *(overlap(glyph, box) / (0.75 * side) ** 2 for box in boxes))
        if grid == (4, 4):
            assert covered <= (0.01 if window > 1000 else 0.05)
        ranks = areas(page, ".row .tick:not(.place)")
        assert not any(overlap(a, b) > 1 for i, a in enumerate(ranks) for b in ranks[:i])


def areas(page, parts):
    """The boxes of drawn parts on the page, without the strokes around them."""
    return page.locator(parts).evaluate_all(
        """all => all.map(one => {
            const { x, y, width, height } = one.getBBox(), { a, d, e, f } = one.getScreenCTM();
            return { x: a * x + e, y: d * y + f, width: a * width, height: d * height };
        })"""
    )


def overlap(a, b):
    """The area that two boxes share."""
    sides = [
        min(a[at] + a[long], b[at] + b[long]) - max(a[at], b[at]) for at, long in (("x", "width"), ("y", "height"))
    ]
    return max(0, sides[0]) * max(0, sides[1])


def test_even_attention_is_not_bright(browser, made, tmp_path):
    view = made["views"][0]
    counts = (view.weights > 0).double()
    even = View(
        view.grid, view.size, "x", view.index, view.affinity, counts / counts.sum(dim=-1, keepdim=True).clamp(min=1)
    )
    with offline(browser, Explorer(Portrait(made["image"], [even]), token=4).save_html(tmp_path / "page.html")) as page:
        cover = pixels(page, ".stage canvas:nth-child(2)")
        lit = cover[cover[..., 2] > 0]
        assert len(lit) and lit[..., :3].sum(axis=-1).max() < 350, "a quarter of the scale at most"
        told, share = map(float, re.findall(r"([\d.]+)%", page.locator(".key", has_text="attention").text_content()))
        assert told == pytest.approx(4 * share, rel=0.1)


def test_the_matrix_has_names_and_numbers_at_both_sides(page):
    matrix = page.locator(".matrix").bounding_box()
    texts = {one.text_content(): one.bounding_box() for one in page.locator(".matrix text").all()}
    below, beside = texts["region that is read"], texts["region that reads"]
    assert below["y"] > matrix["y"] + matrix["height"] and beside["x"] + beside["width"] < matrix["x"]
    numbers = page.locator(".matrix text").all_text_contents()
    assert numbers[:8] == ["0", "4", "8", "12"] * 2, "the first of each row of regions, down and across"
    twelve = texts["12"]
    assert (
        matrix["x"] + 12 / 16 * matrix["width"]
        <= twelve["x"] + twelve["width"] / 2
        <= matrix["x"] + 13 / 16 * matrix["width"]
    )


@pytest.mark.parametrize("window", [390, 800, 1280])
def test_nothing_changes_its_place_when_step_or_view_change(window, browser, explorer, tmp_path):
    with offline(
        browser, explorer.save_html(tmp_path / "page.html"), viewport={"width": window, "height": 844}
    ) as page:

        def places():
            boxes = page.locator(", ".join((*PARTS, "td"))).evaluate_all(
                """all => all.map(one => one.getBoundingClientRect())
                    .map(({ x, y, width, height }) => [x, y + scrollY, width, height])"""
            )
            assert len(boxes) > len(PARTS)
            return {"overflow": page.evaluate("document.documentElement.scrollWidth") - window, "boxes": boxes}

        before = places()
        assert before["overflow"] <= 0
        for show in ("readers", "tokens", "reads"):
            for step in "210":
                page.locator(f"input[value={show}]").check()
                page.locator("input[type=range]").fill(step)
                assert places() == before, (show, step)
        page.locator(".stage").hover()
        assert places() == before


def test_on_a_wide_page_nothing_is_left_empty(browser, tmp_path):
    """Both columns end alike, the explanation of the pictures is open, and the table below them is as wide as both."""
    portrait = of_run(results("recall-topk"), None)
    with offline(browser, Explorer(portrait).save_html(tmp_path / "page.html")) as page:
        for window in (1200, 1280, 1600):
            page.set_viewport_size({"width": window, "height": 900})
            parts = (".meanings", ".right", ".blocks", ".panels")
            left, right, table, whole = (page.locator(part).bounding_box() for part in parts)
            ends = [box["y"] + box["height"] for box in (left, right)]
            assert abs(ends[0] - ends[1]) < 60, window
            assert table["width"] == pytest.approx(whole["width"]) and table["y"] - max(ends) < 40
            assert page.locator(".meanings li").last.is_visible()


def hold(page):
    """From now on time passes only in `run_for`."""
    page.clock.install(time=0)
    page.clock.pause_at(1000)


def test_play_shows_each_step_and_stops_at_the_last(page, explorer):
    play, told = page.locator(".play"), lambda: page.locator(".now").text_content()
    hold(page)
    assert (play.text_content(), told()) == ("Play", "40")
    play.click()
    assert (play.text_content(), told()) == ("Pause", "3"), "from the first step"
    assert "step 3" in status(page) and page.locator(".status").get_attribute("aria-live") == "off"
    page.clock.run_for(1000)
    assert (play.text_content(), told()) == ("Pause", "7")
    play.click()
    page.clock.run_for(5000)
    assert (play.text_content(), told()) == ("Play", "7"), "it pauses"
    play.click()
    assert (play.text_content(), told()) == ("Play", "40"), "the last step ends it"
    page.clock.run_for(5000)
    assert told() == "40" and page.locator(".status").get_attribute("aria-live") == "polite"
    play.click()
    page.get_by_label("Training step").fill("0")
    page.clock.run_for(5000)
    assert (play.text_content(), told()) == ("Play", "3"), "who takes the slider has it"


def test_with_less_motion_asked_for_nothing_plays(browser, explorer, tmp_path):
    with offline(browser, explorer.save_html(tmp_path / "page.html"), reduced_motion="reduce") as page:
        hold(page)
        play, told = page.locator(".play"), lambda: page.locator(".now").text_content()
        assert play.text_content() == "Next step"
        for step in ("3", "7", "40", "3"):
            play.click()
            page.clock.run_for(5000)
            assert (play.text_content(), told()) == ("Next step", step), "each press shows one"


def test_a_dot_for_each_step_tells_hit_or_miss(browser, tmp_path):
    portrait = portrait_of((4, 4), (8, 8), 2)
    view, history = portrait.views[0], []
    for step in range(4):
        index = view.index.clone()
        index[5] = torch.tensor([3, 7] if step in (1, 2) else [7, 8])
        history.append(Snapshot(step, [index], [view.affinity]))
    shown = Portrait(portrait.image, [view], history=history, step=9, truth=(5, 3))
    hit = 3 in view.index[5]
    with offline(browser, Explorer(shown).save_html(tmp_path / "page.html")) as page:
        dots = page.locator(".stops i").evaluate_all("all => all.map(one => one.classList.contains('hit'))")
        assert dots == [False, True, True, False, hit]
        slider, last = page.get_by_label("Training step").bounding_box(), page.locator(".stops i").last.bounding_box()
        assert slider["x"] + slider["width"] - 20 < last["x"] + 4 < slider["x"] + slider["width"], (
            "below the slider's end"
        )
        assert len(marks(page, "should")) == 1


def test_what_to_try_first_promises_only_what_the_training_shows():
    learnt, known = (of_run(results("recall-topk"), number) for number in (None, 0))
    for portrait, before, told in (
        (learnt, False, "whom did it read before the network had learnt?"),
        (known, True, "the right one is read from the start. What changes?"),
    ):
        asking, answer = portrait.truth
        hits = [answer in shown.index[portrait.block][asking] for shown in portrait.history]
        assert (hits[0], hits[-1]) == (before, True) and portrait.hint.endswith(told)
