"""The explorer as a widget for notebooks."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import anywidget
import traitlets
from jaxtyping import Float
from torch import Tensor, nn

from bra.explorer.page import FRONT_END, fragment, page, start
from bra.explorer.payload import pack
from bra.explorer.portrait import Portrait
from bra.files import write_atomically
from bra.look.views import View, look


class Explorer(anywidget.AnyWidget):
    """An image under its region grid, to explore: whom each region reads, who reads it, where its tokens look.

    In JupyterLab, Colab and VS Code it is a widget; where no kernel runs (a stored notebook, the book, `save_html`)
    the same front end shows the same. `query`, `block`, `token` and `step` follow the reader's choice and may be set:
    the region; which of the views; a token, counted row by row on the map, or None; a training step of the history.

    image: (c h w), 1 or 3 channels, -1 black to 1 bright: what is shown. views: what the layers did with it (`look`).
    title: a line above. step: how many training steps the views have behind them.
    history: earlier steps, as the pages of a `Diary`: step, index and affinity of every layer.
    truth: (region that asks, region that it should read), where the right answer is known.
    columns: more columns for the table of layers, each a value a layer.
    query, block, token: what is chosen at first; a query of None is the region that asks, or the middle one.
    Raises ValueError for what does not fit together; TraitError for a choice out of range.
    """

    _esm = FRONT_END
    payload = traitlets.Dict().tag(sync=True)
    query = traitlets.Int(0).tag(sync=True)
    block = traitlets.Int(0).tag(sync=True)
    token = traitlets.Int(None, allow_none=True).tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)

    def __init__(
        self,
        image: Float[Tensor, "c h w"],
        views: Sequence[View],
        *,
        title: str = "",
        history: Sequence[Mapping] = (),
        step: int = 0,
        truth: tuple[int, int] | None = None,
        columns: Mapping[str, Sequence[float | str]] | None = None,
        query: int | None = None,
        block: int = 0,
        token: int | None = None,
    ):
        payload = pack(views, image, title=title, history=history, step=step, truth=truth, columns=columns)
        self.views = list(views)
        query = start(payload)["query"] if query is None else query
        super().__init__(payload=payload, query=query, block=block, step=step)
        self.token = token  # last: its region becomes the query

    @classmethod
    def from_model(
        cls,
        model: nn.Module,
        image: Float[Tensor, "*b c h w"],
        *,
        shown: Float[Tensor, "colours rows columns"] | None = None,
        layers: Sequence[str] | None = None,
        **rest,
    ) -> "Explorer":
        """The explorer of any model with BRA layers, found by walking its modules, and one image that it is given.

        shown: what to show of the image, -1 black to 1 bright; None: the image itself, its lowest value black and its
        highest bright if they are outside of that. layers: names of the layers that are wanted; None: all. rest: as for
        `Explorer`. Raises ValueError as `look` and `Explorer` do.
        """
        views = look(model, image, layers)
        if shown is None:
            shown = image if image.ndim == 3 else image[0]
            low, high = shown.min(), shown.max()
            shown = shown if low >= -1 and high <= 1 else (shown - low) / (high - low).clamp(min=1e-12) * 2 - 1
        return cls(shown, views, **rest)

    @classmethod
    def of(cls, portrait: Portrait) -> "Explorer":
        """The explorer of what `bra.explorer.portrait` has found."""
        return cls(portrait.image, portrait.views, **portrait.about, block=portrait.block)

    def save_html(self, path: Path | str) -> Path:
        """Write one HTML file that needs neither network nor kernel, and shows what is chosen now."""
        write_atomically(Path(path), page(self.payload, self.choice()))
        return Path(path)

    def choice(self) -> dict[str, int | None]:
        """What is chosen now."""
        return {"query": self.query, "block": self.block, "token": self.token, "step": self.step}

    @traitlets.validate("query", "block", "token", "step")
    def check(self, proposal: dict) -> int | None:
        """Refuse what is not there."""
        name, value = proposal["trait"].name, proposal["value"]
        if name == "step" and value not in self.payload["steps"]:
            raise traitlets.TraitError(f"step must be among {self.payload['steps']}, but is {value}")
        block = value if name == "block" else self.block
        require_below("block", block, len(self.views))  # first: the others are about its map
        if name == "query":
            require_below(name, value, len(self.views[block].index))
        if name == "token" and value is not None:
            require_below(name, value, self.views[block].size[0] * self.views[block].size[1])
        return value

    @traitlets.observe("query", "block", "token")
    def keep_together(self, change: dict) -> None:
        """The token lies in the query, and moves with it; what another layer's map does not have is left."""
        view, token = self.views[self.block], self.token
        if token is not None and token >= view.size[0] * view.size[1]:
            self.token = token = None
        if self.query >= view.grid[0] * view.grid[1]:
            self.query = 0
        if token is None:
            return
        region = view.locate(*divmod(token, view.size[1]))[0]
        if change["name"] == "query" and region != self.query:
            self.token = middle(view, self.query)
        else:
            self.query = region

    def _repr_mimebundle_(self, **kwargs):
        """For Jupyter: the widget, and the same front end as HTML for all places where no kernel runs."""
        data, metadata = super()._repr_mimebundle_(**kwargs)
        return data | {"text/html": fragment(self.payload, self.choice()), "text/plain": repr(self)}, metadata

    def __repr__(self):
        view = self.views[self.block]
        reads = ", ".join(map(str, view.index[self.query].tolist()))
        title = self.payload["title"] or "an image"
        layers = f"{len(self.views)} layer{'s' * (len(self.views) > 1)}"
        return f"Explorer of {title}: {layers}; in {view.label}, region {self.query} reads {reads}."


def require_below(name: str, value: int, count: int) -> None:
    """Raise TraitError unless the value is 0 to count - 1."""
    if not 0 <= value < count:
        raise traitlets.TraitError(f"{name} must be between 0 and {count - 1}, but is {value}")


def middle(view: View, region: int) -> int | None:
    """The token in the middle of a region, counted row by row on the map; None if the region is all padding."""
    row, column = divmod(region, view.grid[1])
    (h, w), (down, across) = view.size, view.cell
    if row * down >= h or column * across >= w:
        return None
    return (row * down + min((row + 1) * down, h)) // 2 * w + (column * across + min((column + 1) * across, w)) // 2
