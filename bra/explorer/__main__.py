"""`python -m bra.explorer`: write the explorer of a run, or of a photograph, as one HTML file."""

import sys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

import tyro

from bra.arguments import errors_in_one_line
from bra.biformer import MODELS
from bra.data import printable
from bra.explorer.page import portrait_page
from bra.explorer.portray import of_photograph
from bra.files import write_atomically
from bra.train.report import of_run
from bra.train.runs import RunFolder


@dataclass(frozen=True)
class Request:
    """Write an HTML file that shows whom each region of an image reads: of a run, or of a photograph."""

    run: Path | None = None
    """The run folder, for its model and a held-out image."""
    image: Path | None = None
    """A photograph instead of a held-out image, its middle square; of a run whose data ask for pixels or boxes, all of
    it. Without a run: for a BiFormer with or without published weights."""
    number: int | None = None
    """Which held-out image of the run; the first ones have the history of the training. None: one that shows it."""
    model: Literal[(*MODELS,)] = "tiny"
    """Without a run: which BiFormer."""
    weights: Path | None = None
    """Without a run: a published checkpoint; None: random weights. Those of a run of bra.train open with `run`."""
    size: int = 224
    """Without a run: side that the photograph is scaled to, in pixels."""
    out: Path = Path("explorer.html")
    """The file to write."""


def write(request: Request) -> Path:
    """Write the file that is asked for. Raises ValueError, FileNotFoundError, and what making a portrait raises."""
    paths = {name: getattr(request, name) for name in ("run", "image", "weights", "out")}
    request = replace(request, **{name: path.expanduser() for name, path in paths.items() if path is not None})
    if request.out.is_dir():
        raise ValueError(f"out must be a file, but {request.out} is a folder")
    if request.run is None and request.weights is not None:
        for folder in (request.weights, request.weights.parent):
            if RunFolder(folder).metrics.is_file():
                raise ValueError(f"weights must be a published checkpoint, but are of a run: --run {folder} opens it")
    idle = {"run": ("model", "weights", "size"), "image": ("number",)}
    for other in (name for name in idle if getattr(request, name) is not None):
        for name in idle[other]:
            if getattr(request, name) != getattr(Request(), name):
                raise ValueError(f"{name} must be left out beside {other}: it would change nothing")
    if request.run is not None:
        portrait = of_run(request.run, request.number, request.image)
    elif request.image is not None:
        portrait = of_photograph(request.image, request.model, request.weights, request.size)
    else:
        raise ValueError("run or image must be given: --run FOLDER, --image FILE, or both")
    write_atomically(request.out, portrait_page(portrait))
    return request.out


def main() -> None:
    """The command line."""
    sys.stdout.reconfigure(errors="backslashreplace")  # a name that it cannot say must not stop us
    with errors_in_one_line(ValueError, OSError):
        path = write(tyro.cli(Request, prog="python -m bra.explorer"))
    print(f"{printable(path)} ({path.stat().st_size / 1000:,.0f} kB): open it in a browser")


if __name__ == "__main__":
    main()
