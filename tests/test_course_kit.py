"""What is handed out: student versions without solutions, and assignments that nbgrader releases and grades."""

import ast
import json
import os
import runpy
import shutil
import subprocess
import sys
from pathlib import Path

import nbformat
import pytest
from handed_in import OWN
from repository import ROOT

from bra.course.__main__ import Request, make, told
from bra.course.exercises import CALL, POINTS, asked, source_of
from bra.course.kit import ANSWER, BEGIN, END, for_nbgrader, for_students
from bra.course.pages import handed_out, repository, rubrics

STEMS = {path.stem.partition("_")[2]: own for path, own in OWN.items()}


def exercises(notebook):
    return [cell for cell in notebook["cells"] if "exercise" in cell["metadata"].get("tags", [])]


@pytest.mark.parametrize("stem", STEMS)
def test_a_student_version_is_the_notebook_without_solutions_and_says_what_is_asked(stem):
    made = for_students(STEMS[stem])
    nbformat.validate(nbformat.from_dict(made))
    text = json.dumps(made)
    assert "# @title Solution" not in text and '"solution"' not in text
    kept = [cell for cell in STEMS[stem]["cells"] if "solution" not in cell["metadata"].get("tags", [])]
    (answer,) = (cell for cell in made["cells"] if cell["source"] == ANSWER)
    assert made["cells"][made["cells"].index(answer) - 1]["id"] == exercises(STEMS[stem])[-1]["id"]
    made["cells"].remove(answer)
    assert answer["cell_type"] == "markdown" and [cell["id"] for cell in made["cells"]] == [cell["id"] for cell in kept]
    changed = [cell for cell, own in zip(made["cells"], kept, strict=True) if cell != own]
    asks = [one.check for one in asked()[stem] if one.check and not one.check.endswith("_recall")]
    assert len(changed) == len(asks)
    for cell, check in zip(changed, asks, strict=True):
        tree = ast.parse(cell["source"])
        (function,) = (node for node in tree.body if isinstance(node, ast.FunctionDef))
        said = ast.get_docstring(function)
        assert said.startswith(f"{function.name}(") and len(said) > 40
        assert cell["source"].endswith(f"checks.{check}({function.name})") and "..." in cell["source"]


@pytest.mark.parametrize("stem", STEMS)
def test_an_assignment_has_points_hidden_tests_and_a_rubric(stem):
    made = for_nbgrader(STEMS[stem], stem, 4711, "Given for a picture.")
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
    assert "**Rubric** of exercise 3, 2 points" in hand["source"] and "Given for a picture." in hand["source"]
    assert (
        hand["metadata"]["nbgrader"]["points"] == POINTS["investigate"] and not hand["metadata"]["nbgrader"]["locked"]
    )
    assert json.dumps(made).count("Given for a picture.") == 1, "what nbgrader does not replace would be released"
    assert not any("solution" in cell["metadata"].get("tags", []) for cell in made["cells"])
    assert [CALL.findall(source_of(cell)) for cell in exercises(made)] == [
        CALL.findall(source_of(cell)) for cell in exercises(STEMS[stem])
    ]


RUBRICS = "# Rubrics\n\nSecret rule.\n\n## 03_topk\n\n- Secret, of topk.\n\n## 04_gather\n\nSecret, of gather.\n"


@pytest.fixture(scope="module")
def made(tmp_path_factory):
    """A course of two notebooks."""
    folder = tmp_path_factory.mktemp("course")
    (folder / "notebooks").mkdir()
    (folder / "rubrics.md").write_text(RUBRICS)
    for stem in ("03_topk", "04_gather"):
        shutil.copy(ROOT / "notebooks" / f"{stem}.ipynb", folder / "notebooks")
    assert make(Request(folder / "out", folder / "notebooks", folder / "rubrics.md", variant=3)) == 2
    return folder / "out"


def texts(folder):
    return {path.relative_to(folder).as_posix(): path.read_text() for path in folder.rglob("*.*") if path.is_file()}


def test_the_command_makes_all_versions_and_students_see_no_rubric_and_no_solution(made):
    found = texts(made)
    names = ("03_topk", "04_gather")
    assert found.keys() == {"nbgrader/nbgrader_config.py"} | {
        file
        for name in names
        for file in (f"student/{name}.ipynb", f"instructor/{name}.ipynb", f"nbgrader/source/{name}/{name}.ipynb")
    }
    for file, text in found.items():
        assert ("Secret" in text) == ("instructor/" in file or "source/" in file), file
        assert ("@title Solution" in text) == ("student/" not in file and file.endswith(".ipynb")), file
        assert "Secret rule" not in text and ("colab.research" not in text), file
    assert (
        "Secret, of topk" in found["instructor/03_topk.ipynb"] and "of gather" not in found["instructor/03_topk.ipynb"]
    )


