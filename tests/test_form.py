"""The form of the repository: who imports whom, what stands where, and that the files that say the same agree."""

import ast
import json
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import nbformat
import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet

from bra.explorer.page import FRONT_END

ROOT = Path(__file__).parent.parent
# fmt: off
STEPS = ["patterns", "partition", "adjacency", "topk", "gather", "attention", "lce", "layer",
         "biformer", "kernels", "dense", "train", "explorer"]  # by number
# fmt: on
HELPERS = {}  # for the moment
APPLICATIONS = {"train", "explorer"}  # these two bring the steps and the helpers together
MODULES = sorted(path.stem for path in (ROOT / "bra").iterdir() if path.stem[0] != "_")  # a file, or a package
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PYPROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())


def files(module):
    """The files of a module of `bra`: one, or those of a package."""
    return sorted((ROOT / "bra" / module).glob("*.py")) or [ROOT / "bra" / f"{module}.py"]


def imported(path):
    """The modules of `bra` that a file imports."""
    names = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "bra":
            names |= {node.module.split(".")[1]} if "." in node.module else {alias.name for alias in node.names}
        if isinstance(node, ast.Import):
            names |= {alias.name.split(".")[1] for alias in node.names if alias.name.startswith("bra.")}
    return names


@pytest.mark.parametrize("module", MODULES)
def test_modules_import_only_what_they_may(module):
    assert module in STEPS or module in HELPERS, f"{module}: say here what it is and what it may import"
    if module in APPLICATIONS:
        allowed = set(STEPS[: STEPS.index(module)]) | (HELPERS.keys() - {"experiments", "bench"})
    elif module in STEPS:
        allowed = set(STEPS[: STEPS.index(module)]) | (
            {"arguments", "block"} if module == "biformer" else {"arguments"}
        )
    else:
        allowed = HELPERS[module]
    too_many = set().union(*map(imported, files(module))) - allowed - {module}
    assert not too_many, f"{module} may not import {too_many}"


def test_the_package_holds_every_folder():
    packages = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "bra").rglob("__init__.py")}
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == packages


