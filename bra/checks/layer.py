"""Check of notebook 07: the whole layer, written from an empty file."""

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from bra.adjacency import region_means
from bra.checks.inputs import numbers, sizes
from bra.checks.judge import Fact, Mistake, judge, recall
from bra.checks.parts import QKV, Part, loaded
from bra.checks.verdict import Verdict
from bra.layer import BiLevelRoutingAttention
from bra.partition import pad_to_grid, partition_regions

# what an answer may not call
OWN = ("bra.layer.BiLevelRoutingAttention", "bra.partition.partition_regions", "bra.attention.attend")

CUT = "b (i u) (j v) c -> b (i j) (u v) c"


def forward(
    x: Tensor,
    weights: dict[str, Tensor],
    heads: int,
    grid: tuple[int, int],
    k: int,
    *,
    order: str = "qkv",
    parts: str = "(three m d)",
    cut: str = CUT,
    merged: bool = True,
    route: str = "rows",
    image: str = "own",
    moved: bool = True,
    values: str = "(k t)",
    scale: str = "c",
    axis: int = -1,
    lce: str = "v",
    bias: str = "qkv, lce, out",
    out: bool = True,
    blind: str = "",
) -> Tensor:
    """The layer from its weights. Each keyword can make one mistake; all at their defaults, it makes none.

    `blind` names what does not know of the padding: "means", "routes", "softmax", several of them, or "lce". `bias`
    names the biases that are used.
    """
    padded, valid_map = pad_to_grid(x, grid)
    (b, h, w, c), (i, j) = padded.shape, grid
    valid = partition_regions(valid_map[None, :, :, None], grid)[0, :, :, 0]  # r t
    projected = F.linear(padded, weights["qkv.weight"], weights["qkv.bias"] if "qkv" in bias else None)
    three = rearrange(projected, f"b h w {parts} -> three b h w (m d)", three=3, m=heads)
    named = dict(zip(order, three, strict=True))
    q, key, v = (named[name] for name in "qkv")
    regions = [y.reshape(b, i * j, -1, c) if cut == "strips" else rearrange(y, cut, i=i, j=j) for y in (q, key, v)]

    q_means, k_means = (region_means(y, None if "means" in blind else valid) for y in regions[:2])
    affinity = q_means @ k_means.transpose(1, 2)
    affinity = {"rows": affinity, "columns": affinity.transpose(1, 2), "worst": -affinity}[route]
    affinity = affinity if "routes" in blind else affinity.masked_fill(~valid.any(dim=1), -torch.inf)
    index = affinity.topk(k).indices
    index = index[:1].expand_as(index) if image == "routes" else index
    own, first = torch.arange(b)[:, None, None], torch.zeros(b, 1, 1, dtype=torch.long)
    near = regions[1][first if image in ("tokens", "keys") else own, index].flatten(2, 3)
    far = rearrange(regions[2][first if image == "tokens" else own, index], f"b r k t c -> b r {values} c")

    m = 1 if scale == "one head" else heads
    query, near, far = (rearrange(y, "b r n (m d) -> b r m n d", m=m) for y in (regions[0], near, far))
    width = {"c": c, "one head": c, "head": c // heads, "none": 1}[scale]
    scores = width**-0.5 * query @ near.transpose(-2, -1)
    if "softmax" not in blind:
        scores = scores.masked_fill(~valid[index].flatten(2)[:, :, None, None], -torch.inf)
    attended = scores.softmax(dim=axis).nan_to_num() @ far
    attended = (attended.transpose(2, 3) if moved else attended).reshape(b, i * j, -1, c)
    result = rearrange(attended, "b (i j) (u v) c -> b (i u) (j v) c", i=i, u=h // i) if merged else attended
    result = result.reshape(b, h, w, c)

    v = v if blind == "lce" else v * valid_map[:, :, None]
    filters, biases = weights["lce.conv.weight"], weights["lce.conv.bias"] if "lce" in bias else None
    apart = rearrange(v, "b (i u) (j v) c -> (b i j) u v c", i=i, j=j)
    source = {"x": padded, "regions": apart, "list": rearrange(v, CUT, i=i, j=j)}.get(lce, v)
    filters = filters.mT if lce == "transposed" else filters
    nearby = F.conv2d(source.permute(0, 3, 1, 2), filters, biases, padding=2, groups=c).permute(0, 2, 3, 1)
    if lce == "regions":
        nearby = rearrange(nearby, "(b i j) u v c -> b (i u) (j v) c", i=i, j=j)
    if lce == "list":
        nearby = rearrange(nearby, "b (i j) (u v) c -> b (i u) (j v) c", i=i, u=h // i)
    if lce not in ("none", "after"):
        result = result + nearby
    if out:
        result = F.linear(result, weights["out.weight"], weights["out.bias"] if "out" in bias else None)
    result = result + nearby if lce == "after" else result
    return result[:, : x.shape[1], : x.shape[2]]


def but(says: str, **mistake) -> Mistake:
    """A mistake of the layer: what to say, and which keyword of `forward` makes it."""
    return Mistake(says, lambda *given: forward(*given, **mistake))


MISTAKES = [
    but("LCE is missing: the filtered values are added to what the attention gives, before `out`.", lce="none"),
    but("You add LCE after `out`. It is added before: out(attention + LCE(v)).", lce="after"),
    but("Your LCE filters x. It filters the values v.", lce="x"),
    but("Your LCE stops at the borders of each region. It filters the whole map: crossing borders is what it is for.",
        lce="regions"),
    but("Your LCE filters the list of regions (b r t c), not the map: filter v as (b h w c), where neighbours lie side "
        "by side.", lce="list"),
    but("Your LCE swaps height and width: permute (b h w c) to (b c h w), and back.", lce="transposed"),
    but("The output projection `out` is missing.", out=False),
    but("The biases are missing.", bias=""),
    but("The bias of `out` is missing.", bias="qkv, lce"),
    but("The bias of `qkv` is missing.", bias="lce, out"),
    but("The bias of LCE is missing.", bias="qkv, out"),
    *(but(says, **wrong) for says, wrong in QKV),
    but("Every image compares with the keys of the first: the values are its own.", image="keys"),
    but("You scale by the channels of a head. This layer uses all: c^(-1/2).", scale="head"),
    but("The scale is missing: multiply the scores by c^(-1/2).", scale="none"),
    but("You use one head for all channels. Split the channels into heads.", scale="one head"),
    but("Your softmax runs over the queries. For each query, the weights of the keys must sum to 1.", axis=-2),
    but("You route to the regions of smallest affinity.", route="worst"),
    but("You take the best of each column: those that want this region. Take the best of each row.", route="columns"),
    but("Every image of the batch uses the routes of the first.", image="routes"),
    but("Every image gathers the tokens of the first image.", image="tokens"),
    but("Your values are gathered in another order than your keys: (k t) for both.", values="(t k)"),
    but("Your regions are horizontal strips. A reshape alone cannot cut squares.", cut="strips", merged=False),
    but("Your regions are horizontal strips on the way in. A reshape alone cannot cut squares.", cut="strips"),
    but("Your regions are not put back in their places: a reshape alone cannot merge squares.", merged=False),
    Mistake("Every region reads all regions: k is not used.",
            lambda x, weights, heads, grid, k: forward(x, weights, heads, grid, grid[0] * grid[1])),
    but("You pad, but mask nothing: padding enters the means, is routed to, and takes its share of the softmax.",
        blind="means, routes, softmax"),
    but("Padding takes its share of your softmax. Gather the mask as you gather the keys, and give -inf to the rest.",
        blind="softmax"),
    but("Padding enters your means. Divide the sum of a region's valid tokens by their number.", blind="means"),
    but("You route to regions of nothing but padding. Their affinity must be -inf, so that they come last.",
        blind="routes"),
    but("Your LCE filters the padding, too. The map of values has zeros beyond its border.", blind="lce"),
]  # fmt: skip


def layer(empty_file) -> Verdict:
    """empty_file(x, weights, heads, grid, k): the whole layer, from its weights by their names in the state dict.

    First on maps that the grid divides; then on two that it does not, one with regions of nothing but padding.
    """

    def output(x: Tensor, weights: dict[str, Tensor], heads: int, grid: tuple[int, int], k: int) -> Tensor:
        module = BiLevelRoutingAttention(x.shape[-1], heads, grid, k)
        module.load_state_dict(weights)
        return module(x).detach()

    size = sizes()
    inputs = [example((2 * size(3), 2 * size(5), 4), 2, (2, 2), 1)]
    inputs += [example((3 * size(5), 4 * size(7), 24), 3, (3, 4), 5)]
    inputs += [example((4 * size(2) - 3, 3 * size(3) - 2, 8), 2, (2, 3), 2), example((5, 9, 2 * size(4)), 2, (4, 3), 7)]
    praise = "Your layer gives what bra's layer gives. You have written BRA."
    return judge(empty_file, inputs, output, MISTAKES, praise, "b h w c")


def example(size: tuple[int, int, int], heads: int, grid: tuple[int, int], k: int) -> tuple:
    """Two maps of size (h w c) and the weights of a layer."""
    shapes = {name: p.shape for name, p in BiLevelRoutingAttention(size[2], heads, grid, k).state_dict().items()}
    weights = {name: numbers(*shape, seed=i) / 3 for i, (name, shape) in enumerate(shapes.items())}
    return numbers(2, *size, seed=9), weights, heads, grid, k


def layer_recall(weights) -> Verdict:
    """Weights of a layer with 96 channels and a 3 x 3 LCE."""
    facts = [
        Fact("my_weights", weights, 38_208, "Four square matrices with biases; a filter and a bias for each channel.", {
            39_744: "The LCE has a filter of 3 x 3 here, not 5 x 5.",
            37_248: "The LCE has weights, too.",
            37_728: "Biases are weights, too: 3C of qkv, C of out, C of the LCE.",
            28_896: "The output projection is missing.",
        }),
    ]  # fmt: skip
    return recall(facts, "Heads, grid and k do not matter: routing has no weights.")


def module(own: type[nn.Module]) -> Verdict:
    """own(dim, heads, grid, k), called with (b h w c): what `BiLevelRoutingAttention` does, with the same weights."""
    return layer(lambda x, weights, heads, grid, k: loaded(own(x.shape[-1], heads, grid, k), weights)(x))


PARTS = [
    Part(BiLevelRoutingAttention, '''
class BiLevelRoutingAttention(nn.Module):
    """(b h w c) -> (b h w c), any h and w: the whole layer. scale: dim^(-1/2).

    Weights: self.qkv (dim -> 3 dim) and self.out (dim -> dim), nn.Linear both; self.lce, your module.
    """

    def __init__(self, dim, heads, grid, k):
        super().__init__()
        ...

    def forward(self, x):
        ...
''', module),
]  # fmt: skip
