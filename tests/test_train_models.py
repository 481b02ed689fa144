from dataclasses import replace
from types import SimpleNamespace

import pytest
import torch
from torch import nn

import bra
from bra.biformer import FULL, NANO, SMALL, TINY
from bra.data import Arrays, RecallBoards
from bra.data.recall import Recall
from bra.data.recall_where import RecallPixels
from bra.files import tensors_to_bytes
from bra.layer import BiLevelRoutingAttention, record_routes
from bra.topk import TableRouter
from bra.train.config import TrainConfig
from bra.train.models import build_model, load_model
from bra.train.routers import ROUTERS
from bra.train.writer import RunWriter

BOARDS = RecallBoards(Recall())
PIXELS = torch.zeros(2, 5, 32, 32, dtype=torch.uint8)
PHOTOGRAPHS = Arrays(PIXELS, torch.tensor([0, 1]), PIXELS, torch.tensor([0, 1]), list("abcdefg"))


def values(model):
    return dict(model.state_dict())


@pytest.mark.parametrize("router", ROUTERS)
def test_every_router_runs_through_the_same_network(router):
    model = build_model(TrainConfig(router=router), BOARDS)
    for name, value in build_model(TrainConfig(), BOARDS).named_parameters():
        assert torch.equal(dict(model.named_parameters())[name], value), f"{name} must not depend on the router"
    routes = model.routes(BOARDS.task.sample(2, 0).image)
    k = 16 if router == "all" else 4
    expected = {"local": bra.local_regions, "axial": bra.axial_regions, "dilated": bra.dilated_regions}
    for block in routes:
        assert block.index.shape == (2, 16, k)
        if router in expected:
            assert torch.equal(block.index[0], expected[router]((4, 4), 4))
        if router == "all":
            assert torch.equal(block.index[0], torch.arange(16).expand(16, 16))
    differ = not torch.equal(routes[0].index, routes[1].index)
    assert differ == (router in ("topk", "random", "crossed")), (
        "these have a table for each layer, the others share one"
    )


def test_crossed_reads_rows_then_columns_then_rows():
    make = ROUTERS["crossed"](0)
    x = torch.zeros(1, 6, 3)
    found = [make((2, 3), 2)(x, x).index[0].tolist() for _ in range(3)]
    assert found[0] == found[2] == [[0, 1], [1, 0], [2, 1], [3, 4], [4, 3], [5, 4]]
    assert found[1] == [[0, 3], [1, 4], [2, 5], [3, 0], [4, 1], [5, 2]]


def test_random_once_is_the_first_table_of_random():
    x = torch.zeros(1, 6, 3)
    once, random = (ROUTERS[name](5) for name in ("random-once", "random"))
    first, second = ([make((2, 3), 2)(x, x).index for _ in range(2)] for make in (once, random))
    assert torch.equal(first[0], first[1]) and torch.equal(first[0], second[0])
    assert not torch.equal(second[0], second[1])


def test_random_tables_are_those_of_the_seed():
    def tables(seed):
        make = ROUTERS["random"](seed)
        x = torch.zeros(1, 6, 3)
        return [make((2, 3), 2)(x, x).index for _ in range(3)]

    first, again, other = (torch.cat(tables(seed)) for seed in (5, 5, 7))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert not torch.equal(first[0], first[1]) and first.shape == (3, 6, 2)
    assert ROUTERS["topk"](0) is None


def test_the_start_decides_w_k_and_nothing_else():
    usual, alike, apart = (build_model(TrainConfig(start=start), BOARDS) for start in (None, "alike", "independent"))
    for name, value in values(usual).items():
        assert torch.equal(values(alike)[name], value), "the board network starts alike by itself"
        if name.endswith("qkv.weight"):
            q, k, v = value.chunk(3)
            other_q, other_k, other_v = values(apart)[name].chunk(3)
            assert torch.equal(q, k) and torch.equal(q, other_q) and torch.equal(v, other_v)
            assert (other_k * other_q).mean().abs() < 0.1 * other_q.square().mean(), "drawn apart: no likeness"
        else:
            assert torch.equal(values(apart)[name], value), name


