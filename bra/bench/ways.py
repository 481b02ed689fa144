"""Other ways to compute what `bra` computes, to measure against."""

import importlib
import sys
import types
import warnings
from pathlib import Path

import torch
import torch.nn.functional as F
from einops import rearrange
from torch import Tensor, nn

from bra.biformer import FULL, BiFormerConfig
from bra.block import DropPath

OFFICIAL_NEEDS = {  # modules that the official code imports for training or not at all, and what is read from them
    "timm.models": {"register_model": lambda function: function},
    "timm.models.layers": {
        "DropPath": DropPath,
        "to_2tuple": lambda x: (x, x),
        "trunc_normal_": nn.init.trunc_normal_,
    },
    "timm.models.vision_transformer": {"_cfg": dict},
    "fairscale.nn.checkpoint": {"checkpoint_wrapper": lambda module: module},
}


def expanded_attend(q, k, v, index, heads, scale=None, valid=None) -> Tensor:
    """What `attend` does, by the official code's way: gather from keys and values expanded to (b r r t c).

    Forward, the expanded tensor costs nothing. Backward, its gradient is filled in: r times the memory of the input.
    Padded tokens are not masked.
    """
    b, r, t, c = q.shape
    kv = torch.cat([k, v], dim=-1)[:, None].expand(-1, r, -1, -1, -1)
    kv = kv.gather(2, index[..., None, None].expand(-1, -1, -1, t, 2 * c))  # b r k t 2c
    keys, values = (rearrange(x, "b r n t (m d) -> (b r) m (n t) d", m=heads) for x in kv.chunk(2, dim=-1))
    queries = rearrange(q, "b r t (m d) -> (b r) m t d", m=heads)
    scale = (c // heads) ** -0.5 if scale is None else scale
    weights = (scale * queries @ keys.mT).softmax(dim=-1)
    return rearrange(weights @ values, "(b r) m t d -> b r t (m d)", b=b)


def dense_attend(q, k, v, index, heads, scale=None, valid=None) -> Tensor:
    """Attention of every token to every token, with PyTorch's fused kernel; `index` and `valid` are not looked at."""
    r = q.shape[1]
    q, k, v = (rearrange(x, "b r t (m d) -> b m (r t) d", m=heads) for x in (q, k, v))
    out = F.scaled_dot_product_attention(q, k, v, scale=scale)
    return rearrange(out, "b m (r t) d -> b r t (m d)", r=r)


def official_model(clone: Path, config: BiFormerConfig) -> nn.Module:
    """The official BiFormer of `config`, from a clone of the official repository. Its code is executed.

    Packages that it imports and that are not here (timm, fairscale) are stood in for by what it needs of them: a model
    without gradient checkpointing. Raises FileNotFoundError if there is no models/biformer.py in `clone`.
    """
    require_clone(clone)
    for name, content in OFFICIAL_NEEDS.items():
        stand_in(name, content)
    sys.path.insert(0, str(clone))
    try:
        official = importlib.import_module("models.biformer")
    finally:
        sys.path.remove(str(clone))
    dims = [stage.dim for stage in config.stages]
    return official.BiFormer(
        depth=[stage.depth for stage in config.stages],
        embed_dim=dims,
        qk_dims=dims,
        topks=[-2 if stage.k == FULL else stage.k for stage in config.stages],
        n_win=config.grid[0],
        mlp_ratios=[config.mlp_ratio] * len(dims),
        head_dim=config.stages[0].dim // config.stages[0].heads,
        kv_downsample_mode="identity",
        kv_per_wins=[-1] * len(dims),
        side_dwconv=config.lce_kernel,
        before_attn_dwconv=3,
        layer_scale_init_value=-1,
        auto_pad=True,
    )


def require_clone(clone: Path) -> None:
    """Raise FileNotFoundError unless `clone` holds the official models."""
    if not (clone / "models" / "biformer.py").exists():
        raise FileNotFoundError(f"{clone} is no clone of the official repository: it has no models/biformer.py")


def stand_in(name: str, content: dict) -> None:
    """Make `import name` work, if it does not, with nothing but `content` in it."""
    try:
        with warnings.catch_warnings(action="ignore", category=FutureWarning):  # timm's, about names that it has moved
            importlib.import_module(name)
    except ImportError:
        for i in range(name.count(".") + 1):
            part = ".".join(name.split(".")[: i + 1])
            sys.modules.setdefault(part, types.ModuleType(part))
        vars(sys.modules[name]).update(content)
