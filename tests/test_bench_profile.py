import json
from contextlib import nullcontext
from types import SimpleNamespace

import pytest
import torch

from bra.bench import profile
from bra.bench.jobs import Model


@pytest.mark.parametrize(
    "name, shapes, group",
    [
        ("aten::mkldnn_convolution", [[2, 64, 7, 5], [64, 1, 5, 5], [64]], "depthwise 5 x 5"),
        ("aten::convolution_backward", [[2, 64, 7, 5], [2, 64, 7, 5], [64, 1, 3, 3]], "depthwise 3 x 3, backward"),
        ("aten::mkldnn_convolution", [[2, 3, 7, 5], [32, 3, 3, 3], [32]], "other convolutions"),
        ("aten::mm", [[7, 5], [5, 3]], "linear layers"),
        ("aten::addmm", [[3], [7, 5], [5, 3]], "linear layers"),
        ("aten::bmm", [[2, 7, 5], [2, 5, 3]], "attention"),
        ("aten::_scaled_dot_product_flash_attention_for_cpu_backward", [], "attention"),
        ("aten::native_layer_norm_backward", [], "norms and GELU"),
        ("aten::gelu", [], "norms and GELU"),
        ("aten::copy_", [], "copies and zeros"),
        ("aten::add", [], "the rest"),
    ],
)
def test_operations_are_told_apart(name, shapes, group):
    assert profile.group_of(name, shapes) == group


def test_seconds_are_those_of_one_step_and_the_first_is_not_counted(monkeypatch):
    events = [
        SimpleNamespace(key=name, input_shapes=[], self_cpu_time_total=microseconds)
        for name, microseconds in (("aten::mm", 6e6), ("aten::addmm", 9e6), ("aten::add", 21e6))
    ]
    began, steps = [], []
    recorded = SimpleNamespace(key_averages=lambda group_by_input_shape: events)
    monkeypatch.setattr(profile, "profile", lambda **options: began.append(len(steps)) or nullcontext(recorded))
    found = profile.seconds_by_group(lambda: steps.append(1), 3)
    assert list(found.items()) == [("the rest", 7.0), ("linear layers", 5.0)]
    assert began == [1] and len(steps) == 4


def test_all_of_a_step_is_in_some_group(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(profile, "CASE", Model("T", 2, 32, 4))
    monkeypatch.setattr(profile, "present_peers", lambda: {})
    profile.main(threads=(torch.get_num_threads(),), steps=1, results=tmp_path)
    rows = json.loads((tmp_path / "bench_profile_cpu.json").read_text())["rows"]
    depthwise = {f"depthwise {side} x {side}{step}" for side in (3, 5) for step in ("", ", backward")}
    groups = {*profile.GROUPS, *depthwise, "other convolutions", "other convolutions, backward", "the rest"}
    assert {row["group"] for row in rows} == groups
    assert "ours, threads: " in capsys.readouterr().out
