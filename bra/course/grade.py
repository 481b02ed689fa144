"""What was handed in, graded: points and a diagnosis for each exercise, whatever the code in it does."""

import csv
import inspect
import io
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bra import checks
from bra.checks.inputs import hidden
from bra.checks.judge import Wrong
from bra.checks.verdict import Verdict
from bra.course.exercises import BY_HAND, CALL, Exercise, Submission, own_names, read_submission
from bra.course.limits import Limits
from bra.course.own import by_hand
from bra.course.sandbox import Sandbox, clean

COLUMNS = ("file", "notebook", "exercise", "points", "of", "diagnosis")
FORMULA = ("=", "+", "-", "@")  # with which a spreadsheet begins a formula
ONLY_SEEN = "Right for what the notebook tries, but not for other inputs."


class Row(NamedTuple):
    """One exercise of one file. points: none if a person must judge it. of: none if nothing in it can be judged."""

    file: str
    notebook: str
    exercise: str
    points: int | None
    of: int | None
    diagnosis: str

    def __str__(self):
        points = "-" if self.points is None else str(self.points)
        return f"  {self.notebook:12} {self.exercise:28} {points:>2} of {self.of}  {self.diagnosis}"


def files_in(path: Path) -> list[Path]:
    """The notebooks of a folder and of those in it, or the one file that is named. Raises FileNotFoundError: none.

    Links are not followed, and what Jupyter keeps in hidden folders is left out.
    """
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
        return [path]
    found = [file for file in sorted(path.rglob("*.ipynb")) if file.is_file() and not file.is_symlink()]
    found = [file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    if not found:
        raise FileNotFoundError(f"{path} holds no notebook (*.ipynb)")
    return found


def grade(path: Path, name: str, limits: Limits, variant: int) -> list[Row]:
    """The rows of one file, which is called `name` in them. Never raises for what it holds."""
    try:
        handed_in = read_submission(path)
    except (ValueError, OSError) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        return [Row(clean(name), "", "", 0, None, clean(f"{said}."))]
    with Sandbox(limits) as sandbox:
        return [graded(one, name, handed_in, sandbox, variant) for one in handed_in.exercises]


def graded(exercise: Exercise, name: str, handed_in: Submission, sandbox: Sandbox, variant: int) -> Row:
    """The row of one exercise."""
    if exercise.check is None:
        return Row(clean(name), exercise.stem, f"{exercise.kind}, {BY_HAND}", None, exercise.points, "")
    title = exercise.kind if exercise.check in (exercise.stem, f"{exercise.stem}_recall") else exercise.check
    verdict = judged(exercise.check, handed_in.cells, sandbox, variant)
    points = exercise.points if verdict else 0
    return Row(clean(name), exercise.stem, title, points, exercise.points, clean(repr(verdict), 1000))


def judged(check: str, cells: Sequence[str], sandbox: Sandbox, variant: int) -> Verdict:
    """The verdict on what a notebook hands to a check."""
    if not any(check in CALL.findall(cell) for cell in cells):
        return Verdict(False, f"checks.{check} is nowhere called.")
    try:
        given, named = sandbox.answer(cells, check, own_names(check))
        return examine(check, given, named, variant)
    except Wrong as found:
        return Verdict(False, str(found))
    except Exception as error:  # the others must be graded, whatever was sent here
        return Verdict(False, f"It could not be judged: {clean(f'{type(error).__name__}: {error}')}")


def examine(check: str, given: Sequence[Any], named: dict[str, Any], variant: int) -> Verdict:
    """The verdict of a check, and, if that is right, of its hidden variant."""
    function = getattr(checks, check)
    try:
        inspect.signature(function).bind(*given, **named)
    except TypeError:
        asked = ", ".join(inspect.signature(function).parameters)
        return Verdict(False, f"It must be called as checks.{check}({asked}).")
    verdict = function(*given, **named)
    if verdict:
        with hidden(variant):
            other = function(*given, **named)
        if not other:
            return Verdict(False, f"{ONLY_SEEN} {other.text}")
    return verdict


def require(check: str, variant: int, *given: Any) -> None:
    """A test for nbgrader, which runs it in the process of the answer. Raises AssertionError with what is wrong."""
    own = own_names(check)
    verdict = examine(check, [by_hand(each, own) if callable(each) else each for each in given], {}, variant)
    assert verdict, verdict


def as_csv(rows: Sequence[Row]) -> str:
    """A table for a spreadsheet, in which nothing is a formula."""
    file = io.StringIO(newline="")
    table = csv.writer(file)
    table.writerow(COLUMNS)
    table.writerows([harmless(value) for value in row] for row in rows)
    return file.getvalue()


def harmless(value: Any) -> Any:
    """A text that a spreadsheet takes for text."""
    return f"'{value}" if isinstance(value, str) and value.startswith(FORMULA) else value


def told(rows: Sequence[Row]) -> Iterator[str]:
    """The rows of one file in words."""
    yield rows[0].file
    if rows[0].of is None:
        yield f"  {rows[0].diagnosis}"
        return
    yield from (str(row) for row in rows)
    judged_here = [row for row in rows if row.points is not None]
    rest = sum(row.of or 0 for row in rows if row.points is None)
    total = f"{sum(row.points or 0 for row in judged_here)} of {sum(row.of or 0 for row in judged_here)}"
    yield f"  {'together':41} {total}, and {rest} by hand"
