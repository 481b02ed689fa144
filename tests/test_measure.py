import datetime
import json
from types import SimpleNamespace

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


def test_each_of_several_results_is_seen():
    x = torch.randn(7)
    with measure.LargestTensor() as largest:
        values, indices = torch.sort(x)
    assert values.nbytes == 7 * 4 and largest.bytes == indices.nbytes == 7 * 8
    assert largest.operation.startswith("aten.sort")


def test_an_operation_keeps_its_keywords():
    with measure.LargestTensor() as largest:
        x = torch.ones(7, dtype=torch.float64)
    assert (x.dtype, largest.bytes) == (torch.float64, 7 * 8)
    a, kept = torch.randn(5), torch.empty(5)
    with measure.LargestTensor() as largest:
        torch.add(a, a, out=kept)
    assert largest.bytes == 0, "what was given to write into is no new memory"
    assert torch.equal(kept, 2 * a)


def test_the_first_of_equally_large_tensors_is_named():
    x = torch.rand(11)
    with measure.LargestTensor() as largest:
        x.exp().log()
    assert largest.operation.startswith("aten.exp")


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


def test_medians_are_taken_in_turns_after_a_warm_up(monkeypatch):
    calls, now = [], [0.0]
    waits = {"fast": iter([100.0, 30.0, 1.0, 2.0]), "slow": iter([0.0, 7.0, 5.0, 6.0])}
    monkeypatch.setattr(measure, "time", SimpleNamespace(perf_counter=lambda: now[0]))

    def run(name):
        calls.append(name)
        now[0] += next(waits[name])

    found = measure.median_seconds({"fast": lambda: run("fast"), "slow": lambda: run("slow")}, repeats=3)
    assert calls == ["fast", "slow"] * 4
    assert found == {"fast": 2, "slow": 6}, "not the means, 11 and 6, nor with the warm-up, 16 and 5.5"


def test_nine_times_are_taken_unless_asked_otherwise():
    calls = []
    measure.median_seconds({"a": lambda: calls.append(1)})
    assert len(calls) == 1 + 9


def test_the_clock_waits_for_the_accelerator(monkeypatch):
    events, ticks = [], iter([3.0, 5.5, 7.0, 7.5])

    def clock():
        events.append("clock")
        return next(ticks)

    monkeypatch.setattr(measure, "time", SimpleNamespace(perf_counter=clock))
    monkeypatch.setattr(torch.cuda, "synchronize", lambda device: events.append(f"wait for {device}"))
    assert measure.seconds(lambda: events.append("run"), torch.device("cpu")) == 2.5
    assert events == ["clock", "run", "clock"]
    events.clear()
    assert measure.seconds(lambda: events.append("run"), torch.device("cuda")) == 0.5
    assert events == ["wait for cuda", "clock", "run", "wait for cuda", "clock"]
    devices, times = [], iter([1.0, 2.0])
    monkeypatch.setattr(measure, "seconds", lambda function, device: devices.append(device.type) or next(times))
    assert measure.median_seconds({"a": list}, repeats=1, device="cuda") == {"a": 2}
    assert devices == ["cuda", "cuda"]


def test_the_environment_names_what_a_number_depends_on():
    found = measure.environment()
    assert found["torch"] == torch.__version__ and found["threads"] == torch.get_num_threads()
    assert found["date"] == datetime.date.today().isoformat() and found["processor"]
    assert found["commit"].removesuffix("-dirty") != "", "the commit, or unknown"
    assert set(found) == {"date", "commit", "platform", "processor", "gpu", "threads", "python", "torch"}
    assert json.loads(json.dumps(found)) == found
