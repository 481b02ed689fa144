import json
import os
import re
import shutil
import subprocess
import sys
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest
import torch
from torch import nn

import bra
from bra.attention import attend_gathered
from bra.biformer import BOARD, PYRAMID
from bra.block import DropPath
from bra.look.calls import bra_layers
from bra.measure import multiply_adds

ROOT = Path(__file__).parent.parent


def small(**changes):
    """A BiFormer with every part of the big ones: two convolutions in the stem, routed stages, a full one."""
    config = bra.BiFormerConfig(
        stem=(4, 8),
        stages=(bra.Stage(8, 1, heads=2, k=1), bra.Stage(16, 2, heads=4, k=3), bra.Stage(24, 1, heads=8, k=bra.FULL)),
        grid=(2, 3),
        num_classes=5,
    )
    return bra.BiFormer(replace(config, **changes))


@pytest.mark.parametrize(
    ("make", "parameters"),
    [(bra.biformer_tiny, 13_142_760), (bra.biformer_small, 25_536_232), (bra.biformer_base, 56_804_968)],
)
def test_has_as_many_parameters_as_the_official_models(make, parameters):
    with torch.device("meta"):
        assert sum(p.numel() for p in make().parameters()) == parameters


def test_the_official_models_stages():
    assert [(s.dim, s.depth, s.heads, s.k) for s in bra.BASE.stages] == [
        (96, 4, 3, 1),
        (192, 4, 6, 4),
        (384, 18, 12, 16),
        (768, 4, 8, "full"),
    ]
    assert [s.depth for s in bra.TINY.stages] == [2, 2, 8, 2] and [s.depth for s in bra.SMALL.stages] == [4, 4, 18, 4]
    assert bra.TINY.grid == (7, 7) and bra.TINY.mlp_ratio == 3


@pytest.mark.parametrize("make", [bra.biformer_tiny, bra.biformer_small, bra.biformer_base, bra.biformer_nano])
def test_changes_replace_fields_of_a_published_shape(make):
    with torch.device("meta"):
        changed, usual = make(num_classes=3, grid=(5, 6)), make()
    assert changed.config == replace(usual.config, num_classes=3, grid=(5, 6)) != usual.config


def test_nano_cuts_images_of_32_pixels_into_regions_of_two_by_two_tokens():
    assert bra.NANO.grid == (4, 4) and bra.NANO.stages == (bra.Stage(64, 2, heads=2, k=4),)
    (index, affinity), *more = bra.biformer_nano().eval().routes(torch.zeros(1, 3, 32, 32))
    assert index.shape == (1, 16, 4) and affinity.shape == (1, 16, 16) and len(more) == 1
    assert bra.biformer_nano().pyramid(torch.zeros(2, 3, 32, 32))[0].shape == (2, 64, 8, 8)


def cells_seen(model, region):
    """The cells of a 4 x 4 board of which a pixel reaches the tokens of a region."""
    pixels = torch.randn(1, 3, 32, 32, requires_grad=True)
    tokens = bra.partition_regions(model.eval().pyramid(pixels)[-1].permute(0, 2, 3, 1), (4, 4))[0, region]
    (seen,) = torch.autograd.grad(tokens.square().sum(), pixels)
    per_cell = bra.partition_regions(seen.abs().permute(0, 2, 3, 1), (4, 4))[0].sum(dim=(1, 2))
    return set(per_cell.nonzero().flatten().tolist())


@pytest.mark.parametrize("config", [BOARD, PYRAMID], ids=["board", "board-pyramid"])
def test_on_the_board_networks_nothing_but_routing_carries_news_over_a_border(config):
    alone = torch.arange(16)[:, None]
    for region in (0, 5, 15):
        board = bra.BiFormer(replace(config, router=lambda grid, k: bra.TableRouter(alone)))
        assert cells_seen(board, region) == {region}
        nano = bra.biformer_nano(router=lambda grid, k: bra.TableRouter(alone))
        assert cells_seen(nano, region) > {region}, "nano's filters do look over the border: the test can tell"


