import json
import re
import shutil
import sys
from pathlib import Path

import pytest
import torch
import traitlets
from browser import Jupyter, chromium, contrasts, marks, offline, pixels, tab_stops, write_notebook
from PIL import Image
from skimage import data as photographs

from bra import biformer_nano
from bra.explorer import Explorer, Request, main, write
from bra.page import fragment
from bra.views import View, look

COMMITTED = Path(__file__).parent.parent / "book" / "results" / "recall-topk"
# A network of one's own with two BRA layers: 4 x 4 regions on 5 x 11 tokens, the last row of them all padding, and
# 2 x 3 regions on 2 x 5 tokens. As text, because notebooks run it too.
SETUP = """
import torch
from torch import nn
from bra import BRA2d
from bra.explorer import Explorer
from bra.views import look

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

explorer = Explorer(image, views, title="a & b", step=40, truth=(5, 2), history=[table_of(3), table_of(7)],
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
        with pytest.raises(ValueError, match="layers must be among deep.fine, coarse.0, not fine"):
            Explorer.from_model(model, image, layers=["fine"])
        nano = Explorer.from_model(biformer_nano(), torch.rand(3, 32, 32))
        assert [layer["label"] for layer in nano.payload["layers"]] == ["stage 0, block 0", "stage 0, block 1"]


class TestCommandLine:
    def say(self, monkeypatch, *arguments):
        monkeypatch.setattr(sys, "argv", ["explorer", *map(str, arguments)])
        main()

    def test_it_writes_a_file_and_names_it(self, tmp_path, monkeypatch, capsys):
        out = tmp_path / "board.html"
        self.say(monkeypatch, "--run", COMMITTED, "--number", 3, "--out", out)
        assert capsys.readouterr().out == f"{out} (0.0 MB): open it in a browser\n"
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
            (["--image", "{}/nothing.jpg"], "error: image {}/nothing.jpg does not exist"),
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
