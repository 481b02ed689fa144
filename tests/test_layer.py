import numpy as np
import oracles
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import nn

import bra


def make(grid=(2, 3), k=2, dim=6, heads=2, **options):
    """A layer with biases and affinities that are not near zero."""
    layer = bra.BiLevelRoutingAttention(dim, heads, grid, k, **options).double().eval()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    return layer


def draw(h, w, b=2, c=6):
    return torch.randn(b, h, w, c, dtype=torch.float64)


def oracle(layer, x, k):
    weights = {name: value.numpy() for name, value in layer.state_dict().items()}
    return oracles.layer(x.numpy(), weights, layer.heads, layer.grid, k)


@settings(max_examples=25, deadline=None)
@given(h=st.integers(1, 7), w=st.integers(1, 7), grid=st.sampled_from([(1, 1), (2, 3), (3, 2), (4, 1)]), data=st.data())
def test_equals_the_loops_at_any_size(h, w, grid, data):
    k = data.draw(st.integers(1, grid[0] * grid[1]))
    layer, x = make(grid, k), draw(h, w)
    np.testing.assert_allclose(layer(x).detach(), oracle(layer, x, k), rtol=0, atol=1e-9)


def test_an_image_does_not_depend_on_its_batch():
    layer, x = make(), draw(5, 7, b=3)
    torch.testing.assert_close(layer(x)[1:2], layer(x[1:2]), rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(5, 7), (1, 1), (1, 9), (3, 2)])
def test_no_output_depends_on_a_padded_token(size, monkeypatch):
    layer, x = make((4, 3), 12), draw(*size)
    before = layer(x)

    def poisoned(x, grid):
        padded, valid = bra.pad_to_grid(x, grid)
        return torch.where(valid[None, :, :, None], padded, 1e6), valid

    monkeypatch.setattr("bra.layer.pad_to_grid", poisoned)
    torch.testing.assert_close(layer(x), before, rtol=0, atol=1e-12)


@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
@pytest.mark.parametrize("router", [None, bra.TableRouter(bra.local_regions((2, 3), 2))])
def test_no_output_depends_on_what_is_not_real(size, router):
    layer, x = make(router=router), draw(*size)
    real = torch.rand(2, *size) < 0.6
    real[1, :, 4:] = False  # whole regions, and in one image only
    poisoned = torch.where(real[..., None], x, 50 * torch.randn_like(x))
    for mask, seen in ((real, "a region's mean, the router, a softmax or the LCE sees"), (None, "")):
        difference = (layer(x, mask) - layer(poisoned, mask)).abs()[real].max()
        assert (difference < 1e-9) == bool(seen), f"{seen or 'without a mask nothing is hidden: the test cannot fail'}"
    assert layer(poisoned, real).isfinite().all() and layer(x, real & False).isfinite().all()
    twin = bra.BRA2d(6, 2, (2, 3), 2, router=router).double()
    twin.load_state_dict(layer.state_dict())
    assert torch.equal(twin(x.permute(0, 3, 1, 2), real).permute(0, 2, 3, 1), layer(x, real))
    assert torch.equal(twin.route(x.permute(0, 3, 1, 2), real).affinity, layer.route(x, real).affinity)


@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_where_all_is_real_a_mask_changes_nothing(size):
    layer, x = make(), draw(*size)
    torch.testing.assert_close(layer(x, torch.ones(2, *size, dtype=torch.bool)), layer(x), rtol=0, atol=1e-12)


def test_reading_all_regions_is_dense_attention():
    layer, x = make((2, 3), 6, lce_kernel=0), draw(4, 6)
    q, k, v = layer.qkv(x).flatten(1, 2).unflatten(-1, (3, 2, 3)).permute(2, 0, 3, 1, 4)
    dense = F.scaled_dot_product_attention(q, k, v, scale=6**-0.5).transpose(1, 2).reshape(2, 4, 6, 6)
    torch.testing.assert_close(layer(x), layer.out(dense))


def test_moving_regions_moves_the_output():
    layer, x = make((2, 3), 2, lce_kernel=0), draw(4, 6)
    moved = x.roll((2, 2), dims=(1, 2))  # one region down, one region right
    torch.testing.assert_close(layer(moved), layer(x).roll((2, 2), dims=(1, 2)))


