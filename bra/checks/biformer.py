"""Check of notebook 08: the attention of the last stage."""

import torch.nn.functional as F
from einops import rearrange
from torch import Tensor

from bra.block import FullAttention
from bra.checks.inputs import numbers, sizes
from bra.checks.judge import Answer, Fact, Mistake, judge, recall
from bra.checks.parts import QKV
from bra.checks.verdict import Verdict

OWN = ("bra.block.FullAttention",)  # what an answer may not call


def forward(
    x: Tensor, weights: dict[str, Tensor], heads: int, *,
    order: str = "qkv", parts: str = "(three m d)", scale: str = "head", filtered: str = "x", late: bool = False,
    out: bool = True, bias: bool = True, moved: bool = True, first: bool = False,
) -> Tensor:  # fmt: skip
    """The last stage's attention from its weights. Each keyword can make one mistake."""
    h, c = x.shape[1], x.shape[3]
    projected = F.linear(x, weights["qkv.weight"])
    three = rearrange(projected, f"b h w {parts} -> three b h w (m d)", three=3, m=heads)
    named = dict(zip(order, three, strict=True))
    q, k, v = (rearrange(named[name], "b h w (m d) -> b m (h w) d", m=heads) for name in "qkv")
    width = {"head": c // heads, "all": c, "none": 1}[scale]
    k = k[:1].expand_as(k) if first else k
    result = (width**-0.5 * q @ k.transpose(-2, -1)).softmax(dim=-1) @ v
    result = rearrange(result, "b m (h w) d -> b h w (m d)", h=h) if moved else result.reshape(x.shape)
    nearby = 0
    if filtered != "none":
        source = {"x": x, "v": named["v"]}[filtered].permute(0, 3, 1, 2)
        filters = weights["lce.conv.weight"], weights["lce.conv.bias"]
        nearby = F.conv2d(source, *filters, padding=2, groups=c).permute(0, 2, 3, 1)
    result = result if late else result + nearby
    if out:
        result = F.linear(result, weights["out.weight"], weights["out.bias"] if bias else None)
    return result + nearby if late else result


def but(says: str, **mistake) -> Mistake:
    """A mistake: what to say, and which keyword of `forward` makes it."""
    return Mistake(says, lambda *given: forward(*given, **mistake))


MISTAKES = [
    but("This is the routed stages' scale and LCE. Here: the scale of a head, and LCE of x.",
        scale="all", filtered="v"),
    but("You scale by all channels, as the routed stages do. The last stage scales by a head's: (c / heads)^(-1/2).",
        scale="all"),
    but("The scale is missing: multiply the scores by (c / heads)^(-1/2).", scale="none"),
    but("Your LCE filters v, as in the routed stages. In the last stage it filters the input x.", filtered="v"),
    but("LCE is missing: the filtered input is added to what the attention gives, before `out`.", filtered="none"),
    but("You add LCE after `out`. It is added before: out(attention + LCE(x)).", late=True),
    but("The output projection `out` is missing.", out=False),
    but("The bias of `out` is missing. Only `qkv` has none here.", bias=False),
    *(but(says, **wrong) for says, wrong in QKV),
    but("Every image compares with the keys of the first: the values are its own.", first=True),
    Mistake("You use one head for all channels. Split the channels into heads.",
            lambda x, weights, heads: forward(x, weights, 1)),
    Mistake("The bias of LCE is missing.",
            lambda x, weights, heads: forward(x, weights | {"lce.conv.bias": 0 * weights["lce.conv.bias"]}, heads)),
]  # fmt: skip


def biformer(last_stage: Answer) -> Verdict:
    """last_stage(x, weights, heads): `FullAttention` on (b h w c), from its weights by their names."""

    def output(x: Tensor, weights: dict[str, Tensor], heads: int) -> Tensor:
        module = FullAttention(x.shape[-1], heads)
        module.load_state_dict(weights)
        return module(x).detach()

    size = sizes()
    inputs = [example(size(3), size(5), 2 * size(4), heads=2), example(4, 3, 12, heads=4)]
    return judge(
        last_stage, inputs, output, MISTAKES, "Your last stage gives what the official code's gives.", "b h w c"
    )


def example(h: int, w: int, c: int, heads: int) -> tuple:
    """Two maps, and the weights of a layer."""
    shapes = {name: p.shape for name, p in FullAttention(c, heads).state_dict().items()}
    weights = {name: numbers(*shape, seed=i) / 3 for i, (name, shape) in enumerate(shapes.items())}
    return numbers(2, h, w, c, seed=9), weights, heads


def biformer_recall(size, region, read) -> Verdict:
    """Map of the first stage of an image of 600 x 520, tokens of a region there, tokens read in the second stage."""
    facts = [
        Fact("my_map", size, (150, 130), "The stem halves twice: stride 4.", {
            (300, 260): "The stem halves twice.",
            (75, 65): "That is the second stage.",
            (130, 150): "Height comes first.",
            (154, 133): "That is the padded map. The layer pads inside and crops again.",
        }),
        Fact("my_region", region, 418, "Round both sides up to multiples of 7, and divide each by 7.", {
            378: "You round down. Sides that 7 does not divide are padded.",
            397.96: "Both sides are padded first, to multiples of 7.",
            440: "That is what a query reads in the second stage.",
        }),
        Fact("my_read", read, 440, "The second stage halves once more; a query reads k = 4 padded regions.", {
            110: "That is one region of the second stage. A query reads four.",
            418: "That is one region of the first stage. A query of the second reads four of its own.",
            1672: "You read four regions of the first stage. The second stage's are about a quarter as large.",
            360: "You round down. Sides that 7 does not divide are padded.",
        }),
    ]  # fmt: skip
    return recall(facts, "With regions about a quarter as large, four of them hold about as many tokens.")
