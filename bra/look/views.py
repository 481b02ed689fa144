"""What the BRA layers of any model do with one image: who reads whom, and every token's weights.

The layers are found by walking the modules, so a model of one's own needs no preparation.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import NamedTuple

import torch
from einops import rearrange
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bra.arguments import require_grid
from bra.layer import BiLevelRoutingAttention, BRA2d
from bra.patterns import Grid
from bra.topk import Routes

MOST_WEIGHTS = 16_000_000  # numbers: the token weights of one look take no more memory than this many


@dataclass(frozen=True, eq=False)
class View:
    """What one BRA layer did with one image.

    name: the layer's name among the model's modules. grid: (rows, columns) of regions. size: (h, w), tokens of its map.
    index: (r k), the regions that each region reads, best first. affinity: (r r), how much each wants to read each;
    -inf for regions that are all padding.
    weights: (r t m n), what share each of the n = k t gathered tokens has in the output of token t of region r, for
    each head m; None if they were not asked for, or are too many.
    Raises ValueError for tables that do not fit the grid, affinities that are NaN or inf, or weights of another shape.
    """

    name: str
    grid: Grid
    size: tuple[int, int]
    index: Int[Tensor, "r_index k"]
    affinity: Float[Tensor, "r_rows r_columns"]
    weights: Float[Tensor, "r_weights t m n"] | None = None

    def __post_init__(self):
        require_grid(self.grid)
        if min(self.size) < 1:
            raise ValueError(f"size must be (h, w) of at least one token each, but is {tuple(self.size)}")
        regions, k = self.grid[0] * self.grid[1], self.index.shape[1]
        on = f"on a grid of {self.grid[0]} x {self.grid[1]}"
        if len(self.index) != regions or k < 1:
            raise ValueError(
                f"index of {self.name} must have {regions} rows {on}, but its shape is {tuple(self.index.shape)}"
            )
        if self.index.min() < 0 or self.index.max() >= regions:
            lowest, highest = self.index.min(), self.index.max()
            raise ValueError(
                f"index of {self.name} must be of 0 to {regions - 1} {on}, but is of {lowest} to {highest}"
            )
        if self.affinity.shape != (regions, regions):
            shape = tuple(self.affinity.shape)
            raise ValueError(f"affinity of {self.name} must be ({regions}, {regions}) {on}, but its shape is {shape}")
        require_affinity(self.name, self.affinity)
        tokens = self.cell[0] * self.cell[1]
        if self.weights is not None:
            r, t, _, n = self.weights.shape
            if (r, t, n) != (regions, tokens, k * tokens):
                shape = tuple(self.weights.shape)
                raise ValueError(
                    f"weights of {self.name} must be ({regions}, {tokens}, heads, {k * tokens}), but are {shape}"
                )

    @property
    def cell(self) -> tuple[int, int]:
        """Tokens down and across a region, of the map padded to the grid."""
        return -(-self.size[0] // self.grid[0]), -(-self.size[1] // self.grid[1])

    @property
    def label(self) -> str:
        """The name for people, as `label_of` has it."""
        return label_of(self.name)

    def locate(self, row: int, column: int) -> tuple[int, int]:
        """Region and place in it of the token at (row, column) of the map. Raises ValueError if there is none."""
        if not (0 <= row < self.size[0] and 0 <= column < self.size[1]):
            raise ValueError(f"token must be on the map of {self.size[0]} x {self.size[1]}, but is ({row}, {column})")
        (down, y), (right, x) = divmod(row, self.cell[0]), divmod(column, self.cell[1])
        return down * self.grid[1] + right, y * self.cell[1] + x

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
    Raises ValueError for more than one image, a layer that is not there, and what `watch` and `View` raise.
    """
    images = image if image.ndim == 4 else image[None]
    if images.ndim != 4 or len(images) != 1:
        raise ValueError(f"image must be one image, (c h w) or (1 c h w), but its shape is {tuple(image.shape)}")
    found = bra_layers(model)
    if unknown := [name for name in layers or () if name not in found]:
        raise ValueError(f"layers must be among {', '.join(found) or 'none: there is no BRA layer'}, not {unknown[0]}")
    views: list[View] = []

    def note(run: Run) -> None:
        index, affinity = (table[0].detach().cpu() for table in run.routes)
        weights = None
        spent = sum(view.weights.numel() for view in views if view.weights is not None)
        r, t = run.qkv.shape[1:3]
        if tokens and spent + r * t * run.layer.heads * index.shape[1] * t <= MOST_WEIGHTS:
            q, k, _ = run.qkv[0].detach().cpu().to(affinity.dtype).chunk(3, dim=-1)
            real = None if run.real is None else run.real.cpu()
            weights = token_weights(q, k, index, run.layer.heads, run.layer.scale, real)
        views.append(View(run.name, run.layer.grid, run.size, index, affinity, weights))

    chosen = {name: layer for name, layer in found.items() if layers is None or name in layers}
    with evaluating(model), torch.no_grad(), watch(chosen, note):
        model(images)
    return views


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


