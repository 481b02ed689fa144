"""Files: written whole or not at all, lines of JSON, tensors; where the repository's results lie.

No file that is read can run code.
"""

import contextlib
import json
import os
from collections.abc import Iterator
from pathlib import Path

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor, nn


def write_atomically(path: Path, content: str | bytes) -> None:
    """Write a file so that under its name there is always the old or the new content, whole.

    Raises OSError, such as for a full disk, and has then left the old content.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    try:
        with telling(path), part.open("wb") as file:
            file.write(content.encode() if isinstance(content, str) else content)
            file.flush()
            os.fsync(file.fileno())
        os.replace(part, path)
    except BaseException:  # also Ctrl-C, too little memory, text that is not UTF-8
        part.unlink(missing_ok=True)  # half a file is of no use, and the disk may be full
        raise


@contextlib.contextmanager
def telling(path: Path) -> Iterator[None]:
    """Name the file in an OSError that comes from writing to it, as a full disk's does not."""
    try:
        yield
    except OSError as error:
        if error.filename is None:
            raise OSError(error.errno, error.strerror, str(path)) from error
        raise


def add_line(path: Path, values: dict) -> None:
    """Add one JSON object to a file of such lines."""
    with telling(path), path.open("a") as file:
        file.write(json.dumps(values) + "\n")


def read_lines(path: Path) -> list[dict]:
    """All lines of such a file, none if it is missing; a last line that a crash cut short is left out.

    Raises ValueError for any other line that is not a JSON object.
    """
    found = []
    for number, line in enumerate(path.read_text().split("\n")[:-1] if path.exists() else [], 1):
        try:
            value = json.loads(line)
        except ValueError as error:
            raise ValueError(f"{path}, line {number}, is not JSON: {error}") from error
        if not isinstance(value, dict):
            raise ValueError(f"{path} must hold a JSON object on every line, but line {number} is {value!r:.80}")
        found.append(value)
    return found


def read_json(path: Path) -> dict:
    """The object in a JSON file. Raises FileNotFoundError; ValueError if there is none."""
    try:
        content = json.loads(path.read_text())
    except ValueError as error:
        raise ValueError(f"{path} is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ValueError(f"{path} must hold a JSON object, but holds {content!r}")
    return content


REPOSITORY = Path(__file__).parents[1]  # of a clone that is installed with pip install -e


def results(name: str) -> Path:
    """The file or folder of that name in the repository's `book/results`, wherever one stands.

    Raises FileNotFoundError if the package does not lie in a clone of the repository, or there is no such result.
    """
    path = REPOSITORY / "book" / "results" / name
    if not path.exists():
        raise FileNotFoundError(
            f"book/results/{name} is not beside the package in {REPOSITORY}: "
            "clone the repository and install it from there with pip install -e ."
        )
    return Path(os.path.relpath(path))


def tensors_to_bytes(tensors: dict[str, Tensor], **metadata: str) -> bytes:
    """The content of a safetensors file."""
    return save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, metadata)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file, which cannot hold code.

    Raises FileNotFoundError; ValueError for a file of another kind or a damaged one.
    """
    content = path.read_bytes()  # by Python: the library opens no file whose name is not UTF-8
    try:
        tensors = load(content)
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error
    header = content[8 : 8 + int.from_bytes(content[:8], "little")]  # JSON behind its length; `load` has checked it
    return tensors, json.loads(header).get("__metadata__", {})


def load_weights(model: nn.Module, weights: dict[str, Tensor], source: Path) -> None:
    """Load a state dict. Raises ValueError naming the entries of `source` that are missing, unknown or misshaped."""
    expected = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    found = {name: tuple(value.shape) for name, value in weights.items()}
    complaints = [f"missing {name}" for name in expected.keys() - found.keys()]
    complaints += [f"unknown {name}" for name in found.keys() - expected.keys()]
    complaints += [
        f"{name} is {found[name]}, not {expected[name]}"
        for name in expected.keys() & found.keys()
        if found[name] != expected[name]
    ]
    if complaints:
        more = f" and {len(complaints) - 8} more" if len(complaints) > 8 else ""
        raise ValueError(f"{source} does not fit the model: {'; '.join(sorted(complaints)[:8])}{more}")
    model.load_state_dict(weights)
