import base64
import html
import re

import pytest
import torch
from ipywidgets import HTML, GridBox, IntSlider, ToggleButton

from bra import draw
from bra.draw import interact


def widgets(root, kind):
    """All widgets of a kind under `root`."""
    found = [root] if isinstance(root, kind) else []
    return found + [w for child in getattr(root, "children", ()) for w in widgets(child, kind)]


def seen(root):
    """The alternative text of the picture under `root`."""
    (view,) = widgets(root, HTML)
    data, alt = re.fullmatch(
        r'<img style="[^"]*" src="data:image/png;base64,([^"]+)" alt="([^"]+)">', view.value
    ).groups()
    assert base64.b64decode(data, validate=True).startswith(b"\x89PNG")
    return html.unescape(alt)


@pytest.fixture
def asked():
    """What the figure was asked to show, call by call, and the function that shows it."""
    calls = []

    def show(*region, **values):
        calls.append((*region, values))
        return draw.token_rows(torch.zeros(1, 1), torch.zeros(1, 1).long(), ["<&>"], f"{region} {values}")

    return calls, show


def test_a_button_chooses_one_region_and_redraws_once(asked):
    calls, show = asked
    figure = interact.choose_region(show, (2, 3), 4, k=(1, 5, 2))
    buttons = widgets(figure, ToggleButton)
    assert [b.description for b in buttons] == ["0", "1", "2", "3", "[4]", "5"], "the chosen one not by colour alone"
    assert [b.value for b in buttons].index(True) == 4
    buttons[1].value = True
    assert [i for i, b in enumerate(buttons) if b.value] == [1]
    assert calls == [(4, {"k": 2}), (1, {"k": 2})]


def test_the_picture_follows_what_is_chosen(asked):
    figure = interact.choose_region(asked[1], (2, 3), 4, k=(1, 5, 2), n=(3, 11, 7))
    assert seen(figure).startswith("(4,) {'k': 2, 'n': 7}")
    widgets(figure, ToggleButton)[1].value = True
    assert seen(figure).startswith("(1,) {'k': 2, 'n': 7}")
    first, second = widgets(figure, IntSlider)
    second.value = 5
    assert seen(figure).startswith("(1,) {'k': 2, 'n': 5}")
    first.value = 3
    assert seen(figure).startswith("(1,) {'k': 3, 'n': 5}")
    assert len(asked[0]) == 4, "drawn once for each"


@pytest.mark.parametrize("grid", [(2, 3), (3, 2)])
def test_the_buttons_lie_as_the_regions_do(asked, grid):
    (board,) = widgets(interact.choose_region(asked[1], grid, 0), GridBox)
    assert re.match(r"repeat\((\d+), ", board.layout.grid_template_columns)[1] == str(grid[1])
    assert [button.description for button in board.children] == ["[0]", *"12345"], "row by row"


@pytest.mark.parametrize("make", [interact.move_sliders, lambda *a, **k: interact.choose_region(*a, (1, 2), 0, **k)])
def test_sliders_have_names_limits_and_a_start(asked, make):
    sliders = widgets(make(asked[1], k=(1, 5, 2), n=(3, 11, 7)), IntSlider)
    assert [(s.description, s.min, s.max, s.value) for s in sliders] == [("k", 1, 5, 2), ("n", 3, 11, 7)]
    assert not any(s.continuous_update for s in sliders), "drawing takes longer than a step of the slider"


def test_the_chosen_region_cannot_be_unchosen(asked):
    calls, show = asked
    buttons = widgets(interact.choose_region(show, (2, 3), 4), ToggleButton)
    buttons[4].value = False
    assert buttons[4].value
    assert len(calls) == 1


def test_a_slider_redraws_within_its_limits(asked):
    calls, show = asked
    figure = interact.move_sliders(show, k=(1, 5, 2))
    (slider,) = widgets(figure, IntSlider)
    assert seen(figure).startswith("() {'k': 2}")
    slider.value = 9
    assert (slider.min, slider.max, slider.value) == (1, 5, 5)
    assert calls == [({"k": 2},), ({"k": 5},)]
    assert seen(figure).startswith("() {'k': 5}")


def test_a_region_outside_the_grid_is_refused(asked):
    with pytest.raises(ValueError, match="between 0 and 5, but is 6"):
        interact.choose_region(asked[1], (2, 3), 6)


def test_an_error_is_shown_instead_of_an_old_picture():
    def fail(k):
        raise KeyError("<k>")

    view = interact.move_sliders(fail, k=(1, 5, 2)).children[-1]
    assert "KeyError" in view.value and "&lt;k&gt;" in view.value
    assert re.match(r"<p role=.alert.>", view.value), "a screen reader says it at once"


def test_the_picture_keeps_its_alternative_text_and_escapes_it(asked):
    _, show = asked
    view = interact.as_html(show(0))
    assert view.startswith("<img ") and 'alt="(0,) {}. &lt;&amp;&gt;: 0."' in view


def test_the_text_of_a_widget_has_no_address(asked):
    _, show = asked
    text = repr(interact.choose_region(show, (1, 2), 0, k=(1, 2, 1)))
    assert text == "Run this cell to choose a region and move k."
    assert repr(interact.move_sliders(show, k=(1, 2, 1), n=(1, 2, 1))) == "Run this cell to move k and n."


def test_where_no_kernel_runs_the_first_picture_stands(asked):
    _, show = asked
    data, metadata = interact.choose_region(show, (1, 2), 1)._repr_mimebundle_()
    assert data["image/png"].startswith(b"\x89PNG") and "(1,)" in metadata["image/png"]["alt"]
    assert "application/vnd.jupyter.widget-view+json" in data
    assert data["text/plain"] == "Run this cell to choose a region."


def test_a_wide_picture_stands_below_the_controls_instead_of_shrinking():
    def show(region, width):
        return draw.token_rows(torch.zeros(1, width), torch.zeros(1, width).long(), ["row"], "title")

    figure = interact.choose_region(show, (1, 2), 0, width=(1, 8, 3))
    (view,), (row,) = widgets(figure, HTML), figure.children
    assert row.layout.flex_flow == "row wrap"
    narrow = view.layout.min_width
    widgets(figure, IntSlider)[0].value = 8
    least = [int(re.fullmatch(r"min\(100%, (\d+)px\)", width)[1]) for width in (narrow, view.layout.min_width)]
    assert least[0] < least[1] == pytest.approx(100 * show(0, 8).figure.get_figwidth(), abs=1)
