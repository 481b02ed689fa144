import math

import pytest
import torch
from torch import nn

import bra
from bra.look.statistics import LayerStatistics, RoutingStatistics, entropy, rollout, routing_statistics
from bra.look.views import View
from bra.partition import real_map
from bra.topk import Routes

GRID, CHANNELS = (3, 2), 6


class Own(nn.Module):
    """Four runs of three layers on two grids; `inputs` keeps what each of them is given."""

    def __init__(self):
        super().__init__()
        self.stem, self.norm = nn.Conv2d(3, CHANNELS, 1), nn.BatchNorm2d(CHANNELS)
        self.first = bra.BRA2d(CHANNELS, 2, GRID, 2, scale=1.0)
        self.second = bra.BRA2d(CHANNELS, 3, GRID, 3)
        self.third = bra.BRA2d(CHANNELS, 3, (2, 3), 4)
        self.inputs = []
        for layer in (self.first, self.second, self.third):
            layer.qkv.weight.data *= 4  # so that the regions have preferences
        self.double()

    def forward(self, images):
        x, self.inputs = self.norm(self.stem(images)), []
        for layer in (self.first, self.second, self.first, self.third):
            self.inputs.append((layer, x))
            x = x + layer(x)
        return x


NAMES = ["first", "second", "first, run 2", "third"]


def some_batches(*sizes):
    return [torch.randn(b, 3, h, w, dtype=torch.float64) for b, h, w in sizes]


def loops(model, batches):
    """The statistics of `Own` from what each layer routes, image by image and region by region."""
    images, found, shared = 0, {}, {}
    for batch in batches:
        for image in batch:
            images += 1
            model(image[None])
            runs = [(layer.grid, layer.route(x), real_regions(layer.grid, x)) for layer, x in model.inputs]
            for name, (grid, routes, real) in zip(NAMES, runs, strict=True):
                found.setdefault(name, []).append(of_one_image(grid, routes, real))
            for a, (grid, one, real) in zip(NAMES, runs, strict=True):
                for b, (other_grid, other, _) in zip(NAMES, runs, strict=True):
                    if grid == other_grid:
                        sets = [[set(r.index[0, i].tolist()) for i in real] for r in (one, other)]
                        k = min(one.index.shape[2], other.index.shape[2])
                        shares = [len(s & t) / k for s, t in zip(*sets, strict=True)]
                        shared.setdefault((a, b), []).append(sum(shares) / len(shares))
    return (
        images,
        {n: [sum(x) / images for x in zip(*v, strict=True)] for n, v in found.items()},
        {pair: sum(values) / images for pair, values in shared.items()},
    )


def real_regions(grid, x):
    height, width = math.ceil(x.shape[2] / grid[0]), math.ceil(x.shape[3] / grid[1])
    places = [divmod(i, grid[1]) for i in range(grid[0] * grid[1])]
    return [i for i, (row, column) in enumerate(places) if row * height < x.shape[2] and column * width < x.shape[3]]


def of_one_image(grid, routes, real):
    own, far, bits = [], [], []
    for i in real:
        read = routes.index[0, i].tolist()
        own.append(i in read)
        far.append(sum(math.dist(divmod(i, grid[1]), divmod(j, grid[1])) for j in read) / len(read))
        powers = [math.exp(a * CHANNELS**-0.5) for a in routes.affinity[0, i].tolist()]
        bits.append(-sum(p / sum(powers) * math.log2(p / sum(powers)) for p in powers if p))
    return [sum(values) / len(real) for values in (own, far, bits)]


@pytest.mark.parametrize("sizes", [[(5, 6, 6)], [(2, 7, 5), (5, 6, 6), (1, 5, 11)], [(3, 2, 3), (2, 4, 1)]])
def test_statistics_are_those_of_the_loops(sizes):
    model = Own().eval()
    model.norm.running_mean += 0.3
    batches = some_batches(*sizes)
    found = routing_statistics(model, iter(batches))
    with torch.no_grad():
        images, expected, shared = loops(model, batches)
    assert found.images == images == sum(size[0] for size in sizes)
    assert [layer.label for layer in found.layers] == NAMES
    assert [(layer.grid, layer.k) for layer in found.layers] == [(GRID, 2), (GRID, 3), (GRID, 2), ((2, 3), 4)]
    for layer in found.layers:
        assert [layer.self_share, layer.distance, layer.entropy] == pytest.approx(expected[layer.label], rel=1e-9)
    for i, a in enumerate(NAMES):
        for j, b in enumerate(NAMES):
            assert found.overlap[i, j].item() == pytest.approx(shared.get((a, b), math.nan), nan_ok=True)


