"""The widget in Python: what is chosen, what is refused, how it shows and saves itself."""

import json
import re
from dataclasses import replace

import pytest
import torch
import traitlets

from bra import BRA2d, biformer_nano
from bra.explorer import Explorer
from bra.explorer.page import fragment
from bra.explorer.portrait import Portrait
from bra.look.views import look


def test_the_choice_begins_at_what_asks_and_follows_what_is_set(explorer):
    assert explorer.choice() == {"query": 5, "block": 0, "token": None, "step": 40}
    assert Explorer(Portrait(torch.zeros(3, 20, 44), explorer.views)).query == 2 * 4 + 2
    explorer.step, explorer.query = 7, 11
    assert explorer.choice() == {"query": 11, "block": 0, "token": None, "step": 7}


def test_a_token_lies_in_its_region_and_moves_with_it(explorer):
    view = explorer.views[0]
    explorer.token = 3 * 11 + 10
    assert explorer.query == view.locate(3, 10)[0] == 7
    explorer.query = 8  # its two rows are cut off to one: row 4, columns 0 to 2
    assert explorer.token == 4 * 11 + 1
    explorer.query = 13
    assert explorer.token is None, "a region of padding has no token"


def test_another_layer_leaves_what_it_does_not_have(explorer):
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
def test_what_is_not_there_is_refused_and_changes_nothing(explorer, name, value, message):
    before = explorer.choice()
    with pytest.raises(traitlets.TraitError, match=message):
        setattr(explorer, name, value)
    assert explorer.choice() == before
    portrait = Portrait(torch.zeros(3, 20, 44), explorer.views)
    if name in ("query", "token"):
        with pytest.raises(traitlets.TraitError, match=message):
            Explorer(portrait, **{name: value})
    if name == "block":
        with pytest.raises(traitlets.TraitError, match=message):
            Explorer(replace(portrait, block=value))


def test_what_a_browser_sends_is_taken_whole(explorer):
    explorer.set_state({"block": 1, "query": 4, "token": 7})
    assert explorer.choice() == {"query": 4, "block": 1, "token": 7, "step": 40}
    explorer.set_state({"block": 0, "query": 7, "token": 43})
    assert explorer.choice() == {"query": 7, "block": 0, "token": 43, "step": 40}


def test_it_shows_itself_as_a_widget_as_html_and_as_text(explorer):
    explorer.block, explorer.token = 1, 7
    shown, metadata = explorer._repr_mimebundle_()
    assert set(shown) == {"application/vnd.jupyter.widget-view+json", "text/html", "text/plain"}
    assert shown["text/html"] == fragment(explorer.payload, {"block": 1, "query": 4, "token": 7, "step": 40})
    read = ", ".join(map(str, explorer.views[1].index[4].tolist()))
    text = f"Explorer of a & b: 2 layers; in coarse.0, region 4 reads {read}."
    assert shown["text/plain"] == repr(explorer) == text
    assert metadata == {}


def test_saved_as_a_file_it_shows_what_is_chosen_now(explorer, tmp_path):
    explorer.query = 9
    path = explorer.save_html(str(tmp_path / "new" / "page.html"))
    assert path == tmp_path / "new" / "page.html" and "<title>a &amp; b</title>" in path.read_text()
    state = json.loads(re.search(r'\nmount\("\w+", (.*)\);\n', path.read_text())[1])
    assert {**state, "payload": None} == {"payload": None} | explorer.choice()
    before = path.read_bytes()
    explorer.save_html(path)
    assert path.read_bytes() == before
    with pytest.raises(IsADirectoryError, match=r"path must be a file, but .*new is a folder"):
        explorer.save_html(path.parent)


def test_what_cannot_be_shown_is_shown_by_another_image_as_the_error_says():
    model, image = BRA2d(2, 1, (2, 3), 2), torch.randn(2, 20, 45)
    with pytest.raises(ValueError, match=r"image must be .* to be shown, but is \(2, 20, 45\): pass shown="):
        Explorer.from_model(model, image)
    assert Explorer.from_model(model, image, shown=image[:1]).payload["layers"]


def test_any_model_will_do(made):
    model, image = made["Mine"]().double(), made["image"]
    found = Explorer.from_model(model, image)
    assert [view.name for view in found.views] == ["deep.fine", "coarse.0"]
    for view, expected in zip(found.views, look(model, image), strict=True):
        assert torch.equal(view.affinity, expected.affinity) and torch.equal(view.weights, expected.weights)
    assert found.payload["image"] == Explorer(Portrait(image, found.views)).payload["image"]
    dark = torch.full((1, 20, 44), -1.0)
    one = Explorer.from_model(model, image[None], shown=dark, layers=["coarse.0"], title="t", query=5)
    assert (len(one.views), one.query, one.payload["title"]) == (1, 5, "t")
    assert one.payload["image"] == Explorer(Portrait(dark, one.views)).payload["image"]
    with pytest.raises(ValueError, match=r"layers must be among deep\.fine, coarse\.0, not fine"):
        Explorer.from_model(model, image, layers=["fine"])
    with pytest.raises(TypeError, match="titel"):
        Explorer.from_model(model, image, titel="lost")
    bright = image.abs().max() * 2 * image  # beyond -1..1: lowest black, highest bright
    fitted = 2 * (bright - bright.min()) / (bright.max() - bright.min()) - 1
    beyond = Explorer.from_model(model, bright)
    assert beyond.payload["image"] == Explorer(Portrait(fitted, beyond.views)).payload["image"]
    even = Explorer.from_model(model, torch.full_like(image, 3.0))
    assert even.payload["image"] == Explorer(Portrait(torch.full_like(image, -1.0), even.views)).payload["image"]
    nano = Explorer.from_model(biformer_nano(), torch.rand(3, 32, 32))
    assert [layer["label"] for layer in nano.payload["layers"]] == ["stage 0, block 0", "stage 0, block 1"]


def test_the_package_gives_it_when_it_is_asked_for():
    import bra

    assert bra.Explorer is Explorer
    assert "Explorer" not in bra.__all__, "a star import must not need the widget"
    with pytest.raises(AttributeError, match="module 'bra' has no attribute 'Explorers'"):
        bra.Explorers  # noqa: B018
