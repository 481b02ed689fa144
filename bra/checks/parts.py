"""A part of the file that the reader writes: what she is asked for in one step, and how hers is tried."""

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor, nn

from bra.checks.judge import Wrong
from bra.checks.verdict import Verdict


class Part(NamedTuple):
    """One function or class.

    ours: that of `bra`, whose name hers bears. stub: what she begins with; its docstring says what is asked for.
    check: from hers to a verdict.
    """

    ours: Callable[..., Any]
    stub: str
    check: Callable[[Any], Verdict]

    @property
    def name(self) -> str:
        """What hers is called."""
        return self.ours.__name__

    @property
    def is_class(self) -> bool:
        """Whether a module is asked for, and not a function."""
        return isinstance(self.ours, type)


def loaded(module: nn.Module, weights: dict[str, Tensor]) -> nn.Module:
    """Her module with these weights. Raises Wrong if they do not fit."""
    has, needs = ({name: tuple(p.shape) for name, p in state.items()} for state in (module.state_dict(), weights))
    for name, shape in needs.items():
        if name not in has:
            others = ", ".join(sorted(has.keys() - needs.keys())) or "nothing else"
            raise Wrong(f"Its state dict must hold {name}, of shape {shape}; yours has {others}.")
        if has[name] != shape:
            raise Wrong(f"{name} has the shape {has[name]}, but must have {shape}.")
    for name in has.keys() - needs.keys():
        raise Wrong(f"Its state dict holds {name}, which bra's has not: weights could not be exchanged.")
    module.load_state_dict(weights)
    return module


QKV = (  # what may go wrong between `qkv` and the heads, in a routed layer and in full attention: words, a wrong way
    ("You take every third channel of `qkv` for q. Its first c channels are q, the next c are k, the last c are v.",
     {"parts": "(m d three)"}),
    ("You split `qkv` by heads first. All of q comes first, then all of k, then all of v; each is then split.",
     {"parts": "(m three d)"}),
    ("Your heads still stand before the tokens when you put them together: move them back behind, then reshape.",
     {"moved": False}),
    ("Queries and keys are swapped: the three parts of `qkv` are q, k, v, in this order.", {"order": "kqv"}),
    ("Keys and values are swapped: the three parts of `qkv` are q, k, v, in this order.", {"order": "qvk"}),
)  # fmt: skip
