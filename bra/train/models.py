"""The model that a run's settings ask for, and the trained one that a run has left."""

import math
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from bra import official
from bra.biformer import FULL, MODELS, BiFormer
from bra.data import DataSet, RecallBoards, derive_seed
from bra.data.recall import CELL
from bra.files import load_weights, read_tensors
from bra.train.config import STARTS, TrainConfig
from bra.train.routers import ROUTERS
from bra.train.runs import RunFolder
from bra.train.tasks import HEADS, TASKS

FOR_BOARDS = ("board", "board-pyramid", "nano")


def build_model(config: TrainConfig, data: DataSet) -> nn.Module:
    """The network that `config` asks for, its weights drawn from the seed: a BiFormer, or a head on its stages.

    Raises ValueError if k, the head or the weights to start from do not fit.
    """
    allowed = HEADS[data.asks]
    head = config.dense.head or (allowed[-1] if config.on_boards else allowed[0])
    if head not in allowed:
        raise ValueError(f"dense.head must be one of {', '.join(allowed)} for {config.data}, but is {head!r}")
    stages = build_stages(config, data)
    if config.weights is not None:
        official.load_stages(stages, config.weights.expanduser())
    options = {"region": config.dense.region, "batch_norm": config.dense.batch_norm}
    size = CELL * config.recall.cells if config.on_boards else config.image_size
    return TASKS[data.asks](data).network(stages, head, size, **options)


def build_stages(config: TrainConfig, data: DataSet) -> BiFormer:
    """The BiFormer itself. Raises ValueError if k does not fit."""
    model = MODELS[config.model_name]
    if isinstance(data, RecallBoards):
        if config.model_name not in FOR_BOARDS:
            raise ValueError(
                f"model must be one of {', '.join(FOR_BOARDS)} for {config.data}, whose boards are too small for the "
                f"others, but is {config.model}"
            )
        model = replace(model, grid=(config.recall.cells, config.recall.cells))  # one region a cell
    k = math.prod(model.grid) if config.router == "all" else config.k
    if k is not None:
        model = replace(model, stages=tuple(s if s.k == FULL else replace(s, k=k) for s in model.stages))
    torch.manual_seed(derive_seed("weights", config.seed))
    return BiFormer(
        replace(
            model,
            num_classes=len(data.classes) if data.asks == "classes" else 0,
            in_channels=data.channels,
            drop_path=config.drop_path,
            lce_kernel=0 if "lce" in config.without else model.lce_kernel,
            position_kernel=0 if "position" in config.without else model.position_kernel,
            router=ROUTERS[config.router](config.seed),
            initialise=STARTS[config.start] if config.start else model.initialise,
        )
    )


def load_model(folder: Path, weights: str = "model", **place) -> tuple[nn.Module, DataSet, TrainConfig]:
    """The trained model of a run folder, ready to evaluate, with its data and settings.

    weights: model, those at the end, or best. place: settings of this machine, such as workers, or data that has moved.
    Raises FileNotFoundError if the run is not finished; ValueError if its weights do not fit, or its settings or
    classes are not what the data have.
    """
    run = RunFolder(folder)
    config = TrainConfig.from_settings(run.read_settings(), out=folder, **place)
    data = config.open_data()
    run.check_classes(data.classes)
    model, source = build_model(replace(config, weights=None), data), run.kept_weights(weights)
    load_weights(model, read_tensors(source)[0], source)
    return model.eval(), data, config
