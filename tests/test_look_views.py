import math

import oracles
import pytest
import torch
from torch import nn

import bra
import bra.look.views
from bra.look.views import View, look
from bra.partition import RegionGrid, real_map
from bra.topk import Routes

GRID, HEADS, CHANNELS, K = (3, 2), 3, 15, 2
SIZES = [(6, 4), (7, 5), (11, 13), (1, 1), (2, 7)]  # the grid divides the first; regions of the last two are empty


def attended(seen):
    """An `attend` that keeps what it is called with and what it returns."""

    def spy(q, k, v, index, heads, scale=None, valid=None):
        out = bra.attend(q, k, v, index, heads, scale=scale, valid=valid)
        seen.append((q, k, v, index, out))
        return out

    return spy


def make(kind=bra.BRA2d, **changes):
    return kind(CHANNELS, HEADS, GRID, **{"k": K, **changes}).double()


def draw(h, w):
    return torch.randn(CHANNELS, h, w, dtype=torch.float64)


class Own(nn.Module):
    """A user's model: layers deep inside, one that runs twice, one that shares its router, one that never runs."""

    def __init__(self):
        super().__init__()
        self.stem = nn.Conv2d(3, CHANNELS, 3, padding=1)
        self.inner = nn.ModuleDict({"deep": nn.Sequential(nn.BatchNorm2d(CHANNELS), make())})
        self.twice = make(k=3)
        self.alias = self.twice
        self.last = make(bra.BiLevelRoutingAttention, router=self.twice.router)
        self.unused = make()
        self.fails = False
        self.double()

    def forward(self, images):
        x = self.inner["deep"](self.stem(images))
        x = self.alias(self.twice(x))
        if self.fails:
            raise RuntimeError("in the middle")
        return self.last(x=x.permute(0, 2, 3, 1))


NAMES = ["inner.deep.1", "twice", "twice, run 2", "last"]


def hooks(model):
    return sum(len(module._forward_hooks) + len(module._forward_pre_hooks) for module in model.modules())


def a_view(**changes):
    """A view of 6 regions, 3 x 2, of 3 x 3 tokens on a map of 7 x 5."""
    index = torch.tensor([[1, 2]] * 6)
    return View(
        **{"name": "mine", "grid": GRID, "size": (7, 5), "index": index, "affinity": torch.zeros(6, 6), **changes}
    )


@pytest.mark.parametrize("size", SIZES)
def test_weights_times_values_are_what_attend_returns(size):
    seen = []
    layer = make(attend=attended(seen), scale=0.7)
    (view,) = look(layer, draw(*size))
    _, _, v, index, out = seen[0]
    assert torch.equal(view.index, index[0])
    values = bra.gather_regions(v, index)[0].unflatten(-1, (HEADS, -1))  # r n m d
    ours = torch.einsum("rtmn,rnmd->rtmd", view.weights, values).flatten(2)
    torch.testing.assert_close(ours, out[0], rtol=1e-9, atol=1e-12)