def test_what_is_missing_is_told(tmp_path):
    folder = tmp_path / "notebooks"
    folder.mkdir()
    with pytest.raises(ValueError, match="holds no notebook of this course"):
        make(Request(tmp_path / "out", folder))
    shutil.copy(ROOT / "notebooks" / "03_topk.ipynb", folder)
    (tmp_path / "rubrics.md").write_text("## 04_gather\n\nSecret")
    with pytest.raises(ValueError, match=r"rubrics\.md must have a heading ## 03_topk, and below it what the points"):
        make(Request(tmp_path / "out", folder, tmp_path / "rubrics.md"))
    with pytest.raises(FileNotFoundError):
        make(Request(tmp_path / "out", folder, tmp_path / "none.md"))
    with pytest.raises(ValueError, match="variant must be at least 1"):
        make(Request(tmp_path / "out", variant=0))
    assert not (tmp_path / "out").exists()


def test_every_notebook_has_a_rubric_of_its_own():
    given_for = rubrics((ROOT / "book" / "rubrics.md").read_text())
    assert given_for.keys() == {path.stem for path in OWN} and len({*given_for.values()}) == len(OWN)
    assert all(len(text) > 40 for text in given_for.values())


LINKS = runpy.run_path(str(ROOT / ".ci" / "links.py"))


def test_no_link_of_what_was_made_is_dead(made):
    for path in made.rglob("*.ipynb"):
        assert not LINKS["broken"](path, LINKS["markdown"](path)), path


@pytest.mark.parametrize("stem", STEMS)
@pytest.mark.parametrize("address", ["https://example.org/someone/course", ""])
def test_links_lead_to_notebooks_beside_it_or_to_files_that_the_repository_has(stem, address):
    beside = {"03_topk.ipynb"}
    made = handed_out(for_students(STEMS[stem]), beside, address)
    found = [link for cell in made["cells"] if cell["cell_type"] == "markdown"
             for link in LINKS["links"](source_of(cell))]  # fmt: skip
    ours = [link.partition("/blob/main/")[2].partition("#")[0] for link in found if address and address in link]
    assert bool(ours) == bool(address) and all((ROOT / path).is_file() for path in ours), ours
    assert not [path for path in ours if path.endswith(".ipynb")], "the published notebook has the solutions"
    assert {link for link in found if not link.startswith("https://")} <= beside
    assert not any("colab.research" in link or "kaggle" in link for link in found)


def test_only_a_real_address_is_one(monkeypatch, tmp_path):
    for owner, address in (("an_owner", ""), ("someone", "https://example.org/someone/course")):
        (tmp_path / "pyproject.toml").write_text(f'[project.urls]\nRepository = "https://example.org/{owner}/course"\n')
        monkeypatch.setattr("bra.course.pages.REPOSITORY", tmp_path)
        assert repository() == address


def test_what_was_made_is_told_in_a_few_lines(monkeypatch, capsys):
    told(Path("out"), 14)
    lines = capsys.readouterr().out.splitlines()
    assert 3 <= len(lines) <= 4 and all(len(line) <= 120 for line in lines)
    for line, word in zip(
        lines, ("out/student, 14", "out/nbgrader", "python -m bra.checks FOLDER --csv"), strict=False
    ):
        assert word in line
    monkeypatch.setattr("bra.course.__main__.find_spec", lambda name: None)
    told(Path("out"), 14)
    assert 'missing here: pip install -e ".[course]"' in capsys.readouterr().out


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
    (tmp_path / "rubrics.md").write_text(RUBRICS)
    cells = STEMS["topk"]["cells"]  # the imports and the exercises: what stands between takes a minute
    imports = next(cell for cell in cells if cell["cell_type"] == "code" and "    checks,\n" in source_of(cell))
    exercises_at = next(n for n, cell in enumerate(cells) if source_of(cell).startswith("## Exercises"))
    short = STEMS["topk"] | {"cells": [imports, *cells[exercises_at:]]}
    (folder / "03_topk.ipynb").write_text(json.dumps(short))
    course = tmp_path / "out" / "nbgrader"
    make(Request(tmp_path / "out", folder, tmp_path / "rubrics.md"))
    nbgrader("generate_assignment", "03_topk", folder=course)
    release = course / "release" / "03_topk" / "03_topk.ipynb"
    text = release.read_text()
    assert "HIDDEN" not in text and "SOLUTION" not in text and "argsort(dim=-1, descending" not in text
    assert "Rubric" not in text and "Secret" not in text and text.count(ANSWER) == 1

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
    nbgrader("generate_feedback", "03_topk", folder=course)
    page = (course / "feedback" / "wrong" / "03_topk" / "03_topk.html").read_text()
    assert "You take the smallest affinities" in page and "Secret" not in page
