# ruff: noqa: E501 - a table of ways to cheat reads better wide
"""Submissions graded end to end: solutions get all points, releases none, and whoever cheats or breaks things none.

Whatever does not end its process shares one: starting one takes seconds.
"""

import csv
import inspect
import io
import json
import os
import sys

import pytest
import test_checks
from handed_in import OWN, notebook, released, solved, written

from bra import checks
from bra.checks.__main__ import Request, mark
from bra.course import grade as grading
from bra.course.exercises import asked, own_names
from bra.course.grade import EARLIER, ONLY_SEEN, Row, examine, files_in, grade
from bra.course.limits import Limits
from bra.course.own import by_hand
from bra.course.report import COLUMNS, as_csv, by_student, summary, told
from bra.course.sandbox import Sandbox

TOP = "import torch\nimport torch.nn.functional as F\nfrom bra import checks\n"
RIGHT = "def best(a, k):\n    return torch.sort(-a, dim=-1, stable=True).indices[..., :k]\n"
CALL = "\nchecks.topk(best)"


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(Limits(seconds=60.0, megabytes=2000)) as made:
        yield made


def judged(check, cells, sandbox, variant):
    (exercise,) = (one for several in asked().values() for one in several if one.check == check)
    return grading.judged(exercise, cells, sandbox.called(cells).get(check, 0), sandbox, variant)


def points(rows):
    return {(row.notebook, row.exercise): (row.points, row.of) for row in rows if row.points is not None}


def test_a_release_scores_nothing_and_the_solutions_everything(sandbox):
    def rows(name, content):
        return grading.notebook(json.dumps(content).encode(), name, sandbox, variant=5)

    empty, full = rows("empty.ipynb", released()), rows("full.ipynb", solved())
    assert points(empty).keys() == points(full).keys() and len(points(full)) == 2 * len(OWN) + 1
    assert all(got == 0 for got, _ in points(empty).values()), empty
    assert all(
        "returns nothing yet" in row.diagnosis or "no answer yet" in row.diagnosis
        for row in empty
        if row.points is not None
    )
    assert all(got == of for got, of in points(full).values()), [str(row) for row in full if row.points != row.of]
    assert sum(got for got, _ in points(full).values()) == 8 * len(OWN) + 2
    by_hand_rows = [row for row in full if row.points is None]
    assert len(by_hand_rows) == len(OWN) and all(row.of == 2 and "by hand" in row.exercise for row in by_hand_rows)


def test_the_notebooks_with_their_solutions_folded_in_score_nothing(sandbox):
    cells = ["".join(c["source"]) for c in list(OWN.values())[3]["cells"] if c["cell_type"] == "code"]
    cells = [cell for cell in cells if not cell.startswith("# @title Solution")]
    assert "returns nothing yet" in judged("topk", cells, sandbox, 1).text
    used = cells[:-1] + ["checks.topk(stable_top_k_solution)"]
    assert "NameError: name 'stable_top_k_solution' is not defined" in judged("topk", used, sandbox, 1).text


SAMPLE = [wrong for name in test_checks.RIGHT for wrong in [w for w in test_checks.WRONG if w[0] == name][:2]]


@pytest.mark.parametrize(("name", "mistake", "answer", "says"), SAMPLE, ids=[f"{w[0]}: {w[1]}" for w in SAMPLE])
def test_a_planted_mistake_keeps_its_diagnosis(name, mistake, answer, says):  # tests/test_checks.py has all of them
    verdict = examine(name, [by_hand(answer, ())], {}, variant=4)
    assert not verdict and says in verdict.text and ONLY_SEEN not in verdict.text


@pytest.mark.parametrize("name", test_checks.RIGHT)
def test_each_right_answer_gets_its_points_without_bras_own(name):
    assert examine(name, [by_hand(test_checks.RIGHT[name], own_names(name))], {}, variant=4)


HELPERS = inspect.getsource(test_checks).partition("RIGHT = {")[0].replace("from bra.checks", "# ")


