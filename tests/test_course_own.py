"""While an answer runs, `bra`'s own functions raise, and afterwards they work."""

import pytest
import torch

import bra
from bra.course.own import by_hand, without
from bra.gather import gather_regions
from bra.layer import BiLevelRoutingAttention
from bra.topk import top_k_regions as imported_before

NAMES = ("bra.topk.top_k_regions", "bra.layer.BiLevelRoutingAttention")


def test_own_functions_raise_wherever_they_were_imported_and_work_afterwards():
    affinity = torch.randn(1, 3, 3)
    before = imported_before(affinity, 2)
    layer = BiLevelRoutingAttention(4, 1, (2, 2), 1)
    with without(NAMES):
        for call in (
            lambda: imported_before(affinity, 2),
            lambda: bra.top_k_regions(affinity, 2),
            lambda: BiLevelRoutingAttention(4, 1, (2, 2), 1),
            lambda: layer(torch.zeros(1, 4, 4, 4)),
        ):
            with pytest.raises(RuntimeError, match="bra's own"):
                call()
        assert gather_regions(torch.zeros(1, 3, 2, 1), before).shape == (1, 3, 4, 1)
    assert torch.equal(imported_before(affinity, 2), before)
    assert layer(torch.zeros(1, 4, 4, 4)).shape == (1, 4, 4, 4)


def test_they_work_again_after_an_error_and_an_answer_of_ones_own_is_not_disturbed():
    with pytest.raises(RuntimeError, match="Write yours"):
        by_hand(imported_before, NAMES)(torch.randn(1, 3, 3), 2)
    assert by_hand(lambda a, k=1: a + k, NAMES)(3, k=4) == 7
    assert imported_before(torch.randn(1, 3, 3), 2).shape == (1, 3, 2)
