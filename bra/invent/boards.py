"""What all entries meet: the boards, the network, its start and its training; and how much a layer may cost."""

from dataclasses import asdict, dataclass
from functools import partial

import torch
from torch import nn

from bra.data.recall import Recall
from bra.measure import multiply_adds
from bra.patterns import Grid
from bra.train.config import TrainConfig

DIM, HEADS = 64, 2  # of the networks for boards
SEEDS = (0, 1, 2)
BUDGET = 1.1  # an entry may cost a tenth more multiply-adds than top-k
COSTED = 8  # tokens on a region's side where the cost is counted: on the boards, with 2, the projections are nearly all


@dataclass(frozen=True)
class Board:
    """One thing to learn. recall: the boards. k: regions that each region reads. start: of W_k, see `TrainConfig`."""

    recall: Recall
    k: int
    start: str
    steps: int = 250
    batch: int = 64

    @property
    def grid(self) -> Grid:
        """One region a cell."""
        return (self.recall.cells, self.recall.cells)

    def config(self, seed: int) -> TrainConfig:
        """The settings of one run, but for the entry."""
        return TrainConfig(
            k=self.k, recall=self.recall, start=self.start, steps=self.steps, batch=self.batch,
            evaluate_every=self.steps, seed=seed, device="cpu",
        )  # fmt: skip


SMALL = Recall(cells=3, glyphs=6)  # full boards: with two reads of nine, neither luck nor leaving out goes far
BOARDS = {
    "alike": Board(SMALL, k=2, start="alike"),
    "independent": Board(SMALL, k=2, start="independent"),
}


def rules() -> dict:
    """All that a result depends on beside the entry: results under other rules are not compared."""
    return {"budget": BUDGET, "seeds": list(SEEDS), "boards": {name: asdict(board) for name, board in BOARDS.items()}}


@torch.no_grad()
def cost(layer: nn.Module) -> int:
    """Multiply-adds of one layer on one map of COSTED x COSTED tokens a region, training or not, whichever is more."""
    x = torch.randn(1, COSTED * layer.grid[0], COSTED * layer.grid[1], layer.dim)
    return max(multiply_adds(partial(layer.train(training), x)) for training in (True, False))
