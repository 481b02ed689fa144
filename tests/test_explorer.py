import contextlib
import io
import json
import re
import sys
from pathlib import Path

import pytest
import torch
import traitlets
from browser import chromium, contrasts, jupyter_lab, marks, offline, pixels, run_jupyter, tab_stops, write_notebook
from PIL import Image
from playwright.sync_api import TimeoutError
from skimage import data as photographs

from bra import biformer_nano
from bra.explorer import Explorer
from bra.explorer.__main__ import Request, main, write
from bra.explorer.page import fragment
from bra.look.views import View, look

COMMITTED = Path(__file__).parent.parent / "book" / "results" / "recall-topk"
# A network of one's own with two BRA layers: 4 x 4 regions on 5 x 11 tokens, the last row of them all padding, and
# 2 x 3 regions on 2 x 5 tokens. As text, because notebooks run it too.
SETUP = """
import torch
from torch import nn
from bra import BRA2d
from bra.explorer import Explorer
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

explorer = Explorer(image, views, title="a & b", step=40, truth=(5, 3), history=[table_of(3), table_of(7)],
                    columns={"of 9": ["7/9", "<b>"]})
"""


@pytest.fixture
def made():
    """All that SETUP makes."""
    space = {"__name__": "made"}
    exec(SETUP, space)
    return space


@pytest.fixture
def explorer(made):
    return made["explorer"]


