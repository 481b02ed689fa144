"""The published checkpoints in our models: entries get our names, values stay as they are.

Reading files needs the package's extra `train` (for safetensors).
"""

import argparse
import re
import warnings
from collections import Counter, defaultdict
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

from bra.biformer import BiFormer
from bra.files import load_weights, read_tensors

TABLE = {  # in every block stages.STAGE.BLOCK: the official module, and ours
    "pos_embed": "position",
    "norm1": "norm1",
    "attn.qkv.qkv": "attention.qkv",  # routed stages
    "attn.wo": "attention.out",
    "attn.qkv": "attention.qkv",  # the last stage
    "attn.proj": "attention.out",
    "attn.lepe": "attention.lce.conv",
    "norm2": "norm2",
    "mlp.0": "mlp.0",
    "mlp.3": "mlp.2",  # theirs has an identity between the linear layer and its activation
}
OUTSIDE = {"downsample_layers": "downsample", "norm": "norm", "head": "head"}  # not in a block


def convert(state_dict: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """The official models' state dict under our names.

    Raises ValueError naming the entries that no official model has, and those that are missing: a block must have
    what the other blocks of its stage have, and there must be a norm, a head and a downsampling for each stage.
    """
    names = {name: translate(name) for name in state_dict}
    twice = {ours for ours, times in Counter(names.values()).items() if times > 1}  # a stage is routed or full
    complaints = [f"unexpected {name}" for name, ours in names.items() if ours is None or ours in twice]
    complaints += [f"missing {name}" for name in missing(state_dict)]
    if complaints:
        more = f" and {len(complaints) - 8} more" if len(complaints) > 8 else ""
        raise ValueError(f"not the state dict of an official BiFormer: {'; '.join(complaints[:8])}{more}")
    return {names[name]: value for name, value in state_dict.items()}


def translate(name: str) -> str | None:
    """Our name of an entry of the official models; None if they have none of this name."""
    if block := re.fullmatch(r"(stages\.\d+\.\d+)\.(.+)\.(weight|bias)", name):
        place, module, kind = block.groups()
        return f"{place}.{TABLE[module]}.{kind}" if module in TABLE else None
    module, _, rest = name.partition(".")
    return f"{OUTSIDE[module]}.{rest}" if module in OUTSIDE and rest else None


def missing(names: Mapping[str, Tensor]) -> list[str]:
    """Which entries these names lack beside each other."""
    blocks = defaultdict(lambda: defaultdict(set))  # stage -> block -> its entries
    for name in names:
        if block := re.fullmatch(r"stages\.(\d+)\.(\d+)\.(.+)", name):
            blocks[block[1]][block[2]].add(block[3])
    wanted = ["norm.weight", "head.weight"]
    for stage, entries in blocks.items():
        wanted.append(f"downsample_layers.{stage}.0.weight")
        everything = set().union(*entries.values())
        wanted += [f"stages.{stage}.{block}.{entry}" for block in entries for entry in sorted(everything)]
    return [name for name in wanted if name not in names]


def load(model: BiFormer, path: str | Path) -> BiFormer:
    """Put a published checkpoint into `model`, and return it.

    path: a .pth file, a state dict or a dict that holds one under "model"; or a .safetensors file. Names may be the
    official models' or ours, with or without the prefix "module." of parallel training. A head for another number of
    classes than the model's is left out, with a warning: the model keeps its own. Nothing in the file is executed. The
    model is untouched if this raises.
    Raises FileNotFoundError; ValueError for a file that holds anything but tensors and settings, and for entries that
    are missing, unexpected, misshaped or not finite.
    """
    path = Path(path)
    weights = {name: as_in(model, name, value, path) for name, value in read(path).items()}
    head = {name: value for name, value in model.state_dict().items() if name.startswith("head.")}
    theirs, ours = len(weights.get("head.weight", ())), len(head.get("head.weight", ()))
    if theirs and theirs != ours:
        warnings.warn(
            f"{path} classifies {theirs} classes and the model {ours}: its head is left out, the model keeps its own",
            stacklevel=2,
        )
        weights = {name: value for name, value in weights.items() if not name.startswith("head.")} | head
    load_weights(model, weights, path)
    return model


def load_stages(model: BiFormer, path: str | Path) -> BiFormer:
    """Put the stages of other weights into `model`, and return it; its norm, head and routing tables stay as they are.

    path: a published checkpoint, or the weights of one of our models, be they a classifier's, a segmenter's or a
    detector's. Raises FileNotFoundError; ValueError as `load` does, and if the stages are of another size.
    """
    path = Path(path)
    found = {re.sub(r"^(detector\.)?(backbone\.)+", "", name): value for name, value in read(path).items()}
    own = model.state_dict()
    found = {name: value for name, value in found.items() if in_stages(name)}
    stages = [name for name in own if in_stages(name)]
    theirs = {name: as_in(model, name, found[name], path) for name in stages if name in found}
    others = {name: value for name, value in own.items() if name not in stages}
    deeper = {name: found[name] for name in found if name not in own}
    load_weights(model, others | theirs | deeper, path)
    return model


def in_stages(name: str) -> bool:
    """Whether an entry of ours is a weight of a stage; the table of a router that does not learn is none."""
    return name.startswith(("downsample.", "stages.")) and not name.endswith(".router.table")


def read(path: Path) -> dict[str, Tensor]:
    """The tensors of a file under our names. Raises what `load` raises for the file itself."""
    weights = read_tensors(path)[0] if path.suffix == ".safetensors" else read_pickle(path)
    if all(name.startswith("module.") for name in weights):
        weights = {name.removeprefix("module."): value for name, value in weights.items()}
    if any(name.startswith("downsample_layers.") for name in weights):
        weights = convert(weights)
    return weights


def as_in(model: BiFormer, name: str, value: Tensor, path: Path) -> Tensor:
    """The value in the precision of the model's entry. Raises ValueError if it is not plain, or not finite there."""
    if value.layout != torch.strided or value.is_quantized or value.is_complex() or value.is_meta:
        raise ValueError(f"{path}: {name} is no plain tensor of real numbers")
    own = model.state_dict().get(name)
    value = value if own is None else value.to(own.dtype)
    if not value.float().isfinite().all():
        raise ValueError(f"{path} holds numbers that are not finite in {value.dtype}, in {name}")
    return value


def read_pickle(path: Path) -> dict[str, Tensor]:
    """The state dict in a .pth file, itself or under "model". Only tensors, plain values and a Namespace are let in."""
    try:
        with torch.serialization.safe_globals([argparse.Namespace]):
            content = torch.load(path, map_location="cpu", weights_only=True)
    except (FileNotFoundError, PermissionError, IsADirectoryError):
        raise
    except Exception as error:  # bytes that are no checkpoint fail in many ways
        asked = re.search(r"GLOBAL (\S+)", str(error))
        reason = (
            f"it asks for {asked[1]}, which was not run" if asked else f"reading it failed ({type(error).__name__})"
        )
        raise ValueError(f"{path} is damaged, or holds more than tensors and settings: {reason}") from error
    weights = content.get("model", content) if isinstance(content, dict) else content
    plain = isinstance(weights, dict) and all(isinstance(name, str) for name in weights)
    if not plain or not weights or not all(isinstance(value, Tensor) for value in weights.values()):
        found = f", but {', '.join(map(str, list(content)[:8]))}" if isinstance(content, dict) else ""
        raise ValueError(f'{path} holds no state dict, neither itself nor under "model"{found}')
    return dict(weights)
