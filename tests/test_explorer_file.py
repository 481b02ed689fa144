"""An explorer in a file, in Chromium: what is chosen, and what it then shows and says."""

import re

import pytest
import torch
from browser import marks, offline, pixels
from explored import (
    bar_ranks,
    bar_spot,
    brightest,
    click,
    expect_bars,
    expect_matrix,
    expect_overlay,
    expect_pair,
    expect_reads,
    hover,
    pointed,
    region_name,
    regions,
    spot,
    status,
    table_at,
    tokens_of,
)

from bra.explorer import Explorer
from bra.explorer.portrait import Portrait
from bra.look.views import View


def test_it_begins_with_what_was_chosen(page, explorer):
    expect_reads(page, explorer, 0, 5)
    assert page.locator("h3").text_content() == page.title() == "a & b"
    assert page.locator(".explorer").get_attribute("aria-label") == "a & b"
    colours = pixels(page, ".stage canvas:first-child")
    shown = ((explorer.views[0].affinity.new_tensor(0) + 1) / 2).item()
    assert colours.shape == (20, 44, 4) and shown == 0.5


def test_a_region_is_chosen_by_mouse_and_by_every_arrow(page, explorer, made):
    expected = ((made["image"] + 1) / 2 * 255).round().permute(1, 2, 0).int().tolist()
    assert pixels(page, ".stage canvas:first-child")[..., :3].tolist() == expected
    click(page, ".stage", 0, 9, 5, 11)
    expect_reads(page, explorer, 0, 3)
    page.locator(".stage").focus()
    for key, query in (
        ("ArrowRight", 3), ("ArrowLeft", 2), ("ArrowUp", 2), ("ArrowDown", 6), ("ArrowDown", 10),
        ("ArrowDown", 10),  # below is padding
        ("ArrowRight", 11), ("ArrowRight", 11), ("ArrowUp", 7), ("ArrowLeft", 6),
        ("ArrowLeft", 5), ("ArrowLeft", 4), ("ArrowLeft", 4),
    ):  # fmt: skip
        page.keyboard.press(key)
        expect_reads(page, explorer, 0, query)
    page.mouse.move(*spot(page, ".stage", 4, 0, 5, 11))
    page.mouse.down()
    page.mouse.move(*spot(page, ".stage", 0, 0, 5, 11), steps=3)
    page.mouse.up()
    expect_reads(page, explorer, 0, 0)


def test_a_region_and_a_token_are_chosen_by_touch(browser, explorer, tmp_path):
    with offline(browser, explorer.save_html(tmp_path / "page.html"), has_touch=True) as page:
        page.touchscreen.tap(*spot(page, ".stage", 2, 7, 5, 11))
        expect_reads(page, explorer, 0, 6)
        page.locator("input[value=tokens]").tap()
        page.touchscreen.tap(*spot(page, ".stage", 1, 10, 5, 11))
        assert "token (row 1, column 10) of region 3 " in status(page)
        page.touchscreen.tap(*spot(page, ".matrix", 9, 4, 16, 16))
        assert regions(page, "asks", explorer.views[0]) == [9]


