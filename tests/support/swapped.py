"""What `bra` must show after a diff of book/swaps: python swapped.py FOLDER/NAME ..., of which each holds such a `bra`.

What is wrong is written to FOLDER/NAME/wrong.txt; one process for all of them need load PyTorch but once.
"""

import importlib
import math
import sys
import traceback
from pathlib import Path

import numpy as np
import oracles
import torch

bra = None  # the swapped package that is tried now


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def make(grid, k, dim=6, heads=2, **options):
    """A layer with biases and affinities that are not near zero, and its weights for an oracle."""
    layer = bra.BiLevelRoutingAttention(dim, heads, grid, k, **options).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer, {name: value.numpy() for name, value in layer.state_dict().items()}


def same(found, expected, atol=1e-9):
    np.testing.assert_allclose(found.detach(), expected, rtol=0, atol=atol)


def largest(regions, valid):
    """(b r t c), (r t) -> (b r c), by loops."""
    out = np.zeros((*regions.shape[:2], regions.shape[3]))
    for n, i, c in np.ndindex(out.shape):
        out[n, i, c] = max((regions[n, i, m, c] for m in range(valid.shape[1]) if valid[i, m]), default=0)
    return out


def pooling():
    regions, valid = draw(2, 5, 7, 3) - 3, torch.rand(5, 7) < 0.5  # mostly negative: a zero of the padding would win
    valid[3] = False
    same(bra.region_means(regions, valid), largest(regions, valid))
    same(bra.region_means(regions), largest(regions, torch.ones(5, 7)))
    assert bra.region_means(regions.half()).dtype == torch.float32

    signal = torch.tensor([[1, 1, 1], [9, -8, 0], [1, 2, 1]]).double()[None, :, :, None]  # the mean hides the 9
    routes = bra.TopKRouter(1)(bra.region_means(signal), bra.region_means(signal))
    assert routes.index[0, :, 0].tolist() == [1, 1, 1], "all must read the region of the largest token"
    by_mean = bra.TopKRouter(1)(signal.mean(2), signal.mean(2))
    assert by_mean.index[0, :, 0].tolist() == [2, 2, 2]

    popular = readers()
    assert popular["largest"] < 6 and popular["mean"] > 15, popular


def readers():
    """Of 49 regions of noise, how many are read by any: in a layer that nobody trained, with k = 1."""
    layer, x = bra.BiLevelRoutingAttention(64, 2, (7, 7), 1), torch.randn(8, 28, 28, 64)
    regions = layer.cut(x)[0]
    q, k, _ = layer.qkv(regions).chunk(3, dim=-1)
    routes = {"largest": layer.route(x), "mean": layer.router(q.mean(2), k.mean(2))}
    return {name: sum(len(one.unique()) for one in index) / len(index) for name, (index, _) in routes.items()}


def volumes():
    for grid, k, size in [
        ((2, 3, 2), 3, (3, 7, 5)),
        ((2, 1, 2), 2, (4, 3, 2)),
        ((2, 1, 2), 2, (3, 3, 2)),
        ((3, 2, 2), 12, (1, 2, 3)),
    ]:
        layer, weights = make(grid, k, lce_kernel=3)
        x = draw(2, *size, 6)
        same(layer(x), volume_layer(x.numpy(), weights, 2, grid, k))
    layer, weights = make((1, 2, 3), 2)
    x = draw(2, 1, 5, 7, 6)
    weights["lce.conv.weight"] = weights["lce.conv.weight"][:, :, 2]  # beyond the only slice lie zeros
    same(layer(x)[:, 0], oracles.layer(x[:, 0].numpy(), weights, 2, (2, 3), 2))
    regions = bra.partition_regions(x := draw(2, 4, 6, 5, 3), (2, 3, 5))
    assert torch.equal(bra.merge_regions(regions, (2, 3, 5), (4, 6, 5)), x)
    layer.k = 6
    real = torch.rand(2, 1, 5, 7) < 0.6
    x = draw(2, 1, 5, 7, 6)
    poisoned = torch.where(real[..., None], x, 50 * draw(*x.shape))
    same(layer(poisoned, real)[real], layer(x, real)[real].detach())


