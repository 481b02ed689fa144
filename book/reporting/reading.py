"""What was measured, read from book/results, and the one form of every table that shows it."""

import json
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

RESULTS = Path(__file__).parents[1] / "results"
TOLD = ("processor", "threads", "python", "torch", "date", "commit")  # what a result must say of where it was measured


@dataclass(frozen=True)
class Table:
    """Cells as they are shown. The first `keys` columns say what a row is, the others are numbers."""

    columns: list[str]
    rows: list[list[str]]
    keys: int = 1

    def markdown(self) -> str:
        """The table as Markdown, numbers to the right."""
        rules = [":--"] * self.keys + ["--:"] * (len(self.columns) - self.keys)
        return "\n".join(f"| {' | '.join(line)} |" for line in (self.columns, rules, *self.rows))

    def cell(self, row: str, column: str) -> str:
        """One cell: the row by its first cells, joined by commas. Raises ValueError where there is none."""
        if column not in self.columns:
            raise ValueError(f"no column {column!r}: one of {', '.join(self.columns)}")
        for cells in self.rows:
            if ", ".join(cells[: self.keys]) == row:
                return cells[self.columns.index(column)]
        raise ValueError(f"no row {row!r}: one of {'; '.join(', '.join(r[: self.keys]) for r in self.rows)}")


def read(name: str, folder: Path = RESULTS) -> dict:
    """What was measured; of a folder of results all of them, under `results`, and what the first says of its origin.

    Raises ValueError if there is no such result, or it does not say how and where it was made.
    """
    if (folder / name).is_dir() and not (folder / f"{name}.json").exists():
        results = [read(f"{name}/{path.stem}", folder) for path in sorted((folder / name).glob("*.json"))]
        runs = [run for result in results for run in result["runs"]]
        return {"command": " ".join(results[0]["command"].split()[:-1] + ["ENTRY"]), "results": results, "runs": runs,
                "environment": results[0]["environment"]}  # fmt: skip
    path = folder / f"{name}.json"
    if not path.exists():
        raise ValueError(f"no result {name!r}: there is no {path.name} in {folder.name}")
    content = json.loads(path.read_text())
    if not content.get("command"):
        raise ValueError(f"{path.name} does not say by which command it was measured")
    if missing := [word for word in TOLD if not content.get("environment", {}).get(word)]:
        raise ValueError(f"{path.name} does not say where it was measured: no {', '.join(missing)}")
    return content


def mean(values: Iterable[float]) -> float:
    """Their sum by their number."""
    values = list(values)
    return sum(values) / len(values)


def by_label(content: dict) -> dict[str, list[dict]]:
    """The runs of every setting."""
    found = {}
    for run in content["runs"]:
        found.setdefault(run["label"], []).append(run)
    return found