@pytest.mark.parametrize(
    "check, answer, says",
    [
        ("topk", "def best(a, k): return a.topk(k, largest=False).indices", "smallest affinities"),
        (
            "patterns",
            "def best(grid, side): return torch.tensor(rows(grid, side))\ndef rows(grid, side): return [[0]]",
            "Its shape is",
        ),
        ("layer", "def best(*given): return empty_file(*given, heads_last=False)", "still stand before"),
        ("layer", "def best(*given): return empty_file(*given, without='out.bias')", "bias of `out` is missing"),
        ("biformer", "def best(*given): return last_stage(*given, every='(m d three)')", "every third channel"),
        (
            "attention",
            "def best(q, k, v, heads): return attend_by_hand(q, k[[0] * len(k)], v, heads)",
            "keys of the first",
        ),
        ("train", "def best(*given): return hit_rate(*given).item() * 100", "in percent"),
        ("explorer", "best = rolled_out", None),
        ("layer", "best = empty_file", None),
        ("imagenet100", "def best(*given): return rate_of_step(*given).item()", None),
    ],
)
def test_in_a_process_of_its_own_an_answer_is_judged_as_here(check, answer, says, sandbox):
    verdict = judged(check, [HELPERS, TOP, answer, f"checks.{check}(best)"], sandbox, 4)
    assert bool(verdict) == (says is None) and (says or "") in verdict.text, verdict


CHEATS = {
    "bra's own function": ("from bra import top_k_regions\ndef best(a, k): return top_k_regions(a, k)" + CALL, "bra's own. Write yours"),
    "bra's own by another name": ("import bra.topk as t\nbest = lambda a, k: vars(t)['top_k' + '_regions'](a, k)" + CALL, "bra's own"),
    "the check's right answer": ("from bra.checks.topk import best" + CALL, "cannot import name 'best'"),
    "an edited check": ("import bra.checks\nbra.checks.topk = checks.topk = lambda f: True\ndef best(a, k): return a" + CALL, "Not yet"),
    "a check of one's own": ("class checks:\n    topk = staticmethod(lambda f: print('Right.'))\ndef best(a, k): return a" + CALL, "Not yet"),
    "printing": ("print('Right. ' * 3)\ndef best(a, k):\n    print('Right. Best first.')\n    return a" + CALL, "Not yet"),
    "an edited torch": ("torch.equal = torch.isclose = torch.Tensor.all = lambda *a, **k: True\ndef best(a, k): return a" + CALL, "Not yet"),
    "something that is always equal": ("class Yes:\n    __eq__ = __ge__ = lambda *a: True\ndef best(a, k): return Yes()" + CALL, "not a Yes"),
    "what can be seen, by heart": (
        "seen = {2: [[3, 1, 2]]}\ndef best(a, k):\n    if (tuple(a.shape), k) in [((2, 5, 5), 3), ((2, 5, 5), 2), ((1, 40, 40), 40),"
        " ((1, 7, 7), 3), ((1, 7, 7), 7)]:\n        return torch.sort(-a, dim=-1, stable=True).indices[..., :k]\n    return a" + CALL,
        ONLY_SEEN,
    ),
    "an error": ("best = 1 / 0" + CALL, "Your notebook raised ZeroDivisionError"),
    "an exit": ("def best(a, k): raise SystemExit" + CALL, "raised SystemExit"),
    "another number of answers": (RIGHT + "\nchecks.topk(best, best)", "must be called as checks.topk(stable_top_k)"),
    "a changed input": ("def best(a, k):\n    r = a.topk(k).indices\n    a.zero_()\n    return r" + CALL, "changes its input"),
    "colours and lines": ("def best(a, k): raise ValueError('\\x1b[31m\\n<b>&')" + CALL, "raised ValueError: ?[31m <b>&"),
    "a file": ("def best(a, k):\n    open('PLACE', 'w')\n    return a" + CALL, "PermissionError"),
    "a removed file": ("import os\ndef best(a, k):\n    os.remove('PLACE')\n    return a" + CALL, "PermissionError"),
    "a command": ("import os\ndef best(a, k):\n    os.system('touch PLACE')\n    return a" + CALL, "PermissionError"),
    "a signal to the grader": ("import os\ndef best(a, k):\n    os.kill(os.getppid(), 9)" + CALL, "PermissionError"),
    "the grader's environment": ("import os\ndef best(a, k):\n    open(f'/proc/{os.getppid()}/environ').read()" + CALL, "PermissionError"),
    "the network": ("import socket\ndef best(a, k):\n    socket.create_connection(('127.0.0.1', 9))" + CALL, "PermissionError"),
    "a secret": ("import os\ndef best(a, k): raise ValueError(os.environ.get('SECRET_TOKEN', 'not here'))" + CALL, "ValueError: not here"),
    "a result without end": ("def best(a, k): return torch.zeros(10**8)" + CALL, "at most"),
}  # fmt: skip


