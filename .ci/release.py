"""Whether a release is whole. Before it is built: python .ci/release.py tag v0.1.0. After: python .ci/release.py dist.

A tag must be the version of the package, and CHANGELOG.md must say what that version brings, and when. A wheel must
hold every file of the package; the archive of sources also the tests that need no more than it.
"""

import re
import sys
import tarfile
import zipfile
from pathlib import Path

ROOT = Path(__file__).parent.parent


def version(root: Path = ROOT) -> str:
    """The version, from its one owner."""
    return re.search(r'^__version__ = "(.+)"$', (root / "bra" / "__init__.py").read_text(), re.M)[1]


def faults_of_tag(tag: str, version: str, changelog: str) -> list[str]:
    """Why this tag is no release of this version."""
    faults = [] if tag == f"v{version}" else [f"the tag is {tag}, but bra.__version__ is {version}"]
    section = re.search(rf"^## \[{re.escape(version)}\](.*?)(?=^## |\Z)", changelog, re.M | re.S)
    if section is None:
        return [*faults, f"CHANGELOG.md has no section {version}"]
    heading, _, body = section[1].partition("\n")
    if not re.fullmatch(r" - \d{4}-\d\d-\d\d", heading):
        faults.append(f"CHANGELOG.md must say when: ## [{version}] - YYYY-MM-DD")
    if "\n- " not in body:
        faults.append(f"CHANGELOG.md says nothing about {version}")
    return faults


def package_files(root: Path = ROOT) -> set[str]:
    """What both archives must hold: every file of the package."""
    files = (path for path in (root / "bra").rglob("*") if path.is_file() and "__pycache__" not in path.parts)
    return {path.relative_to(root).as_posix() for path in files}


def faults_of_archives(folder: Path, root: Path = ROOT) -> list[str]:
    """What the wheel and the archive of sources in `folder` lack, or hold without need."""
    (wheel,), (sources,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
    with zipfile.ZipFile(wheel) as archive:
        in_wheel = {name for name in archive.namelist() if ".dist-info/" not in name}
    with tarfile.open(sources) as archive:
        in_sources = {member.name.partition("/")[2] for member in archive if member.isfile()}
    tests = {path.relative_to(root).as_posix() for path in (root / "tests").rglob("*.py")}
    needed = package_files(root) | {name for name in tests if not name.startswith("tests/test_form_")}
    needed |= {"CHANGELOG.md", "LICENSE", "README.md", "pyproject.toml"}
    return [
        *(f"{wheel.name} lacks {name}" for name in sorted(package_files(root) - in_wheel)),
        *(f"{wheel.name} needs no {name}" for name in sorted(in_wheel - package_files(root))),
        *(f"{sources.name} lacks {name}" for name in sorted(needed - in_sources)),
    ]


def main(kind: str, *rest: str) -> None:
    """Print every fault, and end with an error if there is one."""
    if kind == "tag":
        faults = faults_of_tag(*rest, version(), (ROOT / "CHANGELOG.md").read_text())
    else:
        faults = faults_of_archives(Path(kind))
    sys.exit("\n".join(faults) or 0)


if __name__ == "__main__":
    main(*sys.argv[1:])
