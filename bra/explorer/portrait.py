"""What an explorer shows: an image, what each layer does with it, and what else is known."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import torch
from jaxtyping import Float, Int
from torch import Tensor

from bra.look.views import View, require_routes
from bra.partition import middle_region


@dataclass(frozen=True, eq=False)
class Snapshot:
    """Whom the regions read after some steps of training: of each layer index (r k) and affinity (r r)."""

    step: int
    index: Sequence[Int[Tensor, "_ _"]]
    affinity: Sequence[Float[Tensor, "_ _"]]


@dataclass(frozen=True, eq=False)
class Portrait:
    """What an explorer shows of one image.

    image: (c h w), 1 or 3 channels, -1 black to 1 bright. views: what the layers did with it (`look`).
    title: a line above. question, says: what the network is asked, and what it answers; source: where network and image
    come from. Each is a sentence or two, or nothing. step: how many training steps the views have behind them; history:
    earlier steps. truth: (region that asks, region that it should read), where the right answer is known; asker: what
    lies in the first, in words. columns: more columns for the table of layers, each a value a layer. block: the view to
    begin with.
    Raises ValueError for an image that is none of this, or whose sides do not fit the tokens; for no views; for a
    history that does not fit them; for a truth outside the grid; for columns with not one value a view.
    """

    image: Float[Tensor, "c h w"]
    views: Sequence[View]
    title: str = ""
    question: str = ""
    says: str = ""
    source: str = ""
    history: Sequence[Snapshot] = ()
    step: int = 0
    truth: tuple[int, int] | None = None
    asker: str = ""
    columns: Mapping[str, Sequence[float | str]] = field(default_factory=dict)
    block: int = 0

    def __post_init__(self):
        require_image(self.image, self.views)
        regions = max(view.count for view in self.views)
        if self.truth is not None and not all(0 <= region < regions for region in self.truth):
            raise ValueError(f"truth must be two regions of 0 to {regions - 1}, but is {tuple(self.truth)}")
        for name, values in self.columns.items():
            if len(values) != len(self.views):
                raise ValueError(
                    f"columns must have {len(self.views)} values, one a layer, but {name!r} has {len(values)}"
                )
        require_history(self.history, self.views)

    @property
    def earlier(self) -> list[Snapshot]:
        """The history of before the views."""
        return [snapshot for snapshot in self.history if snapshot.step < self.step]

    @property
    def hint(self) -> str:
        """What to try first."""
        later = ""
        if self.asker and self.earlier:
            asking, answer = self.truth
            later = " Then press Play: whom did it read before the network had learnt?"
            if answer in self.earlier[0].index[self.block][asking]:  # the choice was there before: say nothing else
                later = " Then press Play: the right one is read from the start. What changes?"
        return f"Click {self.asker or 'a region'}, or move with the arrow keys.{later}"

    def start(self) -> dict[str, int | None]:
        """What is chosen at first: the region that asks, or the middle one, at the last step."""
        query = self.truth[0] if self.truth else middle_region(self.views[0].grid)
        return {"block": self.block, "query": query, "token": None, "step": self.step}


def require_history(history: Sequence[Snapshot], views: Sequence[View]) -> None:
    """Raise ValueError unless the snapshots are in the order of their steps, with tables for every view."""
    for before, snapshot in zip((None, *history), history, strict=False):
        if len(snapshot.index) != len(views) or len(snapshot.affinity) != len(views):
            found = f"has {len(snapshot.index)} at step {snapshot.step}"
            raise ValueError(f"history must have {len(views)} layers a page, but {found}")
        if before is not None and snapshot.step <= before.step:
            raise ValueError(f"history must be in the order of its steps, but {snapshot.step} follows {before.step}")
        for view, index, affinity in zip(views, snapshot.index, snapshot.affinity, strict=True):
            require_routes(view.name, view.grid, index, affinity)


def read_history(pages: Sequence[Mapping], number: int = 0) -> list[Snapshot]:
    """The history of one board in the lines of routing.jsonl; nothing of a board whose tables were not noted.

    Raises ValueError, which names the step, for a line without tables.
    """
    history = []
    if any(number > len(page.get("more", ())) for page in pages):
        return history
    for page in pages:
        try:
            noted = page["more"][number - 1] if number else page
            index, affinity = ([torch.tensor(table) for table in noted[name]] for name in ("index", "affinity"))
            history.append(Snapshot(page["step"], index, [table.double() for table in affinity]))
        except (KeyError, TypeError, ValueError) as error:
            raise ValueError(
                f"history must have index and affinity of every layer, but not at step {page.get('step')}"
            ) from error
    return history


def require_image(image: Tensor, views: Sequence[View]) -> None:
    """Raise ValueError unless the image could have given maps of these sizes: as many pixels a token down as across."""
    if image.ndim != 3 or image.shape[0] not in (1, 3) or 0 in image.shape:
        raise ValueError(f"image must be (3 h w) or (1 h w) to be shown, but is {tuple(image.shape)}: pass shown=")
    if not views:
        raise ValueError("views must hold at least one layer, but there is none")
    if not image.isfinite().all():
        raise ValueError(
            f"image must be finite to be shown, but {int((~image.isfinite()).sum())} of its values are not"
        )
    (height, width) = image.shape[1:]
    for view in views:
        h, w = view.size  # rounded up or down: height / (h + 1) < stride < height / (h - 1), and the same for the width
        if height / (h + 1) >= width / max(w - 1, 1e-9) or width / (w + 1) >= height / max(h - 1, 1e-9):
            raise ValueError(
                f"image must have the shape of the map of {view.name}, {h} x {w} tokens, "
                f"but is {height} x {width} pixels"
            )
