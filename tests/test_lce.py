import numpy as np
import oracles
import pytest
import torch

import bra


@pytest.mark.parametrize("kernel", [1, 3, 5])
def test_equals_the_loops(kernel):
    lce = bra.LocalContextEnhancement(3, kernel).double()
    x = torch.randn(2, 5, 7, 3, dtype=torch.float64)
    expected = oracles.depthwise(x.numpy(), lce.conv.weight.detach().numpy(), lce.conv.bias.detach().numpy())
    np.testing.assert_allclose(lce(x).detach(), expected, rtol=0, atol=1e-12)


def test_each_channel_sees_itself_within_its_window():
    lce = bra.LocalContextEnhancement(3, 5).double()
    x = torch.randn(1, 9, 11, 3, dtype=torch.float64, requires_grad=True)
    lce(x)[0, 4, 5, 1].backward()
    seen = x.grad[0].nonzero().tolist()
    assert {c for _, _, c in seen} == {1}
    assert {y for y, _, _ in seen} == {2, 3, 4, 5, 6} and {x for _, x, _ in seen} == {3, 4, 5, 6, 7}


def test_gradients():
    lce = bra.LocalContextEnhancement(2, 3).double()
    x = torch.randn(1, 3, 4, 2, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(lce, x)


@pytest.mark.parametrize("kernel", [0, 4, -1])
def test_says_which_kernels_are_allowed(kernel):
    with pytest.raises(ValueError, match=f"kernel must be odd and at least 1, but is {kernel}"):
        bra.LocalContextEnhancement(3, kernel)


def test_what_is_not_real_counts_as_zeros():
    lce, v = bra.LocalContextEnhancement(3).double(), torch.randn(2, 7, 5, 3, dtype=torch.float64)
    real = torch.rand(2, 7, 5) < 0.7
    assert torch.equal(lce(v, real), lce(v * real[..., None])), "a filter must see zeros where nothing is real"
    nothing = torch.where(real[..., None], v, torch.nan)
    assert torch.equal(lce(nothing, real), lce(v, real))