def test_import_bra_loads_nothing_but_torch_einops_and_jaxtyping():
    script = (
        "import sys, torch, einops, jaxtyping; before = set(sys.modules); import bra; print(*set(sys.modules) - before)"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    # torch and einops load parts of themselves late
    outside = {name.split(".")[0] for name in loaded.split()} - {"bra", "torch", "einops", "jaxtyping"}
    assert not outside - set(sys.stdlib_module_names)


def test_oracles_are_independent():
    assert imported(ROOT / "tests" / "oracles.py") == set()


def test_every_module_has_its_tests_and_no_tests_are_orphans():
    tests = {path.stem.removeprefix("test_") for path in (ROOT / "tests").glob("test_*.py")}
    parts = {f"{module}_{path.stem}" for module in MODULES if module in tests for path in files(module)}
    assert tests - parts == {*MODULES, "form"}  # a file of a package may have its own, beside those of the package


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_notebooks_bear_the_number_and_the_name_of_their_module(path):
    number, stem = path.stem.split("_", 1)
    assert STEPS[int(number)] == stem
    assert stem in MODULES


def test_public_names_are_sorted_exist_and_hide_no_module():
    import bra

    assert all(hasattr(bra, name) for name in bra.__all__)
    assert not set(bra.__all__) & set(MODULES), "bra.partition must stay the module"
    for module in ("partition", "gather", "layer"):
        assert getattr(bra, module).__name__ == f"bra.{module}"


def all_requirements():
    lists = [PYPROJECT["project"]["dependencies"], *PYPROJECT["project"]["optional-dependencies"].values()]
    return {(r := Requirement(text)).name: r for texts in lists for text in texts if not text.startswith("bra[")}


def test_constraints_pin_a_version_that_pyproject_allows():
    lines = [line for line in (ROOT / ".ci" / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    pins = {Requirement(line).name.lower().replace("_", "-"): Requirement(line).specifier for line in lines}
    for name, requirement in all_requirements().items():
        (pin,) = pins[name]
        assert pin.operator == "==", name
        assert pin.version in requirement.specifier, f"{name} {pin} is outside {requirement.specifier}"


def test_all_means_all_extras():
    extras = PYPROJECT["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    assert Requirement(everything).extras == extras.keys() - {"all"}


def test_environment_yml_agrees_with_pyproject():
    content = yaml.safe_load((ROOT / "environment.yml").read_text())
    conda = [line for line in content["dependencies"] if isinstance(line, str)]
    (pip,) = [line["pip"] for line in content["dependencies"] if isinstance(line, dict)]
    python = conda[0].removeprefix("python ")
    assert SpecifierSet(python) == SpecifierSet(PYPROJECT["project"]["requires-python"])
    assert pip == ["-c .ci/constraints.txt", "-e .[all]"]
    rattler = pytest.importorskip("rattler", reason="py-rattler, which knows conda's grammar, has no wheel here")
    assert [rattler.MatchSpec(line, strict=True).name.normalized for line in conda] == ["python", "pip"]


def test_readme_ci_and_workflow_run_the_same_targets():
    makefile, run, workflow, readme = (
        (ROOT / name).read_text() for name in ("Makefile", ".ci/run", ".github/workflows/ci.yml", "README.md")
    )
    targets = set(re.findall(r"^(\w+):.*## ", makefile, re.M))
    assert set(re.search(r"\.PHONY: (.*)", makefile)[1].split()) == targets
    for text in (run, workflow, readme):
        used = set(re.findall(r"^[ `-]*(?:run: )?make (\w+)", text, re.M))
        assert used >= {"test"} and used <= targets
    supported = SpecifierSet(PYPROJECT["project"]["requires-python"])
    tested = yaml.safe_load(workflow)["jobs"]["test"]["strategy"]["matrix"]["python"]
    minors = [f"3.{minor}" for minor in range(30) if f"3.{minor}.0" in supported]
    assert tested == [minors[0], minors[-1]], "the workflow must try the oldest and the newest Python"


def test_readme_code_runs():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_readme_map_marks_what_exists():
    rows = re.findall(r"^\| (\d\d) \| (.*?) \|", (ROOT / "README.md").read_text(), re.M)
    assert [int(number) for number, _ in rows] == list(range(len(STEPS)))
    written = {path.stem for path in NOTEBOOKS}
    for number, cell in rows:
        name = f"{number}_{STEPS[int(number)]}"
        expected = f"[{STEPS[int(number)]}](notebooks/{name}.ipynb)" if name in written else STEPS[int(number)]
        assert cell == expected
    ready = re.findall(r"^\| (\d\d) \|.*\| \*\*to read now\*\* \|$", (ROOT / "README.md").read_text(), re.M)
    assert ready == [name[:2] for name in sorted(written)]


def test_contributing_has_a_place_for_every_module():
    text = (ROOT / "CONTRIBUTING.md").read_text()
    assert not [module for module in MODULES if f"`{module}`" not in text and module not in ("kernels", "dense")]


def test_make_test_compares_notebooks_and_make_notebooks_keeps_folds():
    makefile = (ROOT / "Makefile").read_text()
    assert "pytest --nbval notebooks/" in makefile
    assert "preserve_cell_metadata_mask=\"{'tags', 'jupyter', 'cellView'}\"" in makefile


@pytest.mark.parametrize("name", ["README.md", "CONTRIBUTING.md", "book/index.md", "book/glossary.md"])
def test_relative_links_lead_somewhere(name):
    for link in re.findall(r"\]\(([^)#:]+)[^):]*\)", (ROOT / name).read_text()):
        assert (ROOT / name).parent.joinpath(link).exists(), link


RESULTS = {path.stem: json.loads(path.read_text()) for path in (ROOT / "book" / "results").glob("*.json")}


@pytest.mark.parametrize("name", RESULTS)
def test_results_say_where_they_come_from(name):
    assert RESULTS[name]["command"].startswith(("python -m bra.", "python .ci/"))
    assert RESULTS[name]["environment"].keys() >= {"date", "commit", "processor", "threads", "python", "torch"}


def mean(values):
    return sum(values) / len(values)


def test_readme_tables_are_those_of_the_results():
    readme = (ROOT / "README.md").read_text()
    runs = RESULTS["recall_routers"]["runs"]
    for label in dict.fromkeys(run["label"] for run in runs):
        found = [run["held_out"] for run in runs if run["label"] == label]
        accuracies, hits = [f["accuracy"] for f in found], [max(f["hit_rate"]) for f in found]
        row = f"| {label} | {mean(accuracies):.1%} | {min(accuracies):.1%} | {mean(hits):.2f} | {min(hits):.2f} |"
        assert row in readme, f"README.md must hold the row {row}"
    runs = RESULTS["fashion_mnist"]["runs"]
    for label in dict.fromkeys(run["label"] for run in runs):
        found = " | ".join(f"{run['held_out']['accuracy']:.1%}" for run in runs if run["label"] == label)
        assert f"| {label} | {found} |" in readme, f"README.md must hold the row | {label} | {found} |"
    measured = {}
    for row in RESULTS["bench_all_cpu"]["rows"]:
        case = tuple(str(value) for key, value in row.items() if key in CASE)
        measured.setdefault(case, {})[row["way"]] = row
    for ways in measured.values():
        if line := readme_line(ways):
            assert line in readme, f"README.md must hold the row {line}"


CASE = {"part", "b", "r", "t", "c", "k", "side", "grid", "name", "size", "mode"}


def readme_line(ways):
    """The line of README.md for one case of the bench; None for those that are not told there."""
    ours = ways["ours"]
    if ours["part"] == "core":
        spent, theirs = 1000 * ours["seconds"], 1000 * ways["expanded"]["seconds"]
        sizes = "| {b} | {r} | {t} | {c} | {k} |".format(**ours)
        return f"{sizes} {theirs:.0f} | {spent:.0f} | {theirs / spent:.0f} |"
    if ours["part"] == "model":
        spent, theirs = ours["seconds"], ways["official"]["seconds"]
        sizes = "| {name} | {b} | {size} | {grid} x {grid} | {mode} |".format(**ours)
        smaller = ways["official"]["bytes"] / ours["bytes"]
        return f"{sizes} {theirs:.2f} | {spent:.2f} | {theirs / spent:.1f} | {smaller:.1f} |"
    return None


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
        known = {"nbval-ignore-output", "exercise", "solution", "hide-cell", "parameters"}  # the last is papermill's
        assert used <= known, "an unknown tag does nothing"

    def test_is_clean_and_small(self, path):
        notebook = nbformat.read(path, 4)
        nbformat.validate(notebook)
        assert notebook.metadata == {
            "kernelspec": {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"},
            "language_info": {"name": "python", "file_extension": ".py", "nbconvert_exporter": "python"},
        }
        hidden = {"source_hidden": True, "outputs_hidden": True}
        folded = {"jupyter": hidden, "cellView": "form"}  # in JupyterLab and VS Code, and in Colab
        for cell in notebook.cells:
            tags = cell.metadata.pop("tags", [])
            solved = cell.source.startswith("# @title Solution")
            assert cell.metadata == (folded if solved else {}), cell.source
            assert tags == ["solution", "hide-cell"] if solved else "hide-cell" not in tags
            assert solved or "solution" not in tags or cell.cell_type == "markdown", cell.source
        assert path.stat().st_size < 1_500_000

    def test_cells_are_short_and_end_without_a_semicolon(self, path):
        for cell in nbformat.read(path, 4).cells:
            if cell.cell_type == "code":
                assert len(cell.source.splitlines()) <= 30, cell.source
                assert not cell.source.rstrip().endswith(";"), cell.source
                assert '"../' not in cell.source, "bra.files.results finds it from any folder"
            else:
                prose = re.sub(r"^\|.*\|$|\$.*?\$", "", cell.source, flags=re.M)
                folded = re.findall(r"<details>.*?</details>", prose, re.S)
                for block in [re.sub(r"<details>.*?</details>", "", prose, flags=re.S), *folded]:
                    words = re.sub(r"<[^>]*>", "", block).split()
                    assert len(words) <= 80, f"{len(words)} words: {block}"

    def test_pictures_have_alternative_text(self, path):
        for cell in nbformat.read(path, 4).cells:
            for output in cell.get("outputs", []):
                if "image/png" in output.get("data", {}):
                    assert len(output.metadata["image/png"]["alt"]) > 40
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
STEP_NOTEBOOKS = [path for path in NOTEBOOKS if int(path.stem[:2]) <= 8]


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
        assert 40 <= len(cells) <= 70, len(cells)
        lines = [line for cell in cells if cell.cell_type == "markdown" for line in cell.source.splitlines()]
        places = []
        for section in SECTIONS:
            found = [n for n, line in enumerate(lines) if re.match(rf"\**{section}", line)]
            assert found, f"no line like {section}"
            places.append(found[0])
        assert places == sorted(places)

    def test_begins_with_its_map(self, path):
        first = next(cell for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")
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
        assert f"checks.{path.stem[3:]}_recall(" in next(
            c.source for c in cells if "exercise" in c.metadata.get("tags", [])
        )
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

    def test_where_the_issue_asks_for_it_a_figure_answers(self, path):
        source = "".join(cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "code")
        assert ("interact." in source) == (path.stem[:2] in ("02", "03", "04", "07"))


def test_book_builds_and_needs_no_network(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-c", "book", ".", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    pages = [page for folder in ("book", "notebooks") for page in (tmp_path / folder).rglob("*.html")]
    assert {page.stem for page in pages} == {"index", "glossary", *(path.stem for path in NOTEBOOKS)}
    for page in pages:
        html = page.read_text()
        remote = re.findall(r"<(?:script|link|img|iframe)[^>]*?(?:src|href)=\"((?:https?:)?//[^\"]*)\"", html)
        assert not remote, f"{page.name} loads {remote}"
        for image in re.findall(r"<img[^>]*>", html):
            assert re.search(r"alt=\"(?![^\"]*\.png)[^\"]+\"", image), f"{page.name}: {image}"
