"""Checks of the reader's file as a whole: her layer, made of her own functions, beside `bra`'s, and in a BiFormer."""

from dataclasses import replace
from itertools import product

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from bra.biformer import NANO, TINY, BiFormer, BiFormerConfig
from bra.block import Block
from bra.checks.difference import same
from bra.checks.inputs import numbers
from bra.checks.judge import Wrong, attempt, judge
from bra.checks.layer import MISTAKES, example
from bra.checks.parts import loaded
from bra.checks.verdict import Verdict
from bra.layer import BiLevelRoutingAttention

Layer = type[nn.Module]


def gradients(own: Layer) -> Verdict:
    """Those of the input and of every weight."""

    def trial() -> Verdict:
        for given in (example((15, 28, 24), 3, (3, 4), 5), example((5, 7, 8), 2, (2, 3), 2)):
            ours, hers = gradients_of(BiLevelRoutingAttention, *given), gradients_of(own, *given)
            for name, found in hers.items():
                if found is None or (not found.any() and ours[name].any()):
                    raise Wrong(f"No gradient reaches {name}: it is detached, or used under no_grad.")
            for name, found in hers.items():
                if not same(found, ours[name]):
                    raise Wrong(f"The gradient of {name} is not bra's, though the outputs agree: something on its way "
                                "is detached, or under no_grad. Only the routing may be.")  # fmt: skip
        return Verdict(True, "They are bra's.")

    return attempt(trial)


def gradients_of(kind: Layer, x: Tensor, weights: dict, heads: int, grid: tuple[int, int], k: int) -> dict:
    """The gradients of a layer by name, the three parts of qkv apart; None for what got none."""
    with torch.enable_grad():
        module, x = loaded(kind(x.shape[-1], heads, grid, k), weights), x.clone().requires_grad_()
        out = module(x)
        if not out.requires_grad:
            raise Wrong("Its output has no gradient: it is detached, or was made under no_grad.")
        (out * numbers(*out.shape, seed=5)).sum().backward()
    qkv = module.qkv.weight.grad
    three = [None] * 3 if qkv is None else qkv.chunk(3)
    others = {name: p.grad for name, p in module.named_parameters() if name != "qkv.weight"}
    return {f"the {name} (qkv.weight)": g for name, g in zip(("queries", "keys", "values"), three, strict=True)} | {
        "x": x.grad, **others}  # fmt: skip


def sizes(own: Layer) -> Verdict:
    """One layer, maps of many sizes, down to a single token."""
    _, weights, *rest = example((4, 6, 8), 2, (2, 3), 4)
    ours = loaded(BiLevelRoutingAttention(8, *rest), weights)
    inputs = [(numbers(2, h, w, 8, seed=w), weights, *rest) for h, w in product((4, 1, 2, 3, 5), (6, 1, 2, 4, 7))]
    kept = []

    def one_layer(x: Tensor, weights: dict[str, Tensor], *rest) -> Tensor:
        if not kept:
            kept.append(loaded(own(8, *rest), weights))
        return kept[0](x)

    def new_layers(x: Tensor, weights: dict[str, Tensor], *rest) -> Tensor:
        return loaded(own(8, *rest), weights)(x)

    praise = f"{len(inputs)} sizes, from 1 x 1 on."
    verdict = judge(one_layer, inputs, lambda x, *_: ours(x), MISTAKES, praise)
    if not verdict and judge(new_layers, inputs, lambda x, *_: ours(x), [], praise):
        return Verdict(False, "A second call with a map of another size is wrong: it keeps something from the first.")
    return verdict


def dense(own: Layer) -> Verdict:
    """With k = R it is attention over all tokens, plus LCE."""

    def formula(x: Tensor, weights: dict[str, Tensor], heads: int, *_) -> Tensor:
        (b, h, w, c), of = x.shape, weights
        parts = F.linear(x, of["qkv.weight"], of["qkv.bias"]).chunk(3, dim=-1)
        split = [part.reshape(b, h * w, heads, -1).transpose(1, 2) for part in parts]
        out = F.scaled_dot_product_attention(*split, scale=c**-0.5).transpose(1, 2).reshape(x.shape)
        v = parts[2].permute(0, 3, 1, 2)
        nearby = F.conv2d(v, of["lce.conv.weight"], of["lce.conv.bias"], padding=2, groups=c).permute(0, 2, 3, 1)
        return F.linear(out + nearby, of["out.weight"], of["out.bias"])

    def run(x: Tensor, weights: dict[str, Tensor], heads: int, grid: tuple[int, int], k: int) -> Tensor:
        return loaded(own(x.shape[-1], heads, grid, k), weights)(x)

    inputs = [example((6, 8, 12), 3, (3, 2), 6), example((5, 9, 8), 2, (4, 3), 12)]
    return judge(run, inputs, formula, [], "With k = R it is dense attention, plus LCE.")


def inside(own: Layer, config: BiFormerConfig, pixels: int) -> Verdict:
    """A BiFormer with random weights gives the same logits when each routed layer is hers."""

    @torch.no_grad()
    def trial() -> Verdict:
        model, images, calls = random_biformer(config), numbers(1, 3, pixels, pixels), []
        blocks = [block for block in model.modules() if isinstance(block, Block)]
        blocks = [block for block in blocks if isinstance(block.attention, BiLevelRoutingAttention)]
        for block in blocks:
            block.attention.register_forward_hook(lambda layer, given, out: calls.append((layer, given[0], out)))
        expected = model(images)
        for number, (block, (ours, x, out)) in enumerate(zip(blocks, calls, strict=True), start=1):
            layer = own(ours.dim, ours.heads, ours.grid, ours.k)
            block.attention = loaded(layer, ours.state_dict()).eval()
            found = block.attention(x.clone())
            if not (isinstance(found, Tensor) and same(found, out)):
                raise Wrong(f"Routed block {number} of {len(blocks)} gives another map: dim {ours.dim}, heads "
                            f"{ours.heads}, grid {ours.grid}, k {ours.k}, given {tuple(x.shape)}.")  # fmt: skip
        if not same(model(images), expected):
            raise Wrong("The logits differ, though each layer by itself gives the right map.")
        return Verdict(True, "The logits are the same.")

    return attempt(trial)


def random_biformer(config: BiFormerConfig) -> BiFormer:
    """A model, the same each time, whose affinities lie far apart: rounding decides no route."""
    model = BiFormer(replace(config, initialise=lambda model: None)).eval()
    for seed, (name, weight) in enumerate(model.named_parameters()):
        if weight.ndim > 1:
            weight.copy_(numbers(*weight.shape, seed=seed) * weight[0].numel() ** -0.5)
        elif name.endswith("bias"):
            weight.copy_(0.1 * numbers(*weight.shape, seed=seed))
    return model


def in_nano(own: Layer) -> Verdict:
    """In BiFormer nano."""
    return inside(own, NANO, 32)


def in_tiny(own: Layer) -> Verdict:
    """In BiFormer-T; at 64 pixels no stage fits its grid of 7 x 7 regions."""
    return inside(own, replace(TINY, num_classes=10), 64)
