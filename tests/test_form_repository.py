"""The files beside the code: packaging, targets, README, CONTRIBUTING; and that every module has its tests."""

import re

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from repository import MODULES, NOTEBOOKS, PYPROJECT, ROOMS, ROOT, STEMS, STEPS


def test_the_package_holds_every_folder():
    packages = {".".join(path.parent.relative_to(ROOT).parts) for path in (ROOT / "bra").rglob("__init__.py")}
    assert set(PYPROJECT["tool"]["setuptools"]["packages"]) == packages


def test_the_package_holds_every_file_that_is_not_python():
    data = PYPROJECT["tool"]["setuptools"]["package-data"]
    folders = {package: ROOT / package.replace(".", "/") for package in data}
    named = {path for package, patterns in data.items() for name in patterns for path in folders[package].glob(name)}
    files = {path for path in (ROOT / "bra").rglob("*.*") if path.suffix not in (".py", ".pyc")}
    assert named == files


def test_every_module_has_its_tests_and_no_tests_are_orphans():
    tests = {path.stem.removeprefix("test_") for path in (ROOT / "tests").glob("test_*.py")}
    rooms = [module for module in MODULES if (ROOT / "bra" / module).is_dir()]
    for module in MODULES:
        own = {test for test in tests if test == module or (module in rooms and test.startswith(f"{module}_"))}
        assert own, f"nothing tests bra/{module}: write tests/test_{module}.py"
    inside = [path for room in rooms for path in (ROOT / "bra" / room).iterdir()]  # files, and rooms in a room
    files = {
        f"{path.parent.name}_{path.stem}" for path in inside if path.suffix == ".py" or (path / "__init__.py").exists()
    }
    orphans = {test for test in tests - {*MODULES} - files if not test.startswith(("explorer_", "form_"))}
    assert not orphans, f"{orphans}: tests bear the name of a step, a room, or a room and a file in it"


def all_requirements():
    lists = [PYPROJECT["project"]["dependencies"], *PYPROJECT["project"]["optional-dependencies"].values()]
    found = {(r := Requirement(text)).name: r for texts in lists for text in texts}
    return {name: r for name, r in found.items() if name != PYPROJECT["project"]["name"]}  # an extra may hold others


def test_constraints_pin_a_version_that_pyproject_allows():
    lines = [line for line in (ROOT / ".ci" / "constraints.txt").read_text().splitlines() if line and line[0] != "#"]
    pins = {Requirement(line).name.lower().replace("_", "-"): Requirement(line).specifier for line in lines}
    for name, requirement in all_requirements().items():
        (pin,) = (each for each in pins[name] if each.operator != "!=")  # other builds of a version may be excluded
        assert pin.operator == "==", name
        assert pin.version in requirement.specifier, f"{name} {pin} is outside {requirement.specifier}"


def test_all_means_all_extras():
    extras = PYPROJECT["project"]["optional-dependencies"]
    (everything,) = extras["all"]
    assert Requirement(everything).extras == extras.keys() - {"all"}
    assert Requirement(everything).name == PYPROJECT["project"]["name"]


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
    targets = set(re.findall(r"^([\w-]+):.*## ", makefile, re.M))
    assert set(re.search(r"\.PHONY: (.*)", makefile)[1].split()) == targets
    for text in (run, workflow, readme):
        used = set(re.findall(r"^[ `-]*(?:run: )?make ([\w-]+)", text, re.M))
        assert used >= {"test"} and used <= targets
    supported = SpecifierSet(PYPROJECT["project"]["requires-python"])
    tested = yaml.safe_load(workflow)["jobs"]["test"]["strategy"]["matrix"]["python"]
    minors = [f"3.{minor}" for minor in range(30) if f"3.{minor}.0" in supported]
    assert tested == [minors[0], minors[-1]], "the workflow must try the oldest and the newest Python"


def test_make_test_compares_notebooks_and_make_notebooks_keeps_folds():
    makefile = (ROOT / "Makefile").read_text()
    assert "--nbval notebooks/" in makefile
    assert "preserve_cell_metadata_mask=\"{'tags', 'jupyter', 'cellView'}\"" in makefile


def test_code_of_readme_runs():
    blocks = re.findall(r"```python\n(.*?)```", (ROOT / "README.md").read_text(), re.S)
    assert blocks
    for block in blocks:
        exec(compile(block, "README.md", "exec"), {})


def test_readme_map_marks_what_exists():
    rows = re.findall(r"^\| (\d\d) \| (.*?) \|", (ROOT / "README.md").read_text(), re.M)
    assert [int(number) for number, _ in rows] == list(range(len(STEMS)))
    written = {path.stem for path in NOTEBOOKS}
    for number, cell in rows:
        name = f"{number}_{STEMS[int(number)]}"
        expected = f"[{STEMS[int(number)]}](notebooks/{name}.ipynb)" if name in written else STEMS[int(number)]
        assert cell == expected, f"README.md, the row of {number}: {cell!r} must be {expected!r}"


def test_readme_is_a_front_page():
    text = (ROOT / "README.md").read_text()
    assert text.count("\n") < 150, "details belong into the book"
    for name in ("explorer", "speed"):
        image = rf'<img src="book/_static/{name}\.png" width="\d+%" alt="[^"]{{40,}}">'
        assert re.search(image, text), f"README.md shows {name}.png, and says what is to be seen"


def contributing_tree():
    """The names that CONTRIBUTING.md lists in each folder, {path of the folder: names, folders with a slash}."""
    block = re.search(r"^```\n(book/.*?)^```", (ROOT / "CONTRIBUTING.md").read_text(), re.S | re.M)[1]
    found, inside = {}, []
    for line in block.splitlines():
        names = line.strip().partition("  ")[0].split()  # two spaces lead to the description
        del inside[(len(line) - len(line.lstrip())) // 2 :]
        found.setdefault("/".join(inside), []).extend(names)
        if line.strip().partition("  ")[0].endswith("/"):
            inside.append(names[-1].rstrip("/"))
    return found


def shown(path):
    """A file or folder as CONTRIBUTING.md shows it."""
    return f"{path.name}/" if path.is_dir() else path.name.removesuffix(".py")


def test_the_tree_of_contributing_is_that_of_the_repository():
    tree = contributing_tree()
    assert tree[""] == ["book/", "notebooks/", "tests/", "bra/"] and tree["tests"] == ["support/"]
    rooms = [module for module in MODULES if (ROOT / "bra" / module).is_dir()]
    assert tree.keys() >= {"tests/support", "bra", *(f"bra/{room}" for room in rooms)}
    for folder in tree.keys() - {"", "tests"}:
        exist = {shown(path) for path in (ROOT / folder).iterdir() if not path.name.startswith(("__", "."))}
        missing, gone = exist - {*tree[folder]}, {*tree[folder]} - exist
        assert not missing and not gone, f"CONTRIBUTING.md, {folder}/: {missing} is missing, {gone} does not exist"
        assert len(tree[folder]) == len(exist), f"CONTRIBUTING.md, {folder}/ lists something twice"


def test_the_arrows_of_contributing_are_those_of_the_imports():
    text, order = (ROOT / "CONTRIBUTING.md").read_text(), [name.rstrip("/") for name in contributing_tree()["bra"]]
    assert f"files --> {' --> '.join(ROOMS)}\n" in text
    assert f"arguments --> {STEPS[0]} --> {STEPS[1]} --> " in text
    assert [name for name in order if name in ROOMS] == ROOMS
    assert [name for name in order if name in STEPS] == [step for step in STEPS if step in MODULES]
