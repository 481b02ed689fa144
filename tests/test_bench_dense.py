import json
from itertools import product

import pytest
import torch

import bra
from bra.bench import dense
from bra.bench.dense import Case
from bra.look.calls import bra_layers

SMALL = bra.BiFormerConfig(
    stem=(4, 8),
    stages=(bra.Stage(8, 1, heads=2, k=1), bra.Stage(16, 1, heads=2, k=2), bra.Stage(16, 1, heads=2, k=4),
            bra.Stage(32, 1, heads=4, k=bra.FULL)),
)  # fmt: skip


@pytest.fixture(autouse=True)
def small(monkeypatch):
    monkeypatch.setattr(dense, "CONFIG", SMALL)


@pytest.mark.parametrize(("host", "attention"), [*product(dense.CLASSES, dense.ATTENTIONS)])
def test_a_step_is_what_its_case_says(host, attention):
    """At a size that neither regions nor the detector's coarsest stride divide."""
    for mode in ("train", "inference"):
        network, step = dense.prepare(Case(host, attention, 80, 133, mode))
        with bra.record_routes(network) as routes:
            step()
        grid = {"segmenter": (2, 3), "detector": (2, 4)}[host]  # 128 x 192, 128 x 256
        assert [layer.grid for layer in bra_layers(network).values()] == ([] if attention == "full" else [grid] * 3)
        assert [of.index.shape[2] for of in routes] == ([] if attention == "full" else [1, 2, 4])
        if attention == "windows":
            assert all(of.index[0].equal(bra.local_regions(grid, of.index.shape[2])) for of in routes)
        trained = [parameter.grad is not None for parameter in network.parameters()]
        assert all(trained) if mode == "train" else not any(trained)
        assert network.training == (mode == "train")


def test_all_attentions_read_the_same_image():
    networks = [dense.prepare(Case("segmenter", attention, 128, 128, "inference"))[0] for attention in dense.ATTENTIONS]
    widths = [[(b.attention.heads, b.mlp[0].in_features) for s in n.backbone.stages for b in s] for n in networks]
    assert widths[0] == widths[1] == widths[2]


def test_cases_run_in_turns_and_slow_ones_less_often(monkeypatch):
    ran, takes = [], {"bra": 1.0, "full": 9.0, "windows": 4.0}
    monkeypatch.setattr(
        dense, "prepare", lambda case: (None, lambda: ran.append(case.attention) or takes[case.attention])
    )
    monkeypatch.setattr(dense, "seconds", lambda step, device: step())
    cases = [Case("segmenter", attention, 64, 64, "train") for attention in dense.ATTENTIONS]
    found = dense.in_turns(cases, repeats=3, budget=8.0)
    assert ran == [*dense.ATTENTIONS, *dense.ATTENTIONS, "bra", "windows", "bra"]
    assert found == [{"seconds": 1.0, "runs": 3}, {"seconds": 9.0, "runs": 1}, {"seconds": 4.0, "runs": 2}]


def test_what_would_take_too_long_is_left_out(monkeypatch):
    monkeypatch.setattr(dense, "in_turns", lambda cases, *_: [{"seconds": 2.0, "runs": 1} for _ in cases])
    monkeypatch.setattr(dense, "peak_bytes", lambda case: 7)
    known = {}
    for side in (100, 300):
        cases = [Case("segmenter", attention, side, side, "train") for attention in dense.ATTENTIONS]
        rows = dense.measure(cases, known, limit=20.0, repeats=1)
    ours, full, windows = rows
    assert (ours["seconds"], ours["bytes"], windows["seconds"]) == (2.0, 7, 2.0), "9 times the pixels: 18 s"
    assert full["seconds"] is None and full["bytes"] is None, "81 times, of full attention"
    assert full["reason"] == "about 162 s, computed from a smaller image"
    assert "full about 162 s, computed" in dense.line(rows) and "windows 2.00 s = 1.00x 0 MB" in dense.line(rows)
    other = Case("segmenter", "full", 300, 300, "inference")
    assert dense.expected_seconds(other, known) == 0, "another mode says nothing"


