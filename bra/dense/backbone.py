"""The maps of the stages of a BiFormer, for images of many sizes in one batch."""

from collections.abc import Callable, Sequence
from typing import Literal

import torch
import torch.nn.functional as F
from jaxtyping import Float, Int
from torch import Tensor, nn

from bra.biformer import FULL, BiFormer, require_images
from bra.gather import has_values
from bra.layer import BiLevelRoutingAttention
from bra.partition import real_map

BATCH_NORMS = ("train", "frozen")
Sizes = Int[Tensor, "b 2"] | Sequence[Sequence[int]]


class LayerNorm2d(nn.LayerNorm):
    """Layer norm of every token of a channels-first map."""

    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Over channels alone: other tokens, padding too, have no part in it."""
        return super().forward(x.permute(0, 2, 3, 1)).permute(0, 3, 1, 2)


class Backbone(nn.Module):
    """The stages of a BiFormer up to the last that is asked for: images in, maps out.

    model: its stem and stages become this module's, weights and all; what stands behind them (later stages, the last
    norm, the classifier) is left out, so every parameter here gets a gradient.
    out_indices: the stages (from 0) whose maps are returned, rising; None: all.
    region: side of a region in pixels, a multiple of every routed stage's stride. The grid then follows the images, at
    every forward: ceil(height / region) x ceil(width / region). A fixed grid (None: the model's) is stretched over the
    whole batch, so which tokens share a region, and with it every feature, depends on how far an image was padded for
    the sake of others. The official models' regions: 64 pixels for ADE20K (8 x 8 at 512), 50 to 83 for COCO
    (16 x 16 at about 1333 x 800). Routers must take any number of regions: a `TopKRouter` does, a `TableRouter` not.
    norms: whether each returned map passes a layer norm of its own, as in the official dense models.
    batch_norm: "frozen": it uses its running statistics in training too, as with few images a GPU (their scale and
    shift are still trained). "train": as PyTorch does it; the statistics then count padding. Over several GPUs wrap the
    Backbone in `torch.nn.SyncBatchNorm.convert_sync_batchnorm`.

    channels, reduction: of the returned maps, their channels and their strides in pixels.
    Raises ValueError for arguments that do not fit; backward, with gradient checkpointing (`checkpoint_stages`) and
    region, raises RuntimeError if images that gave another grid came after the forward pass.
    """

    __call__: Callable[..., list[Tensor]]

    def __init__(
        self,
        model: BiFormer,
        *,
        out_indices: Sequence[int] | None = None,
        region: int | None = None,
        norms: bool = True,
        batch_norm: Literal["train", "frozen"] = "train",
    ):
        super().__init__()
        stages, info = model.config.stages, model.feature_info
        self.out_indices = tuple(range(len(stages)) if out_indices is None else out_indices)
        require_rising(self.out_indices, len(stages))
        used = self.out_indices[-1] + 1
        routed = [of["reduction"] for of, stage in zip(info[:used], stages[:used], strict=True) if stage.k != FULL]
        if region is not None and (region < 1 or region % max(routed, default=1)):
            raise ValueError(
                f"region must be a multiple of {max(routed, default=1)} pixels, the stride of the last routed stage, "
                f"but is {region}"
            )
        if batch_norm not in BATCH_NORMS:
            raise ValueError(f"batch_norm must be one of {', '.join(BATCH_NORMS)}, but is {batch_norm!r}")
        self.config, self.region, self.batch_norm = model.config, region, batch_norm
        self.channels = tuple(info[i]["num_chs"] for i in self.out_indices)
        self.reduction = tuple(info[i]["reduction"] for i in self.out_indices)
        self.strides = tuple(of["reduction"] for of in info[:used])
        self.downsample, self.stages = model.downsample[:used], model.stages[:used]
        weight = next(model.parameters())
        self.norms = nn.ModuleList(LayerNorm2d(c, eps=1e-6) if norms else nn.Identity() for c in self.channels)
        self.norms.to(weight.device, weight.dtype)
        self.train(model.training)

    def forward(self, images: Float[Tensor, "b c h w"], sizes: Sizes | None = None) -> list[Float[Tensor, "b _ _ _"]]:
        """A map (b c h w) for each of `out_indices`: ceil(height / stride) high, ceil(width / stride) wide.

        images: padded at the bottom and at the right to one size, with anything. sizes: height and width of each, in
        pixels; None: nothing is padding. No real token's features depend on padding; the maps are 0 there.
        Raises ValueError as `BiFormer` does, and for sizes that do not fit. On a GPU they are not looked at, which
        would make it wait.
        """
        require_images(images, self.config)
        height, width = images.shape[2:]
        below, beside = (-height % self.region, -width % self.region) if self.region else (0, 0)
        if sizes is None and (below or beside):
            sizes = torch.tensor([(height, width)]).expand(images.shape[0], 2)
        x = F.pad(images, (0, beside, 0, below)) if below or beside else images
        real = []  # which pixels are, if there is padding
        if sizes is not None:
            real = [real_map(as_sizes(sizes, x.shape[0], (height, width)).to(x.device), x.shape[2:])]
        self.follow(x.shape[2:])
        maps: list[Tensor] = []
        mask = real
        for i, (stride, downsample, stage) in enumerate(zip(self.strides, self.downsample, self.stages, strict=True)):
            x = downsample(x, *mask)
            mask = [pixels[:, ::stride, ::stride] for pixels in real]
            x = stage(x, *mask)
            if i in self.out_indices:
                out = self.norms[len(maps)](x)
                out = out.masked_fill(~mask[0][:, None], 0) if mask else out
                maps.append(out[:, :, : -(-height // stride), : -(-width // stride)])
        return maps

    def follow(self, size: Sequence[int]) -> None:
        """Give every routed layer the grid of images of this size, if regions have a size of their own."""
        if self.region:
            for module in self.modules():
                if isinstance(module, BiLevelRoutingAttention):
                    module.grid = size[0] // self.region, size[1] // self.region

    def train(self, mode: bool = True) -> "Backbone":
        """Training or evaluation; batch norm that is frozen stays in evaluation."""
        super().train(mode)
        for module in self.modules():
            if isinstance(module, nn.BatchNorm2d | nn.SyncBatchNorm) and self.batch_norm == "frozen":
                module.eval()
        return self

    def extra_repr(self) -> str:
        return f"out_indices={self.out_indices}, region={self.region}, batch_norm={self.batch_norm!r}"


def require_rising(out_indices: tuple[int, ...], stages: int) -> None:
    """Raise ValueError unless these name at least one stage, each once, the lowest first."""
    if not out_indices or sorted({*out_indices} & {*range(stages)}) != list(out_indices):
        raise ValueError(f"out_indices must be rising numbers of stages, from 0 to {stages - 1}, but are {out_indices}")


def as_sizes(sizes: Sizes, count: int, largest: tuple[int, int]) -> Int[Tensor, "b 2"]:
    """The sizes as a tensor. Raises ValueError unless there is one for each image, no larger than all images are."""
    if not isinstance(sizes, Tensor):
        sizes = torch.tensor(sizes) if len(sizes) else torch.zeros(0, 2, dtype=torch.int64)
    if sizes.shape != (count, 2) or sizes.is_floating_point():
        found = f"{tuple(sizes.shape)} of {sizes.dtype}"
        raise ValueError(f"sizes must be whole heights and widths of {count} images, ({count}, 2), not {found}")
    if sizes.device.type == "cpu" and has_values(sizes) and ((sizes < 1) | (sizes > sizes.new_tensor(largest))).any():
        raise ValueError(f"sizes must be from (1, 1) to the images' {largest}, but are {sizes.tolist()}")
    return sizes
