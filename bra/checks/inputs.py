"""What answers are tried on: what a reader sees, or a hidden variant of it with other sizes, which a grader sets.

Whoever hard-codes the results for what she sees fails in a variant. The number of a variant makes all its inputs.
"""

import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

import torch
from torch import Tensor

SEEN = 0
VARIANT = ContextVar("variant", default=SEEN)


@contextmanager
def hidden(variant: int) -> Iterator[None]:
    """Within it every check tries other sizes and other numbers. Raises ValueError unless variant is at least 1."""
    if variant < 1:
        raise ValueError(f"variant must be at least 1, but is {variant}: 0 is what readers see")
    before = VARIANT.set(variant)
    try:
        yield
    finally:
        VARIANT.reset(before)


def generator(seed: int = 0) -> torch.Generator:
    """Of random numbers, the same each time, and others in each variant."""
    return torch.Generator().manual_seed(seed + 1000 * VARIANT.get())


def numbers(*shape: int, seed: int = 0) -> Tensor:
    """Random numbers, the same each time, and others in each variant."""
    return torch.randn(shape, generator=generator(seed))


def sizes() -> Callable[[int], int]:
    """A function of a size or count: as readers see it; in a variant larger by 1 to 5, by another number each call."""
    variant = VARIANT.get()
    draw = random.Random(variant)
    return lambda size: size if variant == SEEN else size + draw.randint(1, 5)
