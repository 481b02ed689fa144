"""How routing forms: hit rates, entropy and tables, noted while a model trains."""

from collections.abc import Callable
from dataclasses import dataclass, field

import torch
from torch import nn

from bra.data.recall import Boards
from bra.data.recall_where import BoxedBoards, MarkedBoards
from bra.layer import BiLevelRoutingAttention, record_routes
from bra.look.statistics import entropy
from bra.topk import Routes
from bra.train.evaluation import routing_hits

WITH_TABLES = 4  # boards: as many as a run draws


@dataclass
class RoutingHistory:
    """Watches a training (`bra.train.fit`): at some steps it notes what the model, in evaluation, routes on `boards`.

    A page holds the step; of each block its hit rate, reverse hit rate and entropy over all boards; and of the first
    board the routing index (r k) and the affinity (r r) of each block, with the same of the next ones under `more`.
    `keep` is called with each page.
    """

    boards: Boards | MarkedBoards | BoxedBoards
    steps: tuple[int, ...]
    pages: list[dict] = field(default_factory=list)
    keep: Callable[[dict], None] = lambda page: None

    def __call__(self, step: int, model: nn.Module) -> None:
        """Write a page, if it is time for one."""
        if step not in self.steps:
            return
        model.eval()
        with torch.no_grad(), record_routes(model) as routes:
            model(self.boards.image.to(next(model.parameters()).device))
        widths = [layer.dim for layer in model.modules() if isinstance(layer, BiLevelRoutingAttention)]
        routes = [Routes(*(table.cpu() for table in r)) for r in routes]
        page = {"step": step, "entropy": [round(entropy(r, c), 3) for r, c in zip(routes, widths, strict=True)]}
        page |= {name: [round(x, 4) for x in rates] for name, rates in routing_hits(routes, self.boards).items()}
        first, *more = (tables(routes, board) for board in range(min(WITH_TABLES, len(self.boards.square))))
        page |= first | {"more": more}
        self.pages.append(page)
        self.keep(page)


def tables(routes: list[Routes], board: int) -> dict[str, list]:
    """Routing index (r k) and affinity (r r) of each block, on one board."""
    return {
        "index": [r.index[board].tolist() for r in routes],
        "affinity": [[[round(x, 2) for x in row] for row in r.affinity[board].tolist()] for r in routes],
    }


def steps_to_note(last: int) -> tuple[int, ...]:
    """0, then from 10 on two at each doubling, and the last: routing forms early, and runs differ in length."""
    steps = [0, *(round(10 * 2 ** (i / 2)) for i in range(2 * max(1, last).bit_length()))]
    return (*(step for step in steps if step < last), last)
