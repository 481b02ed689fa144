"""What the BRA layers of any model do with one image: who reads whom, and every token's weights.

The layers are found by walking the modules, so a model of one's own needs no preparation.
"""

import re
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass

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
        if (wrong := self.affinity.isnan() | (self.affinity == torch.inf)).any():
            row, column = wrong.nonzero()[0].tolist()
            raise ValueError(
                f"affinity of {self.name} must be finite or -inf, but {int(wrong.sum())} of {wrong.numel()} entries "
                f"are not: the first, of region {row} to region {column}, is {self.affinity[row, column].item()}"
            )
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
        """The name for people: "stage 0, block 1" for a layer of a `BiFormer`."""
        found = re.fullmatch(r"stages\.(\d+)\.(\d+)\.attention", self.name)
        return f"stage {found[1]}, block {found[2]}" if found else self.name or "the layer"

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


def look(
    model: nn.Module, image: Float[Tensor, "*b c h w"], layers: Sequence[str] | None = None, tokens: bool = True
) -> list[View]:
    """What every BRA layer in `model` does with one image (c h w), or (1 c h w), in the order in which they run.

    The model is run once, in evaluation; its modes are then as before. A layer that runs again is there again, as
    "name, run 2". A `torch.compile`d model runs past the hooks: pass the model itself.
    layers: names of the layers that are wanted; None: all. tokens: whether the weights of the tokens are. A layer whose
    weights would bring them to more than MOST_WEIGHTS numbers in all has none.
    Raises ValueError for more than one image, a layer that is not there, a model in which no BRA layer ran, and what
    `View` raises.
    """
    images = image if image.ndim == 4 else image[None]
    if images.ndim != 4 or len(images) != 1:
        raise ValueError(f"image must be one image, (c h w) or (1 c h w), but its shape is {tuple(image.shape)}")
    found = {name: module for name, module in model.named_modules() if isinstance(module, BiLevelRoutingAttention)}
    if unknown := [name for name in layers or () if name not in found]:
        raise ValueError(f"layers must be among {', '.join(found) or 'none: there is no BRA layer'}, not {unknown[0]}")
    chosen = {name: layer for name, layer in found.items() if layers is None or name in layers}
    with ExitStack() as stack:
        views = stack.enter_context(watch(chosen, tokens))
        stack.enter_context(evaluating(model))
        with torch.no_grad():
            model(images)
    if not views:
        raise ValueError("model must run a BiLevelRoutingAttention or BRA2d layer, but none ran")
    return views


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


@contextmanager
def watch(layers: dict[str, BiLevelRoutingAttention], tokens: bool) -> Iterator[list[View]]:
    """Collect a `View` each time one of the layers runs."""
    views: list[View] = []
    seen: dict[str, list] = {}  # of the layer that runs now: q, k and routes
    runs: dict[str, int] = {}

    def note(name: str, layer: BiLevelRoutingAttention, inputs: tuple) -> None:
        x = inputs[0].permute(0, 2, 3, 1) if isinstance(layer, BRA2d) else inputs[0]
        routes = Routes(*(table[0].detach().cpu() for table in seen.pop("routes")))
        qkv, real = seen.pop("qkv"), layer.cut(x)[1]
        weights = None
        spent = sum(view.weights.numel() for view in views if view.weights is not None)
        wanted = qkv.shape[1] * qkv.shape[2] ** 2 * layer.heads * routes.index.shape[1]
        if tokens and spent + wanted <= MOST_WEIGHTS:
            q, k, _ = qkv[0].detach().cpu().to(routes.affinity.dtype).chunk(3, dim=-1)
            real = None if real is None else real.cpu()
            weights = token_weights(q, k, routes.index, layer.heads, layer.scale, real)
        runs[name] = runs.get(name, 0) + 1
        again = f", run {runs[name]}" if runs[name] > 1 else ""
        views.append(View(name + again, layer.grid, tuple(x.shape[1:3]), *routes, weights))

    hooks = []
    for name, layer in layers.items():
        hooks += [
            layer.qkv.register_forward_hook(lambda module, inputs, qkv: seen.update(qkv=qkv)),
            layer.router.register_forward_hook(lambda module, inputs, routes: seen.update(routes=routes)),
            layer.register_forward_hook(lambda layer, inputs, out, name=name: note(name, layer, inputs)),
        ]
    try:
        yield views
    finally:
        for hook in hooks:
            hook.remove()


def token_weights(
    q: Float[Tensor, "r t c"],
    k: Float[Tensor, "r t c"],
    index: Int[Tensor, "r n"],
    heads: int,
    scale: float,
    real: Bool[Tensor, "r t"] | None = None,
) -> Float[Tensor, "r t m nt"]:
    """softmax(scale Q (K^g)^T), which `attend` never stores: every token's weights on the gathered tokens.

    real: which tokens are no padding; the others get 0. A token that reads no real one has only zeros.
    """
    q, k = (rearrange(x, "r t (m d) -> r m t d", m=heads) for x in (q, k))
    keys = rearrange(k[index], "r n m t d -> r m (n t) d")
    scores = scale * q @ keys.mT
    if real is not None:
        scores = scores.masked_fill(~real[index].flatten(1)[:, None, None], float("-inf"))
    return rearrange(scores.softmax(dim=-1).nan_to_num(0.0), "r m t n -> r t m n")
