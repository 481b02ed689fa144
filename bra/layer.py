"""Step 07. The steps become one layer, Bi-level Routing Attention; and a record of the routes that layers take."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from bra.adjacency import region_means
from bra.arguments import require_axes, require_grid, require_heads, require_k
from bra.attention import attend
from bra.lce import LocalContextEnhancement
from bra.partition import merge_regions, pad_to_grid, partition_regions
from bra.patterns import Grid
from bra.topk import Routes, TopKRouter


class BiLevelRoutingAttention(nn.Module):
    """Tokens attend to the tokens of the k regions that their region chose.

    Y = W_o (attend(Q, K, V, I^r) + LCE(V)), with (Q, K, V) = X W_qkv and I^r the routing index. Maps of any
    size from 1 x 1 are padded to the grid; no output depends on a padded token. (The official code pads before W_qkv
    and does not mask, so at sizes that the grid does not divide its outputs differ.)

    dim: channels. heads: attention heads, a divisor of dim. grid: (rows, columns) of regions.
    k: regions that each region reads, if the router is the default one.
    router: a module that chooses them, `TopKRouter(k)` by default. It is called with the region means of q and of k,
    in float32 at least, and, if not all tokens are real, with a third argument: which regions hold a real one (r), or
    which of each image (b r).
    attend: the attention function, with the signature of `bra.attend`.
    lce_kernel: side of the LCE's filter, odd; 0 leaves the LCE out.
    scale: factor on q.k before the softmax; dim^(-1/2) by default, as in the official code, where
    (dim / heads)^(-1/2) would be usual.
    Raises ValueError for heads that do not divide dim, a grid entry below 1, or k outside 1..rows*columns.
    """

    __call__: Callable[..., Tensor]  # for type checkers, to which nn.Module says nothing of what forward returns

    def __init__(
        self,
        dim: int,
        heads: int,
        grid: Grid,
        k: int,
        *,
        router: nn.Module | None = None,
        attend: Callable[..., Tensor] = attend,
        lce_kernel: int = 5,
        scale: float | None = None,
    ):
        super().__init__()
        require_heads(dim, heads)
        require_grid(grid)
        require_k(k, grid[0] * grid[1])
        self.dim, self.heads = dim, heads
        self.grid: Grid = (grid[0], grid[1])
        self.scale = dim**-0.5 if scale is None else scale
        self.attend = attend
        self.qkv = nn.Linear(dim, 3 * dim)
        self.router = TopKRouter(k) if router is None else router
        self.lce = LocalContextEnhancement(dim, lce_kernel) if lce_kernel else None
        self.out = nn.Linear(dim, dim)

    def forward(
        self, x: Float[Tensor, "b h w c"], real: Bool[Tensor, "b h w"] | None = None
    ) -> Float[Tensor, "b h w c"]:
        """Attend over a channels-last map; its size stays. Raises ValueError for a wrong rank or width.

        real: which tokens of each image are real, None: all. At those nothing depends on what stands elsewhere, which
        must be finite, and stays so.
        """
        regions, valid, size = self.cut(x, real)
        q, k, v = self.qkv(regions).chunk(3, dim=-1)
        index = self.choose(q, k, valid).index
        out = self.attend(q, k, v, index, self.heads, scale=self.scale, valid=valid)
        h, w = x.shape[1:3]
        out = merge_regions(out, self.grid, size)[:, :h, :w]
        if self.lce is not None:
            out = out + self.lce(merge_regions(v, self.grid, size)[:, :h, :w], real)
        return self.out(out)

    def route(self, x: Float[Tensor, "b h w c"], real: Bool[Tensor, "b h w"] | None = None) -> Routes:
        """Who would read whom in this map, without attending."""
        regions, valid, _ = self.cut(x, real)
        q, k, _ = self.qkv(regions).chunk(3, dim=-1)
        return self.choose(q, k, valid)

    def cut(self, x: Tensor, real: Tensor | None = None) -> tuple[Tensor, Tensor | None, torch.Size]:
        """The regions of the padded map, which of their tokens are real, and the padded map's size.

        Which are real: (b r t) if `real` says it of each image, else (r t), or None where nothing was padded.
        """
        require_axes("x", x, "b h w c")
        if x.shape[-1] != self.dim:
            raise ValueError(f"x must have {self.dim} channels on its last axis, but its shape is {tuple(x.shape)}")
        if 0 in x.shape[1:3]:
            raise ValueError(f"x must hold at least one token, but its shape is {tuple(x.shape)}")
        padded, valid_map = pad_to_grid(x, self.grid)
        size, valid = padded.shape[1:3], None
        if real is not None:
            valid = partition_regions(pad_to_grid(real[..., None], self.grid)[0], self.grid)[..., 0]
        elif size != x.shape[1:3]:
            valid = partition_regions(valid_map[None, :, :, None], self.grid)[0, :, :, 0]
        return partition_regions(padded, self.grid), valid, size

    @property
    def k(self) -> int:
        """How many regions each region reads: the router's. It can be set where the router is a `TopKRouter`.

        Raises AttributeError for a router of another kind, ValueError for a k outside 1..rows*columns.
        """
        return self.router.k  # type: ignore[return-value]  # nn.Module says that all it has are tensors or modules

    @k.setter
    def k(self, k: int) -> None:
        if not isinstance(self.router, TopKRouter):
            raise AttributeError(f"k cannot be set to {k}: {type(self.router).__name__} chooses; set router instead")
        require_k(k, self.grid[0] * self.grid[1])
        self.router.k = k

    def choose(self, q: Tensor, k: Tensor, valid: Tensor | None) -> Routes:
        """Ask the router, and tell it of regions without a real token where there was padding.

        Under autocast too, it decides in float32: what bfloat16 rounds to a tie would be routed by chance.
        """
        lower = torch.amp.is_autocast_available(q.device.type) and torch.is_autocast_enabled(q.device.type)
        with torch.autocast(q.device.type, enabled=False) if lower else nullcontext():
            q_means, k_means = region_means(q, valid), region_means(k, valid)
            return self.router(q_means, k_means) if valid is None else self.router(q_means, k_means, valid.any(dim=-1))

    def extra_repr(self) -> str:
        return f"dim={self.dim}, heads={self.heads}, grid={self.grid}"


class BRA2d(BiLevelRoutingAttention):
    """Bi-level Routing Attention on channels-first maps (b c h w), to stand where a convolution stood."""

    def forward(
        self, x: Float[Tensor, "b c h w"], real: Bool[Tensor, "b h w"] | None = None
    ) -> Float[Tensor, "b c h w"]:
        """Attend over a channels-first map; its size stays. Raises ValueError for a wrong rank or width."""
        self.require_map(x)
        out = super().forward(x.permute(0, 2, 3, 1), real).permute(0, 3, 1, 2)
        last = x.is_contiguous(memory_format=torch.channels_last)
        return out if last else out.contiguous()  # in memory as its input lies, as a convolution's output does

    def route(self, x: Float[Tensor, "b c h w"], real: Bool[Tensor, "b h w"] | None = None) -> Routes:
        """Who would read whom in this map, without attending."""
        self.require_map(x)
        return super().route(x.permute(0, 2, 3, 1), real)

    def require_map(self, x: Tensor) -> None:
        """Raise ValueError unless x is (b c h w) with the layer's channels."""
        require_axes("x", x, "b c h w")
        if x.shape[1] != self.dim:
            raise ValueError(f"x must have {self.dim} channels on its second axis, but its shape is {tuple(x.shape)}")


@contextmanager
def record_routes(model: nn.Module) -> Iterator[list[Routes]]:
    """Collect the `Routes` of every BRA layer in `model` while it runs, in the order in which the layers run.

    It hooks the routers, so it sees nothing of a model that `torch.compile` has compiled: pass the model itself. What
    gradient checkpointing computes again in a backward pass is recorded again: leave the context before it.

    >>> with record_routes(model) as routes:
    ...     logits = model(images)
    """
    recorded: list[Routes] = []
    layers = [module for module in model.modules() if isinstance(module, BiLevelRoutingAttention)]
    hooks = [
        router.register_forward_hook(lambda module, inputs, routes: recorded.append(routes))
        for router in dict.fromkeys(layer.router for layer in layers)
    ]
    try:
        yield recorded
    finally:
        for hook in hooks:
            hook.remove()
