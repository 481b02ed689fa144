"""The model that a run's settings ask for, and the trained one that a run has left."""

import itertools
import math
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import torch
from torch import nn

from bra.biformer import FULL, MODELS, BiFormer
from bra.data import DataSet, RecallBoards, derive_seed, open_data
from bra.files import load_weights, read_json, read_tensors
from bra.patterns import Grid, all_regions, axial_regions, dilated_regions, local_regions, random_regions
from bra.topk import TableRouter
from bra.train.config import TrainConfig

TABLES = {"local": local_regions, "axial": axial_regions, "dilated": dilated_regions}


def build_model(config: TrainConfig, data: DataSet) -> BiFormer:
    """The model that `config` asks for, its weights drawn from the seed. Raises ValueError if k does not fit."""
    model = MODELS[config.model]
    if isinstance(data, RecallBoards):
        if config.model != "nano":
            raise ValueError(
                f"model must be nano for recall, whose boards are too small for the others, but is {config.model}"
            )
        model = replace(model, grid=(config.recall.cells, config.recall.cells))  # one region a cell
    k = math.prod(model.grid) if config.router == "all" else config.k
    if k is not None:
        model = replace(model, stages=tuple(s if s.k == FULL else replace(s, k=k) for s in model.stages))
    torch.manual_seed(derive_seed("weights", config.seed))
    return BiFormer(
        replace(
            model,
            num_classes=len(data.classes),
            in_channels=data.channels,
            drop_path=config.drop_path,
            lce_kernel=0 if "lce" in config.without else model.lce_kernel,
            position_kernel=0 if "position" in config.without else model.position_kernel,
            router=table_router(config.router, config.seed),
        )
    )


def table_router(name: str, seed: int) -> Callable[[Grid, int], nn.Module] | None:
    """What makes the routers of a model whose regions follow the table `name`; None for topk, the model's own."""
    if name == "topk":
        return None
    if name == "all":
        return lambda grid, k: TableRouter(all_regions(grid))
    if name == "random":  # each layer its own table, so that two layers reach further than one
        seeds = itertools.count()
        return lambda grid, k: TableRouter(random_regions(grid, k, derive_seed("table", seed, next(seeds))))
    return lambda grid, k: TableRouter(TABLES[name](grid, k))


def load_model(folder: Path, weights: str = "model", **place) -> tuple[BiFormer, DataSet, TrainConfig]:
    """The trained model of a run folder, ready to evaluate, with its data and settings.

    weights: model, those at the end, or best. place: settings of this machine, such as workers, or data that has moved.
    Raises FileNotFoundError if the run is not finished; ValueError if its weights do not fit.
    """
    config = TrainConfig.from_settings(read_json(folder / "config.json"), out=folder, **place)
    data = open_data(config.data, config.recall, config.images())
    model, source = build_model(config, data), folder / f"{weights}.safetensors"
    load_weights(model, read_tensors(source)[0], source)
    return model.eval(), data, config
