"""The form of the notebooks: executed, clean, readable on a small screen and by ear, the same rhythm in every step."""

import ast
import re
from typing import NamedTuple

import nbformat
import pytest
from repository import MODULES, NOTEBOOKS, PYPROJECT, ROOT, STEMS

from bra.explorer.join import FRONT_END

FETCH = next(cell.source for cell in nbformat.read(NOTEBOOKS[0], 4).cells if cell.cell_type == "code")


class Limit(NamedTuple):
    """How many of something a notebook may have, and why."""

    least: int
    most: int
    reason: str


LIMITS = {
    "cells of a step": Limit(40, 70, "half an hour: fewer leave a question open, more are not read to their end"),
    "lines of a code cell": Limit(0, 30, "what is shown is read whole, without scrolling away from its output"),
    "columns of a line of code": Limit(0, 88, "the book's column is so wide: more is cut off, on a phone sooner"),
    "words of a block": Limit(0, 80, "more without a break is skipped; tables, formulas and folded hints count apart"),
    "characters of an alternative text": Limit(41, 800, "less says no more than a title; more, nobody listens to"),
    "bytes of a notebook": Limit(0, 1_500_000, "larger ones open slowly, and each version of one stays in the history"),
}


def require(what, value, where):
    """Fail, with the reason, where `value` is outside LIMITS[what]."""
    least, most, reason = LIMITS[what]
    assert least <= value <= most, f"{value} {what}, but from {least} to {most} are allowed ({reason}): {where}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_bear_the_number_and_the_name_of_their_module(path):
    number, stem = path.stem.split("_", 1)
    assert STEMS[int(number)] == stem
    assert stem in MODULES or list((ROOT / "bra").glob(f"*/{stem}.py")), f"nothing in bra bears the name {stem}"


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestNotebook:
    def test_is_executed_in_order_without_errors(self, path):
        code = [c for c in nbformat.read(path, 4).cells if c.cell_type == "code"]
        assert [c.execution_count for c in code] == list(range(1, len(code) + 1))
        assert not any(o.output_type == "error" or o.get("name") == "stderr" for c in code for o in c.outputs)

    def test_no_widget_without_its_kernel_hides_the_picture_beside_it(self, path):
        for cell in nbformat.read(path, 4).cells:
            for output in cell.get("outputs", []):
                assert "application/vnd.jupyter.widget-view+json" not in output.get("data", {}), "run make notebooks"

    def test_stored_explorers_are_those_of_the_present_front_end(self, path):
        for cell in nbformat.read(path, 4).cells:
            for output in cell.get("outputs", []):
                page = output.get("data", {}).get("text/html", "")
                assert "data-explorer" not in page or FRONT_END in page, "run make notebooks"

    def test_every_output_is_compared_or_says_that_it_is_not(self, path):
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type == "code" and "nbval-ignore-output" not in cell.metadata.get("tags", []):
                assert "nbval" not in cell.source.lower(), "say it with a tag, which the reader of the file sees"
                for output in cell.outputs:
                    kinds = {"text/plain"} if output.output_type == "stream" else set(output.data)
                    assert kinds & {"text/plain", "text/html", "text/markdown"}, f"nothing compared: {cell.source}"
        used = {tag for cell in nbformat.read(path, 4).cells for tag in cell.metadata.get("tags", [])}
        known = {"nbval-ignore-output", "exercise", "solution", "hide-cell", "remove-cell"}
        assert used <= known | {"parameters"}, "an unknown tag does nothing"  # that one is papermill's

    def test_is_clean_and_small(self, path):
        notebook = nbformat.read(path, 4)
        nbformat.validate(notebook)
        assert notebook.metadata == {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python", "file_extension": ".py", "nbconvert_exporter": "python"},
        }
        hidden = {"source_hidden": True, "outputs_hidden": True}
        folded = {"jupyter": hidden, "cellView": "form"}  # in JupyterLab and VS Code, and in Colab
        fetch = next(cell for cell in notebook.cells if cell.cell_type == "code")
        assert fetch.metadata == {"tags": ["remove-cell"], "jupyter": {"source_hidden": True}, "cellView": "form"}
        for cell in (cell for cell in notebook.cells if cell is not fetch):
            tags = cell.metadata.pop("tags", [])
            solved = cell.source.startswith("# @title Solution")
            assert cell.metadata == (folded if solved else {}), cell.source
            assert tags == ["solution", "hide-cell"] if solved else not {"hide-cell", "remove-cell"} & {*tags}
            assert solved or "solution" not in tags or cell.cell_type == "markdown", cell.source
        require("bytes of a notebook", path.stat().st_size, path.name)

    def test_opens_in_colab_and_kaggle(self, path):
        repository = PYPROJECT["project"]["urls"]["Repository"]
        page = f"{repository}/blob/main/notebooks/{path.name}"
        colab = page.replace("https://github.com/", "https://colab.research.google.com/github/")
        links = f"[Open in Colab]({colab}),\n[in Kaggle](https://kaggle.com/kernels/welcome?src={page})"
        cells = nbformat.read(path, 4).cells
        assert cells[0].source.split("\n\n")[2] == links, "below the line that says how long it takes"
        first = next(n for n, cell in enumerate(cells) if cell.cell_type == "code")
        assert cells[first - 1].source.startswith("**After this notebook you can**"), "goals come before code"
        assert cells[first].source == FETCH, "the cell that fetches bra is the same in all notebooks"
        assert f'"{repository}"' in FETCH and not cells[first].outputs

    def test_cells_are_short_and_end_without_a_semicolon(self, path):
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type == "code":
                require("lines of a code cell", len(cell.source.splitlines()), cell.source)
                require("columns of a line of code", max(map(len, cell.source.splitlines()), default=0), cell.source)
                assert not cell.source.rstrip().endswith(";"), cell.source
                assert '"../' not in cell.source or cell.source == FETCH, "bra.files.results finds it from any folder"
            else:
                prose = re.sub(r"^\|.*\|$|\$.*?\$", "", cell.source, flags=re.M)
                folded = re.findall(r"<details>.*?</details>", prose, re.S)
                for block in [re.sub(r"<details>.*?</details>", "", prose, flags=re.S), *folded]:
                    require("words of a block", len(re.sub(r"<[^>]*>", "", block).split()), block)

    def test_pictures_have_alternative_text(self, path):
        for cell in nbformat.read(path, 4).cells:
            for output in cell.get("outputs", []):
                if "image/png" in output.get("data", {}):
                    alternative = output.metadata["image/png"]["alt"]
                    require("characters of an alternative text", len(alternative), alternative)
        assert not re.search(r"!\[\]", path.read_text())

    def test_links_lead_somewhere(self, path):
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type == "markdown":
                for link in re.findall(r"\]\(([^)#:]+)[^):]*\)", cell.source):
                    assert (path.parent / link).exists(), link


