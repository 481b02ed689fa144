"""What a model's routing is like over a data set: whom its regions read, how far away, and whether layers agree.

Each number stands beside that of a random router, which draws the k regions of each region without looking.
"""

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Bool, Float, Int
from torch import Tensor, nn

from bra.look.calls import LayerCall, bra_layers, evaluating, record_calls
from bra.look.views import View, label_of, require_affinity
from bra.patterns import Grid, region_offsets
from bra.topk import Routes


@dataclass(frozen=True)
class LayerStatistics:
    """How one layer routes, on average over images and regions that read.

    self_share: share of the regions that read themselves. distance: mean Euclidean distance, in regions, from a region
    to those it reads. entropy: of its affinities, in bits (`entropy`).
    Each has its like for a random router on the whole grid.
    """

    label: str
    grid: Grid
    k: int
    self_share: float
    distance: float
    entropy: float

    @property
    def regions(self) -> int:
        """R = rows * columns."""
        return math.prod(self.grid)

    @property
    def random_self_share(self) -> float:
        """What it would be for a random router: k / R."""
        return self.k / self.regions

    @property
    def random_distance(self) -> float:
        """The mean over all pairs of regions; a region and itself are a pair too, as a random router may choose it."""
        return distances(self.grid).mean().item()

    @property
    def random_entropy(self) -> float:
        """log2(R): no preference."""
        return math.log2(self.regions)


@dataclass(frozen=True, eq=False)
class RoutingStatistics:
    """How the layers of a model route over a data set.

    images: how many it holds. layers: one for each call of a layer, in the order in which they run.
    overlap: (n n), for two of the n layers the mean of |A n B| / min(k_A, k_B) over images and regions, A and B what
    the region reads in either; NaN where their grids differ.
    """

    images: int
    layers: list[LayerStatistics]
    overlap: Float[Tensor, "n n"]

    @property
    def random_overlap(self) -> Float[Tensor, "n n"]:
        """What two independent random routers would have: k_A k_B / R shared regions, so max(k_A, k_B) / R."""
        rows = [[max(a.k, b.k) / a.regions if a.grid == b.grid else math.nan for b in self.layers] for a in self.layers]
        return torch.tensor(rows, dtype=torch.float64)


@dataclass
class Sums:
    """Sums over images, and how many images are in each."""

    total: Counter
    images: Counter

    def add(self, key: tuple, values: Float[Tensor, "b r"], reads: Bool[Tensor, "#b r"]) -> None:
        """A batch: of each image the mean over the regions that read."""
        means = (values.double() * reads).sum(dim=1) / reads.sum(dim=1)
        self.total[key] += means.sum().item()
        self.images[key] += len(values)

    def mean(self, *key) -> float:
        """NaN if no image is in it."""
        return self.total[key] / self.images[key] if key in self.images else math.nan


def routing_statistics(model: nn.Module, batches: Iterable[Float[Tensor, "_ c _ _"]]) -> RoutingStatistics:
    """How every BRA layer in `model` routes over batches of images (b c h w), which lie on the model's device.

    The model runs in evaluation and without gradient; its modes are then as before. Images count alike, however they
    are batched. A region that is all padding does not count as one that reads; what is read counts even if it is
    padding. A region that is listed twice counts twice in the distance, and once in the overlap.
    Raises ValueError for no images, or what is none; a model in which no BRA layer ran; affinities that are NaN or inf.
    """
    images, sums, seen = 0, Sums(Counter(), Counter()), {}
    with evaluating(model), torch.no_grad():
        for batch in batches:
            if not isinstance(batch, Tensor) or batch.ndim != 4:
                found = f"a tensor {tuple(batch.shape)}" if isinstance(batch, Tensor) else f"a {type(batch).__name__}"
                raise ValueError(f"batches must hold images (b c h w), without their labels, but hold {found}")
            calls: list[LayerCall] = []
            with record_calls(bra_layers(model), lambda call, calls=calls: calls.append(call._replace(qkv=None))):
                model(batch)
            images += len(batch)
            for call in calls:
                seen[call.name] = call.layer.grid, call.routes.index.shape[2]
                add_layer(sums, call)
            add_overlaps(sums, calls)
    if not images:
        raise ValueError("batches must hold at least one image, but hold none")
    layers = [
        LayerStatistics(label_of(n), *seen[n], *(sums.mean(n, what) for what in ("self", "distance", "entropy")))
        for n in seen
    ]
    overlap = torch.tensor([[sums.mean(a, b, "overlap") for b in seen] for a in seen], dtype=torch.float64)
    return RoutingStatistics(images, layers, overlap)


