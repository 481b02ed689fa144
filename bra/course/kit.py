"""Out of a notebook: the version for students, and the source of an nbgrader assignment. Nothing is kept twice.

An exercise is a cell tagged ``exercise``; what follows it, tagged ``solution``, is its answer. `bra.course.exercises`
says what it is worth.
"""

import copy
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

from bra import checks
from bra.course.exercises import CALL, POINTS, Exercise, asked, is_solution, source_of
from bra.course.needed import asking

Cell = dict[str, Any]
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
RUBRIC = """**Rubric**, {points} points, given by hand:

- 1 point: an experiment that answers the question was run, and its result stands here, as numbers or as a picture.
- 1 point: the reason is given, and what one would see if it were wrong. A refuted guess is as good.
"""
FRESH = (  # nbgrader runs a test in the process of the answer, which may have edited the checks
    "import sys",
    "",
    'vars(sys.modules["bra"]).pop("checks", None)',
    'for name in [name for name in sys.modules if name.startswith(("bra.checks", "bra.course"))]:',
    "    del sys.modules[name]",
)
HOSTED = re.compile(r"\n*\[Open in Colab\].*", re.S)  # leads to the notebook with its solutions
ANSWER = "*Your answer: what you tried, what came out, and why.*"  # what a student begins with


def for_students(notebook: dict) -> dict:
    """The notebook without solutions; each function that is asked for says in its docstring what it must do."""
    made = copy.deepcopy(notebook)
    made["cells"] = [documented(cell) for cell in made["cells"] if not is_solution(cell)]
    made["cells"][0] = without_links(made["cells"][0])
    return made


def without_links(title: Cell) -> Cell:
    """The first cell without its links to Colab and Kaggle."""
    return title | {"source": HOSTED.sub("", source_of(title))}


def documented(cell: Cell) -> Cell:
    """An exercise whose stub has the docstring of its check; any other cell as it is."""
    check = check_of(cell)
    if check is None or check.endswith("_recall"):
        return cell
    name = called_with(cell, check)
    text = re.sub(r"^\w+\(", f"{name}(", inspect.getdoc(getattr(checks, check)) or "")
    text = text if "\n" not in text else f"{text}\n"
    lines = "\n    ".join(text.replace("\\", "\\\\").split("\n"))
    line = re.compile(rf"^def {name}\(.*\):\n", re.M)
    return cell | {"source": line.sub(lambda found: f'{found[0]}    """{lines}"""\n', source_of(cell), count=1)}


def check_of(cell: Cell) -> str | None:
    """The check that an exercise's cell calls; none if it calls none, or is no exercise."""
    if cell["cell_type"] != "code" or "exercise" not in cell["metadata"].get("tags", []):
        return None
    found = CALL.findall(source_of(cell))
    return found[-1] if found else None


def called_with(cell: Cell, check: str) -> str:
    """The name of the function that a cell hands to a check."""
    return asking([source_of(cell)], check).call.args[0].id  # type: ignore[attr-defined]


def for_nbgrader(notebook: dict, stem: str, variant: int) -> dict:
    """The source of an assignment: answers between marks, a hidden test after each, a rubric for the last exercise."""
    made, cells = copy.deepcopy(notebook), notebook["cells"]
    kinds = {one.check: one for one in asked()[stem]}
    made["cells"] = []
    for at, cell in enumerate(cells):
        if is_solution(cell):
            continue
        if "exercise" not in cell["metadata"].get("tags", []):
            made["cells"].append(cell)
            continue
        after = [n for n in range(at + 1, len(cells)) if "exercise" in cells[n]["metadata"].get("tags", [])]
        solution = [other for other in cells[at + 1 : min(after, default=len(cells))] if is_solution(other)]
        check = check_of(cell)
        made["cells"] += tested(cell, kinds[check], solution, variant) if check else [cell]
        if check is None or kinds[check].kind == "investigate":
            made["cells"] += by_hand(stem, solution)
    made["cells"][0] = without_links(made["cells"][0])
    return made


def tested(cell: Cell, exercise: Exercise, solution: Sequence[Cell], variant: int) -> list[Cell]:
    """An exercise with its answer between marks, and a test that students do not see."""
    check, source = str(exercise.check), source_of(documented(cell))
    right = "\n".join(recalled(check) if exercise.kind == "recall" else written(cell, check, solution))
    before, call, after = source.rpartition(f"checks.{check}(")
    answer = f"{before.rstrip()}\n{BEGIN}\n{right}\n{END}\n\n\n{call}{after}"
    given = source_of(cell).rpartition(call)[2].rpartition(")")[0]
    test = [
        f"# {exercise.points} points: other inputs than those above are tried, too.",
        "### BEGIN HIDDEN TESTS",
        *FRESH,
        "from bra.course.grade import require",
        "",
        f'require("{check}", {variant}, {given})',
        "### END HIDDEN TESTS",
    ]
    return [
        cell | {"source": answer, "outputs": [], "execution_count": None} | marks(check, cell, solution=True),
        new("code", f"{check}-test", "\n".join(test)) | marks(f"{check}-test", {}, points=exercise.points, locked=True),
    ]


def recalled(check: str) -> Iterator[str]:
    """The lines that answer a recall question: the check knows the right answers, so they stand nowhere else."""
    function = getattr(checks, check)
    module = sys.modules[function.__module__]
    with mock.patch.object(module, "recall", side_effect=module.recall) as recall:
        assert not function(*[None] * len(inspect.signature(function).parameters))
    return (f"{fact.name} = {plain(fact.right)}" for fact in recall.call_args.args[0])


def plain(right: Any) -> str:
    """A right answer as a reader would write it."""
    return repr(set(right) if isinstance(right, frozenset) and right else right)


def written(cell: Cell, check: str, solution: Sequence[Cell]) -> Iterator[str]:
    """The lines of a solution that make the function asked for, under the name that it has in the exercise."""
    source = next(source_of(one) for one in solution if one["cell_type"] == "code")
    found = asking([source], check)
    theirs, own = found.call.args[0].id, called_with(cell, check)  # type: ignore[attr-defined]
    for statement in found.statements:
        lines = source.splitlines()[statement.lineno - 1 : statement.end_lineno]
        yield re.sub(rf"\b{theirs}\b", own, "\n".join(lines))


def by_hand(stem: str, solution: Sequence[Cell]) -> list[Cell]:
    """The rubric of what is investigated, and a cell for the answer, which in the source shows that of the course."""
    points, name = POINTS["investigate"], f"{stem}-investigate"
    shown = [f"```python\n{source_of(one)}\n```" if one["cell_type"] == "code" else source_of(one) for one in solution]
    return [
        new("markdown", f"{name}-rubric", RUBRIC.format(points=points)) | marks(f"{name}-rubric", {}, locked=True),
        new("markdown", name, "\n\n".join(shown)) | marks(name, {}, points=points, solution=True),
    ]


def new(kind: str, name: str, source: str) -> Cell:
    """A cell."""
    cell: Cell = {"cell_type": kind, "id": name.replace("_", "-"), "metadata": {}, "source": source}
    return cell | ({"outputs": [], "execution_count": None} if kind == "code" else {})


def marks(name: str, cell: Cell, points: int | None = None, solution: bool = False, locked: bool = False) -> Cell:
    """What nbgrader wants to know of a cell."""
    own = {"grade": points is not None, "grade_id": name, "locked": locked, "schema_version": 3, "solution": solution,
           "task": False}  # fmt: skip
    own |= {} if points is None else {"points": points}
    return {"metadata": cell.get("metadata", {}) | {"nbgrader": own}}
