import json
from dataclasses import replace

import pytest
import torch

from bra.bench import experiments, interventions
from bra.data import RecallBoards
from bra.data.recall import Recall
from bra.data.recall_where import RecallBoxes, RecallPixels
from bra.files import results
from bra.train import TrainConfig
from bra.train.models import load_model
from bra.train.routers import ROUTERS

TINY = TrainConfig(steps=1, batch=8, device="cpu")


@pytest.fixture
def small(tmp_path, monkeypatch):
    """A folder of its own, few boards, one step."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("bra.train.config.open_data", lambda *_: RecallBoards(Recall(), 32))
    return tmp_path


def test_collects_the_summary_of_every_setting_and_seed(small, monkeypatch):
    monkeypatch.setitem(experiments.TRAINED, "x", {"a": TINY, "b": TrainConfig(steps=1, batch=8, router="local")})
    monkeypatch.setitem(experiments.SEEDS, "x", (0, 1))
    content = json.loads(experiments.run_experiment("x", small / "results").read_text())
    assert [(run["label"], run["seed"]) for run in content["runs"]] == [("a", 0), ("a", 1), ("b", 0), ("b", 1)]
    assert content["command"] == "python -m bra.bench.experiments x"
    for run in content["runs"]:
        folder = small / "runs" / "experiments" / "x" / f"{run['label']}-{run['seed']}"
        summary = json.loads((folder / "summary.json").read_text())
        assert run["held_out"] == summary["held_out"]
        assert json.loads((folder / "config.json").read_text())["seed"] == run["seed"]
        assert [page["step"] for page in run["history"]] == [0, 1] and [at for at, _ in run["held_out_curve"]] == [0, 1]
        shares = [way["share"] for way in run["by_way"].values()]
        right = sum(way["share"] * way["accuracy"] for way in run["by_way"].values())
        assert sum(shares) == pytest.approx(1) and right == pytest.approx(run["held_out"]["accuracy"])


@pytest.mark.parametrize("name", experiments.WHERE)
def test_boards_that_ask_where_are_collected(name, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (config, _), label = experiments.WHERE[name], "top-4"
    kind = {"recall-pixels": RecallPixels, "recall-boxes": RecallBoxes}[config.data]
    monkeypatch.setattr("bra.train.config.open_data", lambda *_: kind(config.recall, held_out_count=4))
    assert label in experiments.TRAINED[name]
    monkeypatch.setitem(experiments.TRAINED, name, {label: replace(config, steps=2, batch=2, device="cpu")})
    monkeypatch.setitem(experiments.SEEDS, name, (3,))
    (run,) = json.loads(experiments.run_experiment(name, tmp_path / "results").read_text())["runs"]
    summary = json.loads((tmp_path / "runs" / "experiments" / name / "top-4-3" / "summary.json").read_text())
    assert (run["label"], run["seed"], run["held_out"]) == ("top-4", 3, summary["held_out"])
    score = {"recall-pixels": "iou", "recall-boxes": "ap"}[config.data]
    assert run["held_out_curve"][-1] == [2, round(run["held_out"][score], 4)] and len(run["held_out"]["hit_rate"]) == 2
    assert [page["step"] for page in run["history"]] == [0, 2] and "by_way" not in run


def test_settings_that_ask_where_differ_in_who_reads_whom_alone():
    for name, (config, labels) in experiments.WHERE.items():
        assert list(experiments.TRAINED[name]) == list(labels)
        for label, found in experiments.TRAINED[name].items():
            routed = experiments.ROUTED[label]
            assert found == replace(config, router=routed.router, k=routed.k)


def test_boards_of_64_pixels_were_learnt_on_two_levels_by_routing_and_with_a_higher_rate():
    """One seed; the experiment of this name takes three, and local routing beside it: not run."""
    content = json.loads(results("dense_recall_64.json").read_text())
    learnt, slow = content["runs"]
    assert (learnt["label"], learnt["seed"], learnt["held_out_curve"][-1][0]) == ("top-4", 0, experiments.LARGER.steps)
    assert "--learning-rate 6e-3" in content["command"] and experiments.LARGER.learning_rate == 6e-3
    measured = [learnt["held_out"]["iou"], learnt["blind"]["iou"], slow["held_out"]["iou"]]
    measured += [run["right_cell"] for run in (learnt["held_out"], learnt["blind"], slow["held_out"])]
    assert [round(value, 2) for value in measured] == [0.98, 0.07, 0.0, 1.0, 0.21, 0.31]
    assert all(min(run["held_out"]["hit_rate"]) > 0.999 for run in (learnt, slow)), "both found the square"


def test_every_router_is_compared_at_the_same_settings():
    settings = experiments.TRAINED["recall_routers"]
    assert {config.router for config in settings.values()} == set(ROUTERS)
    assert len({(config.steps, config.batch, config.learning_rate, config.model) for config in settings.values()}) == 1
    assert all(len(seeds) >= 3 for seeds in experiments.SEEDS.values()), "one seed is an anecdote"


def test_routes_are_cut_in_the_networks_of_the_first_experiment(small, monkeypatch):
    monkeypatch.setattr(interventions, "BOARDS", Recall().sample(16, 0))
    monkeypatch.setitem(experiments.ROUTED, "top-4", TINY)
    monkeypatch.setitem(experiments.SEEDS, "recall_routers", (3,))
    (run,) = json.loads(experiments.run_experiment("recall_cuts", small / "results").read_text())["runs"]
    assert run["seed"] == 3 and len(run) == 18 and all(0 <= value <= 1 for name, value in run.items() if name != "seed")
    assert (small / "runs" / "experiments" / "recall_routers" / "top-4-3" / "summary.json").exists()


def test_what_may_be_read_is_what_the_name_says():
    boards = interventions.BOARDS
    found = interventions.itself_and(boards.square, boards.target)
    for b in range(0, len(boards.label), 97):
        for region in range(16):
            expected = {region, int(boards.target[b])} if region == boards.square[b] else {region}
            assert set(found[b, region].tolist()) == expected
    everybody = interventions.itself_and(None, boards.square)
    assert all(set(everybody[0, r].tolist()) == {r, int(boards.square[0])} for r in range(16))
    assert torch.equal(interventions.itself_and(None, None), torch.arange(16)[None, :, None].expand(1024, -1, 4))
    assert interventions.pair(boards.square, boards.target).sum(dim=(1, 2)).eq(1).all()


@pytest.mark.slow
def test_cuts_reach_a_trained_network():
    found = interventions.cuts_and_keeps(load_model(results("recall-topk"))[0])
    assert found["as it is"] > 0.99 < found["without square to another"]
    assert found["without both"] < 0.5 and found["only nothing"] < 0.3
    assert found["left out: both"] < 0.5 and found["without two others"] > 0.9


def test_an_untrained_network_is_that_of_its_seed():
    first, again = (interventions.untrained_hits("alike", 4) for _ in range(2))
    assert first == again and first["at once"] != first["settled"]
    assert interventions.untrained_hits("independent", 4)["at once"] != first["at once"]
