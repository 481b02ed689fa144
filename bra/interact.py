"""Figures that answer: a `Picture` drawn anew when the reader chooses a region or moves a slider.

Every control is a standard widget: it takes the keyboard, and it works in JupyterLab, Colab and VS Code. It needs a
running kernel; the notebooks show a still figure beside each.
"""

import base64
import html
from collections.abc import Callable

import ipywidgets
from ipywidgets import HTML, GridBox, HBox, Layout, ToggleButton, VBox

from bra.draw import Picture
from bra.patterns import Grid


class Interactive(VBox):
    """A widget whose text, in files and in tests, is one sentence that stays the same."""

    def __init__(self, *children, hint: str):
        super().__init__(children)
        self.hint = hint

    def __repr__(self):
        return f"Interactive figure: {self.hint} It needs a running kernel. The still figure near it shows one setting."


def as_html(picture: Picture) -> str:
    """The picture as an <img> with its alternative text."""
    data = base64.b64encode(picture.png()).decode()
    return f'<img style="max-width: 100%" src="data:image/png;base64,{data}" alt="{html.escape(picture.alt)}">'


def drawn(show: Callable[..., Picture], *region: int, **values: int) -> str:
    """The picture as HTML, or what went wrong: a widget would swallow the error and leave the old picture standing."""
    try:
        return as_html(show(*region, **values))
    except Exception as error:
        return f"<p role='alert'>{html.escape(f'{type(error).__name__}: {error}')}</p>"


def choose_region(
    show: Callable[..., Picture], grid: Grid, region: int, **sliders: tuple[int, int, int]
) -> Interactive:
    """Buttons laid out as the grid, and a slider (lowest, highest, start) for each name: show(region, **values).

    Raises ValueError for a region outside the grid.
    """
    if region not in range(grid[0] * grid[1]):
        raise ValueError(f"region must be between 0 and {grid[0] * grid[1] - 1}, but is {region}")
    buttons = [button(str(i), i == region) for i in range(grid[0] * grid[1])]
    board = GridBox(buttons, layout=Layout(grid_template_columns=f"repeat({grid[1]}, 2.6em)"))
    controls = {name: slider(name, *limits) for name, limits in sliders.items()}
    view, chosen = HTML(), [region]

    def redraw(_=None):
        view.value = drawn(show, chosen[0], **{name: control.value for name, control in controls.items()})

    def choose(change):
        picked = buttons.index(change["owner"])
        if change["new"] and picked != chosen[0]:
            before, chosen[0] = chosen[0], picked
            buttons[before].value = False
            redraw()
        elif not change["new"] and picked == chosen[0]:
            buttons[picked].value = True  # one region is always chosen

    for one in buttons:
        one.observe(choose, "value")
    for control in controls.values():
        control.observe(redraw, "value")
    redraw()
    named = "".join(f", move {name}" for name in sliders)
    return Interactive(HBox([VBox([board, *controls.values()]), view]), hint=f"choose a region{named}.")


def button(label: str, chosen: bool) -> ToggleButton:
    """A small button of the region grid."""
    return ToggleButton(chosen, description=label, layout=Layout(width="2.5em", padding="0"))


def slider(name: str, lowest: int, highest: int, start: int) -> ipywidgets.IntSlider:
    """A slider that reports when it comes to rest."""
    return ipywidgets.IntSlider(start, lowest, highest, description=name, continuous_update=False)


def move_sliders(show: Callable[..., Picture], **sliders: tuple[int, int, int]) -> Interactive:
    """A slider (lowest, highest, start) for each name: show(**values)."""
    controls = {name: slider(name, *limits) for name, limits in sliders.items()}
    view = HTML()

    def redraw(_=None):
        view.value = drawn(show, **{name: control.value for name, control in controls.items()})

    for control in controls.values():
        control.observe(redraw, "value")
    redraw()
    return Interactive(*controls.values(), view, hint=f"move {', '.join(sliders)}.")
