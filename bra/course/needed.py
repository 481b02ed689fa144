"""What of a notebook an answer needs: not whole cells, but the statements that make the names it uses.

So an answer is graded in a second where the notebook trains for a minute. Nothing is run here.
"""

import ast
import dis
import re
from collections.abc import Iterator, Sequence
from functools import lru_cache
from types import CodeType
from typing import NamedTuple


class Statement(NamedTuple):
    """A statement, and the names that it makes, reads, and changes in place."""

    node: ast.stmt
    makes: set[str]
    uses: set[str]
    changes: set[str]


class Asking(NamedTuple):
    """A call of a check, and the statements that its arguments need, in their order."""

    statements: Sequence[ast.stmt]
    call: ast.Call

    @property
    def given(self) -> ast.expr:
        """The arguments without a name, as one tuple."""
        return ast.copy_location(ast.Tuple(list(self.call.args), ast.Load()), self.call)


def asking(cells: Sequence[str], check: str) -> Asking:
    """The last call of a check in some cells. Raises SyntaxError if its cell is no Python."""
    before: list[Statement] = []
    found: tuple[int, ast.Call] | None = None
    for source in cells:
        try:
            own = statements_of(source)
        except (SyntaxError, ValueError, RecursionError, MemoryError) as error:
            if f"checks.{check}(" in source:
                said = error.msg if isinstance(error, SyntaxError) else str(error)
                line = f"line {error.lineno}: " if isinstance(error, SyntaxError) else ""
                raise SyntaxError(f"Its cell is no Python: {line}{said}.") from error
            continue
        for statement in own:
            calls = [node for node in ast.walk(statement.node) if is_call(node, check)] if check in source else []
            if calls:
                found = len(before), calls[-1]
            else:
                before.append(statement)
    if found is None:
        raise SyntaxError(f"checks.{check} is nowhere called.")
    at, call = found
    given = [Asking([], call).given, *(each.value for each in call.keywords)]
    return Asking(needed(before[:at], set().union(*map(used, given))), call)


@lru_cache(maxsize=2000)
def statements_of(source: str) -> Sequence[Statement]:
    """The statements of a cell. Raises SyntaxError, and what else Python raises for what is none of it."""
    nodes = ast.parse(without_magic(source)).body
    return [Statement(node, made(node), used(node), changed(node)) for node in nodes]


def is_call(node: ast.AST, check: str) -> bool:
    """Whether a node is ``checks.NAME(...)``."""
    of = node.func if isinstance(node, ast.Call) else None
    return isinstance(of, ast.Attribute) and of.attr == check and root(of.value) == "checks"


def without_magic(source: str) -> str:
    """A cell without what only a notebook understands: lines that begin with % or !; nothing, if it is no Python."""
    if re.match(r"\s*%%(?!time\b|timeit\b|capture\b|prun\b)", source):
        return ""
    return re.sub(r"^(\s*)[%!].*$", r"\1pass", source, flags=re.M)


def needed(statements: Sequence[Statement], wanted: set[str]) -> list[ast.stmt]:
    """The statements, in their order, that make the names which are wanted, and the names which those use."""
    imported = set().union(*(one.makes for one in statements if is_import(one.node)))
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
