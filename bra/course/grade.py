"""What was handed in, graded: points and a diagnosis for each exercise, whatever the code in it does."""

import inspect
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from bra import checks
from bra.checks.build import BY_ITSELF, NUMBERS, STAGES, as_a_whole, by_function
from bra.checks.build import judged as judged_part
from bra.checks.inputs import hidden
from bra.checks.judge import Wrong
from bra.checks.verdict import Verdict
from bra.course.calls import MOST
from bra.course.exercises import (
    BY_HAND,
    OWN_FILE,
    STEP,
    Exercise,
    code_cells,
    exercises_of,
    own_names,
    read_submission,
)
from bra.course.limits import Limits
from bra.course.own import by_hand
from bra.course.sandbox import Sandbox, clean
from bra.course.standing import File

ONLY_SEEN = "Right for what the notebook tries, but not for other inputs."
EARLIER = "(An earlier call: of several the best counts.)"


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
    """The notebooks and files my_bra.py of a folder and of those in it, or the one file that is named.

    Links are not followed, and what Jupyter keeps in hidden folders is left out. Raises FileNotFoundError: none.
    """
    if not path.is_dir():
        if not path.exists():
            raise FileNotFoundError(f"{path} does not exist")
        return [path]
    named = sorted([*path.rglob("*.ipynb"), *path.rglob(f"*{OWN_FILE}.py")])
    found = [file for file in named if file.is_file() and not file.is_symlink()]
    found = [file for file in found if not any(part.startswith(".") for part in file.relative_to(path).parts)]
    if not found:
        raise FileNotFoundError(f"{path} holds no notebook (*.ipynb) and no {OWN_FILE}.py")
    return found


def grade(path: Path, name: str, limits: Limits, variant: int) -> list[Row]:
    """The rows of one file, which is called `name` in them. Never raises for what it holds."""
    try:
        content = read_submission(path)
        with Sandbox(limits) as sandbox:
            rows = own_file if path.suffix == ".py" else notebook
            return rows(content, clean(name), sandbox, variant)
    except (ValueError, OSError, Wrong) as error:
        said = error.strerror if isinstance(error, OSError) else str(error)
        return [Row(clean(name), "", "", 0, None, clean(f"{str(said).rstrip('.')}."))]


def notebook(content: bytes, name: str, sandbox: Sandbox, variant: int) -> list[Row]:
    """The rows of a notebook. Raises ValueError, in one line, if it is none of this course, and Wrong."""
    cells = code_cells(content)
    called = sandbox.called(cells) if any("checks" in cell for cell in cells) else {}
    exercises = exercises_of(called)
    if not exercises:
        raise ValueError("calls none of the checks of this course")
    return [graded(one, name, cells, called.get(str(one.check), 0), sandbox, variant) for one in exercises]


def graded(exercise: Exercise, name: str, cells: Sequence[str], calls: int, sandbox: Sandbox, variant: int) -> Row:
    """The row of one exercise, whose check is called by so many statements."""
    if exercise.check is None:
        return Row(name, exercise.stem, f"{exercise.kind}, {BY_HAND}", None, exercise.points, "")
    title = exercise.kind if exercise.check in (exercise.stem, f"{exercise.stem}_recall") else exercise.check
    verdict = judged(exercise, cells, calls, sandbox, variant)
    points = exercise.points if verdict else 0
    return Row(name, exercise.stem, title, points, exercise.points, clean(repr(verdict), 1000))


def judged(exercise: Exercise, cells: Sequence[str], calls: int, sandbox: Sandbox, variant: int) -> Verdict:
    """The verdict on what a notebook hands to a check: of several the best, or else the last."""
    wrong: list[Verdict] = []
    for verdict in verdicts(exercise, cells, calls, sandbox, variant):
        if verdict:
            return Verdict(True, f"{verdict.text} {EARLIER}") if wrong else verdict
        wrong.append(verdict)
    return wrong[0] if wrong else Verdict(False, f"checks.{exercise.check} is nowhere called.")


def verdicts(exercise: Exercise, cells: Sequence[str], calls: int, sandbox: Sandbox, variant: int) -> Iterator[Verdict]:
    """The verdicts on the calls of a check, the last first."""
    check = str(exercise.check)
    for skip in range(min(calls, MOST)):
        try:
            for given, named in reversed(sandbox.answer(cells, exercise, skip)):
                yield examine(check, given, named, variant)
        except Wrong as found:
            yield Verdict(False, str(found))
        except Exception as error:  # the others must be graded, whatever was sent here
            yield Verdict(False, f"It could not be judged: {clean(f'{type(error).__name__}: {error}')}")


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


def own_file(content: bytes, name: str, sandbox: Sandbox, variant: int) -> list[Row]:
    """The rows of a file my_bra.py: a step whose functions are right, if only by themselves, has its points.

    Step 08 is the whole: the layer that is made of them, by itself and in a BiFormer. Raises Wrong.
    """
    file = File(content.decode(errors="replace"), sandbox)
    rows = by_function(file, [*STAGES])
    others = {}
    with hidden(variant):
        for part in (part for parts in STAGES.values() for part in parts):
            if any(row.name == part.name and fair(row.verdict) for row in rows):
                others[part.name] = judged_part(part, file, set())
    faults: dict[str, list[str]] = {number: [] for number in NUMBERS.values()}
    for row in rows:
        if not fair(row.verdict):
            faults[row.number].append(f"{row.name}: {row.verdict.text}")
        elif not fair(others[row.name]):
            faults[row.number].append(f"{row.name}: {ONLY_SEEN} {others[row.name].text}")
    for row in as_a_whole(file, [*STAGES], all(row.verdict for row in rows)):
        if not row.verdict:
            faults[max(faults)].append(f"{row.name}: {row.verdict.text}")
    return [
        Row(name, OWN_FILE, f"step {number}, {step}", 0 if faults[number] else STEP, STEP,
            clean(f"Not yet. {' '.join(faults[number])}" if faults[number] else "Right.", 1000))
        for step, number in NUMBERS.items()
    ]  # fmt: skip


def fair(verdict: Verdict) -> bool:
    """Whether a function is right, if only by itself."""
    return bool(verdict) or verdict.text.startswith(BY_ITSELF)
