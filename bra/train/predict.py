"""`python -m bra.train predict RUN PHOTO`: what the network of a run says of one photograph, without the run's data."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from jaxtyping import UInt8
from PIL import Image
from torch import Tensor, nn

from bra import draw
from bra.data import DataSet, normalise, open_image
from bra.data.decoding import centre_box, cut, cut_to, upright_size
from bra.data.dense import scaled_size
from bra.data.loading import MEAN, STD
from bra.explorer.portray import SURE
from bra.files import load_weights, read_json, read_tensors, write_atomically
from bra.train.config import TrainConfig
from bra.train.models import build_model
from bra.train.runs import RunFolder


class Known(DataSet):
    """What a run's data.json says of its data: enough to build the network, not to train it."""

    channels, mean, std = 3, MEAN, STD

    def __init__(self, asks: str, classes: list[str]):
        self.asks, self.classes = asks, classes

    def training(self, *args):
        raise NotImplementedError

    def held_out(self, *args):
        raise NotImplementedError


def load_network(folder: Path, weights: str | None = None) -> tuple[nn.Module, Known, TrainConfig]:
    """The network of a run on photographs, ready to evaluate; its data need not be there.

    weights: best or model, those at the end; None: best, or else model. Images go in as `normalise(bytes, data.mean,
    data.std)`. Raises FileNotFoundError for a folder without weights; ValueError for a run on boards or on images
    without colour, and weights that do not fit.
    """
    run = RunFolder(folder)
    config = TrainConfig.from_settings(run.read_settings(), out=folder)
    if config.on_boards or config.data.startswith("fashion-mnist"):
        raise ValueError(f"run must be of photographs, but {folder} is of {config.data}: see python -m bra.explorer")
    kept = [name for name in ("best", "model") if run.kept_weights(name).exists()]
    if not kept:
        raise FileNotFoundError(f"{folder} holds no weights of a run: train first, or give another folder")
    data = Known(read_json(run.data).get("asks", "classes"), run.read_classes())
    model, source = build_model(replace(config, weights=None), data), run.kept_weights(weights or kept[0])
    load_weights(model, read_tensors(source)[0], source)
    return model.eval(), data, config


def read_photograph(path: Path, data: Known, config: TrainConfig) -> UInt8[Tensor, "3 h w"]:
    """A photograph as the held-out ones were shown: a square of it for classes, all of it for pixels and boxes."""
    if not path.is_file():
        raise FileNotFoundError(f"photo {path} is no file")
    with open_image(path, str(path)) as image:
        width, height = upright_size(image)
        if data.asks == "classes":
            return cut(image, centre_box(width, height, config.centre), config.image_size)
        columns, rows = scaled_size(width, height, config.image_size) if data.asks == "pixels" else (width, height)
        return cut_to(image, (0, 0, width, height), columns, rows)


@torch.no_grad()
def predict(folder: Path, photo: Path, out: Path | None = None) -> str:
    """Write what the network says beside the photograph, or to `out`, and a picture of it; returns a few lines.

    Classes: the five likeliest are told, nothing is written. Pixels: OUT.png, a grey image of the class of each pixel
    of the photograph, and OUT-picture.png. Boxes: OUT.json, left, top, right, bottom in pixels of the photograph, label
    and score, and OUT-picture.png. Raises what `load_network` and reading the photograph raise.
    """
    model, data, config = load_network(folder)
    pixels = read_photograph(photo, data, config)
    said = model(normalise(pixels[None], data.mean, data.std))
    stem = f"{photo.stem}-{data.asks}" if out is None else out.name.removesuffix(".png").removesuffix(".json")
    mask, objects, picture = ((out or photo).with_name(stem + end) for end in (".png", ".json", "-picture.png"))
    shown = pixels / 127.5 - 1
    if data.asks == "classes":
        best = said[0].softmax(dim=0).topk(min(5, len(data.classes)))
        return "\n".join(f"{share:6.1%}  {data.classes[i]}" for share, i in zip(best.values, best.indices, strict=True))
    if data.asks == "boxes":
        found = {name: value.tolist() for name, value in said[0].items() if name in ("boxes", "labels", "scores")}
        found["labels"] = [data.classes[i - 1] for i in found["labels"]]
        write_atomically(objects, json.dumps(found) + "\n")
        draw.boxed(shown, {"found": said[0]["boxes"][said[0]["scores"] > SURE]}).save(picture)
        sure = sum(score > SURE for score in found["scores"])
        return f"{sure} objects with a score above {SURE}: {objects}, {picture}"
    with open_image(photo, str(photo)) as image:
        width, height = upright_size(image)
    marks = F.interpolate(said, (height, width), mode="bilinear", align_corners=False)[0].argmax(dim=0)
    Image.fromarray(marks.numpy().astype(np.uint8)).save(mask)
    draw.class_maps(shown, {"found": said[0].argmax(dim=0)}, data.classes).save(picture)
    shares = marks.flatten().bincount(minlength=len(data.classes)) / marks.numel()
    told = [f"{share:6.1%}  {name}" for share, name in zip(shares.tolist(), data.classes, strict=True) if share > 0]
    return "\n".join([*told, f"{mask}, {picture}"])
