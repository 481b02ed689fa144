import json
import sys
from pathlib import Path

import pytest
import torch
from PIL import Image
from torch import nn

import bra
from bra.bench import __main__ as bench
from bra.bench import pipeline
from bra.bench.jobs import Core, Job, Layer, Model, matrix_rate, peak_bytes, times
from bra.bench.ways import dense_attend, expanded_attend, official_model


def draw(k, dtype=torch.float64):
    q, key, v = torch.randn(3, 2, 5, 3, 64, dtype=dtype)
    return q, key, v, torch.rand(2, 5, 5).argsort(dim=-1)[..., :k], 2, 0.3


def test_the_expanded_gather_does_what_attend_does():
    given = draw(2)
    torch.testing.assert_close(expanded_attend(*given), bra.attend(*given))


def test_dense_attention_is_reading_all_regions():
    given = draw(5)
    torch.testing.assert_close(dense_attend(*given), bra.attend(*given))


OFFICIAL = """
from fairscale.nn.checkpoint import checkpoint_wrapper
from timm.models import register_model
from timm.models.layers import DropPath, to_2tuple, trunc_normal_
from timm.models.vision_transformer import _cfg
from PIL import Image
from torch import nn

class BiFormer(nn.Module):
    def __init__(self, **options):
        super().__init__()
        self.options = options
"""


def test_the_official_code_gets_our_configuration_and_stand_ins_for_what_it_imports(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] in ("timm", "fairscale", "models")]:
        monkeypatch.delitem(sys.modules, name)
    (tmp_path / "models").mkdir()
    (tmp_path / "models" / "biformer.py").write_text(OFFICIAL)
    options = official_model(tmp_path, bra.BASE).options
    assert options["topks"] == [1, 4, 16, -2] and options["head_dim"] == 32 and options["n_win"] == 7
    assert options["depth"] == [4, 4, 18, 4] and options["embed_dim"] == [96, 192, 384, 768]
    for name in [name for name in sys.modules if name.split(".")[0] in ("timm", "fairscale", "models")]:
        monkeypatch.delitem(sys.modules, name)
    with pytest.raises(FileNotFoundError, match="is no clone of the official repository"):
        official_model(tmp_path / "nowhere", bra.TINY)


@pytest.mark.parametrize("case", [Core(1, 4, 3, 32, 2), Layer(1, 6, 32, 2, 1), Model("T", 2, 32, 4)])
@pytest.mark.parametrize("mode", ["train", "inference"])
def test_a_training_step_differentiates_and_inference_does_not(case, mode, monkeypatch):
    began = []
    monkeypatch.setattr(torch.autograd, "grad", lambda *args, **kwargs: began.append(1))
    monkeypatch.setattr(torch.Tensor, "backward", lambda *args, **kwargs: began.append(1))
    Job(case, "ours", mode).prepare()()
    assert len(began) == (mode == "train")


def test_ways_are_measured_in_turns():
    spent = times([Job(Core(1, 4, 3, 32, 2), way, "train") for way in ("ours", "expanded")], repeats=2)
    assert len(spent) == 2 and all(0 < each < 10 for each in spent)


@pytest.mark.slow
@pytest.mark.skipif(sys.platform == "win32", reason="Windows does not tell a process's highest memory")
def test_memory_is_that_of_one_step_of_one_way():
    case = Core(1, 128, 16, 128, 1)  # keys and values of 1 MiB each, 128 times as much expanded
    ours, expanded = (peak_bytes(Job(case, way, "train")) / 2**20 for way in ("ours", "expanded"))
    assert 1 < ours < 100 < 256 < expanded < 1000


def test_the_floor_is_the_multiply_adds_over_the_rate():
    found = bench.floor(Model("T", 2, 224, 7), "train", rate=1e9)
    assert found["multiply_adds"] == pytest.approx(2 * 3 * 2.2e9, rel=0.01)
    assert found["floor_seconds"] == found["multiply_adds"] / 1e9
    assert matrix_rate("cpu", side=64) > 1e6


