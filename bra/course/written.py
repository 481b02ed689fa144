"""The student's own file, `my_bra.py`, in the process where it runs: its functions, and modules made of its classes.

`bra.course.standing` stands for them where they are judged.
"""

import importlib
import io
import traceback
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from types import ModuleType
from typing import Any

import torch
from torch import Tensor, nn

from bra.course.own import without
from bra.course.wire import send

FILE = "my_bra.py"
WAYS = ("bra.attention.attend_gathered", "bra.attention.attend_masked", "bra.attention.attend_in_pieces",
        "bra.kernels.flex.attend_flex", "bra.kernels.fused.attend_fused")  # which do what `attend` does  # fmt: skip


class Written:
    """A file that was read, the modules made of its classes, and the last output of one that has a gradient."""

    def __init__(self):
        self.space: dict[str, Any] = {}
        self.ours: dict[str, str] = {}  # the functions of `bra` that are written anew, and where each stands
        self.made: list[nn.Module] = []
        self.kept: tuple[nn.Module, Tensor, Tensor]

    def read(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Run the file. Of each name that is asked for, what it is: "function", "module", "ours", or another type."""
        module = ModuleType(FILE.partition(".")[0])
        self.ours, self.space, self.made = asked["ours"], module.__dict__, []
        exec(compile(asked["source"], FILE, "exec"), self.space)
        return {"kinds": {name: self.kind(self.space[name], name) for name in self.ours if name in self.space}}

    def kind(self, own: Any, name: str) -> str:
        """What stands under one of the names."""
        if own is found(self.ours[name]):
            return "ours"
        if isinstance(own, type):
            return "module" if issubclass(own, nn.Module) else "type"
        return "function" if callable(own) else type(own).__name__

    @contextmanager
    def by_hand(self, asked: dict[str, Any]) -> Iterator[None]:
        """Within it `bra`'s functions stand in the place of hers that are named, and no other of them can be called."""
        before, instead = dict(self.space), asked["instead"]
        self.space.update({name: found(self.ours[name]) for name in instead})
        kept_away = [place for name, place in self.ours.items() if name not in instead]
        try:
            with without(kept_away if "attend" in instead else [*kept_away, *WAYS]):
                yield
        finally:
            self.space.clear()
            self.space.update(before)

    def function(self, asked: dict[str, Any]) -> dict[str, Any]:
        """What one of her functions makes of its arguments."""
        own = self.space[asked["name"]]
        with self.by_hand(asked):
            return result_of(own, asked["given"], asked["named"])

    def make(self, asked: dict[str, Any]) -> dict[str, Any]:
        """Make a module: its number, and its weights."""
        own = self.space[asked["name"]]
        with self.by_hand(asked):
            self.made.append(own(*asked["given"], **asked["named"]))
        return {"number": len(self.made) - 1, "weights": dict(self.made[-1].state_dict())}

    def forward(self, asked: dict[str, Any]) -> dict[str, Any]:
        """What a module with these weights makes of a map, and whether that has a gradient."""
        module, x = self.made[asked["number"]].train(asked["training"]), asked["x"]
        module.load_state_dict(asked["weights"])
        before = x.clone()
        with self.by_hand(asked), torch.set_grad_enabled(asked["gradient"]):
            value = module(x.requires_grad_() if asked["gradient"] else x)
        known = isinstance(value, Tensor) and value.requires_grad
        if known:
            self.kept = module, x, value
        return {"value": value, "gradient": known, "changed": not torch.equal(x, before)}

    def backward(self, asked: dict[str, Any]) -> dict[str, Any]:
        """The gradients of the last output's map and weights; none where none arrives."""
        module, x, value = self.kept
        weights = {name: weight for name, weight in module.named_parameters() if weight.requires_grad}
        with self.by_hand(asked):
            grads = torch.autograd.grad(value, [x, *weights.values()], asked["gradient"], allow_unused=True)
        return {"x": grads[0], "weights": dict(zip(weights, grads[1:], strict=True))}


def found(place: str) -> Any:
    """What stands at such a place as "bra.topk.top_k_regions"."""
    module, _, name = place.rpartition(".")
    return getattr(importlib.import_module(module), name)


def result_of(function: Callable[..., Any], given: tuple, named: dict[str, Any] | None = None) -> dict[str, Any]:
    """What a function makes of its arguments, and whether it changed them."""
    before = as_bytes(given)
    with torch.no_grad():
        value = function(*given, **(named or {}))
    return {"value": value, "changed": as_bytes(given) != before}


def as_bytes(value: Any) -> bytes:
    """A value as it would be sent."""
    file = io.BytesIO()
    send(file, value)
    return file.getvalue()


def line_of(error: BaseException) -> int:
    """In which line of her file an error arose; 0 if in none."""
    lines: Sequence[int | None] = [
        frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == FILE
    ]
    return (lines[-1] or 0) if lines else 0
