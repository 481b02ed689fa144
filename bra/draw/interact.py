"""Figures that answer: a `Picture` drawn anew when the reader chooses a region or moves a slider.

Every control is a standard widget and takes the keyboard. It needs a running kernel; where none runs, its first picture
stands in its place.
"""

import base64
import html
from collections.abc import Callable, Mapping

from ipywidgets import HTML, GridBox, HBox, IntSlider, Layout, ToggleButton, VBox

from bra.draw.picture import DOTS, Picture
from bra.patterns import Grid


class Interactive(VBox):
    """A widget whose text, in files and in tests, is one sentence that stays the same.

    Where no kernel runs (a stored notebook, the book), its first picture stands in its place.
    """

    def __init__(self, *children, hint: str, picture: Picture | None):
        super().__init__(children)
        self.hint, self.picture = hint, picture

    def _repr_mimebundle_(self, **kwargs):
        """For Jupyter: the widget, and the picture for all who cannot show it."""
        data = super()._repr_mimebundle_(**kwargs)
        still, metadata = self.picture._repr_mimebundle_() if self.picture else ({}, {})
        return data | still | {"text/plain": repr(self)}, metadata

    def __repr__(self):
        return f"Run this cell to {self.hint}."


def as_html(picture: Picture) -> str:
    """The picture as an <img> with its alternative text, as wide as it is or as the page."""
    data = base64.b64encode(picture.png()).decode()
    return f'<img style="max-width: 100%" src="data:image/png;base64,{data}" alt="{html.escape(picture.alt)}">'


def choose_region(
    show: Callable[..., Picture], grid: Grid, region: int, **sliders: tuple[int, int, int]
) -> Interactive:
    """Buttons laid out as the grid, and a slider (lowest, highest, start) for each name: show(region, **values).

    Raises ValueError for a region outside the grid.
    """
    if region not in range(grid[0] * grid[1]):
        raise ValueError(f"region must be between 0 and {grid[0] * grid[1] - 1}, but is {region}")
    buttons = [ToggleButton(layout=Layout(width="2.7em", padding="0")) for _ in range(grid[0] * grid[1])]
    board = GridBox(buttons, layout=Layout(grid_template_columns=f"repeat({grid[1]}, 2.8em)"))
    chosen = [region]

    def mark():
        for i, button in enumerate(buttons):
            button.value = i == chosen[0]
            button.description = f"[{i}]" if button.value else str(i)  # not by colour alone
            button.style.font_weight = "bold" if button.value else "normal"

    def choose(change):
        picked = buttons.index(change["owner"])
        if change["new"] and picked != chosen[0]:
            chosen[0] = picked
            mark()
            redraw()
        elif not change["new"] and picked == chosen[0]:
            buttons[picked].value = True  # one region is always chosen

    mark()
    controls, view, redraw = driven(lambda **values: show(chosen[0], **values), sliders)
    for button in buttons:
        button.observe(choose, "value")
    left = VBox([*controls, board], layout=Layout(flex="0 0 auto"))  # sliders first: the Tab key finds them at once
    both = HBox([left, view], layout=Layout(flex_flow="row wrap"))  # on a narrow page one below the other
    named = "".join(f" and move {name}" for name in sliders)
    return Interactive(both, hint=f"choose a region{named}", picture=redraw())


def move_sliders(show: Callable[..., Picture], **sliders: tuple[int, int, int]) -> Interactive:
    """A slider (lowest, highest, start) for each name: show(**values)."""
    controls, view, redraw = driven(show, sliders)
    return Interactive(*controls, view, hint=f"move {' and '.join(sliders)}", picture=redraw())


def driven(
    show: Callable[..., Picture], sliders: Mapping[str, tuple[int, int, int]]
) -> tuple[list[IntSlider], HTML, Callable[..., Picture | None]]:
    """Sliders, the view that they redraw, and the function that redraws it and returns the picture."""
    controls = {
        name: IntSlider(start, lowest, highest, description=name, continuous_update=False)
        for name, (lowest, highest, start) in sliders.items()
    }
    view = HTML(layout=Layout(flex="1 1 0"))

    def redraw(_=None):
        try:
            picture = show(**{name: control.value for name, control in controls.items()})
        except Exception as error:  # a widget would swallow it and leave the old picture standing
            view.value = f"<p role='alert'>{html.escape(f'{type(error).__name__}: {error}')}</p>"
            return None
        wide = DOTS * picture.figure.get_figwidth()
        view.layout.min_width = f"min(100%, {wide:.0f}px)"  # its text would shrink with it
        view.value = as_html(picture)
        return picture

    for control in controls.values():
        control.observe(redraw, "value")
    return list(controls.values()), view, redraw
