import json

import pytest
import torch
from labelled import write_masks

from bra.bench import nuclei
from bra.dense import SemanticFPN
from bra.layer import BiLevelRoutingAttention, record_routes


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder of small photographs, two steps."""
    for name, value in {"STEPS": 2, "BATCH": 2, "SIZE": 32, "SEEDS": (0, 1)}.items():
        monkeypatch.setattr(nuclei, name, value)
    (tmp_path / "data").mkdir()
    write_masks(tmp_path / "data", [(40, 44)] * 3, [(37, 33)] * 2)
    return tmp_path


def test_every_reader_is_measured_with_every_seed(small, capsys):
    nuclei.main(small / "data", small / "results")
    content = json.loads((small / "results" / "nuclei.json").read_text())
    assert content["command"] == "python -m bra.bench.nuclei" and content["steps"] == 2
    runs = content["runs"]
    assert [(run["label"], run["seed"]) for run in runs] == [(label, s) for label in nuclei.READERS for s in (0, 1)]
    for run in runs:
        assert 0 <= run["held_out"]["iou"] <= 1 and len(run["held_out"]["ious"]) == 5
    told = [line for line in capsys.readouterr().out.splitlines() if "mean IoU" in line]
    assert told[0] == f"{'top-4':12} seed 0: mean IoU {runs[0]['held_out']['iou']:.1%}" and len(told) == 8
    parameters = {run["label"]: run["parameters"] for run in runs}
    assert parameters["top-4"] == parameters["all"] == parameters["local"] > parameters["convolution"]


@pytest.mark.parametrize("reader", nuclei.READERS)
def test_readers_differ_in_who_reads_whom(reader):
    torch.manual_seed(0)
    model, images = nuclei.network(reader, 3).eval(), torch.randn(2, 3, 128, 128)
    assert isinstance(model.head, SemanticFPN)
    with torch.no_grad(), record_routes(model) as routes:
        assert model(images).shape == (2, 3, 128, 128)
    k = {"top-4": 4, "all": 16, "local": 4}.get(reader)
    assert [r.index.shape for r in routes] == ([(2, 16, k)] * 4 if k else [])
    if reader == "local":
        assert all(torch.equal(r.index[0], r.index[1]) for r in routes)
    if reader == "convolution":
        assert not any(isinstance(module, BiLevelRoutingAttention) for module in model.modules())


def test_a_convolution_reads_the_tokens_around_alone():
    layer, x = nuclei.Convolution(3), torch.randn(1, 11, 13, 3)
    before = layer(x)
    x[0, 5, 6, 1] += 1
    differs = (layer(x) != before)[0]
    expected = torch.zeros(11, 13, 3, dtype=torch.bool)
    expected[2:9, 3:10, 1] = True
    assert torch.equal(differs, expected)


def test_data_that_are_not_there_are_told_in_one_line(small):
    with pytest.raises(SystemExit) as ended:
        nuclei.main(small / "none", small / "results")
    assert "none" in str(ended.value) and str(ended.value).startswith("error: ") and not (small / "results").exists()
