"""`python -m bra.checks`: grade what was handed in, notebooks and files my_bra.py, one or a folder of them."""

import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from bra.arguments import errors_in_one_line
from bra.course.grade import files_in, grade
from bra.course.limits import Limits
from bra.course.report import COLUMNS, as_csv, by_student, summary, told
from bra.data import printable
from bra.files import write_atomically


@dataclass(frozen=True)
class Request:
    """Grade what was handed in: points and a diagnosis for each exercise that a check can judge.

    2 points for a recall question, 6 for a function, 2 for each of the eight steps of my_bra.py. What is investigated
    is graded by hand. Where a notebook calls a check several times, the best of the last five calls counts.
    """

    submission: Annotated[Path, tyro.conf.Positional]
    """A notebook, a file my_bra.py, or a folder: STUDENT/03_topk.ipynb. Their code runs in processes of their own."""
    csv: Path | None = None
    """A table to write: file, notebook, exercise, points, of how many, diagnosis. With grades.csv comes
    grades_students.csv: a row for each student, a column for each notebook, the total."""
    seconds: float = 20.0
    """How long one call of an answer may take."""
    megabytes: int = 2000
    """How much memory an answer may fill. (On Linux; elsewhere its time alone is limited.)"""
    variant: int | None = None
    """Which hidden inputs are tried beside those that students see, at least 1; None: drawn anew, and told."""


def mark(request: Request) -> None:
    """Grade, and tell. Raises ValueError, and OSError for a path that is missing or cannot be written."""
    for name in ("seconds", "megabytes", "variant"):
        if (value := getattr(request, name)) is not None and value <= 0:
            raise ValueError(f"{name} must be larger than 0, but is {value}")
    variant = request.variant or 1 + secrets.randbelow(1_000_000)
    limits, rows = Limits(request.seconds, request.megabytes), []
    files = files_in(request.submission.expanduser())
    for file in tqdm(files, unit="file", disable=len(files) == 1):
        name = file.relative_to(request.submission.expanduser()) if request.submission.is_dir() else Path(file.name)
        own = grade(file, printable(name), limits, variant)
        tqdm.write("\n".join(told(own)))
        rows += own
    if len(files) > 1:
        print("\n".join(summary(rows)))
    print(f"\n--variant {variant} repeats this")
    if request.csv is not None:
        titles, *students = by_student(rows)
        path = request.csv.expanduser()
        for place, table in ((path, (COLUMNS, rows)), (path.with_stem(f"{path.stem}_students"), (titles, students))):
            write_atomically(place, as_csv(*table))
            print(printable(place))


def main() -> None:
    """The command line."""
    sys.stdout.reconfigure(errors="backslashreplace")  # a name that it cannot say must not stop us
    with errors_in_one_line(ValueError, OSError):
        mark(tyro.cli(Request, prog="python -m bra.checks"))


if __name__ == "__main__":
    main()
