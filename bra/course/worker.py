"""The process in which an answer runs, and nothing else: ``python -m bra.course.worker SECONDS MEGABYTES``.

It reads requests from its standard input, and writes replies to what was its standard output (see `bra.course.wire`).
What the answer prints goes nowhere.
"""

import io
import os
import sys
from collections.abc import Callable, Sequence
from io import BufferedIOBase
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from bra.course.limits import Limits, confine, restrict
from bra.course.needed import asking, compiled
from bra.course.own import by_hand
from bra.course.wire import receive, send


class NoChecks(ModuleType):
    """In the place of `bra.checks`: a check says nothing here, and its file with the right answer is not there."""

    def __getattr__(self, name: str) -> Callable[..., None]:
        if name.startswith("__"):
            raise AttributeError(name)
        return lambda *given, **named: None


def answers(cells: Sequence[str], check: str, own: Sequence[str], functions: list) -> dict[str, Any]:
    """What a notebook hands to a check. Functions in it go into the list, and cannot call `bra`'s `own`."""
    asked = asking(cells, check)
    space: dict[str, Any] = {"__name__": "__main__"}
    for statement in asked.statements:
        exec(compiled(statement), space)
    given = eval(compiled(asked.given), space)
    named = {each.arg: eval(compiled(each.value), space) for each in asked.call.keywords}
    functions.clear()

    def apart(each):
        return by_hand(each, own) if callable(each) else each

    return {"given": [apart(each) for each in given], "named": {name: apart(each) for name, each in named.items()}}


def called(function: Callable[..., Any], given: tuple) -> dict[str, Any]:
    """What a function makes of its arguments, and whether it changed them."""
    before = as_bytes(given)
    with torch.no_grad():
        value = function(*given)
    return {"value": value, "changed": as_bytes(given) != before}


def as_bytes(value: Any) -> bytes:
    """A value as it would be sent."""
    file = io.BytesIO()
    send(file, value)
    return file.getvalue()


def reply(request: dict[str, Any], functions: list, limits: Limits) -> dict[str, Any]:
    """What there is to say to a request; of an error its kind and its words."""
    try:
        if request["do"] == "answer":
            return answers(request["cells"], request["check"], request["own"], functions)
        return called(functions[request["function"]], request["given"])
    except BaseException as error:
        if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
            return {"error": ["MemoryError", f"more than {limits.megabytes} MB"]}
        return {"error": [type(error).__name__, str(error)[:2000]]}


def main() -> None:
    """Answer requests until there are no more."""
    limits = Limits(float(sys.argv[1]), int(sys.argv[2]))
    requests, replies = (os.fdopen(os.dup(n), mode) for n, mode in ((0, "rb"), (1, "wb")))
    nothing = os.open(os.devnull, os.O_RDWR)
    for n in (0, 1):
        os.dup2(nothing, n)
    torch.set_num_threads(1)
    sys.modules["bra.checks"] = sys.modules["bra"].checks = NoChecks("bra.checks")
    restrict(limits)
    confine(Path.cwd())
    functions: list[Callable] = []
    send(replies, "ready")
    serve(requests, replies, functions, limits)


def serve(requests: BufferedIOBase, replies: BufferedIOBase, functions: list, limits: Limits) -> None:
    """Reply to each request."""
    while True:
        try:
            request = receive(requests)
        except EOFError:
            return
        said = reply(request, functions, limits)
        try:
            send(replies, said, functions)
        except (ValueError, RuntimeError, MemoryError) as error:  # too large, or a tensor without numbers
            send(replies, {"error": [type(error).__name__, str(error)]})


if __name__ == "__main__":
    main()
