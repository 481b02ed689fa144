# ruff: noqa: E501 - a table of wrong answers reads better wide
"""Every check accepts a right answer, and says of named wrong ones what is wrong with them.

The wrong answers are written as a reader would write them, not as `bra.checks` recognises them.
"""

import copy
import importlib
import math
import re
import sys

import pytest
import torch
import torch.nn.functional as F
from einops import rearrange

from bra import checks
from bra.checks.inputs import hidden
from bra.checks.judge import recall, unchanged

# --- right answers -----------------------------------------------------------------------------------------------


def windows(grid, side):
    rows = []
    for i in range(grid[0]):
        for j in range(grid[1]):
            top, left = i // side * side, j // side * side
            rows.append([(top + y) * grid[1] + left + x for y in range(side) for x in range(side)])
    return torch.tensor(rows)


def cut(x, grid):
    b, h, w, c = x.shape
    u, v = h // grid[0], w // grid[1]
    pieces = [x[:, i * u : (i + 1) * u, j * v : (j + 1) * v] for i in range(grid[0]) for j in range(grid[1])]
    return torch.stack([piece.reshape(b, u * v, c) for piece in pieces], dim=1)


def masked_means(regions, valid):
    real = valid[None, :, :, None]
    return torch.where(real, regions, 0.0).sum(dim=2) / real.sum(dim=2).clamp(min=1)


def stable_top_k(affinity, k):
    return torch.sort(-affinity, dim=-1, stable=True).indices[..., :k]


def gather_backward(grad, index):
    (b, r, k), c = index.shape, grad.shape[-1]
    t = grad.shape[2] // k
    out = torch.zeros(b, r, t, c)
    for n in range(b):
        for i in range(r):
            for rank in range(k):
                out[n, index[n, i, rank]] += grad[n, i, rank * t : (rank + 1) * t]
    return out


def attend_by_hand(q, keys, values, heads):
    d = q.shape[-1] // heads
    parts = []
    for m in range(heads):
        part = slice(m * d, (m + 1) * d)
        scores = torch.einsum("brtd,brnd->brtn", q[..., part], keys[..., part]) / math.sqrt(d)
        parts.append(scores.softmax(dim=-1) @ values[..., part])
    return torch.cat(parts, dim=-1)


def depthwise(v, weight, bias):
    h, w, half = v.shape[1], v.shape[2], weight.shape[1] // 2
    wide = F.pad(v, (0, 0, half, half, half, half))
    out = bias.expand_as(v).clone()
    for dy in range(weight.shape[1]):
        for dx in range(weight.shape[2]):
            out += weight[:, dy, dx] * wide[:, dy : dy + h, dx : dx + w]
    return out


