"""What is published: its name and version, the archives, the workflows that build them, and on which versions."""

import re
import runpy
import shutil
import subprocess
import sys
import zipfile

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from repository import NOTEBOOKS, PYPROJECT, ROOT, STEPS

import bra
from bra.arguments import DISTRIBUTION

RELEASE = runpy.run_path(str(ROOT / ".ci" / "release.py"))
WORKFLOWS = {path.name: path for path in (ROOT / ".github" / "workflows").iterdir()}
NAMING = [*(ROOT / "bra").rglob("*.py"), *ROOT.glob("*.md"), *(ROOT / "book").rglob("*.md"), *NOTEBOOKS]


def wrong_installs(text):
    """What a text tells to install that is not this package, or an extra that it has not."""
    extras = PYPROJECT["project"]["optional-dependencies"].keys()
    named = re.findall(r"pip install[^\n`]*?\"([\w-]+)\[([\w,]*)\]", text.replace('\\"', '"'))
    return [f"{name}[{found}]" for name, found in named if name != DISTRIBUTION or {*found.split(",")} - extras]


def test_pip_and_the_code_call_it_by_one_name():
    assert PYPROJECT["project"]["name"] == DISTRIBUTION
    for texts in PYPROJECT["project"]["optional-dependencies"].values():
        assert all(Requirement(text).name == DISTRIBUTION for text in texts if Requirement(text).extras)


