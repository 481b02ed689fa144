"""`python -m bra.course`: make what a course hands out, for students, and for nbgrader."""

import json
import secrets
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro

from bra.arguments import errors_in_one_line
from bra.course.exercises import asked
from bra.course.kit import ANSWER, for_nbgrader, for_students
from bra.files import REPOSITORY, write_atomically

CONFIG = f'''"""Settings of nbgrader for this course. `nbgrader generate_assignment 03_topk` makes a release."""

c = get_config()  # noqa: F821
c.CourseDirectory.course_id = "bra"
c.ClearSolutions.code_stub = {{"python": ""}}
c.ClearSolutions.text_stub = "{ANSWER}"
c.ExecutePreprocessor.timeout = 600
'''


@dataclass(frozen=True)
class Request:
    """Make the notebooks of a course: student/ without solutions, and nbgrader/ with its source and settings."""

    out: Annotated[Path, tyro.conf.Positional] = Path("build/coursework")
    """The folder to make."""
    notebooks: Path = REPOSITORY / "notebooks"
    """The folder of the course's own notebooks."""
    variant: int | None = None
    """Which hidden inputs nbgrader's tests try, at least 1; None: drawn anew."""


def make(request: Request) -> int:
    """Make them, and return how many. Raises ValueError, and OSError where a folder cannot be read or written."""
    if request.variant is not None and request.variant < 1:
        raise ValueError(f"variant must be at least 1, but is {request.variant}")
    variant, out = request.variant or 1 + secrets.randbelow(1_000_000), request.out.expanduser()
    found = {path: path.stem.partition("_")[2] for path in sorted(request.notebooks.expanduser().glob("*_*.ipynb"))}
    found = {path: stem for path, stem in found.items() if stem in asked()}
    if not found:
        raise ValueError(f"{request.notebooks} holds no notebook of this course")
    for path, stem in found.items():
        notebook = json.loads(path.read_text())
        write_notebook(out / "student" / path.name, for_students(notebook))
        source = out / "nbgrader" / "source" / path.stem / path.name
        write_notebook(source, for_nbgrader(notebook, stem, variant))
    write_atomically(out / "nbgrader" / "nbgrader_config.py", CONFIG)
    return len(found)


def write_notebook(path: Path, notebook: dict) -> None:
    """Write a notebook, as Jupyter does."""
    write_atomically(path, json.dumps(notebook, indent=1, ensure_ascii=False) + "\n")


def main() -> None:
    """The command line."""
    with errors_in_one_line(ValueError, OSError):
        request = tyro.cli(Request, prog="python -m bra.course")
        count = make(request)
    print(f"{count} notebooks in {request.out}/student, and as nbgrader's source in {request.out}/nbgrader")
    print("Grade what comes back: python -m bra.checks FOLDER --csv grades.csv")


if __name__ == "__main__":
    main()
