"""What stands, where answers are judged, for the functions and modules of a file that runs in another process.

`bra.checks.build` tries them as if they were here; `bra.course.written` is the other side.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from bra.checks.build import STAGES, Space
from bra.checks.judge import Wrong
from bra.course.sandbox import Sandbox, error_of, raised_there
from bra.course.wire import identifier

OURS = {part.name: part.ours for parts in STAGES.values() for part in parts}


class File(Space):
    """What a file defines, with a stand-in for each function and class that is asked for. Raises Wrong, in words."""

    def __init__(self, source: str, sandbox: Sandbox):
        self.source, self.sandbox, self.reader, self.instead = source, sandbox, None, ()
        super().__init__({name: self.stand_in(name, kind) for name, kind in self.read().items() if name in OURS})

    def stand_in(self, name: str, kind: str) -> Any:
        """What stands for something of this kind."""
        ways = {"ours": OURS.get, "function": self.function, "module": self.module, "type": lambda name: type}
        return ways[kind](name) if kind in ways else type(identifier(kind), (), {})()

    def read(self) -> dict[str, str]:
        """Have the file read. Raises Wrong if it cannot be."""
        places = {name: f"{own.__module__}.{own.__name__}" for name, own in OURS.items()}
        said = self.sandbox.ask({"do": "read", "source": self.source, "ours": places})
        self.reader = self.sandbox.process
        if "error" in said:
            kind, words, line = error_of(said)
            where = f" in line {line}" if line else ""
            raise Wrong(
                f"It is no Python yet: {words}." if kind == "SyntaxError" else
                f"It stops while it is read: {kind}{where}: {words}."
            )  # fmt: skip
        return said["kinds"]

    def ask(self, do: str, **request: Any) -> dict[str, Any]:
        """The reply to a request, by a process that has read the file. Raises what was raised there, and Wrong."""
        if self.sandbox.started() is not self.reader:  # the last answer has ended its process
            self.read()
        said = self.sandbox.ask({"do": do, "instead": self.instead, **request})
        if "error" in said:
            raise raised_there(said)
        if said.get("changed"):
            raise Wrong("Your function changes its input. Work on a copy.")
        return said

    @contextmanager
    def with_ours(self, names: Iterable[str]) -> Iterator[None]:
        """Within it `bra`'s functions stand in the place of hers of these names."""
        before, self.instead = self.instead, tuple(sorted(names))
        try:
            yield
        finally:
            self.instead = before

    def function(self, name: str) -> Callable[..., Any]:
        """Stands for a function."""
        return lambda *given, **named: self.ask("function", name=name, given=given, named=named).get("value")

    def module(self, name: str) -> type[nn.Module]:
        """Stands for a class."""
        file = self

        class Standing(nn.Module):
            def __init__(self, *given, **named):
                super().__init__()
                said = file.ask("make", name=name, given=given, named=named)
                self.at = said["number"]
                for place, weight in said["weights"].items():
                    put(self, place, nn.Parameter(weight, requires_grad=weight.is_floating_point()))

            def forward(self, x):
                weights, gradient = dict(self.state_dict()), torch.is_grad_enabled()
                said = file.ask("forward", number=self.at, weights=weights, x=x.detach(), training=self.training,
                                gradient=gradient)  # fmt: skip
                known = isinstance(said["value"], Tensor) and said["gradient"] and gradient
                return (
                    Backward.apply(file, [*weights], said["value"], x, *self.parameters()) if known else said["value"]
                )

        return Standing


class Backward(torch.autograd.Function):
    """Knows, of an output, what its gradients are: those of the process in which it was made."""

    @staticmethod
    def forward(ctx, file: File, names: Sequence[str], value: Tensor, x: Tensor, *weights: Tensor) -> Tensor:
        """The output."""
        ctx.file, ctx.names = file, names
        return value.clone()

    @staticmethod
    def backward(ctx, gradient: Tensor) -> tuple[Tensor | None, ...]:
        """Of the map and the weights; none where none arrives."""
        said = ctx.file.ask("backward", gradient=gradient)
        return None, None, None, said["x"], *(said["weights"].get(name) for name in ctx.names)


def put(module: nn.Module, place: str, weight: nn.Parameter) -> None:
    """Put a weight at such a place as "lce.conv.bias"."""
    *path, name = place.split(".")
    for part in path:
        if part not in module._modules:
            module.add_module(part, nn.Module())
        module = module._modules[part]
    module.register_parameter(name, weight)
