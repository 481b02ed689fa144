import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from bra import files
from bra.files import load_weights, read_tensors, results, tensors_to_bytes


def test_checkpoints_that_are_not_safetensors_are_refused_and_cannot_run_code(tmp_path):
    class Bomb:
        def __reduce__(self):
            return (os.mkdir, (str(tmp_path / "exploded"),))

    path = tmp_path / "checkpoint.safetensors"
    good = tensors_to_bytes({"a": torch.zeros(100)})
    for content in (pickle.dumps(Bomb()), b"", good[:-10], good[:20]):
        path.write_bytes(content)
        with pytest.raises(ValueError, match=r"checkpoint\.safetensors is not a whole safetensors file"):
            read_tensors(path)
    assert not (tmp_path / "exploded").exists()


def test_weights_that_do_not_fit_are_named(tmp_path):
    model = nn.Linear(3, 4)
    before = model.weight.clone()
    with pytest.raises(
        ValueError, match=r"FILE does not fit the model: missing bias; unknown extra; weight is \(4, 2\), not \(4, 3\)"
    ):
        load_weights(model, {"weight": torch.zeros(4, 2), "extra": torch.zeros(1)}, Path("FILE"))
    assert torch.equal(model.weight, before)
    for unknown, told in ((10, " and 4 more"), (7, " and 1 more"), (6, "")):  # beside the two that are missing
        with pytest.raises(ValueError, match=rf"unknown w5{told}$"):
            load_weights(model, {f"w{i}": torch.zeros(1) for i in range(unknown)}, Path("FILE"))


@pytest.mark.parametrize("folder", ["/", "notebooks", "."])
def test_results_are_found_wherever_one_stands(monkeypatch, folder):
    root = Path(__file__).parents[1]
    monkeypatch.chdir(root / folder)
    assert results("recall_routers.json").samefile(root / "book" / "results" / "recall_routers.json")
    assert results("recall-topk").is_dir()
    # stored outputs may name it, and must be the same on every machine
    assert folder != "notebooks" or str(results("recall-topk")) == os.path.join("..", "book", "results", "recall-topk")


def test_a_package_without_its_repository_says_what_to_do(monkeypatch, tmp_path):
    monkeypatch.setattr(files, "REPOSITORY", tmp_path)
    with pytest.raises(FileNotFoundError, match=r"book/results/recall-topk is not beside .* pip install -e"):
        results("recall-topk")