def test_the_largest_image_is_where_the_line_meets_the_memory(monkeypatch):
    monkeypatch.setattr(dense, "peak_bytes", lambda case: 10**8 + 2000 * case.pixels)
    monkeypatch.setattr(dense, "prepare", lambda case: (torch.nn.Linear(1000, 25_000, bias=False), None))
    monkeypatch.setattr(dense, "MEMORY", 3 * 10**8 + 10**8 + 2000 * 1000**2)
    found = dense.largest_image("segmenter", "bra", {})
    assert found["side"] == 960 and found["worst"] < 1e-9 and found["measured"] is False, "1000, whole regions"
    known = {
        Case("segmenter", "bra", 2000, 2000, "train"): {"bytes": 10**10},
        Case("segmenter", "bra", 2000, 2000, "inference"): {"bytes": 1},
        Case("segmenter", "full", 2000, 2000, "train"): {"bytes": 1},
        Case("segmenter", "bra", 800, 1333, "train"): {"bytes": 1},
        Case("segmenter", "bra", 1024, 1024, "train"): {"bytes": None},
    }
    found = dense.largest_image("segmenter", "bra", known)
    assert found["peaks"][-1] == [2000, 2000, 10**10] and len(found["peaks"]) == 4
    assert found["worst"] > 0.05, "it says how far a peak is from the line"


def test_a_peak_of_memory_is_that_of_a_process_of_its_own():
    small, large = (dense.peak_bytes(Case("segmenter", "bra", side, side, "inference")) for side in (64, 256))
    assert large > 2 * small and large > 30 * 2**20


def test_writes_what_it_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(dense, "SIZES", ((128, 128),))
    monkeypatch.setattr(dense, "peak_bytes", lambda case: 3 * 2**20 + 500 * case.pixels)
    dense.main(repeats=1, results=tmp_path)
    content = json.loads((tmp_path / "dense_cpu.json").read_text())
    assert content["command"].startswith("python -m bra.bench.dense") and content["environment"]["torch"]
    assert [(row["host"], row["mode"], row["attention"]) for row in content["rows"]] == [
        *product(("segmenter", "detector"), ("inference", "train"), dense.ATTENTIONS)
    ]
    assert all(row["seconds"] > 0 and row["runs"] == 1 for row in content["rows"])
    assert [(row["host"], row["attention"]) for row in content["largest"]] == [
        *product(dense.CLASSES, dense.ATTENTIONS)
    ]
    printed = capsys.readouterr().out.splitlines()
    assert len(printed) == 4 + 6 and printed[0].startswith("segmenter  128 x  128 inference; bra ")


def test_goes_on_where_it_stopped_but_not_with_other_settings(tmp_path, monkeypatch):
    measured = []

    def in_turns(cases, repeats, budget):
        measured.extend(cases)
        return [{"seconds": 1.0, "runs": repeats} for _ in cases]

    monkeypatch.setattr(dense, "in_turns", in_turns)
    monkeypatch.setattr(dense, "peak_bytes", lambda case: 500 * case.pixels)
    for sizes, repeats, new in [
        (((64, 64),), 1, 12),
        (((64, 64), (64, 128)), 1, 12),  # the first size is known
        (((64, 64),), 2, 12),  # other settings: nothing is kept
    ]:
        measured.clear()
        dense.main(sizes, repeats=repeats, results=tmp_path)
        assert len(measured) == new, f"{sizes}, {repeats} repeats: {len(measured)} cases measured instead of {new}"
    content = json.loads((tmp_path / "dense_cpu.json").read_text())
    assert {row["width"] for row in content["rows"]} == {64} and {row["runs"] for row in content["rows"]} == {2}