def test_measures_what_the_official_models_are_made_of():
    assert [tuple(case[2:]) for case in bench.CORES[:3]] == [(64, 64, 1), (16, 128, 4), (4, 256, 16)]
    assert [(case.b, case.r) for case in bench.CORES[::3]] == [(8, 49), (1, 256)]
    found = bench.groups("models", (224, 1024), "T", compiled=True, official=Path("clone"))
    assert [case for case, mode, _, _ in found if mode == "train"] == [
        Model("S", 8, 224, 7), Model("T", 1, 224, 7), Model("T", 1, 1024, 16)
    ]  # fmt: skip
    for case, mode, ways, _ in found:
        costly = case.size == 1024 and mode == "train"
        assert ways == ["ours", "compiled", "official"] + ([] if costly else ["dense"]), f"{case}, {mode}"
    assert bench.groups("models", (224,), "T", compiled=False, official=None)[0][2] == ["ours", "expanded", "dense"]
    layers = bench.groups("layer", (), "T", compiled=False, official=None)
    assert [tuple(case) for case, mode, _, _ in layers if mode == "train"] == [
        (8, 56, 64, 7, 1), (8, 28, 128, 7, 4), (8, 14, 256, 7, 16),
        (1, 128, 64, 16, 1), (1, 64, 128, 16, 4), (1, 32, 256, 16, 16),
        (1, 256, 64, 16, 1), (1, 128, 128, 16, 4), (1, 64, 256, 16, 16),
    ]  # fmt: skip
    assert all("dense" in ways for _, _, ways, _ in layers), "every cost stands beside that of dense attention"


@pytest.mark.slow
def test_writes_what_it_prints(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "BATCHES", [])
    monkeypatch.setattr(bench, "peak_bytes", lambda job: 3 * 2**20 if job.way == "ours" else 6 * 2**20)
    monkeypatch.setattr(bench, "matrix_rate", lambda device: 1e9)
    bench.main("models", sizes=(64, 96), repeats=1, results=tmp_path)
    content = json.loads((tmp_path / "bench_models_cpu.json").read_text())
    assert [(row["size"], row["mode"], row["way"]) for row in content["rows"][:4]] == [
        (64, "inference", "ours"), (64, "inference", "expanded"), (64, "inference", "dense"), (64, "train", "ours")
    ]  # fmt: skip
    ours, expanded = content["rows"][3:5]
    printed = capsys.readouterr().out
    assert f"expanded {1000 * expanded['seconds']:8.1f} ms = {expanded['seconds'] / ours['seconds']:.2f}x" in printed
    assert "3 MB" in printed and "6 MB" in printed
    assert content["command"].startswith("python -m bra.bench") and content["environment"]["torch"]
    assert (tmp_path / "scaling_cpu.png").read_bytes().startswith(b"\x89PNG")


def test_compiled_modules_are_ours(monkeypatch):
    asked = []
    monkeypatch.setattr(torch, "compile", lambda module, **options: asked.append(type(module)) or module)
    Job(Layer(1, 6, 32, 2, 1), "compiled", "inference").prepare()()
    assert asked == [bra.BiLevelRoutingAttention] and issubclass(asked[0], nn.Module)


def test_the_parts_of_training_on_photographs_are_measured_apart(tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(pipeline, "COUNT", 16)
    monkeypatch.setattr(pipeline, "REPEATS", 1)
    monkeypatch.setattr(pipeline, "peak_bytes", lambda job: 2**20 * job.case.b)
    monkeypatch.setattr(pipeline, "TINY", bra.NANO)
    pipeline.main(workers=(0, 1), batch=4, memory=(1, 3), results=tmp_path)
    rows = json.loads((tmp_path / "pipeline_cpu.json").read_text())["rows"]
    assert [(row["shorter_side"], row["workers"]) for row in rows[:4]] == [(375, 0), (375, 1), (256, 0), (256, 1)]
    assert rows[0]["bytes"] > 1.5 * rows[2]["bytes"] > 20_000
    assert [row["part"] for row in rows[4:]] == ["augmentation", "training", "memory", "memory"]
    assert [row["bytes"] for row in rows[6:]] == [2**20, 3 * 2**20]
    assert all(row["rate"] > 0 for row in rows[:6])


def test_the_jpegs_are_of_the_size_that_is_said(tmp_path):
    for shorter, size in ((375, (500, 375)), (256, (341, 256))):
        mean = pipeline.make_jpegs(tmp_path / str(shorter), shorter, 3)
        files = sorted((tmp_path / str(shorter)).rglob("*.jpg"))
        assert len(files) == 4 and mean == round(sum(file.stat().st_size for file in files) / 4)
        for file in files:
            with Image.open(file) as image:
                assert image.size == size
