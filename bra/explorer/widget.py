"""The explorer as a widget for notebooks."""

from collections.abc import Sequence
from pathlib import Path

import anywidget
import traitlets
from jaxtyping import Float
from torch import Tensor, nn

from bra.explorer.join import FRONT_END
from bra.explorer.page import fragment, page
from bra.explorer.payload import pack
from bra.explorer.portrait import Portrait
from bra.explorer.portray import padded, reach
from bra.files import write_atomically
from bra.look.views import look


class Explorer(anywidget.AnyWidget):
    """A portrait to explore: whom each region of an image reads, who reads it, where its tokens look.

    In JupyterLab, Colab and VS Code it is a widget; where no kernel runs (a stored notebook, the book, `save_html`)
    the same front end shows the same. `query`, `block`, `token` and `step` follow the reader's choice and may be set:
    the region; which of the views; a token, counted row by row on the map, or None; a training step of the history.

    portrait: what is shown. query, token: what is chosen at first. None: the region that asks, or the middle one; no
    token. Raises TraitError for a choice out of range.
    """

    _esm = FRONT_END
    payload = traitlets.Dict().tag(sync=True)
    query = traitlets.Int(0).tag(sync=True)
    block = traitlets.Int(0).tag(sync=True)
    token = traitlets.Int(None, allow_none=True).tag(sync=True)
    step = traitlets.Int(0).tag(sync=True)

    def __init__(self, portrait: Portrait, *, query: int | None = None, token: int | None = None):
        self.views = list(portrait.views)
        chosen = portrait.start() | ({} if query is None else {"query": query})
        super().__init__(payload=pack(portrait), **chosen)
        self.token = token  # last: its region becomes the query

    @classmethod
    def from_model(
        cls,
        model: nn.Module,
        image: Float[Tensor, "*b c h w"],
        *,
        shown: Float[Tensor, "colours rows columns"] | None = None,
        layers: Sequence[str] | None = None,
        query: int | None = None,
        token: int | None = None,
        **known,
    ) -> "Explorer":
        """The explorer of any model with BRA layers, found by walking its modules, and one image that it is given.

        shown: what to show of the image, -1 black to 1 bright; None: the image itself, its lowest value black and its
        highest bright if they are outside of that. layers: names of the layers that are wanted; None: all.
        known: what else a `Portrait` shows, such as title. Raises ValueError as `look` and `Portrait` do.
        """
        views = look(model, image, layers)
        images = image if image.ndim == 4 else image[None]
        if shown is None:
            shown = images[0]
            low, high = shown.min(), shown.max()
            shown = shown if low >= -1 and high <= 1 else (shown - low) / (high - low).clamp(min=1e-12) * 2 - 1
        shown = padded(shown, reach(model, images))
        return cls(Portrait(shown, views, **known), query=query, token=token)

    def save_html(self, path: Path | str) -> Path:
        """Write one HTML file that needs neither network nor kernel, and shows what is chosen now.

        Raises IsADirectoryError for a folder.
        """
        if Path(path).is_dir():
            raise IsADirectoryError(f"path must be a file, but {path} is a folder")
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
            require_below(name, value, self.views[block].count)
        if name == "token" and value is not None:
            require_below(name, value, self.views[block].size[0] * self.views[block].size[1])
        return value

    @traitlets.observe("query", "block", "token")
    def keep_together(self, change: dict) -> None:
        """The token lies in the query, and moves with it; what another layer's map does not have is left."""
        view, token = self.views[self.block], self.token
        if token is not None and token >= view.size[0] * view.size[1]:
            self.token = token = None
        if self.query >= view.count:
            self.query = 0
        if token is None:
            return
        region = view.region_at(*divmod(token, view.size[1]))
        if change["name"] == "query" and region != self.query:
            self.token = view.middle(self.query)
        else:
            self.query = region

    def _repr_mimebundle_(self, **kwargs):
        """For Jupyter: the widget, and the same front end as HTML for all places where no kernel runs."""
        data, metadata = super()._repr_mimebundle_(**kwargs)
        return data | {"text/html": fragment(self.payload, self.choice()), "text/plain": repr(self)}, metadata

    def __repr__(self):
        view = self.views[self.block]
        reads = ", ".join(map(str, view.index[self.query].tolist()))
        title = self.payload["source"] or self.payload["title"] or "an image"
        layers = f"{len(self.views)} layer{'s' * (len(self.views) > 1)}"
        return f"Explorer of {title}: {layers}; in {view.label}, region {self.query} reads {reads}."


def require_below(name: str, value: int, count: int) -> None:
    """Raise TraitError unless the value is 0 to count - 1."""
    if not 0 <= value < count:
        raise traitlets.TraitError(f"{name} must be between 0 and {count - 1}, but is {value}")
