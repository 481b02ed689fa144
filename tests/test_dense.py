import os
import subprocess
import sys
from contextlib import contextmanager
from dataclasses import replace

import pytest
import torch
from repository import ROOT
from torch import nn

import bra
from bra import biformer, block, layer
from bra.dense import backbone as room
from bra.look.calls import bra_layers

CONFIG = bra.BiFormerConfig(
    stem=(4, 8),
    stages=(bra.Stage(8, 1, heads=2, k=1), bra.Stage(16, 2, heads=4, k=3), bra.Stage(24, 1, heads=8, k=bra.FULL)),
    grid=(2, 3),
    num_classes=5,
)
REGION = 24  # pixels: not a multiple of the last stage's stride, which is full
BATCH = (71, 79)  # pixels, after padding
SIZES = [(67, 43), (43, 66), (41, 68)]  # of the images in it: none fills it
GRIDS = [(3, 2), (2, 3), (2, 3)]  # of each image alone: there pad_to_grid happens to make regions of 24 pixels too


def make(config=CONFIG, **options):
    """A BiFormer in which routing and attention matter and batch norm has seen something, and its backbone."""
    model = bra.BiFormer(config).double().eval()
    backbone = bra.Backbone(model, **options)
    with torch.no_grad():
        for parameter in [*model.parameters(), *backbone.parameters()]:
            parameter.normal_(std=0.4)
        for name, statistic in model.named_buffers():
            if name.endswith(("mean", "var")):
                statistic.uniform_(0.5, 1.5)
    return model, backbone


def padded(garbage, sizes=SIZES, batch=BATCH):
    """Images of these sizes in one batch (b c h w), with garbage in their padding."""
    draw, images = torch.Generator().manual_seed(1), garbage * torch.randn(len(sizes), 3, *batch, dtype=torch.float64)
    for image, (h, w) in zip(images, sizes, strict=True):
        image[:, :h, :w] = torch.randn(3, h, w, dtype=torch.float64, generator=draw)
    return images


@contextmanager
def spoiled(model, garbage):
    """Inside, garbage comes also to where nothing is real in the map that any module is given with a mask."""

    def spoil(module, inputs):
        x, *mask = inputs
        if not mask:
            return inputs
        last = isinstance(module, bra.BiLevelRoutingAttention | block.FullAttention)
        return torch.where(mask[0][..., None] if last else mask[0][:, None], x, garbage), *mask

    kinds = biformer.Halvings | block.Block | bra.BiLevelRoutingAttention | block.FullAttention
    hooks = [m.register_forward_pre_hook(spoil) for m in model.modules() if isinstance(m, kinds)]
    yield
    for hook in hooks:
        hook.remove()


def gradient(maps, images):
    """The images' gradient of a sum to which the tokens of each map (b c h w) contribute unevenly."""
    loss = sum((out * torch.linspace(0, 1, out.shape[3])).sin().sum() for out in maps)
    return torch.autograd.grad(loss, images, retain_graph=True)[0]