SECTIONS = [
    r"# .*\?$", r"After this notebook you can", r"## A toy", r"## Break it", r"## On a photograph",
    r"## The same in `bra`",
    r"## Paper, official code, ours", r"## Exercises", r"### 1\. Recall", r"### 2\. Implement", r"### 3\. Investigate",
    r"## Recap", r"## References",
]  # fmt: skip
STEP_NOTEBOOKS = [path for path in NOTEBOOKS if int(path.stem[:2]) <= 10]


def outside_functions(node):
    """The nodes of a syntax tree that are not inside a function or class, these themselves among them."""
    yield node
    if not isinstance(node, (ast.FunctionDef, ast.ClassDef, ast.Lambda)):
        for child in ast.iter_child_nodes(node):
            yield from outside_functions(child)


@pytest.mark.parametrize("path", STEP_NOTEBOOKS, ids=lambda path: path.stem)
class TestStepNotebook:
    def test_has_its_sections_in_order(self, path):
        cells = nbformat.read(path, 4).cells
        require("cells of a step", len(cells) - 1, path.name)  # the one that fetches bra is not read
        lines = [line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
        places = []
        for section in SECTIONS:
            found = [n for n, line in enumerate(lines) if re.match(rf"\**{section}", line)]
            assert found, f"no line like {section}"
            places.append(found[0])
        assert places == sorted(places)

    def test_begins_with_its_map(self, path):
        _, first, *_ = (cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")
        assert first.source.endswith(f'draw.bra_map("{path.stem[3:]}")')

    def test_exercises_have_hints_a_check_and_solutions(self, path):
        cells = nbformat.read(path, 4).cells
        tagged = [tag for cell in cells for tag in cell.metadata.get("tags", []) if tag in ("exercise", "solution")]
        assert tagged == ["exercise", "solution", "solution"] * 3  # a line of text announces the solution
        text = "".join(cell.source for cell in cells if cell.cell_type == "markdown")
        assert text.count("<summary>Hint 1</summary>") == text.count("<summary>Hint 2</summary>") == 3
        asked, solved = (
            [c for c in cells if tag in c.metadata.get("tags", []) and f"checks.{path.stem[3:]}(" in c.source]
            for tag in ("exercise", "solution")
        )
        assert len(asked) == len(solved) == 1
        first = next(c.source for c in cells if "exercise" in c.metadata.get("tags", []))
        assert f"checks.{path.stem[3:]}_recall(" in first, "a wrong answer must be told"
        assert asked[0].outputs[-1].data["text/plain"] == "Not yet. Your function returns nothing yet."
        assert solved[0].outputs[-1].data["text/plain"].startswith("Right. ")
        for cell in cells:
            if cell.source.startswith("# @title Solution"):
                assert any(isinstance(node, ast.Assert) for node in ast.walk(ast.parse(cell.source))), cell.source

    def test_without_its_solutions_it_still_makes_sense(self, path):
        code = [cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code"]
        stored, loaded = {True: set(), False: set()}, set()
        for cell in code:
            solved = "solution" in cell.metadata.get("tags", [])
            for node in outside_functions(ast.parse(cell.source)):
                if isinstance(node, ast.FunctionDef):
                    stored[solved].add(node.name)
                elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                    stored[solved].add(node.id)
                elif isinstance(node, ast.Name) and not solved:
                    loaded.add(node.id)
        assert not loaded & (stored[True] - stored[False]), "the student's version lacks these names"

    def test_only_what_takes_time_or_is_trained_is_not_compared(self, path):
        for cell in nbformat.read(path, 4).cells:
            if "nbval-ignore-output" in cell.metadata.get("tags", []):
                assert re.search(r"median_seconds\(|time_ratio\(|learn\(", cell.source), cell.source

    def test_shows_and_equals_the_function_of_the_package(self, path):
        source = "".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")
        assert "inspect.getsource(" in source
        assert "photograph(" in source

    def test_where_clicking_teaches_a_figure_answers_a_click(self, path):
        source = "".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")
        assert ("interact." in source) == (path.stem[:2] in ("02", "03", "04", "07"))
