import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from labelled import write_coco, write_masks
from PIL import Image

from bra.data import normalise
from bra.train.config import TrainConfig
from bra.train.loop import train
from bra.train.predict import load_network, predict, read_photograph
from bra.train.tasks import Dense

SHORT = TrainConfig(model="nano", steps=2, warmup=0, batch=2, image_size=32, workers=0, device="cpu")
PIXELS = replace(SHORT, dense=Dense(head="pixel", region=16))
CLASSES = ["wall", "floor", "lamp", "door", "cat"]


@pytest.fixture(scope="module")
def run(tmp_path_factory):
    """A run on pixels, whose data are gone."""
    folder = tmp_path_factory.mktemp("predict")
    write_masks(folder / "data")
    made = train(replace(PIXELS, data=f"masks:{folder / 'data'}", out=folder / "run"))
    shutil.move(folder / "data" / "images" / "val" / "0.png", folder / "photo.png")
    shutil.rmtree(folder / "data")
    return made.path


def test_the_mask_is_as_large_as_the_photograph_and_what_the_network_says(run, tmp_path):
    photo = run.parent / "photo.png"
    told = predict(run, photo, tmp_path / "mine.png")
    with Image.open(tmp_path / "mine.png") as image:
        mask = np.asarray(image)
        assert image.size == (61, 47) and image.mode == "L", "as large as the photograph"
    assert (tmp_path / "mine-picture.png").exists() and "mine.png" in told
    network, data, config = load_network(run)
    pixels = read_photograph(photo, data, config)
    assert pixels.shape == (3, 32, 42), "the shorter side is scaled to the size of training, and nothing is cut off"
    assert data.classes == CLASSES and not network.training
    with torch.no_grad():
        logits = network(normalise(pixels[None], data.mean, data.std))
    larger = torch.nn.functional.interpolate(logits, (47, 61), mode="bilinear", align_corners=False)
    assert np.array_equal(mask, larger[0].argmax(dim=0).numpy())
    shares = {line.split()[1]: line.split()[0] for line in told.splitlines()[:-1]}
    counted = np.bincount(mask.ravel(), minlength=5) / mask.size
    assert shares == {name: f"{share:.1%}" for name, share in zip(CLASSES, counted, strict=True) if share}


def test_it_is_written_beside_the_photograph_where_nothing_else_is_said(run):
    predict(run, run.parent / "photo.png")
    assert (run.parent / "photo-pixels.png").exists() and (run.parent / "photo-pixels-picture.png").exists()


def test_boxes_are_those_of_the_photograph(tmp_path):
    (tmp_path / "data").mkdir()
    write_coco(tmp_path / "data")
    boxes = replace(SHORT, dense=Dense(head="token"), image_size=64)
    made = train(replace(boxes, data=f"coco:{tmp_path / 'data'}", out=tmp_path / "run"))
    (photo,) = list((tmp_path / "data").glob("val*/*"))[:1]
    predict(made.path, photo, tmp_path / "found")
    found = json.loads((tmp_path / "found.json").read_text())
    with Image.open(photo) as image:
        width, height = image.size
    _, data, _ = load_network(made.path)
    assert len(found["boxes"]) == len(found["scores"]) == len(found["labels"])
    assert set(found["labels"]) <= set(data.classes)
    assert all(0 <= x <= width and 0 <= y <= height for box in found["boxes"] for x, y in (box[:2], box[2:]))


def test_what_cannot_be_asked_is_told(run, tmp_path):
    with pytest.raises(FileNotFoundError, match=r"photo .*none.jpg is no file"):
        predict(run, tmp_path / "none.jpg")
    copy = tmp_path / "run"
    shutil.copytree(run, copy)
    for name in ("best", "model"):
        (copy / f"{name}.safetensors").unlink()
    with pytest.raises(FileNotFoundError, match="holds no weights of a run"):
        load_network(copy)
    settings = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(settings | {"data": "recall-pixels"}))
    with pytest.raises(ValueError, match=r"run must be of photographs, but .* is of recall-pixels"):
        load_network(copy)
