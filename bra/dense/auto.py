"""A `Backbone` as transformers know one: a config, a model that is saved and loaded, a place in `AutoBackbone`.

Needs transformers; `import bra` does not load this.
"""

from dataclasses import replace
from typing import Any

from jaxtyping import Float
from torch import Tensor, nn
from transformers import AutoBackbone, AutoConfig, PreTrainedConfig, PreTrainedModel
from transformers.backbone_utils import BackboneConfigMixin, BackboneMixin
from transformers.modeling_outputs import BackboneOutput

from bra.biformer import MODELS, BiFormer, BiFormerConfig, Stage
from bra.dense.backbone import Backbone


class BiFormerBackboneConfig(BackboneConfigMixin, PreTrainedConfig):
    """What a `BiFormerBackbone` is made from; all of it can be written as JSON.

    model: tiny, small or base (or nano, board). changes: other values of fields of its config, such as
    ``{"drop_path": 0.2}``; stages as lists ``[dim, depth, heads, k]``. region, norms, batch_norm: as `Backbone` takes
    them. out_indices: the stages from 0; None: all (transformers' own: the last). out_features: their names, "stage1"
    and so on.
    """

    model_type = "bra_biformer"

    def __init__(
        self,
        model: str = "tiny",
        changes: dict | None = None,
        region: int | None = None,
        norms: bool = True,
        batch_norm: str = "train",
        out_features: list[str] | None = None,
        out_indices: list[int] | None = None,
        **others: Any,
    ):
        super().__init__(**others)
        self.model, self.changes = model, changes or {}
        self.region, self.norms, self.batch_norm = region, norms, batch_norm
        self.stage_names = [f"stage{i + 1}" for i in range(len(self.biformer().stages))]
        if out_features is None and out_indices is None:
            out_indices = list(range(len(self.stage_names)))
        self.set_output_features_output_indices(out_features, out_indices)

    def biformer(self) -> BiFormerConfig:
        """The config of the BiFormer inside."""
        changes = {name: tuple(value) if isinstance(value, list) else value for name, value in self.changes.items()}
        if "stages" in changes:
            changes["stages"] = tuple(Stage(*stage) for stage in changes["stages"])
        return replace(MODELS[self.model], **changes)


class BiFormerBackbone(BackboneMixin, PreTrainedModel):
    """A `Backbone` that transformers' dense models can stand on; `save_pretrained` and `from_pretrained` work.

    Call its own `from_pretrained`: that of `AutoBackbone` asks the hub, and for a folder fails. Loaded weights lie
    channels-first; ``.to(memory_format=torch.channels_last)`` lays them as `BiFormer` does.
    """

    config_class = BiFormerBackboneConfig
    main_input_name = "pixel_values"
    has_attentions = False

    def __init__(self, config: BiFormerBackboneConfig):
        super().__init__(config)
        options = {"region": config.region, "norms": config.norms, "batch_norm": config.batch_norm}
        self.backbone = Backbone(BiFormer(config.biformer()), out_indices=tuple(config.out_indices), **options)
        self.num_features = [stage.dim for stage in config.biformer().stages]
        self.post_init()

    def _init_weights(self, module: nn.Module) -> None:
        """Nothing: transformers' own would overwrite the weights, with which BiFormer begins as its config says."""

    def forward(self, pixel_values: Float[Tensor, "b c h w"], **asked: object) -> BackboneOutput:
        """The maps (b c h w). What else transformers may ask for, hidden states or attention weights, there is not."""
        return BackboneOutput(feature_maps=tuple(self.backbone(pixel_values)))


def register_with_transformers() -> None:
    """From now on `AutoConfig`, `AutoBackbone` and every config with a `backbone_config` know "bra_biformer".

    >>> config = UperNetConfig(backbone_config=BiFormerBackboneConfig(region=64), use_auxiliary_head=False)
    >>> model = UperNetForSemanticSegmentation(config)

    `UperNetForSemanticSegmentation` and its `UperNetHead` cannot be trained on one image a batch: the pyramid pooling's
    batch norm would have a single value a channel.
    """
    AutoConfig.register(BiFormerBackboneConfig.model_type, BiFormerBackboneConfig, exist_ok=True)
    AutoBackbone.register(BiFormerBackboneConfig, BiFormerBackbone, exist_ok=True)
