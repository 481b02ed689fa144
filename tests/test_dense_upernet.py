import pytest
import torch
from torch import nn

from bra.dense.upernet import UperNet

CHANNELS, STRIDES, CLASSES = (2, 3, 7), (4, 8, 16), 5


def maps_of(size, b=2):
    """Maps (b c h w) of images of this size, as a backbone makes them: sizes are rounded up."""
    return [torch.randn(b, c, *(-(-side // s) for side in size)) for c, s in zip(CHANNELS, STRIDES, strict=True)]


@pytest.mark.parametrize("size", [(64, 96), (53, 71), (97, 33)])
def test_every_pixel_gets_logits_at_any_size(size):
    head = UperNet(CHANNELS, STRIDES, CLASSES, width=11).eval()
    with torch.no_grad():
        assert head(maps_of(size, b=1), size).shape == (1, CLASSES, *size)


def test_every_parameter_gets_a_gradient():
    head = UperNet(CHANNELS, STRIDES, CLASSES, width=11).train()
    head(maps_of((53, 71)), (53, 71)).sin().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())


def test_it_has_the_official_sizes():
    """Of UPerHead in the official configuration, counted by hand: 512 channels, pools of 1, 2, 3 and 6."""
    head = UperNet((64, 128, 256, 512), (4, 8, 16, 32), 150)
    norm = 2 * 512
    pools = 4 * (512 * 512 + norm)
    bottleneck = 9 * (512 + 4 * 512) * 512 + norm
    pyramid = sum(c * 512 + norm + 9 * 512 * 512 + norm for c in (64, 128, 256))
    fused = 9 * 4 * 512 * 512 + norm
    assert sum(p.numel() for p in head.parameters()) == pools + bottleneck + pyramid + fused + 150 * 512 + 150
    assert [m.output_size for m in head.modules() if isinstance(m, nn.AdaptiveAvgPool2d)] == [1, 2, 3, 6]


def test_news_reaches_every_pixel_by_the_pools():
    head, maps = UperNet(CHANNELS, STRIDES, CLASSES, width=11).eval(), maps_of((160, 160), b=1)
    with torch.no_grad():
        before = head(maps, (160, 160))
        maps[-1][:, :, -1, -1] += 9
        assert (head(maps, (160, 160)) != before).any(dim=1).float().mean() > 0.99
