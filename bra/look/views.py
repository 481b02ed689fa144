"""What the BRA layers of any model do with one image: who reads whom, and every token's weights."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bra.look.calls import LayerCall, bra_layers, evaluating, record_calls
from bra.partition import RegionGrid
from bra.patterns import Grid

MOST_WEIGHTS = 16_000_000  # numbers: the token weights of one look take no more memory than this many


@dataclass(frozen=True, eq=False)
class View(RegionGrid):
    """What one BRA layer did with one image, on the region grid of its map.

    name: the layer's name among the model's modules.
    index: (r k), the regions that each region reads, best first. affinity: (r r), how much each wants to read each;
    -inf for regions that are all padding.
    weights: (r t m n), what share each of the n = k t gathered tokens has in the output of token t of region r, for
    each head m; None if they were not asked for, or are too many.
    Raises ValueError for tables that do not fit the grid, affinities that are NaN or inf, or weights of another shape.
    """

    name: str
    index: Int[Tensor, "r_index k"]
    affinity: Float[Tensor, "r_rows r_columns"]
    weights: Float[Tensor, "r_weights t m n"] | None = None

    def __post_init__(self):
        super().__post_init__()
        require_routes(self.name, self.grid, self.index, self.affinity)
        tokens, k = math.prod(self.cell), self.index.shape[1]
        if self.weights is not None:
            r, t, _, n = self.weights.shape
            if (r, t, n) != (self.count, tokens, k * tokens):
                shape = tuple(self.weights.shape)
                raise ValueError(
                    f"weights of {self.name} must be ({self.count}, {tokens}, heads, {k * tokens}), but are {shape}"
                )

    @property
    def label(self) -> str:
        """The name for people, as `label_of` has it."""
        return label_of(self.name)

    def reads(self, region: int) -> dict[int, int]:
        """What a region reads, each with its rank, from 1; the better one of a region that is listed twice."""
        read = self.index[region].tolist()
        return {other: read.index(other) + 1 for other in dict.fromkeys(read)}

    def readers(self, region: int) -> dict[int, int]:
        """Who reads a region, each with the rank that it has for them; regions that are all padding read nothing."""
        ranks = ((reader, self.reads(reader).get(region)) for reader in range(self.count) if self.is_real(reader))
        return {reader: rank for reader, rank in ranks if rank}

    def tokens_read(self, region: int) -> int:
        """How many tokens share the attention of one in the region; padding has none of it."""
        return sum(math.prod(self.box(read)[2:]) for read in self.index[region].tolist())

    def token_map(self, row: int, column: int) -> Float[Tensor, "m h w"]:
        """The weights of one token laid back onto the map, for each head; 0 where it reads nothing.

        Each head's sum to 1: the union of the routed regions shares one softmax. Raises ValueError without weights.
        """
        if self.weights is None:
            raise ValueError(f"weights of {self.name} must be there, but were not asked for, or are too many: see look")
        region, place = self.locate(row, column)
        read = rearrange(self.weights[region, place], "m (k t) -> m k t", t=self.cell[0] * self.cell[1])
        laid = read.new_zeros(len(read), len(self.index), read.shape[2])
        laid.index_add_(1, self.index[region], read)
        (rows, columns), (down, across) = self.grid, self.cell
        laid = rearrange(laid, "m (i j) (y x) -> m (i y) (j x)", i=rows, j=columns, y=down, x=across)
        return laid[:, : self.size[0], : self.size[1]]


def label_of(name: str) -> str:
    """A layer's name for people: "stage 0, block 1" for one of a `BiFormer`."""
    found = re.fullmatch(r"stages\.(\d+)\.(\d+)\.attention", name)
    return f"stage {found[1]}, block {found[2]}" if found else name or "the layer"


def require_routes(name: str, grid: Grid, index: Tensor, affinity: Tensor) -> None:
    """Raise ValueError unless index (r k) and affinity (r r) of the layer `name` are tables for the grid."""
    regions, on = math.prod(grid), f"on a grid of {grid[0]} x {grid[1]}"
    if len(index) != regions or index.shape[1] < 1:
        raise ValueError(f"index of {name} must have {regions} rows {on}, but its shape is {tuple(index.shape)}")
    if index.min() < 0 or index.max() >= regions:
        lowest, highest = index.min(), index.max()
        raise ValueError(f"index of {name} must be of 0 to {regions - 1} {on}, but is of {lowest} to {highest}")
    if affinity.shape != (regions, regions):
        shape = tuple(affinity.shape)
        raise ValueError(f"affinity of {name} must be ({regions}, {regions}) {on}, but its shape is {shape}")
    require_affinity(name, affinity)


