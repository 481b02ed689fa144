import math
from functools import partial

import numpy as np
import oracles
import pytest
import torch
import torch.nn.functional as F
from torch.nn.attention import SDPBackend, sdpa_kernel

import bra
from bra import attention
from bra.attention import attend_gathered, attend_in_pieces, attend_masked
from bra.measure import LargestTensor

WAYS = [attend_gathered, attend_masked, attend_in_pieces]
each_way = pytest.mark.parametrize("way", WAYS)


@pytest.fixture(autouse=True)
def small_pieces(monkeypatch):
    """So small that the tests' tensors make several pieces, the last of them shorter."""
    monkeypatch.setattr(attention, "PIECE", 4 * 3 * 3 * 7)


def draw(b=2, r=5, t=3, c=14, k=3, dtype=torch.float64):
    q, key, v = torch.randn(3, b, r, t, c, dtype=dtype)
    return q, key, v, torch.rand(b, r, r).argsort(dim=-1)[:, :, :k]


def assert_equals_the_loops(got, *args):
    expected = oracles.attend(*(x.numpy() if torch.is_tensor(x) else x for x in args))
    np.testing.assert_allclose(got, expected, rtol=0, atol=1e-12)


@each_way
@pytest.mark.parametrize("scale", [None, 0.3])
def test_equals_the_loops(scale, way):
    q, k, v, index = draw()
    assert_equals_the_loops(bra.attend(q, k, v, index, 2, scale, way=way), q, k, v, index, 2, scale)


@each_way
def test_a_region_read_twice_counts_twice(way):
    q, k, v, index = draw()
    index[1, :, 2] = index[1, :, 0]
    assert_equals_the_loops(bra.attend(q, k, v, index, 2, way=way), q, k, v, index, 2)


@each_way
def test_padded_tokens_get_no_attention_and_nobody_gets_nan(way):
    q, k, v, index = draw()
    valid = torch.tensor([[True, False, True], [True, True, True], [False] * 3, [False] * 3, [False, False, True]])
    index[0, 0] = torch.tensor([2, 3, 0])
    index[1, 4, :] = 2  # nothing that it reads is real
    out = bra.attend(q, k, v, index, 2, valid=valid, way=way)
    assert_equals_the_loops(out, q, k, v, index, 2, None, valid)
    assert (out[1, 4] == 0).all(), "a query without a real token to read must get 0"
    poison = torch.where(valid[None, :, :, None], 0.0, 1e9)
    assert torch.equal(out, bra.attend(q, k + poison, v + poison, index, 2, valid=valid, way=way))


@each_way
def test_each_image_may_have_a_mask_of_its_own(way):
    q, k, v, index = draw()
    valid = torch.rand(2, 5, 3) < 0.5
    alone = [bra.attend(*(x[n : n + 1] for x in (q, k, v, index)), 2, valid=valid[n], way=way) for n in range(2)]
    torch.testing.assert_close(bra.attend(q, k, v, index, 2, valid=valid, way=way), torch.cat(alone))
    assert_equals_the_loops(alone[1], *(x[1:] for x in (q, k, v, index)), 2, None, valid[1])


@each_way
def test_without_real_tokens_the_gradient_is_zero_not_nan(way):
    q, k, v, index = draw(b=1)
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    bra.attend(q, k, v, index, 2, valid=torch.zeros(5, 3, dtype=torch.bool), way=way).sum().backward()
    assert all((x.grad == 0).all() for x in (q, k, v))


def test_reading_all_regions_is_dense_attention():
    q, k, v, _ = draw()
    index = torch.rand(2, 5, 5).argsort(dim=-1)  # in any order
    heads = [x.reshape(2, 15, 2, 7).transpose(1, 2) for x in (q, k, v)]
    dense = F.scaled_dot_product_attention(*heads).transpose(1, 2).reshape(2, 5, 3, 14)
    torch.testing.assert_close(bra.attend(q, k, v, index, 2), dense)


def test_one_softmax_runs_over_the_union_of_the_regions():
    q, k, v, index = draw(k=2)
    together = bra.attend(q, k, v, index, 2)
    averaged = (bra.attend(q, k, v, index[..., :1], 2) + bra.attend(q, k, v, index[..., 1:], 2)) / 2
    assert (together - averaged).abs().max() > 0.05, "a softmax for each region, then averaged, is something else"


