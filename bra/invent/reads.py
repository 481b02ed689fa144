"""Whom a region reads in truth: hold the routes, change what stands in one region, and see whose output changes."""

from collections.abc import Iterator
from contextlib import ExitStack, contextmanager

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from bra.biformer import BiFormer
from bra.layer import BiLevelRoutingAttention, record_routes
from bra.partition import partition_regions
from bra.topk import Routes

STRIDE = 4  # pixels on a token's side, in the networks for boards
CHANGE = 1e-9  # of numbers about 1, in float64: less than that is rounding


class Refused(ValueError):
    """An entry does not keep to the rules; the text says which, in one line."""


def answer(layer: nn.Module, *inputs: Tensor, seed: int = 0) -> Tensor:
    """What the layer makes of the inputs, when chance begins at `seed`."""
    torch.manual_seed(seed)
    return layer(*inputs)


def changed(one: Float[Tensor, "*n c"], other: Float[Tensor, "*n c"]) -> Bool[Tensor, "*n"]:
    """Which tokens differ."""
    return (one - other).abs().amax(dim=-1) > CHANGE * max(1.0, float(one.abs().max()))


@contextmanager
def frozen(layer: BiLevelRoutingAttention, routes: Routes) -> Iterator[None]:
    """While this context is open the layer's router runs, but this index is taken, whatever it says.

    Its affinity stays that of the run: who passes news on in it is found out.
    """
    hook = layer.router.register_forward_hook(
        lambda module, inputs, chosen: Routes(routes.index.expand(len(inputs[0]), -1, -1), chosen.affinity)
    )
    try:
        yield
    finally:
        hook.remove()


def said(routes: Routes) -> Bool[Tensor, "r r"]:
    """Whom each region (row) reads according to the routes of one image; and itself, whose tokens ask."""
    regions = routes.index.shape[1]
    return torch.eye(regions, dtype=torch.bool).scatter(1, routes.index[0], True)


def check_reads(layer: BiLevelRoutingAttention, x: Float[Tensor, "1 h w c"], all_of_them: bool) -> None:
    """Hold the routes, change one region after another, and see whose outputs change: whom a region reads in truth.

    Raises Refused if a region reads one that its routes do not name; with all_of_them also if it does not read one that
    they do, for whoever names more than she reads would hit more often than she does.
    """
    with record_routes(layer) as recorded:
        before = partition_regions(answer(layer, x), layer.grid)
    told, (b, h, w, c) = said(recorded[0]), x.shape
    places = partition_regions(torch.arange(h * w).view(1, h, w, 1), layer.grid)[0, :, :, 0]
    for region, tokens in enumerate(places):
        other = x.reshape(b, h * w, c).index_fill(1, tokens, 0.0)
        torch.manual_seed(region)
        other[:, tokens] = torch.randn(b, len(tokens), c, dtype=x.dtype)
        with frozen(layer, recorded[0]):
            after = partition_regions(answer(layer, other.view(b, h, w, c)), layer.grid)
        found = changed(before, after)[0].any(dim=1)
        if (extra := found & ~told[:, region]).any():
            reader = int(extra.nonzero()[0])
            raise Refused(f"region {reader} reads region {region}, but its routes name {named(recorded[0], reader)}")
        if all_of_them and (missing := told[:, region] & ~found).any():
            reader = int(missing.nonzero()[0])
            raise Refused(f"the routes of region {reader} name {region}, but it reads nothing there")


def named(routes: Routes, region: int) -> str:
    """The regions that it reads, in words."""
    return ", ".join(map(str, sorted(set(routes.index[0, region].tolist()))))


@torch.no_grad()
def examine_network(network: BiFormer, images: Float[Tensor, "1 3 h w"], cell: int) -> None:
    """Hold the routes of a trained network, change one cell of a board after another, and see how far the news goes.

    The network becomes one of float64. Raises Refused if news reaches a region by another way than the routes of all
    layers, one after the other, or if one of its layers, while it trains, reads what its routes do not name.
    """
    network, images = network.double(), images.double()
    layers = [module for module in network.modules() if isinstance(module, BiLevelRoutingAttention)]
    for layer in layers:
        side = images.shape[-1] // STRIDE
        check_reads(layer.train(), torch.randn(1, side, side, layer.dim, dtype=torch.float64), all_of_them=False)
    network.eval()
    with record_routes(network) as recorded:
        before = network.pyramid(images)[-1]
    grid, heard = layers[0].grid, torch.eye(layers[0].grid[0] * layers[0].grid[1], dtype=torch.float64)
    for routes in recorded:
        heard = said(routes).double() @ heard
    shown = images.repeat(len(heard), 1, 1, 1)
    for region, image in enumerate(shown):  # a copy for each cell, in which that cell holds another's picture
        y, x = (cell * place for place in divmod(region, grid[1]))
        image[:, y : y + cell, x : x + cell] = image[:, y : y + cell, x : x + cell].flip(0) + 0.5
    with ExitStack() as held:
        for layer, routes in zip(layers, recorded, strict=True):
            held.enter_context(frozen(layer, routes))
        after = network.pyramid(shown)[-1]
    differ = changed(*(m.permute(0, 2, 3, 1) for m in (before.expand_as(after), after)))  # cell h w
    found = partition_regions(differ[..., None], grid)[..., 0].any(dim=2)  # changed cell, region
    if (extra := found.T & (heard == 0)).any():
        region, source = extra.nonzero()[0].tolist()
        raise Refused(f"after training, news of region {source} reaches region {region} by no route")