def require_affinity(name: str, affinity: Float[Tensor, "*b r r"]) -> None:
    """Raise ValueError for affinities of the layer `name` that are NaN or inf; -inf is that of padding."""
    wrong = affinity.isnan() | (affinity == torch.inf)
    if wrong.any():
        first = tuple(wrong.nonzero()[0].tolist())
        raise ValueError(
            f"affinity of {name or 'the layer'} must be finite or -inf, but {int(wrong.sum())} of {wrong.numel()} "
            f"entries are not: the first, of region {first[-2]} to region {first[-1]}, is {affinity[first].item()}"
        )


def look(
    model: nn.Module, image: Float[Tensor, "*b c h w"], layers: Sequence[str] | None = None, tokens: bool = True
) -> list[View]:
    """What every BRA layer in `model` does with one image (c h w), or (1 c h w), in the order in which they run.

    The model is run once, in evaluation; its modes are then as before. A layer that runs again is there again, as
    "name, run 2". A `torch.compile`d model runs past the hooks: pass the model itself.
    layers: names of the layers that are wanted; None: all. tokens: whether the weights of the tokens are. A layer whose
    weights would bring them to more than MOST_WEIGHTS numbers in all has none.
    Raises ValueError for more than one image, a layer that is not there, and what `record_calls` and `View` raise.
    """
    images = image if image.ndim == 4 else image[None]
    if images.ndim != 4 or len(images) != 1:
        raise ValueError(f"image must be one image, (c h w) or (1 c h w), but its shape is {tuple(image.shape)}")
    if any(value.is_meta for value in model.state_dict().values()):
        raise ValueError("model must have its weights, but is on the meta device, which holds none")
    found = bra_layers(model)
    if unknown := [name for name in layers or () if name not in found]:
        raise ValueError(f"layers must be among {', '.join(found) or 'none: there is no BRA layer'}, not {unknown[0]}")
    views: list[View] = []

    def note(call: LayerCall) -> None:
        index, affinity = (table[0].detach().cpu() for table in call.routes)
        weights = None
        spent = sum(view.weights.numel() for view in views if view.weights is not None)
        r, t = call.qkv.shape[1:3]
        if tokens and spent + r * t * call.layer.heads * index.shape[1] * t <= MOST_WEIGHTS:
            q, k, _ = call.qkv[0].detach().cpu().to(affinity.dtype).chunk(3, dim=-1)
            valid = None if call.valid is None else call.valid.cpu().view(r, t)  # of this one image, or of all
            weights = token_weights(q, k, index, call.layer.heads, call.layer.scale, valid)
        views.append(View(call.layer.grid, call.size, call.name, index, affinity, weights))

    chosen = {name: layer for name, layer in found.items() if layers is None or name in layers}
    with evaluating(model), torch.no_grad(), record_calls(chosen, note):
        model(images)
    return views


def token_weights(
    q: Float[Tensor, "r t c"],
    k: Float[Tensor, "r t c"],
    index: Int[Tensor, "r n"],
    heads: int,
    scale: float,
    valid: Bool[Tensor, "r t"] | None = None,
) -> Float[Tensor, "r t m nt"]:
    """softmax(scale Q (K^g)^T), which `attend` never stores: each token's and head's weights on the gathered tokens.

    valid: which tokens are no padding; the others get 0. A token that reads no real one has only zeros.
    """
    q, k = (rearrange(x, "r t (m d) -> r m t d", m=heads) for x in (q, k))
    keys = rearrange(k[index], "r n m t d -> r m (n t) d")
    scores = scale * q @ keys.mT
    if valid is not None:
        scores = scores.masked_fill(~valid[index].flatten(1)[:, None, None], float("-inf"))
    return rearrange(scores.softmax(dim=-1).nan_to_num(0.0), "r m t n -> r t m n")
