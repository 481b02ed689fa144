"""BiFormers by name in `timm.create_model`: with ``features_only=True`` a `Backbone` that says what timm asks it."""

from collections.abc import Sequence
from dataclasses import replace
from functools import partial

from torch import nn

from bra.biformer import MODELS, BiFormer
from bra.dense.backbone import Backbone

NAMES = ("tiny", "small", "base")


def register_with_timm() -> None:
    """From now on timm knows biformer_tiny, biformer_small and biformer_base; their options are those of `make`.

    >>> backbone = timm.create_model("biformer_tiny", features_only=True, out_indices=(1, 2, 3), region=64)
    >>> backbone.feature_info.channels()
    [128, 256, 512]

    timm's own wrappers of a whole model are not needed, and two cannot work on a `BiFormer`: `FeatureListNet` runs a
    model's children one after another, but here stages and what lies between them are two lists; `FeatureGetterNet`
    wants the method `forward_intermediates`. `FeatureHookNet` works.
    """
    from timm.models import is_model, register_model

    for name in NAMES:
        entry = partial(make, name)
        entry.__name__, entry.__module__ = f"biformer_{name}", __name__  # by which timm files it
        if not is_model(entry.__name__):
            register_model(entry)


def make(
    name: str,
    *,
    pretrained: bool = False,
    features_only: bool = False,
    out_indices: int | Sequence[int] | None = None,
    in_chans: int = 3,
    num_classes: int = 1000,
    drop_path_rate: float = 0.0,
    region: int | None = None,
    norms: bool = False,
    batch_norm: str = "train",
    pretrained_cfg: object = None,
    pretrained_cfg_overlay: object = None,
    cache_dir: object = None,
) -> nn.Module:
    """A BiFormer, or, with features_only, a `Backbone` with `feature_info`.

    out_indices: as timm takes them: how many of the last stages, or their numbers, from the end if negative; None: all.
    in_chans, num_classes, drop_path_rate: in_channels, num_classes, drop_path of `BiFormerConfig`. region, norms,
    batch_norm: as `Backbone` takes them; no norms by default, as timm's other backbones have none.
    pretrained_cfg, pretrained_cfg_overlay, cache_dir: where timm would look for weights. Raises ValueError for
    pretrained: there are none to be found.
    """
    if pretrained:
        raise ValueError("pretrained must be False: load a checkpoint with bra.official.load or load_state_dict")
    from timm.models import FeatureInfo

    changes = {"in_channels": in_chans, "num_classes": num_classes, "drop_path": drop_path_rate}
    model = BiFormer(replace(MODELS[name], **changes))
    if not features_only:
        return model
    stages = len(model.stages)
    chosen = range(stages) if out_indices is None else out_indices
    chosen = range(stages - chosen, stages) if isinstance(chosen, int) else [i % stages for i in chosen]
    backbone = Backbone(model, out_indices=chosen, region=region, norms=norms, batch_norm=batch_norm)
    backbone.feature_info = FeatureInfo(model.feature_info, backbone.out_indices)
    return backbone