def test_the_order_of_the_regions_read_does_not_matter():
    q, k, v, index = draw()
    torch.testing.assert_close(bra.attend(q, k, v, index, 2), bra.attend(q, k, v, index.flip(-1), 2))


def test_what_is_not_routed_to_does_not_matter():
    q, k, v, index = draw(b=1)
    index[0, :, :] = torch.tensor([0, 2, 4])
    changed = torch.zeros(1, 5, 1, 1, dtype=torch.float64)
    changed[0, [1, 3]] = 7
    assert torch.equal(bra.attend(q, k, v, index, 2), bra.attend(q, k + changed, v + changed, index, 2))


def test_heads_are_neighbouring_channels():
    q, k, v, index = draw(c=12)
    part = slice(4, 8)
    alone = bra.attend(q[..., part], k[..., part], v[..., part], index, 1)
    torch.testing.assert_close(bra.attend(q, k, v, index, 3)[..., part], alone)


def test_the_default_scale_is_that_of_a_head():
    q, k, v, index = draw(c=14)
    torch.testing.assert_close(bra.attend(q, k, v, index, 2), bra.attend(q, k, v, index, 2, 1 / math.sqrt(7)))


@each_way
@pytest.mark.parametrize("valid", [None, torch.tensor([[True, False], [True, True], [False, False]])])
def test_gradients(valid, way, monkeypatch):
    monkeypatch.setattr(attention, "PIECE", 2 * 2 * 2 * 2)  # one region a piece
    q, k, v, index = draw(b=2, r=3, t=2, c=4, k=2)
    inputs = [x.requires_grad_() for x in (q, k, v)]
    assert torch.autograd.gradcheck(lambda *qkv: bra.attend(*qkv, index, 2, valid=valid, way=way), inputs)


@each_way
def test_gradients_of_parts_of_a_wider_tensor(way):
    qkv = torch.randn(2, 5, 3, 42, dtype=torch.float64, requires_grad=True)
    index = draw()[3]
    grads = [
        torch.autograd.grad(bra.attend(*qkv.chunk(3, dim=-1), index, 2, way=w).sum(), qkv)[0]  # a gradient of stride 0
        for w in (way, attend_gathered)
    ]
    torch.testing.assert_close(*grads)


def test_takes_the_cheapest_way():
    def way(b, r, t, c, n, dtype=torch.float32):
        return attention.cheapest_way(torch.empty(b, r, t, c, dtype=dtype), torch.empty(b, r, n), 2)

    assert way(8, 49, 4, 256, 16) is attend_masked, "a third of small regions is read"
    assert way(8, 49, 64, 64, 1) is attend_gathered
    assert way(8, 49, 16, 128, 4) is attend_in_pieces, "large"
    assert way(8, 49, 8, 256, 12) is attend_in_pieces and way(8, 48, 8, 256, 12) is attend_masked, "more than 4 times"
    assert way(1, 36, 9, 32, 9) is attend_gathered and way(1, 36, 8, 32, 9) is attend_masked, "more than 8 tokens"
    for dtype in (torch.bfloat16, torch.float16):
        assert way(8, 49, 16, 128, 4, dtype) is attend_gathered, "the softmax of pieces would be in half precision"
    with torch.autocast("cpu", torch.bfloat16):
        assert way(8, 49, 16, 128, 4) is attend_gathered
    with torch.device("meta"):
        assert way(8, 49, 16, 128, 4) is attend_gathered, "small pieces keep no GPU busy"


def test_in_pieces_autocast_around_backward_changes_nothing():
    q, k, v, index = draw()
    q, k, v = (x.float().requires_grad_() for x in (q, k, v))
    out = bra.attend(q, k, v, index, 2, way=attend_in_pieces)
    expected = torch.autograd.grad(out.sum(), (q, k, v), retain_graph=True)
    with torch.autocast("cpu", torch.bfloat16):
        torch.testing.assert_close(torch.autograd.grad(out.sum(), (q, k, v), retain_graph=True), expected)


