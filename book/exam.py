"""`python book/exam.py 7`: the traced questions of the exam with other numbers, those of seed 7, and their answers.

Seed 0 gives the questions of book/exam.md. Every number can be found by hand: means are whole, and no choice is a tie.
"""

import sys
from collections.abc import Iterable
from fractions import Fraction
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from bra import gather_regions, partition_regions, region_affinity, region_means, top_k_regions

GRID, SIDE, K = (2, 2), 4, 2


class Traced(NamedTuple):
    """A question that is traced by hand, and its answer."""

    question: str
    answer: str


class Map(NamedTuple):
    """Four regions of four tokens with two channels: (4 4 2) as drawn, the means, the affinity and the index."""

    x: Tensor
    q_means: Tensor
    k_means: Tensor
    affinity: Tensor
    index: Tensor


def fair_map(draw: torch.Generator) -> Map:
    """A map whose means are whole, without ties among the best three of a row, and whose regions choose differently."""
    while True:
        means = torch.randint(-3, 4, (2, 2, 1, 1, 2), generator=draw)
        noise = torch.randint(-2, 3, (2, 2, 1, 2, 2), generator=draw)
        x = (means + torch.cat([noise, -noise], dim=2)).transpose(1, 2).reshape(SIDE, SIDE, 2).float()
        regions = partition_regions(x[None], GRID)
        q, k = region_means(regions), region_means(regions @ torch.tensor([[1.0, 0], [1, 1]]))
        affinity = region_affinity(q, k)
        best = affinity[0].sort(dim=1, descending=True).values
        index = top_k_regions(affinity, K)[0]
        choices = {tuple(row) for row in index.tolist()}
        if (best[:, :2] > best[:, 1:3]).all() and len(choices) >= 3 and len(index.unique()) == 3:
            return Map(x, q[0], k[0], affinity[0], index)


def table(rows: Tensor) -> str:
    """Whole numbers in columns, as a block of code."""
    lines = ["    " + " ".join(f"{int(number):3d}" for number in row) for row in rows]
    return "\n".join(lines)


def listed(rows: Iterable[Iterable]) -> str:
    """Whole numbers, row after row."""
    return "; ".join(", ".join(str(int(number)) for number in row) for row in rows)


def questions(seed: int = 0) -> list[Traced]:
    """The five traced questions. They belong together: the later ones use the map of the first."""
    draw = torch.Generator().manual_seed(seed)
    drawn = fair_map(draw)
    region = int(torch.randint(4, (1,), generator=draw))
    powers = torch.randperm(4, generator=draw).tolist()
    values = (30 * torch.randint(1, 5, (4,), generator=draw)).tolist()
    row, column = [(1, 2), (2, 1), (2, 2)][int(torch.randint(3, (1,), generator=draw))]
    return [route(drawn), gather(drawn, region), softmax(powers, values), lce(drawn, row, column), backward(drawn)]


def route(drawn: Map) -> Traced:
    """Means, affinity, index."""
    itself = [i for i, reads in enumerate(drawn.index.tolist()) if i in reads]
    return Traced(
        "A map of 4 x 4 tokens with two channels, the first and the second:\n\n"
        f"{table(drawn.x[:, :, 0])}\n\n{table(drawn.x[:, :, 1])}\n\n"
        "The grid is 2 x 2. Of a token (a, b) the query is (a, b), and the key is (a + b, b). Give the mean queries "
        "and the mean keys of the four regions, the affinity, and the routing index for k = 2. Which regions read "
        "themselves?",
        f"Mean queries {listed(drawn.q_means)}; mean keys {listed(drawn.k_means)}; affinity {listed(drawn.affinity)}; "
        f"index {listed(drawn.index)}; themselves: {', '.join(map(str, itself)) or 'none'}.",
    )


def gather(drawn: Map, region: int) -> Traced:
    """Whose tokens come where."""
    addresses = partition_regions((10 * torch.arange(SIDE)[:, None] + torch.arange(SIDE))[None, :, :, None], GRID)
    gathered = gather_regions(addresses, drawn.index[None])[0, region, :, 0]
    rows = [int(j) + 2 * 4 for j in drawn.index[region]]
    return Traced(
        f"Write a token in row y, column x as 10 y + x. By the index of question 5, which tokens reach region {region}"
        ", in order? The regions of three images, all with this index, lie under each other as the rows of one "
        f"matrix. Which two rows, counted from 0, does region {region} of the last image select?",
        f"Tokens {listed(gathered[None])}; rows {rows[0]} and {rows[1]}.",
    )


def softmax(powers: list[int], values: list[int]) -> Traced:
    """One softmax over what is read, with and without a mask."""
    weights = [Fraction(2**p, 15) for p in powers]
    masked = [Fraction(2**p, 15 - 2 ** powers[3]) for p in powers[:3]]
    outputs = [sum(w * v for w, v in zip(each, values, strict=False)) for each in (weights, masked)]
    told = ", ".join(f"{p} ln 2" if p else "0" for p in powers)
    return Traced(
        f"A query reads two regions of two tokens. Its scaled scores are {told}; the values are {listed([values])}. "
        "Give the four weights as fractions, and the output. Then the last token turns out to be padding: give the "
        "output again.",
        f"Weights {', '.join(map(str, weights))}; output {outputs[0]}; masked {outputs[1]}.",
    )


def lce(drawn: Map, row: int, column: int) -> Traced:
    """A filter over the whole map."""
    weight = torch.tensor([[[[0.0, 1, 0], [1, 2, 0], [0, 0, 0]]]])
    out = F.conv2d(drawn.x[None, None, :, :, 0], weight, torch.tensor([1.0]), padding=1)[0, 0]
    return Traced(
        "The LCE of the first channel of that map has the 3 x 3 filter 0 1 0 / 1 2 0 / 0 0 0 and bias 1. What comes "
        f"out at row 0, column 0, and at row {row}, column {column}? Which tokens does the second take from another "
        "region than its own?",
        f"{int(out[0, 0])} and {int(out[row, column])}; {crossing(row, column)}.",
    )


def crossing(row: int, column: int) -> str:
    """Which neighbours, above and on the left, lie in another region."""
    names = ["above it"] * (row % 2 == 0) + ["on its left"] * (column % 2 == 0)
    return f"the token {' and that '.join(names)}"


def backward(drawn: Map) -> Traced:
    """Who gets how much gradient."""
    readers = drawn.index.flatten().bincount(minlength=4)
    return Traced(
        "Every number that was gathered with the index of question 5, for all four regions of one image, gets the "
        "gradient 1. Which has each token of regions 0, 1, 2 and 3? How many numbers has the tensor into which "
        "the flat index adds these up, and how many the one of the expanded gather?",
        f"{listed(readers[None])}; {4 * 4 * 2} and {4 * 4 * 4 * 2}.",
    )


if __name__ == "__main__":
    for number, each in enumerate(questions(int(sys.argv[1]) if len(sys.argv) > 1 else 0), start=5):
        print(f"{number}. {each.question}\n\n   Answer: {each.answer}\n")
