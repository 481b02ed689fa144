import os
import pickle
from pathlib import Path

import pytest
import torch
from torch import nn

from bra import files
from bra.files import (
    add_line,
    load_weights,
    read_json,
    read_lines,
    read_tensors,
    results,
    telling,
    tensors_to_bytes,
    write_atomically,
)


def test_a_file_is_written_whole_with_the_folders_that_it_needs(tmp_path):
    path = tmp_path / "new" / "folder" / "file.txt"
    for content in ("é", b"\xff\x00", ""):  # text, bytes, and again
        write_atomically(path, content)
        assert path.read_bytes() == (content.encode() if isinstance(content, str) else content)
    assert list(path.parent.iterdir()) == [path]


@pytest.mark.parametrize("error", [OSError(28, "No space left on device"), KeyboardInterrupt(), MemoryError()])
def test_whatever_stops_the_writing_leaves_the_old_file_and_no_part_of_the_new(tmp_path, monkeypatch, error):
    def stop(descriptor):
        assert (tmp_path / "file.txt.part").exists(), "written beside it"
        raise error

    path = tmp_path / "file.txt"
    path.write_text("old")
    monkeypatch.setattr(os, "fsync", stop)
    with pytest.raises(type(error)) as stopped:
        write_atomically(path, "new" * 10_000)
    assert path.read_text() == "old" and list(tmp_path.iterdir()) == [path]
    if isinstance(error, OSError):
        assert (stopped.value.errno, stopped.value.filename) == (28, str(path)), "the error names the file"


def test_an_error_that_names_a_file_keeps_its_name():
    with pytest.raises(OSError, match="theirs") as raised, telling(Path("ours")):
        raise FileNotFoundError(2, "No such file", "theirs")
    assert raised.value.filename == "theirs"


def test_lines_come_back_without_one_that_a_crash_cut_short(tmp_path):
    path, lines = tmp_path / "lines.jsonl", [{"step": 1, "name": "é"}, {"step": 2}]
    assert read_lines(path) == []
    for line in lines:
        add_line(path, line)
    assert read_lines(path) == lines
    path.write_text(path.read_text() + '{"step": 3')
    assert read_lines(path) == lines
    path.write_text('{"step": 1}\n{"step"\n{"step": 3}\n')
    with pytest.raises(ValueError, match=r"lines\.jsonl, line 2, is not JSON"):
        read_lines(path)
    path.write_text('{"step": 1}\n7\n')
    with pytest.raises(ValueError, match=r"must hold a JSON object on every line, but line 2 is 7$"):
        read_lines(path)


def test_an_object_comes_back_from_its_file(tmp_path):
    path = tmp_path / "one.json"
    with pytest.raises(FileNotFoundError):
        read_json(path)
    for content, message in (("{", r"one\.json is not JSON"), ("[1]", r"must hold a JSON object, but holds \[1\]")):
        path.write_text(content)
        with pytest.raises(ValueError, match=message):
            read_json(path)
    path.write_text('{"a": [1]}')
    assert read_json(path) == {"a": [1]}


def test_tensors_come_back_with_what_is_noted_of_them(tmp_path):
    path, wide = tmp_path / "t.safetensors", torch.randn(3, 4, requires_grad=True)
    path.write_bytes(tensors_to_bytes({"turned": wide.T}, step="5"))
    tensors, noted = read_tensors(path)
    assert torch.equal(tensors["turned"], wide.T) and noted == {"step": "5"}
    path.write_bytes(tensors_to_bytes({"turned": wide}))
    assert read_tensors(path)[1] == {}


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
