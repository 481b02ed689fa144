"""What each way of `attend` moves and multiplies, counted: a list of kernels, forward and backward.

What `fused` loads, stores and multiplies is exact: a test compares it with what the programs touch. The counts of
PyTorch's kernels (gathered, masked, dense) and of FlexAttention assume tiles of 128 x 128, as large GPUs take for long
sequences, and sums in the tensors' own precision. Not counted: a mask of padded tokens, and the few bytes of an index.

Words: unit, the bytes of one of q, k, v; sums, those of one number a query and head (log-sum-exp); n regions are read;
tiles, how many one region takes.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from bra.kernels.flex import block_size, blocks_read
from bra.kernels.fused import tile

TILE = 128  # rows and columns of a tile of scores in kernels that are not ours


class Kernel(NamedTuple):
    """One kernel's work. loads, stores: bytes that are asked for; a cache may serve what is asked for again.

    least: bytes in different places, which must cross the memory bus once. products: multiply-adds, also those that
    a tile's empty rows waste. powers: exponentials.
    """

    name: str
    loads: int
    stores: int
    least: int
    products: int = 0
    powers: int = 0
    launches: int = 1


class Reading(NamedTuple):
    """Who reads what, of which size. index: (b r n); t tokens of c channels a region."""

    index: Tensor  # type: ignore[assignment]  # it hides that of a tuple
    t: int
    c: int
    heads: int
    dtype: torch.dtype = torch.float16

    @property
    def queries(self) -> int:
        """How many queries there are: tokens of all images and regions."""
        b, r, _ = self.index.shape
        return b * r * self.t

    @property
    def unit(self) -> int:
        """Bytes of one of q, k, v, the output, and their gradients."""
        return self.queries * self.c * self.dtype.itemsize

    @property
    def sums(self) -> int:
        """Bytes of one number a query and head, which is float32, or float64."""
        return self.queries * self.heads * (8 if self.dtype == torch.float64 else 4)


class Cost(NamedTuple):
    """The kernels of one way."""

    forward: list[Kernel]
    backward: list[Kernel]

    def total(self, field: str, mode: str = "train") -> int:
        """A field's sum over all kernels; mode: inference (forward alone) or train."""
        kernels = self.forward + (self.backward if mode == "train" else [])
        return sum(getattr(kernel, field) for kernel in kernels)


