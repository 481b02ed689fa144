"""Bi-level Routing Attention and BiFormer (Zhu et al., CVPR 2023), one small module a step."""

from typing import TYPE_CHECKING

from bra.adjacency import region_affinity, region_means
from bra.attention import attend
from bra.biformer import (
    BASE,
    FULL,
    NANO,
    SMALL,
    TINY,
    BiFormer,
    BiFormerConfig,
    Stage,
    biformer_base,
    biformer_nano,
    biformer_small,
    biformer_tiny,
)
from bra.dense import Backbone, SemanticFPN
from bra.gather import gather_regions
from bra.kernels import attend_flex, attend_fused
from bra.layer import BiLevelRoutingAttention, BRA2d, record_routes
from bra.lce import LocalContextEnhancement
from bra.partition import merge_regions, pad_to_grid, partition_regions
from bra.patterns import (
    all_regions,
    attention_cost,
    axial_regions,
    column_regions,
    dilated_regions,
    local_regions,
    random_regions,
    row_regions,
)
from bra.topk import Routes, TableRouter, TopKRouter, top_k_regions

__version__ = "0.1.0"
__all__ = [
    "BASE",
    "FULL",
    "NANO",
    "SMALL",
    "TINY",
    "BRA2d",
    "Backbone",
    "BiFormer",
    "BiFormerConfig",
    "BiLevelRoutingAttention",
    "LocalContextEnhancement",
    "Routes",
    "SemanticFPN",
    "Stage",
    "TableRouter",
    "TopKRouter",
    "all_regions",
    "attend",
    "attend_flex",
    "attend_fused",
    "attention_cost",
    "axial_regions",
    "biformer_base",
    "biformer_nano",
    "biformer_small",
    "biformer_tiny",
    "column_regions",
    "dilated_regions",
    "gather_regions",
    "local_regions",
    "merge_regions",
    "pad_to_grid",
    "partition_regions",
    "random_regions",
    "record_routes",
    "region_affinity",
    "region_means",
    "row_regions",
    "top_k_regions",
]


if TYPE_CHECKING:
    from bra.explorer import Explorer as Explorer
else:

    def __getattr__(name: str) -> type:
        """`bra.Explorer`, loaded when it is asked for: it alone needs more than torch, einops and jaxtyping."""
        if name == "Explorer":
            from bra.explorer import Explorer

            return Explorer
        raise AttributeError(f"module 'bra' has no attribute {name!r}")