def test_entropy_is_that_of_the_history():
    model = bra.biformer_nano().eval()
    images = torch.randn(5, 3, 32, 32)
    found = routing_statistics(model, images.split([2, 3]))
    assert [layer.label for layer in found.layers] == ["stage 0, block 0", "stage 0, block 1"]
    expected = [entropy(routes, 64) for routes in model.routes(images)]
    assert [layer.entropy for layer in found.layers] == pytest.approx(expected, rel=1e-5)


def test_a_fixed_table_is_found_again():
    table = torch.tensor([[0, 1], [1, 1], [0, 5], [5, 0], [4, 2], [0, 1]])
    model = bra.BRA2d(CHANNELS, 2, GRID, 2, router=bra.TableRouter(table))
    (layer,) = routing_statistics(model, [torch.randn(3, CHANNELS, 7, 5)]).layers
    assert layer.self_share == pytest.approx(3 / 6)
    far = [0 + 1, 0 + 0, 1 + 2**0.5, 1 + 2**0.5, 0 + 1, 5**0.5 + 2]
    assert layer.distance == pytest.approx(sum(far) / 12)


def test_the_references_are_those_of_simulated_random_routing():
    draws, k_a, k_b, regions = 4000, 2, 3, 6
    a, b = (torch.rand(draws, regions, regions).argsort(dim=-1)[:, :, :k] for k in (k_a, k_b))
    one, other = (LayerStatistics(name, GRID, k, 0.0, 0.0, 0.0) for name, k in (("a", k_a), ("b", k_b)))
    for layer, index in ((one, a), (other, b)):
        own = [[i in read for i, read in enumerate(image)] for image in index.tolist()]
        assert layer.random_self_share == pytest.approx(torch.tensor(own).double().mean().item(), rel=0.03)
        far = [
            math.dist(divmod(i, 2), divmod(j, 2)) for image in index.tolist() for i, r in enumerate(image) for j in r
        ]
        assert layer.random_distance == pytest.approx(sum(far) / len(far), rel=0.01)
        assert layer.random_entropy == pytest.approx(entropy(Routes(index, torch.zeros(draws, 6, 6)), 7))
    shared = sum(
        len(set(s) & set(t)) / k_a
        for x, y in zip(a.tolist(), b.tolist(), strict=True)
        for s, t in zip(x, y, strict=True)
    )
    far_grid = LayerStatistics("c", (2, 3), 3, 0.0, 0.0, 0.0)
    random = RoutingStatistics(1, [one, other, far_grid], torch.zeros(3, 3)).random_overlap
    assert random[0, 1] == random[1, 0] == pytest.approx(shared / draws / regions, rel=0.02)
    assert random[0, 0] == pytest.approx(2 / 6) and random[1, 1] == pytest.approx(3 / 6)
    assert random[2, :2].isnan().all() and random[:2, 2].isnan().all() and random[2, 2] == 0.5


def test_random_routing_measures_as_its_reference():
    class Random(nn.Module):
        def forward(self, q_means, k_means, valid_regions=None):
            index = torch.rand(len(q_means), 6, 6).argsort(dim=-1)[:, :, :2]
            return Routes(index, torch.zeros(len(q_means), 6, 6))

    model = nn.Sequential(*(bra.BRA2d(CHANNELS, 2, GRID, 2, router=Random()) for _ in range(2)))
    found = routing_statistics(model, [torch.randn(500, CHANNELS, 3, 2) for _ in range(2)])
    for layer in found.layers:
        assert layer.self_share == pytest.approx(layer.random_self_share, rel=0.05)
        assert layer.distance == pytest.approx(layer.random_distance, rel=0.02)
        assert layer.entropy == pytest.approx(layer.random_entropy)
    assert found.overlap[0, 1].item() == pytest.approx(found.random_overlap[0, 1].item(), rel=0.05)


class Padded(nn.Module):
    """A layer on maps of which each image fills a part of its own."""

    def __init__(self, sizes):
        super().__init__()
        self.layer, self.sizes = bra.BRA2d(CHANNELS, 2, GRID, 2).double(), torch.tensor(sizes)

    def forward(self, maps):
        return self.layer(maps, real=real_map(self.sizes, maps.shape[2:]))


