"""The paper's sums as plain loops over float64 numbers. Imports nothing from `bra`; slow and obvious on purpose."""

import math

import numpy as np


def partition(x, grid):
    """(b h w c) -> (b r t c): walk over the map's regions row by row, and over each region's tokens row by row."""
    b, h, w, c = x.shape
    height, width = h // grid[0], w // grid[1]
    out = np.zeros((b, grid[0] * grid[1], height * width, c))
    for n in range(b):
        for y in range(h):
            for x_ in range(w):
                region = (y // height) * grid[1] + x_ // width
                token = (y % height) * width + x_ % width
                out[n, region, token] = x[n, y, x_]
    return out


def means(regions, valid=None):
    """(b r t c) -> (b r c): the mean of a region's real tokens, 0 where there are none."""
    b, r, t, c = regions.shape
    out = np.zeros((b, r, c))
    for n in range(b):
        for i in range(r):
            real = [m for m in range(t) if valid is None or valid[i, m]]
            for m in real:
                out[n, i] += regions[n, i, m] / len(real)
    return out


def affinity(q_means, k_means):
    """(b r c), (b r c) -> (b r r)."""
    b, r, c = q_means.shape
    out = np.zeros((b, r, r))
    for n in range(b):
        for i in range(r):
            for j in range(r):
                out[n, i, j] = sum(q_means[n, i, e] * k_means[n, j, e] for e in range(c))
    return out


def top_k(scores, k):
    """(b r r) -> (b r k): take the largest, strike it out, k times."""
    b, r, _ = scores.shape
    out = np.zeros((b, r, k), dtype=np.int64)
    for n in range(b):
        for i in range(r):
            left = list(range(r))
            for rank in range(k):
                best = left[0]
                for j in left:
                    if scores[n, i, j] > scores[n, i, best]:
                        best = j
                left.remove(best)
                out[n, i, rank] = best
    return out


def gather(regions, index):
    """(b r t c), (b r k) -> (b r k*t c)."""
    b, r, t, c = regions.shape
    k = index.shape[2]
    out = np.zeros((b, r, k * t, c))
    for n in range(b):
        for i in range(r):
            for rank in range(k):
                for m in range(t):
                    out[n, i, rank * t + m] = regions[n, index[n, i, rank], m]
    return out


def attend(q, k, v, index, heads, scale=None, valid=None):
    """Softmax over the real tokens of the routed regions, query by query and head by head."""
    b, r, t, c = q.shape
    d = c // heads
    scale = d**-0.5 if scale is None else scale
    out = np.zeros((b, r, t, c))
    for n in range(b):
        for i in range(r):
            read = [(j, m) for j in index[n, i] for m in range(t) if valid is None or valid[j, m]]
            for token in range(t):
                for head in range(heads if read else 0):
                    part = slice(head * d, (head + 1) * d)
                    scores = [scale * float(np.dot(q[n, i, token, part], k[n, j, m, part])) for j, m in read]
                    weights = [math.exp(score - max(scores)) for score in scores]
                    for weight, (j, m) in zip(weights, read, strict=True):
                        out[n, i, token, part] += weight / sum(weights) * v[n, j, m, part]
    return out


def attend_per_head(q, k, v, heads, chosen, scale, valid=None):
    """Each head chooses by its own channels, and attends to what it chose; -> output, index head after head."""
    d, out, index = q.shape[3] // heads, [], []
    for head in range(heads):
        mine = [x[..., head * d : (head + 1) * d] for x in (q, k, v)]
        scores = affinity(means(mine[0], valid), means(mine[1], valid))
        if valid is not None:
            scores[:, :, ~valid.any(axis=1)] = -np.inf
        index.append(top_k(scores, chosen))
        out.append(attend(*mine, index[-1], 1, scale, valid))
    return np.concatenate(out, axis=3), np.concatenate(index, axis=2)


def attend_softly(q, k, v, index, heads, scale, valid=None):
    """The score of a token is its own and its region's: q.k + A_ij, times the scale."""
    b, r, t, c = q.shape
    d, out = c // heads, np.zeros((b, r, t, c))
    wish = affinity(means(q, valid), means(k, valid))
    for n in range(b):
        for i in range(r):
            read = [(j, m) for j in index[n, i] for m in range(t) if valid is None or valid[j, m]]
            for token in range(t):
                for head in range(heads if read else 0):
                    part = slice(head * d, (head + 1) * d)
                    own = [float(np.dot(q[n, i, token, part], k[n, j, m, part])) for j, m in read]
                    weights = [math.exp(scale * (s + wish[n, i, j])) for s, (j, _) in zip(own, read, strict=True)]
                    for weight, (j, m) in zip(weights, read, strict=True):
                        out[n, i, token, part] += weight / sum(weights) * v[n, j, m, part]
    return out


def depthwise(x, weight, bias):
    """(b h w c) filtered channel by channel; weight (c 1 s s), zeros beyond the border."""
    channels = range(len(weight))
    whole = np.zeros((len(weight), *weight[:, 0].shape))
    whole[channels, channels] = weight[:, 0]
    return convolve(x, whole, bias)


def convolve(x, weight, bias=0):
    """(b h w c) filtered; weight (d c s s), zeros beyond the border; -> (b h w d)."""
    h, w = x.shape[1:3]
    side = weight.shape[-1]
    out = np.zeros((*x.shape[:3], len(weight))) + bias
    for y in range(h):
        for x_ in range(w):
            for dy in range(side):
                for dx in range(side):
                    yy, xx = y + dy - side // 2, x_ + dx - side // 2
                    if 0 <= yy < h and 0 <= xx < w:
                        out[:, y, x_] += x[:, yy, xx] @ weight[:, :, dy, dx].T
    return out


def repeat(x, factor, size):
    """(b h w c) -> (b *size c): every token factor x factor times."""
    out = np.zeros((len(x), *size, x.shape[3]))
    for y in range(size[0]):
        for x_ in range(size[1]):
            out[:, y, x_] = x[:, y // factor, x_ // factor]
    return out


def interpolate(x, factor, size):
    """(b h w c) -> (b *size c): between the four nearest of the tokens' middles; beyond the outermost as they are."""

    def neighbours(place, end):
        at = min(max((place + 0.5) / factor - 0.5, 0), end - 1)
        return [(math.floor(at), 1 - at % 1), (min(math.floor(at) + 1, end - 1), at % 1)]

    out = np.zeros((len(x), *size, x.shape[3]))
    for y in range(size[0]):
        for x_ in range(size[1]):
            for row, down in neighbours(y, x.shape[1]):
                for column, across in neighbours(x_, x.shape[2]):
                    out[:, y, x_] += down * across * x[:, row, column]
    return out


def layer(x, weights, heads, grid, k):
    """The whole layer on a map that the grid need not divide; weights as in the layer's state dict."""
    b, h, w, c = x.shape
    height, width = math.ceil(h / grid[0]), math.ceil(w / grid[1])
    size = (height * grid[0], width * grid[1])
    qkv = x @ weights["qkv.weight"].T + weights["qkv.bias"]
    padded, real = np.zeros((b, *size, 3 * c)), np.zeros((1, *size, 1))
    padded[:, :h, :w], real[:, :h, :w] = qkv, 1
    q, key, v = (partition(padded[..., i * c : (i + 1) * c], grid) for i in range(3))
    valid = partition(real, grid)[0, :, :, 0] > 0
    scores = affinity(means(q, valid), means(key, valid))
    scores[:, :, ~valid.any(axis=1)] = -np.inf
    out = attend(q, key, v, top_k(scores, k), heads, c**-0.5, valid)
    joined = np.zeros((b, *size, c))
    for y in range(size[0]):
        for x_ in range(size[1]):
            region = (y // height) * grid[1] + x_ // width
            joined[:, y, x_] = out[:, region, (y % height) * width + x_ % width]
    local = depthwise(qkv[..., 2 * c :], weights["lce.conv.weight"], weights["lce.conv.bias"])
    return (joined[:, :h, :w] + local) @ weights["out.weight"].T + weights["out.bias"]


def token_map(q, k, index, heads, scale, grid, row, column):
    """(h w c), (h w c), (r n) -> (m h w): one token's weights on every token of the map that its region reads."""
    h, w, c = q.shape
    d, height, width = c // heads, math.ceil(h / grid[0]), math.ceil(w / grid[1])
    region = [[(y // height) * grid[1] + x // width for x in range(w)] for y in range(h)]
    out = np.zeros((heads, h, w))
    for head in range(heads):
        part = slice(head * d, (head + 1) * d)
        shares = np.zeros((h, w))
        for y in range(h):
            for x in range(w):
                for read in index[region[row][column]]:
                    if read == region[y][x]:
                        shares[y, x] += math.exp(scale * float(np.dot(q[row, column, part], k[y, x, part])))
        out[head] = shares / shares.sum()
    return out
