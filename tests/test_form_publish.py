"""The repository's address: the one of pyproject.toml wherever it stands, and `make publish-as` changes them all."""

import re
import runpy
import shutil
import subprocess
import sys

import pytest
from repository import PYPROJECT, ROOT

PUBLISH = runpy.run_path(str(ROOT / ".ci" / "publish_as.py"))
REPOSITORY = PYPROJECT["project"]["urls"]["Repository"].removeprefix("https://github.com/")
SHOWN = (".ci/publish_as.py", "tests/test_form_publish.py")  # they tell and test what an address is
OPENED = (
    r"/github/|/gh/|src=https://github\.com/|clone .{0,99}https://github\.com/"  # before what a reader opens or clones
)


def other_addresses(text, repository):
    """Addresses that must be the repository's, and are not: what is opened or cloned, its name, the placeholder."""
    found = re.findall(rf"({OPENED}|{PUBLISH['BEFORE']})([\w.-]+/[\w.-]*[\w-])", text)
    found += [("pages", "/".join(pages)) for pages in re.findall(r"//([\w-]+)\.github\.io/([\w.-]*[\w-])", text)]
    names = (f"/{repository.split('/')[1]}", "/bra")
    addresses = [(before, address.removesuffix(".git")) for before, address in found]
    ours = {each for before, each in addresses if re.fullmatch(OPENED, before) or each.endswith(names)}
    placeholders = {"OWNER_"} if "OWNER_" in text and "OWNER_" not in repository else set()
    return ours - {repository} | placeholders


def all_other_addresses(root, repository):
    """{file: such addresses} for every text that git tracks there."""
    texts = {path.relative_to(root).as_posix(): text for path, text in PUBLISH["tracked_texts"](root)}
    found = {name: other_addresses(text, repository) for name, text in texts.items() if name not in SHOWN}
    return {name: addresses for name, addresses in found.items() if addresses}


@pytest.fixture
def copy(tmp_path):
    """A repository with all files of this one that git tracks."""
    for path, _ in PUBLISH["tracked_texts"](ROOT):
        place = tmp_path / path.relative_to(ROOT)
        place.parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(path, place)
    subprocess.run(["git", "init", "--quiet"], cwd=tmp_path, check=True)
    subprocess.run(["git", "add", "--all", "--force"], cwd=tmp_path, check=True)
    return tmp_path


def publish_as(root, *arguments):
    """`make publish-as` there."""
    command = [sys.executable, str(root / ".ci" / "publish_as.py"), *arguments]
    return subprocess.run(command, cwd=root, capture_output=True, text=True, check=False)


def contents(root):
    """{path: bytes} of all files, without git's own."""
    return {path: path.read_bytes() for path in root.rglob("*") if path.is_file() and ".git/" not in path.as_posix()}


def test_every_address_is_that_of_pyproject():
    found = all_other_addresses(ROOT, REPOSITORY)
    assert not found, f"not {REPOSITORY}: make publish-as REPO={REPOSITORY} writes it everywhere, then look at the rest"


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("https://github.com/US_/bra/issues and git@github.com:US_/bra.git.", set()),
        ("https://github.com/rayleizhu/BiFormer, the official code", set()),
        ("https://github.com/someone/bra", {"someone/bra"}),
        ("gh repo clone OWNER_/bra", {"OWNER_"}),
        ("https://colab.research.google.com/github/US_/bar/blob/main/a.ipynb", {"US_/bar"}),
        ("https://kaggle.com/kernels/welcome?src=https://github.com/me/course/blob/main/a.ipynb", {"me/course"}),
        ("git clone --depth 1 https://github.com/me/course", {"me/course"}),
        ("https://me.github.io/bra/", {"me/bra"}),
        ("https://raw.githubusercontent.com/me/bra/main/a.png", {"me/bra"}),
    ],
)
def test_another_address_is_found(text, found):
    assert other_addresses(text, "US_/bra") == found


def test_publish_as_changes_every_address_once(copy):
    page = copy / "page.md"
    owner, name = REPOSITORY.split("/")
    pages, clone = f"https://{owner}.github.io/{name}/", f"git@github.com:{owner}/{name}.git"
    page.write_text(f"{pages} {clone} https://github.com/{owner}/{name}-x\n")
    subprocess.run(["git", "add", "page.md"], cwd=copy, check=True)
    before = contents(copy)
    done = publish_as(copy, "me-2/bra.course")
    assert done.returncode == 0 and f"{REPOSITORY} is now me-2/bra.course" in done.stdout, done.stderr
    changed = {path: text for path, text in contents(copy).items() if text != before[path]}
    assert {copy / "pyproject.toml", page} <= changed.keys() and len(changed) < len(before)
    assert page.read_text().startswith("https://me-2.github.io/bra.course/ git@github.com:me-2/bra.course.git https://")
    assert page.read_text().endswith(f"/{owner}/{name}-x\n"), "another repository"
    page.unlink()
    assert not all_other_addresses(copy, "me-2/bra.course")
    assert "already" in publish_as(copy, "me-2/bra.course").stdout
    publish_as(copy, "you/bra")
    assert not all_other_addresses(copy, "you/bra")


def test_publish_as_refuses_nonsense_with_one_line(copy):
    before = contents(copy)
    for nonsense in ("", "bra", "a/b/c", "US_/bra", "-a/b", "a/..", "a/b.git", "a b/c", "a/b;c", "a/b\n", "//a/b"):
        refused = publish_as(copy, nonsense)
        assert refused.returncode == 1 and refused.stderr.count("\n") == 1, nonsense
        assert refused.stderr.startswith("REPO must be owner/name")
    assert contents(copy) == before
