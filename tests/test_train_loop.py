"""Runs that learn pixels and boxes, from the command line to the folder that they leave."""

import json
import re
import sys
from dataclasses import replace
from functools import partial

import pytest
import torch
from interrupted import die
from labelled import SIZES, write_coco, write_masks
from PIL import Image

import bra.train.__main__ as command_line
from bra.biformer import NANO, BiFormer, Stage
from bra.data.recall_where import RecallBoxes, RecallPixels
from bra.dense import detector
from bra.dense.upernet import UperNet
from bra.files import read_tensors, tensors_to_bytes
from bra.train import complete, prepare, train
from bra.train.config import TrainConfig
from bra.train.evaluation import evaluate
from bra.train.models import load_model
from bra.train.report import evaluate_again, table
from bra.train.tasks import Dense

SHORT = TrainConfig(steps=3, batch=2, warmup=1, evaluate_every=2, image_size=32, workers=0, device="cpu")
OTHER = replace(NANO, stages=(*NANO.stages, Stage(128, 1, heads=4, k=4)))  # larger than the model
PHOTOGRAPHS = {"routes.png", "answers.png"}
BOARDS = {"boards.png", "routing.jsonl"}
KEPT = {"config.json", "data.json", "metrics.jsonl", "summary.json", "curves.png", "explorer.html"}
KEPT |= {f"{name}.safetensors" for name in ("checkpoint", "best", "model")}
MEASURED = {"pixels": {"iou", "ious", "pixel_accuracy"}, "boxes": {"ap", "ap50", "ap75"}}
HITS = {"hit_rate", "reverse_hit_rate"}
SMALL = {"width": 32, "box_batch_size_per_image": 8, "rpn_post_nms_top_n_test": 20, "box_detections_per_img": 9}
KINDS = {  # data, head, what is left beside KEPT, what is measured on held-out images
    "recall-pixels": ("pixels", None, BOARDS, MEASURED["pixels"] | HITS | {"right_cell"}),
    "recall-boxes": ("boxes", None, BOARDS, MEASURED["boxes"] | HITS),
    "masks": ("pixels", "semantic-fpn", PHOTOGRAPHS, MEASURED["pixels"]),
    "upernet": ("pixels", "upernet", PHOTOGRAPHS, MEASURED["pixels"]),
    "coco": ("boxes", "retinanet", PHOTOGRAPHS, MEASURED["boxes"]),
    "mask-rcnn": ("boxes", "mask-rcnn", PHOTOGRAPHS, MEASURED["boxes"] | {"mask_ap", "mask_ap50", "mask_ap75"}),
}


@pytest.fixture(autouse=True)
def small(monkeypatch):
    """Few held-out boards, and detectors with narrow heads."""
    real = TrainConfig.open_data
    boards = {"recall-pixels": RecallPixels, "recall-boxes": RecallBoxes}

    def few(self):
        return boards[self.data](self.recall, held_out_count=6) if self.data in boards else real(self)

    monkeypatch.setattr(TrainConfig, "open_data", few)

    def narrow(kind, *given, **options):
        return detector(kind, *given, **options, **(SMALL if kind.endswith("rcnn") else {"width": 32}))

    monkeypatch.setattr("bra.train.tasks.detector", narrow)
    monkeypatch.setattr("bra.train.tasks.UperNet", partial(UperNet, width=8))


@pytest.fixture
def data(tmp_path):
    """Small data sets of every kind: what --data is called."""
    (tmp_path / "masks").mkdir()
    (tmp_path / "coco").mkdir()
    write_masks(tmp_path / "masks", SIZES[:4], SIZES[4:6])
    write_coco(tmp_path / "coco", SIZES[:4], SIZES[4:6])
    return {"masks": f"masks:{tmp_path / 'masks'}", "coco": f"coco:{tmp_path / 'coco'}"}


def settings(kind, data, **changes):
    """Of a short run. Photographs have regions of 16 pixels, so that they have many."""
    if kind.startswith("recall"):
        return replace(SHORT, data=kind, **changes)
    head = KINDS[kind][1]
    place = data["masks" if KINDS[kind][0] == "pixels" else "coco"]
    return replace(SHORT, data=place, dense=Dense(head=head, region=16), **changes)


def lines(run):
    """All that metrics.jsonl says but the time."""
    return [{n: v for n, v in line.items() if n != "seconds"} for line in run.read_metrics()]


@pytest.mark.parametrize("kind", KINDS)
def test_a_run_leaves_all_that_it_promises_and_its_weights_reach_the_score_again(kind, data, tmp_path):
    _, _, left, measured = KINDS[kind]
    run = train(settings(kind, data, out=tmp_path / "run"))
    assert {path.name for path in run.path.iterdir()} == KEPT | left
    summary, score = run.read_summary(), run.score
    assert set(summary["held_out"]) == measured and score in measured
    assert [line["step"] for line in lines(run) if "held_out" in line] == [0, 2, 3]
    losses = [line for line in lines(run) if "loss" in line]
    assert [line["step"] for line in losses] == [1, 2, 3]
    model, opened, config = load_model(run.path, workers=0)
    assert config.dense == settings(kind, data).dense and not model.training
    assert evaluate(model, opened) == summary["held_out"]
    noted = f"{summary['held_out'][score]:.4%}"
    again = evaluate_again(run.path, workers=0).splitlines()
    assert again[0].split() == ["weights", score, "now", "noted"]
    assert (
        f"{again[2].split()[0]} {noted} {noted}" == f"model.safetensors {noted} {noted}" == " ".join(again[2].split())
    )
    assert f"{summary['held_out'][score]:.2%}" in table(run)
    page = run.explorer.read_text()
    assert f'"source": "{run.path}, held-out image ' in page and "Outlined in white is what the network marks: " in page
    with Image.open(run.curves) as image:
        assert {"ap": "average precision", "iou": "IoU"}[score] in image.text["Description"]


