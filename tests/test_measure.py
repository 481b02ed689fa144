import time

import pytest
import torch
import torch.nn.functional as F
from torch import nn

from bra import measure


def test_the_largest_tensor_is_found_with_its_operation():
    a, b = torch.randn(5, 3), torch.randn(3, 7)
    with measure.LargestTensor() as largest:
        (a @ b).sum()
    assert largest.bytes == 5 * 7 * 4
    assert largest.operation.startswith("aten.mm")


def test_the_largest_tensor_of_a_backward_pass_is_seen():
    x = torch.randn(2, 3, requires_grad=True)
    y = x[:1, :1].sum()
    with measure.LargestTensor() as largest:
        y.backward()
    assert largest.bytes >= 2 * 3 * 4, "the backward of a slice fills zeros of the input's size"


def test_a_view_is_no_new_memory():
    x = torch.randn(1000)
    with measure.LargestTensor() as largest:
        x[:1].reshape(1, 1).expand(3, 1).sum()
    assert largest.bytes < 100
    with measure.LargestTensor() as largest:
        torch.eye(3).to_sparse()
    assert largest.bytes > 0


@pytest.mark.parametrize("m", [1, 4])
def test_multiply_adds_are_those_of_the_sums(m):
    assert measure.multiply_adds(lambda: torch.randn(m, 3) @ torch.randn(3, 5)) == m * 3 * 5
    conv = nn.Conv2d(4, 4, 3, padding=1, groups=4)
    assert measure.multiply_adds(lambda: conv(torch.randn(m, 4, 6, 7))) == m * 4 * 6 * 7 * 9
    q, k = torch.randn(m, 2, 5, 8), torch.randn(m, 2, 11, 8)
    assert measure.multiply_adds(lambda: F.scaled_dot_product_attention(q, k, k)) == m * 2 * 2 * 5 * 11 * 8


def test_medians_are_taken_in_turns_after_a_warm_up():
    calls = []
    waits = {"fast": iter([0.05, 0.001, 0.001, 0.05]), "slow": iter([0.02] * 4)}

    def run(name):
        calls.append(name)
        time.sleep(next(waits[name]))

    found = measure.median_seconds({"fast": lambda: run("fast"), "slow": lambda: run("slow")}, repeats=3)
    assert calls == ["fast", "slow"] * 4
    assert found["fast"] < 0.02 <= found["slow"]