def difference(model, backbone, garbage=7.0, sizes=SIZES, grids=GRIDS):
    """How much the real area of each map, and the images' gradient, differ from what `pyramid` gives of each alone."""
    images = padded(garbage).requires_grad_()
    with spoiled(backbone, garbage):
        together = backbone(images, sizes)
    worst = dict.fromkeys([*(f"stage {i}" for i in backbone.out_indices), "the gradient"], 0.0)
    for n, ((h, w), grid) in enumerate(zip(SIZES, grids, strict=True)):
        own = [
            out[n : n + 1, :, : -(-h // s), : -(-w // s)] for out, s in zip(together, backbone.reduction, strict=True)
        ]
        found = [*own, gradient(own, images)[n : n + 1, :, :h, :w]]
        fixed, model.grid = model.grid, grid
        image = images[n : n + 1, :, :h, :w].detach().requires_grad_()
        maps = model.pyramid(image)
        model.grid = fixed
        alone = [norm(maps[i]) for norm, i in zip(backbone.norms, backbone.out_indices, strict=True)]
        for name, a, b in zip(worst, found, [*alone, gradient(alone, image)], strict=True):
            worst[name] = max(worst[name], ((a - b).abs().max() / b.abs().max()).item())
    return worst


def require_alone(model, backbone, garbage=7.0):
    """Raise AssertionError, naming the first map that differs and what may see padding there."""
    for name, worst in difference(model, backbone, garbage).items():
        assert worst < 1e-9, (
            f"{name}: an image's features differ by {worst:.0e} from those that it has alone. Something sees padding: "
            "in a block the position code, a region's mean, the router, a softmax, the LCE; between stages a "
            "convolution; or the sizes were rounded down at a stride, or the grid follows the padding"
        )


@pytest.mark.parametrize("garbage", [0.0, 1.0, 50.0])
@pytest.mark.parametrize("options", [{}, {"out_indices": (0, 2)}, {"norms": False}], ids=str)
def test_an_images_features_are_those_that_it_has_alone(garbage, options):
    require_alone(*make(region=REGION, **options), garbage)


@pytest.mark.parametrize("sizes", [[(31, 53), (1, 1), (50, 7)], [(64, 64), (17, 3), (33, 61)]], ids=str)
def test_at_any_size_neither_batch_mates_nor_more_padding_change_anything(sizes):
    _, backbone = make(region=REGION)
    one = [backbone(padded(0.0, [size], size))[-1] for size in sizes]  # alone, without any padding of ours
    for batch in ((64, 64), (67, 113)):
        with spoiled(backbone, 7.0):
            together = backbone(padded(7.0, sizes, batch), torch.tensor(sizes))[-1]
        for n, (h, w) in enumerate(sizes):
            real = together[n, :, : -(-h // 16), : -(-w // 16)]
            image = padded(7.0, sizes, batch)[n : n + 1, :, :h, :w]
            torch.testing.assert_close(real, backbone(image)[-1][0], rtol=0, atol=1e-9)
            assert together[n].count_nonzero() == real.count_nonzero(), "where nothing is real the map is 0"
            assert real.shape == one[n].shape[1:]


@pytest.mark.parametrize(
    "options, given, least",
    [({"region": REGION}, {"sizes": None}, 0.05), ({}, {"grids": [CONFIG.grid] * 3}, 0.02)],
    ids=["sizes", "region"],
)
def test_without_sizes_or_region_they_are_others(options, given, least):
    """So both are needed, and the tests above can fail."""
    worst = difference(*make(**options), **given)
    assert all(value > least for value in worst.values()), worst


def forgets(function, position):
    """The function without its argument at a position, counted from 0, or named valid."""
    return lambda *args, **named: function(*args[:position], **{k: v for k, v in named.items() if k != "valid"})


def sees_padding(block, x, *real):
    """`Block.forward` whose position code is not masked."""
    x = (x + block.position(x)).permute(0, 2, 3, 1)
    x = x + block.attention(block.norm1(x), *real)
    return (x + block.mlp(block.norm2(x))).permute(0, 3, 1, 2)


def stem_alone(halvings, x, *real):
    """`Halvings.forward` that clears its input, and nothing between its convolutions."""
    return HALVED(halvings, x * real[0][:, None] if real else x)


HALVED, MAP = biformer.Halvings.forward, room.real_map
PLANTED = {  # what is wrong: where, what stands there instead, and the first map that shows it
    "LCE": (bra.LocalContextEnhancement, "forward", forgets(bra.LocalContextEnhancement.forward, 2), 0),
    "softmax": (layer, "attend", forgets(bra.attend, 5), 0),
    "means": (layer, "region_means", forgets(bra.region_means, 1), 0),
    "router": (bra.TopKRouter, "forward", forgets(bra.TopKRouter.forward, 3), "[01]"),  # as the weights fall
    "full attention": (block.FullAttention, "forward", forgets(block.FullAttention.forward, 2), 2),
    "position code": (block.Block, "forward", sees_padding, 0),
    "block": (block.Block, "forward", forgets(block.Block.forward, 2), 0),
    "convolutions between": (biformer.Halvings, "forward", forgets(HALVED, 2), 0),
    "inside the stem": (biformer.Halvings, "forward", stem_alone, 0),
    "sizes rounded down": (room, "real_map", lambda sizes, size: MAP(sizes // 4 * 4, size), 0),
    "grid": (bra.Backbone, "follow", lambda self, size: None, 0),
}


@pytest.mark.parametrize("what", PLANTED)
def test_what_sees_padding_is_told(what, monkeypatch):
    owner, name, wrong, stage = PLANTED[what]
    monkeypatch.setattr(owner, name, wrong)
    model, backbone = make(region=REGION)
    for module in bra_layers(model).values():
        module.attend = layer.attend
    with pytest.raises(AssertionError, match=f"stage {stage}: an image's features differ by .* Something sees padding"):
        require_alone(model, backbone)


def test_nothing_that_stands_in_the_padding_matters_not_even_nan():
    _, backbone = make(region=REGION)
    expected = backbone(padded(0.0), SIZES)
    for a, b in zip(backbone(padded(torch.nan), SIZES), expected, strict=True):
        assert torch.equal(a, b), "padding must be cleared, not multiplied by 0"


@pytest.mark.parametrize("size", [(48, 72), (53, 71)])
def test_without_padding_it_is_the_pyramid(size):
    model, backbone = make(norms=False)
    images = torch.randn(2, 3, *size, dtype=torch.float64)
    expected = model.pyramid(images)
    for maps in (backbone(images), backbone(images, [size] * 2)):
        torch.testing.assert_close(maps, expected, rtol=0, atol=1e-9)
    assert all(torch.equal(a, b) for a, b in zip(backbone(images), expected, strict=True)), "nor is anything masked"
    normed = bra.Backbone(model, out_indices=(1, 2))(images)
    for out, plain in zip(normed, expected[1:], strict=True):
        alone = nn.functional.layer_norm(plain.permute(0, 2, 3, 1), plain.shape[1:2], eps=1e-6)
        torch.testing.assert_close(out, alone.permute(0, 3, 1, 2))


@pytest.mark.parametrize("out_indices", [None, (0, 2), (1,), [0]], ids=str)
@pytest.mark.parametrize("options", [{}, {"region": REGION, "batch_norm": "frozen"}, {"norms": False}], ids=str)
def test_every_parameter_gets_a_gradient(out_indices, options):
    backbone = bra.Backbone(bra.BiFormer(CONFIG), out_indices=out_indices, **options).train()
    sum(out.sin().sum() for out in backbone(torch.randn(3, 3, *BATCH), SIZES)).backward()
    without = [name for name, parameter in backbone.named_parameters() if parameter.grad is None]
    assert not without, f"parallel training fails on what is never used: {without}"


@pytest.mark.parametrize("size", [(48, 80), (53, 71)])
@pytest.mark.parametrize("out_indices", [None, (0, 2), (1,)], ids=str)
def test_says_what_the_maps_are(size, out_indices):
    _, backbone = make(out_indices=out_indices, region=REGION)
    maps = backbone(torch.randn(2, 3, *size, dtype=torch.float64))
    assert backbone.out_indices == (out_indices or (0, 1, 2))
    expected = [
        (2, c, -(-size[0] // s), -(-size[1] // s)) for c, s in zip(backbone.channels, backbone.reduction, strict=True)
    ]
    assert [tuple(out.shape) for out in maps] == expected
    with torch.device("meta"):
        tiny = bra.Backbone(bra.biformer_tiny())
    assert tiny.channels == (64, 128, 256, 512) and tiny.reduction == (4, 8, 16, 32)


def test_regions_have_one_size_and_their_number_follows_the_images():
    _, backbone = make(region=REGION)
    for size, grid in (((72, 48), (3, 2)), ((73, 1), (4, 1)), ((24, 120), (1, 5))):
        with bra.record_routes(backbone) as routes:
            backbone(torch.randn(1, 3, *size, dtype=torch.float64))
        assert {module.grid for module in bra_layers(backbone).values()} == {grid}
        regions = grid[0] * grid[1]
        assert [len(of.index[0]) for of in routes] == [regions] * 3
        assert [of.index.shape[2] for of in routes] == [1, min(3, regions), min(3, regions)]


def test_frozen_batch_norm_stays_in_evaluation():
    model = bra.BiFormer(CONFIG)
    frozen = bra.Backbone(model, batch_norm="frozen", region=REGION).train()
    norms = [module for module in frozen.modules() if isinstance(module, nn.BatchNorm2d)]
    before = [norm.running_mean.clone() for norm in norms]
    images = torch.randn(3, 3, *BATCH)
    frozen(images, SIZES)
    assert len(norms) == 4 and frozen.stages[0].training and not any(norm.training for norm in norms)
    assert all(torch.equal(norm.running_mean, old) for norm, old in zip(norms, before, strict=True))
    trained = bra.Backbone(model, region=REGION).train()
    trained(images, SIZES)
    assert all(norm.training for norm in norms) and not torch.equal(norms[0].running_mean, before[0])


def test_it_shares_the_models_weights_and_precision():
    model = bra.BiFormer(CONFIG).bfloat16().eval()
    backbone = bra.Backbone(model, out_indices=(1,))
    assert not backbone.training and all(p.dtype == torch.bfloat16 for p in backbone.parameters())
    shared = {name: value for name, value in backbone.named_parameters() if not name.startswith("norms.")}
    own = dict(model.named_parameters())
    assert shared and all(value is own[name] for name, value in shared.items())
    assert not any(name.startswith(("stages.2", "downsample.2", "norm.", "head.")) for name in shared)


def test_gradient_checkpointing_gives_the_same_gradients():
    found = []
    for stages in ((), (0, 1, 2)):
        torch.manual_seed(0)
        _, backbone = make(replace(CONFIG, checkpoint_stages=stages), region=REGION, batch_norm="frozen")
        sum(out.sin().sum() for out in backbone.train()(padded(1.0), SIZES)).backward()
        found.append([parameter.grad for parameter in backbone.parameters()])
    torch.testing.assert_close(*found, rtol=0, atol=1e-9)


def test_checkpoints_are_not_recomputed_with_the_grid_of_other_images():
    """Grids (2, 4) and (4, 2) fit the same maps equally well: without the error the gradients would be wrong, silently.

    If they do not, PyTorch may tell it by the shapes, in words that do not help.
    """
    _, backbone = make(replace(CONFIG, checkpoint_stages=(0, 1, 2)), region=48)
    images = torch.randn(1, 3, 96, 192, dtype=torch.float64)
    loss = sum(out.sin().sum() for out in backbone.train()(images))
    backbone(images)
    backbone(images.mT)
    with pytest.raises(RuntimeError, match=r"the grid was \(2, 4\) and is now \(4, 2\): .* call backward before"):
        loss.backward()


def test_sync_batch_norm_keeps_names_and_stays_frozen():
    backbone = bra.Backbone(bra.BiFormer(CONFIG), region=REGION, batch_norm="frozen")
    names, maps = list(backbone.state_dict()), backbone.eval()(torch.ones(1, 3, *BATCH))
    found = nn.SyncBatchNorm.convert_sync_batchnorm(backbone).train()
    assert found is backbone and list(found.state_dict()) == names
    norms = [module for module in found.modules() if isinstance(module, nn.SyncBatchNorm)]
    assert len(norms) == 4 and not any(norm.training for norm in norms)
    for a, b in zip(found(torch.ones(1, 3, *BATCH)), maps, strict=True):
        torch.testing.assert_close(a, b)
    trained = bra.Backbone(bra.BiFormer(CONFIG), region=REGION)
    trained = nn.SyncBatchNorm.convert_sync_batchnorm(trained.eval()).train()
    assert all(norm.training for norm in trained.modules() if isinstance(norm, nn.SyncBatchNorm))


def test_the_explorer_shows_a_backbone():
    """An image that regions do not divide is shown as it is looked at, with its padding."""
    backbone, image = make(region=REGION)[1].float(), torch.rand(3, 53, 71)
    explorer = bra.Explorer.from_model(backbone, image)
    assert [view.grid for view in explorer.views] == [(3, 3)] * 3
    assert [view.size for view in explorer.views] == [(18, 18), (9, 9), (9, 9)]


@pytest.mark.slow
@pytest.mark.parametrize("what", ["graphs_of_backbone", "parallel_backbone"])
def test_compiles_exports_and_trains_in_parallel(what):
    """In processes of their own, where shape checks are off."""
    environment = os.environ | {"JAXTYPING_DISABLE": "1", "PYTHONPATH": str(ROOT)}
    script = [sys.executable, str(ROOT / "tests" / "support" / "deployment.py"), what]
    done = subprocess.run(script, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


def test_no_images_give_empty_maps():
    assert bra.Backbone(bra.BiFormer(CONFIG).eval())(torch.zeros(0, 3, 48, 48), [])[0].shape == (0, 8, 12, 12)


@pytest.mark.usefixtures("unchecked")
@pytest.mark.parametrize(
    "options, message",
    [
        ({"out_indices": (1, 0)}, r"out_indices must be rising numbers of stages, from 0 to 2, but are \(1, 0\)"),
        ({"out_indices": (1, 1)}, r"but are \(1, 1\)"),
        ({"out_indices": ()}, r"but are \(\)"),
        ({"out_indices": (-1,)}, r"but are \(-1,\)"),
        ({"out_indices": (1, 3)}, r"from 0 to 2, but are \(1, 3\)"),
        ({"region": 20}, "region must be a multiple of 8 pixels, the stride of the last routed stage, but is 20"),
        ({"region": 0}, "region must be a multiple of 8 pixels, .* but is 0"),
        ({"region": 6, "out_indices": (0,)}, "region must be a multiple of 4 pixels, .* but is 6"),
        ({"batch_norm": "sync"}, "batch_norm must be one of train, frozen, but is 'sync'"),
    ],
)
def test_says_what_is_wrong_with_an_argument(options, message):
    with pytest.raises(ValueError, match=message):
        bra.Backbone(bra.BiFormer(CONFIG), **options)


@pytest.mark.usefixtures("unchecked")
def test_says_what_is_wrong_with_images_or_sizes():
    backbone, images = bra.Backbone(bra.BiFormer(CONFIG), region=REGION), torch.zeros(2, 3, 32, 40)
    for sizes, found in (([(9, 9)], r"\(1, 2\) of torch.int64"), (torch.ones(2, 2), r"\(2, 2\) of torch.float32")):
        with pytest.raises(ValueError, match=rf"sizes must be whole .* of 2 images, \(2, 2\), not {found}"):
            backbone(images, sizes)
    for sizes in ([(32, 41), (9, 9)], [(9, 9), (33, 40)], torch.tensor([(9, 0), (9, 9)]), [(9, 9), (-1, 9)]):
        with pytest.raises(ValueError, match=r"sizes must be from \(1, 1\) to the images' \(32, 40\), but are \[\["):
            backbone(images, sizes)
    for several, kind in (([images[0], images[1]], "list"), (tuple(images), "tuple")):
        with pytest.raises(ValueError, match=f"images must be one tensor .*, not a {kind}: pad them and pass sizes to"):
            backbone(several)
    table = bra.BiFormer(replace(CONFIG, router=lambda grid, k: bra.TableRouter(bra.local_regions(grid, k))))
    with pytest.raises(ValueError, match="table must have one row a region, 4, but has 6"):
        bra.Backbone(table, region=REGION)(images)