def volume_layer(x, weights, heads, grid, k):
    """The layer on (b z h w c), voxel by voxel. Steps 02 to 05 are those of the plane: they do not know of space."""
    b, *size, c = x.shape
    cell = [math.ceil(side / n) for side, n in zip(size, grid, strict=True)]
    qkv = x @ weights["qkv.weight"].T + weights["qkv.bias"]
    regions, home = np.zeros((b, math.prod(grid), math.prod(cell), 3 * c)), {}
    real = np.zeros(regions.shape[1:3], dtype=bool)
    for place in np.ndindex(*size):
        region = np.ravel_multi_index([at // side for at, side in zip(place, cell, strict=True)], grid)
        token = np.ravel_multi_index([at % side for at, side in zip(place, cell, strict=True)], cell)
        regions[:, region, token], real[region, token], home[place] = qkv[:, *place], True, (region, token)
    q, key, v = np.split(regions, 3, axis=-1)
    scores = oracles.affinity(oracles.means(q, real), oracles.means(key, real))
    scores[:, :, ~real.any(axis=1)] = -np.inf
    out = oracles.attend(q, key, v, oracles.top_k(scores, k), heads, c**-0.5, real)
    joined, taps = np.zeros(x.shape), weights["lce.conv.weight"][:, 0]
    for place in np.ndindex(*size):
        joined[:, *place] = out[:, *home[place]] + weights["lce.conv.bias"]
        for tap in np.ndindex(*taps.shape[1:]):
            seen = tuple(at + step - side // 2 for at, step, side in zip(place, tap, taps.shape[1:], strict=True))
            if seen in home:
                joined[:, *place] += qkv[:, *seen, 2 * c :] * taps[:, *tap]
    return joined @ weights["out.weight"].T + weights["out.bias"]


def grid():
    layer, weights = make((2, 3), 2)
    x = draw(2, 4, 6, 6)
    layer.borders.blur = 1e-3
    set_lengths(layer, [[1, 1], [1, 1, 1]])
    place, _, keys = layer.borders((4, 6))
    owners = bra.partition.RegionGrid((2, 3), (4, 6)).owners().flatten()
    assert all(set(owners[held[own]].tolist()) == {i} for i, (held, own) in enumerate(zip(place, keys, strict=True)))
    same(layer(x), oracles.layer(x.numpy(), weights, 2, (2, 3), 2))
    bands = [[1, 3], [1, 3, 2]]
    set_lengths(layer, bands)
    same(layer(x), uneven_layer(x.numpy(), weights, 2, bands, 2))

    _, share, keys = layer.borders((5, 7))
    assert torch.equal(share, keys.double()), "without blur a token is in one region alone"
    layer.borders.blur = 0.7
    for bands in ([[1, 3], [1, 3, 2]], [[1, 1], [1, 1, 1]], [[1, 99], [1, 1, 99]]):  # the last: regions without a key
        set_lengths(layer, bands)
        for size in ((5, 7), (1, 2)):
            check_shares(*layer.borders(size), size)
    set_lengths(layer, [[1, 3], [1, 3, 2]])
    assert layer.cut(x)[1].sum() == 24, "each token is a key once"
    assert torch.autograd.gradcheck(lambda *lengths: layer(x[:1]), tuple(layer.borders.lengths))
    layer(x)[..., 0].sum().backward()
    assert all(lengths.grad.abs().max() > 1e-3 for lengths in layer.borders.lengths)
    real = torch.rand(2, 4, 6) < 0.6
    poisoned = torch.where(real[..., None], x, 50 * draw(*x.shape))
    same(layer(poisoned, real)[real], layer(x, real)[real].detach())

    for first in (2, 5):
        border, before, after = learn_a_border(first)
        assert abs(border - first) < 0.05 and before > 0.1 and after < 1e-6, (border, before, after)


def check_shares(place, share, keys, size):
    tokens = size[0] * size[1]
    assert sorted(place[keys].tolist()) == list(range(tokens)), "each token is the key of one region"
    assert (share[keys] > 0).all() and ((share > 0) & (share < 1)).any(), "near a border it is a query in several"
    same(torch.zeros(tokens).double().index_add(0, place.flatten(), share.flatten()), torch.ones(tokens))
    x = draw(2, *size, 3)
    same(bra.partition.merge_shares(x.flatten(1, 2)[:, place], place, share, size), x)


def set_lengths(layer, bands):
    with torch.no_grad():
        for lengths, band in zip(layer.borders.lengths, bands, strict=True):
            lengths.copy_(torch.tensor(band).log())


def learn_a_border(first):
    """Of eight rows the first ones shall say the number of one of them, the others theirs; regions read themselves.

    All else is right already: queries look for the mark, values are the numbers. Only the border may move, from 4.
    Returns where it ends, and the mean squared error before and after, without blur.
    """
    itself = bra.TableRouter(torch.tensor([[0], [1]]))
    layer = bra.BiLevelRoutingAttention(2, 1, (2, 1), 1, router=itself, lce_kernel=0, scale=20.0)
    with torch.no_grad():
        layer.qkv.weight.copy_(torch.tensor([[0, 0], [0, 0], [1, 0], [0, 0], [0, 1], [0, 0]]))
        layer.qkv.bias.copy_(torch.tensor([1, 0, 0, 0, 0, 0]))
        layer.out.weight.copy_(torch.eye(2))
        layer.out.bias.zero_()
    before, lengths = sharp_error(layer, first), layer.borders.lengths[0]
    for _ in range(60):
        (slope,) = torch.autograd.grad(error(layer, first), lengths)
        with torch.no_grad():
            lengths -= 0.3 * slope
    return 8 * lengths.softmax(0)[0].item(), before, sharp_error(layer, first)


def error(layer, first):
    numbers, x = torch.randn(64, 2), torch.zeros(64, 8, 1, 2)
    for band, place in enumerate([torch.randint(first, (64,)), torch.randint(first, 8, (64,))]):
        x[range(64), place, 0] = torch.stack([torch.ones(64), numbers[:, band]], dim=1)  # a mark, and its number
    wanted = torch.cat([numbers[:, :1].expand(-1, first), numbers[:, 1:].expand(-1, 8 - first)], dim=1)
    return (layer(x)[:, :, 0, 0] - wanted).square().mean()


def sharp_error(layer, first):
    blur, layer.borders.blur = layer.borders.blur, 1e-3
    found = error(layer, first).item()
    layer.borders.blur = blur
    return found


def uneven_layer(x, weights, heads, bands, k):
    """The layer on regions of bands[0] rows and bands[1] columns, token by token."""
    b, h, w, c = x.shape
    row, column = (np.repeat(range(len(band)), band) for band in bands)
    places = [[] for _ in range(len(bands[0]) * len(bands[1]))]
    for y, x_ in np.ndindex(h, w):
        places[row[y] * len(bands[1]) + column[x_]].append((y, x_))
    real = np.array([[m < len(held) for m in range(max(map(len, places)))] for held in places])
    qkv = x @ weights["qkv.weight"].T + weights["qkv.bias"]
    regions = np.zeros((b, *real.shape, 3 * c))
    for i, held in enumerate(places):
        for m, (y, x_) in enumerate(held):
            regions[:, i, m] = qkv[:, y, x_]
    q, key, v = np.split(regions, 3, axis=-1)
    index = oracles.top_k(oracles.affinity(oracles.means(q, real), oracles.means(key, real)), k)
    out = oracles.attend(q, key, v, index, heads, c**-0.5, real)
    joined = oracles.depthwise(qkv[..., 2 * c :], weights["lce.conv.weight"], weights["lce.conv.bias"])
    for i, held in enumerate(places):
        for m, (y, x_) in enumerate(held):
            joined[:, y, x_] += out[:, i, m]
    return joined @ weights["out.weight"].T + weights["out.bias"]


def attempt(folder):
    """Import the package of this folder, forget the one before, and say what is wrong with it."""
    global bra
    for name in [name for name in sys.modules if name.partition(".")[0] == "bra"]:
        del sys.modules[name]
    sys.path.insert(0, str(folder))
    torch.manual_seed(0)
    try:
        bra = importlib.import_module("bra")
        assert Path(bra.__file__).is_relative_to(folder)
        globals()[folder.name]()
    except Exception:
        return traceback.format_exc()
    return ""


if __name__ == "__main__":
    for one in map(Path, sys.argv[1:]):
        (one / "wrong.txt").write_text(attempt(one))