def test_the_seed_decides_the_weights():
    first, again, other = (build_model(TrainConfig(seed=seed), BOARDS).head.weight for seed in (1, 1, 2))
    assert torch.equal(first, again)
    assert not torch.equal(first, other)


def test_k_and_the_boards_size_reach_the_model():
    model = build_model(TrainConfig(k=2, recall=Recall(cells=5)), RecallBoards(Recall(cells=5)))
    routes = model.routes(Recall(cells=5).sample(1, 0).image)
    assert routes[0].index.shape == (1, 25, 2)
    assert build_model(TrainConfig(), BOARDS).routes(BOARDS.task.sample(1, 0).image)[0].index.shape == (1, 16, 4)


@pytest.mark.parametrize(("name", "shape"), [("nano", NANO), ("tiny", TINY), ("small", SMALL)])
def test_photographs_get_the_model_that_was_asked_for(name, shape):
    with torch.device("meta"):
        config = build_model(TrainConfig(data="folder:/x", model=name, drop_path=0.3), PHOTOGRAPHS).config
    assert config == replace(shape, num_classes=7, in_channels=5, drop_path=0.3)


def test_k_leaves_the_last_stage_which_reads_everything():
    with torch.device("meta"):
        asked = build_model(TrainConfig(data="folder:/x", model="tiny", k=3), PHOTOGRAPHS).config
        everything = build_model(TrainConfig(data="folder:/x", model="tiny", router="all"), PHOTOGRAPHS).config
    assert [stage.k for stage in asked.stages] == [3, 3, 3, FULL]
    assert [stage.k for stage in everything.stages] == [49, 49, 49, FULL]
    assert [stage.k for stage in TINY.stages] == [1, 4, 16, FULL], "unchanged"


@pytest.mark.parametrize("without", [("lce",), ("position",), ("lce", "position"), ("position", "lce")])
def test_parts_that_are_left_out_are_gone_and_nothing_else(without):
    config = TrainConfig(model="nano", drop_path=0.2, seed=3)
    whole = build_model(config, BOARDS)
    model = build_model(replace(config, without=without), BOARDS)
    gone = {name for name in values(whole) if any(f".{part}." in name for part in without)}
    assert len(gone) == len(without) * 2 * 2, "weight and bias in each of two blocks"
    assert values(model).keys() == values(whole).keys() - gone
    assert all(values(model)[name].shape == values(whole)[name].shape for name in values(model))
    for block in model.stages[0]:
        assert (block.position is None) == ("position" in without)
        assert (block.attention.lce is None) == ("lce" in without)
    changed = {"lce": {"lce_kernel": 0}, "position": {"position_kernel": 0}}
    kernels = {name: value for part in without for name, value in changed[part].items()}
    assert model.config == replace(whole.config, **kernels)
    assert model.eval()(BOARDS.task.sample(2, 0).image).shape == (2, 8)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"k": 17}, "k must be between 1 and the number of regions, 16, but is 17"),
        ({"k": 0}, "k must be between 1 and the number of regions, 16, but is 0"),
        (
            {"model": "tiny"},
            r"model must be one of board, board-pyramid, nano for recall, .*, but is tiny",
        ),
        ({"drop_path": 1.0}, "drop_path must be at least 0 and below 1, but is 1.0"),
    ],
)
def test_what_does_not_fit_is_refused(change, message):
    with pytest.raises(ValueError, match=message):
        build_model(TrainConfig(**change), BOARDS)


