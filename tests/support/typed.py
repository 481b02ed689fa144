"""What a type checker must know of `bra`, and what it must complain about. `make lint` reads this; nothing runs it.

A comment `type: ignore` that nothing needs is an error: so each is a mistake that was found.
"""

from typing import assert_type

import torch
from torch import Tensor

import bra
from bra import Backbone, BiFormer, BiLevelRoutingAttention, BRA2d, Routes, SemanticFPN, TopKRouter

images, tokens = torch.zeros(1, 3, 32, 32), torch.zeros(1, 8, 8, 64)
layer, model = BiLevelRoutingAttention(64, 2, (4, 4), 4), bra.biformer_nano()
backbone = Backbone(model, out_indices=(0,), batch_norm="frozen")
head = SemanticFPN(backbone.channels, backbone.reduction, classes=3)

assert_type(layer(tokens), Tensor)
assert_type(BRA2d(dim=64, heads=2, grid=(4, 4), k=4, router=TopKRouter(4))(images), Tensor)
assert_type(layer.route(tokens), Routes)
assert_type(layer.route(tokens).index, Tensor)
assert_type(TopKRouter(4)(tokens[0], tokens[0]), Routes)
assert_type(model, BiFormer)
assert_type(model(images), Tensor)
assert_type(model.pyramid(images), list[Tensor])
assert_type(model.routes(images), list[Routes])
assert_type(backbone(images, sizes=[(30, 32)]), list[Tensor])
assert_type(head(backbone(images), (32, 32)), Tensor)
assert_type(bra.attend(tokens, tokens, tokens, layer.route(tokens).index, heads=2, way=bra.attend_fused), Tensor)
assert_type(bra.partition_regions(tokens, (4, 4)), Tensor)
assert_type(bra.pad_to_grid(tokens, (3, 3)), tuple[Tensor, Tensor])
assert_type(bra.attention_cost(bra.local_regions((4, 4), 4), tokens=4, channels=64), int)
with bra.record_routes(model) as routes:
    assert_type(routes, list[Routes])

BRA2d(64, 2, (4, 4), 4, head_count=2)  # type: ignore[call-arg]
BRA2d(64, 2, grid=4, k=4)  # type: ignore[arg-type]
Backbone(model, batch_norm="never")  # type: ignore[arg-type]
bra.attend(tokens, tokens, tokens, (4, 4), heads=2)  # type: ignore[arg-type]
bra.biformer_gigantic()  # type: ignore[attr-defined]
layer(tokens).pyramid()  # type: ignore[attr-defined]
