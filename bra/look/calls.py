"""What the BRA layers of a model are given and make while it runs, noted by hooks.

The layers are found by walking the modules, so a model of one's own needs no preparation.
"""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import NamedTuple

from torch import Tensor, nn

from bra.layer import BiLevelRoutingAttention, BRA2d
from bra.topk import Routes


def bra_layers(model: nn.Module) -> dict[str, BiLevelRoutingAttention]:
    """The BRA layers of a model by name, each once."""
    return {name: module for name, module in model.named_modules() if isinstance(module, BiLevelRoutingAttention)}


@contextmanager
def evaluating(model: nn.Module) -> Iterator[None]:
    """The model in evaluation; afterwards every module is in the mode in which it was."""
    modes = {module: module.training for module in model.modules()}
    model.eval()
    try:
        yield
    finally:
        for module, training in modes.items():
            module.training = training


class LayerCall(NamedTuple):
    """One call of a BRA layer on a batch of maps.

    name: the layer's, with ", run 2" if it ran before. size: (h, w) of the maps. qkv: (b r t 3c).
    valid: which tokens are no padding, of all images (r t) or of each (b r t); None: all.
    """

    name: str
    layer: BiLevelRoutingAttention
    size: tuple[int, int]
    routes: Routes
    qkv: Tensor
    valid: Tensor | None


@contextmanager
def record_calls(layers: Mapping[str, BiLevelRoutingAttention], note: Callable[[LayerCall], None]) -> Iterator[None]:
    """Call `note` each time one of the layers has run. Raises ValueError at the end if none has."""
    seen: dict = {}  # what the layer that runs now has made so far
    runs: Counter[str] = Counter()

    def ran(layer: BiLevelRoutingAttention, given: tuple, named: dict, out: Tensor, name: str) -> None:
        x = out.permute(0, 2, 3, 1) if isinstance(layer, BRA2d) else out  # as large as the input
        runs[name] += 1
        again = f", run {runs[name]}" if runs[name] > 1 else ""
        valid = layer.cut(x, *given[1:], **{key: value for key, value in named.items() if key == "real"})[1]
        note(LayerCall(name + again, layer, tuple(x.shape[1:3]), seen.pop("routes"), seen.pop("qkv"), valid))

    hooks = []
    for name, layer in layers.items():
        hooks += [
            layer.qkv.register_forward_hook(lambda module, inputs, qkv: seen.update(qkv=qkv)),
            layer.router.register_forward_hook(lambda module, inputs, routes: seen.update(routes=routes)),
            layer.register_forward_hook(partial(ran, name=name), with_kwargs=True),
        ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    if not runs:
        raise ValueError("model must run a BiLevelRoutingAttention or BRA2d layer that is asked for, but none ran")