class Run(NamedTuple):
    """One run of a BRA layer on a batch of maps.

    name: the layer's, with ", run 2" if it is the second. size: (h, w) of the maps. qkv: (b r t 3c).
    real: (r t), which tokens are no padding; None: all.
    """

    name: str
    layer: BiLevelRoutingAttention
    size: tuple[int, int]
    routes: Routes
    qkv: Tensor
    real: Tensor | None


@contextmanager
def watch(layers: Mapping[str, BiLevelRoutingAttention], note: Callable[[Run], None]) -> Iterator[None]:
    """Call `note` each time one of the layers has run. Raises ValueError at the end if none has."""
    seen: dict = {}  # of the layer that runs now
    runs: Counter[str] = Counter()

    def ran(name: str, layer: BiLevelRoutingAttention, out: Tensor) -> None:
        x = out.permute(0, 2, 3, 1) if isinstance(layer, BRA2d) else out  # of the input's size
        runs[name] += 1
        again = f", run {runs[name]}" if runs[name] > 1 else ""
        real = layer.cut(x)[1]
        note(Run(name + again, layer, tuple(x.shape[1:3]), seen.pop("routes"), seen.pop("qkv"), real))

    hooks = []
    for name, layer in layers.items():
        hooks += [
            layer.qkv.register_forward_hook(lambda module, inputs, qkv: seen.update(qkv=qkv)),
            layer.router.register_forward_hook(lambda module, inputs, routes: seen.update(routes=routes)),
            layer.register_forward_hook(lambda layer, inputs, out, name=name: ran(name, layer, out)),
        ]
    try:
        yield
    finally:
        for hook in hooks:
            hook.remove()
    if not runs:
        raise ValueError("model must run a BiLevelRoutingAttention or BRA2d layer that is watched, but none ran")


def token_weights(
    q: Float[Tensor, "r t c"],
    k: Float[Tensor, "r t c"],
    index: Int[Tensor, "r n"],
    heads: int,
    scale: float,
    real: Bool[Tensor, "r t"] | None = None,
) -> Float[Tensor, "r t m nt"]:
    """softmax(scale Q (K^g)^T), which `attend` never stores: each token's and head's weights on the gathered tokens.

    real: which tokens are no padding; the others get 0. A token that reads no real one has only zeros.
    """
    q, k = (rearrange(x, "r t (m d) -> r m t d", m=heads) for x in (q, k))
    keys = rearrange(k[index], "r n m t d -> r m (n t) d")
    scores = scale * q @ keys.mT
    if real is not None:
        scores = scores.masked_fill(~real[index].flatten(1)[:, None, None], float("-inf"))
    return rearrange(scores.softmax(dim=-1).nan_to_num(0.0), "r m t n -> r t m n")
