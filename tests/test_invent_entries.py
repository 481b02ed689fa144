import numpy as np
import oracles
import pytest
import torch
from torch.autograd import gradcheck

import bra
from bra.invent.boards import cost
from bra.invent.entries import everything, per_head, soft, template, top_k

B, R, T, C, HEADS, K = 2, 5, 3, 6, 2, 2
REAL = {
    "all": None,
    "some": torch.tensor([[True, True, False], [True] * 3, [False] * 3, [True, False, False], [False] * 3]),
}


def draw(shape=(B, R, T, C)):
    return [torch.randn(shape, dtype=torch.float64) for _ in "qkv"]


def chosen(router, q, k, valid):
    means = bra.region_means(q, valid), bra.region_means(k, valid)
    return router(*means) if valid is None else router(*means, valid.any(dim=-1))


@pytest.mark.parametrize("real", REAL)
def test_each_head_reads_what_it_chose(real):
    (q, k, v), valid = draw(), REAL[real]
    routes = chosen(per_head.PerHeadRouter(HEADS, K), q, k, valid)
    out = per_head.attend_per_head(q, k, v, routes.index, HEADS, 0.7, valid)
    numbers = (x.numpy() for x in (q, k, v))
    expected, index = oracles.attend_per_head(*numbers, HEADS, K, 0.7, None if valid is None else valid.numpy())
    asks = slice(None) if valid is None else valid.any(dim=1)  # all means are alike to one without tokens
    np.testing.assert_allclose(out[:, asks], expected[:, asks], rtol=0, atol=1e-12)
    assert routes.index[:, asks].tolist() == index[:, asks].tolist()
    keenest = routes.affinity.argmax(dim=-1, keepdim=True)[:, asks]
    assert (routes.index[:, asks, ::K] == keenest).any(dim=-1).all(), "some head's first choice"


@pytest.mark.parametrize("real", REAL)
def test_soft_adds_the_affinity_to_the_scores(real):
    (q, k, v), valid = draw(), REAL[real]
    index = chosen(bra.TopKRouter(K), q, k, valid).index
    out = soft.attend_softly(q, k, v, index, HEADS, 0.7, valid)
    numbers = (x.numpy() for x in (q, k, v, index))
    expected = oracles.attend_softly(*numbers, HEADS, 0.7, None if valid is None else valid.numpy())
    np.testing.assert_allclose(out, expected, rtol=0, atol=1e-12)


@pytest.mark.parametrize("attend", [per_head.attend_per_head, soft.attend_softly])
def test_each_image_may_have_a_mask_of_its_own(attend):
    q, k, v = draw()
    masks = torch.stack([REAL["some"], REAL["some"].flip(0)])
    index = torch.randint(R, (B, R, 2 * K))
    out = attend(q, k, v, index, HEADS, 0.7, masks)
    for n, mask in enumerate(masks):
        alone = attend(*(x[n : n + 1] for x in (q, k, v, index)), HEADS, 0.7, mask)
        torch.testing.assert_close(out[n : n + 1], alone, rtol=0, atol=1e-12)


@pytest.mark.parametrize("attend", [per_head.attend_per_head, soft.attend_softly])
def test_gradients_are_those_of_the_output(attend):
    q, k, v = (x.requires_grad_() for x in draw((1, 3, 2, 4)))
    index = torch.tensor([[[0, 2], [1, 0], [2, 1]]])
    assert gradcheck(lambda *x: attend(*x, index, HEADS, 0.7), (q, k, v), fast_mode=True)
    valid = torch.tensor([[True, False], [False, False], [True, True]])
    assert gradcheck(lambda *x: attend(*x, index, HEADS, 0.7, valid), (q, k, v), fast_mode=True)


def test_where_the_tokens_of_a_region_are_alike_soft_counts_their_fit_twice():
    q, k, v = draw((1, 3, 2, 4))
    q, k = q.mean(dim=2, keepdim=True).expand_as(q), k.mean(dim=2, keepdim=True).expand_as(k)
    index = torch.tensor([[[0, 2], [1, 0], [2, 1]]])
    plain = bra.attend(2 * q, k, v, index, 1, 0.7)  # q.k and A_ij are one number
    torch.testing.assert_close(soft.attend_softly(q, k, v, index, 1, 0.7), plain)


def test_with_one_region_soft_is_top_k():
    q, k, v = draw()
    index = torch.randint(R, (B, R, 1))
    torch.testing.assert_close(soft.attend_softly(q, k, v, index, HEADS), bra.attend(q, k, v, index, HEADS))


@pytest.mark.parametrize("entry", [per_head, soft], ids=["per_head", "soft"])
def test_layers_take_maps_of_any_size_and_half_precision(entry):
    layer = entry.make_layer(6, 2, (2, 3), 2)
    for size in ((5, 7), (1, 1), (3, 2)):
        assert layer(torch.randn(2, *size, 6)).isfinite().all()
    with torch.autocast("cpu", torch.bfloat16):
        assert layer(torch.randn(1, 5, 7, 6)).isfinite().all()


def test_what_each_costs_is_what_it_says():
    dim, heads, grid, k = 8, 2, (2, 3), 2
    tokens, regions, each = 6 * 64, 6, 64
    projections = 4 * tokens * dim**2
    entries = {"top-k": top_k, "per head": per_head, "soft": soft, "all": everything, "none": template}
    paid = {name: cost(entry.make_layer(dim, heads, grid, k)) for name, entry in entries.items()}
    assert paid["top-k"] == projections + regions**2 * dim + 2 * tokens * k * each * dim
    assert paid["per head"] == paid["none"] == paid["top-k"]
    assert paid["soft"] == paid["top-k"] + regions**2 * dim
    assert paid["all"] == projections + regions**2 * dim + 2 * tokens**2 * dim


def test_per_head_with_one_head_is_top_k():
    torch.manual_seed(1)
    one = per_head.make_layer(6, 1, (2, 3), 2)
    plain = top_k.make_layer(6, 1, (2, 3), 2)
    plain.load_state_dict(one.state_dict())
    x = torch.randn(2, 4, 6, 6)
    torch.testing.assert_close(one(x), plain(x))
    assert torch.equal(one.route(x).index, plain.route(x).index)