@pytest.mark.parametrize("name", CHEATS)
def test_who_cheats_gets_no_points_and_reaches_nothing(name, sandbox, tmp_path, monkeypatch):
    monkeypatch.setenv("SECRET_TOKEN", "a secret")
    place = tmp_path / "place"
    place.write_text("mine")
    source, says = CHEATS[name]
    verdict = judged("topk", [TOP, source.replace("PLACE", str(place))], sandbox, variant=2)
    assert not verdict and says in repr(verdict), verdict
    assert place.read_text() == "mine" and "secret" not in verdict.text and verdict.text.isprintable()
    right = judged("topk", [TOP, RIGHT + CALL], sandbox, variant=2)
    assert right, right


def test_a_recall_answer_may_be_of_any_kind(sandbox):
    for answer, says in (
        ("10 ** 400", "is wrong"),
        ("object()", "is wrong"),
        ("[[[]]]", "is wrong"),
        ("lambda: 38208", "is wrong"),
    ):
        assert says in judged("layer_recall", [TOP, f"mine = {answer}\nchecks.layer_recall(mine)"], sandbox, 1).text
    assert judged("layer_recall", ["import numpy as np", "checks.layer_recall(weights=np.int64(38208))"], sandbox, 1)
    assert judged("layer_recall", ["mine = [38208]", "checks.layer_recall(*mine)"], sandbox, 1)
    assert judged(
        "topk_recall",
        [
            "a = torch.tensor([4, 2, 1]).tolist()\nchecks.topk_recall(a, False)",
        ],
        sandbox,
        1,
    ).text.startswith("Your notebook raised NameError")


def test_what_never_ends_fills_memory_or_crashes_is_contained_and_the_others_are_graded(tmp_path):
    lost = notebook(
        TOP,
        "def best(a, k):\n    while True: pass\nchecks.topk(best)",
        "def cut(x, grid):\n    import os\n    open('json.py', 'w').write('1 / 0')\n    os._exit(3)\nchecks.partition(cut)",
        "def moves(v, weight, bias):\n    return torch.zeros(10**10)\nchecks.lce(moves)",
        "my_set, others = {1, 2, 4}, {1, 2}\nchecks.topk_recall(my_set, others)",
    )
    rows = grade(written(tmp_path, "a.ipynb", lost), "a", Limits(seconds=2.0, megabytes=1000), variant=1)
    said = {
        row.exercise if row.notebook == "topk" else row.notebook: row
        for row in rows
        if row.points is not None and "recall" not in row.exercise
    }
    assert "did not end within 2 seconds, and was stopped" in said["implement"].diagnosis
    assert "ended the process in which it ran (exit code 3)" in said["partition"].diagnosis
    if sys.platform == "linux":
        assert "raised MemoryError: more than 1000 MB" in said["lce"].diagnosis
    assert points(rows)["topk", "recall"] == (2, 2) and sum(got for got, _ in points(rows).values()) == 2


def test_a_folder_is_graded_into_a_table_and_what_is_no_notebook_gets_one_line(tmp_path, capsys):
    hand_in = tmp_path / "all" / "=1+1"
    hand_in.mkdir(parents=True)
    (hand_in / ".ipynb_checkpoints").mkdir()
    written(hand_in / ".ipynb_checkpoints", "a.ipynb", "x")
    written(hand_in, "a.ipynb", notebook(TOP, RIGHT + CALL))
    written(hand_in, "b<script>.ipynb", "not JSON")
    written(hand_in, "my_bra.py", "def top_k_regions(affinity, k): return affinity.topk(k).indices")
    secret = written(tmp_path, "secret.ipynb", notebook(TOP, RIGHT + CALL))
    (hand_in / "c.ipynb").symlink_to(secret)
    mark(Request(tmp_path / "all", csv=tmp_path / "grades.csv", variant=3))
    table = list(csv.reader(io.StringIO((tmp_path / "grades.csv").read_text())))
    table, own_file = ([row for row in table if (row[1] == "my_bra") == own] for own in (False, True))
    assert table == [
        ["file", "notebook", "exercise", "points", "of", "diagnosis"],
        ["'=1+1/a.ipynb", "topk", "recall", "0", "2", "Not yet. checks.topk_recall is nowhere called."],
        ["'=1+1/a.ipynb", "topk", "implement", "6", "6", "Right. Best first, each row for itself, ties in order."],
        ["'=1+1/a.ipynb", "topk", "investigate, by hand", "", "2", ""],
        ["'=1+1/b<script>.ipynb", "", "", "0", "", "is not a Jupyter notebook."],
    ]
    assert [row[2:5] for row in own_file if row[3] != "0"] == [["step 03, topk", "2", "2"]] and len(own_file) == 8
    students = list(csv.reader(io.StringIO((tmp_path / "grades_students.csv").read_text())))
    assert students == [
        ["student", "topk (of 8)", "my_bra (of 16)", "total (of 24)", "still to give by hand", "files not graded"],
        ["'=1+1", "6", "2", "8", "2", "1"],
    ]
    out = capsys.readouterr().out
    assert "grades_students.csv" in out and "8, and 2 by hand; 1 not graded" in out
    assert "together" in out and "6 of 8, and 2 by hand" in out and "--variant 3 repeats this" in out
    assert out.count("is not a Jupyter notebook.") == 1