def test_of_each_image_only_its_own_real_regions_read():
    sizes, grids = [(6, 4), (2, 4), (3, 1)], [GRID, (1, 2), (2, 1)]  # the same regions, of two by two tokens
    maps, together, alone = torch.randn(3, CHANNELS, 6, 4, dtype=torch.float64), Padded(sizes), []
    found = routing_statistics(together, [maps]).layers[0]
    for one, (h, w), grid in zip(maps.split(1), sizes, grids, strict=True):
        together.layer.grid = grid
        alone.append(routing_statistics(together.layer, [one[:, :, :h, :w]]).layers[0])
    for what in ("self_share", "distance", "entropy"):
        expected = sum(getattr(of, what) for of in alone) / 3
        assert getattr(found, what) == pytest.approx(expected), f"{what}: regions of padding count as if they read"


def test_model_is_as_before():
    model = Own().train()
    model.second.eval()
    mean = model.norm.running_mean.clone()
    on = []
    model.third.register_forward_hook(lambda *_: on.append(torch.is_grad_enabled()))
    routing_statistics(model, some_batches((2, 6, 6)))
    assert on == [False]
    assert model.training and model.first.training and not model.second.training
    assert torch.equal(model.norm.running_mean, mean)
    assert not model.first._forward_hooks


def test_what_cannot_be_measured_is_refused():
    for none in ([], [torch.zeros(0, 3, 6, 6, dtype=torch.float64)][:0], iter(())):
        with pytest.raises(ValueError, match="batches must hold at least one image, but hold none"):
            routing_statistics(Own(), none)
    with pytest.raises(ValueError, match="model must run a BiLevelRoutingAttention or BRA2d layer"):
        routing_statistics(nn.Conv2d(3, 5, 1), [torch.zeros(2, 3, 6, 6)])
    model = Own()
    model.second.qkv.bias.data[0] = math.nan
    with pytest.raises(ValueError, match="affinity of second must be finite or -inf, but 72 of 72"):
        routing_statistics(model, some_batches((2, 6, 6)))


def a_view(*rows, grid=(1, 3)):
    return View(grid, (4, 5), "mine", torch.tensor(rows), torch.zeros(len(rows), len(rows)))


def test_rollout_is_that_of_the_loops():
    views = [a_view(*torch.randint(6, (6, k)).tolist(), grid=GRID) for k in (1, 2, 5)]
    state = [[float(i == j) for j in range(6)] for i in range(6)]  # what each region holds of each region's input
    for view in views:
        after = [[held / 2 for held in row] for row in state]
        for i, read in enumerate(view.index.tolist()):
            for j in read:
                for origin in range(6):
                    after[i][origin] += state[j][origin] / len(read) / 2
        state = after
    found = rollout(views)
    torch.testing.assert_close(found, torch.tensor(state, dtype=found.dtype))
    torch.testing.assert_close(found.sum(dim=1), torch.ones(6, dtype=found.dtype))


def test_rollout_by_hand():
    """Block 1: 1 reads 2. Block 2: 0 reads 1, twice and itself once. So 0 holds a sixth of 2's input: 1/3 * 1/2."""
    views = [a_view([0], [2], [2]), a_view([1, 1, 0], [1, 1, 1], [2, 2, 2])]
    expected = torch.tensor([[1 / 2 + 1 / 6, 1 / 6, 1 / 6], [0, 1 / 2, 1 / 2], [0, 0, 1]])
    torch.testing.assert_close(rollout(views).float(), expected)
    assert rollout(views[::-1])[0, 2] == 0, "the order matters: 1 had not read 2 when 0 read it"


def test_rollout_refuses_other_grids_and_none():
    with pytest.raises(ValueError, match=r"views must be of one grid, but are of \(1, 3\), \(3, 1\)"):
        rollout([a_view([0], [2], [2]), a_view([0], [2], [2], grid=(3, 1))])
    with pytest.raises(ValueError, match="views must be of one grid, but are of none"):
        rollout([])


@pytest.mark.parametrize(
    ("batches", "found"),
    [([(torch.rand(2, 3, 32, 32), torch.zeros(2))], "a tuple"), (torch.rand(2, 3, 32, 32), r"a tensor \(3, 32, 32\)")],
)
def test_batches_hold_images_alone(batches, found, unchecked):
    with pytest.raises(
        ValueError, match=rf"batches must hold images \(b c h w\), without their labels, but hold {found}"
    ):
        routing_statistics(bra.biformer_nano(), batches)