def empty_file(
    x, weights, heads, grid, k, *, parts="qkv", largest=True, scale=None, local="v", late=False, out=True, columns=False,
    biases=1.0, softmax=-1, batch=None, mixed=False, turned=False, counted=False, chosen=False, seen=False, filtered=False,
    without=None, every=None, heads_last=True,
):  # fmt: skip
    """The right layer; each keyword makes one mistake."""
    weights = {name: biases * w if name.endswith("bias") else w for name, w in weights.items()}
    if without:
        weights[without] = torch.zeros_like(weights[without])
    if every:  # the rows of qkv as somebody would have to order them who splits it in this way
        order = rearrange(torch.arange(3 * x.shape[-1]), f"{every} -> (three m d)", three=3, m=heads)
        weights = weights | {name: weights[name][order] for name in ("qkv.weight", "qkv.bias")}
    (b, tall, broad, c), given = x.shape, x
    u, v = -(-tall // grid[0]), -(-broad // grid[1])
    h, w = u * grid[0], v * grid[1]
    x = torch.zeros(b, h, w, c)
    x[:, :tall, :broad] = given
    inside = (torch.arange(h) < tall)[:, None] & (torch.arange(w) < broad)  # which places of the map hold a token
    inside = torch.stack([part for row in inside.split(u) for part in row.split(v, dim=1)]).flatten(1)
    projected = x @ weights["qkv.weight"].T + weights["qkv.bias"]
    q, key, value = (projected[..., c * i : c * (i + 1)] for i in (parts.index(p) for p in "qkv"))
    bounded = value.clone()
    if not filtered:
        bounded[:, tall:], bounded[:, :, broad:] = 0, 0
    listed = rearrange(bounded, "b (i u) (j v) c -> b (i j) (u v) c", i=grid[0], j=grid[1])
    source = {"v": bounded, "x": x, "list": listed}.get(local)
    if source is not None:
        weight = weights["lce.conv.weight"]
        filters = weight.transpose(2, 3) if turned else weight, weights["lce.conv.bias"]
        nearby = F.conv2d(source.permute(0, 3, 1, 2), *filters, padding=2, groups=c).permute(0, 2, 3, 1)
        if local == "list":
            nearby = rearrange(nearby, "b (i j) (u v) c -> b (i u) (j v) c", i=grid[0], u=u)
    split = "b (i u) (j v) (m d) -> b (i j) m (u v) d"
    q, key, value = (rearrange(y, split, i=grid[0], j=grid[1], m=heads) for y in (q, key, value))
    counts = inside | True if counted else inside
    tokens = [rearrange(y, "b r m t d -> b r t (m d)") for y in (q, key)]
    means = [torch.where(counts[:, :, None], y, 0).sum(dim=2) / counts.sum(1).clamp(min=1)[:, None] for y in tokens]
    affinity = torch.einsum("bic,bjc->bji" if columns else "bic,bjc->bij", *means)
    if not chosen:
        affinity[:, :, ~inside.any(dim=1)] = -math.inf
    index = affinity.topk(k, largest=largest).indices
    index = index[[0] * b] if batch == "routes" else index
    result = torch.zeros_like(q)
    for n in range(b):
        for r in range(grid[0] * grid[1]):
            images = {"tokens": (0, 0), "keys": (0, n)}.get(batch, (n, n))
            near, far = (
                torch.cat([y[i, j] for j in index[n, r]], dim=1) for y, i in zip((key, value), images, strict=True)
            )
            far = rearrange(far, "m (k t) d -> m (t k) d", k=k) if mixed else far
            scores = q[n, r] @ near.transpose(-2, -1) * (c**-0.5 if scale is None else scale)
            if not seen:
                scores[..., ~torch.cat([inside[j] for j in index[n, r]])] = -math.inf
            result[n, r] = scores.softmax(dim=softmax).nan_to_num(0.0) @ far
    if not heads_last:
        result = rearrange(result.flatten(2), "b r (t m d) -> b r m t d", t=u * v, m=heads)
    result = rearrange(result, "b (i j) m (u v) d -> b (i u) (j v) (m d)", i=grid[0], u=u, v=v)
    if source is not None and not late:
        result = result + nearby
    if out:
        result = result @ weights["out.weight"].T + weights["out.bias"]
    return (result + nearby if late else result)[:, :tall, :broad]


def last_stage(
    x, weights, heads, *, parts="qkv", width=None, local="x", late=False, projected=True, bias=1.0, every=None, first=False,
    heads_last=True,
):  # fmt: skip
    """The right attention of the last stage; each keyword makes one mistake."""
    b, h, w, c = x.shape
    if every:
        order = rearrange(torch.arange(3 * c), f"{every} -> (three m d)", three=3, m=heads)
        weights = weights | {"qkv.weight": weights["qkv.weight"][order]}
    named = dict(zip(parts, (x @ weights["qkv.weight"].T).split(c, dim=-1), strict=True))
    d, result = c // heads, torch.zeros(b, h * w, c)
    for n in range(b):
        for m in range(heads):
            images = {"q": n, "k": 0 if first else n, "v": n}
            q, k, v = (named[name][i].reshape(h * w, c)[:, m * d : (m + 1) * d] for name, i in images.items())
            result[n, :, m * d : (m + 1) * d] = ((q @ k.T) * (width or d) ** -0.5).softmax(dim=1) @ v
    if not heads_last:
        result = rearrange(result, "b n (m d) -> b m n d", m=heads)
    result = result.reshape(b, h, w, c)
    source = {"x": x, "v": named["v"], "none": torch.zeros_like(x)}[local].permute(0, 3, 1, 2)
    biases = weights["lce.conv.bias"] if local != "none" else None
    nearby = F.conv2d(source, weights["lce.conv.weight"], biases, padding=2, groups=c).permute(0, 2, 3, 1)
    result = result + (0 if late else nearby)
    result = result @ weights["out.weight"].T + bias * weights["out.bias"] if projected else result
    return result + (nearby if late else 0)


def by_stage(**mistake):
    return lambda x, weights, heads: last_stage(x, weights, heads, **mistake)


def rolled_out(index, *, keeps=0.5, gives=None, reverse=False, swap=False, once=False, tables=None):
    """Paths followed one by one: what region i holds of region j after the blocks."""
    tables = index.tolist() if tables is None else tables(index.tolist())
    gives = 0.5 / index.shape[2] if gives is None else gives
    regions = range(index.shape[1])
    held = [[float(i == j) for j in regions] for i in regions]
    for table in reversed(tables) if reverse else tables:
        before = held
        held = [[keeps * x for x in row] for row in before]
        for i, reads in enumerate(table):
            for source in dict.fromkeys(reads) if once else reads:
                into, out_of = (source, i) if swap else (i, source)
                for j in regions:
                    held[into][j] += gives * before[out_of][j]
    return torch.tensor(held)


def identity_last(index):
    return (rolled_out(index, keeps=0.0, gives=1 / index.shape[2]) + torch.eye(index.shape[1])) / 2


def by_entry(index):
    return math.prod(rolled_out(table[None]) for table in index)


def averaged(index):
    return torch.stack([rolled_out(table[None]) for table in index]).mean(dim=0)


def hit_rate(index, square, target, *, ranks=slice(None), others=False):
    """Board by board: is the target among what the square's region reads?"""
    hits = 0
    for row, at, goal in zip(index.tolist(), square.tolist(), target.tolist(), strict=True):
        hits += any(goal in reads for reads in row) if others else goal in row[at][ranks]
    return torch.tensor(hits / len(index))


def read_by_square(index, square):
    return index[torch.arange(len(index)), square]


def rate_of_step(
    step, peak, warmup, steps, least, *, warm=True, rises_from=0.0, step_from=1, too_long=0, falls=None, ends=None
):
    """The rate as it is in the recipe, with a least one; each keyword makes one mistake."""
    if warm and step < warmup + too_long:
        return torch.tensor(rises_from + (peak - rises_from) * (step + step_from) / warmup)
    share = (step - warmup) / (steps - warmup)
    fallen = falls(share, step, warmup, steps) if falls else 0.5 + 0.5 * math.cos(math.pi * share)
    return torch.tensor(ends(fallen, peak, least) if ends else peak * fallen + least * (1 - fallen))


def cosine(share):
    return 0.5 + 0.5 * math.cos(math.pi * share)


def by_rate(**mistake):
    return lambda *given: rate_of_step(*given, **mistake)


def merged(best, total, mixed, best_2, total_2, mixed_2, *, high=torch.maximum, power=torch.exp2):
    """Two pieces of a softmax, one after the other, row by row."""
    top = high(best, best_2)
    one, two = total * power(best - top), total_2 * power(best_2 - top)
    return (mixed * power(best - top)[:, None] + mixed_2 * power(best_2 - top)[:, None]) / (one + two)[:, None]


def read_by(table):
    return torch.tensor([i for j in range(len(table)) for i, row in enumerate(table.tolist()) for n in row if n == j])


def mean_of_classes(said, truth, classes):
    found = []
    for c in range(classes):
        both = sum(s == t == c for s, t in zip(said.flatten().tolist(), truth.flatten().tolist(), strict=True))
        either = sum(
            t != 255 and c in (s, t) for s, t in zip(said.flatten().tolist(), truth.flatten().tolist(), strict=True)
        )
        found += [both / either] if either else []
    return torch.tensor(sum(found) / len(found))


def crossed(said, truth, classes):
    table = torch.zeros(classes, classes)
    for s, t in zip(said.flatten().tolist(), truth.flatten().tolist(), strict=True):
        if t != 255:
            table[t, s] += 1
    return table.diagonal(), table.sum(0), table.sum(1)


def ious(said, truth, classes):
    both, a, b = crossed(said, truth, classes)
    return both / (a + b - both)


RIGHT = {
    "patterns": windows,
    "partition": cut,
    "adjacency": masked_means,
    "topk": stable_top_k,
    "gather": gather_backward,
    "attention": attend_by_hand,
    "lce": depthwise,
    "layer": empty_file,
    "biformer": last_stage,
    "train": hit_rate,
    "explorer": rolled_out,
    "imagenet100": rate_of_step,
    "kernels": merged,
    "kernels_readers": read_by,
    "dense": mean_of_classes,
}

NUMBERS = ["train", "imagenet100", "dense"]  # whose answer is one number
WHOLE = ("patterns", "topk", "kernels_readers")  # whose answers are numbers of regions

# --- wrong answers: (check, name of the mistake, the answer, what the check must say) --------------------------------


def window_strips(grid, side):
    r, size = grid[0] * grid[1], side * side
    return torch.arange(r).reshape(-1, size).repeat_interleave(size, dim=0)


def window_from_itself(grid, side):
    return torch.tensor(
        [[i + y * grid[1] + x for y in range(side) for x in range(side)] for i in range(math.prod(grid))]
    )


def window_of_wrong_rows(grid, side):
    rows = []
    for i in range(grid[0] * grid[1]):
        row, column = i // grid[0], i % grid[0]  # should be grid[1]
        mates = [
            j
            for j in range(grid[0] * grid[1])
            if (j // grid[0] // side, j % grid[0] // side) == (row // side, column // side)
        ]
        rows.append(mates)
    return torch.tensor(rows) if len({len(row) for row in rows}) == 1 else torch.zeros(1)


def strike_out(affinity, k, mark):
    left, index = affinity.clone(), []
    for _ in range(k):
        index.append(left.argmax(dim=-1, keepdim=True))
        left.scatter_(-1, index[-1], mark)
    return torch.cat(index, dim=-1)


def sliding_windows(grid, side):
    rows = []
    for i in range(grid[0]):
        for j in range(grid[1]):
            top, left = min(max(i - side // 2, 0), grid[0] - side), min(max(j - side // 2, 0), grid[1] - side)
            rows.append([(top + y) * grid[1] + left + x for y in range(side) for x in range(side)])
    return torch.tensor(rows)


def itself_first(grid, side):
    return torch.tensor([[i, *(j for j in row if j != i)] for i, row in enumerate(windows(grid, side).tolist())])


def keep_last(grad, index):
    (b, r, k), out = index.shape, torch.zeros(len(grad), index.shape[1], grad.shape[2] // index.shape[2], grad.shape[3])
    t = grad.shape[2] // k
    for n in range(b):
        for i in range(r):
            for rank in range(k):
                out[n, index[n, i, rank]] = grad[n, i, rank * t : (rank + 1) * t]
    return out


def add_by_index(grad, index):
    (b, r, k), c = index.shape, grad.shape[-1]
    parts, out = grad.unflatten(2, (k, -1)), torch.zeros(b, r, grad.shape[2] // k, c)
    for n in range(b):
        for rank in range(k):
            out[n, index[n, :, rank]] += parts[n, :, rank]
    return out


def twice_is_once(grad, index):
    (b, r, k), out = index.shape, torch.zeros(len(grad), index.shape[1], grad.shape[2] // index.shape[2], grad.shape[3])
    for n in range(b):
        for i in range(r):
            out[n, index[n, i]] += grad[n, i].unflatten(0, (k, -1))
    return out


def forget_batch(grad, index):
    k, c = index.shape[2], grad.shape[3]
    t = grad.shape[2] // k
    out = torch.zeros(index.shape[0] * index.shape[1], t, c)
    out.index_add_(0, index.reshape(-1), grad.reshape(-1, t, c))
    return out.reshape(*index.shape[:2], t, c)


def divide_by_readers(grad, index):
    count = torch.zeros(index.shape[:2]).scatter_add(1, index.flatten(1), torch.ones(index.flatten(1).shape))
    return gather_backward(grad, index) / count.clamp(min=1)[:, :, None, None]


def heads_first_einsum(q, keys, values, heads, scale=True, dim=-1):
    q, keys, values = (x.unflatten(-1, (heads, -1)) for x in (q, keys, values))
    scores = torch.einsum("brtmd,brnmd->brmtn", q, keys)
    scores = scores / math.sqrt(q.shape[-1]) if scale else scores
    return torch.einsum("brmtn,brnmd->brtmd", scores.softmax(dim), values).flatten(-2)


def interleaved_heads(q, keys, values, heads):
    q, keys, values = (x.unflatten(-1, (-1, heads)).transpose(-1, -2).flatten(-2) for x in (q, keys, values))
    return attend_by_hand(q, keys, values, heads).unflatten(-1, (heads, -1)).transpose(-1, -2).flatten(-2)


def reshaped_heads(q, keys, values, heads):
    q, keys, values = (
        x.reshape(x.shape[0], x.shape[1], heads, x.shape[2], x.shape[3] // heads) for x in (q, keys, values)
    )
    return F.scaled_dot_product_attention(q, keys, values).transpose(2, 3).flatten(3)


def unsafe_softmax(q, keys, values, heads):
    q, keys, values = (x.unflatten(-1, (heads, -1)).transpose(2, 3) for x in (q, keys, values))
    weights = torch.exp(q @ keys.mT / math.sqrt(q.shape[-1]))
    return (weights / weights.sum(-1, keepdim=True) @ values).transpose(2, 3).flatten(3)


def rolled(v, weight, bias):
    half, out = weight.shape[1] // 2, bias.expand_as(v).clone()
    for dy in range(weight.shape[1]):
        for dx in range(weight.shape[2]):
            out = out + weight[:, dy, dx] * v.roll((half - dy, half - dx), dims=(1, 2))
    return out


def off_by_one(v, weight, bias):
    h, w, half = v.shape[1], v.shape[2], weight.shape[1] // 2
    wide = F.pad(v, (0, 0, half, half + 1, half, half + 1))
    out = bias.expand_as(v).clone()
    for dy in range(weight.shape[1]):
        for dx in range(weight.shape[2]):
            out += weight[:, dy, dx] * wide[:, dy + 1 : dy + 1 + h, dx + 1 : dx + 1 + w]
    return out


def strips_layer(x, weights, heads, grid, k):
    """Cut by a reshape, merged by a reshape: both are strips of rows, the same as a grid of one column on a long map."""
    b, c = len(x), x.shape[-1]
    q, key, v = (x @ weights["qkv.weight"].T + weights["qkv.bias"]).split(c, dim=-1)
    q, key, value = (y.reshape(b, grid[0] * grid[1], -1, c) for y in (q, key, v))
    index = (q.mean(2) @ key.mean(2).mT).topk(k).indices
    near, far = (
        torch.stack([torch.stack([y[n, i].flatten(0, 1) for i in index[n]]) for n in range(b)]) for y in (key, value)
    )
    out = attend_by_hand(q * heads**-0.5, near, far, heads).reshape(x.shape)
    local = depthwise(v, weights["lce.conv.weight"][:, 0], weights["lce.conv.bias"])
    return (out + local) @ weights["out.weight"].T + weights["out.bias"]


def only_divided(x, weights, heads, grid, k):
    return empty_file(x.unflatten(1, (grid[0], -1)).flatten(1, 2), weights, heads, grid, k)


def by_layer(**mistake):
    return lambda *given: empty_file(*given, **mistake)


WRONG = [
    ("dense", "unlabelled pixels counted", lambda s, t, n: torch.stack([(s == c).logical_and(t == c).sum() / (s == c).logical_or(t == c).sum() for c in range(n)]).nanmean(), "without a label"),
    ("dense", "nowhere is 0", lambda s, t, n: ious(s, t, n).nan_to_num(0).mean(), "counts as 0"),
    ("dense", "nowhere is 1", lambda s, t, n: ious(s, t, n).nan_to_num(1).mean(), "counts as 1"),
    ("dense", "only true classes", lambda s, t, n: ious(s, t, n)[sorted({*t.flatten().tolist()} - {255})].mean(), "nowhere true"),
    ("dense", "recall", lambda s, t, n: (crossed(s, t, n)[0] / crossed(s, t, n)[2]).nanmean(), "what is true"),
    ("dense", "precision", lambda s, t, n: (crossed(s, t, n)[0] / crossed(s, t, n)[1]).nanmean(), "what is said. That is"),
    ("dense", "sum below", lambda s, t, n: (crossed(s, t, n)[0] / (crossed(s, t, n)[1] + crossed(s, t, n)[2])).nanmean(), "twice"),
    ("dense", "dice", lambda s, t, n: (2 * crossed(s, t, n)[0] / (crossed(s, t, n)[1] + crossed(s, t, n)[2])).nanmean(), "Dice"),
    ("dense", "summed first", lambda s, t, n: crossed(s, t, n)[0].sum() / (crossed(s, t, n)[1] + crossed(s, t, n)[2] - crossed(s, t, n)[0]).sum(), "before you divide"),
    ("dense", "accuracy", lambda s, t, n: (s == t)[t != 255].float().mean(), "share of right pixels"),
    ("dense", "weighted", lambda s, t, n: (ious(s, t, n).nan_to_num(0) * crossed(s, t, n)[2]).sum() / (t != 255).sum(), "weight the classes"),
    ("dense", "sum", lambda s, t, n: ious(s, t, n).nansum(), "add the classes' IoUs"),
    ("dense", "percent", lambda s, t, n: 100 * mean_of_classes(s, t, n), "percent"),
    ("dense", "each", lambda s, t, n: ious(s, t, n), "mean is missing"),
    ("patterns", "runs of consecutive regions", window_strips, "consecutive regions"),
    ("patterns", "window starts at itself", window_from_itself, "starts at the region itself"),
    ("patterns", "everybody reads the first window", lambda g, s: windows(g, s)[0].repeat(math.prod(g), 1), "window of region 0"),
    ("patterns", "one row a window", lambda g, s: windows(g, s)[torch.unique(windows(g, s)[:, 0])], "one for each region"),
    ("patterns", "off by one", lambda g, s: windows(g, s) + 1, "count regions from 1"),
    ("patterns", "swapped axes in the window", lambda g, s: rearrange(windows(g, s), "r (a b) -> r (b a)", a=s), "another order"),
    ("patterns", "rows in the order of the windows", lambda g, s: torch.stack([row for row in torch.unique(windows(g, s), dim=0) for _ in range(s * s)]), "order of the windows"),
    ("patterns", "sliding window", sliding_windows, "slides along"),
    ("patterns", "itself first", itself_first, "another order"),
    ("patterns", "rows for columns", window_of_wrong_rows, "mixed up"),
    ("partition", "strips", lambda x, g: x.view(x.shape[0], g[0] * g[1], -1, x.shape[3]), "start at column 4"),
    ("partition", "regions by columns", lambda x, g: torch.cat([cut(x, g)[:, j :: g[1]] for j in range(g[1])], dim=1), "numbered column by column"),
    ("partition", "tokens by columns", lambda x, g: rearrange(cut(x, g), "b r (u v) c -> b r (v u) c", u=x.shape[1] // g[0]), "run column by column"),
    ("partition", "split in the wrong order", lambda x, g: x.reshape(len(x), *g, x.shape[1] // g[0], x.shape[2] // g[1], x.shape[3]).permute(0, 1, 3, 2, 4, 5).flatten(3, 4).flatten(1, 2), "First split h"),
    ("partition", "both by columns", lambda x, g: torch.cat([rearrange(cut(x, g), "b r (u v) c -> b r (v u) c", u=x.shape[1] // g[0])[:, j :: g[1]] for j in range(g[1])], dim=1), "Both of your orders"),
    ("partition", "scattered", lambda x, g: x.unflatten(1, (-1, g[0])).unflatten(3, (-1, g[1])).permute(0, 2, 4, 1, 3, 5).flatten(3, 4).flatten(1, 2), "all over the map"),
    ("partition", "grid swapped", lambda x, g: cut(x, (g[1], g[0])), "swapped"),
    ("partition", "shared across the batch", lambda x, g: cut(x[:1].repeat(len(x), 1, 1, 1), g), "of the first"),
    ("partition", "axes swapped", lambda x, g: cut(x, g).permute(0, 2, 1, 3), "(b r t c)"),
    ("adjacency", "mask ignored", lambda x, valid: x.mean(2), "Padded tokens count"),
    ("adjacency", "divided by all tokens", lambda x, valid: (x * valid[..., None]).mean(2), "divide by all tokens"),
    ("adjacency", "divided by one count", lambda x, valid: (x * valid[..., None]).sum(2) / (valid.sum() / len(valid)), "by the same number"),
    ("adjacency", "sum", lambda x, valid: torch.einsum("brtc,rt->brc", x, valid.float()), "sum of the real tokens"),
    ("adjacency", "empty region", lambda x, valid: torch.stack([x[:, i, valid[i]].mean(1) for i in range(len(valid))], 1), "NaN"),
    ("adjacency", "mask inverted", lambda x, valid: masked_means(x, valid.logical_not()), "True means real"),
    ("adjacency", "counting what is not zero", lambda x, valid: (x * valid[..., None]).sum(2) / (x * valid[..., None]).ne(0).sum(2).clamp(min=1), "entries are wrong"),
    ("adjacency", "maximum", lambda x, valid: torch.where(valid[..., None], x, -math.inf).max(2).values, "maximum"),
    ("topk", "sorting by smallest", lambda a, k: a.topk(k, largest=False).indices, "smallest"),
    ("topk", "worst first", lambda a, k: a.argsort(-1)[..., -k:], "worst of them first"),
    ("topk", "sorted by number", lambda a, k: a.topk(k).indices.sort(-1).values, "by their number"),
    ("topk", "columns instead of rows", lambda a, k: a.topk(k, dim=1).indices.transpose(1, 2), "sort columns"),
    ("topk", "sharing across the batch", lambda a, k: stable_top_k(a[0], k).repeat(len(a), 1, 1), "routes of the first"),
    ("topk", "mean over the batch", lambda a, k: stable_top_k(a.mean(0), k).repeat(len(a), 1, 1), "average the affinity"),
    ("topk", "one choice for all regions", lambda a, k: stable_top_k(a.mean(1), k)[:, None].repeat(1, a.shape[1], 1), "All regions read the same"),
    ("topk", "never itself", lambda a, k: stable_top_k(a - 1e9 * torch.eye(a.shape[-1]), k), "forbid"),
    ("topk", "values", lambda a, k: a.topk(k)[0], "You return affinities"),
    ("topk", "struck out by a finite number", lambda a, k: strike_out(a, k, -999.0), "entries are wrong"),
    ("topk", "struck out by minus infinity", lambda a, k: strike_out(a, k, -math.inf), "entries are wrong"),
    ("topk", "rounded", lambda a, k: stable_top_k((a * 1000).round(), k), "entries are wrong"),
    ("topk", "ties broken by a small slope", lambda a, k: (a - 1e-4 * torch.arange(a.shape[-1])).topk(k).indices, "entries are wrong"),
    ("topk", "ties from above", lambda a, k: a.shape[2] - 1 - stable_top_k(a.flip(2), k), "higher region first"),
    ("gather", "overwriting", keep_last, "only the last"),
    ("gather", "adding through an index, which overwrites", add_by_index, "adds each row once"),
    ("gather", "a region read twice counts once", lambda g, i: twice_is_once(g, i), "entries are wrong"),
    ("gather", "averaging", divide_by_readers, "average over the readers"),
    ("gather", "batch offset missing", forget_batch, "first image"),
    ("gather", "back to the reader", lambda g, i: sum(g.chunk(i.shape[2], dim=2)), "that reads"),
    ("gather", "tokens before ranks", lambda g, i: gather_backward(rearrange(g, "b r (t k) c -> b r (k t) c", k=i.shape[2]), i), "(t k)"),
    ("attention", "missing scale", lambda *a: heads_first_einsum(*a, scale=False), "scale is missing"),
    ("attention", "scale of all channels", lambda q, *a: heads_first_einsum(q / math.sqrt(a[-1]), *a), "all channels"),
    ("attention", "scale upside down", lambda q, *a: heads_first_einsum(q * (q.shape[-1] / a[-1]), *a), "multiply by the root"),
    ("attention", "softmax over queries", lambda *a: heads_first_einsum(*a, dim=-2), "over the queries"),
    ("attention", "softmax over heads", lambda *a: heads_first_einsum(*a, dim=2), "over the heads"),
    ("attention", "interleaved heads", interleaved_heads, "(m d), not (d m)"),
    ("attention", "heads merged the other way", lambda q, *a: heads_first_einsum(q, *a).unflatten(-1, (a[-1], -1)).transpose(-1, -2).flatten(-2), "another order"),
    ("attention", "one head", lambda q, k, v, heads: F.scaled_dot_product_attention(q, k, v), "one head"),
    ("attention", "heads by reshape", reshaped_heads, "mixes tokens and channels"),
    ("attention", "heads not moved back", lambda q, k, v, heads: F.scaled_dot_product_attention(*(x.unflatten(-1, (heads, -1)).transpose(2, 3) for x in (q, k, v))).reshape(q.shape), "move them back"),
    ("attention", "heads by reshape both ways", lambda q, k, v, heads: F.scaled_dot_product_attention(*(x.reshape(*x.shape[:2], heads, x.shape[2], -1) for x in (q, k, v))).reshape(q.shape), "at once, and back"),
    ("attention", "keys and values swapped", lambda q, k, v, heads: attend_by_hand(q, v, k, heads), "swapped"),
    ("attention", "exp without the maximum", unsafe_softmax, "NaN"),
    ("attention", "values forgotten", lambda q, k, v, heads: attend_by_hand(q, k, k, heads), "add up keys"),
    ("attention", "keys of image 0", lambda q, k, v, heads: attend_by_hand(q, k[[0] * len(k)], v, heads), "keys of the first"),
    ("lce", "bias missing", lambda v, w, b: depthwise(v, w, torch.zeros_like(b)), "bias is missing"),
    ("lce", "convolution, not correlation", lambda v, w, b: depthwise(v, w.rot90(2, (1, 2)), b), "180 degrees"),
    ("lce", "filter transposed", lambda v, w, b: depthwise(v, w.mT, b), "swapped"),
    ("lce", "one filter for all channels", lambda v, w, b: depthwise(v, w[[0] * len(w)], b), "filter of channel 0"),
    ("lce", "bias for each entry", lambda v, w, b: depthwise(v, w, b * w[0].numel()), "Add it once"),
    ("lce", "residual", lambda v, w, b: depthwise(v, w, b) + v, "filter alone"),
    ("lce", "wraps around", rolled, "wraps around"),
    ("lce", "border repeated", lambda v, w, b: F.conv2d(F.pad(v.permute(0, 3, 1, 2), [w.shape[1] // 2] * 4, mode="replicate"), w[:, None], b, groups=len(w)).permute(0, 2, 3, 1), "last row and column"),
    ("lce", "off by one", off_by_one, "off by one"),
    ("layer", "no LCE", by_layer(local="none"), "LCE is missing"),
    ("layer", "LCE of x", by_layer(local="x"), "filters x"),
    ("layer", "LCE of the list of regions", by_layer(local="list"), "list of regions"),
    ("layer", "LCE after the projection", by_layer(late=True), "after `out`"),
    ("layer", "no output projection", by_layer(out=False), "projection `out` is missing"),
    ("layer", "q and k swapped", by_layer(parts="kqv"), "Queries and keys"),
    ("layer", "scale of a head", lambda x, w, m, *a: empty_file(x, w, m, *a, scale=(x.shape[-1] // m) ** -0.5), "channels of a head"),
    ("layer", "smallest affinity", by_layer(largest=False), "smallest affinity"),
    ("layer", "k ignored", lambda x, w, m, grid, k: empty_file(x, w, m, grid, grid[0] * grid[1]), "k is not used"),
    ("layer", "routes of the first image", by_layer(batch="routes"), "routes of the first"),
    ("layer", "tokens of the first image", by_layer(batch="tokens"), "tokens of the first"),
    ("layer", "columns instead of rows", by_layer(columns=True), "each column"),
    ("layer", "k and v swapped", by_layer(parts="qvk"), "Keys and values"),
    ("layer", "no scale", by_layer(scale=1.0), "scale is missing"),
    ("layer", "one head", lambda x, w, heads, *a: empty_file(x, w, 1, *a), "one head"),
    ("layer", "softmax over the queries", by_layer(softmax=-2), "over the queries"),
    ("layer", "values in another order", by_layer(mixed=True), "another order than your keys"),
    ("layer", "biases forgotten", by_layer(biases=0.0), "biases are missing"),
    ("layer", "LCE with height and width swapped", by_layer(turned=True), "height and width"),
    ("layer", "nothing masked", by_layer(counted=True, chosen=True, seen=True), "mask nothing"),
    ("layer", "padding in the softmax", by_layer(seen=True), "share of your softmax"),
    ("layer", "padding in the means", by_layer(counted=True), "enters your means"),
    ("layer", "empty regions chosen", by_layer(chosen=True), "nothing but padding"),
    ("layer", "LCE of the padding", by_layer(filtered=True), "filters the padding"),
    ("layer", "no bias of out", by_layer(without="out.bias"), "bias of `out` is missing"),
    ("layer", "no bias of qkv", by_layer(without="qkv.bias"), "bias of `qkv` is missing"),
    ("layer", "no bias of LCE", by_layer(without="lce.conv.bias"), "bias of LCE is missing"),
    ("layer", "interleaved qkv", by_layer(every="(m d three)"), "every third channel"),
    ("layer", "qkv split by heads", by_layer(every="(m three d)"), "by heads first"),
    ("layer", "heads merged without a transpose", by_layer(heads_last=False), "still stand before the tokens"),
    ("layer", "keys of image 0", by_layer(batch="keys"), "keys of the first"),
    ("layer", "no padding at all", only_divided, "raised"),
    ("layer", "strips", strips_layer, "horizontal strips. A"),
    ("biformer", "scale of all channels", lambda x, w, m: last_stage(x, w, m, width=x.shape[-1]), "scale by all channels"),
    ("biformer", "a routed layer", lambda x, w, m: last_stage(x, w, m, width=x.shape[-1], local="v"), "routed stages' scale and"),
    ("biformer", "no bias of LCE", lambda x, w, m: last_stage(x, w | {"lce.conv.bias": 0 * w["lce.conv.bias"]}, m), "bias of LCE"),
    ("biformer", "no scale", by_stage(width=1), "scale is missing"),
    ("biformer", "LCE of v", by_stage(local="v"), "filters v"),
    ("biformer", "no LCE", by_stage(local="none"), "LCE is missing"),
    ("biformer", "LCE after the projection", by_stage(late=True), "after `out`"),
    ("biformer", "no output projection", by_stage(projected=False), "projection `out` is missing"),
    ("biformer", "no bias", by_stage(bias=0.0), "bias of `out`"),
    ("biformer", "q and k swapped", by_stage(parts="kqv"), "Queries and keys"),
    ("biformer", "k and v swapped", by_stage(parts="qvk"), "Keys and values"),
    ("biformer", "interleaved qkv", by_stage(every="(m d three)"), "every third channel"),
    ("biformer", "qkv split by heads", by_stage(every="(m three d)"), "by heads first"),
    ("biformer", "heads merged without a transpose", by_stage(heads_last=False), "still stand before the tokens"),
    ("biformer", "keys of image 0", by_stage(first=True), "keys of the first"),
    ("biformer", "one head", lambda x, w, m: last_stage(x, w, 1), "one head"),
    ("train", "reader and read swapped", lambda index, square, target: hit_rate(index, target, square), "reverse hit rate"),
    ("train", "either way", lambda i, s, t: ((read_by_square(i, s) == t[:, None]).any(1) | (read_by_square(i, t) == s[:, None]).any(1)).float().mean(), "either region"),
    ("train", "first choice", lambda i, s, t: (read_by_square(i, s)[:, 0] == t).double().mean(), "first choice only"),
    ("train", "without the first choice", lambda *given: hit_rate(*given, ranks=slice(1, None)), "leave out the first"),
    ("train", "mean over k", lambda i, s, t: (read_by_square(i, s) == t[:, None]).float().mean(), "mean over k"),
    ("train", "sum over k", lambda i, s, t: (read_by_square(i, s) == t[:, None]).sum() / len(t), "not the sum"),
    ("train", "all regions", lambda i, s, t: (i == t[:, None, None]).any(dim=-1).float().mean(), "mean over all regions"),
    ("train", "any region", lambda *given: hit_rate(*given, others=True), "any region of it"),
    ("train", "all pairs of boards", lambda i, s, t: (i[:, s] == t[:, None]).any(dim=-1).float().mean(), "pairs every board"),
    ("train", "isin", lambda i, s, t: torch.isin(t, read_by_square(i, s)).float().mean(), "torch.isin"),
    ("train", "misses", lambda *given: 1 - hit_rate(*given), "misses"),
    ("train", "count", lambda i, s, t: sum(goal in i[b, s[b]] for b, goal in enumerate(t)), "count the hits"),
    ("train", "percent", lambda *given: hit_rate(*given).item() * 100, "in percent"),
    ("train", "board by board", lambda i, s, t: (read_by_square(i, s) == t[:, None]).any(dim=1), "for each board"),
    ("imagenet100", "least forgotten", lambda step, peak, warmup, steps, least: rate_of_step(step, peak, warmup, steps, 0.0), "`least` is not used"),
    ("imagenet100", "cut off", by_rate(ends=lambda fallen, peak, least: max(peak * fallen, least)), "cut the curve off"),
    ("imagenet100", "least added", by_rate(ends=lambda fallen, peak, least: peak * fallen + least), "You add `least`"),
    ("imagenet100", "not halved", by_rate(falls=lambda share, *_: 2 * cosine(share)), "halve it"),
    ("imagenet100", "rising", by_rate(ends=lambda fallen, peak, least: peak + (least - peak) * fallen), "must fall: 1 + cos"),
    ("imagenet100", "linear", by_rate(falls=lambda share, *_: 1 - share), "straight line"),
    ("imagenet100", "quarter of a cosine", by_rate(falls=lambda share, *_: math.cos(share * math.pi / 2)), "quarter"),
    ("imagenet100", "whole cosine", by_rate(falls=lambda share, *_: cosine(2 * share)), "whole cosine"),
    ("imagenet100", "degrees", by_rate(falls=lambda share, *_: 0.5 + 0.5 * math.cos(180 * share)), "radians"),
    ("imagenet100", "from step 0", by_rate(falls=lambda share, step, warmup, steps: cosine(step / steps)), "cosine begins at step 0"),
    ("imagenet100", "divided by all steps", by_rate(falls=lambda share, step, warmup, steps: cosine((step - warmup) / steps)), "divide by all steps"),
    ("imagenet100", "counted from 0", by_rate(falls=lambda share, step, warmup, steps: cosine(step / (steps - warmup))), "but count from step 0"),
    ("imagenet100", "one step too soon", by_rate(falls=lambda share, step, warmup, steps: cosine((step - warmup) / (steps - 1 - warmup))), "too soon"),
    ("imagenet100", "warm-up from 0", by_rate(step_from=0), "has the rate 0"),
    ("imagenet100", "warm-up from least", lambda *given: rate_of_step(*given, rises_from=given[-1]), "warm-up begins at"),
    ("imagenet100", "at the peak from the start", lambda step, peak, warmup, *rest: rate_of_step(step, peak, warmup, *rest) if step > warmup else peak, "from the start"),
    ("imagenet100", "no warm-up", by_rate(warm=False), "cosine runs before"),
    ("imagenet100", "warm-up too long", by_rate(too_long=1), "one step too long"),
    ("explorer", "last block first", lambda index: rolled_out(index, reverse=True), "wrong order"),
    ("explorer", "transposed", lambda index: rolled_out(index, swap=True), "transposed"),
    ("explorer", "no identity", lambda index: rolled_out(index, keeps=0.0, gives=1 / index.shape[2]), "identity is missing"),
    ("explorer", "not halved", lambda index: rolled_out(index, keeps=1.0, gives=1 / index.shape[2]), "not halved"),
    ("explorer", "no 1/k", lambda index: rolled_out(index, gives=0.5), "1/k is missing"),
    ("explorer", "result transposed", lambda index: rolled_out(index).T, "result is transposed"),
    ("explorer", "identity at the end", identity_last, "once, at the end"),
    ("explorer", "entry by entry", by_entry, "entry by entry"),
    ("explorer", "mean of blocks", averaged, "mean over the blocks"),
    ("explorer", "first block only", lambda index: rolled_out(index[:1]), "after the first block"),
    ("explorer", "last block only", lambda index: rolled_out(index[-1:]), "last block alone"),
    ("explorer", "repeats count once", lambda index: rolled_out(index, once=True), "listed twice"),
    ("kernels", "no rescaling", lambda a, s, m, b, t, n: (m + n) / (s + t)[:, None], "as they are"),
    ("kernels", "only totals rescaled", lambda a, s, m, b, t, n: (m + n) / (s * 2 ** (a - a.maximum(b)) + t * 2 ** (b - a.maximum(b)))[:, None], "not what is mixed"),
    ("kernels", "only mixed rescaled", lambda a, s, m, b, t, n: merged(a, s, m, b, t, n) * (s * 2 ** (a - a.maximum(b)) + t * 2 ** (b - a.maximum(b)))[:, None] / (s + t)[:, None], "not the totals"),
    ("kernels", "base e", lambda *given: merged(*given, power=torch.exp), "exp2"),
    ("kernels", "sign", lambda *given: merged(*given, power=lambda x: 2.0**-x), "wrong piece shrinks"),
    ("kernels", "other piece's factor", lambda a, s, m, b, t, n: merged(b, s, m, a, t, n), "the one with the smaller best"),
    ("kernels", "relative to the first", lambda *given: merged(*given, high=lambda a, b: a), "first piece's best"),
    ("kernels", "relative to nothing", lambda *given: merged(*given, high=lambda a, b: torch.zeros_like(a)), "infinite for large"),
    ("kernels", "relative to the second", lambda *given: merged(*given, high=lambda a, b: b), "second piece's best"),
    ("kernels", "totals forgotten", lambda a, s, m, b, t, n: merged(a, torch.ones_like(s), m / s[:, None], b, torch.ones_like(t), n / t[:, None]), "bests alone"),
    ("kernels", "mean of outputs", lambda a, s, m, b, t, n: (m / s[:, None] + n / t[:, None]) / 2, "mean of the two"),
    ("kernels", "not divided", lambda a, s, m, b, t, n: m * 2 ** (a - a.maximum(b))[:, None] + n * 2 ** (b - a.maximum(b))[:, None], "divide by the total"),
    ("kernels_readers", "places", lambda table: torch.argsort(table.reshape(-1), stable=True), "p // k"),
    ("kernels_readers", "ranks", lambda table: torch.sort(table.flatten(), stable=True)[1] % table.shape[1], "rank at which"),
    ("kernels_readers", "values", lambda table: torch.tensor(sorted(table.flatten().tolist())), "not its values"),
    ("kernels_readers", "row by row", lambda table: torch.cat([row.argsort(stable=True) for row in table]), "each row by itself"),
    ("kernels_readers", "last region first", lambda table: torch.tensor([i for j in reversed(range(len(table))) for i, row in enumerate(table.tolist()) for n in row if n == j]), "Begin with region 0"),
    ("kernels_readers", "doubles once", lambda table: torch.cat([(table == j).any(dim=1).nonzero().flatten() for j in range(len(table))]), "its reader twice"),
    ("kernels_readers", "unchanged", lambda table: table.reshape(-1), "as it is"),
]  # fmt: skip


@pytest.mark.parametrize("name", RIGHT)
def test_a_right_answer_passes(name):
    verdict = getattr(checks, name)(RIGHT[name])
    assert verdict, verdict
    assert repr(verdict).startswith("Right. ")


def test_every_check_is_tried():
    assert set(RIGHT) == {
        name for name in checks.__all__ if name not in ("Verdict", "build") and not name.endswith("_recall")
    }


@pytest.mark.parametrize(("name", "mistake", "answer", "says"), WRONG, ids=[f"{w[0]}: {w[1]}" for w in WRONG])
def test_a_wrong_answer_gets_its_diagnosis(name, mistake, answer, says):
    verdict = getattr(checks, name)(answer)
    assert not verdict, mistake
    assert says in verdict.text
    assert repr(verdict).startswith("Not yet. ")


@pytest.mark.parametrize("name", RIGHT)
def test_at_least_four_mistakes_are_named_for_each_check(name):
    assert len({says for check, _, _, says in WRONG if check == name}) >= 4


@pytest.mark.parametrize("name", RIGHT)
def test_what_is_not_yet_an_answer_is_told_so(name):
    check = getattr(checks, name)
    assert "returns nothing" in check(lambda *given: None).text
    assert "returns nothing" in check(lambda *given: ...).text
    assert "a list" in check(lambda *given: [1]).text
    assert "one tensor, not 2" in check(lambda *given: (1, 2)).text
    assert "raised ZeroDivisionError: division by zero" in check(lambda *given: 1 / 0).text
    assert "raised SystemExit" in check(lambda *given: sys.exit()).text
    assert "raised" in check(lambda *given: RIGHT[name](*given).to_sparse()).text
    assert "Its shape is (7,), but must be " in check(lambda *given: torch.zeros(7)).text
    assert "NaN" in check(lambda *given: RIGHT[name](*given) * math.nan).text or name in WHOLE


@pytest.mark.parametrize("name", sorted(set(RIGHT) - {"patterns", "imagenet100"}))  # these are given plain numbers
def test_an_answer_may_not_change_its_input(name):
    def destroy(*given):
        result = RIGHT[name](*given)
        given[0].zero_()
        return result

    assert "changes its input" in getattr(checks, name)(destroy).text


@pytest.mark.parametrize(
    "change", [lambda w: w["qkv.weight"].zero_(), lambda w: w.pop("out.bias"), lambda w: w.update(x=1)]
)
def test_weights_may_not_be_changed_either(change):
    def destroy(x, weights, *rest):
        result = empty_file(x, weights, *rest)
        change(weights)
        return result

    assert "changes its input" in checks.layer(destroy).text


@pytest.mark.parametrize("name", RIGHT)
def test_an_unknown_mistake_is_located(name):
    def one_off(*given):
        result = RIGHT[name](*given).clone()
        result.view(-1)[-1] += 1
        return result

    text = getattr(checks, name)(one_off).text
    assert ("It is " if name in NUMBERS else "1 of ") in text and "must be" in text, text


@pytest.mark.parametrize("name", RIGHT)
def test_a_table_of_what_can_be_seen_fails_in_a_hidden_variant(name):
    seen = []

    def answer(*given):
        seen.append((copy.deepcopy(given), RIGHT[name](*given)))
        return seen[-1][1]

    def looked_up(*given):
        return next((result for before, result in seen if unchanged(before, given)), seen[0][1])

    check = getattr(checks, name)
    assert check(answer) and check(looked_up)
    with hidden(3):
        assert not check(looked_up)


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("variant", [1, 2])
def test_a_right_answer_passes_in_hidden_variants(name, variant):
    with hidden(variant):
        assert getattr(checks, name)(RIGHT[name])


@pytest.mark.parametrize("name", NUMBERS)
def test_where_a_number_is_asked_for_a_plain_one_does(name):
    check = getattr(checks, name)
    assert check(lambda *given: RIGHT[name](*given).item())
    assert check(lambda *given: RIGHT[name](*given).double())
    assert "must be that of one number" in check(lambda *given: RIGHT[name](*given).expand(1)).text


def test_a_check_leaves_the_random_numbers_alone_and_needs_no_gradient():
    def draw(affinity, k):
        torch.manual_seed(7)
        return stable_top_k(affinity.requires_grad_(), k)

    before = torch.get_rng_state()
    assert checks.topk(draw)
    assert torch.equal(torch.get_rng_state(), before)


def test_a_verdict_can_grade():
    with pytest.raises(AssertionError):
        assert checks.topk(lambda affinity, k: ...)
    assert isinstance(checks.topk(stable_top_k), tuple)


def test_each_diagnosis_belongs_to_one_mistake():
    told = [(name, says) for name, _, _, says in WRONG if says not in ("entries are wrong", "another order")]
    assert len(set(told)) == len(told)


def test_another_integer_type_is_as_good():
    assert checks.patterns(lambda grid, side: windows(grid, side).int())


# --- recall questions: (step, right answers, [(wrong answers, what must be said)]) ------------------------------------

RECALLED = {
    "dense": (((0, 0, 0, 12, 12, 12), (0, 0, 4, 8, 12, 12), 2.4), [
        (((0, 12, 0, 12, 0, 12), (0, 0, 4, 8, 12, 12), 2.4), "repeated at once"),
        (((0, 0, 4, 8, 12, 12), (0, 0, 4, 8, 12, 12), 2.4), "That is bilinear"),
        (((0, 0, 0, 12, 12, 12), (0, 4, 8, 12, 12, 12), 2.4), "Half a pixel is lost"),
        (((0, 0, 0, 12, 12, 12), (0, 2.4, 4.8, 7.2, 9.6, 12), 2.4), "the ends are tied"),
        (((0, 0, 0, 12, 12, 12), (0, 0, 0, 12, 12, 12), 2.4), "That is nearest"),
        (((0, 0, 0, 12, 12, 12), (-4, 0, 4, 8, 12, 16), 2.4), "nothing is continued"),
        (((0, 0, 0, 12, 12, 12), (0, 0, 4, 8, 12, 12), 0), "without align_corners"),
        (((0, 0, 0, 12, 12, 12), (0, 0, 4, 8, 12, 12), 2), "not six"),
        (((0, 0, 0, 12, 12, 12), (0, 0, 4, 8, 12, 12), 4), "not three"),
    ]),
    "patterns": ((1 / 16, 1), [((0.5, 1), "64 of them"), ((1 / 16, 16), "full attention"), ((1 / 9, 1), "k / R"), ((6.25, 1), "percent")]),
    "partition": ((6, 11), [((5, 11), "regions column by column"), ((6, 12), "places from 1"), ((6, 3), "left over")]),
    "adjacency": ((False, True), [((True, True), "a_key_bias"), ((False, False), "a_query_bias")]),
    "topk": (({1, 2, 4}, {1, 2}), [
        (({2, 3, 5}, {1, 2}), "from 1"), (({1, 2}, {1, 2}), "k is 3"), (({1, 2, 4}, {1}), "the lower of two"),
        (({1, 2, 4}, {2}), "the higher of two"), (({1, 2, 4}, {1, 2, 4}), "for k = 3"), (({1, 2, 4}, {7}), "the affinity"),
    ]),
    "gather": (((8, 49, 64, 128), 12.8, 157.4), [
        (((8, 49, 4, 16, 128), 12.8, 157.4), "share one axis"), (((8, 49, 64, 128), 25.7, 157.4), "keys and values"),
        (((8, 49, 64, 128), 12.8, 314.7), "keys and values"), (((8, 49, 64, 128), 12.8, 1), "(b, r, r, t, c)"),
    ]),
    "attention": ((128, 1_605_632, 39_337_984), [
        ((512, 1_605_632, 39_337_984), "all heads"), ((128, 401_408, 39_337_984), "one head"), ((128, 1_605_632, 1), "every token"),
    ]),
    "lce": ((4800, 25, 451_680), [
        ((4704, 25, 451_680), "biases"), ((4800, 28, 451_680), "overlap"), ((4800, 625, 451_680), "the square holds"),
        ((4800, (25, 25), 451_680), "one number"), ((4800, 25, 451_584), "biases"),
    ]),
    "layer": ((38_208,), [((39_744,), "3 x 3"), ((37_728,), "Biases"), ((4,), "Four square")]),
    "biformer": (((150, 130), 418, 440), [
        (((130, 150), 418, 440), "Height"), (((150, 130), 378, 440), "round down"), (((150, 130), 418, 110), "reads four"),
        (((150, 130), 440, 440), "in the second stage"), (((150, 130), 418, 418), "one region of the first"),
    ]),
    "train": ((0.25, 0.4375), [
        ((1.5, 0.4375), "as many regions as cells"), ((1 / 36, 0.4375), "not one"),
        ((8 / 35, 0.4375), "names its own region"), ((9 / 35, 0.4375), "without its own region"),
        ((25, 43.75), "percent"), ((0.25, 0.25), "some guesses are right"), ((0.25, 0.1875), "guesses that are right"),
        ((0.25, 0.5), "How many boards are misses"), ((0.25, 0.0625), "add"), ((0.25, 0.25 + 0.75 / 8), "all eight"),
        ((0.25, 0.44), "rounded too far"),
    ]),
    "explorer": (({0, 1, 2, 3, 4, 5}, {1}, 5 / 6, 1 / 3), [
        (({3, 4}, {1}, 5 / 6, 1 / 3), "that region 3 reads"), (({0, 1, 2, 4, 5}, {1}, 5 / 6, 1 / 3), "itself, too"),
        (({1, 2, 3}, {1}, 5 / 6, 1 / 3), "first choices"), (({0, 1, 2, 3, 4, 5}, {3, 1}, 5 / 6, 1 / 3), "that region 1 reads"),
        (({0, 1, 2, 3, 4, 5}, [], 5 / 6, 1 / 3), "itself, too"), (({0, 1, 2, 3, 4, 5}, {1}, 1.0, 1 / 3), "Not every column"),
        (({0, 1, 2, 3, 4, 5}, {1}, 0.5, 1 / 3), "one of the two choices"), (({0, 1, 2, 3, 4, 5}, {1}, 5, 1 / 3), "how many"),
        (({0, 1, 2, 3, 4, 5}, {1}, 5 / 12, 1 / 3), "not of entries"), (({0, 1, 2, 3, 4, 5}, {1}, 5 / 6, 1 / 6), "two, not one"),
        (({0, 1, 2, 3, 4, 5}, {1}, 5 / 6, 0.4), "draws from all"), (({0, 1, 2, 3, 4, 5}, {1}, 5 / 6, 2), "That is k"),
    ]),
    "imagenet100": ((8, 2.5e-4), [
        ((4, 2.5e-4), "256 images"), ((5, 2.5e-4), "multiple of 5"), ((6, 2.5e-4), "would not be equal"), ((16, 2.5e-4), "fewer and larger"),
        ((128, 2.5e-4), "how many images a part has"), ((8, 1e-3), "rate for 1024"), ((8, 4e-3), "other way round"), ((8, 5e-4), "root"),
    ]),
    "kernels": ((98, 34, 32), [
        ((64, 34, 32), "the gather alone"), ((66, 34, 32), "It does both"), ((50, 34, 32), "gathered, both"), ((97, 34, 32), "two maps"),
        ((98, 4, 32), "by all that read it"), ((98, 18, 32), "read, both"), ((98, 32, 32), "stores the output, too"), ((98, 33, 32), "two maps"),
        ((98, 34, 16), "gathered, both"), ((98, 34, 0), "so in place"), ((98, 34, 34), "only what is gathered"), ((98, 34, 64), "only what it stores"),
    ]),
}  # fmt: skip


def recalled(name, answers):
    return getattr(checks, f"{name}_recall")(*answers)


def test_every_step_has_a_check_of_its_recall_question():
    assert RECALLED.keys() == RIGHT.keys() - {"kernels_readers"}, "a step's second check has none"


@pytest.mark.parametrize("name", RECALLED)
def test_right_answers_of_a_recall_question_pass(name):
    right, _ = RECALLED[name]
    assert recalled(name, right), recalled(name, right)
    as_read = [list(x) if isinstance(x, tuple | set) else x if isinstance(x, str) else torch.tensor(x) for x in right]
    assert recalled(name, as_read), "lists and tensors are as good"


def test_regions_may_be_given_as_topk_gives_them():
    best = torch.tensor([2.0, 7, 7, -1, 5]).topk(3).indices
    assert checks.topk_recall(best, best[:2]) and not checks.topk_recall(best[:2], best)


def gives_away(right, text):
    """Whether a verdict says the right answer; of two possible answers each gives the other away."""
    return not isinstance(right, bool) and bool(re.search(rf"(?<!\w){re.escape(str(right))}(?!\w)", text))


@pytest.mark.parametrize("name", RECALLED)
def test_wrong_answers_of_a_recall_question_get_their_diagnosis_and_not_the_right_one(name):
    right, wrongs = RECALLED[name]
    for wrong, says in wrongs:
        verdict = recalled(name, wrong)
        assert not verdict and says in verdict.text, verdict
        at = next(i for i, (a, b) in enumerate(zip(right, wrong, strict=True)) if a != b)
        assert not gives_away(right[at], verdict.text)
    for at in range(len(right)):
        for odd in ("six", [], object(), math.nan, torch.zeros(3), float("inf"), -1, {7}, 10**9):
            verdict = recalled(name, right[:at] + (odd,) + right[at + 1 :])
            assert not verdict and "is wrong." in verdict.text, (at, odd)
            assert not gives_away(right[at], verdict.text)
        missing = recalled(name, right[:at] + (None,) + right[at + 1 :])
        assert not missing and missing.text.endswith("has no answer yet.")


@pytest.mark.parametrize(
    "step, at, answer, says",
    [
        ("patterns", 0, "1/16", "It is of type str, but must be a number."),
        ("attention", 1, [7, 8], "It is of type list, but must be a number."),
        ("train", 0, torch.zeros(3), "It is of type Tensor, but must be a number."),
        ("gather", 0, 8 * 49 * 64 * 128, "It is of type int, but must be a tuple of numbers, such as (2, 3)."),
        ("gather", 0, ["8", "49"], "It is of type list that holds a value of type str, but must be a tuple"),
        ("topk", 0, 4, "It is of type int, but must be a set of numbers, such as {2, 3}."),
        ("topk", 1, False, "It is of type bool, but must be a set of numbers, such as {2, 3}."),
        ("adjacency", 0, 5, "It is of type int, but must be True or False."),
        ("kernels", 0, "98", "It is of type str, but must be a number."),
    ],
)
def test_an_answer_of_another_kind_is_told_so_and_no_hint_about_content(step, at, answer, says):
    right, _ = RECALLED[step]
    text = recalled(step, right[:at] + (answer,) + right[at + 1 :]).text
    assert "is wrong. " in text and says in text, text
    same_kind = {"patterns": 0.3, "gather": (8, 9), "topk": {0}, "kernels": 64}
    if step in same_kind and at == 0:
        assert "must be" not in recalled(step, (same_kind[step], *right[1:])).text


@pytest.mark.parametrize("name", RECALLED)
def test_every_typical_mistake_of_recall_is_told_and_is_one(name, monkeypatch):
    seen = []
    module = importlib.import_module(f"bra.checks.{name}")
    monkeypatch.setattr(module, "recall", lambda facts, praise: seen.extend(facts) or recall(facts, praise))
    recalled(name, RECALLED[name][0])
    for fact in seen:
        assert fact.hint and fact.right not in fact.typical
        for wrong, says in fact.typical.items():
            told = recall([fact._replace(given=wrong)], "")
            assert not told and says in told.text
            assert not gives_away(fact.right, says)