@pytest.fixture
def kept(tmp_path):
    """A run folder with the weights at the end and others that were better."""
    config = TrainConfig(
        model="nano", router="local", k=3, without=("lce",), recall=Recall(cells=3, glyphs=2), workers=5
    )
    run = RunWriter(tmp_path / "run", config.settings(), resume=False)
    last, best = (build_model(replace(config, seed=seed), RecallBoards(config.recall)) for seed in (1, 2))
    run.weights.write_bytes(tensors_to_bytes(last.state_dict()))
    run.keep_best(7, 0.75, best)
    return SimpleNamespace(run=run, config=config, last=last, best=best)


def test_a_run_s_model_comes_back_with_its_data_and_settings(kept):
    model, data, config = load_model(kept.run.path)
    assert not model.training and all(torch.equal(values(model)[n], v) for n, v in values(kept.last).items())
    assert isinstance(data, RecallBoards) and data.task == Recall(cells=3, glyphs=2)
    assert config == replace(kept.config, out=kept.run.path, workers=2)
    assert model.routes(data.task.sample(1, 0).image)[0].index.shape == (1, 9, 3)


def test_the_best_weights_come_back_where_they_are_asked_for(kept):
    model = load_model(kept.run.path, weights="best")[0]
    assert not model.training and all(torch.equal(values(model)[n], v) for n, v in values(kept.best).items())
    assert not torch.equal(model.head.weight, kept.last.head.weight)


def test_the_place_of_the_data_may_have_changed(kept, tmp_path):
    assert load_model(kept.run.path, workers=0)[2].workers == 0
    with pytest.raises(FileNotFoundError, match=r"moved.train does not exist"):
        load_model(kept.run.path, data=f"folder:{tmp_path / 'moved'}")


def test_weights_that_are_missing_or_do_not_fit_are_named(kept):
    kept.run.best.write_bytes(tensors_to_bytes(nn.Linear(2, 3).state_dict()))
    with pytest.raises(ValueError, match=r"best\.safetensors does not fit the model: missing "):
        load_model(kept.run.path, "best")
    kept.run.weights.unlink()
    with pytest.raises(FileNotFoundError, match=r"model\.safetensors"):
        load_model(kept.run.path)


def test_a_run_begins_with_the_stages_of_other_weights(tmp_path):
    config = TrainConfig(data="recall-pixels", weights=tmp_path / "model.safetensors")
    classifier = build_model(TrainConfig(seed=7), BOARDS)
    config.weights.write_bytes(tensors_to_bytes(classifier.state_dict()))
    model, plain = (build_model(c, RecallPixels(Recall())) for c in (config, replace(config, weights=None)))
    for name, value in values(model).items():
        stage = name.removeprefix("backbone.")
        from_there = stage.startswith(("stages.", "downsample."))
        assert torch.equal(value, values(classifier if from_there else plain)[stage if from_there else name]), name
    assert not torch.equal(values(model)["backbone.stages.0.0.mlp.0.weight"], plain.backbone.stages[0][0].mlp[0].weight)
    config.weights.unlink()
    with pytest.raises(FileNotFoundError):
        build_model(config, RecallPixels(Recall()))


def test_larger_boards_are_read_on_two_levels_and_nothing_but_routing_crosses_a_border():
    config = TrainConfig(data="recall-pixels", model="board-pyramid", recall=Recall(cells=3))
    model = build_model(config, RecallPixels(config.recall)).eval()
    assert model.backbone.reduction == (4, 8)
    images = config.recall.sample(2, 0).image
    with record_routes(model) as routes:
        assert model(images).shape == (2, 2, 24, 24)
    assert [read.index.shape for read in routes] == [(2, 9, 4)] * 2, "a region a cell in both blocks"
    for layer in filter(lambda module: isinstance(module, BiLevelRoutingAttention), model.modules()):
        layer.router = TableRouter(torch.arange(9)[:, None])
    dark = images.clone()
    dark[:, :, 8:16, 8:16] = -1
    changed = (model(images) != model(dark)).any(dim=(0, 1))
    assert changed[8:16, 8:16].any() and changed.sum() == changed[8:16, 8:16].sum()