def test_a_region_that_is_not_read_does_not_matter():
    table = torch.tensor([[0, 1]] * 6)
    layer, x = make((2, 3), 2, router=bra.TableRouter(table), lce_kernel=0), draw(4, 6)
    changed = x.clone()
    changed[:, 2:] += 1  # the lower regions, 3 to 5, which nobody reads
    torch.testing.assert_close(layer(changed)[:, :2], layer(x)[:, :2], rtol=0, atol=0)


def test_the_scale_is_that_of_all_channels_as_in_the_official_code():
    layer = make()
    assert layer.scale == 6**-0.5 and make(scale=0.25).scale == 0.25
    x = draw(4, 6)
    other = make(scale=3**-0.5)
    other.load_state_dict(layer.state_dict())
    assert (layer(x) - other(x)).abs().max() > 0.01, "the scale must reach the softmax"


def test_route_tells_what_forward_does():
    layer, x = make(), draw(5, 7)
    with bra.record_routes(layer) as recorded:
        layer(x)
    routes = layer.route(x)
    assert torch.equal(recorded[0].index, routes.index) and torch.equal(recorded[0].affinity, routes.affinity)
    assert routes.index.shape == (2, 6, 2) and not routes.affinity.requires_grad


def test_recording_stops_with_its_block():
    layer, x = make(), draw(4, 6)
    with bra.record_routes(layer) as recorded:
        pass
    layer(x)
    assert recorded == []


def test_one_routing_table_serves_all_heads_and_gets_no_gradient():
    layer, x = make(), draw(4, 6).requires_grad_()
    fixed = make(router=bra.TableRouter(layer.route(x).index[0]))
    fixed.load_state_dict(layer.state_dict(), strict=False)
    for each in (layer, fixed):
        each(x[:1])[0].square().sum().backward()
    torch.testing.assert_close(layer.qkv.weight.grad, fixed.qkv.weight.grad, rtol=0, atol=0)


@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_under_autocast_it_routes_in_float32(size):
    layer, x = make().float(), draw(*size).float()
    with torch.autocast("cpu", torch.bfloat16):
        routes, out = layer.route(x), layer(x)
        q, k, _ = layer.qkv(layer.cut(x)[0]).chunk(3, dim=-1)
    valid = layer.cut(x)[1]
    expected = bra.region_affinity(bra.region_means(q, valid), bra.region_means(k, valid))
    found = expected.isfinite() & routes.affinity.isfinite()  # -inf for regions of padding
    assert out.dtype == torch.bfloat16 and routes.affinity.dtype == torch.float32
    assert torch.equal(routes.affinity[found], expected[found])


def test_gradients():
    layer, x = make((2, 2), 2, dim=4), draw(3, 3, b=1, c=4).requires_grad_()
    assert torch.autograd.gradcheck(layer, x)


def test_parameters():
    layer = bra.BiLevelRoutingAttention(64, 2, (7, 7), 4)
    expected = (3 * 64 * 64 + 3 * 64) + (64 * 64 + 64) + (5 * 5 * 64 + 64)
    assert sum(p.numel() for p in layer.parameters()) == expected


def test_bra2d_is_the_same_on_channels_first():
    layer = make()
    twin = bra.BRA2d(6, 2, (2, 3), 2).double()
    twin.load_state_dict(layer.state_dict())
    x = draw(5, 7)
    torch.testing.assert_close(twin(x.permute(0, 3, 1, 2)).permute(0, 2, 3, 1), layer(x), rtol=0, atol=0)
    assert torch.equal(twin.route(x.permute(0, 3, 1, 2)).index, layer.route(x).index)


def test_runs_inside_a_users_network_and_any_router_and_attention_fit():
    class SelfOnly(nn.Module):
        def forward(self, q_means, k_means, valid_regions=None):
            asked.append(None if valid_regions is None else valid_regions.tolist())
            b, r, _ = q_means.shape
            return bra.Routes(torch.arange(r).expand(b, r)[:, :, None], q_means @ k_means.mT)

    calls, asked = [], []

    def spy(*args, **kwargs):
        calls.append(kwargs)
        return bra.attend(*args, **kwargs)

    network = nn.Sequential(nn.Conv2d(3, 8, 3), bra.BRA2d(8, 2, (2, 2), 1, router=SelfOnly(), attend=spy), nn.ReLU())
    out = network(torch.randn(2, 3, 10, 12))
    out.sum().backward()
    assert out.shape == (2, 8, 8, 10) and len(calls) == 1
    assert asked == [None], "nothing was padded"
    network(torch.randn(2, 3, 3, 12))  # a map of 1 x 10: the lower regions hold no token
    assert asked[1] == [True, True, False, False]


