"""Checks of notebook 05: attention among the gathered tokens, and routed attention with heads and a mask."""

import torch
from einops import rearrange
from torch import Tensor

from bra.attention import attend as attend_to_regions
from bra.checks.inputs import numbers, sizes
from bra.checks.judge import Answer, Fact, Mistake, judge, recall
from bra.checks.parts import Part
from bra.checks.verdict import Verdict

OWN = ("bra.attention.attend", "bra.attention.attend_gathered")  # what an answer may not call


def attention(attend_by_hand: Answer) -> Verdict:
    """attend_by_hand(q, keys, values, heads): (b r t c), twice (b r k*t c) -> (b r t c); scale (c / heads)^(-1/2).

    For each head softmax(scale q keys^T) values, the heads side by side.
    """

    def attend(split="(m d)", merge="(m d)", power=-0.5, axis=-1, one_head=False, all_channels=False) -> Answer:
        def answer(q: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
            m = 1 if one_head else heads
            q, keys, values = (rearrange(x, f"b r n {split} -> b r m n d", m=m) for x in (q, keys, values))
            width = q.shape[-1] * (heads if all_channels else 1)
            weights = (q @ keys.transpose(-2, -1) * width**power).softmax(dim=axis)
            return rearrange(weights @ values, f"b r m n d -> b r n {merge}")

        return answer

    def mixed(q: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
        q, keys, values = (x.reshape(*x.shape[:2], heads, x.shape[2], -1) for x in (q, keys, values))
        weights = (q @ keys.transpose(-2, -1) * q.shape[-1] ** -0.5).softmax(dim=-1)
        return rearrange(weights @ values, "b r m n d -> b r n (m d)")

    def unmoved(attended: Answer) -> Answer:
        """Heads that stand before the tokens still when they are reshaped away."""

        def answer(q: Tensor, keys: Tensor, values: Tensor, heads: int) -> Tensor:
            out = rearrange(attended(q, keys, values, heads), "b r n (m d) -> b r m n d", m=heads)
            return out.reshape(q.shape)

        return answer

    mistakes = [
        Mistake("The scale is missing: multiply the scores by (c / heads)^(-1/2).", attend(power=0)),
        Mistake("You scale by all channels. Here count the channels of one head, c / heads.",
                attend(all_channels=True)),
        Mistake("You multiply by the root of the head's channels. Divide by it.", attend(power=0.5)),
        Mistake("Your softmax runs over the queries. For each query, the weights of the keys must sum to 1.",
                attend(axis=-2)),
        Mistake("Your softmax runs over the heads. It must run over the keys.", attend(axis=2)),
        Mistake("Your heads take every m-th channel. A head holds neighbouring channels: (m d), not (d m).",
                attend(split="(d m)", merge="(d m)")),
        Mistake("You put the heads together in another order than you took them apart: (m d) both times.",
                attend(merge="(d m)")),
        Mistake("You use one head for all channels. Split the channels first.", attend(one_head=True)),
        Mistake("You use one head for all channels. Split the channels first.",
                lambda q, keys, values, heads: attend(one_head=True)(q * heads**0.5, keys, values, heads)),
        Mistake("You reshape (tokens, c) to (heads, tokens, d) at once, which mixes tokens and channels. Split the "
                "channels, then move the heads in front of the tokens.", mixed),
        Mistake("Your heads still stand before the tokens when you put them together: move them back behind, then "
                "reshape.", unmoved(attend())),
        Mistake("You reshape (tokens, c) to (heads, tokens, d) at once, and back: that mixes tokens and channels. "
                "Split the channels, then move the heads.", unmoved(mixed)),
        Mistake("Keys and values are swapped: scores come from the keys, and the values are summed.",
                lambda q, keys, values, heads: attend()(q, values, keys, heads)),
        Mistake("You add up keys. The weights come from the keys, but they weigh values.",
                lambda q, keys, values, heads: attend()(q, keys, keys, heads)),
        Mistake("Every image compares with the keys of the first: the values are its own.",
                lambda q, keys, values, heads: attend()(q, keys[:1].expand_as(keys), values, heads)),
    ]  # fmt: skip
    size = sizes()
    b, r, read, c = size(2), size(3), size(6), 4 * size(7)
    inputs = [
        (numbers(1, 1, 2, 8), numbers(1, 1, 3, 8, seed=1), numbers(1, 1, 3, 8, seed=2), 2),
        (numbers(b, r, size(5), c), numbers(b, r, read, c, seed=1), numbers(b, r, read, c, seed=2), 4),
        (100 * numbers(1, 2, 3, 4), numbers(1, 2, 5, 4, seed=1), numbers(1, 2, 5, 4, seed=2), 2),  # e^100 is no number
    ]
    return judge(attend_by_hand, inputs, attend(), mistakes, "Every head attends as it should.", "b r t (m d)", 3)


def attention_recall(of_a_query, routed, dense) -> Verdict:
    """Weights of one query and head, of one image, and of dense attention: 56 x 56 tokens, R = 49, k = 2, 4 heads."""
    facts = [
        Fact("my_weights_of_a_query", of_a_query, 128, "One for each token that is read: k regions of T tokens.", {
            64: "That is one region. k = 2 are read.",
            512: "You count all heads. One is asked for.",
            2: "Every token of a region that is read gets a weight, not every region.",
        }),
        Fact("my_weights", routed, 1_605_632, "Heads times queries times the weights of a query.", {
            401_408: "That is one head. There are 4.",
            25_088: "You count a query for each region. Each of the 56 x 56 tokens asks.",
        }),
        Fact("my_dense_weights", dense, 39_337_984, "Heads times queries times keys, and every token is a key.", {
            9_834_496: "That is one head. There are 4.",
        }),
    ]  # fmt: skip
    return recall(facts, "Dense attention has R / k = 24.5 times as many.")


def forward(
    q: Tensor, k: Tensor, v: Tensor, index: Tensor, heads: int, scale: float | None = None, valid: Tensor | None = None,
    *, default: str = "head", given: bool = True, m: int | None = None, axis: int = -1, union: bool = True,
    split: str = "(m d)", merge: str = "(m d)", mixed: bool = False, moved: bool = True, swapped: bool = False,
    order: str = "(k t)", image: bool = False, mask: str = "before",
) -> Tensor:  # fmt: skip
    """Routed attention. Each keyword can make one mistake; all at their defaults, it makes none."""
    (b, r, t, c), m = q.shape, heads if m is None else m
    if scale is None or not given:
        scale = {"head": c // heads, "all": c, "none": 1}[default] ** -0.5
    real = (torch.ones(r, t).bool() if valid is None else valid)[index].flatten(2)[:, :, None, None]
    of = torch.zeros(b, 1, 1, dtype=torch.long) if image else torch.arange(b)[:, None, None]
    near, far = (y[of, index].flatten(2, 3) for y in ((v, k) if swapped else (k, v)))
    far = rearrange(far, f"b r (k t) c -> b r {order} c", t=t)
    queries, near, far = (
        y.reshape(b, r, m, y.shape[2], -1) if mixed else rearrange(y, f"b r n {split} -> b r m n d", m=m)
        for y in (q, near, far)
    )

    scores = scale * queries @ near.mT
    real = ~real if "inverted" in mask and valid is not None else real
    some = real.any(dim=-1, keepdim=True)
    if mask == "zero":
        scores = scores.masked_fill(~real, 0.0)
    elif mask not in ("after", "queries", "none"):
        scores = scores.masked_fill(~real if "nan" in mask else ~(real | ~some), -torch.inf)
    weights = scores.softmax(dim=axis)
    if not union:
        weights = scores.unflatten(-1, (-1, t)).softmax(dim=-1).flatten(-2) / index.shape[2]
    out = (weights * real if mask == "after" else weights) @ far
    if mask in ("before", "inverted"):
        out = out * some
    out = rearrange(out, f"b r m n d -> b r n {merge}") if moved else out.reshape(b, r, t, c)
    return out * valid[:, :, None] if mask == "queries" and valid is not None else out


def but(says: str, **mistake) -> Mistake:
    """A mistake of routed attention: what to say, and which keywords of `forward` make it."""
    return Mistake(says, lambda *given: forward(*given, **mistake))


MISTAKES = [
    but("The scale is missing: multiply the scores by it.", default="none", given=False),
    but("The scale is missing: where scale is None, multiply the scores by (c / heads)^(-1/2).", default="none"),
    but("You always scale by the head's channels. Use the scale that is given; the head's is for scale=None.",
        given=False),
    but("With scale=None you take all channels. Take those of one head: (c / heads)^(-1/2).", default="all"),
    but("Your softmax runs over the queries. For each query, the weights of the keys must sum to 1.", axis=-2),
    but("Each routed region has a softmax of its own. One must run over all tokens that are read.", union=False),
    but("You use one head for all channels. Split the channels first.", m=1),
    but("You use one head for all channels. Split the channels first.", m=1, default="all"),
    but("Your heads take every m-th channel. A head holds neighbouring channels: (m d), not (d m).",
        split="(d m)", merge="(d m)"),
    but("You put the heads together in another order than you took them apart: (m d) both times.", merge="(d m)"),
    but("You put the heads together in another order than you took them apart: (m d) both times.", split="(d m)"),
    but("You reshape (tokens, c) to (heads, tokens, d) at once, which mixes tokens and channels. Split the channels, "
        "then move the heads in front of the tokens.", mixed=True),
    but("Your heads still stand before the tokens when you put them together: move them back behind, then reshape.",
        moved=False),
    but("You reshape (tokens, c) to (heads, tokens, d) at once, and back: that mixes tokens and channels. "
        "Split the channels, then move the heads.", mixed=True, moved=False),
    but("Keys and values are swapped: scores come from the keys, and the values are summed.", swapped=True),
    but("Your values are gathered in another order than your keys: (k t) for both.", order="(t k)"),
    but("Every image gathers the tokens of the first image.", image=True),
    Mistake("Each region attends to itself alone: the index is not used.",
            lambda q, k, v, index, *rest: forward(q, k, v, torch.arange(q.shape[1])[:, None].expand(len(q), -1, 1),
                                                  *rest)),
    Mistake("Every region reads all regions: the index is not used.",
            lambda q, k, v, index, *rest: forward(q, k, v, torch.arange(q.shape[1]).expand(*q.shape[:2], -1), *rest)),
    but("The mask is not used: padded tokens get attention.", mask="none"),
    but("Your mask is upside down: valid is True where a token is real.", mask="inverted"),
    but("Your mask is upside down: valid is True where a token is real.", mask="inverted, nan"),
    but("A query none of whose keys is real gives NaN, 0 / 0. It must get 0.", mask="nan"),
    but("A query none of whose keys is real must get 0. You give it the mean of what is not real.", mask="mean"),
    but("You put 0 for the scores of padded tokens, but e^0 = 1: they still get attention. Put -inf.", mask="zero"),
    but("You mask after the softmax: then the weights of a query no longer sum to 1. Put -inf before it.",
        mask="after"),
    but("Your mask strikes out queries. It must strike out keys: gather it as you gather them, valid[index].",
        mask="queries"),
]  # fmt: skip


def routed(own_attend: Answer) -> Verdict:
    """own_attend(q, k, v, index, heads, scale=None, valid=None): what `attend` does. First without a mask."""
    q, k, v = numbers(3, 2, 5, 3, 12)
    index = numbers(2, 5, 5, seed=3).topk(2).indices
    valid = numbers(5, 3, seed=4) > -0.5
    without = valid.clone()
    without[index[0, 0]] = False  # region 0 of image 0 reads nothing real
    inputs = [(q, k, v, index, 1, 0.7), (q, k, v, index, 3), (q, k, v, index, 3, 0.7, valid)]
    inputs += [(q, k, v, index, 2, None, without)]
    praise = "Every head attends to real tokens of the regions that are read."
    return judge(own_attend, inputs, attend_to_regions, MISTAKES, praise)


PARTS = [
    Part(attend_to_regions, '''
def attend(q, k, v, index, heads, scale=None, valid=None):
    """Three (b r t c), index (b r k) -> (b r t c): each token attends to all tokens of the k regions that it reads.

    scale=None means (c / heads)^(-1/2). valid (r t): only real keys get weight; a query without any gets 0.
    """
    ...
''', routed),
]  # fmt: skip
