import json
import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from labelled import write_coco, write_masks
from PIL import ExifTags, Image

from bra.data import normalise
from bra.files import read_tensors, tensors_to_bytes
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


def described(picture):
    """What a picture says of itself."""
    with Image.open(picture) as image:
        return image.text["Description"]


def test_it_is_written_beside_the_photograph_where_nothing_else_is_said(run):
    photo = shutil.copy(run.parent / "photo.png", run.parent / "a.b.png")
    told = predict(run, Path(photo))
    mask, picture = (run.parent / f"a.b-pixels{end}" for end in (".png", "-picture.png"))
    assert mask.exists() and told.splitlines()[-1] == f"{mask}, {picture}"
    assert "found: " in described(picture) and not (run.parent / "a.png").exists()


def test_a_photograph_that_lies_on_its_side_is_turned(run, tmp_path):
    with Image.open(run.parent / "photo.png") as upright:
        lying, note = upright.transpose(Image.Transpose.ROTATE_90), Image.Exif()
    note[ExifTags.Base.Orientation] = 6
    lying.save(tmp_path / "lying.png", exif=note)
    predict(run, tmp_path / "lying.png")
    predict(run, run.parent / "photo.png", tmp_path / "upright.png")
    mine, theirs = (Image.open(tmp_path / f"{name}.png") for name in ("lying-pixels", "upright"))
    assert np.array_equal(mine, theirs)


def test_the_best_weights_answer_unless_others_are_asked_for(run, tmp_path):
    copy = shutil.copytree(run, tmp_path / "run")
    settings = json.loads((copy / "config.json").read_text())
    (copy / "config.json").write_text(json.dumps(settings | {"weights": "gone.pth"}))
    trained, info = read_tensors(copy / "best.safetensors")
    for name, change in (("best", 1), ("model", 2)):
        changed = {key: value + change if key == "head.paint.0.bias" else value for key, value in trained.items()}
        (copy / f"{name}.safetensors").write_bytes(tensors_to_bytes(changed, **info))

    def change(weights=None):
        now = load_network(copy, weights)[0].state_dict()["head.paint.0.bias"]
        return round((now - trained["head.paint.0.bias"]).mean().item())

    assert [change(), change("best"), change("model")] == [1, 1, 2]
    (copy / "best.safetensors").unlink()
    assert change() == 2


def test_boxes_are_those_of_the_photograph(tmp_path, monkeypatch):
    (tmp_path / "data").mkdir()
    write_coco(tmp_path / "data")
    boxes = replace(SHORT, dense=Dense(head="token"), image_size=64)
    made = train(replace(boxes, data=f"coco:{tmp_path / 'data'}", out=tmp_path / "run"))

    def unsure(*given):
        """So little trained, it is sure of nothing: now it says what it would guess."""
        network, *others = load_network(*given)
        network.detector.score_thresh = 0.0
        return network, *others

    monkeypatch.setattr("bra.train.predict.load_network", unsure)
    photo = tmp_path / "data" / "val2017" / "0.png"
    with Image.open(photo) as image:
        pixels = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
    network, data, _ = unsure(made.path)
    with torch.no_grad():
        (expected,) = network(normalise(pixels[None], data.mean, data.std))
    sure = expected["scores"].sort(descending=True).values[2].item() - 1e-6
    monkeypatch.setattr("bra.train.predict.SURE", sure)
    told = predict(made.path, photo, tmp_path / "mine.json")
    found = json.loads((tmp_path / "mine.json").read_text())
    assert len(found["boxes"]) > 3 and {*found["labels"]} <= {"cat", "dog", "eel"} and len({*found["labels"]}) > 1
    for name in ("boxes", "scores"):
        assert torch.equal(torch.tensor(found[name]), expected[name])
    assert found["labels"] == [["cat", "dog", "eel"][i - 1] for i in expected["labels"]]
    assert told == f"3 objects with a score above {sure}: {tmp_path / 'mine.json'}, {tmp_path / 'mine-picture.png'}"
    assert "found 3 objects" in described(tmp_path / "mine-picture.png")


def test_the_class_of_the_middle_of_a_photograph_is_told(image_folder, tmp_path):
    made = train(replace(SHORT, data=f"folder:{image_folder}", centre=0.5, out=tmp_path / "run"))
    bright = np.random.default_rng(0).integers(256, size=(60, 80, 3), dtype=np.uint8)
    bordered, dark = bright.copy(), np.zeros_like(bright)
    bordered[11:49, 21:59] = 0  # the middle square of half the shorter side, and what scaling it reads around it
    photos = [tmp_path / f"{name}.png" for name in ("dark", "bordered", "bright")]
    for photo, pixels in zip(photos, (dark, bordered, bright), strict=True):
        Image.fromarray(pixels).save(photo)
    there = {*tmp_path.iterdir()}
    said = [predict(made.path, photo) for photo in photos]
    assert said[0] == said[1] != said[2] and {*tmp_path.iterdir()} == there
    network, data, config = load_network(made.path)
    pixels = read_photograph(photos[2], data, config)
    with torch.no_grad():
        shares = network(normalise(pixels[None], data.mean, data.std))[0].softmax(dim=0).tolist()
    first, last = sorted(zip(shares, ["blue", "red"], strict=True), reverse=True)
    assert pixels.shape == (3, 32, 32) and said[2] == f"{first[0]:6.1%}  {first[1]}\n{last[0]:6.1%}  {last[1]}"


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
    for data in ("recall-pixels", "fashion-mnist:here"):
        (copy / "config.json").write_text(json.dumps(settings | {"data": data}))
        with pytest.raises(ValueError, match=f"run must be of photographs, but .* is of {data}: see"):
            load_network(copy)