@pytest.mark.parametrize("size", [(30, 32), (32, 33), (1, 1)])
def test_a_stem_that_does_not_overlap_refuses_what_it_would_cut_off(size):
    message = rf"multiples of 4 high and wide for a stem_kernel of 2, but the shape is \(1, 3, {size[0]}, {size[1]}\)"
    with pytest.raises(ValueError, match=message):
        bra.BiFormer(BOARD)(torch.zeros(1, 3, *size))
    with pytest.raises(ValueError, match="stem_kernel must be 2 or 3, but is 4"):
        replace(BOARD, stem_kernel=4)


@pytest.mark.parametrize("size", [(32, 32), (37, 50), (1, 1)])
def test_pyramid_halves_at_every_stage(size):
    model = small().eval()
    maps = model.pyramid(torch.randn(2, 3, *size))
    strides = [4, 8, 16]
    assert [m.shape[1] for m in maps] == [8, 16, 24]
    assert [m.shape[2:] for m in maps] == [(-(-size[0] // s), -(-size[1] // s)) for s in strides]


def test_stays_on_the_device_of_its_input():
    with torch.device("meta"):
        model = small(drop_path=0.5, checkpoint_stages=(1,))
    logits = model.to("meta").train()(torch.empty(2, 3, 37, 50, device="meta"))
    logits.sum().backward()
    assert logits.is_meta and all(parameter.grad.is_meta for parameter in model.parameters())
    model.reset_classifier(3)
    assert model.head.weight.is_meta


def test_logits_come_from_the_mean_of_the_last_map():
    model = small().eval()
    images = torch.randn(2, 3, 37, 50)
    expected = model.head(model.norm(model.pyramid(images)[-1]).mean(dim=(2, 3)))
    torch.testing.assert_close(model(images), expected, rtol=0, atol=0)
    assert model(images).shape == (2, 5)


def test_routes_come_from_every_routed_block_in_order():
    routes = small().eval().routes(torch.randn(2, 3, 37, 50))
    assert [r.index.shape for r in routes] == [(2, 6, 1), (2, 6, 3), (2, 6, 3)]


def test_an_image_does_not_depend_on_its_batch():
    model, images = small().eval().double(), torch.randn(3, 3, 37, 50, dtype=torch.float64)
    torch.testing.assert_close(model(images)[1:2], model(images[1:2]), rtol=0, atol=1e-12)


def test_drop_path_rises_linearly_over_the_blocks():
    rates = [m.rate for m in small(drop_path=0.3).modules() if isinstance(m, DropPath)]
    assert rates == pytest.approx([0, 0.1, 0.2, 0.3])


def test_router_and_attention_are_passed_to_every_routed_layer():
    asked = []

    def router(grid, k):
        asked.append((grid, k))
        return bra.TableRouter(bra.local_regions(grid, k))

    def spy(*args, **kwargs):
        calls.append(kwargs)
        return bra.attend(*args, **kwargs)

    calls = []
    model = small(router=router, lce_kernel=0, attend=spy)
    model(torch.zeros(2, 3, 24, 24))
    assert len(calls) == 3
    assert asked == [((2, 3), 1), ((2, 3), 3), ((2, 3), 3)]
    assert not any(isinstance(m, bra.LocalContextEnhancement) for m in model.modules())


def test_nano_starts_with_equal_queries_and_keys_and_the_official_ones_do_not():
    for model, equal in ((bra.biformer_nano(), True), (small(), False)):
        layer = next(m for m in model.modules() if isinstance(m, bra.BiLevelRoutingAttention))
        q, k, _ = layer.qkv.weight.chunk(3)
        assert torch.equal(q, k) == equal
    assert abs(bra.biformer_nano().stages[0][0].mlp[0].weight.std().item() - 64**-0.5) < 0.02
    for model in (bra.biformer_nano(), small()):
        assert all((m.bias == 0).all() for m in model.modules() if isinstance(m, nn.Linear) and m.bias is not None)
    assert abs(small().head.weight.std().item() - 0.02) < 0.006


@pytest.mark.usefixtures("unchecked")
def test_says_what_is_wrong():
    for images in (torch.zeros(3, 32, 32), torch.zeros(2, 1, 32, 32)):
        with pytest.raises(ValueError, match=r"images must be \(b c h w\) with 3 channels, but the shape is"):
            small()(images)
    for several in ([torch.zeros(3, 32, 32)] * 2, None):
        kind = type(several).__name__
        with pytest.raises(ValueError, match=rf"one tensor \(b c h w\), not a {kind}: .* sizes to bra.dense.Backbone"):
            small()(several)
    whole = torch.zeros(2, 3, 32, 32, dtype=torch.uint8)
    with pytest.raises(ValueError, match=r"images must be floating point, such as uint8 / 255 .* but are torch.uint8"):
        small()(whole)
    assert small()(whole / 255).shape == (2, 5), "as that error says"
    for shape in ((2, 3, 32, 0), (2, 3, 0, 32)):
        with pytest.raises(ValueError, match="images must hold at least one pixel, but the shape is"):
            small()(torch.zeros(shape))
    for make in (lambda: small().reset_classifier(-1), lambda: small(num_classes=-1)):
        with pytest.raises(ValueError, match="num_classes must be at least 0, but is -1"):
            make()
    with pytest.raises(ValueError, match=r"checkpoint_stages must be among 0 to 2, but are \(3,\)"):
        small(checkpoint_stages=(3,))
    with pytest.raises(ValueError, match="stem must end in the first stage's dim"):
        small(stem=(4, 9))
    for rate in (-0.1, 1.0):
        with pytest.raises(ValueError, match="drop_path must be at least 0 and below 1, but is"):
            small(drop_path=rate)
    with pytest.raises(ValueError, match="k must be between 1 and the number of regions, 2, but is 3"):
        small(grid=(1, 2))


def test_feature_info_says_what_the_pyramid_gives():
    model = small().eval()
    maps = model.pyramid(torch.randn(1, 3, 48, 80))
    for info, stage in zip(model.feature_info, maps, strict=True):
        assert stage.shape == (1, info["num_chs"], 48 // info["reduction"], 80 // info["reduction"])
        assert isinstance(model.get_submodule(info["module"]), nn.Sequential)
    with torch.device("meta"):
        info = bra.biformer_tiny().feature_info
    assert [(i["num_chs"], i["reduction"]) for i in info] == [(64, 4), (128, 8), (256, 16), (512, 32)]


@pytest.mark.parametrize("stages", [(), (0, 1, 2)], ids=["kept", "recomputed"])
def test_hooks_on_the_modules_that_feature_info_names_see_the_maps(stages):
    model, seen = small(checkpoint_stages=stages).train(), []
    for info in model.feature_info:
        model.get_submodule(info["module"]).register_forward_hook(lambda stage, inputs, out: seen.append(out))
    maps = model.pyramid(torch.randn(2, 3, 37, 50))
    assert len(seen) == len(maps), "pyramid must call its stages as modules, or hooks on them never fire"
    assert all(a is b for a, b in zip(seen, maps, strict=True))


def test_reset_classifier():
    model, images = small().double().eval(), torch.randn(2, 3, 32, 40, dtype=torch.float64)
    model.reset_classifier(11)
    assert model(images).shape == (2, 11) and model.config.num_classes == 11
    assert not model.head.training and model.head.weight.dtype == torch.float64
    assert (model.head.bias == 0).all() and abs(model.head.weight.std().item() - 0.02) < 0.004
    model.reset_classifier(0)
    expected = model.norm(model.pyramid(images)[-1]).mean(dim=(2, 3))
    torch.testing.assert_close(model(images), expected, rtol=0, atol=0)
    model.norm = nn.Identity()
    model.reset_classifier(3)
    assert model(images).shape == (2, 3) and model.head.weight.dtype == torch.float64, "whatever norm stands there"
    torch.testing.assert_close(small(num_classes=0).eval()(images.float()).shape, torch.Size([2, 24]))


@pytest.mark.parametrize("stages", [(0,), (1, 2), (0, 1, 2)])
def test_checkpointed_stages_give_the_same_gradients_with_less_kept(stages):
    def run(checkpoint_stages):
        torch.manual_seed(0)
        model = small(drop_path=0.3, checkpoint_stages=checkpoint_stages).double().train()
        kept = []
        with torch.autograd.graph.saved_tensors_hooks(lambda x: kept.append(x.nbytes) or x, lambda x: x):
            loss = model(images).square().sum()
        loss.backward()
        return [p.grad for p in model.parameters()], sum(kept)

    images = torch.randn(4, 3, 48, 40, dtype=torch.float64)
    (expected, kept), (grads, less) = run(()), run(stages)
    torch.testing.assert_close(grads, expected, rtol=0, atol=1e-9)
    assert less < 0.8 * kept


def test_nothing_is_computed_again_where_nothing_is_trained(monkeypatch):
    model, images = small(checkpoint_stages=(0, 1, 2)), torch.randn(2, 3, 37, 50)
    monkeypatch.setattr("bra.biformer.checkpoint", lambda run, *given, use_reentrant: calls.append(run) or run(*given))
    calls = []
    model.eval()(images)
    assert not calls
    model.train()(images)
    assert len(calls) == 4


def test_channels_last_images_change_nothing():
    model, images = small().double().eval(), torch.randn(2, 3, 37, 50, dtype=torch.float64)
    torch.testing.assert_close(model(images.to(memory_format=torch.channels_last)), model(images), rtol=0, atol=1e-12)
    for module in model.modules():  # a depthwise filter lies as both orders have it
        assert not isinstance(module, nn.Conv2d) or module.weight.is_contiguous(memory_format=torch.channels_last)
    assert not model.downsample[1][0].weight.is_contiguous()


@pytest.mark.parametrize("size", [(32, 32), (33, 32), (37, 50), (64, 97), (1, 1)])
def test_every_pixel_counts_and_no_padded_token_does(size, monkeypatch):
    model = small(grid=(3, 2)).double().eval()
    images = torch.randn(1, 3, *size, dtype=torch.float64, requires_grad=True)
    logits = model(images)
    logits.square().sum().backward()
    assert (images.grad.abs().sum(dim=1) > 0).all(), "a real pixel changes nothing"

    def poisoned(x, grid):
        padded, valid = bra.pad_to_grid(x, grid)
        return torch.where(valid[None, :, :, None], padded, 1e3), valid

    monkeypatch.setattr("bra.layer.pad_to_grid", poisoned)
    torch.testing.assert_close(model(images), logits, rtol=0, atol=1e-12, msg="a padded token changes something")


@pytest.mark.parametrize("size", [(48, 64), (24, 32)])
def test_where_the_grid_fits_masking_changes_nothing(size, monkeypatch):
    model, images = small().double().eval(), torch.randn(2, 3, *size, dtype=torch.float64)
    exact, cut = model(images), bra.BiLevelRoutingAttention.cut

    def masked(layer, x, real):
        regions, valid, padded = cut(layer, x, real)
        return regions, torch.ones(regions.shape[1:3], dtype=torch.bool) if valid is None else valid, padded

    monkeypatch.setattr(bra.BiLevelRoutingAttention, "cut", masked)
    torch.testing.assert_close(model(images), exact, rtol=0, atol=1e-12)


def test_routes_in_float32_under_bfloat16_autocast():
    seen = []

    class Spy(bra.TopKRouter):
        def forward(self, q_means, k_means, valid_regions=None):
            seen.append((q_means.dtype, k_means.dtype))
            routes = super().forward(q_means, k_means, valid_regions)
            seen.append((routes.affinity.dtype,) * 2)
            return routes

    model = small(router=lambda grid, k: Spy(k)).train()
    images = torch.randn(2, 3, 37, 50)
    with torch.autocast("cpu", torch.bfloat16):
        logits = model(images)
        logits.float().square().sum().backward()
    assert logits.dtype == torch.bfloat16 and set(seen) == {(torch.float32,) * 2}
    assert all(p.grad.dtype == torch.float32 and p.grad.isfinite().all() for p in model.parameters())


def test_multiply_adds_at_224_are_the_papers():
    by_definition = partial(bra.attend, way=attend_gathered)  # the faster ways may multiply more
    for make, billions in ((bra.biformer_tiny, 2.2), (bra.biformer_small, 4.5), (bra.biformer_base, 9.8)):
        with torch.device("meta"):
            model, image = make(attend=by_definition).eval(), torch.empty(1, 3, 224, 224)
        assert round(multiply_adds(lambda: model(image)) / 1e9, 1) == billions  # noqa: B023


def run_deployment(what):
    """In a process of its own: the shape checks of these tests are in the way of compilers."""
    environment = os.environ | {"JAXTYPING_DISABLE": "1", "PYTHONPATH": str(ROOT), "OMP_NUM_THREADS": "2"}
    script = [sys.executable, str(ROOT / "tests" / "support" / "deployment.py"), what]
    done = subprocess.run(script, capture_output=True, text=True, env=environment, cwd=ROOT, check=False)
    assert done.returncode == 0, done.stderr[-3000:]


@pytest.mark.slow
@pytest.mark.skipif(shutil.which("g++") is None, reason="torch.compile needs a C++ compiler")
def test_compiles_into_one_graph_for_inference_and_training():
    run_deployment("compile")


@pytest.mark.parametrize("what", ["export", pytest.param("onnx", marks=pytest.mark.slow)])
def test_exports_with_any_batch_size_and_as_onnx_with_any_image_size(what):
    run_deployment(what)


@pytest.mark.slow
def test_models_of_every_kind_can_be_copied_saved_whole_and_sent_to_another_process():
    run_deployment("whole")


def test_no_images_give_no_logits():
    assert small().eval()(torch.zeros(0, 3, 32, 32)).shape[0] == 0


def test_a_grid_that_is_set_is_that_of_every_layer():
    model = small().eval()
    k, before = max(layer.k for layer in bra_layers(model).values()), model.grid
    model.grid = (5, 3)
    assert model.grid == model.config.grid == (5, 3) != before
    assert all(routes.affinity.shape[1] == 15 for routes in model.routes(torch.randn(1, 3, 60, 45)))
    for grid in ((1, 2), (2, 1)):
        with pytest.raises(ValueError, match=f"k must be between 1 and the number of regions, 2, but is {k}"):
            model.grid = grid
    with pytest.raises(ValueError, match="grid must be"):
        model.grid = (0, 3)
    assert model.grid == (5, 3) and {layer.grid for layer in bra_layers(model).values()} == {(5, 3)}


def test_the_hubs_mixin_of_readme_saves_and_loads(tmp_path):
    (block,) = (
        b
        for b in re.findall(r"```python\n(.*?)```", (ROOT / "book" / "own_model.md").read_text(), re.S)
        if "HubBiFormer" in b
    )
    space = {}
    exec(block, space)
    saved = space["HubBiFormer"]("nano", num_classes=5).eval()
    saved.save_pretrained(tmp_path)
    assert json.loads((tmp_path / "config.json").read_text()) == {"name": "nano", "num_classes": 5}
    images = torch.randn(2, 3, 32, 32)
    assert torch.equal(space["HubBiFormer"].from_pretrained(tmp_path).eval()(images), saved(images))