@pytest.mark.parametrize("call", [
    "from bra.checks import topk\ntopk(best)", "import bra.checks as c\nc.topk(best)", "from bra.checks.topk import topk as t\nt(best)",
    "from bra.checks import *\nprint(topk(best))", "def ask(f):\n    assert checks.topk(f)\nask(best)", "for f in (min, best):\n    checks.topk(f)",
    "display(checks.topk(stable_top_k=best))", "verdict = checks.topk(best)\nassert verdict, verdict",
])  # fmt: skip
def test_a_call_by_another_name_is_graded(call, sandbox):
    verdict = judged("topk", [TOP, RIGHT, call], sandbox, 3)
    assert verdict, verdict


def test_of_several_calls_the_best_counts_and_the_report_says_so(sandbox):
    playing = [TOP, RIGHT + CALL, "checks.topk(lambda a, k: a.topk(k, largest=False).indices)", "checks.topk(bset)"]
    assert judged("topk", playing, sandbox, 3).text.endswith(EARLIER)
    wrong = [TOP, "checks.topk(lambda a, k: a)", "checks.topk(lambda a, k: a.topk(k, largest=False).indices)"]
    assert "smallest" in judged("topk", wrong, sandbox, 3).text, "of wrong ones the last is told"
    rebound = [TOP, RIGHT + CALL, "def best(a, k): return a", "checks.topk(best)"]
    assert judged("topk", rebound, sandbox, 3), "the first call had the right one"


def row(file, notebook, exercise, points, of):
    return Row(file, notebook, exercise, points, of, "")


def test_each_student_has_a_row_with_a_field_for_each_notebook():
    rows = [
        row("ann/03_topk.ipynb", "topk", "recall", 2, 2), row("ann/03_topk.ipynb", "topk", "implement", 0, 6),
        row("ann/03_topk.ipynb", "topk", "investigate, by hand", None, 2), row("ann/again/03.ipynb", "topk", "recall", 0, 2),
        row("ann/again/03.ipynb", "topk", "implement", 6, 6), row("ann/again/03.ipynb", "topk", "investigate, by hand", None, 2),
        row("=bob/my_bra.py", "my_bra", "step 01, partition", 2, 2), row("=bob/x.ipynb", "", "", 0, None),
        row("07_layer.ipynb", "layer", "recall", 1, 2),
    ]  # fmt: skip
    titles, *students = by_student(rows)
    assert titles == ["student", "topk (of 8)", "layer (of 2)", "my_bra (of 2)", "total (of 12)",
                      "still to give by hand", "files not graded"]  # fmt: skip
    assert students == [["ann", 6, "", "", 6, 2, 0], ["=bob", "", "", 2, 2, 0, 1], ["07_layer", "", 1, "", 1, 0, 0]]
    said = "\n".join(summary(rows))
    assert "topk handed in more than once: the best counts" in said and "1 not graded" in said
    assert as_csv(titles, students).splitlines()[2].startswith("'=bob,,,2,2,")


def test_what_cannot_be_graded_is_told(tmp_path):
    with pytest.raises(FileNotFoundError, match="does not exist"):
        files_in(tmp_path / "none")
    with pytest.raises(FileNotFoundError, match="holds no notebook"):
        files_in(tmp_path)
    with pytest.raises(ValueError, match="variant must be larger than 0, but is 0"):
        mark(Request(tmp_path, variant=0))
    path = written(tmp_path, "a.ipynb", "x")
    os.chmod(path, 0)
    (row,) = grade(path, "a", Limits(), 1)
    assert row.points == 0 and row.of is None and list(told([row])) == ["a", f"  {row.diagnosis}"]


def test_a_table_has_no_formula_in_it():
    text = as_csv(COLUMNS, [Row("a", "b", "c", 0, 2, f"{sign}cmd") for sign in "=+-@"])
    assert [line.split(",")[-1][:2] for line in text.splitlines()[1:]] == ["'=", "'+", "'-", "'@"]
    assert all(name in checks.__all__ for name in ("topk", "topk_recall"))