@pytest.mark.parametrize("kind", ["recall-boxes", "coco"])
def test_a_run_that_was_interrupted_goes_on_bit_for_bit(kind, data, tmp_path):
    config = settings(kind, data, average=0.5)
    whole = train(replace(config, out=tmp_path / "whole"))
    die(prepare(replace(config, out=tmp_path / "parts")), at=3)
    assert read_tensors(tmp_path / "parts" / "checkpoint.safetensors")[1]["step"] == "2"
    parts = train(replace(config, out=tmp_path / "parts", resume=True))
    assert lines(parts) == lines(whole)
    for name in ("checkpoint", "best", "model"):
        a, b = (read_tensors(run.path / f"{name}.safetensors")[0] for run in (whole, parts))
        assert a.keys() == b.keys() and all(torch.equal(a[name], b[name]) for name in a), name


def test_stages_come_from_another_run_which_may_be_gone_afterwards(data, tmp_path):
    first = train(settings("masks", data, out=tmp_path / "first"))
    config = settings("coco", data, weights=first.weights, out=tmp_path / "second")
    training = prepare(config)
    begun = training.learner.model.state_dict()
    for name, value in read_tensors(first.weights)[0].items():
        if name.startswith(("backbone.stages", "backbone.downsample")):
            assert torch.equal(begun[f"detector.backbone.{name}"], value), name
    run = complete(training)
    first.weights.unlink()
    assert run.read_settings()["weights"] == str(first.weights)
    model, opened, _ = load_model(run.path, workers=0)
    assert evaluate(model, opened) == run.read_summary()["held_out"]


def spoil_size(folder):
    path = folder / "masks" / "annotations" / "train" / "1.png"
    with Image.open(path) as mask:
        mask.resize((13, 7)).save(path)


def spoil_content(change):
    """Changes the annotations for training."""

    def spoil(folder):
        path = folder / "coco" / "annotations" / "instances_train2017.json"
        content = json.loads(path.read_text())
        change(content)
        path.write_text(json.dumps(content))

    return spoil


def cut_json(folder):
    path = folder / "coco" / "annotations" / "instances_train2017.json"
    path.write_text(path.read_text()[:-9])


def nothing(folder):
    pass


REFUSED = [
    (
        "masks",
        [],
        spoil_size,
        r"annotations/train/1\.png must be as large as its image upright, 61 x 47 .*, but is 13 x 7",
    ),
    ("coco", [], spoil_content(lambda c: c["annotations"][0]["bbox"].__setitem__(0, 55)), "a bbox inside its image"),
    ("coco", [], spoil_content(lambda c: c["images"][2].update(file_name="none.png")), "1 of the 4 images .*/none.png"),
    ("coco", [], cut_json, r"instances_train2017\.json is not JSON"),
    ("coco", ["--dense.head", "upernet"], nothing, r"dense\.head must be one of retinanet, fcos, .* is 'upernet'"),
    ("masks", ["--dense.head", "fcos"], nothing, r"dense\.head must be one of semantic-fpn, upernet, pixel .* 'fcos'"),
    ("masks", ["--dense.region", "6"], nothing, "region must be a multiple of 4 pixels"),
    ("masks", ["--augment.flip", "0.5"], nothing, "augment must be left out for data of pixels"),
    ("masks", ["--weights", "{folder}/none.pth"], nothing, "No such file or directory: '.*none.pth'"),
    ("masks", ["--weights", "{folder}/other.safetensors"], nothing, "other.safetensors does not fit the model: "),
    ("recall", ["--dense.region", "8"], nothing, "dense must be left out for recall, whose images have one class each"),
]


@pytest.mark.parametrize(("kind", "words", "spoil", "message"), REFUSED, ids=[row[3][:40] for row in REFUSED])
def test_what_cannot_be_is_refused_in_one_line_and_nothing_is_written(
    kind, words, spoil, message, data, tmp_path, monkeypatch
):
    (tmp_path / "other.safetensors").write_bytes(tensors_to_bytes(BiFormer(OTHER).state_dict()))
    spoil(tmp_path)
    words = [word.format(folder=tmp_path) for word in words]
    said = command(monkeypatch, ["--data", data.get(kind, kind), "--out", str(tmp_path / "run"), *words])
    assert re.search(message, said) and "\n" not in said.strip() and said.startswith("error: ")
    assert not (tmp_path / "run").exists()


def command(monkeypatch, words):
    """What `python -m bra.train` says of what is wrong."""
    usual = ["--steps", "3", "--batch", "2", "--image-size", "32", "--workers", "0", "--device", "cpu"]
    monkeypatch.setattr(sys, "argv", ["bra.train", *usual, *words])
    monkeypatch.setattr(sys, "stdout", sys.__stdout__)  # whose encoding can be changed
    with pytest.raises(SystemExit) as ended:
        command_line.main()
    return str(ended.value)


def test_a_class_that_is_none_ends_a_run_in_one_line(data, tmp_path, monkeypatch):
    """Only the pixels show it: it is found when the mask is read."""
    path = tmp_path / "masks" / "annotations" / "val" / "1.png"
    with Image.open(path) as mask:
        mask.point(lambda value: 17).save(path)
    said = command(monkeypatch, ["--data", data["masks"], "--out", str(tmp_path / "run")])
    assert re.fullmatch(r"error: .*val/1\.png must hold 0 to 4 for its classes, or 255 .*, but holds 17", said)
    assert not (tmp_path / "run").exists(), "nothing was learnt yet"
