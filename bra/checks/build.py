"""The staged build: the reader's own file, `my_bra.py`, tried from the first step to the one that she has reached.

Each of her functions is tried as it stands. If it fails, it is tried again with `bra`'s functions in the place of her
others, so that one wrong step does not make the later ones wrong. What she is asked for, and what may be wrong with it,
stands in the file of its step.
"""

import textwrap
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

import torch
from torch import nn

from bra.checks import whole
from bra.checks.adjacency import PARTS as ADJACENCY
from bra.checks.attention import PARTS as ATTENTION
from bra.checks.gather import PARTS as GATHER
from bra.checks.judge import FILE, raised
from bra.checks.layer import PARTS as LAYER
from bra.checks.lce import PARTS as LCE
from bra.checks.partition import PARTS as PARTITION
from bra.checks.parts import Part
from bra.checks.topk import PARTS as TOPK
from bra.checks.verdict import Heard, Verdict

STAGES: dict[str, Sequence[Part]] = {
    "partition": PARTITION, "adjacency": ADJACENCY, "topk": TOPK, "gather": GATHER, "attention": ATTENTION, "lce": LCE,
    "layer": LAYER, "biformer": (),
}  # fmt: skip
WHOLE: dict[str, dict[str, Callable[[type[nn.Module]], Verdict]]] = {
    "layer": {"gradients": whole.gradients, "any size": whole.sizes, "k = R": whole.dense},
    "biformer": {"in BiFormer nano": whole.in_nano, "in BiFormer tiny": whole.in_tiny},
}
(LAST,) = LAYER  # the part that is made of all others
NUMBERS = {step: f"{number:02}" for number, step in enumerate(STAGES, start=1)}
TOP = "import torch\nimport torch.nn.functional as F\nfrom einops import rearrange\nfrom torch import nn"
BY_ITSELF = "Right by itself"
WHERE = (
    "Make it in the folder of this notebook: in JupyterLab with File > New > Python File;\n"
    f"in Colab with a cell that begins with %%writefile {FILE}."
)


class Row(NamedTuple):
    """What was found out about one function: the number of its notebook, its name, the verdict."""

    number: str
    name: str
    verdict: Verdict

    def __str__(self):
        head = f"{self.number}  {self.name:23}  "
        text = "right" if self.verdict else self.verdict.text
        return textwrap.fill(text, 110, initial_indent=head, subsequent_indent=" " * len(head), break_on_hyphens=False)


class Tried(NamedTuple):
    """What was found out about each function, and what to do next."""

    rows: Sequence[Row]
    note: str


class Space:
    """What a file defines, by name: functions, classes, and whatever else it needs."""

    def __init__(self, names: dict[str, Any]):
        self.names = names

    @contextmanager
    def with_ours(self, names: Iterable[str]) -> Iterator[None]:
        """Within it `bra`'s functions stand in the place of hers of these names."""
        before = dict(self.names)
        self.names.update({part.name: part.ours for parts in STAGES.values() for part in parts if part.name in names})
        try:
            yield
        finally:
            self.names.clear()
            self.names.update(before)


class Build(Heard, Tried):
    """What was found out about a file; true when all of it is right."""

    def __bool__(self):
        return bool(self.rows) and all(row.verdict for row in self.rows)

    def __repr__(self):
        table = "\n".join(str(row) for row in self.rows)
        return "\n\n".join(part for part in (table, self.note) if part)


def build(up_to: str = "biformer", path: str | Path = FILE) -> Build:
    """Try the functions of `path` up to the step of that name, and all before it. It is read anew each time.

    Raises ValueError for a step that is none; never for what the file holds.
    """
    if up_to not in STAGES:
        raise ValueError(f"up_to must be one of {', '.join(STAGES)}, but is {up_to!r}")
    steps, path = list(STAGES)[: list(STAGES).index(up_to) + 1], Path(path)
    if not path.is_file():
        return Build([], first_words(path, up_to))
    with torch.random.fork_rng(devices=[]):
        try:
            space = Space(read(path))
        except SyntaxError as error:
            return Build([], f"{path.name} is no Python yet. Line {error.lineno}: {error.msg}.")
        except (Exception, SystemExit) as error:
            return Build([], f"{path.name} stops while it is read: {raised(error)}")
        rows = by_function(space, steps)
        rows += as_a_whole(space, steps, all(row.verdict for row in rows))
    for row in rows:
        row.verdict.heard = True  # the table says it
    return Build(rows, last_words(rows, up_to, space.names))


