import json

from bra.bench import experiments
from bra.data import RecallBoards
from bra.data.recall import Recall
from bra.train import TrainConfig
from bra.train.routers import ROUTERS


def test_collects_the_summary_of_every_setting_and_seed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bra.train.config.open_data", lambda *_: RecallBoards(Recall(), 32))
    tiny = TrainConfig(steps=1, batch=8, device="cpu")
    monkeypatch.setattr(
        experiments, "EXPERIMENTS", {"x": {"a": tiny, "b": TrainConfig(steps=1, batch=8, router="local")}}
    )
    monkeypatch.setattr(experiments, "SEEDS", (0, 1))
    path = experiments.run_experiment("x", tmp_path / "results")
    content = json.loads(path.read_text())
    assert [(run["label"], run["seed"]) for run in content["runs"]] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert content["command"] == "python -m bra.bench.experiments x"
    for run in content["runs"]:
        folder = tmp_path / "runs" / "experiments" / "x" / f"{run['label']}-{run['seed']}"
        summary = json.loads((folder / "summary.json").read_text())
        assert run["held_out"] == summary["held_out"]
        assert json.loads((folder / "config.json").read_text())["seed"] == run["seed"]


def test_every_router_is_compared_at_the_same_settings():
    settings = experiments.EXPERIMENTS["recall_routers"]
    assert {config.router for config in settings.values()} == set(ROUTERS)
    assert len({(config.steps, config.batch, config.learning_rate, config.model) for config in settings.values()}) == 1
