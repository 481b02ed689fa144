"""How a check finds out what is wrong.

The reader's function runs on small inputs, beside the right one. When the results differ, hers is compared with
what typical mistakes would give; the first that fits is named. Of a recall question each answer is compared so.
"""

import copy
import math
import traceback
from collections.abc import Callable, Mapping, Sequence
from numbers import Real
from typing import Any, NamedTuple

import torch
from torch import Tensor

from bra.checks.difference import close, located, operation, same
from bra.checks.verdict import Verdict

Answer = Callable[..., Tensor]
FILE = "my_bra.py"  # the file that the reader writes, step by step; see `build`


class Mistake(NamedTuple):
    """What to say about an answer, and a wrong way that gives it."""

    says: str
    answer: Answer


class Wrong(Exception):
    """What is wrong with an answer, raised where it is found: its words are the verdict."""


class Fact(NamedTuple):
    """What was asked, the reader's answer, the right one, a hint, and what to say about wrong ones that are typical."""

    name: str
    given: Any
    right: Any
    hint: str
    typical: Mapping[Any, str] = {}


def recall(facts: Sequence[Fact], praise: str) -> Verdict:
    """Judge the answers of a recall question, and never say a right one. Floats may be off by half a percent."""
    for fact in facts:
        if fact.given is None or fact.given is ...:
            return Verdict(False, f"{fact.name} has no answer yet.")
    for fact in facts:
        if not agrees(fact.given, fact.right):
            says = [says for wrong, says in fact.typical.items() if agrees(fact.given, wrong)]
            says += [another_kind(fact.given, fact.right) or fact.hint]
            return Verdict(False, f"{fact.name} is wrong. {says[0]}")
    return Verdict(True, praise)


def agrees(given, right) -> bool:
    """Whether an answer is the right one: a list does for a tuple or a set, a tensor for a number."""
    try:
        if isinstance(right, tuple | frozenset):
            return type(right)(given) == right
        if isinstance(right, bool | str):
            return bool(given == right)
        return math.isclose(given, right, rel_tol=0 if isinstance(right, int) else 0.005)
    except (TypeError, ValueError, RuntimeError):  # it is of a kind that cannot be compared
        return False


KINDS = {  # of a right answer: what it must be, in words
    bool: "True or False", str: "a text in quotes", int: "a number", float: "a number",
    tuple: "a tuple of numbers, such as (2, 3)", frozenset: "a set of numbers, such as {2, 3}",
}  # fmt: skip
LIKE = {tuple: tuple | list | Tensor, frozenset: set | frozenset | tuple | list}  # a list does for both


def another_kind(given, right) -> str:
    """What to say of an answer that is of another kind than the right one; nothing of one that is of the same."""
    kind, held = type(right), []
    if kind in LIKE and isinstance(given, LIKE[kind]):
        held = [type(each).__name__ for each in given if not is_number(each)]
        fits = not held
    elif kind in (int, float):
        fits = is_number(given)
    else:
        fits = isinstance(given, kind) or (kind is bool and is_number(given) and given in (0, 1))
    found = type(given).__name__ + (f" that holds a value of type {held[0]}" if held else "")
    return "" if fits else f"It is of type {found}, but must be {KINDS[kind]}."


def is_number(given) -> bool:
    """Whether an answer can be compared with a number."""
    return isinstance(given, Real) or (isinstance(given, Tensor) and given.numel() == 1)


def number(function: Callable[..., Any]) -> Answer:
    """The same function for `judge`, which compares tensors: a plain number that it returns becomes one."""

    def answer(*given):
        found = function(*given)
        return torch.tensor(float(found)) if isinstance(found, Real) else found

    return answer


def judge(
    function: Answer,
    inputs: Sequence[tuple],
    right: Answer,
    mistakes: Sequence[Mistake],
    praise: str,
    axes: str = "",
    heads: int | None = None,
) -> Verdict:
    """Run `function` on every input; name the first fault.

    axes: those of the result, such as "b r t c", to say where it is wrong. For "(m d)" in them, heads: which of the
    arguments is their number.
    """

    def trial() -> Verdict:
        with torch.no_grad():
            fault = compare(function, inputs, right, mistakes, axes, heads)
        return Verdict(True, praise) if fault is None else fault

    return attempt(trial)


