"""Step 08. BiFormer: a pyramid of blocks around Bi-level Routing Attention.

Where paper and official code differ, this follows the code, and its parameters have the official shapes.
"""

from collections.abc import Callable
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn
from torch.utils.checkpoint import checkpoint

from bra.arguments import require_grid, require_k
from bra.attention import attend
from bra.block import Block, FullAttention
from bra.layer import BiLevelRoutingAttention, record_routes
from bra.patterns import Grid
from bra.topk import Routes

FULL: Literal["full"] = "full"


@dataclass(frozen=True)
class Stage:
    """One resolution of the pyramid: `depth` blocks of `dim` channels, whose regions read k others.

    k = FULL: every token reads every token, as in the last stage of the official models.
    """

    dim: int
    depth: int
    heads: int
    k: int | Literal["full"]


def initialise_small(model: nn.Module) -> None:
    """The official start: linear weights from a normal of deviation 0.02, biases 0; the rest as PyTorch makes it."""
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=0.02)
            if module.bias is not None:
                nn.init.zeros_(module.bias)


def initialise_by_width(model: nn.Module) -> None:
    """A start for small models: linear weights of deviation width^(-1/2), biases 0.

    In narrow layers weights of 0.02 leave every affinity near 0.
    """
    initialise_small(model)
    for module in model.modules():
        if isinstance(module, nn.Linear):
            nn.init.trunc_normal_(module.weight, std=module.in_features**-0.5)


def initialise_alike(model: nn.Module) -> None:
    """The same with W_k = W_q in routed layers: the affinity Q^r (K^r)^T starts as a symmetric measure of likeness."""
    initialise_by_width(model)
    for module in model.modules():
        if isinstance(module, BiLevelRoutingAttention):
            with torch.no_grad():
                module.qkv.weight[module.dim : 2 * module.dim] = module.qkv.weight[: module.dim]


@dataclass(frozen=True)
class BiFormerConfig:
    """All that defines a BiFormer.

    stem: widths of the stride-2 convolutions before the first stage; the last is the first stage's dim.
    stages: the stages; between two, one stride-2 convolution.
    stem_kernel: side of all these filters: 3, which overlap, or 2, which do not: tokens see their own pixels alone.
    grid: (rows, columns) of regions in every routed stage.
    mlp_ratio: hidden width of the MLPs, in dims. drop_path: rate in the last block, rising from 0.
    lce_kernel, position_kernel: sides of the filters of LCE and position code; 0 leaves one out.
    router: makes the router of one layer from (grid, k); None is `TopKRouter(k)`.
    attend: the attention function of the routed layers.
    checkpoint_stages: stages (from 0) whose blocks, in training, are computed again in the backward pass instead of
    kept: less memory, about a third more time.
    initialise: sets the weights that training starts from.
    """

    stem: tuple[int, ...]
    stages: tuple[Stage, ...]
    grid: Grid = (7, 7)
    in_channels: int = 3
    num_classes: int = 1000
    mlp_ratio: int = 3
    drop_path: float = 0.0
    lce_kernel: int = 5
    position_kernel: int = 3
    router: Callable[[Grid, int], nn.Module] | None = None
    attend: Callable[..., Tensor] = attend
    checkpoint_stages: tuple[int, ...] = ()
    initialise: Callable[[nn.Module], None] = initialise_small
    stem_kernel: int = 3

    def __post_init__(self) -> None:
        if not self.stem or not self.stages or self.stem[-1] != self.stages[0].dim:
            raise ValueError(f"stem must end in the first stage's dim, but stem is {self.stem}, stages {self.stages}")
        if self.stem_kernel not in (2, 3):
            raise ValueError(f"stem_kernel must be 2 or 3, but is {self.stem_kernel}")
        if self.num_classes < 0:
            raise ValueError(f"num_classes must be at least 0, but is {self.num_classes}")
        if not 0 <= self.drop_path < 1:
            raise ValueError(f"drop_path must be at least 0 and below 1, but is {self.drop_path}")
        if not set(self.checkpoint_stages) <= set(range(len(self.stages))):
            raise ValueError(
                f"checkpoint_stages must be among 0 to {len(self.stages) - 1}, but are {self.checkpoint_stages}"
            )


