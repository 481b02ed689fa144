"""Tensors in files, and into models: no file that is read can run code."""

from pathlib import Path

from safetensors import SafetensorError, safe_open
from safetensors.torch import load, save
from torch import Tensor, nn


def tensors_to_bytes(tensors: dict[str, Tensor], **metadata: str) -> bytes:
    """The content of a safetensors file."""
    return save({name: value.detach().cpu().contiguous() for name, value in tensors.items()}, metadata)


def read_tensors(path: Path) -> tuple[dict[str, Tensor], dict[str, str]]:
    """Tensors and metadata of a safetensors file, which cannot hold code.

    Raises FileNotFoundError; ValueError for a file of another kind or a damaged one.
    """
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
        return load(path.read_bytes()), metadata
    except SafetensorError as error:
        raise ValueError(f"{path} is not a whole safetensors file: {error}") from error


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
