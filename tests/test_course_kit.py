"""What is handed out: student versions without solutions, and assignments that nbgrader releases and grades."""

import ast
import json
import os
import shutil
import subprocess
import sys

import nbformat
import pytest
from handed_in import OWN

from bra.course.__main__ import Request, make
from bra.course.exercises import CALL, POINTS, asked, source_of
from bra.course.kit import ANSWER, BEGIN, END, for_nbgrader, for_students

STEMS = {path.stem.partition("_")[2]: own for path, own in OWN.items()}


def exercises(notebook):
    return [cell for cell in notebook["cells"] if "exercise" in cell["metadata"].get("tags", [])]


@pytest.mark.parametrize("stem", STEMS)
def test_a_student_version_is_the_notebook_without_solutions_and_says_what_is_asked(stem):
    made = for_students(STEMS[stem])
    nbformat.validate(nbformat.from_dict(made))
    text = json.dumps(made)
    assert "# @title Solution" not in text and '"solution"' not in text
    assert "colab.research" not in text and "kaggle.com" not in text, "the published notebook has the solutions"
    kept = [cell for cell in STEMS[stem]["cells"] if "solution" not in cell["metadata"].get("tags", [])]
    assert [cell["id"] for cell in made["cells"]] == [cell["id"] for cell in kept]
    changed = [cell for cell, own in zip(made["cells"], kept, strict=True) if cell != own]
    asks = [one.check for one in asked()[stem] if one.check and not one.check.endswith("_recall")]
    assert changed.pop(0)["source"] == "".join(kept[0]["source"]).partition("\n\n[Open in Colab]")[0]
    assert len(changed) == len(asks)
    for cell, check in zip(changed, asks, strict=True):
        tree = ast.parse(cell["source"])
        (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef))
        said = ast.get_docstring(function)
        assert said.startswith(f"{function.name}(") and len(said) > 40
        assert cell["source"].endswith(f"checks.{check}({function.name})") and "..." in cell["source"]


@pytest.mark.parametrize("stem", STEMS)
def test_an_assignment_has_points_hidden_tests_and_a_rubric(stem):
    made = for_nbgrader(STEMS[stem], stem, 4711)
    assert "colab.research" not in json.dumps(made), "the published notebook has the solutions"
    nbformat.validate(nbformat.from_dict(made))
    marked = [(cell, cell["metadata"]["nbgrader"]) for cell in made["cells"] if "nbgrader" in cell["metadata"]]
    assert len({own["grade_id"] for _, own in marked}) == len(marked)
    tests = [(cell, own) for cell, own in marked if own["grade"] and own["locked"]]
    assert {own["grade_id"]: own["points"] for _, own in tests} == {
        f"{one.check}-test": one.points for one in asked()[stem] if one.check
    }
    for cell, _ in tests:
        lines = cell["source"].splitlines()
        assert lines[1] == "### BEGIN HIDDEN TESTS" and lines[-1] == "### END HIDDEN TESTS" and "4711" in lines[-2]
    answers = [cell for cell, own in marked if own["solution"] and not own["grade"]]
    assert all(cell["source"].count(BEGIN) == cell["source"].count(END) == 1 for cell in answers)
    (hand,) = (cell for cell, own in marked if own["solution"] and own["grade"])
    assert hand["cell_type"] == "markdown" and "```python" in hand["source"]
    rubric = made["cells"][made["cells"].index(hand) - 1]
    assert "**Rubric**" in rubric["source"] and rubric["metadata"]["nbgrader"]["locked"]
    assert rubric["source"].count("1 point:") == hand["metadata"]["nbgrader"]["points"] == POINTS["investigate"]
    assert not any("solution" in cell["metadata"].get("tags", []) for cell in made["cells"])
    assert [CALL.findall(source_of(cell)) for cell in exercises(made)] == [
        CALL.findall(source_of(cell)) for cell in exercises(STEMS[stem])
    ]


