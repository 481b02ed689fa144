"""Who imports whom in `bra`. From the ground up: leaves, steps, rooms; nothing imports what comes after it."""

import ast
import subprocess
import sys
from graphlib import CycleError, TopologicalSorter
from pathlib import PurePosixPath

import pytest
from repository import LEAVES, MODULES, ROOMS, ROOT, STEPS

FILES = {path.relative_to(ROOT).as_posix(): path.read_text() for path in sorted((ROOT / "bra").rglob("*.py"))}
COMMANDS = [  # the first two each show or train what the other makes; the last grades with the room after its own
    "bra/explorer/__main__.py", "bra/train/__main__.py", "bra/checks/__main__.py",
]  # fmt: skip
EXPLORER = ("bra/__init__.py", "bra/explorer/__init__.py")  # bra.Explorer is loaded when somebody asks for it
LATE = {  # what a function may import, and why not the file
    "datasets": "an extra of its own, and large",
    "kornia": "half a second, which runs without augmentation need not wait",
    "pycocotools": "an extra of its own",
    "resource": "not on Windows",
    "skimage": "only the notebooks' photographs need it",
    "torch.nn.attention.flex_attention": "it loads sympy, which `import bra` need not",
    "torch.utils.tensorboard": "an extra of its own",
    "timm": "only who calls timm needs it",
    "torchvision": "only detectors need it",
    "transformers": "only UPerNet needs it",
    "triton": "not everywhere, and never needed",
    "triton.language": "not everywhere, and never needed",
    "bra.kernels.programs": "they are Triton's",
}


def place(file):
    """The step, leaf or room to which a file belongs: `topk` for bra/topk.py, `data` for bra/data/hub.py."""
    return PurePosixPath(file).parts[1].removesuffix(".py")


def rule(file):
    """What a file may import beside its own room, and the sentence that says so."""
    name = place(file)
    if file == "bra/__init__.py":
        return STEPS, "`import bra` is light: only the steps"
    if name in LEAVES:
        return [], "a leaf imports nothing of bra"
    if name == "block":
        return ["arguments", "lce"], "block is a part of biformer: only arguments and lce"
    if name in STEPS:
        others = ["arguments", "block"] if name == "biformer" else ["arguments"]
        allowed = STEPS[: STEPS.index(name)] + others
        return allowed, f"a step imports only steps of lower number and {' and '.join(others)}: {', '.join(allowed)}"
    if name == "checks" and file not in COMMANDS:
        return ["arguments", *STEPS, "block"], "checks judge steps, and import only them, block and arguments"
    if name == "course":
        return [*LEAVES, "checks"], "course grades with checks, and imports only them and leaves"
    ground = [*LEAVES, *STEPS, "block"]
    if name == "bench":
        return [*ground, *ROOMS, "checks", "course"], "bench may import everything"
    if file in COMMANDS:
        return [*ground, *ROOMS[:-1], "checks", "course"], "a command may import everything but bench"
    before = ROOMS[: ROOMS.index(name)]
    sentence = f"{name} imports only leaves, steps and block, and of the rooms: {', '.join(before) or 'none'}"
    return ground + before, sentence


def file_of(module, files):
    """The file of a module of `bra`, such as bra/data/__init__.py for "bra.data"; None where there is no such file."""
    stem = module.replace(".", "/")
    return next((file for file in (f"{stem}.py", f"{stem}/__init__.py") if file in files), None)


def imports(tree):
    """The names that import statements below a node ask for, (module, name in it or None)."""
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((alias.name, None) for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            yield from (("." * node.level + (node.module or ""), alias.name) for alias in node.names)


def imported(file, files):
    """The files of `bra` that a file imports, in functions too; a module that has no file is left as it is written."""
    for module, name in imports(ast.parse(files[file])):
        if module.split(".")[0] == "bra":
            target = (name and file_of(f"{module}.{name}", files)) or file_of(module, files) or module.replace(".", "/")
            if (file, target) != EXPLORER:
                yield target


def forbidden(file, files):
    """What is wrong with the imports of one file, a sentence each."""
    allowed, sentence = rule(file)
    allowed = {*allowed, place(file)} - {"__init__"}  # `from bra import attend` would be from all steps
    for target in imported(file, files):
        if place(target) not in allowed:
            yield f"{file} imports {target}, but {sentence}"
    tree = ast.parse(files[file])
    for module, _ in imports(tree):
        if module.startswith("."):
            yield f"{file} imports {module}, but every import is written from its beginning: bra.room.file"
    for function in ast.walk(tree):
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)) and file != EXPLORER[0]:
            for module, _ in imports(function):
                if not any(f"{module}.".startswith(f"{late}.") for late in LATE):
                    yield (f"{file} imports {module} inside {function.name}, which can hide a circle: import it at "
                           f"the top. Only these may be late: {', '.join(LATE)}")  # fmt: skip


def circle(files):
    """The sentence that names the files of a circle of imports; None where there is none."""
    try:
        TopologicalSorter({file: imported(file, files) for file in files}).prepare()
    except CycleError as error:
        return " imports ".join(reversed(error.args[1])) + ": move what they share to a file that imports neither"
    return None


