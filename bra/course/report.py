"""What grading found, as tables: a row for each exercise, a row for each student, and in words."""

import csv
import io
from collections.abc import Iterator, Sequence
from pathlib import PurePath
from typing import Any, NamedTuple

from bra.course.grade import Row

COLUMNS = ("file", "notebook", "exercise", "points", "of", "diagnosis")
FORMULA = ("=", "+", "-", "@")  # with which a spreadsheet begins a formula


class Work(NamedTuple):
    """What one student handed in: the points of each notebook, the points that are given by hand, files not graded.

    several: the notebooks that are there more than once. The best of these counts.
    """

    points: dict[str, int]
    by_hand: int
    not_graded: int
    several: list[str]


def student_of(file: str) -> str:
    """Whose file it is: the first folder's in its path, or the file's own name where it lies in none."""
    path = PurePath(file)
    return path.parts[0] if len(path.parts) > 1 else path.stem


def works(rows: Sequence[Row]) -> dict[str, Work]:
    """What each student handed in."""
    found = {}
    for student in dict.fromkeys(student_of(row.file) for row in rows):
        own = [row for row in rows if student_of(row.file) == student]
        scores: dict[str, dict[str, int]] = {}  # of each notebook, by file
        for row in own:
            if row.points is not None and row.of is not None:
                of_file = scores.setdefault(row.notebook, {})
                of_file[row.file] = of_file.get(row.file, 0) + row.points
        rest = {(row.notebook, row.exercise): row.of or 0 for row in own if row.points is None}
        points = {notebook: max(files.values()) for notebook, files in scores.items()}
        several = [notebook for notebook, files in scores.items() if len(files) > 1]
        found[student] = Work(points, sum(rest.values()), sum(row.of is None for row in own), several)
    return found


def by_student(rows: Sequence[Row]) -> list[list[Any]]:
    """A row for each student, below one of titles: points of each notebook, their sum, points given by hand.

    Titles say of how many. A field is empty where a student has not handed in what others have; the sum counts it 0.
    """
    worth: dict[str, dict[str, int]] = {}
    for row in sorted(rows, key=lambda row: PurePath(row.file).name):  # so the columns have the order of the course
        if row.points is not None and row.of is not None:
            worth.setdefault(row.notebook, {})[row.exercise] = row.of
    of = {notebook: sum(points.values()) for notebook, points in worth.items()}
    titles = ["student", *(f"{name} (of {of[name]})" for name in of), f"total (of {sum(of.values())})"]
    table: list[list[Any]] = [[*titles, "still to give by hand", "files not graded"]]
    for student, work in works(rows).items():
        points = [work.points.get(name, "") for name in of]
        table.append([student, *points, sum(work.points.values()), work.by_hand, work.not_graded])
    return table


def summary(rows: Sequence[Row]) -> Iterator[str]:
    """Each student's sum in words."""
    titles, *table = by_student(rows)
    yield f"\nTogether, {titles[-3].removeprefix('total ')}, and what is given by hand:"
    for student, *_, total, by_hand, not_graded in table:
        several = ", ".join(works(rows)[student].several)
        notes = [f"{several} handed in more than once: the best counts"] if several else []
        notes += [f"{not_graded} not graded"] if not_graded else []
        yield f"  {student:30} {total:>4}, and {by_hand} by hand{''.join(f'; {note}' for note in notes)}"


def as_csv(titles: Sequence[str], rows: Sequence[Sequence[Any]]) -> str:
    """A table for a spreadsheet, in which nothing is a formula."""
    file = io.StringIO(newline="")
    table = csv.writer(file)
    table.writerow(titles)
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