def read(path: Path) -> dict[str, Any]:
    """The names that a file defines. (Not by `import`, which would remember it.)"""
    module = ModuleType(Path(FILE).stem)
    exec(compile(path.read_bytes(), FILE, "exec"), module.__dict__)
    return module.__dict__


def by_function(space: Space, steps: Sequence[str]) -> list[Row]:
    """What was found out about each function of these steps."""
    rows: list[Row] = []
    for step in steps:
        wrong = {row.name for row in rows if not row.verdict and not row.verdict.text.startswith(BY_ITSELF)}
        rows += [Row(NUMBERS[step], part.name, judged(part, space, wrong)) for part in STAGES[step]]
    return rows


def as_a_whole(space: Space, steps: Sequence[str], right: bool) -> list[Row]:
    """What was found out about the layer that is made of all functions, if these are right."""
    waits = "waits for the functions above"
    return [
        Row(NUMBERS[step], name, check(space.names[LAST.name]) if right else Verdict(False, waits))
        for step in steps
        for name, check in WHOLE.get(step, {}).items()
    ]


def judged(part: Part, space: Space, wrong: set[str]) -> Verdict:
    """The verdict on one of her functions: as it stands, or else by itself; `wrong` are earlier ones."""
    own = space.names.get(part.name)
    if own is None:
        return Verdict(False, "not there yet")
    if own is part.ours:
        return Verdict(False, "This is bra's own. Write yours.")
    if part.is_class and not (isinstance(own, type) and issubclass(own, nn.Module)):
        return Verdict(False, "It must be a class, and an nn.Module.")
    if not part.is_class and (isinstance(own, type) or not callable(own)):
        kind = "class" if isinstance(own, type) else type(own).__name__
        return Verdict(False, f"It must be a function, but its type is {kind}.")
    verdict = part.check(own)
    if verdict:
        return verdict
    others = {other.name for parts in STAGES.values() for other in parts} - {part.name}
    if not (by_itself := tried(part, space, others)):
        return by_itself
    blamed = [name for name in sorted(wrong) if not tried(part, space, wrong - {name})]
    return Verdict(False, f"{BY_ITSELF}, but not with your {', '.join(blamed) or 'other functions'}.")


def tried(part: Part, space: Space, names: set[str]) -> Verdict:
    """The verdict on one of her functions, with `bra`'s in the place of those of her others."""
    own = space.names[part.name]
    with space.with_ours(names):
        return part.check(own)


def first_words(path: Path, step: str) -> str:
    """What is said where there is no file."""
    none = f"There is no {path} yet."
    if not STAGES[step]:
        return f"{none} It grows from notebook 01 on; this step adds nothing to it, and tries the whole."
    return f"{none} {WHERE}\nIt grows from notebook 01 on. To begin with:\n\n{TOP}{stubs(STAGES[step])}"


def stubs(parts: Sequence[Part]) -> str:
    """What she begins with."""
    return "".join(f"\n\n\n{part.stub.strip()}" for part in parts)


def last_words(rows: Sequence[Row], step: str, space: dict[str, Any]) -> str:
    """What is said below the table: what to add, or what is done."""
    missing = [part for part in STAGES[step] if space.get(part.name) is None]
    if missing:
        return f"To add now:{stubs(missing)}"
    if not all(row.verdict for row in rows):
        return ""
    return {
        "layer": "All right. You have written Bi-level Routing Attention from an empty file.",
        "biformer": "All right. A BiFormer runs on the file that you wrote.",
    }.get(step, "All right so far.")