class TestInPython:
    def test_the_choice_begins_at_what_asks_and_follows_what_is_set(self, explorer):
        assert explorer.choice() == {"query": 5, "block": 0, "token": None, "step": 40}
        assert Explorer(explorer.views[0].affinity.new_zeros(3, 20, 44), explorer.views).query == 2 * 4 + 2
        explorer.step, explorer.query = 7, 11
        assert explorer.choice() == {"query": 11, "block": 0, "token": None, "step": 7}

    def test_a_token_lies_in_its_region_and_moves_with_it(self, explorer):
        view = explorer.views[0]
        explorer.token = 3 * 11 + 10
        assert explorer.query == view.locate(3, 10)[0] == 7
        explorer.query = 8  # its two rows are cut off to one: row 4, columns 0 to 2
        assert explorer.token == 4 * 11 + 1
        explorer.query = 13
        assert explorer.token is None, "a region of padding has no token"

    def test_another_layer_leaves_what_it_does_not_have(self, explorer):
        explorer.query = 11
        explorer.block = 1
        assert explorer.choice() == {"query": 0, "block": 1, "token": None, "step": 40}
        explorer.block, explorer.token = 0, 54
        explorer.block = 1
        assert explorer.choice() == {"query": 0, "block": 1, "token": None, "step": 40}
        explorer.block, explorer.token = 0, 7
        explorer.block = 1
        assert explorer.choice() == {"query": 4, "block": 1, "token": 7, "step": 40}

    @pytest.mark.parametrize(
        ("name", "value", "message"),
        [
            ("query", 16, "query must be between 0 and 15, but is 16"),
            ("query", -1, "query must be between 0 and 15, but is -1"),
            ("block", 2, "block must be between 0 and 1, but is 2"),
            ("token", 55, "token must be between 0 and 54, but is 55"),
            ("step", 8, r"step must be among \[3, 7, 40\], but is 8"),
        ],
    )
    def test_what_is_not_there_is_refused_and_changes_nothing(self, explorer, name, value, message):
        before = explorer.choice()
        with pytest.raises(traitlets.TraitError, match=message):
            setattr(explorer, name, value)
        assert explorer.choice() == before
        if name != "step":
            with pytest.raises(traitlets.TraitError, match=message):
                Explorer(torch.zeros(3, 20, 44), explorer.views, **{name: value})

    def test_what_a_browser_sends_is_taken_whole(self, explorer):
        explorer.set_state({"block": 1, "query": 4, "token": 7})
        assert explorer.choice() == {"query": 4, "block": 1, "token": 7, "step": 40}
        explorer.set_state({"block": 0, "query": 7, "token": 43})
        assert explorer.choice() == {"query": 7, "block": 0, "token": 43, "step": 40}

    def test_it_shows_itself_as_a_widget_as_html_and_as_text(self, explorer):
        explorer.block, explorer.token = 1, 7
        shown, metadata = explorer._repr_mimebundle_()
        assert set(shown) == {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"}
        assert shown["text/html"] == fragment(explorer.payload, {"block": 1, "query": 4, "token": 7, "step": 40})
        read = ", ".join(map(str, explorer.views[1].index[4].tolist()))
        text = f"Explorer of a & b: 2 layers; in coarse.0, region 4 reads {read}."
        assert shown["text/plain"] == repr(explorer) == text
        assert metadata == {}

    def test_saved_as_a_file_it_shows_what_is_chosen_now(self, explorer, tmp_path):
        explorer.query = 9
        path = explorer.save_html(str(tmp_path / "new" / "page.html"))
        assert path == tmp_path / "new" / "page.html" and "<title>a &amp; b</title>" in path.read_text()
        state = json.loads(re.search(r'\nmount\("\w+", (.*)\);\n', path.read_text())[1])
        assert {**state, "payload": None} == {"payload": None} | explorer.choice()
        before = path.read_bytes()
        explorer.save_html(path)
        assert path.read_bytes() == before

    def test_any_model_will_do(self, made):
        model, image = made["Mine"]().double(), made["image"]
        found = Explorer.from_model(model, image)
        assert [view.name for view in found.views] == ["deep.fine", "coarse.0"]
        for view, expected in zip(found.views, look(model, image), strict=True):
            assert torch.equal(view.affinity, expected.affinity) and torch.equal(view.weights, expected.weights)
        assert found.payload["image"] == Explorer(image, found.views).payload["image"]
        dark = torch.full((1, 20, 44), -1.0)
        one = Explorer.from_model(model, image[None], shown=dark, layers=["coarse.0"], title="t", query=5)
        assert (len(one.views), one.query, one.payload["title"]) == (1, 5, "t")
        assert one.payload["image"] == Explorer(dark, one.views).payload["image"]
        with pytest.raises(ValueError, match=r"layers must be among deep\.fine, coarse\.0, not fine"):
            Explorer.from_model(model, image, layers=["fine"])
        with pytest.raises(TypeError, match="titel"):
            Explorer.from_model(model, image, titel="lost")
        bright = image.abs().max() * 2 * image  # beyond -1..1: lowest black, highest bright
        fitted = 2 * (bright - bright.min()) / (bright.max() - bright.min()) - 1
        beyond = Explorer.from_model(model, bright)
        assert beyond.payload["image"] == Explorer(fitted, beyond.views).payload["image"]
        even = Explorer.from_model(model, torch.full_like(image, 3.0))
        assert even.payload["image"] == Explorer(torch.full_like(image, -1.0), even.views).payload["image"]
        nano = Explorer.from_model(biformer_nano(), torch.rand(3, 32, 32))
        assert [layer["label"] for layer in nano.payload["layers"]] == ["stage 0, block 0", "stage 0, block 1"]


def test_the_package_gives_it_when_it_is_asked_for():
    import bra

    assert bra.Explorer is Explorer
    assert "Explorer" not in bra.__all__, "a star import must not need the widget"
    with pytest.raises(AttributeError, match="module 'bra' has no attribute 'Explorers'"):
        bra.Explorers  # noqa: B018


class TestCommandLine:
    def say(self, monkeypatch, *arguments):
        monkeypatch.setattr(sys, "argv", ["explorer", *map(str, arguments)])
        main()

    def test_it_writes_a_file_and_names_it(self, tmp_path, monkeypatch, capsys):
        out = tmp_path / "board.html"
        self.say(monkeypatch, "--run", COMMITTED, "--number", 3, "--out", out)
        assert capsys.readouterr().out == f"{out} ({out.stat().st_size / 1000:,.0f} kB): open it in a browser\n"
        assert "held-out image 3: says" in out.read_text()

    def test_a_photograph_alone_or_in_a_run(self, tmp_path):
        Image.fromarray(photographs.chelsea()).save(tmp_path / "cat.png")
        for change, title in (
            ({"model": "nano", "size": 48}, "cat.png, BiFormer nano, untrained: random weights"),
            ({"run": COMMITTED}, f"{COMMITTED}, cat.png"),
        ):
            path = write(Request(image=tmp_path / "cat.png", out=tmp_path / "page.html", **change))
            assert f"<title>{title}</title>" in path.read_text()

    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ([], "error: run or image must be given: --run FOLDER, --image FILE, or both"),
            (["--run", "{}"], "error: {} holds no weights of a run: train first, or give another folder"),
            (["--run", COMMITTED, "--number", 5000], "error: number must be between 0 and 4095, but is 5000"),
            (["--image", "{}/nothing.jpg"], "error: image {}/nothing.jpg is no file"),
            (["--image", "{}", "--size", 32], "error: image {} is no file"),
            (
                ["--image", "{}/cat.png", "--number", 5],
                "error: number must be left out beside image: it would change nothing",
            ),
            (["--run", COMMITTED, "--size", 32], "error: size must be left out beside run: it would change nothing"),
            (["--run", COMMITTED, "--out", "{}"], "error: out must be a file, but {} is a folder"),
            (["--image", "{}/notes.jpg"], "error: {}/notes.jpg is not a whole image: cannot identify image file"),
            (["--image", "{}/notes.jpg", "--size", 0], "error: size must be between 1 and 2048 pixels, but is 0"),
            (["--image", "{}/cat.png", "--size", 32, "--weights", "{}/notes.jpg"], "error: {}/notes.jpg"),
            (["--run", COMMITTED, "--out", "{}/notes.jpg/x.html"], "error: [Errno "),
        ],
    )
    def test_what_is_wrong_is_said_in_one_line(self, arguments, message, tmp_path, monkeypatch, capsys):
        (tmp_path / "notes.jpg").write_text("no image")
        Image.fromarray(photographs.chelsea()).save(tmp_path / "cat.png")
        monkeypatch.chdir(tmp_path)
        with pytest.raises(SystemExit) as stopped:
            self.say(monkeypatch, *(str(a).format(tmp_path) for a in arguments))
        assert str(stopped.value).startswith(message.format(tmp_path)) and "\n" not in str(stopped.value)
        assert not (tmp_path / "explorer.html").exists()


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture
def page(browser, explorer, tmp_path):
    with offline(browser, explorer.save_html(tmp_path / "page.html")) as found:
        yield found


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
    """The place on the screen of one of rows x columns equal cells of a part."""
    box = page.locator(part).bounding_box()
    return box["x"] + (column + 0.5) / columns * box["width"], box["y"] + (row + 0.5) / rows * box["height"]


