"""What the package says about a bad argument: its name, its value, and what is allowed."""

from torch import Tensor


def require_axes(name: str, x: Tensor, axes: str) -> None:
    """Raise ValueError unless `x` has one axis for each word of `axes`, such as ``"b h w c"``."""
    expected = len(axes.split())
    if x.ndim != expected:
        raise ValueError(f"{name} must have {expected} axes ({axes}), but its shape is {tuple(x.shape)}")


def require_grid(grid: tuple[int, int]) -> None:
    """Raise ValueError unless `grid` is (rows, columns) of at least one region each."""
    if len(grid) != 2 or min(grid) < 1:
        raise ValueError(f"grid must be (rows, columns) of regions, each at least 1, but is {tuple(grid)}")


def require_k(k: int, regions: int) -> None:
    """Raise ValueError unless 1 <= k <= regions."""
    if not 1 <= k <= regions:
        raise ValueError(f"k must be between 1 and the number of regions, {regions}, but is {k}")


def require_heads(dim: int, heads: int) -> None:
    """Raise ValueError unless `heads` divides `dim`."""
    if heads < 1 or dim < 1 or dim % heads:
        raise ValueError(f"dim must be divisible by heads, but dim is {dim} and heads is {heads}")
