"""Of a notebook, what an answer needs is found, and nothing more is run."""

# ruff: noqa: E501 - cells read better wide

import ast

import pytest

from bra.course.calls import MOST, askings, called


def needed(*cells, check="topk"):
    return [ast.unparse(one) for one in askings(cells, check)[-1].statements]


def test_only_what_the_answer_uses_is_needed():
    cells = [
        "import torch\nfrom bra import checks, draw\ndraw.bra_map('topk')",
        "model = train_for_a_minute()\nk_best = 3\nunused = model(k_best)",
        "def helper(x):\n    model = x\n    return torch.topk(model, k_best)",
        "def answer(a, k):\n    return helper(a)\n\n\nslow = model(answer)\nchecks.topk(answer)",
        "k_best = 5",
    ]
    assert needed(*cells) == [
        "import torch", "from bra import checks", "k_best = 3", "def helper(x):\n    model = x\n    return torch.topk(model, k_best)",
        "def answer(a, k):\n    return helper(a)",
    ]  # fmt: skip


def test_what_changes_a_value_in_place_is_needed_too():
    cells = ["rows = []\nother = []", "for n in range(3):\n    rows.append(n)",
             "rows[0] = 7\nother.append(1)\nrows.sort()", "print(rows)\nassert rows", "checks.topk(rows)"]  # fmt: skip
    assert needed(*cells) == ["rows = []", "for n in range(3):\n    rows.append(n)", "rows[0] = 7", "rows.sort()"]


def test_all_definitions_of_a_name_keep_their_order_before_the_call_that_uses_them():
    cells = [
        "x = 1",
        "x = x + 1\nchecks.topk(x)",
        "checks.topk(None)",
        "x = 5\nverdict = checks.topk(x, y := 2)\nverdict",
    ]
    first, second, third, shown = askings(cells, "topk")
    assert ast.unparse(third.last) == "verdict = checks.topk(x, (y := 2))" and ast.unparse(shown.last) == "verdict"
    assert [ast.unparse(one) for one in third.statements] == ["x = 1", "x = x + 1", "x = 5"]
    assert [ast.unparse(one) for one in first.statements] == ["x = 1", "x = x + 1"] and not second.statements


def test_classes_stars_and_tuples_are_seen():
    cells = ["from math import *\nimport os.path as p", "a, (b, *c) = 1, (2, 3)",
             "class A:\n    z = b\n    def f(self): return p", "checks.topk(lambda: A)"]  # fmt: skip
    assert [line.split("\n")[0] for line in needed(*cells)] == [
        "from math import *", "import os.path as p", "a, (b, *c) = (1, (2, 3))", "class A:"]  # fmt: skip


def test_magic_and_cells_that_are_no_python_do_no_harm():
    assert needed(
        "%matplotlib inline\nx = 1", "!pip install y", "%%writefile a.py\nx = 2", "x = = 3", "checks.topk(x)"
    ) == ["x = 1"]
    assert needed("%%time\nx = 1", "checks.topk(x)") == ["x = 1"], "it is Python, and only timed"
    assert askings(["x = = 3; checks.topk(x)"], "topk")[0].fault.startswith("Its cell is no Python: line 1: ")
    assert askings(["(" * 300 + "checks.topk(x)" + ")" * 300], "topk")[0].fault.startswith("Its cell is no Python")
    assert not askings(["# checks.topk(x)", "print('checks.topk(x)')"], "topk")


@pytest.mark.parametrize(
    "cell",
    [
        "from bra import checks\nchecks.topk(x)", "from bra import checks as c\nprint(c.topk(x))", "import bra\nbra.checks.topk(x)",
        "import bra.checks as c\nassert c.topk(x), 1", "from bra.checks import topk\ntopk(x)", "from bra.checks import topk as t\nt(x)",
        "from bra.checks.topk import topk\ntopk(x)", "from bra.checks import *\ntopk(x)", "c = checks\nt = c.topk\nt(x)",
        "getattr(checks, 'topk')(x)", "def ask(f):\n    return checks.topk(f)\nask(x)", "ask = lambda f: checks.topk(f)\nask(x)",
        "def ask(f):\n    from bra.checks import topk\n    topk(f)\nask(x)", "for f in [x]:\n    checks.topk(f)",
        "asks = [checks.topk]\nasks[0](x)",
    ],
)  # fmt: skip
def test_a_call_is_found_however_the_check_was_imported(cell):
    assert "topk" in called([cell]) and askings([cell], "topk")


@pytest.mark.parametrize(
    "cell", ["a.topk(3)", "import bra\nbra.region_affinity(q, k).topk(3)", "from torch import topk\ntopk(a, 3)",
             "from bra import topk\ntopk.best(a)", "from bra.checks import topk", "'checks.topk'"],
)  # fmt: skip
def test_what_only_has_its_name_is_no_call(cell):
    assert "topk" not in called([cell])


def test_the_last_few_calls_are_tried():
    assert len(askings(["checks.topk(x)"] * 20, "topk")) == MOST
