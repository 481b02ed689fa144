import oracles
import pytest
import torch

import bra


def test_equals_the_loops_best_first():
    scores = torch.randn(3, 7, 7, dtype=torch.float64)
    for k in (1, 4, 7):
        index = bra.top_k_regions(scores, k)
        assert index.dtype == torch.int64
        assert (index.numpy() == oracles.top_k(scores.numpy(), k)).all()


def test_rows_choose_not_columns():
    scores = torch.tensor([[[0.0, 1, 2], [9, 5, 1], [3, 8, 7]]])
    assert bra.top_k_regions(scores, 2).tolist() == [[[2, 1], [0, 1], [1, 2]]]


def test_renaming_regions_renames_the_answer():
    q, k = torch.randn(2, 1, 6, 5)
    order = torch.randperm(6)
    router = bra.TopKRouter(3)
    renamed = router(q[:, order], k[:, order]).index
    assert torch.equal(order[renamed], router(q, k).index[:, order])


def test_no_gradient_passes_through_routing():
    q, k = torch.randn(2, 1, 6, 5, requires_grad=True)
    routes = bra.TopKRouter(3)(q, k)
    assert not routes.affinity.requires_grad and not routes.index.requires_grad


def test_regions_without_real_tokens_are_chosen_last():
    q, k = torch.randn(2, 2, 5, 3)
    real = torch.tensor([True, False, True, False, True])
    routes = bra.TopKRouter(4)(q, k, real)
    assert (real[routes.index].int().diff(dim=-1) <= 0).all(), "real regions must come before padded ones"
    assert real[routes.index].sum(dim=-1).eq(3).all()
    assert torch.equal(routes.affinity[..., real], bra.region_affinity(q, k)[..., real])


def test_each_image_may_have_real_regions_of_its_own():
    q, k = torch.randn(2, 2, 5, 3)
    real = torch.tensor([[True, False, True, False, True], [False, True, True, True, True]])
    router = bra.TopKRouter(2)
    for n, (index, affinity) in enumerate(zip(*router(q, k, real), strict=True)):
        assert real[n][index].all(), f"image {n} reads regions that are all padding"
        alone = router(q[n : n + 1], k[n : n + 1], real[n])
        assert torch.equal(index, alone.index[0]) and torch.equal(affinity, alone.affinity[0])


def test_of_fewer_regions_than_k_all_are_read():
    q, k = torch.randn(2, 2, 3, 7)
    assert bra.TopKRouter(5)(q, k).index.sort(dim=-1).values.tolist() == [[[0, 1, 2]] * 3] * 2


def test_table_router_says_what_its_table_says():
    table = bra.random_regions((2, 3), 2)
    router = bra.TableRouter(table)
    q, k = torch.randn(2, 4, 6, 5)
    routes = router(q, k)
    assert torch.equal(routes.index, table.expand(4, -1, -1))
    assert torch.equal(routes.affinity, bra.region_affinity(q, k))
    assert torch.equal(router.state_dict()["table"], table), "the table must be saved with the weights"


def test_a_table_router_keeps_a_copy_and_passes_no_gradient():
    table = bra.local_regions((2, 3), 4)
    router, before = bra.TableRouter(table), table.clone()
    table.zero_()
    assert torch.equal(router.table, before) and router.k == 4 and repr(router) == "TableRouter(regions=6, k=4)"
    q, k = torch.randn(2, 1, 6, 5, requires_grad=True)
    assert not router(q, k).affinity.requires_grad


@pytest.mark.usefixtures("unchecked")
def test_says_what_is_wrong():
    for k in (0, 4):
        with pytest.raises(ValueError, match=f"k must be between 1 and the number of regions, 3, but is {k}"):
            bra.top_k_regions(torch.zeros(1, 3, 3), k)
    with pytest.raises(ValueError, match=r"affinity must have 3 axes \(b r r\)"):
        bra.top_k_regions(torch.zeros(3, 3), 1)
    with pytest.raises(ValueError, match="table must have one row a region, 5, but has 6"):
        bra.TableRouter(bra.all_regions((2, 3)))(torch.zeros(1, 5, 2), torch.zeros(1, 5, 2))
