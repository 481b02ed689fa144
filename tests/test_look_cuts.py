import pytest
import torch

import bra
from bra.biformer import BOARD, BiFormer
from bra.look.cuts import Forbid, LeaveOut, ReadOnly, rerouted


@pytest.fixture
def model():
    torch.manual_seed(0)
    return BiFormer(BOARD).eval()


IMAGES = torch.randn(3, 3, 32, 32, generator=torch.Generator().manual_seed(1))


def test_what_is_forbidden_is_not_read_and_the_next_best_is(model):
    first, second = model.routes(IMAGES)
    forbidden = torch.zeros(3, 16, 16, dtype=torch.bool)
    forbidden[torch.arange(3), 5, first.index[:, 5, 1]] = True  # region 5's second choice
    router = model.stages[0][0].attention.router
    found, _ = rerouted(model, {0: Forbid(router, forbidden)}).routes(IMAGES)
    by_rank = first.affinity[:, 5].argsort(dim=-1, descending=True)
    assert torch.equal(found.index[:, 5], by_rank[:, [0, 2, 3, 4]]), "k stays, and the order of the rest"
    others = torch.arange(16) != 5
    assert torch.equal(found.index[:, others], first.index[:, others])
    again = model.routes(IMAGES)
    assert torch.equal(again[0].index, first.index) and torch.equal(again[1].index, second.index), "a copy was changed"


def test_what_is_left_out_is_replaced_by_the_best_that_stays(model):
    first, _ = model.routes(IMAGES)
    marked = torch.zeros(3, 16, 16, dtype=torch.bool)
    for rank, region in ((0, 5), (2, 6)):  # the best of what region 5 reads, the third of what 6 reads
        marked[torch.arange(3), region, first.index[:, region, rank]] = True
    found, _ = rerouted(model, {0: LeaveOut(model.stages[0][0].attention.router, marked)}).routes(IMAGES)
    assert torch.equal(found.index[:, 5], first.index[:, 5][:, [1, 1, 2, 3]])
    assert torch.equal(found.index[:, 6], first.index[:, 6][:, [0, 1, 0, 3]])
    others = (torch.arange(16) != 5) & (torch.arange(16) != 6)
    assert torch.equal(found.index[:, others], first.index[:, others])


def test_nothing_is_read_besides_what_is_given(model):
    index = torch.arange(16)[None, :, None].repeat(3, 1, 2)
    index[:, 4, 1] = torch.tensor([7, 9, 11])  # in each image another one
    twin = rerouted(model, {0: ReadOnly(index), 1: ReadOnly(index[:, :, :1])})
    pixels = IMAGES.clone().requires_grad_()
    tokens = bra.partition_regions(twin.pyramid(pixels)[0].permute(0, 2, 3, 1), (4, 4))[:, 4]
    (seen,) = torch.autograd.grad(tokens.square().sum(), pixels)
    cells = bra.partition_regions(seen.abs().permute(0, 2, 3, 1), (4, 4)).sum(dim=(2, 3)) > 0
    assert [set(row.nonzero().flatten().tolist()) for row in cells] == [{4, 7}, {4, 9}, {4, 11}]


def test_regions_named_equally_often_weigh_as_if_named_once(model):
    once, twice = torch.tensor([3, 8]), torch.tensor([3, 8, 3, 8])
    a, b = (rerouted(model, {0: ReadOnly(i.expand(3, 16, -1))})(IMAGES) for i in (once, twice))
    torch.testing.assert_close(a, b)
    assert not torch.allclose(a, model(IMAGES))


def test_a_layer_that_does_not_exist_is_refused(model):
    with pytest.raises(ValueError, match="routers must name layers 0 to 1, but name 2"):
        rerouted(model, {2: ReadOnly(torch.zeros(3, 16, 1, dtype=torch.long))})