def four_stages(dim: int, depths: tuple[int, int, int, int]) -> BiFormerConfig:
    """The shape that the published models share: widths double, k grows fourfold, the last stage is full."""
    return BiFormerConfig(
        stem=(dim // 2, dim),
        stages=(
            Stage(dim, depths[0], heads=dim // 32, k=1),
            Stage(2 * dim, depths[1], heads=2 * dim // 32, k=4),
            Stage(4 * dim, depths[2], heads=4 * dim // 32, k=16),
            Stage(8 * dim, depths[3], heads=8, k=FULL),
        ),
    )


TINY = four_stages(dim=64, depths=(2, 2, 8, 2))
SMALL = four_stages(dim=64, depths=(4, 4, 18, 4))
BASE = four_stages(dim=96, depths=(4, 4, 18, 4))
NANO = BiFormerConfig(
    stem=(32, 64), stages=(Stage(64, 2, heads=2, k=4),), grid=(4, 4), num_classes=8, initialise=initialise_alike
)
BOARD = replace(NANO, stem_kernel=2, lce_kernel=0, position_kernel=0)  # nothing but routing carries news over a border
PYRAMID = replace(BOARD, stages=(Stage(64, 1, heads=2, k=4), Stage(128, 1, heads=4, k=4)))  # a halving between the two
MODELS = {  # what command lines call them
    "board": BOARD,
    "board-pyramid": PYRAMID,
    "nano": NANO,
    "tiny": TINY,
    "small": SMALL,
    "base": BASE,
}


class Halvings(nn.Sequential):
    """Convolutions of stride 2, and what stands between them."""

    def forward(
        self, x: Float[Tensor, "b c h w"], real: Bool[Tensor, "b h w"] | None = None
    ) -> Float[Tensor, "b _ _ _"]:
        """real: which places of each map are real, None: all. The convolutions see zeros elsewhere."""
        for layer in self:
            if real is not None and isinstance(layer, nn.Conv2d):
                x, real = x.masked_fill(~real[:, None], 0), real[:, ::2, ::2]
            x = layer(x)
        return x


class Blocks(nn.Sequential):
    """The blocks of a stage. recompute: in training they are computed again in the backward pass instead of kept."""

    def __init__(self, *blocks: Block, recompute: bool = False):
        super().__init__(*blocks)
        self.recompute = recompute

    def forward(self, x: Float[Tensor, "b c h w"], *real: Bool[Tensor, "b h w"]) -> Float[Tensor, "b c h w"]:
        """real: a mask, as `Block` takes it, or nothing."""
        for block in self:
            if self.recompute and self.training:
                x = checkpoint(same_grid, block, getattr(block.attention, "grid", None), x, *real, use_reentrant=False)
            else:
                x = block(x, *real)
        return x


def same_grid(block: Block, grid: Grid | None, x: Tensor, *real: Tensor) -> Tensor:
    """A block's output. Raises RuntimeError if its grid is another: recomputed with that, gradients would be wrong."""
    now = getattr(block.attention, "grid", None)
    if now != grid:
        raise RuntimeError(
            f"the grid was {grid} and is now {now}: with gradient checkpointing, call backward before images of "
            "another size come"
        )
    return block(x, *real)


class BiFormer(nn.Module):
    """Stem, stages with a stride-2 convolution between them, batch norm, mean over the map, classifier.

    With N convolutions in the stem, stage i (from 0) has stride 2^(N + i): 4, 8, 16, 32 in TINY, SMALL and BASE.
    Raises ValueError for a config whose heads, grid or k do not fit.
    """

    __call__: Callable[..., Tensor]

    def __init__(self, config: BiFormerConfig):
        super().__init__()
        self.config = config
        dims = [stage.dim for stage in config.stages]
        blocks = sum(stage.depth for stage in config.stages)
        rates = iter([config.drop_path * i / max(1, blocks - 1) for i in range(blocks)])
        self.downsample = nn.ModuleList([make_stem(config.in_channels, *config.stem, kernel=config.stem_kernel)])
        self.downsample.extend(halve(narrow, wide, config.stem_kernel) for narrow, wide in pairwise(dims))
        self.stages = nn.ModuleList(
            Blocks(
                *(
                    Block(s.dim, make_attention(config, s), config.mlp_ratio, next(rates), config.position_kernel)
                    for _ in range(s.depth)
                ),
                recompute=i in config.checkpoint_stages,
            )
            for i, s in enumerate(config.stages)
        )
        self.norm = nn.BatchNorm2d(dims[-1])
        self.head = nn.Linear(dims[-1], config.num_classes) if config.num_classes else nn.Identity()
        config.initialise(self)
        self.to(memory_format=torch.channels_last)  # type: ignore[call-overload]  # spares copies

    def forward(self, images: Float[Tensor, "b c h w"]) -> Float[Tensor, "b classes"]:
        """Class logits. Raises ValueError as `pyramid` does."""
        return self.head(self.norm(self.pyramid(images)[-1]).mean(dim=(2, 3)))

    def pyramid(self, images: Float[Tensor, "b c h w"]) -> list[Float[Tensor, "b _ _ _"]]:
        """The map (b c h w) after each stage, before the last norm; `feature_info` says what they are.

        Raises ValueError for images that are not (b c h w) of floating point with the config's channels, or none.
        """
        require_images(images, self.config)
        maps = []
        for downsample, stage in zip(self.downsample, self.stages, strict=True):
            images = stage(downsample(images))
            maps.append(images)
        return maps

    @property
    def grid(self) -> Grid:
        """(rows, columns) of regions in every routed stage; it can be set, for images of another size.

        Raises ValueError for a grid of fewer regions than a stage reads.
        """
        return self.config.grid

    @grid.setter
    def grid(self, grid: Grid) -> None:
        require_grid(grid)
        layers = [module for module in self.modules() if isinstance(module, BiLevelRoutingAttention)]
        for layer in layers:
            require_k(layer.k, grid[0] * grid[1])
        for layer in layers:
            layer.grid = (grid[0], grid[1])
        self.config = replace(self.config, grid=(grid[0], grid[1]))

    @property
    def feature_info(self) -> list[dict]:
        """Of each map of `pyramid`: channels, stride to the image, module. The names are those of timm's backbones."""
        first = len(self.config.stem)
        return [
            {"num_chs": stage.dim, "reduction": 2 ** (first + i), "module": f"stages.{i}"}
            for i, stage in enumerate(self.config.stages)
        ]

    def reset_classifier(self, num_classes: int) -> None:
        """A new head for `num_classes` classes; 0 leaves it out, and `forward` returns the mean of the last map.

        Raises ValueError for a negative number.
        """
        old = next(self.parameters())
        self.config = replace(self.config, num_classes=num_classes)
        self.head = nn.Linear(self.config.stages[-1].dim, num_classes) if num_classes else nn.Identity()
        self.config.initialise(self.head)
        self.head.to(old.device, old.dtype).train(self.training)

    def routes(self, images: Float[Tensor, "b c h w"]) -> list[Routes]:
        """The `Routes` of every routed block, first block first, without gradient.

        In the model's present mode: call `eval()` first, or batch norm takes note of these images.
        """
        with torch.no_grad(), record_routes(self) as recorded:
            self.pyramid(images)
        return recorded


def require_images(images: Tensor, config: BiFormerConfig) -> None:
    """Raise ValueError for what is no batch of images for a model of this config."""
    if not isinstance(images, Tensor):
        found = f"a {type(images).__name__}: pad them and pass sizes to bra.dense.Backbone"
        raise ValueError(f"images must be one tensor (b c h w), not {found}")
    if images.ndim != 4 or images.shape[1] != config.in_channels:
        shape = tuple(images.shape)
        raise ValueError(f"images must be (b c h w) with {config.in_channels} channels, but the shape is {shape}")
    if not images.is_floating_point():
        raise ValueError(f"images must be floating point, such as uint8 / 255 normalised, but are {images.dtype}")
    if 0 in images.shape[2:]:
        raise ValueError(f"images must hold at least one pixel, but the shape is {tuple(images.shape)}")
    stride = 2 ** (len(config.stem) + len(config.stages) - 1)
    if config.stem_kernel == 2 and (images.shape[2] % stride or images.shape[3] % stride):
        shape = tuple(images.shape)
        raise ValueError(
            f"images must be multiples of {stride} high and wide for a stem_kernel of 2, but the shape is {shape}"
        )


def make_attention(config: BiFormerConfig, stage: Stage) -> nn.Module:
    """The attention of one block of `stage`."""
    if stage.k == FULL:
        return FullAttention(stage.dim, stage.heads, config.lce_kernel)
    return BiLevelRoutingAttention(
        stage.dim,
        stage.heads,
        config.grid,
        stage.k,
        router=config.router(config.grid, stage.k) if config.router else None,
        attend=config.attend,
        lce_kernel=config.lce_kernel,
    )


def halve(narrow: int, wide: int, kernel: int = 3) -> Halvings:
    """A convolution of stride 2 with batch norm. Side 3: half the height and width, rounded up; side 2: down."""
    return Halvings(nn.Conv2d(narrow, wide, kernel, stride=2, padding=kernel // 3), nn.BatchNorm2d(wide))


def make_stem(*widths: int, kernel: int = 3) -> Halvings:
    """`halve` from each width to the next, with a GELU between two of them."""
    layers = [layer for narrow, wide in pairwise(widths) for layer in (*halve(narrow, wide, kernel), nn.GELU())]
    return Halvings(*layers[:-1])


def biformer_tiny(**changes: Any) -> BiFormer:
    """BiFormer-T: 13.1 M parameters; `changes` replace fields of TINY."""
    return BiFormer(replace(TINY, **changes))


def biformer_small(**changes: Any) -> BiFormer:
    """BiFormer-S: 25.5 M parameters; `changes` replace fields of SMALL."""
    return BiFormer(replace(SMALL, **changes))


def biformer_base(**changes: Any) -> BiFormer:
    """BiFormer-B: 56.8 M parameters; `changes` replace fields of BASE."""
    return BiFormer(replace(BASE, **changes))


def biformer_nano(**changes: Any) -> BiFormer:
    """One stage, 8 x 8 tokens for images of 32 x 32 pixels: trains in a minute; `changes` replace fields of NANO."""
    return BiFormer(replace(NANO, **changes))
