"""`python -m bra.course`: make what a course hands out, for students, and for nbgrader."""

import json
import secrets
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Annotated

import tyro

from bra.arguments import errors_in_one_line
from bra.course.exercises import asked
from bra.course.kit import ANSWER, for_instructors, for_nbgrader, for_students
from bra.course.pages import handed_out, repository, rubrics
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
    """Make the notebooks of a course.

    student/ is without solutions, instructor/ has them and the rubrics, nbgrader/ is a course for nbgrader.
    """

    out: Annotated[Path, tyro.conf.Positional] = Path("build/coursework")
    """The folder to make."""
    notebooks: Path = REPOSITORY / "notebooks"
    """The folder of the course's own notebooks."""
    rubrics: Path = REPOSITORY / "book" / "rubrics.md"
    """What points are given for by hand: a page with a heading such as `## 03_topk` for each notebook."""
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
    given_for = rubrics(request.rubrics.expanduser().read_text())
    if missing := [path.stem for path in found if path.stem not in given_for]:
        raise ValueError(f"{request.rubrics} must have a heading ## {missing[0]}, and below it what the points of its "
                         "last exercise are given for")  # fmt: skip
    names, address = {path.name for path in found}, repository()
    for path, stem in found.items():
        notebook, rubric = json.loads(path.read_text()), given_for[path.stem]
        made = {
            out / "student" / path.name: (for_students(notebook), names),
            out / "instructor" / path.name: (for_instructors(notebook, rubric), names),
            out / "nbgrader" / "source" / path.stem / path.name: (for_nbgrader(notebook, stem, variant, rubric), ()),
        }
        for place, (content, beside) in made.items():
            write_notebook(place, handed_out(content, beside, address))
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
    told(request.out, count)


def told(out: Path, count: int) -> None:
    """Say what was made, for whom, and what to do next."""
    missing = "" if find_spec("nbgrader") else ' (which is missing here: pip install -e ".[course]")'
    print(f"For students: {out}/student, {count} notebooks without solutions. For you: {out}/instructor, with rubrics.")
    print(f"For nbgrader{missing}: in {out}/nbgrader say nbgrader generate_assignment 03_topk")
    print("Grade what comes back, STUDENT/03_topk.ipynb and my_bra.py: python -m bra.checks FOLDER --csv grades.csv")
    if not repository():
        print("Links to the repository are plain text, as it has no address yet: make publish-as REPO=owner/name")


if __name__ == "__main__":
    main()
