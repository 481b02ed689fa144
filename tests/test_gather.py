import oracles
import pytest
import torch
from torch.nn.attention import SDPBackend, sdpa_kernel

import bra


def draw(b=2, r=5, t=3, c=7, k=4):
    regions = torch.randn(b, r, t, c, dtype=torch.float64)
    index = torch.rand(b, r, r).argsort(dim=-1)[:, :, :k]
    return regions, index


def test_equals_the_loops():
    regions, index = draw()
    assert (bra.gather_regions(regions, index).numpy() == oracles.gather(regions.numpy(), index.numpy())).all()


def test_every_image_reads_its_own_regions():
    regions, index = draw()
    together = bra.gather_regions(regions, index)
    alone = torch.cat([bra.gather_regions(regions[i : i + 1], index[i : i + 1]) for i in range(2)])
    assert torch.equal(together, alone), "image 1 read regions of image 0"


def test_works_on_what_is_not_contiguous():
    wide, index = torch.randn(2, 5, 3, 21, dtype=torch.float64), draw()[1]
    part = wide.chunk(3, dim=-1)[1]
    assert torch.equal(bra.gather_regions(part, index), bra.gather_regions(part.contiguous(), index))


def test_an_empty_batch_stays_empty():
    regions, index = draw()
    assert bra.gather_regions(regions[:0], index[:0]).shape == (0, 5, 12, 7)
    assert bra.BRA2d(6, 2, (2, 3), 2)(torch.zeros(0, 6, 5, 7)).shape == (0, 6, 5, 7)


@pytest.mark.usefixtures("unchecked")
def test_an_index_is_whole_numbers():
    regions, index = draw()
    assert torch.equal(bra.gather_regions(regions, index.int()), bra.gather_regions(regions, index))
    with pytest.raises(ValueError, match=r"index must be int64 or int32, but is torch\.uint8"):
        bra.gather_regions(regions, index.to(torch.uint8))


def test_stays_on_the_device_of_its_input():
    regions, index = torch.empty(2, 5, 3, 7, device="meta"), torch.empty(2, 5, 4, dtype=torch.int64, device="meta")
    assert bra.gather_regions(regions, index).is_meta


def test_gradients():
    regions, index = draw(b=2, r=3, t=2, c=2, k=2)
    assert torch.autograd.gradcheck(lambda x: bra.gather_regions(x, index), regions.requires_grad_())


def test_backward_needs_no_memory_that_grows_with_the_square_of_the_regions():
    """What autograd allocates at most, for 4 times the regions: 4 times as much, not 16 times."""

    def largest(r):
        regions, index = torch.randn(1, r, 4, 8, requires_grad=True), torch.randint(r, (1, r, 2))
        with torch.profiler.profile(profile_memory=True) as profile:
            bra.gather_regions(regions, index).sum().backward()
        return max(event.self_cpu_memory_usage for event in profile.key_averages())

    assert largest(256) <= 5 * largest(64), "the backward's memory must grow with the regions, not with their square"


@pytest.mark.usefixtures("unchecked")
def test_says_what_is_wrong():
    regions, index = draw()
    with pytest.raises(ValueError, match=r"regions must have 4 axes \(b r t c\)"):
        bra.gather_regions(regions[0], index)
    with pytest.raises(ValueError, match=r"index must have 3 axes \(b r k\)"):
        bra.gather_regions(regions, index[0])
    with pytest.raises(
        ValueError, match=r"index must begin with the batch and regions of regions, \(2, 5\), not \(1, 5, 4\)"
    ):
        bra.gather_regions(regions, index[:1])
    for wrong in (-1, 5):
        bad = index.clone()
        bad[1, 2, 3] = wrong
        with pytest.raises(IndexError, match=rf"index must name regions 0 to 4, but holds .*{wrong}"):
            bra.gather_regions(regions, bad)


def test_gradients_by_sample_are_those_of_one_sample_at_a_time():
    """`vmap(grad)` has no values to look at, so it must go on without a look; `grad` alone has, and must look."""
    layer = bra.BRA2d(6, 2, (3, 2), 2).double()
    weights = {name: value.detach() for name, value in layer.named_parameters()}

    def loss(weights, x):
        return torch.func.functional_call(layer, weights, (x[None],)).square().sum()

    for size in ((6, 4), (7, 5)):  # PyTorch's fused kernels on a CPU have no rule for vmap, and would warn
        x = torch.randn(3, 6, *size, dtype=torch.float64)
        with sdpa_kernel(SDPBackend.MATH):
            found = torch.func.vmap(torch.func.grad(loss), (None, 0))(weights, x)
        alone = [torch.func.grad(loss)(weights, one) for one in x]
        for name in weights:
            torch.testing.assert_close(found[name], torch.stack([gradient[name] for gradient in alone]))

    def wrong(regions):
        return bra.gather_regions(regions, torch.full((1, 2, 1), 2)).sum()

    with pytest.raises(IndexError, match="index must name regions 0 to 1, but holds 2 to 2"):
        torch.func.grad(wrong)(torch.randn(1, 2, 3, 5))
