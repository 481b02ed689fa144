import numpy as np
import oracles
import pytest
import torch

import bra


def test_means_equal_the_loops():
    regions = torch.randn(2, 5, 7, 3, dtype=torch.float64)
    np.testing.assert_allclose(bra.region_means(regions), oracles.means(regions.numpy()), rtol=0, atol=1e-12)


def test_means_see_real_tokens_only():
    regions = torch.randn(2, 3, 4, 5, dtype=torch.float64)
    valid = torch.tensor([[True, False, True, True], [False, True, False, False], [False] * 4])  # 3, 1 and none
    expected = oracles.means(regions.numpy(), valid.numpy())
    np.testing.assert_allclose(bra.region_means(regions, valid), expected, rtol=0, atol=1e-12)
    assert (bra.region_means(regions, valid)[:, 2] == 0).all(), "a region without real tokens must get zeros"
    changed = torch.where(valid[None, :, :, None], regions, 1e6)
    assert torch.equal(bra.region_means(regions, valid), bra.region_means(changed, valid))


def test_each_image_may_have_a_mask_of_its_own():
    regions, valid = torch.randn(2, 3, 5, 7, dtype=torch.float64), torch.rand(2, 3, 5) < 0.5
    alone = torch.cat([bra.region_means(regions[n : n + 1], valid[n]) for n in range(2)])
    message = "the means of an image are those of its own mask"
    torch.testing.assert_close(bra.region_means(regions, valid), alone, rtol=0, atol=0, msg=message)


@pytest.mark.parametrize("valid", [None, torch.ones(1, 10_000, dtype=torch.bool)])
def test_means_of_half_precision_are_float32_and_do_not_overflow(valid):
    regions = torch.full((1, 1, 10_000, 1), 10.0, dtype=torch.float16)
    means = bra.region_means(regions, valid)
    assert means.dtype == torch.float32 and abs(means.item() - 10) < 0.1


def test_affinity_equals_the_loops_and_is_not_symmetric():
    q, k = torch.randn(2, 2, 5, 3, dtype=torch.float64)
    scores = bra.region_affinity(q, k)
    np.testing.assert_allclose(scores, oracles.affinity(q.numpy(), k.numpy()), rtol=0, atol=1e-12)
    assert not torch.allclose(scores, scores.mT), "rows are queries, columns are keys"


def test_gradients():
    regions = torch.randn(2, 1, 3, 4, 2, dtype=torch.float64, requires_grad=True)
    valid = torch.tensor([[True, False, True, True], [True, True, False, False], [False] * 4])

    def affinity(regions):
        return bra.region_affinity(bra.region_means(regions[0]), bra.region_means(regions[1], valid))

    assert torch.autograd.gradcheck(affinity, regions)


@pytest.mark.parametrize("valid", [None, torch.empty(3, 4, dtype=torch.bool, device="meta")])
def test_stays_on_the_device_of_its_input(valid):
    means = bra.region_means(torch.empty(2, 3, 4, 5, device="meta"), valid)
    assert means.is_meta and bra.region_affinity(means, means).is_meta


@pytest.mark.usefixtures("unchecked")
def test_says_what_is_wrong():
    with pytest.raises(ValueError, match=r"regions must have 4 axes \(b r t c\)"):
        bra.region_means(torch.zeros(2, 3, 4))
    with pytest.raises(ValueError, match=r"q_means must have 3 axes \(b r c\)"):
        bra.region_affinity(torch.zeros(2, 3), torch.zeros(2, 3))
    with pytest.raises(ValueError, match=r"k_means must have the shape of q_means, \(2, 3, 4\), not \(2, 3, 5\)"):
        bra.region_affinity(torch.zeros(2, 3, 4), torch.zeros(2, 3, 5))
