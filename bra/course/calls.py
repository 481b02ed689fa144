"""Where a notebook calls a check, however the check was imported. Nothing is run here.

Names are followed from their import on, so that all of these are found: ``checks.topk(mine)``, ``from bra.checks import
topk as ask``, ``ask(mine)``, a function that calls one, ``getattr(checks, "topk")(mine)``. What is found may call a
check; whether it does, and with what, shows when it runs.
"""

import ast
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from functools import lru_cache
from typing import NamedTuple

from bra.course.needed import Statement, needed, statements_of

ROOM = "bra.checks"
DEFINES = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef, ast.Import, ast.ImportFrom)
MOST = 5  # of the calls of one check: the last ones are tried


class Asking(NamedTuple):
    """A statement that may call a check, and those that it needs, in their order. fault: why it cannot be run."""

    statements: Sequence[ast.stmt]
    last: ast.stmt
    fault: str


def called(cells: Sequence[str]) -> dict[str, int]:
    """The names of the checks that some cells may call, however they were imported, and in how many statements."""
    return dict(Counter(name for statement in read(tuple(cells)) for name in statement.asks))


def askings(cells: Sequence[str], check: str) -> list[Asking]:
    """The statements of some cells that may call a check, the last few, in their order."""
    all_ = read(tuple(cells))
    places = [n for n, statement in enumerate(all_) if check in statement.asks][-MOST:]
    return [Asking(needed(all_[:n], all_[n].uses), all_[n].node, all_[n].fault) for n in places]


@lru_cache(maxsize=20)
def read(cells: tuple[str, ...]) -> Sequence[Statement]:
    """The statements of some cells. A cell that is no Python is one that makes nothing, and may call what it names."""
    paths, wrapped = {"checks": ROOM}, {}  # what names stand for in `bra`; which checks a name of hers may call
    found: list[Statement] = []
    for source in cells:
        try:
            own = statements_of(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            line = f"line {error.lineno}: " if isinstance(error, SyntaxError) else ""
            fault = f"Its cell is no Python: {line}{error.msg if isinstance(error, SyntaxError) else error}."
            named = frozenset(re.findall(r"\bchecks\.(\w+)\(", source))
            found.append(Statement(ast.Pass(), set(), set(), set(), named, fault))
            continue
        for statement in own:
            follow(statement.node, paths)
            asks = frozenset(checks_in(statement.node, paths, wrapped))
            wrapped |= dict.fromkeys(statement.makes if asks else (), asks)
            found.append(statement if isinstance(statement.node, DEFINES) else statement._replace(asks=asks))
    return found


def follow(statement: ast.stmt, paths: dict[str, str]) -> None:
    """Note which names a statement gives to what it takes out of `bra`."""
    for node in ast.walk(statement):
        if isinstance(node, ast.Import):
            ours = [one for one in node.names if one.name.split(".")[0] == "bra"]
            paths |= {one.asname or "bra": one.name if one.asname else "bra" for one in ours}
        elif isinstance(node, ast.ImportFrom) and not node.level and str(node.module).split(".")[0] == "bra":
            paths |= {one.asname or one.name: f"{node.module}.{one.name}" for one in node.names}
    if isinstance(statement, ast.Assign) and (path := path_of(statement.value, paths)):
        paths |= {target.id: path for target in statement.targets if isinstance(target, ast.Name)}


def path_of(node: ast.expr, paths: dict[str, str]) -> str:
    """Where in `bra` an expression leads, such as "bra.checks.topk"; nothing if elsewhere."""
    if isinstance(node, ast.Name):
        return paths.get(node.id) or paths.get("*", "").replace("*", node.id)
    if isinstance(node, ast.Attribute):
        return (of := path_of(node.value, paths)) and f"{of}.{node.attr}"
    if isinstance(node, ast.Call) and isinstance(node.func, ast.Name) and node.func.id == "getattr" and node.args[1:]:
        return (of := path_of(node.args[0], paths)) and f"{of}.{getattr(node.args[1], 'value', '')}"
    return ""


def checks_in(statement: ast.stmt, paths: dict[str, str], wrapped: dict[str, frozenset[str]]) -> Iterator[str]:
    """The checks to which expressions in a statement lead, and those that functions in it may call."""
    for node in ast.walk(statement):
        if isinstance(node, ast.expr) and (path := path_of(node, paths)).startswith(f"{ROOM}."):
            yield path.rpartition(".")[2]
        if isinstance(node, ast.Name):
            yield from wrapped.get(node.id, ())


def call_of(node: ast.AST, check: str) -> ast.Call:
    """The call ``checks.NAME(...)`` in a node."""
    calls = [each for each in ast.walk(node) if isinstance(each, ast.Call) and isinstance(each.func, ast.Attribute)]
    return next(each for each in calls if each.func.attr == check)
