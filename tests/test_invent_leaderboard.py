import json

import pytest
from repository import ROOT

from bra.invent.boards import BOARDS, BUDGET, SEEDS, rules
from bra.invent.judge import OURS, read_entry
from bra.invent.leaderboard import COLUMNS, read_results, table, told, unranked


def result(entry, shares, price=1.0, **changes):
    """A result whose accuracies are `shares`, board by board for each seed."""
    each = iter(shares)
    runs = [
        {"board": board, "seed": seed, "accuracy": next(each), "hit_rate": [0.1, 0.3]}
        for seed in SEEDS for board in BOARDS
    ]  # fmt: skip
    adds = {"entry": round(1000 * price), "top_k": 1000}
    return {"entry": entry, "rules": json.loads(json.dumps(rules())), "multiply_adds": adds, "runs": runs} | changes


COUNT = len(SEEDS) * len(BOARDS)


def test_accuracy_comes_first_then_the_price():
    results = [
        result("cheap", [0.5] * COUNT, 0.9),
        result("best", [0.8] * COUNT, BUDGET),
        result("dear", [0.9] * COUNT, BUDGET + 0.01),
        result("alike", [0.5004] * COUNT, 1.0),
        result("last", [0.4] * COUNT),
    ]
    rows = table(results)
    assert [row[:3] for row in rows] == [
        ["dear", "-", "90.0%"], ["best", "1", "80.0%"], ["cheap", "2", "50.0%"], ["alike", "2", "50.0%"],
        ["last", "4", "40.0%"],
    ]  # fmt: skip
    assert [row[-1] for row in rows] == ["1.11", "1.10", "0.90", "1.00", "1.00"]
    assert all(len(row) == len(COLUMNS) for row in rows)


def test_seeds_and_boards_are_told_apart():
    shares = [0.2 + 0.1 * seed + 0.4 * board for seed in range(len(SEEDS)) for board in range(len(BOARDS))]
    (row,) = table([result("mine", shares)])
    boards = [f"{100 * (0.2 + 0.1 * (len(SEEDS) - 1) / 2 + 0.4 * n):.1f}%" for n in range(len(BOARDS))]
    middle = 0.4 * (len(BOARDS) - 1) / 2
    assert row[3] == f"{100 * (0.2 + middle):.1f} to {100 * (0.2 + 0.1 * (len(SEEDS) - 1) + middle):.1f}"
    assert row[4 : 4 + len(BOARDS)] == boards and row[-2] == "0.30", "of the better block"


def test_what_has_no_row_is_named_with_the_reason():
    old = result("old", [0.9] * COUNT)
    old["rules"]["boards"][next(iter(BOARDS))]["k"] = 16
    half = result("half", [0.9] * COUNT)
    half["runs"].pop()
    text = told([old, half, result("whole", [0.5] * COUNT)])
    assert text.splitlines()[2].startswith("| whole |     1 |")
    assert text.splitlines()[3:] == ["old has no row: judged under other rules",
                                     f"half has no row: {COUNT - 1} of {COUNT} runs are done"]  # fmt: skip


def test_a_folder_without_results_is_told(tmp_path):
    with pytest.raises(ValueError, match=r"holds no result: `python -m bra\.invent judge ENTRY --out "):
        read_results(tmp_path)
    (tmp_path / "other.json").write_text('{"entry": 1, "runs": [], "rules": {}}')
    with pytest.raises(ValueError, match=r"other.json is no result of the referee: it lacks multiply_adds"):
        read_results(tmp_path)


def test_the_results_of_the_book_are_those_of_our_entries_as_they_stand():
    results = read_results(ROOT / "book" / "results" / "invent")
    assert {row[0] for row in table(results)} >= {"top_k", "soft"}
    for result in results:
        entry = read_entry(OURS / f"{result['entry']}.py")
        assert (result["sha256"], result["title"]) == (entry.sha256, entry.title), f"{entry.name}: judge it again"
        assert result["command"] == f"python -m bra.invent judge {entry.name}"
        assert (unranked(result) or "").endswith("runs are done") or not unranked(result), "the rules have changed"
