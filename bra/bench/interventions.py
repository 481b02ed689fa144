"""What routes are there before training, and which of a trained network's are needed, and which suffice."""

from collections.abc import Callable
from dataclasses import replace

import torch
from jaxtyping import Bool, Int
from torch import Tensor

from bra.biformer import BOARD, BiFormer
from bra.data import derive_seed
from bra.data.recall import Boards, Recall, hit_rates
from bra.look.cuts import Forbid, LeaveOut, ReadOnly, rerouted
from bra.train.config import STARTS

BOARDS = Recall().sample(1024, derive_seed("interventions"))
SETTLING = 20  # forward passes without learning: batch norm collects its running statistics


@torch.no_grad()
def untrained_hits(start: str, seed: int) -> dict:
    """Hit rates of each block of an untrained network: at once, and when its batch norm has settled.

    start: a name in STARTS, of how W_k is drawn.
    """
    torch.manual_seed(derive_seed("untrained", seed))
    model = BiFormer(replace(BOARD, initialise=STARTS[start])).eval()
    found = {"start": start, "seed": seed, "at once": hit_rates(model.routes(BOARDS.image), BOARDS)["hit_rate"]}
    model.train()
    for i in range(SETTLING):
        model(Recall().sample(128, derive_seed("settling", seed, i)).image)
    return found | {"settled": hit_rates(model.eval().routes(BOARDS.image), BOARDS)["hit_rate"]}


def itself_and(asks: Int[Tensor, " b"] | None, told: Int[Tensor, " b"] | None, k: int = 4) -> Int[Tensor, "b r k"]:
    """Every region reads only itself; regions `asks`, or all if None, also read region `told`, if it is given."""
    count, regions = len(BOARDS.label), 16
    index = torch.arange(regions)[None, :, None].repeat(count, 1, k)
    board = torch.arange(count)
    if told is not None and asks is None:
        index[:, :, k // 2 :] = told[:, None, None]
    elif told is not None:
        index[board, asks, k // 2 :] = told[:, None]
    return index


def pair(reader: Tensor, read: Tensor) -> Bool[Tensor, "b r r"]:
    """Marks, on each board, that one region may not read one other."""
    forbidden = torch.zeros(len(reader), 16, 16, dtype=torch.bool)
    forbidden[torch.arange(len(reader)), reader, read] = True
    return forbidden


def first_other(index: Int[Tensor, "b r k"], reader: Int[Tensor, " b"], boards: Boards) -> Int[Tensor, " b"]:
    """Of what region `reader` reads, the first that is neither the square's nor the target's."""
    read = index[torch.arange(len(boards.label)), reader]
    other = (read != boards.target[:, None]) & (read != boards.square[:, None])
    return read[torch.arange(len(read)), other.int().argmax(dim=1)]


def cuts_and_keeps(model: BiFormer) -> dict[str, float]:
    """Accuracy on BOARDS with some routes forbidden (is it needed?), and with no others left (does it suffice?)."""
    square, target = BOARDS.square, BOARDS.target
    routers = [block.attention.router for block in model.stages[0]]
    there, back = pair(square, target), pair(target, square)
    others, two_others = [], []
    for index, _ in model.routes(BOARDS.image):
        others.append(pair(square, first_other(index, square, BOARDS)))
        two_others.append(others[-1] | pair(target, first_other(index, target, BOARDS)))

    def without(*marks: Bool[Tensor, "b r r"] | None, cut: type = Forbid):
        return {i: cut(routers[i], mark) for i, mark in enumerate(marks) if mark is not None}

    def only(first: Tensor, second: Tensor):
        return {0: ReadOnly(first), 1: ReadOnly(second)}

    alone = itself_and(None, None)
    cases: dict[str, Callable[[], dict]] = {
        "as it is": dict,
        "without square to target in block 0": lambda: without(there),
        "without square to target in block 1": lambda: without(None, there),
        "without square to target": lambda: without(there, there),
        "without target to square": lambda: without(back, back),
        "without both": lambda: without(there | back, there | back),
        "without square to another": lambda: without(*others),
        "without two others": lambda: without(*two_others),
        "left out: square to target": lambda: without(there, there, cut=LeaveOut),
        "left out: target to square": lambda: without(back, back, cut=LeaveOut),
        "left out: both": lambda: without(there | back, there | back, cut=LeaveOut),
        "only square to target, then all to square": lambda: only(itself_and(square, target), itself_and(None, square)),
        "only square to target, then nothing": lambda: only(itself_and(square, target), alone),
        "only nothing, then all to square": lambda: only(alone, itself_and(None, square)),
        "only target to square, then all to target": lambda: only(itself_and(target, square), itself_and(None, target)),
        "only nothing, then square to target": lambda: only(alone, itself_and(square, target)),
        "only nothing": lambda: only(alone, alone),
    }
    return {name: accuracy(rerouted(model, routes())) for name, routes in cases.items()}


@torch.no_grad()
def accuracy(model: BiFormer) -> float:
    """Share of BOARDS that are answered right."""
    return (model.eval()(BOARDS.image).argmax(dim=1) == BOARDS.label).double().mean().item()
