import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bra
from bra.block import Block, DropPath, FullAttention
from bra.partition import real_map


def test_full_attention_is_multi_head_attention_with_a_head_scale_and_lce_of_its_input():
    full = FullAttention(12, 4).double()
    x = torch.randn(2, 3, 5, 12, dtype=torch.float64)
    plain = nn.MultiheadAttention(12, 4, bias=False, batch_first=True).double()
    plain.in_proj_weight.data, plain.out_proj.weight.data = full.qkv.weight, torch.eye(12, dtype=torch.float64)
    tokens = x.flatten(1, 2)
    expected = full.out(plain(tokens, tokens, tokens, need_weights=False)[0].view_as(x) + full.lce(x))
    torch.testing.assert_close(full(x), expected)
    assert full.qkv.bias is None
    assert full.lce.conv.kernel_size == (5, 5) and FullAttention(12, 4, 3).lce.conv.kernel_size == (3, 3)
    bare = FullAttention(12, 4, lce_kernel=0).double()
    bare.load_state_dict({name: value for name, value in full.state_dict().items() if not name.startswith("lce.")})
    torch.testing.assert_close(bare(x), full.out(plain(tokens, tokens, tokens, need_weights=False)[0].view_as(x)))


def test_a_block_adds_position_attention_and_mlp_to_its_input():
    block = Block(6, bra.BiLevelRoutingAttention(6, 2, (2, 2), 2), 3, 0.0).double()
    x = torch.randn(2, 6, 4, 6, dtype=torch.float64)
    y = (x + block.position(x)).permute(0, 2, 3, 1)
    y = y + block.attention(block.norm1(y))
    wide, _, narrow = block.mlp
    y = y + narrow(F.gelu(wide(block.norm2(y))))
    assert (wide.in_features, wide.out_features, narrow.out_features) == (6, 18, 6)
    torch.testing.assert_close(block(x), y.permute(0, 3, 1, 2))
    assert block.norm1.eps == 1e-6 and block.position.groups == 6


def masked_and_poisoned(x):
    """A map (b h w c), a mask of one rectangle an image, and the map with something else where nothing is real."""
    real = real_map(torch.tensor([[2, 5], [3, 1]]), x.shape[1:3])
    return x, real, torch.where(real[..., None], x, 50 * torch.randn_like(x))


def test_full_attention_sees_real_tokens_only():
    full = FullAttention(12, 4).double()
    x, real, poisoned = masked_and_poisoned(torch.randn(2, 3, 5, 12, dtype=torch.float64))
    out = full(x, real)
    torch.testing.assert_close(out[:1, :2], full(x[:1, :2]), msg="an image is not what it is alone")
    torch.testing.assert_close(out[1:, :, :1], full(x[1:, :, :1]), msg="an image is not what it is alone")
    message = "a key, or the LCE, sees what is not real"
    torch.testing.assert_close(full(poisoned, real)[real], out[real], rtol=0, atol=1e-12, msg=message)
    assert full(x, real & False).isfinite().all(), "where nothing is real, something finite stands"


def test_the_position_code_of_a_block_sees_zeros_where_nothing_is_real():
    block = Block(6, FullAttention(6, 2, lce_kernel=0), 3, 0.0).double()
    x, real, poisoned = masked_and_poisoned(torch.randn(2, 3, 5, 6, dtype=torch.float64))
    x, poisoned = (each.permute(0, 3, 1, 2) for each in (x, poisoned))
    out, again = (block(each, real).permute(0, 2, 3, 1) for each in (x, poisoned))
    torch.testing.assert_close(again[real], out[real], rtol=0, atol=1e-12, msg="the position code sees padding")
    torch.testing.assert_close(block(x, real)[:1, :, :2], block(x[:1, :, :2]))
    assert again.isfinite().all()


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


def test_drop_path_draws_on_the_device_of_its_input():
    assert DropPath(0.5).train()(torch.empty(2, 3, 5, device="meta")).is_meta


@pytest.mark.usefixtures("unchecked")
def test_says_what_is_wrong():
    with pytest.raises(ValueError, match="dim must be divisible by heads, but dim is 10 and heads is 3"):
        FullAttention(10, 3)