@pytest.mark.parametrize("module", [*MODULES, "__init__"])
def test_modules_import_only_what_they_may(module):
    known = [*STEPS, *LEAVES, *ROOMS, "block", "checks", "course", "__init__"]
    assert module in known, f"bra/{module} is new: say in tests/support/repository.py what it is"
    wrong = [sentence for file in FILES if place(file) == module for sentence in forbidden(file, FILES)]
    assert not wrong, "\n".join(wrong)


def test_no_file_imports_itself_by_a_detour():
    found = circle(FILES)
    assert not found, found


@pytest.mark.parametrize(
    "file, line, sentence",
    [
        ("bra/topk.py", "from bra.layer import BRA2d", "imports bra/layer.py, but a step imports only steps of lower"),
        ("bra/gather.py", "from bra.files import read_json", "imports bra/files.py, but a step imports only steps"),
        ("bra/layer.py", "from bra.block import Block", "imports bra/block.py, but a step imports only steps"),
        ("bra/lce.py", "from bra import attend", "imports bra/__init__.py, but a step imports only steps of lower"),
        ("bra/block.py", "from bra import layer", "imports bra/layer.py, but block is a part of biformer"),
        ("bra/arguments.py", "import bra.files", "imports bra/files.py, but a leaf imports nothing"),
        ("bra/look/views.py", "from bra import draw", "imports bra/draw/__init__.py, but look imports only leaves"),
        ("bra/draw/plots.py", "from bra.train.runs import x", "imports bra/train/runs.py, but draw imports only"),
        ("bra/explorer/page.py", "import bra.train", "imports bra/train/__init__.py, but explorer imports only"),
        ("bra/train/loop.py", "import bra.bench.jobs", "imports bra/bench/jobs.py, but train imports only"),
        ("bra/train/__main__.py", "import bra.bench", "imports bra/bench/__init__.py, but a command may import"),
        ("bra/checks/topk.py", "from bra.look import views", "imports bra/look/views.py, but checks judge steps"),
        ("bra/checks/judge.py", "from bra.course import own", "imports bra/course/own.py, but checks judge steps"),
        ("bra/course/own.py", "from bra.topk import topk", "imports bra/topk.py, but course grades with checks"),
        ("bra/data/folder.py", "from bra import checks", "imports bra/checks/__init__.py, but data imports only"),
        ("bra/data/folder.py", "import bra.gone", "imports bra/gone, but data imports only leaves,"),
        ("bra/data/folder.py", "from .images import Images", "imports .images, but every import is written from its"),
        ("bra/data/base.py", "def f(): from bra.data import images", "imports bra.data inside f, which can hide"),
        ("bra/look/views.py", "def f(): import matplotlib.cm", "imports matplotlib.cm inside f, which can hide"),
        ("bra/__init__.py", "from bra.look.views import look", "imports bra/look/views.py, but `import bra` is light"),
    ],
)
def test_a_planted_import_is_told(file, line, sentence):
    planted = list(forbidden(file, FILES | {file: f"{FILES[file]}\n{line}\n"}))
    assert any(found.startswith(f"{file} {sentence}") for found in planted), planted


@pytest.mark.parametrize(
    "file, line, others",
    [
        ("bra/data/base.py", "from bra.data.images import Images", ["bra/data/images.py"]),
        ("bra/data/images.py", "def f(): from bra.data.folder import ImageFolder", ["bra/data/folder.py"]),
        ("bra/train/runs.py", "import bra.train", ["bra/train/__init__.py", "bra/train/loop.py"]),
    ],
)
def test_a_planted_circle_is_told(file, line, others):
    found = circle(FILES | {file: f"{FILES[file]}\n{line}\n"})
    assert found and all(name in found for name in [file, *others]), found


@pytest.mark.parametrize("module", ["bra", "bra.look.views", "bra.look.statistics"])
def test_import_loads_nothing_but_torch_einops_and_jaxtyping(module):
    script = (
        f"import sys, torch, einops, jaxtyping; old = {{*sys.modules}}; import {module}; print(*{{*sys.modules}} - old)"
    )
    loaded = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True, cwd=ROOT).stdout
    # torch and einops load parts of themselves late
    expected = {"bra", "torch", "einops", "jaxtyping", *sys.stdlib_module_names}
    others = {name.split(".")[0] for name in loaded.split()} - expected
    assert not others, f"import {module} loads {', '.join(sorted(others))}"


def test_oracles_are_independent():
    names = [module for module, _ in imports(ast.parse((ROOT / "tests" / "support" / "oracles.py").read_text()))]
    assert names == ["math", "numpy"]


def test_public_names_exist_and_hide_no_module():
    import bra

    assert all(hasattr(bra, name) for name in bra.__all__)
    assert not set(bra.__all__) & set(MODULES), "bra.partition must stay the module"
    for module in ("partition", "gather", "layer"):
        assert getattr(bra, module).__name__ == f"bra.{module}"
