"""`bra`'s own functions, put out of reach while an answer runs that is to be written by hand."""

import inspect
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

MADE_BY = ("__init__", "forward")  # what is called of a class


def refuse(*_, **__):
    """What is there instead."""
    raise RuntimeError("This is bra's own. Write yours.")


@contextmanager
def without(names: Sequence[str]) -> Iterator[None]:
    """Within it these functions and classes, such as "bra.topk.top_k_regions", raise, whoever has imported them.

    What an answer imports only when it runs, it finds once: from its next call on that raises, too.
    """
    with ExitStack() as stack:
        for module, _, last in (name.rpartition(".") for name in names):
            if module not in sys.modules:
                continue
            own = getattr(sys.modules[module], last)
            changes = [(own, of, refuse) for of in MADE_BY if hasattr(own, of)]
            if not isinstance(own, type):  # its code: the object is one for all who have imported it
                changes = [(inspect.unwrap(own), "__code__", inspect.unwrap(refuse).__code__)]
            for owner, attribute, value in changes:
                stack.callback(setattr, owner, attribute, getattr(owner, attribute))
                setattr(owner, attribute, value)
        yield


def by_hand(answer: Callable[..., Any], names: Sequence[str]) -> Callable[..., Any]:
    """The same answer, which cannot call these."""

    def called(*given, **named):
        with without(names):
            return answer(*given, **named)

    return called