def up(number: int, multiple: int) -> int:
    """The next multiple."""
    return -(-number // multiple) * multiple


def fused(reading: Reading) -> Cost:
    """`attend_fused`: every tile of queries loads the keys and values that its region reads; nothing else is stored."""
    index, t, c, heads, dtype = reading
    (b, r, n), unit, sums = index.shape, reading.unit, reading.sums
    own, step = tile(t, dtype)
    tiles, width = -(-t // own), max(16, 1 << (c // heads - 1).bit_length())
    programs = b * r * tiles * heads
    listed = programs * n * t  # entries of the table that are looked up: one a token that is walked over
    walk, scores = 2 * tiles * n * unit, programs * own * up(n * t, step)
    named = torch.bincount((index + r * torch.arange(b)[:, None, None]).flatten(), minlength=b * r)
    back = tiles * heads * own * sum(up(int(count) * t, step) for count in named)  # scores, tiled from the keys' side
    return Cost(
        [Kernel("forward", unit + walk + 4 * listed, unit + sums, 4 * unit + sums, 2 * scores * width, scores)],
        [
            Kernel(
                "queries",
                loads=3 * unit + walk + sums + 4 * listed,
                stores=unit + sums,
                least=6 * unit + 2 * sums,
                products=3 * scores * width,
                powers=scores,
            ),
            Kernel("invert", 12 * b * r * n, 12 * b * r * n, 24 * b * r * n, launches=6),
            Kernel(
                "keys",
                loads=2 * unit + walk + 2 * tiles * n * sums + 8 * listed + 16 * programs,
                stores=2 * unit,
                least=6 * unit + 2 * sums,
                products=4 * back * width,
                powers=back,
            ),
        ],
    )


def gathered(reading: Reading) -> Cost:
    """`attend_gathered`: keys and values are copied n times; their gradients are added up where they came from."""
    index, t, c, heads, _ = reading
    (b, r, n), unit, sums = index.shape, reading.unit, reading.sums
    tiles = -(-t // TILE)
    scores = b * r * heads * up(t, TILE) * up(n * t, TILE)
    products = scores * c // heads
    return Cost(
        [
            Kernel("gather", 2 * n * unit, 2 * n * unit, (2 + 2 * n) * unit, launches=2),
            Kernel("attend", unit + 2 * tiles * n * unit, unit + sums, (2 + 2 * n) * unit + sums, 2 * products, scores),
        ],
        [
            Kernel(
                "attend",
                loads=(3 + 4 * tiles * n) * unit + 2 * sums,
                stores=(1 + 2 * n) * unit,
                least=(4 + 4 * n) * unit + sums,
                products=5 * products,
                powers=scores,
                launches=3,
            ),
            Kernel("add up", 4 * n * unit, 2 * (1 + n) * unit, (2 + 2 * n) * unit, launches=4),
        ],
    )


def dense(reading: Reading) -> Cost:
    """Attention to all tokens with a fused kernel: every tile of queries loads all keys and values."""
    return all_to_all(reading, bias=0)


def masked(reading: Reading) -> Cost:
    """`attend_masked`: dense, and a bias for each pair of tokens that is written once and read for each head."""
    b, r, _ = reading.index.shape
    pairs = b * (r * reading.t) ** 2 * reading.dtype.itemsize
    cost = all_to_all(reading, pairs)
    return Cost([Kernel("bias", pairs, pairs, pairs, launches=6), *cost.forward], cost.backward)


def all_to_all(reading: Reading, bias: int) -> Cost:
    """Every token attends to every token; bias: bytes that every head reads besides."""
    b, r, _ = reading.index.shape
    unit, sums, tiles = reading.unit, reading.sums, -(-r * reading.t // TILE)
    scores = b * reading.heads * up(r * reading.t, TILE) ** 2
    products, biases = scores * reading.c // reading.heads, reading.heads * bias
    return Cost(
        [Kernel("attend", (1 + 2 * tiles) * unit + biases, unit + sums, 4 * unit + sums + bias, 2 * products, scores)],
        [
            Kernel(
                "attend",
                loads=(4 + 4 * tiles) * unit + 2 * tiles * sums + biases,
                stores=(3 + tiles) * unit,
                least=8 * unit + 2 * sums + bias,
                products=5 * products,
                powers=scores,
                launches=3,
            )
        ],
    )


def flex(reading: Reading) -> Cost:
    """`attend_flex`: blocks of keys that hold something read are loaded whole, with a bias for each pair."""
    index, t, c, heads, dtype = reading
    (b, r, _), unit, sums, size = index.shape, reading.unit, reading.sums, block_size(t, "cuda")
    blocks = int(blocks_read(index, r, t, size).kv_num_blocks.sum()) * heads
    scores, walk = blocks * size**2, 2 * blocks * size * c // heads * dtype.itemsize
    products, biases, table = scores * c // heads, 4 * scores, 4 * b * r * r
    return Cost(
        [
            Kernel("block table", table, table, 2 * table, launches=12),
            Kernel("attend", unit + walk + biases, unit + sums, 4 * unit + sums + table, 2 * products, scores),
        ],
        [
            Kernel("delta", 2 * unit, sums, 2 * unit + sums),
            Kernel(
                "attend",
                loads=4 * unit + 2 * sums + 2 * walk + 2 * biases,
                stores=3 * unit,
                least=7 * unit + 2 * sums + table,
                products=7 * products,
                powers=2 * scores,
            ),
        ],
    )


WAYS = {"gathered": gathered, "masked": masked, "fused": fused, "flex": flex, "dense": dense}
"""Every way that a GPU may take, and dense attention beside them. (In pieces is for a CPU's cache.)"""
