"""What was measured on a GPU so far, kept after every piece, so that a second call goes on."""

import hashlib
import json
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from importlib.util import find_spec
from pathlib import Path

from bra.bench.gpu.setting import Rows, in_one_line
from bra.files import read_json, write_atomically
from bra.measure import environment

PACKAGE = Path(__file__).parents[2]  # bra


class Record:
    """What was measured so far, written after every piece. began: pieces that are older may be measured anew."""

    def __init__(self, path: Path, began: float, again: bool):
        self.path, self.began, self.again, self.code = path, began, again, measured_code()
        before = read_json(path) if path.exists() else {}
        self.pieces, self.verdicts = before.get("pieces", []), before.get("verdicts", {})
        self.content = {"command": " ".join(["python -m bra.bench", *sys.argv[1:]]), "environment": environment()}
        self.content["environment"] |= {"triton": version("triton") if find_spec("triton") else None}

    def of(self, part: str) -> list[dict]:
        """The pieces of a part."""
        return [piece for piece in self.pieces if piece["part"] == part]

    def rows(self, part: str) -> Rows:
        """What was measured of a part."""
        return [row for piece in self.of(part) for row in piece.get("rows", [])]

    def holds(self, part: str, name: str) -> bool:
        """Whether a piece need not be measured: it was in this call, or before, by the same code, without failing."""
        piece = next((piece for piece in self.of(part) if piece["name"] == name), None)
        if piece is None:
            return False
        return piece["at"] >= self.began or not (self.again or piece["code"] != self.code or failures(piece))

    def keep(self, part: str, name: str, found: dict) -> None:
        """Put a piece in the place of an older one, and write the file."""
        others = [piece for piece in self.pieces if (piece["part"], piece["name"]) != (part, name)]
        about = {"part": part, "name": name, "at": time.time(), "code": self.code}
        about["commit"] = self.content["environment"]["commit"]
        self.pieces = [*others, about | found]
        self.write()

    def write(self) -> None:
        """The file: what holds for all, then a piece a line."""
        content = self.content | {"verdicts": self.verdicts}
        lines = ",\n".join("  " + json.dumps(piece) for piece in self.pieces)
        write_atomically(self.path, json.dumps(content, indent=1)[:-2] + f',\n "pieces": [\n{lines}\n ]\n}}\n')


def measured_code(package: Path = PACKAGE) -> str:
    """A fingerprint of bra without bench: numbers are kept as long as what they were measured on stays as it is."""
    files = sorted(path for path in package.rglob("*.py") if "bench" not in path.relative_to(package).parts)
    return hashlib.sha256(b"".join(path.read_bytes() for path in files)).hexdigest()[:12]


def failures(piece: dict) -> list[str]:
    """Why a piece, or rows of it, failed."""
    return [found["failed"] for found in (piece, *piece.get("rows", [])) if "failed" in found]


def run(piece: Callable[[], Rows]) -> dict:
    """The rows of a piece and its seconds; or the reason why it failed."""
    begun = time.perf_counter()
    try:
        rows = {"rows": piece()}
    except Exception as error:  # the others are measured all the same
        rows = {"failed": in_one_line(error)}
    return rows | {"seconds": round(time.perf_counter() - begun, 1)}