@pytest.mark.parametrize("valid", [None, torch.tensor([[True, False], [True, True], [False, False]])])
def test_a_second_derivative_is_had_as_the_error_says(valid):
    q, k, v, index = draw(b=1, r=3, t=2, c=4, k=2)
    inputs = [x.requires_grad_() for x in (q, k, v)]
    out = bra.attend(*inputs, index, 2, valid=valid, way=attend_in_pieces)
    with pytest.raises(RuntimeError, match=r"pass way=attend_gathered to attend, .*sdpa_kernel\(SDPBackend.MATH\)"):
        torch.autograd.grad(out.sum(), q, create_graph=True)
    gathered = partial(bra.attend, index=index, heads=2, valid=valid, way=attend_gathered)
    with sdpa_kernel(SDPBackend.MATH):
        assert torch.autograd.gradgradcheck(gathered, inputs)


def test_in_pieces_the_gathered_tokens_are_never_there_all_at_once():
    q, k, v, index = draw(b=1, r=49, t=8, c=16, k=8, dtype=torch.float32)
    gathered = k.nbytes * 8
    for way, expected in ((attend_gathered, gathered), (attend_in_pieces, k.nbytes)):
        with LargestTensor() as largest:
            bra.attend(*(x.requires_grad_() for x in (q, k, v)), index, 2, way=way).sum().backward()
        assert largest.bytes == expected, largest.operation


@each_way
@pytest.mark.parametrize("valid", [None, torch.empty(5, 3, dtype=torch.bool, device="meta")])
def test_stays_on_the_device_of_its_input(valid, way):
    with torch.device("meta"):
        q, k, v, index = draw()
    q, k, v = (x.requires_grad_() for x in (q, k, v))
    out = bra.attend(q, k, v, index, 2, valid=valid, way=way)
    out.backward(torch.empty_like(out))
    assert out.is_meta and all(x.grad.is_meta for x in (q, k, v))


@each_way
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_as_exact_as_plain_pytorch_in_the_same_precision(dtype, way):
    if way is attend_in_pieces and dtype == torch.bfloat16:
        return  # never taken
    q, k, v, index = draw(b=2, r=7, t=16, c=64, k=4)
    exact = bra.attend(q, k, v, index, 2)
    low = [x.to(dtype) for x in (q, k, v)]
    keys, values = (bra.gather_regions(x, index).unflatten(-1, (2, 32)).transpose(2, 3) for x in low[1:])
    scores = low[0].unflatten(-1, (2, 32)).transpose(2, 3) @ keys.mT / 32**0.5
    plain = (scores.softmax(dim=-1) @ values).transpose(2, 3).flatten(3)
    error, allowed = ((x.double() - exact).abs().max() for x in (bra.attend(*low, index, 2, way=way), plain))
    assert error <= 2 * allowed


@pytest.mark.usefixtures("unchecked")
def test_says_what_is_wrong():
    q, k, v, index = draw()
    with pytest.raises(ValueError, match="dim must be divisible by heads, but dim is 14 and heads is 3"):
        bra.attend(q, k, v, index, 3)
    with pytest.raises(ValueError, match="q, k and v must have one shape"):
        bra.attend(q, k[:, :, :2], v, index, 2)
    for way in WAYS:
        with pytest.raises(IndexError, match="index must name regions 0 to 4, but holds 5 to 5"):
            bra.attend(q, k, v, torch.full_like(index, 5), 2, way=way)
        with pytest.raises(ValueError, match="index must be int64 or int32"):
            bra.attend(q, k, v, index.double(), 2, way=way)
    with pytest.raises(ValueError, match=r"q must have 4 axes \(b r t c\)"):
        bra.attend(q[0], k[0], v[0], index, 2)
    shapes = r"valid must be \(r t\) = \(5, 3\) or \(b r t\) = \(2, 5, 3\) of bool, not "
    with pytest.raises(ValueError, match=shapes + r"\(3, 5\)"):
        bra.attend(q, k, v, index, 2, valid=torch.ones(3, 5, dtype=torch.bool))
    with pytest.raises(ValueError, match=shapes + r"\(5, 3\) of torch.float32"):
        bra.attend(q, k, v, index, 2, valid=torch.ones(5, 3))
