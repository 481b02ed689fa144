"""Step 04. Bring the tokens of the routed regions together."""

import torch
from jaxtyping import Int, Shaped
from torch import Tensor
from torch._C import _functorch as functorch

from bra.arguments import require_axes


def gather_regions(regions: Shaped[Tensor, "b r t c"], index: Int[Tensor, "b r k"]) -> Shaped[Tensor, "b r k*t c"]:
    """For each region the tokens of the k regions that it reads, in the order of `index`: K^g = gather(K, I^r).

    ``out[b, i, n * t + token] == regions[b, index[b, i, n], token]``

    A region is one row of b * r, so this is a selection of rows. Its backward adds each row's gradient straight into
    the input. A gather from an input expanded to (b r r t c), as in the official code,
    gives the same values, but its backward fills zeros of the expanded size: r times the memory of the input.

    Raises ValueError for a wrong rank or batch; IndexError for a region outside 0..r-1. That last check needs the
    values: it is made on the CPU, but not on a GPU, which it would make wait, nor in compiled code. There the caller
    answers for the index.
    """
    require_axes("regions", regions, "b r t c")
    b, r, t, c = regions.shape
    require_index(index, b, r)
    first = torch.arange(0, b * r, r, device=index.device)[:, None, None]
    rows = regions.flatten(0, 1).index_select(0, (first + index).flatten())
    return rows.reshape(b, r, index.shape[2] * t, c)


def require_index(index: Tensor, b: int, r: int) -> None:
    """Raise, as `gather_regions` says, unless index is (b r k) and names regions 0 to r - 1."""
    require_axes("index", index, "b r k")
    if index.dtype not in (torch.int32, torch.int64):
        raise ValueError(f"index must be int64 or int32, but is {index.dtype}")
    if index.shape[:2] != (b, r):
        raise ValueError(
            f"index must begin with the batch and regions of regions, ({b}, {r}), not {tuple(index.shape)}"
        )
    if index.device.type == "cpu" and index.numel() and has_values(index):
        lowest, highest = index.aminmax()
        if lowest < 0 or highest >= r:  # else a row of another image would be read, silently
            raise IndexError(f"index must name regions 0 to {r - 1}, but holds {int(lowest)} to {int(highest)}")


def has_values(index: Tensor) -> bool:
    """Whether one can look at its numbers: not while `torch.compile` or `torch.func.vmap` only follow what is done."""
    if torch.compiler.is_compiling():
        return False
    while functorch.is_gradtrackingtensor(index):  # torch.func.grad's wrapping, within which vmap's may be
        index = functorch.get_unwrapped(index)
    return not functorch.is_batchedtensor(index)
