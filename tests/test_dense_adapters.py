import copy
from collections import OrderedDict

import pytest
import torch
from torch import nn

import bra
from bra.dense import adapters
from bra.dense.adapters import TorchvisionPyramid, detector

torchvision = pytest.importorskip("torchvision", reason="an extra of its own")

CONFIG = bra.BiFormerConfig(
    stem=(4, 8),
    stages=(bra.Stage(8, 1, heads=2, k=1), bra.Stage(12, 1, heads=2, k=2), bra.Stage(16, 1, heads=2, k=3),
            bra.Stage(24, 1, heads=4, k=bra.FULL)),
)  # fmt: skip
KINDS = ("retinanet", "fcos", "faster-rcnn", "mask-rcnn")
STRIDES = {"retinanet": (8, 16, 32, 64, 128), "faster-rcnn": (4, 8, 16, 32, 64)}
WIDTH = 64
SIZES = [(137, 40), (40, 61), (43, 150)]  # of the images in a batch; the second is looked at
DENSE = ("retinanet", "fcos")


def make(kind, **options):
    """A detector in whose answers all that it computes matters."""
    backbone = bra.Backbone(bra.BiFormer(CONFIG), region=32, out_indices=(1, 2, 3) if kind in DENSE else None)
    given = {"min_size": 40, "max_size": 400}  # all images are left as they are
    if kind in DENSE:
        given |= {"score_thresh": 1e-6, "detections_per_img": 10**6}
    else:
        given |= {"box_score_thresh": 0.25 if kind == "mask-rcnn" else 0.05}  # masks take long
    found = detector(kind, backbone, 3, width=WIDTH, **given | options).double().eval()
    for name, parameter in found.named_parameters():
        deviation = 0.3 if parameter.ndim == 1 else 1.3 * parameter[0].numel() ** -0.5
        nn.init.normal_(parameter, float(parameter.ndim == 1 and "norm" in name and "weight" in name), deviation)
    return found


def images(sizes=SIZES):
    return [torch.rand(3, *size, dtype=torch.float64) for size in sizes]


def difference(model, sizes=SIZES):
    """How far, in pixels or hundredths of a score, a detection of a batch's second image is from any that it has alone.

    Or the other way round. Not one by one: equal scores have no order.
    """
    batch = images(sizes)
    with torch.no_grad():
        found = [model(batch[1:2])[0], model(batch)[1]]
    assert len(found[0]["boxes"]) > 4
    alone, together = (torch.column_stack([each["boxes"], 100 * each["scores"]]) for each in found)
    apart = torch.cdist(alone, together, compute_mode="donot_use_mm_for_euclid_dist")
    return max(apart.amin(dim).max().item() for dim in (0, 1))


@pytest.mark.parametrize("kind", KINDS)
def test_detections_do_not_depend_on_batch_mates(kind):
    assert difference(make(kind)) < 1e-9


def test_nor_do_those_of_a_copy():
    assert difference(copy.deepcopy(make("faster-rcnn"))) < 1e-9, "its hooks are the original's"


LEFT_OUT = {  # what of the masking, and a kind that shows it
    "take_sizes": (lambda *args: None, "retinanet"),
    "clear": (lambda *args: None, "faster-rcnn"),
    "silence": (lambda *args: None, "faster-rcnn"),
    "normalise": (lambda *args: None, "fcos"),
    "extend": (lambda *args: None, "faster-rcnn"),
}


@pytest.mark.parametrize("what", LEFT_OUT)
def test_without_any_part_of_the_masking_they_do(what, monkeypatch):
    nothing, kind = LEFT_OUT[what]
    monkeypatch.setattr(TorchvisionPyramid, what, nothing)
    assert difference(make(kind)) > 1e-3


def test_if_strides_follow_the_batch_they_do():
    """At the usual padding, to multiples of 32, anchors of the two coarsest levels lie elsewhere in every batch."""
    sizes = [(137, 70), (70, 101)]
    assert difference(make("retinanet", min_size=70), sizes) < 1e-9
    assert difference(make("retinanet", min_size=70, size_divisible=32), sizes) > 1


