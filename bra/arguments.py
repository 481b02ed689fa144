"""What the package says about a bad argument: its name, its value, and what is allowed. On a command line: one line."""

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from torch import Tensor

DISTRIBUTION = "bi-level-routing-attention"  # what pip calls the package that Python imports as bra


def require_axes(name: str, x: Tensor, axes: str) -> None:
    """Raise ValueError unless `x` has one axis for each word of `axes`, such as ``"b h w c"``."""
    expected = len(axes.split())
    if x.ndim != expected:
        raise ValueError(f"{name} must have {expected} axes ({axes}), but its shape is {tuple(x.shape)}")


def require_grid(grid: tuple[int, int]) -> None:
    """Raise ValueError unless `grid` is (rows, columns) of at least one region each."""
    if not isinstance(grid, Sequence) or len(grid) != 2 or min(grid) < 1:
        shown = tuple(grid) if isinstance(grid, Sequence) else grid
        raise ValueError(f"grid must be (rows, columns) of regions, such as (7, 7), each at least 1, but is {shown}")


def require_k(k: int, regions: int) -> None:
    """Raise ValueError unless 1 <= k <= regions."""
    if not 1 <= k <= regions:
        raise ValueError(f"k must be between 1 and the number of regions, {regions}, but is {k}")


def require_heads(dim: int, heads: int) -> None:
    """Raise ValueError unless `heads` divides `dim`."""
    if heads < 1 or dim < 1 or dim % heads:
        raise ValueError(f"dim must be divisible by heads, but dim is {dim} and heads is {heads}")


def install(extra: str) -> str:
    """What to type where the libraries of one of the package's extras are missing."""
    return f'pip install "{DISTRIBUTION}[{extra}]"'


@contextmanager
def errors_in_one_line(*kinds: type[Exception], stopped: str = "stopped") -> Iterator[None]:
    """End the program with one line: `error: ...` at an error of these kinds, `stopped` after Ctrl-C.

    The user can mend these kinds. All other errors are mistakes of ours, and show their traceback.
    """
    try:
        yield
    except KeyboardInterrupt as interrupt:
        print(str(interrupt) or stopped, file=sys.stderr)
        sys.exit(130)
    except kinds as error:
        lines = str(error).splitlines() or [type(error).__name__]
        sys.exit(f"error: {lines[-1]}")  # from a worker process, the message comes below a traceback
