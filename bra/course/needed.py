"""What of a notebook an answer needs: not whole cells, but the statements that make the names it uses.

So an answer is graded in a second where the notebook trains for a minute. Nothing is run here.
"""

import ast
import copy
import dis
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from types import CodeType
from typing import NamedTuple


class Statement(NamedTuple):
    """A statement, and the names that it makes, reads, and changes in place.

    asks: the checks that it may call, see `bra.course.calls`. fault: why its cell is no Python.
    """

    node: ast.stmt
    makes: set[str]
    uses: set[str]
    changes: set[str]
    asks: frozenset[str] = frozenset()
    fault: str = ""


@lru_cache(maxsize=2000)
def statements_of(source: str) -> Sequence[Statement]:
    """The statements of a cell. Raises SyntaxError, and what else Python raises for what is none of it."""
    nodes = [one for node in ast.parse(without_magic(source)).body for one in one_by_one(node)]
    return [Statement(node, made(node), used(node), changed(node)) for node in nodes]


def one_by_one(node: ast.stmt) -> list[ast.stmt]:
    """An import of several names as imports of one each: what of them is not needed takes seconds."""
    if not is_import(node):
        return [node]
    apart = [copy.copy(node) for _ in node.names]
    for one, name in zip(apart, node.names, strict=True):
        one.names = [name]
    return apart


def without_magic(source: str) -> str:
    """A cell without what only a notebook understands: lines that begin with % or !; nothing, if it is no Python."""
    if re.match(r"\s*%%(?!time\b|timeit\b|capture\b|prun\b)", source):
        return ""
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M)


def needed(statements: Sequence[Statement], wanted: set[str]) -> list[ast.stmt]:
    """The statements, in their order, that make the names which are wanted, and the names which those use."""
    imported = {"checks"}.union(*(one.makes for one in statements if is_import(one.node)))
    chosen: set[int] = set()
    while True:
        found = {
            n
            for n, one in enumerate(statements)
            if n not in chosen and (one.makes & wanted or (one.changes - imported) & wanted or "*" in one.makes)
        }
        if not found:
            return [statements[n].node for n in sorted(chosen)]
        chosen |= found
        wanted = wanted.union(*(statements[n].uses for n in found))


def is_import(statement: ast.stmt) -> bool:
    """Whether a statement imports."""
    return isinstance(statement, ast.Import | ast.ImportFrom)


def compiled(node: ast.stmt | ast.expr) -> CodeType:
    """The code of one statement or expression."""
    tree = ast.Expression(node) if isinstance(node, ast.expr) else ast.Module([node], [])
    return compile(tree, "answer", "eval" if isinstance(node, ast.expr) else "exec")


def codes(code: CodeType) -> Iterator[CodeType]:
    """A code and those of the functions and classes in it."""
    yield code
    for inner in code.co_consts:
        if isinstance(inner, CodeType):
            yield from codes(inner)


def names_in(code: CodeType, *operations: str) -> set[str]:
    """The names that are the argument of such operations in it, not in the functions inside."""
    return {one.argval for one in dis.get_instructions(code) if one.opname.startswith(operations)}


def used(node: ast.stmt | ast.expr) -> set[str]:
    """The names, of no local variable, that a statement or expression reads, in its functions too."""
    try:
        return set().union(*(names_in(code, "LOAD_NAME", "LOAD_GLOBAL") for code in codes(compiled(node))))
    except (SyntaxError, ValueError, RecursionError):
        return set()


def made(statement: ast.stmt) -> set[str]:
    """The names that a statement defines; "*" for all of a module's."""
    if isinstance(statement, ast.ImportFrom) and statement.names[0].name == "*":
        return {"*"}
    try:
        return names_in(compiled(statement), "STORE_NAME", "STORE_GLOBAL")
    except (SyntaxError, ValueError, RecursionError):
        return set()


def changed(statement: ast.stmt) -> set[str]:
    """The names whose values a statement changes in place: ``x[0] = 1``, ``x.y = 1``, ``x.append(1)``, in loops too."""
    if isinstance(statement, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
        return set()
    found: list[ast.expr] = []
    for node in ast.walk(statement):
        if isinstance(node, ast.Assign | ast.AugAssign | ast.AnnAssign):
            found += node.targets if isinstance(node, ast.Assign) else [node.target]
        elif isinstance(node, ast.Expr) and isinstance(node.value, ast.Call):
            found += [node.value.func] if isinstance(node.value.func, ast.Attribute) else []
    return {root(each) for each in found} - {""}


def root(node: ast.expr) -> str:
    """The name with which ``name.a[0].b`` begins."""
    while isinstance(node, ast.Attribute | ast.Subscript):
        node = node.value
    return node.id if isinstance(node, ast.Name) else ""
