"""Peers are packages of others. Here small ones of their names lie on the path, so that none need be installed."""

import json
import sys
import types

import pytest
import torch
from torch import nn

from bra.bench import __main__ as bench
from bra.bench import peers
from bra.bench.jobs import Job, Model
from bra.bench.peers import PEERS, Peer, obstacle, peer_multiply_adds, present_peers

NET = """
from torch import nn

def net(width):
    return nn.Sequential(nn.AdaptiveAvgPool2d(1), nn.Flatten(), nn.Linear(3, width), nn.Dropout(), nn.Linear(width, 7))
"""
TIMM = """
__version__ = "1.2.3"
asked = []

def create_model(name, **options):
    asked.append((name, options))
    return net(11)
"""
REGISTRY = """
asked, registered = [], []

class registry:
    def net_factory(name, **options):
        asked.append((registered, name, options))
        return net(13)
"""
REGISTERS = "from birder.model_registry import registered\nregistered.append('biformer_s')"


def forget(monkeypatch):
    for name in [name for name in sys.modules if name.split(".")[0] in ("timm", "birder")]:
        monkeypatch.delitem(sys.modules, name)


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Packages `timm` and `birder` on the path, which note what they are asked for."""
    forget(monkeypatch)
    (tmp_path / "birder" / "net").mkdir(parents=True)
    for name, content in {
        "timm.py": NET + TIMM,
        "birder/__init__.py": "__version__ = '4.5.6'",
        "birder/model_registry.py": NET + REGISTRY,
        "birder/net/__init__.py": "",
        "birder/net/biformer.py": REGISTERS,
    }.items():
        (tmp_path / name).write_text(content)
    monkeypatch.syspath_prepend(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.split(".")[0] in ("timm", "birder")]:
        del sys.modules[name]  # not by monkeypatch, which would put these back for the tests that come after


def test_peers_are_asked_for_without_weights_or_stochastic_depth(installed):
    assert present_peers() == {"timm Swin-T": "1.2.3", "birder BiFormer-S": "4.5.6"}
    assert all(isinstance(peer.make(), nn.Module) for peer in PEERS.values())
    options = {"pretrained": False, "drop_path_rate": 0.0}
    assert sys.modules["timm"].asked == [("swin_tiny_patch4_window7_224", options)]
    options = {"num_classes": 1000, "config": {"drop_path_rate": 0.0}, "size": (224, 224)}
    assert sys.modules["birder.model_registry"].asked == [(["biformer_s"], "biformer_s", options)]


def test_what_is_not_installed_or_broken_is_said_in_one_line_and_left_out(installed, monkeypatch, capsys):
    monkeypatch.setattr(peers, "PEERS", PEERS | {"Model-X of nobody": Peer("nobodys_package", None)})
    (installed / "birder" / "__init__.py").write_text("raise RuntimeError('operator\\nmissing')")
    assert present_peers() == {"timm Swin-T": "1.2.3"}
    assert capsys.readouterr().out.splitlines() == [
        "birder BiFormer-S is left out: birder cannot be imported: operator",
        "Model-X of nobody is left out: nobodys_package is not installed",
    ]


def test_a_stand_in_is_not_taken_for_the_package(monkeypatch):
    """The official code is given an empty timm where there is none."""
    monkeypatch.setitem(sys.modules, "nobodys_package", types.ModuleType("nobodys_package"))
    assert obstacle("nobodys_package") == "nobodys_package is not installed"


def test_multiply_adds_are_the_peers_own(installed):
    assert {name: peer_multiply_adds(name) for name in PEERS} == {
        "timm Swin-T": 3 * 11 + 11 * 7, "birder BiFormer-S": 3 * 13 + 13 * 7
    }  # fmt: skip
    assert bench.floor(Model("S", 5, 224, 7), "train", 1.0, "timm Swin-T")["multiply_adds"] == 3 * 5 * (3 + 7) * 11
    ours = bench.floor(Model("S", 1, 224, 7), "inference", 1.0)["multiply_adds"]
    assert ours == pytest.approx(4.5e9, rel=0.01), "the peers are of BiFormer-S's multiply-adds, 4.5 G"


@pytest.mark.parametrize("mode", ["train", "inference"])
def test_a_peer_trains_or_infers_like_ours(installed, mode, monkeypatch):
    began, modes = [], []
    monkeypatch.setattr(torch.Tensor, "backward", lambda *args, **kwargs: began.append(1))
    monkeypatch.setattr(nn.Dropout, "forward", lambda module, x: modes.append(module.training) or x)
    Job(Model("S", 2, 32, 4), "timm Swin-T", mode).prepare()()
    assert len(began) == (mode == "train") and modes == [mode == "train"]


def test_peers_stand_beside_biformer_s_alone():
    found = bench.groups("models", (224,), "S", compiled=True, official=None, peers=["a", "b"])
    ways = {(case.b, mode): ways for case, mode, ways, _ in found}
    assert ways[8, "train"] == ways[8, "inference"] == ["ours", "compiled", "expanded", "dense", "a", "b"]
    assert ways[1, "train"] == ways[1, "inference"] == ["ours", "compiled", "expanded", "dense"]


def test_writes_peers_to_a_file_of_their_own(installed, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(bench, "BATCHES", [Model("T", 2, 32, 4)])
    monkeypatch.setattr(bench, "groups", lambda *args: [[bench.BATCHES[0], "train", ["ours", *args[-1]], 1]])
    monkeypatch.setattr(bench, "peak_bytes", lambda job: 3 * 2**20)
    monkeypatch.setattr(bench, "matrix_rate", lambda device: 1e9)
    bench.main("models", sizes=(), peers=True, repeats=1, results=tmp_path)
    content = json.loads((tmp_path / "bench_peers_cpu.json").read_text())
    assert content["peers"] == {"timm Swin-T": "1.2.3", "birder BiFormer-S": "4.5.6"}
    adds = {row["way"]: row["multiply_adds"] for row in content["rows"]}
    assert list(adds) == ["ours", *content["peers"]] and adds["birder BiFormer-S"] == 3 * 2 * 13 * (3 + 7)
    assert "timm Swin-T" in capsys.readouterr().out
    assert not (tmp_path / "bench_models_cpu.json").exists()
