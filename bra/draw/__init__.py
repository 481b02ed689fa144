"""The figures' one home: matplotlib pictures with one palette, readable in greyscale, each with alternative text.

Every function returns a `Picture`: the figure, and a sentence or two that say what it shows to a reader who
does not see it.
"""

from bra.draw.flow import bra_map, data_flow
from bra.draw.marks import boxed, class_maps, marked_boards
from bra.draw.picture import Picture
from bra.draw.plots import bars, curves, router_comparison, scaling, training_curves
from bra.draw.regions import (
    heat_maps,
    images,
    outline_region,
    region_tables,
    routed_boards,
    routed_patches,
    routed_photos,
    show_image,
)
from bra.draw.routes import readers, routed_stages, routing, routing_rollout, token_attention
from bra.draw.shades import matrices
from bra.draw.statistics import routing_statistics
from bra.draw.tokens import token_grids, token_rows

__all__ = [
    "Picture",
    "bars",
    "boxed",
    "bra_map",
    "class_maps",
    "curves",
    "data_flow",
    "heat_maps",
    "images",
    "marked_boards",
    "matrices",
    "outline_region",
    "readers",
    "region_tables",
    "routed_boards",
    "routed_patches",
    "routed_photos",
    "routed_stages",
    "router_comparison",
    "routing",
    "routing_rollout",
    "routing_statistics",
    "scaling",
    "show_image",
    "token_attention",
    "token_grids",
    "token_rows",
    "training_curves",
]
