import oracles
import pytest
import torch
from torch import nn

import bra
from bra.dense import heads
from bra.dense.heads import PixelHead, Segmenter, SemanticFPN

CHANNELS, STRIDES, CLASSES = (2, 3, 7), (4, 8, 16), 5
CONFIG = bra.BiFormerConfig(
    stem=(4, 8), stages=(bra.Stage(8, 1, heads=2, k=1), bra.Stage(16, 1, heads=4, k=bra.FULL)), grid=(2, 3)
)


def maps_of(size, channels=CHANNELS, strides=STRIDES, b=2):
    """Maps (b c h w) of images of this size, as a backbone makes them: sizes are rounded up."""
    return [
        torch.randn(b, c, *(-(-side // s) for side in size)).double() for c, s in zip(channels, strides, strict=True)
    ]


def make(**options):
    """A pyramid whose norms have seen something, in evaluation."""
    head = SemanticFPN(CHANNELS, STRIDES, CLASSES, width=11, head_width=3, **options).double()
    for module in head.modules():
        if isinstance(module, nn.BatchNorm2d):
            for values in (module.running_mean, module.running_var, module.weight.data, module.bias.data):
                values.uniform_(0.5, 1.5)
    return head.eval()


def by_loops(head, maps, size):
    """What a `SemanticFPN` should answer."""
    weights = {name: value.numpy() for name, value in head.state_dict().items()}
    maps = [x.permute(0, 2, 3, 1).numpy() for x in maps]
    above, total, finest = 0, 0, maps[0].shape[1:3]
    for i in (2, 1, 0):
        x = oracles.convolve(maps[i], weights[f"lateral.{i}.weight"], weights[f"lateral.{i}.bias"])
        x = x + (oracles.repeat(above, 2, x.shape[1:3]) if i < 2 else 0)
        above = x
        x = oracles.convolve(x, weights[f"smooth.{i}.weight"], weights[f"smooth.{i}.bias"])
        for step in range(max(1, i)):  # in the sequence: convolution, norm, ReLU, doubling
            x = oracles.convolve(x, weights[f"climb.{i}.{4 * step}.weight"])
            mean, var, scale, shift = (
                weights[f"climb.{i}.{4 * step + 1}.{name}"]
                for name in ("running_mean", "running_var", "weight", "bias")
            )
            x = ((x - mean) / (var + 1e-5) ** 0.5 * scale + shift).clip(0)
            x = oracles.interpolate(x, 2, (2 * x.shape[1], 2 * x.shape[2])) if i else x
        total = total + x[:, : finest[0], : finest[1]]
    logits = oracles.convolve(total, weights["classify.weight"], weights["classify.bias"])
    return torch.from_numpy(oracles.interpolate(logits, 4, size)).permute(0, 3, 1, 2)


@pytest.mark.parametrize("size", [(16, 32), (19, 26), (1, 37)])
def test_semantic_fpn_equals_the_loops(size):
    head, maps = make(), maps_of(size)
    with torch.no_grad():
        torch.testing.assert_close(head(maps, size), by_loops(head, maps, size), rtol=0, atol=1e-12)


def test_semantic_fpn_has_the_official_sizes():
    """Of FPN and FPNHead in the official configuration, counted by hand; a norm in place of a bias."""
    head = SemanticFPN((64, 128, 256, 512), (4, 8, 16, 32), 150)
    pyramid = sum(256 * c + 256 for c in (64, 128, 256, 512)) + 4 * (9 * 256 * 256 + 256)
    climbs = 4 * 9 * 256 * 128 + 3 * 9 * 128 * 128 + 7 * 2 * 128  # 1, 1, 2, 3 convolutions
    assert sum(p.numel() for p in head.parameters()) == pyramid + climbs + 150 * 128 + 150
    assert [sum(isinstance(m, nn.Upsample) for m in path) for path in head.climb] == [0, 1, 2, 3]
    assert isinstance(head.dropout, nn.Dropout2d) and head.dropout.p == 0.1


def test_tokens_stand_over_their_own_pixels_however_far_an_image_was_padded():
    """Far from the padding (two tokens of the coarsest map and what its convolutions reach) it changes nothing."""
    head, size, more = make(), (169, 135), (243, 199)
    alone = maps_of(size)
    together = [nn.functional.pad(x, (0, b.shape[3] - x.shape[3], 0, b.shape[2] - x.shape[2]))
                for x, b in zip(alone, maps_of(more), strict=True)]  # fmt: skip
    a, b = head(alone, size), head(together, more)[:, :, : size[0], : size[1]]
    differs = (a - b).abs().amax(dim=(0, 1)) > 1e-12
    assert differs[-1].all() and differs[:, -1].all(), "convolutions do see the border"
    reach = 4 * STRIDES[-1]
    assert not differs[: size[0] - reach, : size[1] - reach].any()


@pytest.mark.parametrize("kind", [SemanticFPN, PixelHead])
@pytest.mark.parametrize("chosen", [slice(None), slice(1), slice(1, 3), slice(0, 3, 2)], ids=str)
def test_every_parameter_gets_a_gradient(kind, chosen):
    channels, strides = CHANNELS[chosen], STRIDES[chosen]
    head = kind(channels, strides, CLASSES).double().train()
    logits = head(maps_of((37, 53), channels, strides), (37, 53))
    assert logits.shape == (2, CLASSES, 37, 53)
    logits.sin().sum().backward()
    assert all(p.grad is not None and p.grad.any() for p in head.parameters())


def test_a_token_paints_its_own_pixels_and_nothing_else():
    size = (19, 26)
    head, maps = PixelHead(CHANNELS, STRIDES, CLASSES).double(), maps_of(size)
    logits = head(maps, size)
    for i, stride in enumerate(STRIDES):
        for row, column in ((0, 0), (1, 1), (size[0] // stride, size[1] // stride)):
            changed = [x.clone() for x in maps]
            changed[i][1, :, row, column] += 1
            differs = (head(changed, size) != logits).any(dim=1)
            expected = torch.zeros_like(differs)
            expected[1, row * stride : (row + 1) * stride, column * stride : (column + 1) * stride] = True
            assert torch.equal(differs, expected)


def test_a_pixel_is_a_linear_map_of_its_tokens():
    size = (19, 26)
    head, maps = PixelHead(CHANNELS, STRIDES, CLASSES).double(), maps_of(size)
    logits = head(maps, size)
    for y, x in ((0, 0), (7, 9), (18, 25)):
        expected = 0
        for paint, tokens, stride in zip(head.paint, maps, STRIDES, strict=True):
            all_pixels = tokens[:, :, y // stride, x // stride] @ paint.weight[:, :, 0, 0].T + paint.bias
            expected = expected + all_pixels.view(2, CLASSES, stride, stride)[:, :, y % stride, x % stride]
        torch.testing.assert_close(logits[:, :, y, x], expected)


@pytest.mark.parametrize("kind", [SemanticFPN, PixelHead])
def test_a_segmenter_passes_sizes_on_and_answers_in_the_images_size(kind):
    backbone = bra.Backbone(bra.BiFormer(CONFIG).double().eval(), region=24)
    segmenter = Segmenter(backbone, kind(backbone.channels, backbone.reduction, CLASSES).double()).eval()
    images, sizes = torch.randn(2, 3, 53, 71).double(), [(53, 31), (29, 71)]
    logits = segmenter(images, sizes)
    assert logits.shape == (2, CLASSES, 53, 71)
    assert torch.equal(logits, segmenter.head(backbone(images, sizes), (53, 71)))
    assert not torch.allclose(logits, segmenter(images))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("cut", lambda x, size: nn.functional.interpolate(x, size=tuple(size), mode="nearest")),
        ("enlarge", lambda x, factor, size, mode: nn.functional.interpolate(x, size=tuple(size), mode=mode)),
        ("enlarge", lambda x, factor, size, mode: nn.functional.interpolate(x, size=tuple(size), mode="nearest")),
    ],
    ids=["stretched at the end of a climb", "stretched", "nearest"],
)
def test_a_head_that_stretches_maps_is_told_from_this_one(name, wrong, monkeypatch):
    head, maps = make(), maps_of((19, 26))
    monkeypatch.setattr(heads, name, wrong)
    with torch.no_grad(), pytest.raises(AssertionError, match="not close"):
        torch.testing.assert_close(head(maps, (19, 26)), by_loops(head, maps, (19, 26)), rtol=0, atol=1e-3)
