from dataclasses import replace

import pytest
import torch
from torch import nn

import bra
from bra.biformer import Block, DropPath, FullAttention


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


@pytest.mark.parametrize("size", [(32, 32), (37, 50), (1, 1)])
def test_pyramid_halves_at_every_stage(size):
    model = small().eval()
    maps = model.pyramid(torch.randn(2, 3, *size))
    strides = [4, 8, 16]
    assert [m.shape[1] for m in maps] == [8, 16, 24]
    assert [m.shape[2:] for m in maps] == [(-(-size[0] // s), -(-size[1] // s)) for s in strides]


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


def test_full_attention_is_multi_head_attention_with_a_head_scale_and_lce_of_its_input():
    full = FullAttention(12, 4).double()
    x = torch.randn(2, 3, 5, 12, dtype=torch.float64)
    plain = nn.MultiheadAttention(12, 4, bias=False, batch_first=True).double()
    plain.in_proj_weight.data, plain.out_proj.weight.data = full.qkv.weight, torch.eye(12, dtype=torch.float64)
    tokens = x.flatten(1, 2)
    expected = full.out(plain(tokens, tokens, tokens, need_weights=False)[0].view_as(x) + full.lce(x))
    torch.testing.assert_close(full(x), expected)
    assert full.qkv.bias is None


def test_a_block_adds_position_attention_and_mlp_to_its_input():
    block = Block(6, bra.BiLevelRoutingAttention(6, 2, (2, 2), 2), 3, 0.0).double()
    x = torch.randn(2, 6, 4, 6, dtype=torch.float64)
    y = (x + block.position(x)).permute(0, 2, 3, 1)
    y = y + block.attention(block.norm1(y))
    y = y + block.mlp(block.norm2(y))
    torch.testing.assert_close(block(x), y.permute(0, 3, 1, 2))
    assert block.norm1.eps == 1e-6 and block.position.groups == 6


def test_drop_path_drops_both_branches_of_a_block():
    block = Block(6, bra.BiLevelRoutingAttention(6, 2, (2, 2), 2), 3, drop_path=0.9999).train()
    x = torch.randn(2, 6, 4, 6)
    torch.testing.assert_close(block(x), x + block.position(x))


def test_drop_path_drops_whole_samples_in_training_only_and_keeps_the_mean():
    drop, x = DropPath(0.25), torch.ones(4000, 2, 3)
    assert torch.equal(drop.eval()(x), x)
    out = drop.train()(x)
    assert set(out.unique().tolist()) == {0.0, torch.tensor(1 / 0.75).item()}
    assert (out == out[:, :1, :1]).all(), "a sample is kept or dropped as a whole"
    assert abs(out.mean().item() - 1) < 0.05


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
    assert abs(small().head.weight.std().item() - 0.02) < 0.006


@pytest.mark.usefixtures("unchecked")
def test_says_what_is_wrong():
    for images in (torch.zeros(3, 32, 32), torch.zeros(2, 1, 32, 32)):
        with pytest.raises(ValueError, match=r"images must be \(b c h w\) with 3 channels, but the shape is"):
            small()(images)
    with pytest.raises(ValueError, match="stem must end in the first stage's dim"):
        small(stem=(4, 9))
    for rate in (-0.1, 1.0):
        with pytest.raises(ValueError, match="drop_path must be at least 0 and below 1, but is"):
            small(drop_path=rate)
    with pytest.raises(ValueError, match="k must be between 1 and the number of regions, 2, but is 3"):
        small(grid=(1, 2))
    with pytest.raises(ValueError, match="dim must be divisible by heads"):
        FullAttention(10, 3)
