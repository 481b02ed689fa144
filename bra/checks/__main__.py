"""`python -m bra.checks`: grade notebooks that were handed in, one or a folder of them."""

import secrets
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

import tyro
from tqdm import tqdm

from bra.arguments import errors_in_one_line
from bra.course.grade import as_csv, files_in, grade, told
from bra.course.limits import Limits
from bra.data import printable
from bra.files import write_atomically


@dataclass(frozen=True)
class Request:
    """Grade notebooks that were handed in: points and a diagnosis for each exercise that a check can judge."""

    submission: Annotated[Path, tyro.conf.Positional]
    """A notebook, or a folder with notebooks in it and in its folders. Their code runs in processes of their own."""
    csv: Path | None = None
    """A table to write: file, notebook, exercise, points, of how many, diagnosis."""
    seconds: float = 20.0
    """How long one call of an answer may take."""
    megabytes: int = 2000
    """How much memory an answer may fill. (On Linux; elsewhere its time alone is limited.)"""
    variant: int | None = None
    """Which hidden inputs are tried beside those that students see, at least 1; None: drawn anew, and told."""


def mark(request: Request) -> None:
    """Grade, and tell. Raises ValueError, and OSError for a path that is missing or cannot be written."""
    for name in ("seconds", "megabytes", "variant"):
        if (value := getattr(request, name)) is not None and value <= 0:
            raise ValueError(f"{name} must be larger than 0, but is {value}")
    variant = request.variant or 1 + secrets.randbelow(1_000_000)
    limits, rows = Limits(request.seconds, request.megabytes), []
    files = files_in(request.submission.expanduser())
    for file in tqdm(files, unit="notebook", disable=len(files) == 1):
        name = file.relative_to(request.submission.expanduser()) if request.submission.is_dir() else Path(file.name)
        own = grade(file, printable(name), limits, variant)
        tqdm.write("\n".join(told(own)))
        rows += own
    print(f"\n--variant {variant} repeats this")
    if request.csv is not None:
        write_atomically(request.csv.expanduser(), as_csv(rows))
        print(printable(request.csv))


def main() -> None:
    """The command line."""
    sys.stdout.reconfigure(errors="backslashreplace")  # a name that it cannot say must not stop us
    with errors_in_one_line(ValueError, OSError):
        mark(tyro.cli(Request, prog="python -m bra.checks"))


if __name__ == "__main__":
    main()