def click(page, part, *cell):
    page.mouse.click(*spot(page, part, *cell))


def hover(page, part, *cell):
    page.mouse.move(*spot(page, part, *cell))


class TestFile:
    def test_it_begins_with_what_was_chosen(self, page, explorer):
        expect_reads(page, explorer, 0, 5)
        assert page.locator("h3").text_content() == page.title() == "a & b"
        assert page.locator(".explorer").get_attribute("aria-label") == "a & b"
        colours = pixels(page, ".stage canvas:first-child")
        shown = ((explorer.views[0].affinity.new_tensor(0) + 1) / 2).item()
        assert colours.shape == (20, 44, 4) and shown == 0.5

    def test_a_region_is_chosen_by_mouse_and_by_every_arrow(self, page, explorer, made):
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

    def test_a_region_and_a_token_are_chosen_by_touch(self, browser, explorer, tmp_path):
        with offline(browser, explorer.save_html(tmp_path / "page.html"), has_touch=True) as page:
            page.touchscreen.tap(*spot(page, ".stage", 2, 7, 5, 11))
            expect_reads(page, explorer, 0, 6)
            page.locator("input[value=tokens]").tap()
            page.touchscreen.tap(*spot(page, ".stage", 1, 10, 5, 11))
            assert "token (row 1, column 10) of region 3 " in status(page)
            page.touchscreen.tap(*spot(page, ".matrix", 9, 4, 16, 16))
            assert regions(page, "asks", explorer.views[0]) == [9]

    def test_who_reads_a_region(self, page, explorer):
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

    def test_a_token_and_its_heads(self, page, explorer):
        view = explorer.views[0]
        page.locator("input[value=tokens]").check()
        assert "token (row 3, column 4) of region 5 " in status(page), "first the middle one of the region"
        assert page.locator("label:has(select)").last.is_visible()
        places = [(0, 0), (1, 10), (4, 4), (2, 7)]
        assert (
            len({sum(tokens_of(view, read) for read in view.index[view.locate(*at)[0]].tolist()) for at in places}) > 1
        )
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
            most = start.split()[-1].removeprefix("about ")
            told, even = re.fullmatch(r" attention: 0 to (.*%) \(even: ([\d.]+)%\)", key).groups()
            assert told == most and float(even) == pytest.approx(100 / n, abs=0.51)
            expect_overlay(page, view, region, attention)
            assert marks(page, "token") == [(row + 0.5, column + 0.5)] and regions(page, "asks", view) == [region]
            assert page.locator(".key", has_text="attention").is_visible()
        page.locator(".stage").focus()
        for key, place in (("ArrowRight", (2, 8)), ("ArrowDown", (3, 8)), ("ArrowLeft", (3, 7)), ("ArrowUp", (2, 7))):
            page.keyboard.press(key)
            assert "token (row {}, column {}) ".format(*place) in status(page)
        page.locator("input[value=reads]").check()
        expect_reads(page, explorer, 0, 6)

    def test_the_row_shows_and_chooses(self, page, explorer):
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

    def test_the_row_shows_who_reads_the_region(self, page, explorer):
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
            ((7, 7), 2.0, 3.0, range(0, 49, 7), ["2", "3"]),
            ((2, 32), -3.0, -2.0, range(0, 64, 7), ["-3", "-2"]),
            ((8, 5), -0.01, 4000.0, range(0, 40, 5), ["-0.01", "4000"]),
            ((9, 9), -4.0, 4.0, [], ["-4", "0", "4"]),
            ((3, 3), -4.0, 0.0, range(9), ["-4", "0"]),
            ((2, 2), 0.0, 0.0, range(4), ["0"]),
        ],
    )
    def test_bars_have_a_zero_line_numbers_and_ends(self, grid, low, high, numbers, ends, browser, tmp_path):
        n = grid[0] * grid[1]
        affinity = torch.rand(n, n, dtype=torch.float64) * (high - low) + low
        affinity[0, 1], affinity[1, 0] = low, high
        index = affinity.topk(2).indices
        shown = Explorer(torch.zeros(1, *grid), [View(grid, grid, "x", index, affinity)], query=1)
        with offline(browser, shown.save_html(tmp_path / "page.html")) as page:
            expect_bars(page, affinity, affinity[1])
            assert page.locator(".row .place").all_text_contents() == list(map(str, numbers))
            places = page.locator(".row .place").evaluate_all("all => all.map(one => Number(one.getAttribute('x')))")
            assert [int(x / 320 * n) for x in places] == list(numbers)
            heights = page.locator(".row .end").evaluate_all("all => all.map(one => -Number(one.getAttribute('y')))")
            placed = sorted(zip(heights, page.locator(".row .end").all_text_contents(), strict=True))
            assert [end for _, end in placed] == ends, "the highest on top"
            assert placed[0][0] == -87 and (len(ends) == 1 or placed[-1][0] == -17)
            assert page.locator(".row path.peak").count() == (2 if n > 64 else 0)
            boxes = [one.bounding_box() for one in page.locator(".row text").all()]
            row = page.locator(".row").bounding_box()
            assert all(row["x"] <= box["x"] and row["y"] <= box["y"] for box in boxes)
            assert all(box["y"] + box["height"] <= row["y"] + row["height"] + 1 for box in boxes)

    def test_the_matrix_shows_and_chooses(self, page, explorer):
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

    def test_pointing_at_the_image_shows_the_pair_in_row_and_matrix(self, page, explorer):
        hover(page, ".stage", 0, 7, 5, 11)
        expect_pair(page, explorer, 5, 2)
        assert float(page.locator(".row rect.over").get_attribute("x")) == 2 * 20
        page.keyboard.press("Tab")
        page.locator(".stage").focus()
        page.keyboard.press("ArrowLeft")
        assert pointed(page) == "" and not marks(page, "over"), "the pair was of the region of before"
        hover(page, "h3", 0, 0, 1, 1)
        assert pointed(page) == ""

    def test_the_right_region_says_whether_it_is_read_not_whom_it_reads(self, page, explorer):
        page.locator("input[type=range]").fill("0")
        index = table_at(explorer, 0, 3)[0]
        assert 3 in index[5] and 3 not in index[3], "the test's table must tell one from the other"
        click(page, ".stage", 0, 9, 5, 11)
        expect_reads(page, explorer, 0, 3, step=3)
        assert status(page).endswith(". Region 5, which asks, should read it: a hit, its 3rd choice.")
        page.locator("input[value=readers]").check()
        assert status(page).endswith(". Region 5, which asks, should read it: a hit, its 3rd choice.")

    def test_a_block_is_chosen_and_one_stays_where_one_looks(self, page, explorer):
        fine, coarse = explorer.views
        page.get_by_role("combobox", name="Block").select_option("coarse.0")
        expect_reads(
            page, explorer, 1, coarse.locate(1, 2)[0]
        )  # from the middle of region 5: row 3 of 5, column 4 of 11
        pressed = page.locator("button").evaluate_all("all => all.map(one => one.getAttribute('aria-pressed'))")
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

    def test_the_slider_goes_through_the_steps(self, page, explorer):
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

    def test_the_table_tells_hits_and_misses_of_every_block(self, page, explorer):
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

    def test_everything_is_reached_by_tab_and_shows_it(self, page):
        page.locator("details").last.locator("summary").click()  # the keys, explained
        assert "arrow keys choose a region" in page.locator("details p").inner_text()
        page.locator("input[value=tokens]").check()
        page.evaluate("document.activeElement.blur()")
        page.mouse.click(2, 2)
        stops = tab_stops(page)
        assert [name for name, _ in stops] == [
            "select 0", "input tokens", "select -1", "input 2", "div stage", "div row", "div matrix",
            "summary Every block", "div scroll", "button deep.fine", "button coarse.0", "summary Keys",
        ]  # fmt: skip
        assert {outline for _, outline in stops} == {"solid 3px rgb(0, 0, 0)"}, stops

    def test_names_tell_assistive_technology_what_is_there(self, page):
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
    def test_text_is_readable_by_day_and_by_night(self, scheme, browser, explorer, tmp_path):
        with offline(browser, explorer.save_html(tmp_path / "page.html"), color_scheme=scheme) as page:
            page.locator("input[value=tokens]").check()
            found = contrasts(page)
            assert len(found) > 20 and {name: c for name, c in found.items() if c < 4.5} == {}
            assert page.locator(".explorer").evaluate("one => one.style.colorScheme") == scheme
            light = page.locator(".explorer").evaluate("one => getComputedStyle(one).color") == "rgb(0, 0, 0)"
            assert light == (scheme == "light")
            page.emulate_media(color_scheme="light")
            page.locator(".explorer[style*=light]").wait_for()  # it follows the page

    @pytest.mark.parametrize("window", [{"width": 320, "height": 640}, {"width": 640, "height": 450}])
    def test_nothing_is_cut_off_in_a_narrow_window_or_at_200_percent(self, window, browser, explorer, tmp_path):
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
    def test_a_strip_is_shown_large_enough(self, pixels_, size, grid, window, browser, tmp_path):
        n = grid[0] * grid[1]
        view = View(grid, size, "x", torch.arange(n)[:, None].roll(-1, 0), torch.zeros(n, n))
        shown = Explorer(torch.zeros(3, *pixels_), [view], query=n - 1)
        with offline(
            browser, shown.save_html(tmp_path / "page.html"), viewport={"width": window, "height": 800}
        ) as page:
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
    def test_a_number_that_does_not_fit_its_region_is_left_out(self, size, named, browser, tmp_path):
        view = View((7, 7), size, "x", torch.zeros(49, 1, dtype=torch.long), torch.zeros(49, 49))
        shown = Explorer(torch.zeros(3, *size), [view])
        with offline(browser, shown.save_html(tmp_path / "page.html")) as page:
            boxes = page.locator(".stage .name").evaluate_all(
                """all => all.map(one => {
                    const { x, y, width, height } = one.getBBox(), [w, h] = one.ownerSVGElement.getAttribute("viewBox")
                        .split(" ").slice(2).map(Number), stretch = one.parentNode.transform.baseVal[0].matrix.d;
                    return [(x + width) / w, ((y + 0.85 * height) * stretch) / h];
                })"""
            )
            assert len(boxes) == named and max(map(max, boxes)) <= 1

    @pytest.mark.parametrize("scheme", ["light", "dark"])
    def test_a_table_that_is_cut_off_has_a_shadow_there(self, scheme, browser, explorer, tmp_path):
        options = {"viewport": {"width": 320, "height": 640}, "color_scheme": scheme}
        with offline(browser, explorer.save_html(tmp_path / "page.html"), **options) as page:
            scroll, cell = page.locator(".scroll"), page.locator("tbody tr").first.bounding_box()
            scroll.scroll_into_view_if_needed()

            def edges():
                Image.open(io.BytesIO(scroll.screenshot())).convert("L").save(tmp_path / "scroll.png")
                shot = Image.open(tmp_path / "scroll.png")
                y = shot.height - 3 - (shot.height - page.locator("table").bounding_box()["height"] > 3) * 15
                return [abs(shot.getpixel((x, y)) - shot.getpixel((shot.width // 2, y))) for x in (2, shot.width - 3)]

            assert cell["width"] > 320
            left, right = edges()
            assert left < 20 < 40 < right
            scroll.evaluate("one => one.scrollTo(9999, 0)")
            left, right = edges()
            assert right < 20 < 40 < left

    def test_nothing_moves_by_itself(self, page):
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

    def test_marks_differ_by_more_than_colour(self, browser, explorer, tmp_path):
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
            weights = page.locator("button").evaluate_all("all => all.map(one => getComputedStyle(one).fontWeight)")
            assert weights == ["700", "400"], "the chosen block is bold"

    def test_names_are_text(self, browser, explorer, tmp_path):
        evil = "</script><img src=x onerror='document.title=1'>"
        view = explorer.views[1]
        named = View(view.grid, view.size, evil, view.index, view.affinity, None)
        shown = Explorer(torch.zeros(3, 20, 44), [named], title=evil, columns={evil: [evil]})
        with offline(browser, shown.save_html(tmp_path / "page.html")) as page:
            assert page.title() == page.locator("h3").text_content() == evil
            assert page.locator("img").count() == 0
            assert page.locator("tbody th, tbody td").all_text_contents() == [evil, "2 x 3", "2", evil]
            page.locator("input[value=tokens]").check()
            assert "the token weights of this layer were not asked for, or are too many to store" in status(page)
            assert page.locator("label", has_text="Head").is_hidden() and page.locator(".steps").is_hidden()

    def test_one_region_and_a_hundred_blocks(self, browser, tmp_path):
        view = View((1, 1), (1, 1), "x", torch.zeros(1, 1, dtype=torch.long), torch.zeros(1, 1), torch.ones(1, 1, 1, 1))
        shown = Explorer(torch.zeros(1, 8, 8), [view] * 100)
        with offline(browser, shown.save_html(tmp_path / "page.html")) as page:
            page.locator(".stage").press("ArrowRight")
            assert status(page) == "x: region 0 (row 0, column 0) reads 0."
            page.locator("button").nth(99).click()
            assert page.get_by_role("combobox", name="Block").input_value() == "99"
            page.locator("input[value=tokens]").check()
            assert "100% of its attention, 1.0 times an even share (1/1)" in status(page)
            assert page.locator(".scroll").bounding_box()["height"] < 400

    def test_weights_of_half_a_byte_are_shown_too(self, browser, made, tmp_path, monkeypatch):
        monkeypatch.setattr("bra.explorer.payload.BYTES_UP_TO", 0)
        shown = Explorer(made["image"], made["views"], token=7)
        with offline(browser, shown.save_html(tmp_path / "page.html")) as page:
            page.get_by_label("Head").select_option("1")
            assert re.search(r": about [\d.]+% of its attention", status(page))
            expect_overlay(page, shown.views[0], 2, shown.views[0].token_map(0, 7)[1].numpy(), within=13)

    def test_many_readers_are_not_all_named(self, browser, tmp_path):
        index = torch.zeros(36, 1, dtype=torch.long)
        shown = Explorer(torch.zeros(1, 6, 6), [View((6, 6), (6, 6), "x", index, torch.zeros(36, 36))], query=0)
        with offline(browser, shown.save_html(tmp_path / "page.html")) as page:
            page.locator("input[value=readers]").check()
            assert status(page).endswith("14 (1st choice), 15 (1st choice) and 20 more.")
            assert len(marks(page, "reader")) == 36


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


def expect_overlay(page, view, region, attention, within=6):
    """The canvas over the image: bright where the token reads much, dark where its region does not read."""
    found = pixels(page, ".stage canvas:nth-child(2)")
    assert found.shape == (*view.size, 4)
    lit = {region, *view.index[region].tolist()}
    for row in range(view.size[0]):
        for column in range(view.size[1]):
            share = attention[row, column] / attention.max()
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
    """Bars in proportion to the values, up and down from zero if the matrix has both, up from its lowest if not."""
    text = " ".join(path.get_attribute("d") for path in page.locator(".row path.rest, .row path.read").all())
    found = sorted(tuple(map(float, bar)) for bar in re.findall(r"M([\d.]+) ([\d.]+)v(-?[\d.e-]+)", text))
    zero = float(page.locator(".row path.zero").get_attribute("d").split()[1].split("H")[0])
    finite = affinity[affinity.isfinite()]
    low, high = finite.min().item(), finite.max().item()
    base = 0 if low <= 0 <= high else low
    unit = 70 / (high - low) if high > low else 0
    assert zero == pytest.approx(84 - (base - low) * unit, abs=0.1)
    heights = [0 if value == -torch.inf else (value - base) * unit for value in values.tolist()]
    assert [-v for _, _, v in found] == pytest.approx(heights, abs=0.1)
    assert all(y == pytest.approx(zero) for _, y, _ in found)


class TestNotebook:
    def test_a_stored_notebook_needs_no_kernel_and_no_network(self, browser, explorer, tmp_path):
        write_notebook(tmp_path / "x.ipynb", SETUP + "explorer.query = 6\nexplorer", "explorer")
        run_jupyter(tmp_path, "nbconvert", "--to", "notebook", "--execute", "--inplace", "x.ipynb")
        stored = json.loads((tmp_path / "x.ipynb").read_text())
        for cell in stored["cells"]:
            del cell["outputs"][0]["data"]["application/vnd.jupyter.widget-view+json"]
        stored["metadata"].pop("widgets", None)
        (tmp_path / "x.ipynb").write_text(json.dumps(stored))
        run_jupyter(tmp_path, "nbconvert", "--to", "html", "x.ipynb")
        with offline(browser, tmp_path / "x.html", foreign=("https://cdnjs.cloudflare.com/",)) as page:
            assert page.locator(".explorer").count() == 2, "both of the two that are alike"
            first = page.locator("[data-explorer]").first
            view = explorer.views[0]
            assert f"{region_name(view, 6)} reads {', '.join(map(str, view.index[6].tolist()))}." in status_of(first)
            first.locator(".stage").press("ArrowDown")
            assert f"{region_name(view, 10)} reads {', '.join(map(str, view.index[10].tolist()))}." in status_of(first)
            assert region_name(view, 6) in status_of(page.locator("[data-explorer]").last)

    def test_in_jupyterlab_python_and_the_page_follow_each_other(self, browser, explorer, tmp_path):
        write_notebook(
            tmp_path / "x.ipynb",
            "from made import explorer\nexplorer",
            "print('now', explorer.choice())",
            "explorer.step = 7; explorer.block = 1; explorer.token = 7",
            "print('then', explorer.choice())",
            "explorer.token = None; explorer.step = 40; explorer.block = 0; explorer.query = 9",
        )
        (tmp_path / "made.py").write_text(SETUP)
        wrong = []
        with jupyter_lab(tmp_path) as address:
            context = browser.new_context(viewport={"width": 1280, "height": 1000})
            try:
                page = context.new_page()
                page.on("request", lambda asked: wrong.append(asked.url) if not is_local(asked.url) else None)
                page.on("pageerror", lambda error: wrong.append(str(error)))
                page.goto(address.format("x.ipynb"))
                page.locator(".jp-Notebook-ExecutionIndicator[data-status=idle]").wait_for()
                talk(page, explorer)
            finally:
                context.close()
        assert not wrong, wrong


def is_local(address):
    return address.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:"))


def status_of(place):
    return place.locator(".status").text_content()


def run_cell(page, number):
    cell = page.locator(".jp-CodeCell").nth(number)
    prompt = cell.locator(".jp-InputPrompt")
    for _ in range(10):  # a notebook that has just been opened may still look elsewhere for its keys
        cell.locator(".cm-content").click()
        page.keyboard.press("Control+Enter")
        with contextlib.suppress(TimeoutError):
            prompt.filter(has_not_text="[ ]").wait_for(timeout=2000)
            break
    prompt.filter(has_text=re.compile(r"\d")).wait_for()
    return cell


def talk(page, explorer):
    """Clicks that reach Python, and settings in Python that reach the page."""
    view = explorer.views[0]
    cell = run_cell(page, 0)
    said = lambda text: page.locator(".status", has_text=text).wait_for()  # noqa: E731
    said(f"{region_name(view, 5)} reads {', '.join(map(str, view.index[5].tolist()))}")
    assert regions(page, "reads", view) == view.index[5].tolist()
    cell.locator(".stage").click(position={"x": 2, "y": 2})
    said(f"{region_name(view, 0)} reads {', '.join(map(str, view.index[0].tolist()))}")
    cell.locator(".stage").press("ArrowDown")
    cell.locator("input[value=tokens]").check()
    text = run_cell(page, 1).locator(".jp-OutputArea-output", has_text="now").text_content()
    assert text.strip() == "now {'query': 4, 'block': 0, 'token': 34, 'step': 40}"
    run_cell(page, 2)
    said("coarse.0, step 7: token (row 1, column 2) of region 4")
    cell.locator("input[value=reads]").check()
    cell.locator("input[type=range]").fill("0")
    text = run_cell(page, 3).locator(".jp-OutputArea-output", has_text="then").text_content()
    assert text.strip() == "then {'query': 4, 'block': 1, 'token': None, 'step': 3}"
    run_cell(page, 4)
    said(f"deep.fine, step 40: {region_name(view, 9)} reads {', '.join(map(str, view.index[9].tolist()))}")