def test_the_command_makes_both_and_refuses_another_folder(tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    with pytest.raises(ValueError, match="holds no notebook of this course"):
        make(Request(tmp_path / "out", notebooks=folder))
    (path,) = (path for path in OWN if path.stem == "03_topk")
    shutil.copy(path, folder)
    assert make(Request(tmp_path / "out", notebooks=folder)) == 1
    found = {str(each.relative_to(tmp_path / "out")) for each in (tmp_path / "out").rglob("*.*") if each.is_file()}
    assert found == {"student/03_topk.ipynb", "nbgrader/source/03_topk/03_topk.ipynb", "nbgrader/nbgrader_config.py"}
    with pytest.raises(ValueError, match="variant must be at least 1"):
        make(Request(tmp_path / "out", variant=0))


def nbgrader(*words, folder):
    told = subprocess.run([sys.executable, "-m", "nbgrader", *words], cwd=folder, capture_output=True, text=True,
                          env=os.environ | {"JUPYTER_PLATFORM_DIRS": "1"})  # fmt: skip
    assert told.returncode == 0, told.stderr[-3000:]


@pytest.mark.slow
def test_nbgrader_releases_and_grades_an_assignment(tmp_path, monkeypatch):
    pytest.importorskip("nbgrader")
    programs = os.path.dirname(sys.executable)  # nbgrader calls alembic by its name
    monkeypatch.setenv("PATH", f"{programs}{os.pathsep}{os.environ['PATH']}")
    from nbgrader.api import Gradebook

    folder = tmp_path / "notebooks"
    folder.mkdir()
    cells = STEMS["topk"]["cells"]  # the imports and the exercises: what stands between takes a minute
    imports = next(cell for cell in cells if cell["cell_type"] == "code")
    exercises_at = next(n for n, cell in enumerate(cells) if source_of(cell).startswith("## Exercises"))
    short = STEMS["topk"] | {"cells": [imports, *cells[exercises_at:]]}
    (folder / "03_topk.ipynb").write_text(json.dumps(short))
    course = tmp_path / "out" / "nbgrader"
    make(Request(tmp_path / "out", notebooks=folder))
    nbgrader("generate_assignment", "03_topk", folder=course)
    release = course / "release" / "03_topk" / "03_topk.ipynb"
    text = release.read_text()
    assert "HIDDEN" not in text and "SOLUTION" not in text and "argsort(dim=-1, descending" not in text

    def hand_in(student, change):
        content = json.loads(text)
        for cell in content["cells"]:
            change(cell)
        place = course / "submitted" / student / "03_topk" / "03_topk.ipynb"
        place.parent.mkdir(parents=True)
        place.write_text(json.dumps(content))

    def solve(function):
        def change(cell):
            source = source_of(cell)
            if "checks.topk(stable_top_k)" in source:
                cell["source"] = source.replace("checks.topk(", f"{function}\nchecks.topk(")
            if "checks.topk_recall(" in source:
                cell["source"] = source.replace("None, None", "{1, 2, 4}, {1, 2}")
            if source == ANSWER:  # left as it was, nbgrader gives it 0 points by itself
                cell["source"] = "A gradient reaches the regions that were chosen."

        return change

    hand_in("right", solve("def stable_top_k(a, k): return torch.sort(-a, dim=-1, stable=True).indices[..., :k]"))
    hand_in("wrong", solve("def stable_top_k(a, k): return a.topk(k, largest=False).indices"))
    hand_in("own", solve("from bra import top_k_regions as stable_top_k"))
    hand_in("edited", solve("checks.topk = lambda answer: True\ndef stable_top_k(a, k): return a.topk(k).indices + 1"))
    hand_in("empty", lambda cell: None)
    nbgrader("autograde", "03_topk", folder=course)
    with Gradebook(f"sqlite:///{course / 'gradebook.db'}") as gradebook:
        grades = {
            student: gradebook.find_submission("03_topk", student).score
            for student in ("right", "wrong", "own", "edited", "empty")
        }
        assert grades == {"right": 8, "wrong": 2, "own": 2, "edited": 2, "empty": 0}
        assert gradebook.find_assignment("03_topk").max_score == 10
        assert gradebook.find_submission("03_topk", "right").needs_manual_grade
