"""The programs of `attend_fused`, in Triton: one forward, two backward. Imported when the first of them runs.

Words. A *row* is a token: q, k and v are matrices of (b r t) rows and c columns, of which a head has D. A *program*
owns up to OWN rows of one region, for one head, and walks over the N regions of T tokens that its region reads, STEP
rows at a time. The walk is flat: step s stands at token s % T of the region that is listed at place s // T, so that T
need not be a power of two. WIDTH is D, rounded up to a power of two; what is beyond D is never loaded.

On a CPU they run in Triton's interpreter, slowly, if TRITON_INTERPRET=1 was set before Triton was first imported.
`no_type_check` keeps jaxtyping's hook of the tests away: Triton reads the source.
"""

from typing import no_type_check

import triton
import triton.language as tl


@triton.jit
@no_type_check
def owned(heads, T: tl.constexpr, OWN: tl.constexpr):
    """What this program owns: its head, its region, which of the region's tokens, whether they exist, their rows."""
    tiles: tl.constexpr = (T + OWN - 1) // OWN
    program = tl.program_id(0)
    head, region = program % heads, (program // heads // tiles).to(tl.int64)
    token = program // heads % tiles * OWN + tl.arange(0, OWN)
    return head, region, token, token < T, region * T + token


@triton.jit
@no_type_check
def columns(row, stride, head, D: tl.constexpr, WIDTH: tl.constexpr):
    """Where the head's channels of some rows are, and which of the WIDTH exist."""
    d = tl.arange(0, WIDTH)
    return row[:, None] * stride + head * D + d[None, :], (d < D)[None, :]


@triton.jit
@no_type_check
def load(x, row, exists, stride, head, D: tl.constexpr, WIDTH: tl.constexpr):
    """One head's channels of some rows; 0 where a row or channel does not exist."""
    at, some = columns(row, stride, head, D, WIDTH)
    return tl.load(x + at, mask=exists[:, None] & some, other=0.0)


@triton.jit
@no_type_check
def store(x, values, row, exists, stride, head, D: tl.constexpr, WIDTH: tl.constexpr):
    """The same, written."""
    at, some = columns(row, stride, head, D, WIDTH)
    tl.store(x + at, values.to(x.dtype.element_ty), mask=exists[:, None] & some)


@triton.jit
@no_type_check
def product(a, b, WIDE: tl.constexpr, EXACT: tl.constexpr, CAST: tl.constexpr):
    """A matrix product that adds up in WIDE. CAST: the interpreter cannot multiply bfloat16."""
    if CAST:
        a, b = a.to(WIDE), b.to(WIDE)
    return tl.dot(a, b, input_precision=EXACT, out_dtype=WIDE)


@triton.jit
@no_type_check
def routed(table, valid, region, start, N: tl.constexpr, T: tl.constexpr, STEP: tl.constexpr, MASKED: tl.constexpr):
    """The next STEP of the N * T tokens that a region reads: their rows, whether they exist, whether they count."""
    s = start + tl.arange(0, STEP)
    exists = s < N * T
    row = tl.load(table + region * N + s // T, mask=exists, other=0).to(tl.int64) * T + s % T
    counts = exists
    if MASKED:
        counts = tl.load(valid + region * (N * T) + s, mask=exists, other=0) != 0
    return row, exists, counts


@triton.jit
@no_type_check
def forward(
    q, k, v, table, valid, out, lse, q_stride, k_stride, v_stride, heads, c, log2_scale: tl.constexpr,
    WIDE: tl.constexpr, EXACT: tl.constexpr, CAST: tl.constexpr, N: tl.constexpr, T: tl.constexpr, D: tl.constexpr,
    OWN: tl.constexpr, STEP: tl.constexpr, WIDTH: tl.constexpr, MASKED: tl.constexpr,
):  # fmt: skip
    """O, and lse, the log2 of each query's sum of 2^score. (Scores in base 2: 2^x is one instruction.)

    Online softmax: `best` is the largest score so far, `total` the sum of 2^(score - best) and `mixed` that sum's
    values. A better score scales down both. A query that nothing counts for gets O = 0 and lse = inf.
    """
    head, region, _, mine, row = owned(heads, T, OWN)
    query = load(q, row, mine, q_stride, head, D, WIDTH)
    best = tl.full([OWN], float("-inf"), WIDE)
    total = tl.zeros([OWN], WIDE)
    mixed = tl.zeros([OWN, WIDTH], WIDE)
    for start in range(0, N * T, STEP):
        there, exists, counts = routed(table, valid, region, start, N, T, STEP, MASKED)
        key = load(k, there, exists, k_stride, head, D, WIDTH)
        value = load(v, there, exists, v_stride, head, D, WIDTH)
        score = product(query, tl.trans(key), WIDE, EXACT, CAST) * log2_scale
        score = tl.where(counts[None, :], score, float("-inf"))
        better = tl.maximum(best, tl.max(score, 1))
        finite = tl.where(better == float("-inf"), 0.0, better)  # nothing has counted yet: -inf - -inf would be NaN
        weight, shrink = tl.exp2(score - finite[:, None]), tl.exp2(best - finite)
        total = total * shrink + tl.sum(weight, 1)
        mixed = mixed * shrink[:, None] + product(weight.to(value.dtype), value, WIDE, EXACT, CAST)
        best = better
    nothing = total == 0
    total = tl.where(nothing, 1.0, total)
    store(out, mixed / total[:, None], row, mine, c, head, D, WIDTH)
    tl.store(lse + row * heads + head, tl.where(nothing, float("inf"), best + tl.log2(total)), mask=mine)


@triton.jit
@no_type_check
def backward_queries(
    q, k, v, table, valid, out, lse, grad, delta, dq, q_stride, k_stride, v_stride, heads, c, scale: tl.constexpr,
    log2_scale: tl.constexpr, WIDE: tl.constexpr, EXACT: tl.constexpr, CAST: tl.constexpr, N: tl.constexpr,
    T: tl.constexpr, D: tl.constexpr, OWN: tl.constexpr, STEP: tl.constexpr, WIDTH: tl.constexpr,
    MASKED: tl.constexpr,
):  # fmt: skip
    """DQ = scale dS K, over what is read, with P = 2^(score - lse), dP = G V^T, dS = P * (dP - delta).

    G is the gradient of O, and delta = rowsum(G * O) is stored for `backward_keys`.
    """
    head, region, _, mine, row = owned(heads, T, OWN)
    query = load(q, row, mine, q_stride, head, D, WIDTH)
    g = load(grad, row, mine, c, head, D, WIDTH)
    mean = tl.sum(g.to(WIDE) * load(out, row, mine, c, head, D, WIDTH).to(WIDE), 1)
    tl.store(delta + row * heads + head, mean, mask=mine)
    norm = tl.load(lse + row * heads + head, mask=mine, other=float("inf"))
    d_query = tl.zeros([OWN, WIDTH], WIDE)
    for start in range(0, N * T, STEP):
        there, exists, counts = routed(table, valid, region, start, N, T, STEP, MASKED)
        key = load(k, there, exists, k_stride, head, D, WIDTH)
        value = load(v, there, exists, v_stride, head, D, WIDTH)
        score = product(query, tl.trans(key), WIDE, EXACT, CAST) * log2_scale
        weight = tl.exp2(tl.where(counts[None, :], score, float("-inf")) - norm[:, None])
        d_score = weight * (product(g, tl.trans(value), WIDE, EXACT, CAST) - mean[:, None])
        d_query += product(d_score.to(key.dtype), key, WIDE, EXACT, CAST)
    store(dq, d_query * scale, row, mine, c, head, D, WIDTH)


@triton.jit
@no_type_check
def backward_keys(
    q, k, v, readers, starts, valid, lse, grad, delta, dk, dv, q_stride, k_stride, v_stride, heads, c,
    scale: tl.constexpr, log2_scale: tl.constexpr, WIDE: tl.constexpr, EXACT: tl.constexpr, CAST: tl.constexpr,
    N: tl.constexpr, T: tl.constexpr, D: tl.constexpr, OWN: tl.constexpr, STEP: tl.constexpr, WIDTH: tl.constexpr,
    MASKED: tl.constexpr,
):  # fmt: skip
    """DV = P^T G and dK = scale dS^T Q, over all readers: the walk of `forward`, seen from the region that is read.

    readers[starts[i] : starts[i + 1]]: the places of the table that name region i, in rising order. Each is the region
    place // N reading at rank place % N. Nobody else writes these rows, and the order is fixed: no atomics.
    """
    head, region, token, mine, row = owned(heads, T, OWN)
    key = load(k, row, mine, k_stride, head, D, WIDTH)
    value = load(v, row, mine, v_stride, head, D, WIDTH)
    d_key, d_value = tl.zeros([OWN, WIDTH], WIDE), tl.zeros([OWN, WIDTH], WIDE)
    first = tl.load(starts + region)
    count = tl.load(starts + region + 1) - first
    for start in range(0, count * T, STEP):
        s = start + tl.arange(0, STEP)
        exists = s < count * T
        place = tl.load(readers + first + s // T, mask=exists, other=0)
        there = place // N * T + s % T
        query = load(q, there, exists, q_stride, head, D, WIDTH)
        g = load(grad, there, exists, c, head, D, WIDTH)
        norm = tl.load(lse + there * heads + head, mask=exists, other=float("inf"))
        mean = tl.load(delta + there * heads + head, mask=exists, other=0.0)
        score = product(key, tl.trans(query), WIDE, EXACT, CAST) * log2_scale
        if MASKED:
            counts = tl.load(valid + place[None, :] * T + token[:, None], mask=mine[:, None] & exists[None, :], other=0)
            score = tl.where(counts != 0, score, float("-inf"))
        weight = tl.exp2(score - norm[None, :])  # what does not exist has norm inf, and so weight 0
        d_value += product(weight.to(g.dtype), g, WIDE, EXACT, CAST)
        d_score = weight * (product(value, tl.trans(g), WIDE, EXACT, CAST) - mean[None, :])
        d_key += product(d_score.to(query.dtype), query, WIDE, EXACT, CAST)
    store(dk, d_key * scale, row, mine, c, head, D, WIDTH)
    store(dv, d_value, row, mine, c, head, D, WIDTH)
