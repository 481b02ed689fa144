"""The exercises of the course, and what they are worth; and a notebook as it was handed in, read but never run."""

import json
import re
import sys
from collections.abc import Collection
from pathlib import Path
from typing import NamedTuple

from bra import checks

POINTS = {"recall": 2, "implement": 6, "investigate": 2}
OWN_FILE, STEP = "my_bra", 2  # the file that grows from notebook 01 to 08, and the points of each of its eight steps
LARGEST = 50_000_000  # bytes of a notebook
CALL = re.compile(r"\bchecks\.(\w+)\(")
BY_HAND = "by hand"


class Exercise(NamedTuple):
    """What is asked in a notebook. kind: a key of POINTS. check: the name of its check; none if a person judges it."""

    stem: str
    kind: str
    check: str | None

    @property
    def points(self) -> int:
        """What a right answer is worth."""
        return POINTS[self.kind]


def asked() -> dict[str, list[Exercise]]:
    """The exercises of each notebook, by its stem.

    A notebook asks a recall question, whose check is called STEM_recall, and for a function, whose check is called
    STEM; and it has something to investigate, which is judged by hand. A check of another name belongs to that.
    """
    names = [name for name in checks.__all__ if name not in ("Verdict", "build")]
    stems = sorted({stem_of(name) for name in names}, key=lambda stem: list(names).index(stem))
    found = {}
    for stem in stems:
        own = [name for name in names if stem_of(name) == stem]
        kinds = {f"{stem}_recall": "recall", stem: "implement"}
        tried = [Exercise(stem, kinds.get(name, "investigate"), name) for name in own]
        order = list(POINTS)
        found[stem] = sorted([*tried, Exercise(stem, "investigate", None)], key=lambda one: order.index(one.kind))
    return found


def stem_of(check: str) -> str:
    """The stem of the notebook that has this check: the last part of its module's name."""
    return getattr(checks, check).__module__.rpartition(".")[2]


def own_names(check: str) -> tuple[str, ...]:
    """The functions of `bra` that an answer may not call."""
    return getattr(sys.modules[getattr(checks, check).__module__], "OWN", ())


def read_submission(path: Path) -> bytes:
    """What was handed in. Raises ValueError, in one line, if it is too large; OSError if it cannot be read."""
    if path.stat().st_size > LARGEST:
        raise ValueError(f"is larger than {LARGEST // 1_000_000} MB, so it is not read")
    return path.read_bytes()


def exercises_of(called: Collection[str]) -> list[Exercise]:
    """The exercises of the notebooks to which these checks belong: a notebook is known by them, whatever its name."""
    return [one for several in asked().values() if any(each.check in called for each in several) for one in several]


def code_cells(content: bytes) -> list[str]:
    """The sources of a notebook's code cells, but those that hold a solution. Raises ValueError if it is none."""
    try:
        cells = json.loads(content)["cells"]
        return [source_of(cell) for cell in cells if cell["cell_type"] == "code" and not is_solution(cell)]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise ValueError("is not a Jupyter notebook") from error


def source_of(cell: dict) -> str:
    """The text of a cell, which a file holds whole or line by line. Raises TypeError if it is no text."""
    source = cell["source"]
    return "".join(source if isinstance(source, str) else [line + "" for line in source])


def is_solution(cell: dict) -> bool:
    """Whether a cell is one that the course wrote, with the answer in it."""
    tags = cell.get("metadata", {}).get("tags", [])
    return "solution" in tags or source_of(cell).startswith("# @title Solution")
