"""Out of a notebook: versions for students and for instructors, and the source of an nbgrader assignment.

Nothing is kept twice. An exercise is a cell tagged ``exercise``; what follows it, tagged ``solution``, is its answer.
`bra.course.exercises` says what it is worth, `bra.course.pages` where links lead and what points are given for by hand.
"""

import ast
import copy
import inspect
import re
import sys
from collections.abc import Iterator, Sequence
from typing import Any
from unittest import mock

from bra import checks
from bra.course.calls import askings
from bra.course.exercises import CALL, POINTS, Exercise, asked, is_solution, source_of

Cell = dict[str, Any]
BEGIN, END = "### BEGIN SOLUTION", "### END SOLUTION"
FRESH = (  # nbgrader runs a test in the process of the answer, which may have edited the checks
    "import sys",
    "",
    'vars(sys.modules["bra"]).pop("checks", None)',
    'for name in [name for name in sys.modules if name.startswith(("bra.checks", "bra.course"))]:',
    "    del sys.modules[name]",
)
ANSWER = "*Your answer: what you tried, what came out, and why.*"  # what a student begins with


def for_students(notebook: dict) -> dict:
    """The notebook without solutions, and with a place for the answer to what is investigated.

    Each function that is asked for says in its docstring what it must do.
    """
    made = copy.deepcopy(notebook)
    kept = [documented(cell) for cell in made["cells"] if not is_solution(cell)]
    made["cells"] = [each for cell in kept for each in ([cell, answer_to(cell)] if is_investigated(cell) else [cell])]
    return made


def answer_to(cell: Cell) -> Cell:
    """The place for the answer to an exercise that is judged by hand."""
    return new("markdown", f"{cell['id']}-answer"[-64:], ANSWER)


def for_instructors(notebook: dict, rubric: str) -> dict:
    """The notebook with its solutions, and at its last exercise what points are given for."""
    made = copy.deepcopy(notebook)
    at = max(n for n, cell in enumerate(made["cells"]) if "exercise" in cell["metadata"].get("tags", []))
    made["cells"].insert(at + 1, new("markdown", "rubric", rubric_of(rubric)))
    return made


def rubric_of(rubric: str) -> str:
    """A rubric, as it is shown to whoever grades."""
    return f"**Rubric** of exercise 3, {POINTS['investigate']} points, given by hand:\n\n{rubric}"


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


def is_investigated(cell: Cell) -> bool:
    """Whether a cell is that of an exercise which a person judges."""
    if cell["cell_type"] != "code" or "exercise" not in cell["metadata"].get("tags", []):
        return False
    judged_here = {one.check for several in asked().values() for one in several if one.kind != "investigate"}
    return check_of(cell) not in judged_here


def called_with(cell: Cell, check: str) -> str:
    """The name of the function that a cell hands to a check."""
    return handed(askings([source_of(cell)], check)[-1].last, check)


def handed(statement: ast.stmt, check: str) -> str:
    """The name of the function that a statement hands to a check."""
    calls = [node for node in ast.walk(statement) if isinstance(node, ast.Call)]
    return next(call.args[0].id for call in calls if ast.unparse(call.func) == f"checks.{check}")  # type: ignore


def for_nbgrader(notebook: dict, stem: str, variant: int, rubric: str) -> dict:
    """The source of an assignment: answers between marks, a hidden test after each.

    What is investigated has a cell that is graded by hand, in which nbgrader puts `ANSWER` in the place of the solution
    and the rubric.
    """
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
        if is_investigated(cell):
            made["cells"].append(by_hand(stem, solution, rubric))
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
    found = askings([source], check)[0]
    theirs, own = handed(found.last, check), called_with(cell, check)
    for statement in found.statements:
        lines = source.splitlines()[statement.lineno - 1 : statement.end_lineno]
        yield re.sub(rf"\b{theirs}\b", own, "\n".join(lines))


def by_hand(stem: str, solution: Sequence[Cell], rubric: str) -> Cell:
    """A cell for the answer to what is investigated, which in the source shows that of the course, and the rubric."""
    shown = [f"```python\n{source_of(one)}\n```" if one["cell_type"] == "code" else source_of(one) for one in solution]
    name = f"{stem}-investigate"
    source = "\n\n".join([rubric_of(rubric), *shown])
    return new("markdown", name, source) | marks(name, {}, points=POINTS["investigate"], solution=True)


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