def test_who_reads_a_region(page, explorer):
    view = explorer.views[0]
    page.locator("input[value=readers]").check()
    counts = {}
    for query in (5, 6, 2, 11, 0):
        click(page, ".stage", query // 4 * 2, query % 4 * 3, 5, 11)
        ranks = {r: view.index[r].tolist().index(query) + 1 for r in range(12) if query in view.index[r]}
        told = ", ".join(f"{r} ({['1st', '2nd', '3rd'][rank - 1]} choice)" for r, rank in ranks.items())
        many = f"{len(ranks)} region{'s' * (len(ranks) != 1)}"
        said = f"is read by {many}: {told}" if ranks else "is read by nobody"
        assert f"{region_name(view, query)} {said}." in status(page)
        assert regions(page, "reader", view) == list(ranks) and not marks(page, "reads")
        assert page.locator(".stage .rank").all_text_contents() == [str(rank) for rank in ranks.values()]
        counts[query] = len(ranks)
    assert len(set(counts.values())) > 2, "the test's table must tell one region from another"
    column = page.locator(".matrix rect.asks")
    assert float(column.get_attribute("height")) > 16 > 2 > float(column.get_attribute("width"))


def test_a_token_and_its_heads(page, explorer):
    view = explorer.views[0]
    page.locator("input[value=tokens]").check()
    assert "token (row 3, column 4) of region 5 " in status(page), "first the middle one of the region"
    assert page.locator("label:has(select)").last.is_visible()
    places = [(0, 0), (1, 10), (4, 4), (2, 7)]
    assert len({sum(tokens_of(view, read) for read in view.index[view.locate(*at)[0]].tolist()) for at in places}) > 1
    for head, (row, column) in zip(["-1", "0", "1", "-1"], places, strict=True):
        click(page, ".stage", row, column, 5, 11)
        page.get_by_label("Head").select_option(head)
        attention = view.token_map(row, column)
        attention = (attention.mean(dim=0) if head == "-1" else attention[int(head)]).numpy()
        region = view.locate(row, column)[0]
        y, x = divmod(int(attention.argmax()), 11)
        whose = "on average over its heads" if head == "-1" else f"in head {head}"
        start, _, rest = status(page).rpartition(" of its attention, ")
        assert start[: -len(start.split()[-1])].endswith(
            f"token (row {row}, column {column}) of {region_name(view, region)} reads most, {whose}, of the token "
            f"(row {y}, column {x}) of region {view.locate(y, x)[0]}: "
        )
        assert float(start.split()[-1].rstrip("%")) == pytest.approx(100 * attention.max(), rel=0.07)
        n = sum(tokens_of(view, read) for read in view.index[region].tolist())
        times, even = re.match(r"([\d.]+) times an even share \(1/(\d+)\)\.", rest).groups()
        assert int(even) == n and float(times) == pytest.approx(n * attention.max(), rel=0.07)
        key = page.locator(".key", has_text="attention").text_content()
        told, even = map(float, re.fullmatch(r" attention: 0 to ([\d.]+)% \(even: ([\d.]+)%\)", key).groups())
        assert told == pytest.approx(100 * brightest(view, region, attention), rel=0.07)
        assert even == pytest.approx(100 / n, abs=0.51)
        expect_overlay(page, view, region, attention)
        assert marks(page, "token") == [(row + 0.5, column + 0.5)] and regions(page, "asks", view) == [region]
        assert page.locator(".key", has_text="attention").is_visible()
    page.locator(".stage").focus()
    for key, place in (("ArrowRight", (2, 8)), ("ArrowDown", (3, 8)), ("ArrowLeft", (3, 7)), ("ArrowUp", (2, 7))):
        page.keyboard.press(key)
        assert "token (row {}, column {}) ".format(*place) in status(page)
    page.locator("input[value=reads]").check()
    expect_reads(page, explorer, 0, 6)


def test_the_row_shows_and_chooses(page, explorer):
    view = explorer.views[0]
    for to in (0, 10, 15):
        page.mouse.move(*bar_spot(page, to))
        expect_pair(page, explorer, 5, to)
    assert bar_ranks(page) == {region: rank + 1 for rank, region in enumerate(view.index[5].tolist())}
    expect_bars(page, view.affinity, view.affinity[5])
    assert page.locator(".row path.reads").count() == 1 and page.locator(".row path.reader").count() == 0
    page.mouse.click(*bar_spot(page, 10))
    expect_reads(page, explorer, 0, 10)
    page.locator(".row").focus()
    for key, to in (("ArrowRight", 11), ("ArrowRight", 12), ("ArrowLeft", 11), ("ArrowUp", 10), ("ArrowUp", 9)):
        page.keyboard.press(key)
        expect_pair(page, explorer, 10, to)
    page.keyboard.press("Enter")
    expect_reads(page, explorer, 0, 9)


def test_the_row_shows_who_reads_the_region(page, explorer):
    view = explorer.views[0]
    assert page.locator(".row + figcaption").text_content().startswith("Affinity of the chosen region to every")
    page.locator("input[value=readers]").check()
    caption = page.locator(".row + figcaption").text_content()
    assert caption.startswith("How much every region wants to read the chosen one")
    assert page.locator(".row path.reads").count() == 0 and page.locator(".row path.reader").count() == 1
    click(page, ".stage", 4, 0, 5, 11)
    found = {r: view.index[r].tolist().index(8) + 1 for r in range(12) if 8 in view.index[r]}
    assert bar_ranks(page) == found and len(set(found.values())) > 1
    column = view.affinity[:, 8].clone()
    column[12:] = -torch.inf  # padding reads nobody
    expect_bars(page, view.affinity, column)
    page.mouse.move(*bar_spot(page, 9))
    expect_pair(page, explorer, 9, 8)
    assert float(page.locator(".row rect.over").get_attribute("x")) == 9 * 20
    hover(page, ".stage", 0, 0, 5, 11)
    expect_pair(page, explorer, 0, 8)
    page.mouse.click(*bar_spot(page, 9))
    assert regions(page, "asks", view) == [9]
    page.locator(".row").focus()
    page.keyboard.press("ArrowRight")
    expect_pair(page, explorer, 10, 9)
    page.keyboard.press("Enter")
    assert regions(page, "asks", view) == [10]


@pytest.mark.parametrize(
    ("grid", "low", "high", "numbers", "ends"),
    [
        ((4, 4), -1.0, 3.0, range(16), ["-1", "0", "3"]),
        ((7, 7), 2.0, 3.0, range(0, 49, 7), ["0", "3"]),
        ((2, 32), -3.0, -2.0, range(0, 64, 7), ["-3", "0"]),
        ((8, 5), -0.01, 4000.0, range(0, 40, 5), ["-0.01", "4000"]),
        ((9, 9), -4.0, 4.0, [], ["-4", "0", "4"]),
        ((3, 3), -4.0, 0.0, range(9), ["-4", "0"]),
        ((2, 2), 0.0, 0.0, range(4), ["0"]),
    ],
)
def test_bars_have_a_zero_line_numbers_and_ends(grid, low, high, numbers, ends, browser, tmp_path):
    n = grid[0] * grid[1]
    affinity = torch.rand(n, n, dtype=torch.float64) * (high - low) + low
    affinity[0, 1], affinity[1, 0] = low, high
    index = affinity.topk(2).indices
    shown = Explorer(Portrait(torch.zeros(1, *grid), [View(grid, grid, "x", index, affinity)]), query=1)
    with offline(browser, shown.save_html(tmp_path / "page.html")) as page:
        expect_bars(page, affinity, affinity[1])
        assert page.locator(".row .place").all_text_contents() == list(map(str, numbers))
        places = page.locator(".row .place").evaluate_all("all => all.map(one => Number(one.getAttribute('x')))")
        assert [int(x / 320 * n) for x in places] == list(numbers)
        heights = page.locator(".row .end").evaluate_all("all => all.map(one => -Number(one.getAttribute('y')))")
        placed = sorted(zip(heights, page.locator(".row .end").all_text_contents(), strict=True))
        assert [end for _, end in placed] == ends, "the highest on top"
        assert placed[0][0] == -87 and (len(ends) == 1 or placed[-1][0] == -17)
        bar = 320 / 360 * page.locator(".row").bounding_box()["width"] / n
        assert page.locator(".row path.peak").count() == (2 if n > 64 or bar < 11 else 0), "too narrow for a number"
        boxes = [one.bounding_box() for one in page.locator(".row text").all()]
        row = page.locator(".row").bounding_box()
        assert all(row["x"] <= box["x"] and row["y"] <= box["y"] for box in boxes)
        assert all(box["y"] + box["height"] <= row["y"] + row["height"] + 1 for box in boxes)


def test_the_matrix_shows_and_chooses(page, explorer):
    expect_matrix(page, explorer, 40)
    row = page.locator(".matrix rect.asks")
    assert float(row.get_attribute("y")) == pytest.approx(5, abs=0.2) and float(row.get_attribute("height")) < 2
    for pair in ((3, 9), (9, 3), (0, 13)):
        hover(page, ".matrix", *pair, 16, 16)
        expect_pair(page, explorer, *pair)
    click(page, ".matrix", 3, 9, 16, 16)
    expect_reads(page, explorer, 0, 3)
    page.locator(".matrix").focus()
    page.keyboard.press("ArrowDown")
    for key, pair in (("ArrowDown", (5, 9)), ("ArrowLeft", (5, 8)), ("ArrowUp", (4, 8)), ("ArrowRight", (4, 9))):
        page.keyboard.press(key)
        expect_pair(page, explorer, *pair)
    page.keyboard.press("Enter")
    expect_reads(page, explorer, 0, 4)


def test_pointing_at_the_image_shows_the_pair_in_row_and_matrix(page, explorer):
    hover(page, ".stage", 0, 7, 5, 11)
    expect_pair(page, explorer, 5, 2)
    assert float(page.locator(".row rect.over").get_attribute("x")) == 2 * 20
    page.keyboard.press("Tab")
    page.locator(".stage").focus()
    page.keyboard.press("ArrowLeft")
    assert pointed(page) == "" and not marks(page, "over"), "the pair was of the region of before"
    hover(page, "h3", 0, 0, 1, 1)
    assert pointed(page) == ""


def test_the_right_region_says_whether_it_is_read_not_whom_it_reads(page, explorer):
    page.locator("input[type=range]").fill("0")
    index = table_at(explorer, 0, 3)[0]
    assert 3 in index[5] and 3 not in index[3], "the test's table must tell one from the other"
    click(page, ".stage", 0, 9, 5, 11)
    expect_reads(page, explorer, 0, 3, step=3)
    assert status(page).endswith(". Region 5, which asks, should read it: a hit, its 3rd choice.")
    page.locator("input[value=readers]").check()
    assert status(page).endswith(". Region 5, which asks, should read it: a hit, its 3rd choice.")


def test_a_block_is_chosen_and_one_stays_where_one_looks(page, explorer):
    fine, coarse = explorer.views
    page.get_by_role("combobox", name="Block").select_option("coarse.0")
    expect_reads(page, explorer, 1, coarse.locate(1, 2)[0])  # from the middle of region 5: row 3 of 5, column 4 of 11
    pressed = page.locator("tbody button").evaluate_all("all => all.map(one => one.getAttribute('aria-pressed'))")
    assert pressed == ["false", "true"]
    assert pixels(page, ".matrix canvas").shape == (6, 6, 4)
    page.get_by_role("button", name="deep.fine").click()
    query = fine.locate(3, 7)[0]  # from the middle of region 4: row 1 of 2, column 3 of 5
    expect_reads(page, explorer, 0, query)
    assert page.get_by_role("combobox", name="Block").input_value() == "0"
    page.locator("input[value=tokens]").check()
    click(page, ".stage", 1, 10, 5, 11)
    page.get_by_role("combobox", name="Block").select_option("coarse.0")
    assert "coarse.0, step 40: token (row 0, column 4) of region 2 " in status(page)
    expect_overlay(page, coarse, 2, coarse.token_map(0, 4).mean(dim=0).numpy())
    assert page.locator("select").last.locator("option").all_text_contents() == ["all (mean)", "0", "1", "2", "3"]


def test_the_slider_goes_through_the_steps(page, explorer):
    slider = page.get_by_label("Training step")
    slider.focus()
    assert slider.get_attribute("aria-valuetext") == "40"
    page.keyboard.press("ArrowLeft")
    expect_reads(page, explorer, 0, 5, step=7)
    assert slider.get_attribute("aria-valuetext") == page.locator(".now").text_content() == "7"
    hover(page, ".matrix", 3, 9, 16, 16)
    expect_pair(page, explorer, 3, 9, step=7)
    expect_matrix(page, explorer, 7)
    page.locator("input[value=tokens]").check()
    at = "deep.fine, step 7: token (row 3, column 4) of region 5 (row 1, column 1)"
    assert status(page).startswith(f"{at}: token weights are stored for the last step only, 40")
    page.locator("input[value=reads]").check()
    page.get_by_role("button", name="coarse.0").click()
    slider.focus()
    page.keyboard.press("Home")
    expect_reads(page, explorer, 1, 4, step=3)
    page.keyboard.press("End")
    expect_reads(page, explorer, 1, 4)


def test_the_table_tells_hits_and_misses_of_every_block(page, explorer):
    heads = page.locator("thead th").all_text_contents()
    assert heads == ["block", "regions", "each reads", "asking region reads the right one, this image",
                     "right one reads the asking one, this image", "of 9, after step 40"]  # fmt: skip
    seen = set()
    for i, step in enumerate((40, 7, 3)):
        page.locator("input[type=range]").fill(str(2 - i))
        for block, (grid, column) in enumerate((("4 x 4", "7/9"), ("2 x 3", "<b>"))):
            index = table_at(explorer, block, step)[0]
            told = []
            for asking, answer in ((5, 3), (3, 5)):
                reads = index[asking].tolist()
                rank = reads.index(answer) if answer in reads else None
                told.append("miss" if rank is None else f"hit ({['1st', '2nd', '3rd'][rank]} choice)")
            cells = page.locator("tbody tr").nth(block).locator("th, td").all_text_contents()
            assert cells == [explorer.views[block].label, grid, str(index.shape[1]), *told, column]
            seen |= set(told)
    assert len(seen) > 2, "the test's tables must hold hits and misses"