@pytest.mark.parametrize("path", NAMING, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_what_is_said_to_install_is_this_package(path):
    assert not wrong_installs(path.read_text(encoding="utf-8"))


def test_another_package_and_a_missing_extra_are_told():
    assert wrong_installs(f'pip install "{DISTRIBUTION}[dense]" and pip install -e ".[all]"') == []
    assert wrong_installs('pip install "bra[dense]"') == ["bra[dense]"]
    assert wrong_installs(r"pip install \"bra[dense]\"") == ["bra[dense]"]
    assert wrong_installs(f'pip install "{DISTRIBUTION}[gone]"') == [f"{DISTRIBUTION}[gone]"]


def test_the_version_is_semantic_has_one_owner_and_a_section_in_the_changelog():
    assert re.fullmatch(r"\d+\.\d+\.\d+", bra.__version__)
    assert PYPROJECT["project"]["dynamic"] == ["version"] and RELEASE["version"]() == bra.__version__
    changelog = (ROOT / "CHANGELOG.md").read_text()
    assert re.findall(r"^## \[(.*?)\]", changelog, re.M)[:2] == ["Unreleased", bra.__version__]
    dated = changelog.replace("not released yet", "2026-01-02")
    assert not RELEASE["faults_of_tag"](f"v{bra.__version__}", bra.__version__, dated)


RIGHT = (
    "# Changelog\n\n## [Unreleased]\n\n## [1.2.3] - 2026-01-02\n\n### Added\n\n- A layer.\n\n## [1.2.2] - 2026-01-01\n"
)


@pytest.mark.parametrize(
    "tag, changelog, fault",
    [
        ("1.2.3", RIGHT, "the tag is 1.2.3, but"),
        ("v1.2.4", RIGHT, "the tag is v1.2.4, but"),
        ("v1.2.3", RIGHT.replace("1.2.3", "1.2.0"), "has no section 1.2.3"),
        ("v1.2.3", RIGHT.replace("1.2.3", "11213"), "has no section 1.2.3"),
        ("v1.2.3", RIGHT.replace("2026-01-02", "not released yet"), "must say when"),
        ("v1.2.3", RIGHT.replace("- A layer.", ""), "says nothing about 1.2.3"),
    ],
)
def test_a_tag_that_is_no_release_is_told(tag, changelog, fault):
    assert not RELEASE["faults_of_tag"]("v1.2.3", "1.2.3", RIGHT)
    (found,) = RELEASE["faults_of_tag"](tag, "1.2.3", changelog)
    assert fault in found


@pytest.fixture(scope="module")
def archives(tmp_path_factory):
    """A wheel and an archive of sources, built from a copy of what they hold."""
    clone, out = tmp_path_factory.mktemp("clone"), tmp_path_factory.mktemp("dist")
    for name in ("bra", "tests"):
        shutil.copytree(ROOT / name, clone / name, ignore=shutil.ignore_patterns("__pycache__", ".*"))
    for name in ("pyproject.toml", "MANIFEST.in", "README.md", "CHANGELOG.md", "LICENSE"):
        shutil.copy(ROOT / name, clone)
    build = "import sys; from setuptools.build_meta import *; out = sys.argv[1]; build_sdist(out); build_wheel(out)"
    built = subprocess.run([sys.executable, "-c", build, out], cwd=clone, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return out


def test_wheel_and_sources_hold_what_they_must(archives):
    assert not RELEASE["faults_of_archives"](archives)
    held = RELEASE["package_files"]()
    assert held >= {"bra/py.typed", "bra/data/imagenet100.txt", "bra/explorer/front_end/main.js", "bra/layer.py"}


def test_a_file_that_archives_lack_and_one_too_many_are_told(archives, tmp_path):
    (tmp_path / "bra").mkdir()
    for name in ("bra/new.txt", "bra/__init__.py"):
        (tmp_path / name).touch()
    faults = RELEASE["faults_of_archives"](archives, tmp_path)
    wheel, sources = (path.name for pattern in ("*.whl", "*.tar.gz") for path in archives.glob(pattern))
    assert {f"{wheel} lacks bra/new.txt", f"{wheel} needs no bra/layer.py", f"{sources} lacks bra/new.txt"} <= {*faults}


def test_the_wheel_imports_and_runs_by_itself(archives, tmp_path):
    (wheel,) = archives.glob("*.whl")
    zipfile.ZipFile(wheel).extractall(tmp_path)
    command = [sys.executable, "-W", "error", ROOT / ".ci" / "bare.py"]
    ran = subprocess.run(
        command, cwd=tmp_path, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False
    )
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith(f"{DISTRIBUTION} {bra.__version__} on torch ") and str(tmp_path) in ran.stdout


@pytest.mark.parametrize("name", WORKFLOWS)
def test_workflows_are_read_and_run_what_exists(name):
    text = WORKFLOWS[name].read_text()
    content = yaml.safe_load(text)
    assert content["name"] == name.removesuffix(".yml") and content[True]  # YAML 1.1 reads `on` as true
    assert content["permissions"] == {"contents": "read"}, "what a workflow may change is said by the job that needs it"
    for job in content["jobs"].values():
        assert all(len(step.keys() & {"run", "uses"}) == 1 for step in job["steps"])
        assert {*job.get("needs", "").split()} <= content["jobs"].keys()
    for file in re.findall(r"\.ci/[\w.]+|tests/[\w.*]+", text):
        assert list(ROOT.glob(file)), f"{name} runs {file}"


def test_a_tag_is_checked_before_it_is_built_and_all_before_it_is_published():
    release = yaml.safe_load(WORKFLOWS["release.yml"].read_text())
    assert release[True] == {"push": {"tags": ["v*"]}}
    build, publish = release["jobs"]["build"], release["jobs"]["publish"]
    commands = [step["run"] for step in build["steps"] if "run" in step]
    order = ["release.py tag", "-m build", "twine check", "release.py dist", "pip install dist/*.whl", "bare.py"]
    places = [next(n for n, command in enumerate(commands) if part in command) for part in order]
    assert places == sorted(places)
    assert publish["needs"] == "build" and publish["permissions"] == {"id-token": "write"} and publish["environment"]
    assert not any("run" in step for step in publish["steps"]), "what may publish runs nothing of ours"


def test_the_oldest_versions_are_those_that_pyproject_claims():
    project = PYPROJECT["project"]
    lines = (ROOT / ".ci" / "oldest.txt").read_text().splitlines()[1:]
    oldest = {Requirement(line).name: Requirement(line).specifier for line in lines}
    claims = [
        *project["dependencies"],
        *(text for texts in project["optional-dependencies"].values() for text in texts),
    ]
    floors = {(r := Requirement(text)).name: str(r.specifier).removeprefix(">=") for text in claims}
    assert oldest.keys() >= {Requirement(text).name for text in project["dependencies"]}
    del oldest["numpy"]  # not the oldest, but the newest with which Triton's interpreter of that time runs
    for name, pin in oldest.items():
        assert pin == SpecifierSet(f"=={floors[name]}.0"), f"{name}: pyproject.toml claims {floors[name]}"


def test_the_workflow_runs_the_steps_tests_on_both_ends():
    job = yaml.safe_load(WORKFLOWS["ci.yml"].read_text())["jobs"]["ends"]
    minors = [
        f"3.{minor}" for minor in range(30) if f"3.{minor}.0" in SpecifierSet(PYPROJECT["project"]["requires-python"])
    ]
    first, last = job["strategy"]["matrix"]["include"]
    assert (first["python"], last["python"]) == (minors[0], minors[-1])
    assert first["versions"] == "-c .ci/oldest.txt" and "-c" not in last["versions"]
    (tested,) = (step["run"] for step in job["steps"] if "pytest" in step.get("run", ""))
    assert re.findall(r"tests/test_(\w+?)\*?\.py", tested) == STEPS
    classified = re.findall(r"Python :: (3\.\d+)", " ".join(PYPROJECT["project"]["classifiers"]))
    assert classified == minors
