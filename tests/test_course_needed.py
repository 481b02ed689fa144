"""Of a notebook, what an answer needs is found, and nothing more is run."""

import ast

import pytest

from bra.course.needed import asking


def needed(*cells, check="topk"):
    return [ast.unparse(one) for one in asking(cells, check).statements]


def test_only_what_the_answer_uses_is_needed():
    cells = [
        "import torch\nfrom bra import checks, draw\ndraw.bra_map('topk')",
        "model = train_for_a_minute()\nk_best = 3\nunused = model(k_best)",
        "def helper(x):\n    model = x\n    return torch.topk(model, k_best)",
        "def answer(a, k):\n    return helper(a)\n\n\nslow = model(answer)\nchecks.topk(answer)",
        "k_best = 5",
    ]
    assert needed(*cells) == [
        "import torch", "k_best = 3", "def helper(x):\n    model = x\n    return torch.topk(model, k_best)",
        "def answer(a, k):\n    return helper(a)",
    ]  # fmt: skip


def test_what_changes_a_value_in_place_is_needed_too():
    cells = ["rows = []\nother = []", "for n in range(3):\n    rows.append(n)",
             "rows[0] = 7\nother.append(1)\nrows.sort()", "print(rows)\nassert rows", "checks.topk(rows)"]  # fmt: skip
    assert needed(*cells) == ["rows = []", "for n in range(3):\n    rows.append(n)", "rows[0] = 7", "rows.sort()"]


def test_all_definitions_of_a_name_keep_their_order_and_the_last_call_counts():
    cells = [
        "x = 1",
        "x = x + 1\nchecks.topk(x)",
        "checks.topk(None)",
        "x = 5\nverdict = checks.topk(x, y := 2)\nverdict",
    ]
    assert needed(*cells) == ["x = 1", "x = x + 1", "x = 5"]
    assert ast.unparse(asking(cells, "topk").call) == "checks.topk(x, (y := 2))"


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
    with pytest.raises(SyntaxError, match="Its cell is no Python: line 1: "):
        needed("x = = 3; checks.topk(x)")
    with pytest.raises(SyntaxError, match="nowhere called"):
        needed("# checks.topk(x)")
    with pytest.raises(SyntaxError, match="Its cell is no Python"):
        needed("(" * 300 + "checks.topk(x)" + ")" * 300)
