"""Who leads: result files become one table. The rule is accuracy, and of entries that are as good the cheaper first."""

from pathlib import Path
from statistics import fmean

from bra.files import read_json
from bra.invent.boards import BOARDS, BUDGET, SEEDS, rules

COLUMNS = ["entry", "place", "accuracy", "seeds", *BOARDS, "hit rate", "multiply-adds"]


def read_results(folder: Path) -> list[dict]:
    """The results of a folder, whole or not. Raises ValueError if there are none, or a file holds something else."""
    results = [read_json(path) | {"file": path.name} for path in sorted(folder.glob("*.json"))]
    if not results:
        raise ValueError(f"{folder} holds no result: `python -m bra.invent judge ENTRY --out {folder}` writes one")
    for result in results:
        if lacking := {"entry", "rules", "multiply_adds", "runs"} - result.keys():
            raise ValueError(f"{folder / result['file']} is no result of the referee: it lacks {', '.join(lacking)}")
    return results


def accuracies(result: dict, board: str | None = None) -> list[float]:
    """Of each seed: the accuracy on a board; None: the mean of all boards."""
    by_seed = [[run for run in result["runs"] if run["seed"] == seed] for seed in SEEDS]
    return [fmean(run["accuracy"] for run in runs if board in (None, run["board"])) for runs in by_seed]


def reached(result: dict) -> float:
    """The mean accuracy of boards and seeds, in percent, to the tenth that the table shows."""
    return round(100 * fmean(accuracies(result)), 1)


def price(result: dict) -> float:
    """Multiply-adds, top-k's being 1."""
    return result["multiply_adds"]["entry"] / result["multiply_adds"]["top_k"]


def unranked(result: dict) -> str | None:
    """Why a result has no place; None if it has one."""
    if result["rules"] != rules():
        return "judged under other rules"
    if len(result["runs"]) < len(BOARDS) * len(SEEDS):
        return f"{len(result['runs'])} of {len(BOARDS) * len(SEEDS)} runs are done"
    return None


def table(results: list[dict]) -> list[list[str]]:
    """A row for each result that is whole, in COLUMNS, best first.

    place: by the accuracy, the mean of boards and seeds; entries of the same tenth of a percent share a place, and the
    cheaper stands first. A line instead of a place: it costs more than BUDGET. hit rate: the mean of the better block.
    """
    whole = [result for result in results if not unranked(result)]
    paid = [reached(result) for result in whole if price(result) <= BUDGET]
    rows = []
    for result in sorted(whole, key=lambda result: (-reached(result), price(result))):
        mine, seeds = reached(result), accuracies(result)
        place = str(1 + sum(other > mine for other in paid)) if price(result) <= BUDGET else "-"
        boards = [f"{fmean(accuracies(result, board)):.1%}" for board in BOARDS]
        hits = fmean(max(run["hit_rate"]) for run in result["runs"])
        spread = f"{100 * min(seeds):.1f} to {100 * max(seeds):.1f}"
        rows.append([result["entry"], place, f"{mine:.1f}%", spread, *boards, f"{hits:.2f}", f"{price(result):.2f}"])
    return rows


def told(results: list[dict]) -> str:
    """The table as text, which is Markdown too; then the results that have no row, and why."""
    rows = [COLUMNS, *table(results)]
    widths = [max(len(row[column]) for row in rows) for column in range(len(COLUMNS))]
    lines = [
        "| " + " | ".join(cell.rjust(width) if i else cell.ljust(width) for i, (cell, width) in enumerate(each)) + " |"
        for each in (zip(row, widths, strict=True) for row in rows)
    ]
    lines.insert(1, "|" + "|".join(("-" if i else ":") + "-" * width + (":" if i else "-") for i, width in
                                   enumerate(widths)) + "|")  # fmt: skip
    return "\n".join(lines + [f"{r['entry']} has no row: {why}" for r in results if (why := unranked(r))])
