"""What is said about a wrong result for which a check has no name: where it is wrong, and what would explain it."""

from collections.abc import Iterator
from itertools import combinations, permutations

import torch
from einops import rearrange
from torch import Tensor

NAMES = {"b": "image", "r": "region", "t": "token", "c": "channel", "d": "channel", "h": "row", "w": "column",
         "k": "rank", "m": "head"}  # fmt: skip
SPLIT = "(m d)"  # channels as heads split them
MOST = 10_000_000  # numbers that are compared to find slices in another order


def same(found: Tensor, expected: Tensor) -> bool:
    """Equal in shape, kind and value, up to rounding."""
    if found.shape != expected.shape or found.is_floating_point() != expected.is_floating_point():
        return False
    return bool(close(found, expected).all())


def close(found: Tensor, expected: Tensor) -> Tensor:
    """Where two results agree, up to the rounding of numbers as large as the largest."""
    size = expected.double().nan_to_num().abs().max().clamp(min=1).item()
    return torch.isclose(found.double(), expected.double(), rtol=1e-4, atol=1e-5 * size, equal_nan=True)


def names_of(axes: str, result: Tensor) -> list[str]:
    """What the axes of a result are called: by their letters, such as "b r t c", or by their numbers."""
    letters = axes.replace("(", "").replace(")", "").split()
    return [NAMES[letter] for letter in letters] if letters else [f"axis-{n} slice" for n in range(result.ndim)]


def located(wrong: Tensor, axes: str = "", heads: int = 1) -> str:
    """Where all that is wrong lies, if it is not everywhere: in which images, regions, heads, ...; else nothing."""
    if SPLIT in axes:
        wrong = rearrange(wrong, f"{axes} -> {axes.replace('(', '').replace(')', '')}", m=heads)
    touched = [wrong.movedim(n, 0).reshape(wrong.shape[n], -1).any(dim=1) for n in range(wrong.ndim)]
    places = [some(name, where) for name, where in zip(names_of(axes, wrong), touched, strict=True)]
    places = [place for place in places if place]
    if not places:
        return "Every entry is wrong." if wrong.all() else ""
    box = torch.cartesian_prod(*(where.nonzero().flatten() for where in touched)).reshape(-1, wrong.ndim)
    whole = bool(wrong[tuple(box.T)].all())
    return f"Wrong is all of {', '.join(places)}." if whole else f"All that is wrong lies in {', '.join(places)}."


def some(name: str, where: Tensor) -> str:
    """Some places of an axis in words, such as "image 1" or "every token but 0"; nothing for all, or for many."""
    inside, outside = (x.nonzero().flatten().tolist() for x in (where, ~where))
    if not outside:
        return ""
    if len(inside) <= 3:
        return f"{name}{'s' * (len(inside) > 1)} {' and '.join(str(n) for n in inside)}"
    return f"every {name} but {' and '.join(str(n) for n in outside)}" if len(outside) <= 3 else ""


def operation(found: Tensor, expected: Tensor, axes: str = "") -> str:
    """What, done to the right result, gives this one, or most of it; nothing if none of a few operations does."""
    if found.shape != expected.shape:
        return reshaped(found, expected)
    if found.numel() < 4:  # so few numbers fit anything
        return ""
    wrong = int((~close(found, expected)).sum())
    best, least = "", 0.2 * wrong  # an operation must explain four fifths
    for says, changed in operations(found, expected, names_of(axes.replace(SPLIT, "c"), expected)):
        left = int((~close(found, changed)).sum())
        if not left:
            return says
        if left < least:
            best, least = f"Nearly: {left} entries are left that this does not explain. {says}", left
    return best


def reshaped(found: Tensor, expected: Tensor) -> str:
    """Whether a result of another shape holds the right numbers."""
    if found.numel() != expected.numel():
        return ""
    for order in permutations(range(found.ndim)) if found.ndim <= 5 else ():
        if same(found.permute(order), expected):
            return f"Its axes stand in another order: permute{order} would mend it."
    return "Its numbers are right: only reshape it." if same(found.reshape(expected.shape), expected) else ""


def operations(found: Tensor, expected: Tensor, names: list[str]) -> Iterator[tuple[str, Tensor]]:
    """Operations that keep the shape, fitted to what was found: what to say, and what they make of the right result."""
    for i, j in combinations(range(expected.ndim), 2):
        if expected.shape[i] == expected.shape[j] > 1:
            yield f"It is the right result with axes {i} and {j} swapped.", expected.transpose(i, j)
    for axis, name in zip(range(expected.ndim), names, strict=False):
        if (order := reordered(found.movedim(axis, 0), expected.movedim(axis, 0))) is not None:
            changed = expected.index_select(axis, torch.tensor(order))
            yield f"It is the right result in another order: {ordering(order, name)}.", changed
    if not found.is_floating_point() or not found.isfinite().all() or not expected.isfinite().all():
        return
    some = expected.abs() > 1e-6 * expected.abs().max()
    if some.any() and abs(scale := (found[some] / expected[some]).median().item()) > 1e-6:
        inverse = f" (or it divided by {1 / scale:.4g})" if abs(scale) < 1 else ""
        yield f"It is the right result times {scale:.4g}{inverse}.", expected * scale
    off = found - expected
    yield f"Every entry is off by {off.median().item():.4g}.", expected + off.median()
    for axis, name in zip(range(expected.ndim), names, strict=False):
        if off.numel() > off.shape[axis] > 1:
            of_each = off.movedim(axis, 0).flatten(1).median(dim=1).values
            of_each = of_each.reshape([-1 if n == axis else 1 for n in range(off.ndim)])
            yield f"Each {name} is off by one number of its own, as if a bias were missing.", expected + of_each


def reordered(found: Tensor, expected: Tensor) -> list[int] | None:
    """For each slice that was found, which expected one it is: all in another order, or always the same one."""
    n, each = len(found), found[0].numel() if len(found) else 0
    if n < 2 or n * n * each > MOST:
        return None
    a, b = (x.double().nan_to_num().reshape(n, each) for x in (found, expected))
    equal = close(a[:, None].expand(n, n, each), b[None].expand(n, n, each)).all(dim=2)
    if each > 1 and equal.all(dim=0).any() and not equal.all():
        return [int(equal.all(dim=0).nonzero()[0])] * n
    order: list[int] = []
    for row in equal:
        free = [j for j in row.nonzero().flatten().tolist() if j not in order]
        if not free:
            return None
        order.append(len(order) if len(order) in free else free[0])
    return None if order == list(range(n)) else order


def ordering(order: list[int], name: str) -> str:
    """An order in words."""
    n = len(order)
    if len(set(order)) == 1:
        return f"every {name} has what belongs to {name} {order[0]}"
    if order == list(reversed(range(n))):
        return f"{name}s run backwards"
    at, source = next((at, source) for at, source in enumerate(order) if at != source)
    return f"{name} {at} has what belongs to {name} {source}"