def attempt(trial: Callable[[], Verdict]) -> Verdict:
    """What a trial of the reader's code finds, or what stops it. It leaves the random numbers alone."""
    try:
        with torch.random.fork_rng(devices=[]):
            return trial()
    except Wrong as found:
        return Verdict(False, str(found))
    except (Exception, SystemExit) as error:
        return Verdict(False, f"Your function raised {raised(error)}")


def raised(error: BaseException) -> str:
    """The kind of an error, its words, and in which line of the reader's file it arose, if in one."""
    lines = [frame.lineno for frame in traceback.extract_tb(error.__traceback__) if frame.filename == FILE]
    line = lines[-1] if lines else getattr(error, "line", 0)  # what ran in another process has it from there
    return f"{type(error).__name__}{f' in line {line}' if line else ''}: {error}"


def compare(
    function: Answer,
    inputs: Sequence[tuple],
    right: Answer,
    mistakes: Sequence[Mistake],
    axes: str = "",
    heads: int | None = None,
) -> Verdict | None:
    """The first fault of `function`, if it has one."""
    for n, arguments in enumerate(inputs):
        copies = copy.deepcopy(arguments)
        try:
            found = function(*copies)
        except (Exception, SystemExit) as error:  # whatever goes wrong in the reader's function is told to the reader
            if isinstance(error, Wrong):
                raise
            raise Wrong(f"Your function raised {raised(error)} ({tried(arguments)}).") from error
        if found is None or found is ...:
            return Verdict(False, "Your function returns nothing yet.")
        if isinstance(found, tuple):
            return Verdict(False, f"Your function must return one tensor, not {len(found)} of them.")
        if not isinstance(found, Tensor):
            return Verdict(False, f"Your function must return a tensor, not a {type(found).__name__}.")
        if not unchanged(arguments, copies):
            return Verdict(False, "Your function changes its input. Work on a copy.")
        expected = right(*arguments)
        if not same(found, expected):
            passed = [(earlier, right(*earlier)) for earlier in inputs[:n]]
            suspects = [m for m in mistakes if all(same(m.answer(*given), answer) for given, answer in passed)]
            split = 1 if heads is None else arguments[heads]
            return Verdict(False, diagnose(found, expected, arguments, suspects, axes, split))
    return None


def unchanged(before, after) -> bool:
    """Whether arguments, tensors among them, are what they were."""
    if isinstance(before, Tensor):
        return torch.equal(before, after)
    if isinstance(before, dict):
        return before.keys() == after.keys() and all(unchanged(before[name], after[name]) for name in before)
    if isinstance(before, tuple):
        return all(unchanged(a, b) for a, b in zip(before, after, strict=True))
    return before == after


def diagnose(
    found: Tensor, expected: Tensor, arguments: tuple, mistakes: Sequence[Mistake], axes: str = "", heads: int = 1
) -> str:
    """The mistake that gives just this result; or else where it is wrong, and what would explain that."""
    for mistake in mistakes:
        if same(found, mistake.answer(*arguments)):
            return mistake.says
    if found.shape != expected.shape:
        wanted = tuple(expected.shape) or "that of one number"
        says = f"Its shape is {tuple(found.shape)}, but must be {wanted} ({tried(arguments)})."
        return f"{says} {operation(found, expected)}".rstrip()
    if found.is_floating_point() != expected.is_floating_point():
        return f"Its entries are {found.dtype}, but must be {expected.dtype}."
    if found.isnan().any():
        return f"It holds NaN ({tried(arguments)}). {located(found.isnan(), axes, heads)}".rstrip()
    if not expected.ndim:
        return f"It is {found.item():g}, but must be {expected.item():g} ({tried(arguments)})."
    wrong = ~close(found, expected)
    at = tuple(wrong.nonzero()[0].tolist())
    says = [
        f"{int(wrong.sum())} of {wrong.numel()} entries are wrong ({tried(arguments)}).",
        operation(found, expected, axes) or located(wrong, axes, heads),
        f"The first is at {list(at)}: {found[at].item():g}, but it must be {expected[at].item():g}.",
    ]
    return " ".join(part for part in says if part)


def tried(arguments: tuple) -> str:
    """What the function was given: shapes of tensors, plain values; names of weights."""
    words = [
        f"a tensor {tuple(a.shape)}" if isinstance(a, Tensor) else "weights" if isinstance(a, dict) else str(a)
        for a in arguments
    ]
    return f"given {', '.join(words)}"
