"""What a room needs: what is downloaded and installed, and the time and memory of each notebook. Writes it down.

Run its parts in this order, with the environment that `make test` leaves; each adds to book/results/classroom.json:

    .venv/bin/python .ci/classroom.py wheels       what pip downloads for a room without a network, into build/wheels
    .venv/bin/python .ci/classroom.py install      from there, without a network, into an environment of its own
    .venv/bin/python .ci/classroom.py notebooks    each is executed once, by a kernel of its own; or only 03 and 04:
    .venv/bin/python .ci/classroom.py notebooks 03 04
"""

import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from bra.files import write_atomically
from bra.measure import environment

ROOT = Path(__file__).parent.parent
RESULT, WHEELS = ROOT / "book" / "results" / "classroom.json", ROOT / "build" / "wheels"
PIP = ("-m", "pip", "--quiet", "--disable-pip-version-check")
ASKED = ("-c", ".ci/constraints.txt", ".[notebooks]", "setuptools>=77")  # the last builds `bra` itself


def run(*command: str | Path) -> tuple[float, int]:
    """Wall time in seconds, and the memory in bytes of the largest process in it. Raises CalledProcessError."""
    start = time.perf_counter()
    process = subprocess.Popen([str(part) for part in command], cwd=ROOT)
    _, status, used = os.wait4(process.pid, 0)
    if status:
        raise subprocess.CalledProcessError(os.waitstatus_to_exitcode(status), command)
    return round(time.perf_counter() - start, 1), used.ru_maxrss * (1 if sys.platform == "darwin" else 1024)


def size(folder: Path) -> int:
    """Bytes of all files in a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file() and not path.is_symlink())


def wheels() -> dict:
    """What is downloaded once, to be carried into the room."""
    seconds, _ = run(sys.executable, *PIP, "download", "-d", WHEELS, *ASKED)
    return {"seconds": seconds, "bytes": size(WHEELS), "files": len([*WHEELS.iterdir()])}


def install() -> dict:
    """What is installed from it, without a network."""
    with tempfile.TemporaryDirectory() as folder:
        run(sys.executable, "-m", "venv", folder)
        python = Path(folder) / ("Scripts" if os.name == "nt" else "bin") / "python"
        seconds, _ = run(python, *PIP, "install", "--no-compile", "--no-index", "--find-links", WHEELS, *ASKED)
        run(python, "-c", "import bra.checks, jupyterlab, matplotlib")
        return {"seconds": seconds, "bytes": size(Path(folder))}


def notebooks(*numbers: str) -> list[dict]:
    """Time and memory of those with these numbers, or of all; what was measured of others stays."""
    found = {row["notebook"]: row for row in kept().get("notebooks", [])}
    convert = ("-m", "jupyter", "nbconvert", "--to", "notebook", "--execute", "--log-level", "ERROR")
    with tempfile.TemporaryDirectory() as folder:
        for path in sorted((ROOT / "notebooks").glob("*.ipynb")):
            if not numbers or path.stem[:2] in numbers:
                seconds, memory = run(sys.executable, *convert, "--output-dir", folder, path)
                found[path.stem] = {"notebook": path.stem, "seconds": seconds, "bytes": memory}
                print(found[path.stem], flush=True)
    return [found[name] for name in sorted(found)]


def kept() -> dict:
    """What was measured before."""
    return json.loads(RESULT.read_text()) if RESULT.exists() else {}


def main():
    """Measure one part, and keep the others."""
    parts = {part.__name__: part for part in (wheels, install, notebooks)}
    name, *numbers = sys.argv[1:] or [""]
    if name not in parts:
        raise SystemExit(f"python .ci/classroom.py PART: one of {', '.join(parts)}")
    command = "python .ci/classroom.py PART, for the parts wheels, install, notebooks"
    found = {"command": command, "seed": 0, "environment": environment(), name: parts[name](*numbers)}
    write_atomically(RESULT, json.dumps(kept() | found, indent=1) + "\n")


if __name__ == "__main__":
    main()