@pytest.mark.parametrize("kind", KINDS)
def test_learns(kind):
    model = make(kind).train()
    targets = []
    for i, size in enumerate(SIZES):
        boxes = torch.tensor([[5.0, 7.0, 33.0, 38.0]], dtype=torch.float64)
        targets.append({"boxes": boxes, "labels": torch.tensor([i + 1]), "masks": torch.ones(1, *size).byte()})
    loss = sum(model(images(), targets).values())
    assert loss.isfinite()
    loss.backward()
    assert all(p.grad is not None for p in model.parameters())
    with pytest.raises((IndexError, RuntimeError)):
        model(images(), [target | {"labels": torch.tensor([4])} for target in targets])  # 3 classes, from 1


@pytest.mark.parametrize(("kind", "scale"), [("retinanet", 4), ("faster-rcnn", 8)])
def test_levels_and_anchors_are_the_official_ones(kind, scale):
    """Strides, and the side of the smallest anchor in strides, of the official configurations."""
    model = make(kind)
    assert model.backbone.strides == STRIDES[kind]
    anchors = (model.rpn if kind == "faster-rcnn" else model).anchor_generator
    assert [sizes[0] for sizes in anchors.sizes] == [scale * stride for stride in STRIDES[kind]]
    assert len(anchors.sizes[0]) == (1 if kind == "faster-rcnn" else 3)
    found = []
    model.backbone.register_forward_hook(lambda module, inputs, maps: found.append(maps))
    with torch.no_grad():
        model(images()[:1])
    (maps,) = found
    assert isinstance(maps, OrderedDict)
    padded = [-(-side // STRIDES[kind][-1]) * STRIDES[kind][-1] for side in SIZES[0]]
    for stride, x in zip(STRIDES[kind], maps.values(), strict=True):
        assert x.shape == (1, WIDTH, padded[0] // stride, padded[1] // stride)
    assert list(maps) == (["0", "1", "2", "3", "pool"] if kind == "faster-rcnn" else ["0", "1", "2", "p6", "p7"])


def test_regions_of_interest_are_read_at_the_right_stride():
    """By itself `MultiScaleRoIAlign` takes 129 pixels, padded to 192, for 256, and halves every stride."""
    backbone = bra.Backbone(bra.BiFormer(CONFIG))
    align, size = adapters.pool(backbone, 7), 192
    column = torch.arange(size // 4).expand(1, 1, size // 4, size // 4) * 4.0 + 1.5  # the middles of tokens, in pixels
    maps = {str(i): nn.functional.avg_pool2d(column, 2**i) for i in range(4)}
    (pooled,) = align(maps, [torch.tensor([[16.0, 16.0, 44.0, 44.0]])], [(129, 129)])
    torch.testing.assert_close(pooled[0, 0], torch.arange(7) * 4 + 19.5)


@pytest.mark.usefixtures("unchecked")
def test_says_what_is_wrong_with_a_kind():
    with pytest.raises(ValueError, match="kind must be one of retinanet, fcos, faster-rcnn, mask-rcnn, but is 'yolo'"):
        detector("yolo", bra.Backbone(bra.BiFormer(CONFIG)), 3)


def test_a_norm_of_real_tokens_is_that_of_the_image_alone():
    pyramid, norm = TorchvisionPyramid(bra.Backbone(bra.BiFormer(CONFIG))), nn.GroupNorm(2, 6).double()
    nn.init.normal_(norm.weight)
    x = torch.randn(2, 6, 5, 7, dtype=torch.float64)
    real = adapters.real_map(torch.tensor([[5, 3], [2, 7]]), (5, 7))
    pyramid.real = {real.shape[1:]: real}
    found = pyramid.normalise(norm, (x,), norm(x))
    torch.testing.assert_close(found[:1, :, :, :3], norm(x[:1, :, :, :3]))
    torch.testing.assert_close(found[1:, :, :2], norm(x[1:, :, :2]))
