"""Make `bra` importable in a notebook on Colab or Kaggle, whose first cell clones the repository and runs this file.

`bra` is used from the clone, for the notebooks also read what lies beside it (book/results). Only libraries that are
missing are installed. The present torch and numpy stay: they fit the machine, and the kernel may have loaded them.
"""

import contextlib
import importlib
import os
import subprocess
import sys
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

CLONE = Path(__file__).resolve().parent.parent
KEPT = ("torch", "torchvision", "numpy")
SHOWING = ("ipywidgets", "scikit-image")  # of the extra `notebooks`, all but the program that shows notebooks


def requirements():
    """What pip is asked for: what `bra` and the notebooks need, and the present versions of what stays."""
    import tomllib  # as old as the oldest Python allowed

    project = tomllib.loads((CLONE / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    wanted = [*project["dependencies"], *project["optional-dependencies"]["train"], *SHOWING]
    for name in KEPT:
        with contextlib.suppress(PackageNotFoundError):  # then pip chooses, or the notebooks do without
            wanted.append(f"{name}=={version(name)}")
    return wanted


def main():
    """Install, and let this kernel and the programs that it starts find `bra`. One line where that cannot be."""
    if not (3, 11) <= sys.version_info < (3, 14):
        raise SystemExit(f"bra needs Python 3.11, 3.12 or 3.13, but this is {sys.version.split()[0]}")
    command = [sys.executable, "-m", "pip", "install", "--quiet", *requirements()]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        lines = done.stderr.splitlines() or ["pip does not say why"]
        reason = next((line for line in lines if line.lower().startswith("error")), lines[-1])
        raise SystemExit(f"The libraries that bra needs cannot be installed here. {reason}")
    importlib.invalidate_caches()
    sys.path.insert(0, str(CLONE))
    os.environ["PYTHONPATH"] = os.pathsep.join(filter(None, [str(CLONE), os.environ.get("PYTHONPATH")]))
    if "google.colab" in sys.modules:  # without it Colab shows no explorer, which is a widget of our own
        from google.colab import output

        output.enable_custom_widget_manager()


if __name__ == "__main__":
    main()
