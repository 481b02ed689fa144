"""The first cell of every notebook: where `bra` is missing it fetches the repository, and keeps the present torch."""

import importlib.util
import json
import os
import re
import shutil
import subprocess
import sys
from importlib.metadata import version
from types import SimpleNamespace

import nbformat
import pytest
from packaging.requirements import Requirement
from packaging.specifiers import SpecifierSet
from repository import NOTEBOOKS, PYPROJECT, ROOT

CELL = next(cell.source for cell in nbformat.read(NOTEBOOKS[0], 4).cells if cell.cell_type == "code")
PROGRAM = (ROOT / ".ci" / "hosted.py").read_text()


@pytest.fixture
def hosted(monkeypatch, tmp_path):
    """An empty folder without `bra`, where git and pip only write down what they are asked; `asked` has it."""
    asked = SimpleNamespace(git=[], pip=[], reachable=True, answer=subprocess.CompletedProcess([], 0, "", ""))

    def clone(command):
        asked.git.append(command)
        if asked.reachable:
            (tmp_path / "bra-course" / ".ci").mkdir(parents=True)
            for name in ("pyproject.toml", ".ci/hosted.py"):
                shutil.copy(ROOT / name, tmp_path / "bra-course" / name)

    monkeypatch.setattr(os, "system", clone)
    monkeypatch.setattr(subprocess, "run", lambda command, **_: asked.pip.append(command) or asked.answer)
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    monkeypatch.setattr(sys, "path", [*sys.path])
    monkeypatch.setenv("PYTHONPATH", "elsewhere")
    monkeypatch.chdir(tmp_path)
    return asked


def pinned(command):
    """{name: its requirement} of what pip was asked for."""
    return {(wanted := Requirement(text)).name: wanted for text in command[command.index("--quiet") + 1 :]}


def test_where_bra_is_the_cell_does_nothing(hosted, monkeypatch):
    monkeypatch.undo()
    monkeypatch.setattr(os, "system", hosted.git.append)
    exec(CELL, {})
    assert not hosted.git and not hosted.pip


def test_the_cell_clones_once_and_keeps_torch_and_numpy(hosted, tmp_path):
    exec(CELL, {})
    (git,), (pip,) = hosted.git, hosted.pip
    assert git.endswith(f" {PYPROJECT['project']['urls']['Repository']} bra-course")
    assert pip[:4] == [sys.executable, "-m", "pip", "install"] and not {"-U", "--upgrade"} & {*pip}
    wanted = pinned(pip)
    for name in ("torch", "torchvision", "numpy"):
        assert wanted[name].specifier == SpecifierSet(f"=={version(name)}"), name
    assert wanted.keys() >= {"einops", "jaxtyping", "kornia", "anywidget", "ipywidgets", "scikit-image"}
    assert "jupyterlab" not in wanted, "it would replace parts of the program that shows the notebook"
    assert sys.path[0] == str(tmp_path / "bra-course")
    assert os.environ["PYTHONPATH"] == os.pathsep.join([sys.path[0], "elsewhere"])
    exec(CELL, {})  # such as after a restart of the kernel
    assert len(hosted.git) == 1


def test_what_shows_notebooks_is_of_the_extra_of_that_name():
    shown = {Requirement(text).name for text in PYPROJECT["project"]["optional-dependencies"]["notebooks"]}
    assert {*re.search(r"SHOWING = \((.*)\)", PROGRAM)[1].replace('"', "").split(", ")} <= shown


def test_inside_a_clone_the_cell_uses_that_clone(hosted, tmp_path, monkeypatch):
    os.system("clone")
    (tmp_path / "bra-course" / "notebooks").mkdir()
    monkeypatch.chdir(tmp_path / "bra-course" / "notebooks")
    exec(CELL, {})
    assert hosted.git == ["clone"] and sys.path[0] == str(tmp_path / "bra-course")


def test_colab_is_asked_to_show_widgets(hosted, monkeypatch):
    asked = []
    colab = SimpleNamespace(output=SimpleNamespace(enable_custom_widget_manager=lambda: asked.append(True)))
    monkeypatch.setitem(sys.modules, "google", SimpleNamespace(colab=colab))
    monkeypatch.setitem(sys.modules, "google.colab", colab)
    exec(CELL, {})
    assert asked == [True]


def test_an_address_that_does_not_answer_is_told_in_one_line(hosted):
    hosted.reachable = False
    with pytest.raises(SystemExit, match=r"^bra is missing, and cannot be fetched from https://[^\n]*$"):
        exec(CELL, {})
    assert not hosted.pip


@pytest.mark.parametrize(
    ("said", "told"),
    [
        ("WARNING: slow\nERROR: torch 2.1 is too old\nERROR: see there\n", "ERROR: torch 2.1 is too old"),
        ("error: externally-managed-environment\n\nThis environment\n", "error: externally-managed-environment"),
        ("python: No module named pip\n", "python: No module named pip"),
        ("", "pip does not say why"),
    ],
)
def test_what_pip_cannot_do_is_told_in_one_line(hosted, said, told):
    hosted.answer = subprocess.CompletedProcess([], 1, "", said)
    with pytest.raises(SystemExit) as stopped:
        exec(CELL, {})
    assert str(stopped.value) == f"The libraries that bra needs cannot be installed here. {told}"


@pytest.mark.parametrize("python", [(3, 10, 9), (3, 14, 0)])
def test_another_python_is_told_in_one_line(hosted, monkeypatch, python):
    assert ".".join(map(str, python)) not in SpecifierSet(PYPROJECT["project"]["requires-python"])
    monkeypatch.setattr(sys, "version_info", python)
    with pytest.raises(SystemExit, match=r"^bra needs Python 3\.11, 3\.12 or 3\.13, but this is [^\n]*$"):
        exec(CELL, {})
    assert not hosted.pip


def test_a_dev_container_installs_what_the_notebooks_need():
    settings = json.loads((ROOT / ".devcontainer" / "devcontainer.json").read_text())
    python = settings["image"].removeprefix("mcr.microsoft.com/devcontainers/python:")
    assert f"{python}.0" in SpecifierSet(PYPROJECT["project"]["requires-python"])
    (extra,) = re.fullmatch(r"make \.venv/(\w+)\.stamp", settings["postCreateCommand"]).groups()
    assert extra in PYPROJECT["project"]["optional-dependencies"]
