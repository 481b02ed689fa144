"""Models of others that a user might pick instead of BiFormer-S, at about its multiply-adds, where they are installed.

Without trained weights, and without stochastic depth, as ours is. `python -m bra.bench --peers` measures them.
"""

import importlib
from collections.abc import Callable
from importlib.machinery import PathFinder
from typing import NamedTuple

import torch
from torch import nn

from bra.measure import multiply_adds


def timm_swin() -> nn.Module:
    """Swin-T: attention within windows, which are shifted in every other block."""
    timm = importlib.import_module("timm")
    return timm.create_model("swin_tiny_patch4_window7_224", pretrained=False, drop_path_rate=0.0)


def birder_biformer() -> nn.Module:
    """BiFormer-S, all of it channels-first, with a gather from an expanded tensor, as in the official code."""
    importlib.import_module("birder.net.biformer")  # registers it
    registry = importlib.import_module("birder.model_registry").registry
    return registry.net_factory("biformer_s", num_classes=1000, config={"drop_path_rate": 0.0}, size=(224, 224))


class Peer(NamedTuple):
    """A package, and what makes its model for 1000 classes and images of 224 x 224 pixels."""

    package: str
    make: Callable[[], nn.Module]


PEERS = {"timm Swin-T": Peer("timm", timm_swin), "birder BiFormer-S": Peer("birder", birder_biformer)}


def obstacle(package: str) -> str | None:
    """Why a package cannot be used; None if it can.

    It is looked for on the path: `sys.modules` may hold the stand-in for it that the official code was given.
    """
    if PathFinder.find_spec(package) is None:
        return f"{package} is not installed"
    try:
        importlib.import_module(package)
    except Exception as error:  # torchvision, which both need, raises a RuntimeError beside a torch of another build
        return f"{package} cannot be imported: {error}".splitlines()[0]
    return None


def present_peers() -> dict[str, str]:
    """The version of the package of each peer that can be measured; of each other, one line is printed."""
    found = {}
    for name, peer in PEERS.items():
        if reason := obstacle(peer.package):
            print(f"{name} is left out: {reason}")
        else:
            found[name] = importlib.import_module(peer.package).__version__
    return found


def peer_multiply_adds(name: str) -> int:
    """Multiply-adds of a peer for one image, forward."""
    model, image = PEERS[name].make().eval(), torch.zeros(1, 3, 224, 224)
    with torch.no_grad():
        return multiply_adds(lambda: model(image))