def entropy(routes: Routes, channels: int) -> float:
    """How undecided a block is, in bits: the mean entropy of softmax(C^(-1/2) A^r) over regions and images.

    log2(R) bits, 4 for 16 regions, is no preference at all; at 0 bits one region has all of it.
    """
    return entropies(routes, channels).mean().item()


def entropies(routes: Routes, channels: int) -> Float[Tensor, "b r"]:
    """The same of each region."""
    share = (routes.affinity.double() * channels**-0.5).softmax(dim=-1)
    return torch.special.entr(share).sum(dim=-1) / math.log(2)


def add_layer(sums: Sums, call: LayerCall) -> None:
    """What one batch says about one layer."""
    index, affinity = call.routes
    require_affinity(call.name, affinity)
    reads = reading(call)
    own = torch.arange(index.shape[1], device=index.device)
    far = distances(call.layer.grid).to(index.device)
    sums.add((call.name, "self"), (index == own[:, None]).any(dim=2).double(), reads)
    sums.add((call.name, "distance"), far[own[:, None], index].mean(dim=2), reads)
    sums.add((call.name, "entropy"), entropies(call.routes, call.layer.dim), reads)


def add_overlaps(sums: Sums, calls: Sequence[LayerCall]) -> None:
    """What one batch says about every two layers of one grid."""
    read = [members(call.routes.index) for call in calls]
    for i, a in enumerate(calls):
        for j, b in enumerate(calls):
            if a.layer.grid == b.layer.grid:
                shared = (read[i] & read[j]).sum(dim=2) / min(a.routes.index.shape[2], b.routes.index.shape[2])
                sums.add((a.name, b.name, "overlap"), shared, reading(a) & reading(b))


def reading(call: LayerCall) -> Bool[Tensor, "_ r"]:
    """The regions with a real token, those that read: of all images (1 r), or of each (b r)."""
    if call.valid is None:
        return torch.ones(1, call.routes.index.shape[1], dtype=torch.bool, device=call.routes.index.device)
    return torch.atleast_2d(call.valid.any(dim=-1))


def members(index: Int[Tensor, "b r k"]) -> Bool[Tensor, "b r r"]:
    """The routing index as sets: whether region i reads region j."""
    none = torch.zeros(*index.shape[:2], index.shape[1], dtype=torch.bool, device=index.device)
    return none.scatter(2, index, True)


def distances(grid: Grid) -> Float[Tensor, "r r"]:
    """Euclidean distance between the centres of every two regions, in regions."""
    down, right = region_offsets(grid)
    return torch.hypot(down.double(), right.double())


def rollout(views: Sequence[View]) -> Float[Tensor, "r r"]:
    """How much region i, after the last block, may hold of region j's input: the rollout of the routing.

    The product over blocks, the last leftmost, of (I + A_b) / 2; A_b has 1 / k for each region that is read, so a
    region that is listed twice counts twice. Each row sums to 1. (Abnar and Zuidema, 2020, roll out attention weights.)

    It follows who reads whom and no more: the weights of tokens, LCE, convolutions and MLPs do not count, and the half
    for the residual path is a convention. It says where information may have come from, not what the model used.
    views: the blocks in the order in which they run. Raises ValueError for none, or for grids that differ.
    """
    grids = list(dict.fromkeys(tuple(view.grid) for view in views))
    if len(grids) != 1:
        raise ValueError(f"views must be of one grid, but are of {', '.join(map(str, grids)) or 'none'}")
    stay = torch.eye(math.prod(grids[0]), dtype=torch.float64)
    out = stay
    for view in views:
        share = torch.full(view.index.shape, 1 / view.index.shape[1], dtype=torch.float64)
        out = (stay + torch.zeros_like(stay).scatter_add(1, view.index.long(), share)) / 2 @ out
    return out