@pytest.mark.parametrize("router", [None, bra.TableRouter(bra.local_regions((2, 3), 2))])
@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_stays_on_the_device_of_its_input(size, router):
    layer, x = make(router=router).to("meta"), torch.empty(2, *size, 6, dtype=torch.float64, device="meta")
    assert layer(x).is_meta and all(part.is_meta for part in layer.route(x))


@pytest.mark.usefixtures("unchecked")
def test_says_what_is_wrong():
    make_layer = bra.BiLevelRoutingAttention
    with pytest.raises(ValueError, match="dim must be divisible by heads, but dim is 10 and heads is 3"):
        make_layer(10, 3, (2, 2), 1)
    with pytest.raises(ValueError, match=r"grid must be .* but is \(2, 0\)"):
        make_layer(6, 2, (2, 0), 1)
    for k in (0, 5):
        with pytest.raises(ValueError, match=f"k must be between 1 and the number of regions, 4, but is {k}"):
            make_layer(6, 2, (2, 2), k)
    with pytest.raises(ValueError, match=r"x must have 4 axes \(b h w c\), but its shape is \(4, 6, 6\)"):
        make()(draw(4, 6)[0])
    with pytest.raises(ValueError, match=r"x must have 4 axes \(b h w c\), but its shape is \(4, 6, 5\)"):
        make()(draw(4, 6, c=5)[0])
    with pytest.raises(ValueError, match=r"x must have 6 channels on its last axis, but its shape is \(2, 6, 4, 5\)"):
        make()(draw(6, 4, c=5))
    with pytest.raises(ValueError, match=r"x must have 4 axes \(b c h w\)"):
        bra.BRA2d(6, 2, (2, 2), 1)(torch.zeros(6, 4, 4))
    with pytest.raises(ValueError, match=r"x must have 6 channels on its second axis, but its shape is \(2, 5, 4, 3\)"):
        bra.BRA2d(6, 2, (2, 2), 1)(torch.zeros(2, 5, 4, 3))
    with pytest.raises(ValueError, match=r"x must have 6 channels on its second axis, but its shape is \(2, 4, 3, 6\)"):
        bra.BRA2d(6, 2, (2, 2), 1).route(torch.zeros(2, 4, 3, 6))


def test_k_can_be_set_where_content_chooses():
    layer = bra.BRA2d(6, 2, (3, 2), 2)
    layer.k = 5
    assert layer.k == layer.router.k == 5 and layer.route(torch.randn(1, 6, 6, 4)).index.shape == (1, 6, 5)
    with pytest.raises(ValueError, match="k must be between 1 and the number of regions, 6, but is 7"):
        layer.k = 7
    fixed = bra.BRA2d(6, 2, (3, 2), 2, router=bra.TableRouter(bra.local_regions((3, 2), 4)))
    assert fixed.k == 4
    with pytest.raises(AttributeError, match="k cannot be set to 2: TableRouter chooses; set router instead"):
        fixed.k = 2
    fixed.router = bra.TopKRouter(2)
    assert fixed.k == 2 and fixed.route(torch.randn(1, 6, 6, 4)).index.shape == (1, 6, 2)


@pytest.mark.parametrize("size", [(6, 4), (7, 5), (1, 3)])
def test_the_output_lies_in_memory_as_a_convolutions_does(size):
    layer, convolution = bra.BRA2d(6, 2, (3, 2), 2), torch.nn.Conv2d(6, 6, 1)
    for form in (torch.contiguous_format, torch.channels_last):
        x = torch.randn(2, 6, *size).to(memory_format=form)
        assert layer(x).stride() == convolution(x).stride()
    assert layer(torch.randn(2, 6, *size)).view(2, -1).shape == (2, 6 * size[0] * size[1])


@pytest.mark.parametrize("shape", [(1, 0, 4, 6), (1, 4, 0, 6)])
def test_a_map_without_tokens_is_refused(shape):
    with pytest.raises(ValueError, match="x must hold at least one token, but its shape is"):
        bra.BiLevelRoutingAttention(6, 2, (3, 2), 2)(torch.zeros(shape))


def test_a_batch_of_no_maps_gives_none():
    assert bra.BRA2d(6, 2, (3, 2), 2)(torch.zeros(0, 6, 7, 5)).shape == (0, 6, 7, 5)
