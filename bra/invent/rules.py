"""What an entry must keep to: found out by trying, so that whoever reads more than she says is told so in one line.

The layer is examined by itself before training, and inside the trained network once more. All is computed in float64,
in which a change is a change.
"""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import torch
from jaxtyping import Float
from torch import Tensor, nn

from bra.invent.reads import Refused, answer, changed, check_reads
from bra.layer import BiLevelRoutingAttention, record_routes
from bra.patterns import Grid
from bra.topk import Routes

MakeLayer = Callable[[int, int, Grid, int], nn.Module]
TOKENS = (2, 2)  # of a region, as on the boards


@contextmanager
def in_one_line(doing: str) -> Iterator[None]:
    """Raise Refused for whatever an entry raises, but for errors of the machine."""
    try:
        yield
    except (Refused, OSError, MemoryError):
        raise
    except Exception as error:
        words = " ".join(str(error).split())[:200]
        raise Refused(f"{doing} it raises {type(error).__name__}: {words}") from error


def build(make_layer: MakeLayer, dim: int, heads: int, grid: Grid, k: int) -> BiLevelRoutingAttention:
    """The entry's layer. Raises Refused if it is none, or of other sizes than were asked for."""
    with in_one_line("when make_layer is called"):
        layer = make_layer(dim, heads, grid, k)
    if not isinstance(layer, BiLevelRoutingAttention):
        raise Refused(f"make_layer must return a BiLevelRoutingAttention, not {type(layer).__name__}")
    found = {"dim": layer.dim, "heads": layer.heads, "grid": tuple(layer.grid)}
    if found != (asked := {"dim": dim, "heads": heads, "grid": tuple(grid)}):
        raise Refused(f"make_layer was asked for {asked}, but its layer has {found}")
    return layer


def examine(make_layer: MakeLayer, dim: int, heads: int, grid: Grid, k: int) -> None:
    """Raise Refused unless the layer keeps to every rule, while it trains and while it is evaluated."""
    torch.manual_seed(0)
    layer = build(make_layer, dim, heads, grid, k).double()
    x = torch.randn(2, grid[0] * TOKENS[0], grid[1] * TOKENS[1], dim, dtype=torch.float64)
    with in_one_line("when the layer runs"), torch.no_grad():
        for training in (True, False):
            layer.train(training)
            check_form(layer, x)
            check_repeats(layer, x, training)
            check_reads(layer, x[:1], all_of_them=True)
        check_images_apart(layer, x)
        check_padding(layer, x)


def check_form(layer: BiLevelRoutingAttention, x: Float[Tensor, "b h w c"]) -> None:
    """Raise Refused unless the output has the shape of the input, and there is one set of Routes, well formed."""
    with record_routes(layer) as recorded:
        out = answer(layer, x)
    if out.shape != x.shape or out.dtype != x.dtype or not out.isfinite().all():
        raise Refused(f"its output must be finite and {tuple(x.shape)}, as its input is, but is {tuple(out.shape)}")
    if len(recorded) != 1 or not isinstance(recorded[0], Routes):
        raise Refused("layer.router must be called once for each map, and return bra.Routes")
    index, regions = recorded[0].index, layer.grid[0] * layer.grid[1]
    if index.ndim != 3 or index.shape[:2] != (len(x), regions) or index.dtype != torch.int64:
        raise Refused(f"the index of its Routes must be (b r k) of int64, but is {tuple(index.shape)} of {index.dtype}")
    if not ((index >= 0) & (index < regions)).all():
        raise Refused(f"the index of its Routes must name regions 0 to {regions - 1}")


def check_repeats(layer: nn.Module, x: Float[Tensor, "b h w c"], training: bool) -> None:
    """Raise Refused unless the same map gives the same output: by other random numbers too, unless it trains."""
    if changed(answer(layer, x), answer(layer, x, seed=0 if training else 1)).any():
        raise Refused("the same map gives another output the second time: only while training, and by PyTorch's seed "
                      "alone, may chance play a part")  # fmt: skip


def check_images_apart(layer: nn.Module, x: Float[Tensor, "b h w c"]) -> None:
    """Raise Refused if an image's output depends on what else is in the batch."""
    alone = torch.cat([answer(layer, image[None]) for image in x])
    if changed(answer(layer, x), alone).any():
        raise Refused("an image's output depends on the other images of its batch")


def check_padding(layer: BiLevelRoutingAttention, x: Float[Tensor, "b h w c"]) -> None:
    """Raise Refused if outputs depend on tokens that are not real, or on regions that hold none."""
    h, w = x.shape[1] - 1, x.shape[2] - TOKENS[1]  # one row short, one whole column of regions short
    real = torch.zeros(x.shape[:3], dtype=torch.bool)
    real[:, :h, :w] = True
    garbage = x.masked_fill(~real[..., None], 100.0)
    shown = [answer(layer, given, real)[:, :h, :w] for given in (x, garbage)]
    if changed(*shown).any():
        raise Refused("its output depends on tokens that are not real (see `real` of the layer, `valid` of attend)")
