"""An explorer in a file, in Chromium: keyboard, assistive technology, narrow windows, extremes."""

import re

import pytest
import torch
from browser import contrasts, marks, offline, tab_stops
from explored import click, expect_overlay, regions, status

from bra.explorer import Explorer
from bra.explorer.portrait import Portrait
from bra.look.views import View


def test_everything_is_reached_by_tab_and_shows_it(page):
    page.locator("details").last.locator("summary").click()  # the keys, explained
    assert "arrow keys choose a region" in page.locator("details p").inner_text()
    page.locator("input[value=tokens]").check()
    page.evaluate("document.activeElement.blur()")
    page.mouse.click(2, 2)
    stops = tab_stops(page)
    assert [name for name, _ in stops] == [
        "select 0", "input tokens", "select -1", "button play", "input 2",
        "summary What the three pictures mean", "div stage", "div row", "div matrix", "summary Every block",
        "div scroll", "button deep.fine", "button coarse.0", "summary Keys",
    ]  # fmt: skip
    assert {outline for _, outline in stops} == {"solid 3px rgb(0, 0, 0)"}, stops


def test_names_tell_assistive_technology_what_is_there(page):
    tree = page.locator(".explorer").aria_snapshot()
    for line in ('combobox "Block"', 'radio "whom it reads" [checked]', 'slider "Training step": "2"',
                 'application "The image. Arrow keys choose a region."', "status:", 'button "deep.fine" [pressed]',
                 'application "Affinity row. Left and right point at a region, Enter chooses it."',
                 'application "Affinity matrix. Arrow keys point at a pair, Enter chooses its reader."',
    ):  # fmt: skip
        assert line in tree, tree
    assert page.locator(".pointer").get_attribute("aria-live") == "polite"
    assert page.locator(".stage svg").get_attribute("aria-hidden") == "true"


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_text_is_readable_by_day_and_by_night(scheme, browser, explorer, tmp_path):
    with offline(browser, explorer.save_html(tmp_path / "page.html"), color_scheme=scheme) as page:
        page.locator("input[value=tokens]").check()
        found = contrasts(page)
        assert len(found) > 20 and {name: c for name, c in found.items() if c < 4.5} == {}
        assert page.locator(".explorer").evaluate("one => one.style.colorScheme") == scheme
        colour = page.locator(".explorer").evaluate("one => getComputedStyle(one).color")
        assert (sum(map(int, re.findall(r"\d+", colour))) < 3 * 128) == (scheme == "light"), "dark on light"
        page.emulate_media(color_scheme="light")
        page.locator(".explorer[style*=light]").wait_for()  # it follows the page


@pytest.mark.parametrize(
    "window", [{"width": 320, "height": 640}, {"width": 390, "height": 844}, {"width": 640, "height": 450}]
)
def test_nothing_is_cut_off_in_a_narrow_window_or_at_200_percent(window, browser, explorer, tmp_path):
    scale = 2 if window["width"] == 640 else 1
    options = {"viewport": window, "device_scale_factor": scale}
    with offline(browser, explorer.save_html(tmp_path / "page.html"), **options) as page:
        for show in ("reads", "readers", "tokens"):
            page.locator(f"input[value={show}]").check()
            assert page.evaluate("document.documentElement.scrollWidth") <= window["width"]
        for part in ("select", "input", ".stage", ".row", ".matrix", ".status", "figcaption", ".scroll"):
            for one in page.locator(part).all():
                box = one.bounding_box()
                assert box["x"] >= 0 and box["x"] + box["width"] <= window["width"], part
        stage, matrix = (page.locator(part).bounding_box() for part in (".stage", ".matrix"))
        assert stage["width"] > 250 and matrix["width"] > 200, "large enough to hit a cell"


