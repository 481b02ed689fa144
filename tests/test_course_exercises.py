"""Which exercises the course has, what they are worth, and what is read of a notebook that was handed in."""

import ast
import json

import pytest
from handed_in import EMPTY, notebook, written
from repository import NOTEBOOKS, ROOT, STEMS

from bra import checks
from bra.course.calls import called
from bra.course.exercises import CALL, POINTS, asked, code_cells, exercises_of, own_names, read_submission


def test_points_follow_one_rule_for_every_notebook():
    exercises = asked()
    assert sorted(exercises) == sorted(STEMS)
    for stem, several in exercises.items():
        assert {one.kind for one in several} == set(POINTS), stem
        by_check = {one.check: one.points for one in several}
        assert by_check[f"{stem}_recall"] == 2 and by_check[stem] == 6 and by_check[None] == 2
        assert sum(by_check.values()) == (12 if stem == "kernels" else 10)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_the_exercises_of_a_notebook_are_those_that_its_checks_say(path):
    stem = path.stem.partition("_")[2]
    cells = json.loads(path.read_text())["cells"]
    exercises = ["".join(cell["source"]) for cell in cells if "exercise" in cell["metadata"].get("tags", [])]
    found = [name for cell in exercises for name in CALL.findall(cell)]
    assert found == [one.check for one in asked()[stem] if one.check]


def test_what_an_answer_may_not_call_is_there():
    named = {name for check in checks.__all__ if check not in ("Verdict", "build") for name in own_names(check)}
    assert len(named) == 13
    for name in named:  # read, as importing takes seconds
        module, _, last = name.rpartition(".")
        tree = ast.parse((ROOT / module.replace(".", "/")).with_suffix(".py").read_text())
        assert last in {node.name for node in tree.body if isinstance(node, ast.FunctionDef | ast.ClassDef)}, name


def test_a_notebook_is_known_by_its_checks_and_solutions_are_not_read(tmp_path):
    cells = notebook("x = 1", "def f(a, k): ...\nchecks.topk(f)", "# @title Solution\ndef g(): ...\nchecks.lce(g)")
    cells["cells"].append(cells["cells"][0] | {"metadata": {"tags": ["solution"]}, "source": ["checks.", "gather(f)"]})
    found = code_cells(read_submission(written(tmp_path, "07_layer.ipynb", cells)))
    assert len(found) == 2 and {one.stem for one in exercises_of(called(found))} == {"topk"}


@pytest.mark.parametrize(
    "content",
    ["", "[]", "{}", "7", '{"cells": 3}', '{"cells": [3]}', '{"cells": [{"cell_type": "code"}]}', "[" * 100_000,
     '{"cells": [{"cell_type": "code", "source": [1]}]}', '{"cells": [{"cell_type": "code", "source": null}]}',
     '{"cells": [{"cell_type": "code", "source": "", "metadata": 3}]}', "\udcff"],
)  # fmt: skip
def test_what_is_no_notebook_is_told_in_one_line(content):
    with pytest.raises(ValueError, match=r"^is not a Jupyter notebook$"):
        code_cells(content.encode(errors="surrogateescape"))


def test_a_notebook_of_another_course_has_no_exercises_and_what_is_too_large_is_not_read(tmp_path, monkeypatch):
    path = written(tmp_path, "a.ipynb", notebook("checks.other(3)", "print('checks.topk')"))
    assert not exercises_of(called(code_cells(read_submission(path))))
    assert not code_cells(json.dumps(EMPTY | {"cells": []}).encode())
    monkeypatch.setattr("bra.course.exercises.LARGEST", 10)
    with pytest.raises(ValueError, match="is not read"):
        read_submission(path)
