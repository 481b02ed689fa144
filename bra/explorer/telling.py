"""Which held-out board an explorer opens: one that tells what the training did."""

import itertools
from collections.abc import Mapping, Sequence

from bra.data import DataSet
from bra.explorer.portrait import read_history


def truth_of(data: DataSet, batch: tuple) -> tuple[int, int] | None:
    """The region of a batch's first image that asks, and the one that it should read; None where it is not known."""
    if "square" not in batch._fields:
        return None
    square, target = int(batch.square[0]), int(batch.target[0])
    return (square, target) if data.asks == "classes" else (target, square)  # asked where, it is the target that asks


def telling(data: DataSet, pages: Sequence[Mapping], rates: Sequence[float]) -> int:
    """The held-out image on which the training shows: of those whose routes were noted, in the lines of routing.jsonl.

    The first on which, in the block of the best of the hit `rates`, the region that asks misses the right one at first
    and hits it in the end; if there is none, the first image.
    """
    block = best(rates)
    noted = 1 + min(len(page.get("more", ())) for page in pages) if pages else 0  # such data know the truth
    for number, batch in enumerate(itertools.islice(data.held_out(1), noted)):
        (asking, answer), history = truth_of(data, batch), read_history(pages, number)
        before, after = (answer in history[i].index[block][asking] for i in (0, -1))
        if after and not before:
            return number
    return 0


def best(rates: Sequence[float]) -> int:
    """The block of the highest hit rate, the first of those alike; 0 where none is known."""
    return rates.index(max(rates)) if rates else 0