@pytest.mark.parametrize("size", SIZES)
def test_token_map_is_that_of_the_loops(size):
    layer = make()
    layer.qkv.weight.data *= 3  # far from even weights
    image = draw(*size)
    (view,) = look(layer, image)
    q, k, _ = layer.qkv(image.permute(1, 2, 0)).detach().chunk(3, dim=-1)
    for row, column in {(0, 0), (size[0] - 1, size[1] - 1), (size[0] - 1, 0), (0, size[1] // 2)}:
        found = view.token_map(row, column)
        wanted = oracles.token_map(q.numpy(), k.numpy(), view.index.tolist(), HEADS, CHANNELS**-0.5, GRID, row, column)
        torch.testing.assert_close(found, torch.from_numpy(wanted), rtol=1e-9, atol=1e-12)
        assert found.shape == (HEADS, *size)
        torch.testing.assert_close(found.sum(dim=(1, 2)), torch.ones(HEADS, dtype=torch.float64))


def test_a_region_listed_twice_has_both_shares_on_the_map():
    table = torch.tensor([[4, 4]] * 6)
    layer, image = make(router=bra.TableRouter(table)), draw(7, 5)
    (view,) = look(layer, image)
    found = view.token_map(6, 4)
    torch.testing.assert_close(found.sum(dim=(1, 2)), torch.ones(HEADS, dtype=torch.float64))
    inside = torch.zeros(7, 5, dtype=torch.bool)
    inside[6:, :3] = True  # region 4: third row, first column, of 3 x 3 tokens
    assert (found[:, inside] > 0).all() and (found[:, ~inside] == 0).all()


def test_padded_tokens_get_no_weight():
    (view,) = look(make(k=6), draw(7, 5))
    read = view.weights.unflatten(-1, (6, 3, 3))  # r t m, rank of the region, y x
    assert view.cell == (3, 3) and view.weights.shape == (6, 9, HEADS, 54)
    for region in range(6):
        for rank, of in enumerate(view.index[region].tolist()):
            real = torch.tensor([[of // 2 * 3 + y < 7 and of % 2 * 3 + x < 5 for x in range(3)] for y in range(3)])
            assert (read[region, :, :, rank][..., ~real] == 0).all() and (read[region, :, :, rank][..., real] > 0).all()


def test_a_token_that_reads_padding_alone_has_zeros():
    layer = make(router=bra.TableRouter(torch.full((6, 1), 5)), k=1)
    (view,) = look(layer, draw(2, 1))
    assert (view.weights == 0).all() and (view.token_map(1, 0) == 0).all()


@pytest.mark.parametrize("size", [(6, 4), (7, 5), (11, 13), (13, 2)])
def test_tokens_are_located_where_the_layer_has_them(size):
    places = torch.arange(size[0] * size[1]).reshape(1, *size, 1)
    regions = bra.partition_regions(bra.pad_to_grid(places + 1, GRID)[0], GRID)[0, :, :, 0] - 1
    view = a_view(size=size)
    assert view.cell[0] * view.cell[1] == regions.shape[1]
    for row in range(size[0]):
        for column in range(size[1]):
            assert regions[view.locate(row, column)] == places[0, row, column, 0]


@pytest.mark.parametrize("at", [(7, 0), (0, 5), (-1, 0), (0, -1)])
def test_a_token_that_is_not_there_is_refused(at):
    with pytest.raises(ValueError, match=rf"token must be on the map of 7 x 5, but is \({at[0]}, {at[1]}\)"):
        a_view().locate(*at)


def test_ones_own_model_is_seen_layer_by_layer():
    model, image = Own(), torch.randn(3, 7, 11, dtype=torch.float64)
    views = look(model, image)
    assert [view.name for view in views] == NAMES
    assert [view.index.shape[1] for view in views] == [2, 3, 3, 3]
    assert all(view.size == (7, 11) and view.grid == GRID for view in views)
    model.eval()
    x, kept = model.stem(image[None]), []
    x = model.inner["deep"][0](x)
    for layer in (model.inner["deep"][1], model.twice, model.twice):
        kept.append(layer.route(x))
        x = layer(x)
    kept.append(model.last.route(x.permute(0, 2, 3, 1)))
    for view, routes in zip(views, kept, strict=True):
        assert torch.equal(view.index, routes.index[0]) and torch.equal(view.affinity, routes.affinity[0])


def test_a_shared_router_gives_each_layer_its_own_routes():
    model = Own()
    only = look(model, image := torch.randn(3, 7, 11, dtype=torch.float64), layers=["last"])
    (view,) = only
    everything = look(model, image)
    assert view.name == "last" and torch.equal(view.affinity, everything[-1].affinity)
    assert not torch.equal(everything[-1].affinity, everything[-2].affinity)
    torch.testing.assert_close(view.weights, everything[-1].weights)


def test_layers_names_those_wanted_and_the_order_is_that_of_running():
    views = look(Own(), torch.randn(3, 7, 11, dtype=torch.float64), layers=["last", "inner.deep.1"])
    assert [view.name for view in views] == ["inner.deep.1", "last"]


def test_an_image_may_have_its_batch_axis():
    model, image = Own(), torch.randn(3, 7, 11, dtype=torch.float64)
    for one, other in zip(look(model, image), look(model, image[None]), strict=True):
        assert torch.equal(one.index, other.index) and torch.equal(one.weights, other.weights)


def test_without_tokens_there_are_no_weights():
    views = look(Own(), torch.randn(3, 7, 11, dtype=torch.float64), tokens=False)
    assert [view.weights for view in views] == [None] * 4
    with pytest.raises(ValueError, match=r"weights of twice must be there.*see look"):
        views[1].token_map(0, 0)


def test_no_look_keeps_more_weights_than_it_may(monkeypatch):
    model, image = Own(), torch.randn(3, 7, 11, dtype=torch.float64)
    sizes = [view.weights.numel() for view in look(model, image)]
    monkeypatch.setattr(bra.look.views, "MOST_WEIGHTS", sum(sizes[:3]) - 1)
    assert [view.weights is not None for view in look(model, image)] == [True, True, False, False]
    monkeypatch.setattr(bra.look.views, "MOST_WEIGHTS", sum(sizes))
    assert [view.weights is not None for view in look(model, image)] == [True] * 4
    monkeypatch.setattr(bra.look.views, "MOST_WEIGHTS", sizes[0] - 1)
    assert look(model, image)[0].weights is None


@pytest.mark.parametrize("fails", [False, True])
def test_modes_hooks_and_norms_are_as_before(fails):
    model, image = Own(), torch.randn(3, 7, 11, dtype=torch.float64)
    model.train()
    model.inner.eval()
    model.inner["deep"][0].train()
    model.fails = fails
    before = {name: module.training for name, module in model.named_modules()}
    mean, rest = model.inner["deep"][0].running_mean.clone(), hooks(model)
    if fails:
        with pytest.raises(RuntimeError, match="in the middle"):
            look(model, image)
    else:
        look(model, image)
    assert {name: module.training for name, module in model.named_modules()} == before
    assert hooks(model) == rest == 0
    assert torch.equal(model.inner["deep"][0].running_mean, mean), "it ran in evaluation"


def test_no_gradient_is_computed():
    on = []

    def spy(*args, **kwargs):
        on.append(torch.is_grad_enabled())
        return bra.attend(*args, **kwargs)

    look(make(attend=spy), draw(7, 5).requires_grad_())
    assert on == [False] and torch.is_grad_enabled()


class Flipped(nn.Module):
    """A router of one's own: each region reads those it likes least."""

    def forward(self, q_means, k_means, valid_regions=None):
        affinity = bra.region_affinity(q_means, k_means)
        return Routes((-affinity).topk(2, dim=-1).indices, affinity)


def test_custom_routers_and_tables_are_shown_as_they_route():
    table = bra.local_regions(GRID, 4)
    (view,) = look(make(router=bra.TableRouter(table)), draw(7, 5))
    assert torch.equal(view.index, table)
    (view,) = look(make(router=Flipped()), draw(7, 5))
    assert torch.equal(view.index, (-view.affinity).topk(2).indices)


def test_the_routes_of_a_biformer_are_those_it_says():
    model = bra.biformer_nano().eval()
    image = torch.randn(3, 37, 29)
    views = look(model, image)
    assert [view.label for view in views] == ["stage 0, block 0", "stage 0, block 1"]
    assert all(view.size == (10, 8) for view in views)
    for view, routes in zip(views, model.routes(image[None]), strict=True):
        assert torch.equal(view.index, routes.index[0]) and torch.equal(view.affinity, routes.affinity[0])


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
def test_other_precisions_are_seen_too(dtype):
    seen = []
    layer = make(attend=attended(seen)).to(dtype)
    (view,) = look(layer, draw(7, 5).to(dtype))
    _, _, v, index, out = seen[0]
    assert view.affinity.dtype == view.weights.dtype == (torch.float64 if dtype == torch.float64 else torch.float32)
    values = bra.gather_regions(v, index)[0].unflatten(-1, (HEADS, -1)).to(view.weights.dtype)
    ours = torch.einsum("rtmn,rnmd->rtmd", view.weights, values).flatten(2)
    torch.testing.assert_close(
        ours, out[0].to(ours.dtype), **({"rtol": 0.02, "atol": 0.02} if ours.dtype == torch.float32 else {})
    )


def test_labels_are_for_people():
    names = ["stages.2.13.attention", "body.stages.0.1.attention", "", "stages.0.1.attention, run 2"]
    labels = ["stage 2, block 13", "body.stages.0.1.attention", "the layer", "stages.0.1.attention, run 2"]
    assert [a_view(name=name).label for name in names] == labels


def test_affinities_of_padding_are_no_mistake():
    affinity = torch.zeros(6, 6)
    affinity[:, 5] = -math.inf
    assert torch.equal(a_view(affinity=affinity).affinity, affinity)


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"grid": (3, 0)}, r"grid must be \(rows, columns\).*but is \(3, 0\)"),
        ({"size": (7, 0)}, r"size must be \(h, w\) of at least one token each, but is \(7, 0\)"),
        (
            {"index": torch.zeros(5, 2, dtype=torch.long)},
            r"index of mine must have 6 rows on a grid of 3 x 2, .*\(5, 2\)",
        ),
        ({"index": torch.zeros(6, 0, dtype=torch.long)}, r"index of mine must have 6 rows .*\(6, 0\)"),
        ({"index": torch.tensor([[0, 6]] * 6)}, "index of mine must be of 0 to 5 on a grid of 3 x 2, but is of 0 to 6"),
        ({"index": torch.tensor([[-1, 5]] * 6)}, "index of mine must be of 0 to 5 .*but is of -1 to 5"),
        ({"affinity": torch.zeros(6, 5)}, r"affinity of mine must be \(6, 6\) .*but its shape is \(6, 5\)"),
        ({"affinity": torch.zeros(4, 4)}, r"affinity of mine must be \(6, 6\) .*but its shape is \(4, 4\)"),
        (
            {"weights": torch.zeros(6, 9, 3, 17)},
            r"weights of mine must be \(6, 9, heads, 18\), but are \(6, 9, 3, 17\)",
        ),
        ({"weights": torch.zeros(6, 6, 3, 18)}, r"weights of mine must be \(6, 9, heads, 18\)"),
        ({"weights": torch.zeros(5, 9, 3, 18)}, r"weights of mine must be \(6, 9, heads, 18\)"),
    ],
)
def test_a_view_refuses_what_does_not_fit(changes, message):
    with pytest.raises(ValueError, match=message):
        a_view(**changes)


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_a_view_refuses_affinities_without_an_order(value):
    affinity = torch.zeros(6, 6)
    affinity[4, 1] = value
    message = f"affinity of mine must be finite or -inf, but 1 of 36 .*region 4 to region 1, is {value}"
    with pytest.raises(ValueError, match=message):
        a_view(affinity=affinity)


def test_a_model_that_overflowed_is_told_by_its_layer():
    model = Own()
    model.twice.qkv.bias.data[0] = math.nan
    with pytest.raises(ValueError, match="affinity of twice must be finite or -inf, but 36 of 36"):
        look(model, torch.randn(3, 7, 11, dtype=torch.float64))
    assert hooks(model) == 0


@pytest.mark.parametrize("shape", [(2, 3, 7, 11), (0, 3, 7, 11), (1, 1, 3, 7, 11), (7, 11)])
def test_one_image_is_looked_at(shape, unchecked):
    with pytest.raises(
        ValueError, match=r"image must be one image, \(c h w\) or \(1 c h w\), but its shape is \(" + str(shape[0])
    ):
        look(Own(), torch.zeros(shape, dtype=torch.float64))


def test_a_layer_that_is_not_there_is_refused():
    image = torch.zeros(3, 7, 11, dtype=torch.float64)
    with pytest.raises(ValueError, match=r"layers must be among inner\.deep\.1, twice, last, unused, not stem"):
        look(Own(), image, layers=["twice", "stem"])
    with pytest.raises(ValueError, match="layers must be among none: there is no BRA layer, not x"):
        look(nn.Conv2d(3, 5, 1), image, layers=["x"])


@pytest.mark.parametrize("layers", [None, ["unused"], []])
def test_a_model_in_which_no_layer_ran_is_refused(layers):
    model = nn.Conv2d(3, 5, 1).double() if layers is None else Own()
    with pytest.raises(ValueError, match="model must run a BiLevelRoutingAttention or BRA2d layer that is asked for"):
        look(model, torch.zeros(3, 7, 11, dtype=torch.float64), layers=layers)
    assert hooks(model) == 0


@pytest.mark.parametrize(("grid", "size"), [((3, 5), (7, 11)), ((4, 4), (7, 7)), ((2, 2), (1, 3)), ((7, 7), (3, 3))])
def test_who_reads_a_region_and_how_many_tokens_it_reads(grid, size):
    regions, where = math.prod(grid), RegionGrid(grid, size)
    index = torch.randint(regions, (regions, 3), generator=torch.Generator().manual_seed(1))  # some are listed twice
    view = View(grid, size, "mine", index, torch.zeros(regions, regions))
    owners = where.owners().flatten().tolist()
    for region in range(regions):
        read = index[region].tolist()
        assert view.reads(region) == {other: min(n + 1 for n in range(3) if read[n] == other) for other in read}
        assert list(view.reads(region)) == sorted(set(read), key=read.index), "best first"
        expected = {}
        for reader in range(regions):
            ranks = [n + 1 for n in range(3) if index[reader, n] == region]
            if ranks and reader in owners:
                expected[reader] = ranks[0]
        assert view.readers(region) == expected
        assert view.tokens_read(region) == sum(owners.count(other) for other in read)


def test_a_model_without_its_weights_is_refused():
    with torch.device("meta"):
        model = bra.biformer_nano()
    with pytest.raises(ValueError, match="model must have its weights, but is on the meta device"):
        look(model, torch.zeros(3, 32, 32))


def test_what_a_backbone_pads_gets_no_weight():
    config = bra.BiFormerConfig(stem=(8,), stages=(bra.Stage(8, 1, heads=2, k=2),))
    views = look(bra.Backbone(bra.BiFormer(config), region=6), torch.randn(3, 17, 9))
    (view,) = views
    assert view.grid == (3, 2) and view.size == (9, 6)  # of 18 x 12 pixels
    real = bra.partition_regions(real_map(torch.tensor([[9, 5]]), (9, 6))[..., None], (3, 2))[0, :, :, 0]
    seen = real[view.index].flatten(1)[:, None, None]
    assert not view.weights.masked_fill(seen, 0).any(), "a padded token gets attention"
    torch.testing.assert_close(view.weights.sum(dim=-1), torch.ones(view.weights.shape[:3]))