@pytest.mark.parametrize(
    ("pixels_", "size", "grid"),
    [((40, 900), (10, 225), (2, 15)), ((900, 40), (225, 10), (15, 2)), ((1, 300), (1, 300), (1, 8))],
)
@pytest.mark.parametrize("window", [1280, 340])
def test_a_strip_is_shown_large_enough(pixels_, size, grid, window, browser, tmp_path):
    n = grid[0] * grid[1]
    view = View(grid, size, "x", torch.arange(n)[:, None].roll(-1, 0), torch.zeros(n, n))
    shown = Explorer(Portrait(torch.zeros(3, *pixels_), [view]), query=n - 1)
    with offline(browser, shown.save_html(tmp_path / "page.html"), viewport={"width": window, "height": 800}) as page:
        page.locator(".stage").scroll_into_view_if_needed()
        stage = page.locator(".stage").bounding_box()
        assert stage["height"] >= 120 and stage["width"] >= 120 and stage["height"] <= 640
        assert stage["width"] <= 4.01 * stage["height"] and stage["height"] <= 4.01 * stage["width"]
        for region in (0, n - 2):
            inside = [(y, x) for y in range(size[0]) for x in range(size[1]) if view.locate(y, x)[0] == region]
            y, x = inside[len(inside) // 2]
            click(page, ".stage", y, x, *size)
            assert regions(page, "asks", view) == [region] and regions(page, "reads", view) == [region + 1]
            badge = page.locator(".stage .badge").bounding_box()
            frame = page.locator(".stage rect.reads:not(.badge)").bounding_box()
            assert frame["x"] - 3 <= badge["x"] and badge["x"] + badge["width"] <= frame["x"] + frame["width"] + 3
            assert frame["y"] - 3 <= badge["y"] and badge["y"] + badge["height"] <= frame["y"] + frame["height"] + 3
            assert badge["width"] / badge["height"] == pytest.approx(1.1 / 1.15, rel=0.15), "not stretched"


@pytest.mark.parametrize(("size", "named"), [((43, 43), 36), ((43, 49), 42), ((49, 43), 42), ((49, 49), 49)])
def test_a_number_that_does_not_fit_its_region_is_left_out(size, named, browser, tmp_path):
    view = View((7, 7), size, "x", torch.zeros(49, 1, dtype=torch.long), torch.zeros(49, 49))
    shown = Explorer(Portrait(torch.zeros(3, *size), [view]))
    with offline(browser, shown.save_html(tmp_path / "page.html")) as page:
        boxes = page.locator(".stage .name").evaluate_all(
            """all => all.map(one => {
                const { x, y, width, height } = one.getBBox(), [w, h] = one.ownerSVGElement.getAttribute("viewBox")
                    .split(" ").slice(2).map(Number), stretch = one.parentNode.transform.baseVal[0].matrix.d;
                return [(x + width) / w, ((y + 0.85 * height) * stretch) / h];
            })"""
        )
        assert len(boxes) == named and max(map(max, boxes)) <= 1


def test_the_table_of_blocks_is_never_cut_off(browser, explorer, tmp_path):
    columns = {f"a longer name {i}": "ab" for i in range(6)}
    wide = Explorer(Portrait(torch.zeros(3, 20, 44), explorer.views, truth=(5, 3), columns=columns))
    for i, shown in enumerate((explorer, wide)):
        with offline(browser, shown.save_html(tmp_path / f"{i}.html")) as page:
            for window in (320, 390, 768, 1280):
                page.set_viewport_size({"width": window, "height": 844})
                cut = "one => [one.scrollWidth - one.clientWidth, one.scrollHeight - one.clientHeight]"
                assert max(page.locator(".scroll").evaluate(cut)) <= 0, "all rows and columns are there"
                cells = page.locator("tbody td").evaluate_all(
                    "all => all.map(one => one.getBoundingClientRect()).map(({ left, right }) => [left, right])"
                )
                assert all(0 <= left < right - 20 <= window - 20 for left, right in cells)
            page.set_viewport_size({"width": 390, "height": 844})
            heads = page.locator("thead th").all_text_contents()
            told = (
                page.locator("tbody tr")
                .first.locator("td")
                .evaluate_all("all => all.map(one => JSON.parse(getComputedStyle(one, '::before').content))")
            )
            assert told == heads[1:], "the cells of a card bear the heads"
            roles = page.locator("table, thead, tbody, tr, th, td").evaluate_all("all => all.map(one => one.role)")
            assert set(roles) == {"table", "rowgroup", "row", "columnheader", "rowheader", "cell"}


def test_nothing_moves_by_itself(page):
    for _ in range(3):
        page.locator(".stage").press("ArrowRight")
        assert page.evaluate("document.getAnimations().length") == 0
    moving = page.evaluate(
        """[...document.querySelector("[data-explorer]").shadowRoot.querySelectorAll("*")].filter(one => {
            const { transitionDuration, animationName, scrollBehavior } = getComputedStyle(one);
            return transitionDuration !== "0s" || animationName !== "none" || scrollBehavior === "smooth";
        }).map(one => one.localName)"""
    )
    assert moving == []


def test_marks_differ_by_more_than_colour(browser, explorer, tmp_path):
    with offline(browser, explorer.save_html(tmp_path / "page.html"), forced_colors="active") as page:
        assert page.evaluate("matchMedia('(forced-colors: active)').matches")
        dashes = "one => getComputedStyle(one).strokeDasharray"
        kinds = ["asks", "reads", "should", "reader", "asker"]
        found = [page.locator(f".stage rect.{kind}:not(.badge)").first.evaluate(dashes) for kind in kinds[:3]]
        page.locator("input[value=readers]").check()
        found.append(page.locator(".stage rect.reader:not(.badge)").first.evaluate(dashes))
        click(page, ".stage", 0, 9, 5, 11)
        found.append(page.locator(".stage rect.asker").evaluate(dashes))
        assert len(set(found)) == 5, "each kind has its own dashes"
        keys = page.locator(".key").filter(visible=True).all_text_contents()
        assert keys == [" chosen", " reads it, at which rank", " asks for it"]
        assert {name: c for name, c in contrasts(page).items() if c < 4.5} == {}
        weights = page.locator("tbody button").evaluate_all("all => all.map(one => getComputedStyle(one).fontWeight)")
        assert weights == ["700", "400"], "the chosen block is bold"


def test_names_are_text(browser, explorer, tmp_path):
    evil = "</script><img src=x onerror='document.title=1'>"
    view = explorer.views[1]
    named = View(view.grid, view.size, evil, view.index, view.affinity, None)
    shown = Explorer(Portrait(torch.zeros(3, 20, 44), [named], evil, columns={evil: [evil]}))
    with offline(browser, shown.save_html(tmp_path / "page.html")) as page:
        assert page.title() == page.locator("h3").text_content() == evil
        assert page.locator("img").count() == 0
        assert page.locator("tbody th, tbody td").all_text_contents() == [evil, "2 x 3", "2", evil]
        page.locator("input[value=tokens]").check()
        assert "the token weights of this layer were not asked for, or are too many to store" in status(page)
        assert page.locator("label", has_text="Head").is_hidden() and page.locator(".steps").is_hidden()


def test_one_region_and_a_hundred_blocks(browser, tmp_path):
    view = View((1, 1), (1, 1), "x", torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1), torch.ones(1, 1, 1, 1))
    shown = Explorer(Portrait(torch.zeros(1, 8, 8), [view] * 100))
    with offline(browser, shown.save_html(tmp_path / "page.html")) as page:
        page.locator(".stage").press("ArrowRight")
        assert status(page) == "x: region 0 (row 0, column 0) reads 0."
        page.locator("tbody button").nth(99).click()
        assert page.get_by_role("combobox", name="Block").input_value() == "99"
        page.locator("input[value=tokens]").check()
        assert "100% of its attention, 1.0 times an even share (1/1)" in status(page)
        assert page.locator(".scroll").bounding_box()["height"] < 400


def test_weights_of_half_a_byte_are_shown_too(browser, made, tmp_path, monkeypatch):
    monkeypatch.setattr("bra.explorer.payload.BYTES_UP_TO", 0)
    shown = Explorer(Portrait(made["image"], made["views"]), token=7)
    with offline(browser, shown.save_html(tmp_path / "page.html")) as page:
        page.get_by_label("Head").select_option("1")
        assert re.search(r": about [\d.]+% of its attention", status(page))
        expect_overlay(page, shown.views[0], 2, shown.views[0].token_map(0, 7)[1].numpy(), within=13)


def test_many_readers_are_not_all_named(browser, tmp_path):
    index = torch.zeros(36, 1, dtype=torch.long)
    shown = Explorer(Portrait(torch.zeros(1, 6, 6), [View((6, 6), (6, 6), "x", index, torch.zeros(36, 36))]), query=0)
    with offline(browser, shown.save_html(tmp_path / "page.html")) as page:
        page.locator("input[value=readers]").check()
        assert status(page).endswith("14 (1st choice), 15 (1st choice) and 20 more.")
        assert len(marks(page, "reader")) == 36
