import json

import torch

import bra
from bra import bench


def test_the_expanded_gather_does_what_attend_does():
    q, k, v = torch.randn(3, 2, 5, 3, 64, dtype=torch.float64)
    index = torch.rand(2, 5, 5).argsort(dim=-1)[..., :2]
    torch.testing.assert_close(bench.expanded_attend(q, k, v, index, 2), bra.attend(q, k, v, index, 2))


def test_the_cases_are_those_of_the_official_stages():
    assert [(case.t, case.c, case.k) for case in bench.CASES[:3]] == [(64, 64, 1), (16, 128, 4), (4, 256, 16)]
    assert [(case.b, case.r) for case in bench.CASES[::3]] == [(8, 49), (1, 256)]


def test_writes_what_it_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "CASES", [bench.Case(1, 4, 3, 32, 2)])
    bench.main(repeats=3, results=tmp_path)
    content = json.loads((tmp_path / "core_op_cpu.json").read_text())
    (row,) = content["rows"]
    assert (row["b"], row["r"], row["t"], row["c"], row["k"]) == (1, 4, 3, 32, 2)
    assert row["ratio"] == row["expanded_ms"] / row["ours_ms"]
    assert f"{row['ratio']:.1f}x" in capsys.readouterr().out
    assert content["repeats"] == 3
    assert content["command"].startswith("python -m bra.bench")
