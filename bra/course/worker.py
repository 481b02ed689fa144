"""The process in which an answer runs, and nothing else: ``python -m bra.course.worker SECONDS MEGABYTES``.

It reads requests from its standard input, and writes replies to what was its standard output (see `bra.course.wire`).
What the answer prints goes nowhere.
"""

import os
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any

import torch

from bra.course.calls import askings, called
from bra.course.limits import Limits, confine, restrict
from bra.course.needed import compiled
from bra.course.own import by_hand
from bra.course.wire import receive, send
from bra.course.written import Written, line_of, result_of


class Listening(ModuleType):
    """In the place of `bra.checks`: a check says nothing here, and what it was given is kept.

    Its file, with the right answer in it, is not there.
    """

    def __init__(self):
        super().__init__("bra.checks")
        self.heard: list[tuple[str, tuple, dict[str, Any]]] = []

    def __getattr__(self, name: str) -> Callable[..., bool]:
        if name.startswith("__"):
            raise AttributeError(name)
        return partial(self.listen, name)

    def listen(self, check: str, *given: Any, **named: Any) -> bool:
        """In the place of a check: true, so that ``assert`` goes on."""
        self.heard.append((check, given, named))
        return True


def listening() -> Listening:
    """A new one, which no answer has edited, in its place."""
    sys.modules["bra.checks"] = sys.modules["bra"].checks = checks = Listening()
    return checks


def answers(asked: dict[str, Any], functions: list) -> dict[str, Any]:
    """What a notebook hands to a check, each time that one of its statements calls it: the last but `skip` of these.

    Functions in it go into the list, and cannot call `bra`'s `own`.
    """
    check, one = asked["check"], askings(asked["cells"], asked["check"])[-1 - asked["skip"]]
    if one.fault:
        raise SyntaxError(one.fault)
    checks = listening()
    space: dict[str, Any] = {"__name__": "__main__", "checks": checks, "display": lambda *given, **named: None}
    sys.modules[f"bra.checks.{asked['stem']}"] = of_its_file = ModuleType(f"bra.checks.{asked['stem']}")
    checks.__all__ = [check]  # for ``import *``
    setattr(of_its_file, check, partial(checks.listen, check))
    try:
        for statement in [*one.statements, one.last]:
            exec(compiled(statement), space)
    except BaseException:
        if not any(name == check for name, *_ in checks.heard):
            raise
    functions.clear()

    def apart(each):
        return by_hand(each, asked["own"]) if callable(each) else each

    return {"calls": [
        {"given": [apart(each) for each in given], "named": {key: apart(each) for key, each in named.items()}}
        for name, given, named in checks.heard if name == check
    ]}  # fmt: skip


def answering(limits: Limits, functions: list) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """What there is to say to a request; of an error its kind, its words, and its line in her own file, or 0."""
    written = Written()
    ways: dict[str, Callable[[dict[str, Any]], dict[str, Any]]] = {
        "called": lambda asked: {"checks": called(asked["cells"])},
        "answer": lambda asked: answers(asked, functions),
        "call": lambda asked: result_of(functions[asked["function"]], asked["given"]),
        "read": written.read,
        "function": written.function,
        "make": written.make,
        "forward": written.forward,
        "backward": written.backward,
    }

    def reply(request: dict[str, Any]) -> dict[str, Any]:
        try:
            return ways[request["do"]](request)
        except BaseException as error:
            if isinstance(error, MemoryError) or "can't allocate memory" in str(error):
                return {"error": ["MemoryError", f"more than {limits.megabytes} MB", 0]}
            return {"error": [type(error).__name__, str(error)[:2000], line_of(error)]}

    return reply


def main() -> None:
    """Answer requests until there are no more."""
    limits = Limits(float(sys.argv[1]), int(sys.argv[2]))
    requests, replies = (os.fdopen(os.dup(n), mode) for n, mode in ((0, "rb"), (1, "wb")))
    nothing = os.open(os.devnull, os.O_RDWR)
    for n in (0, 1):
        os.dup2(nothing, n)
    torch.set_num_threads(1)
    listening()
    restrict(limits)
    confine(Path.cwd())
    functions: list[Callable] = []
    reply = answering(limits, functions)
    send(replies, "ready")
    while True:
        try:
            request = receive(requests)
        except EOFError:
            return
        said = reply(request)
        try:
            send(replies, said, functions)
        except (ValueError, RuntimeError, MemoryError) as error:  # too large, or a tensor without numbers
            send(replies, {"error": [type(error).__name__, str(error), 0]})


if __name__ == "__main__":
    main()
