import json
import math
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from bra.data import DataSet, DenseSettings, ImageSettings, RecallBoards
from bra.data.recall import Recall
from bra.data.recall_where import RecallPixels
from bra.train.__main__ import asked_for
from bra.train.augment import Augment
from bra.train.config import TrainConfig
from bra.train.learner import learning_rate
from bra.train.recipes import RECIPES, paper
from bra.train.tasks import Dense

PHOTOGRAPHS = TrainConfig(data="folder:/photographs")


class Stub(DataSet):
    """All that `resolved` asks of a data set."""

    training = held_out = None

    def __init__(self, count, steps=17, channels=3, asks="classes"):
        self.count, self.steps, self.channels, self.asks = count, steps, channels, asks


IMAGENET100 = Stub(126_689)
ADE20K, COCO = Stub(20_210, asks="pixels"), Stub(117_266, asks="boxes")  # COCO: those with objects
LEARNT = {
    "own-masks": Stub(12, asks="pixels"),
    "segmentation": ADE20K,
    "upernet": ADE20K,
    "detection": COCO,
    "mask-rcnn": COCO,
}


def test_imagenet100_takes_12300_steps_of_which_615_warm_up():
    found = RECIPES["imagenet100"]().resolved(IMAGENET100)
    assert (found.steps, found.warmup, found.evaluate_every) == (12_300, 615, 123)  # 126,689 = 123 * 1024 + 737
    assert (found.epochs, found.warmup_epochs, found.learning_rate) == (None, None, 1e-3)


def test_epochs_become_steps_of_whole_batches():
    config = replace(PHOTOGRAPHS, batch=7, epochs=1.5, warmup_epochs=0.5)
    found = config.resolved(Stub(139))  # 19 steps an epoch, and 6 images left over
    assert (found.steps, found.warmup, found.evaluate_every) == (28, 10, 19)  # 28.5 and 9.5, to the even neighbour
    assert replace(config, epochs=0.001, warmup_epochs=0.0).resolved(Stub(139)).steps == 1


def test_a_recipe_that_is_cut_short_is_evaluated_ten_times():
    every = {steps: asked_for(["segmentation", f"--steps={steps}", "--warmup=0"]).resolved(ADE20K).evaluate_every
             for steps in (5, 19, 3_999, 4_000, 9_000)}  # fmt: skip
    assert every == {5: 1, 19: 1, 3_999: 399, 4_000: 4_000, 9_000: 4_000}, "else as the recipe says"
    assert replace(PHOTOGRAPHS, batch=7, steps=18).resolved(Stub(139)).evaluate_every == 1, "an epoch has 19 steps"


def test_what_is_given_in_steps_stays():
    found = replace(PHOTOGRAPHS, batch=7, steps=11, warmup=3, evaluate_every=5).resolved(Stub(139))
    assert (found.steps, found.warmup, found.evaluate_every) == (11, 3, 5)
    assert replace(PHOTOGRAPHS, batch=7, warmup_epochs=0.0).resolved(Stub(139)).warmup == 0


def test_the_warm_up_is_shorter_than_the_run():
    assert [replace(PHOTOGRAPHS, steps=steps).resolved(Stub(139)).warmup for steps in (4, 31, 5000)] == [0, 6, 100]
    for change in ({"steps": 11, "warmup": 11}, {"steps": 11, "warmup_epochs": 1.0}):
        with pytest.raises(ValueError, match="warmup must be shorter than the run, 11 steps, but is"):
            replace(PHOTOGRAPHS, batch=7, **change).resolved(Stub(139))
    short = replace(PHOTOGRAPHS, batch=7, steps=11, warmup_epochs=1.0)
    with pytest.raises(ValueError, match=r"11 steps, but is 19, as warmup_epochs say: add --warmup-epochs None$"):
        short.resolved(Stub(139))
    assert replace(short, warmup_epochs=None).resolved(Stub(139)).warmup == 2, "which helps"
    with pytest.raises(ValueError, match=r"warmup must be left out where .* add --warmup-epochs None"):
        replace(PHOTOGRAPHS, warmup=3, warmup_epochs=0.0)


@pytest.mark.parametrize(("steps", "epochs"), [("steps", "epochs"), ("warmup", "warmup-epochs")])
def test_epochs_of_a_recipe_are_taken_back_as_the_error_says(steps, epochs, capsys):
    words = ["imagenet100", f"--{steps}", "2000"]
    with pytest.raises((ValueError, SystemExit)) as refused:
        asked_for(words)
    told = " ".join(capsys.readouterr().err.replace("│", " ").split()) + str(refused.value)
    assert f"{steps} must be left out where" in told and f"add --{epochs} None" in told
    found = asked_for([*words, f"--{epochs}", "None"]).resolved(IMAGENET100)
    assert getattr(found, steps) == 2000


def test_steps_stay_what_they_are_where_the_data_say_them():
    assert replace(PHOTOGRAPHS, batch=7).resolved(Stub(139, steps=17)).steps == 17, "else as suits the data"


def test_the_recall_boards_set_their_own_length():
    found = TrainConfig().resolved(RecallBoards(Recall()))
    assert (found.steps, found.warmup, found.evaluate_every, found.learning_rate) == (500, 100, 100, 2e-3)


@pytest.mark.parametrize(("batch", "rate"), [(1024, 1e-3), (256, 2.5e-4), (4096, 4e-3), (2, 1e-3 / 512)])
def test_the_learning_rate_is_scaled_in_proportion_to_the_batch(batch, rate):
    found = replace(paper(), batch=batch).resolved(IMAGENET100)
    assert found.learning_rate == pytest.approx(rate, rel=1e-12) and found.learning_rate_batch is None
    unscaled = replace(paper(), batch=batch, learning_rate_batch=None).resolved(IMAGENET100)
    assert unscaled.learning_rate == 1e-3


@pytest.mark.parametrize("name", RECIPES)
def test_what_is_resolved_stays_as_it_is(name):
    config, data = RECIPES[name](), RecallBoards(Recall()) if name == "recall" else LEARNT.get(name, IMAGENET100)
    found = config.resolved(data)
    assert found.resolved(data) == found
    assert found.model == config.model_name
    kept = {"data", "batch", "augment", "weight_decay", "seed", "drop_path", "precision", "average", "clip", "decay"}
    kept |= {"dense", "image_size"}
    assert all(getattr(found, name) == getattr(config, name) for name in kept)


def test_the_papers_recipe_has_its_numbers():
    config = paper()
    assert (config.model, config.epochs, config.warmup_epochs, config.weight_decay) == ("tiny", 300, 5, 0.05)
    assert (config.learning_rate, config.batch, config.learning_rate_batch) == (1e-3, 1024, 1024)
    assert config.drop_path == 0.1 and config.clip is None and config.average == 0 and config.image_size == 224
    assert config.augment == Augment(
        least_area=0.08, flip=0.5, rand_augment=9.0, mixup=0.8, cutmix=1.0, erasing=0.25, smoothing=0.1
    )


def test_imagenet100_is_the_papers_recipe_but_for_four_things():
    ours, theirs = (RECIPES[name]() for name in ("imagenet100", "paper"))
    changed = {name for name in asdict(ours) if getattr(ours, name) != getattr(theirs, name)}
    assert changed == {"data", "epochs", "clip", "average"} and ours.augment == theirs.augment
    assert (ours.epochs, ours.clip, ours.average) == (100, 1.0, 0.999)


def test_fashion_mnist_takes_four_epochs_of_468_steps():
    found = RECIPES["fashion-mnist"]().resolved(Stub(60_000, channels=1))
    assert (found.steps, found.evaluate_every) == (1872, 468)


def test_own_masks_may_be_few_and_small():
    config = asked_for(["own-masks", "--data", "masks:x"])
    assert (config.data, config.model_name, config.precision, config.weights) == ("masks:x", "nano", "fp32", None)
    assert config.image_size // config.dense.region == 4, "16 regions in a crop, of which each reads 4"
    found = config.resolved(Stub(4, asks="pixels"))
    assert (found.steps, found.warmup, found.evaluate_every, found.learning_rate) == (100, 10, 20, 2e-3)


def test_segmentation_has_the_numbers_of_the_official_configuration():
    """semantic_segmentation/configs/ade20k/sfpn.biformer_small.py, and the data's: 4 images on each of 8 GPUs."""
    config = RECIPES["segmentation"]()
    assert (config.dense.head, config.image_size, config.batch, config.clip) == ("semantic-fpn", 512, 4 * 8, None)
    assert (config.learning_rate, config.weight_decay, config.drop_path) == (0.0001 * 2, 0.0001, 0.15)
    found = config.resolved(ADE20K)
    assert (found.steps, found.warmup, found.evaluate_every) == (160_000 // 2, 1000, 8000 // 2)
    assert config.decay == "cosine" and config.dense.region == 512 // 8 and config.dense.batch_norm == "train"


def test_upernet_has_the_numbers_of_the_official_configuration():
    """semantic_segmentation/configs/ade20k/upernet.biformer_small.py: 2 images on each of 8 GPUs."""
    config = RECIPES["upernet"]()
    assert (config.dense.head, config.image_size, config.batch, config.clip) == ("upernet", 512, 2 * 8, None)
    assert (config.learning_rate, config.weight_decay, config.drop_path) == (0.00006, 0.01, 0.3)
    found = config.resolved(ADE20K)
    assert (found.steps, found.warmup) == (160_000, 1500)
    assert config.decay == "linear" and config.dense.region == 512 // 8, "poly of power 1"


@pytest.mark.parametrize(
    ("name", "head", "decay"), [("detection", "retinanet", 0.0001), ("mask-rcnn", "mask-rcnn", 0.05)]
)
def test_detectors_have_the_numbers_of_the_official_configurations(name, head, decay):
    """object_detection/configs/coco/{retinanet,maskrcnn}.1x.biformer_small.py, _base_/schedules/schedule_1x.py."""
    config = RECIPES[name]()
    assert (config.dense.head, config.image_size, config.batch, config.clip) == (head, 800, 2 * 8, None)
    assert (config.learning_rate, config.weight_decay, config.drop_path) == (0.0001, decay, 0.2)
    assert config.decay == "steps" and config.dense.batch_norm == "frozen", "norm_eval of models_mm/biformer_mm.py"
    assert 800 / 16 <= config.dense.region <= 1333 / 16 + 1
    found = config.resolved(COCO)
    assert (found.warmup, found.evaluate_every, found.steps) == (500, 7329, 12 * 7329)
    per_epoch = found.evaluate_every
    rates = [learning_rate(epoch * per_epoch, 1.0, found.warmup, found.steps, found.decay) for epoch in range(1, 12)]
    assert rates == pytest.approx([1] * 7 + [0.1] * 3 + [0.01])


def test_dense_recall_asks_where_with_the_settings_of_recall():
    ours, theirs = RECIPES["dense-recall"](), RECIPES["recall"]()
    assert {name for name in asdict(ours) if getattr(ours, name) != getattr(theirs, name)} == {"data", "steps"}
    assert (ours.data, ours.steps) == ("recall-pixels", 400) == ("recall-pixels", RecallPixels(Recall()).steps)


def test_dense_settings_weights_and_decay_come_back_from_json():
    config = replace(
        RECIPES["mask-rcnn"](),
        weights=Path("a/b.pth"),
        dense=Dense("fcos", region=96, batch_norm="train"),
        decay="linear",
    )
    settings = config.settings()
    assert settings["weights"] == str(Path("a/b.pth")) and settings["dense"]["region"] == 96
    assert TrainConfig.from_settings(json.loads(json.dumps(settings))) == replace(config, workers=2)


def test_dense_settings_reach_the_data(monkeypatch):
    config = replace(RECIPES["mask-rcnn"](), corrupt="skip", workers=3, image_size=96)
    seen = []
    monkeypatch.setattr("bra.train.config.open_data", lambda *given: seen.append(given) or COCO)
    for head, masks in (("mask-rcnn", True), ("retinanet", False)):
        replace(config, dense=Dense(head)).open_data()
        assert seen[-1][0] == "coco:data/coco" and seen[-1][3] == DenseSettings(
            96, masks=masks, workers=3, corrupt="skip"
        )


@pytest.mark.parametrize("data", [ADE20K, COCO], ids=["pixels", "boxes"])
def test_augmentation_of_dense_data_is_refused(data):
    config = replace(PHOTOGRAPHS, data="masks:x", batch=7, augment=Augment(flip=0.5))
    with pytest.raises(ValueError, match=f"augment must be left out for data of {data.asks}, which are cropped and"):
        config.resolved(data)


@pytest.mark.parametrize("dense", [Dense(head="pixel"), Dense(region=32), Dense(batch_norm="frozen")], ids=str)
def test_dense_settings_are_refused_where_images_have_one_class(dense):
    with pytest.raises(ValueError, match="dense must be left out for folder:/photographs, whose images have one class"):
        replace(PHOTOGRAPHS, batch=7, dense=dense).resolved(Stub(139))
    assert replace(PHOTOGRAPHS, batch=7, dense=dense).resolved(Stub(139, asks="pixels")).dense == dense


SEVERAL_GPUS = ("paper", "segmentation", "upernet", "detection", "mask-rcnn")


@pytest.mark.parametrize("name", RECIPES)
def test_every_recipe_says_how_it_is_run_on_what_and_what_came_of_it(name):
    text = RECIPES[name].__doc__
    text = " ".join(text.split())
    assert f"Command: `{'torchrun' if name in SEVERAL_GPUS else 'python'}" in text and f"-m bra.train {name}" in text
    assert "Hardware: " in text
    assert "Expected: " in text or "accuracy: not run" in text
    assert ("Run" in text) != ("not run" in text.lower()), "run, or not run"


@pytest.mark.parametrize("name", RECIPES)
def test_settings_come_back_from_json(name):
    config = replace(RECIPES[name](), out=Path("elsewhere"), device="cpu", tensorboard=True)
    found = TrainConfig.from_settings(json.loads(json.dumps(config.settings())), out=Path("here"), workers=3)
    assert found == replace(config, out=Path("here"), workers=3, device="auto", tensorboard=False)


def test_parts_left_out_and_nested_settings_come_back_from_json():
    config = TrainConfig(model="nano", without=("position", "lce"), recall=Recall(cells=5, glyphs=3, noise=0.25))
    found = TrainConfig.from_settings(json.loads(json.dumps(config.settings())))
    assert found == config and found.without == ("position", "lce") and hash(found.recall) == hash(config.recall)
    config = replace(PHOTOGRAPHS, augment=Augment(flip=0.5, mixup=0.2))
    assert TrainConfig.from_settings(json.loads(json.dumps(config.settings()))).augment == Augment(flip=0.5, mixup=0.2)


@pytest.mark.parametrize("config", [{"without": ("lce",)}, {"model": "board-pyramid", "without": ("position", "lce")}])
def test_the_board_network_has_nothing_to_leave_out(config):
    with pytest.raises(ValueError, match=r"without must be left out for model board\b.*: with model nano there is"):
        TrainConfig(**config)


@pytest.mark.parametrize(("data", "name"), [("recall", "board"), ("folder:/x", "nano")])
def test_the_data_choose_the_model(data, name):
    images = RecallBoards(Recall()) if data == "recall" else IMAGENET100
    config = TrainConfig(data=data)
    assert config.model is None and config.model_name == config.resolved(images).model == name
    assert TrainConfig(data=data, model="nano").model_name == "nano"
    assert asked_for(["--data", data]).model_name == name, "a command line begins with a recipe, which must not choose"


def test_the_place_given_overrides_the_settings():
    settings = replace(PHOTOGRAPHS, epochs=3.0).settings()
    found = TrainConfig.from_settings(settings, data="folder:/moved", resume=True)
    assert (found.data, found.epochs, found.resume) == ("folder:/moved", 3.0, True)


@pytest.mark.parametrize("change", ["new", "no recall", "no without", "of augment", "of recall"])
def test_settings_of_another_version_are_refused(change):
    settings = TrainConfig().settings()
    if change == "new":
        settings["dropout"] = 0.1
    elif change.startswith("no "):
        del settings[change.removeprefix("no ")]
    else:
        settings[change.removeprefix("of ")]["colour"] = 0.4
    with pytest.raises(ValueError, match=r"config\.json must be of this version of bra, but is not: "):
        TrainConfig.from_settings(settings)


def test_where_a_run_is_kept_and_computed_is_no_setting():
    moved = TrainConfig(out=Path("elsewhere"), device="mps", workers=7, resume=True, tensorboard=True)
    assert moved.settings() == TrainConfig().settings()
    assert set(asdict(moved)) - set(moved.settings()) == {"out", "device", "workers", "resume", "tensorboard"}


def test_a_run_folder_defaults_to_data_and_router():
    assert str(TrainConfig().folder()) == os.path.join("runs", "recall-topk")
    assert str(TrainConfig(data="folder:/x/y", router="all").folder()) == os.path.join("runs", "folder-all")
    assert str(TrainConfig(out=Path("elsewhere")).folder()) == "elsewhere"


def test_how_photographs_are_read_is_what_the_settings_say():
    config = replace(PHOTOGRAPHS, image_size=96, augment=Augment(least_area=0.3), centre=0.875, corrupt="skip")
    assert replace(config, workers=5).images() == ImageSettings(96, 0.3, 0.875, "skip", 5)


@pytest.mark.parametrize(
    ("change", "message"),
    [({name: 0}, f"{name} must be at least 1, but is 0") for name in ("steps", "batch", "accumulate", "evaluate_every")]
    + [({"learning_rate_batch": 0}, "learning_rate_batch must be at least 1, but is 0")]
    + [({"image_size": 0}, "size must be at least 1, but is 0")]
    + [({name: -1}, f"{name} must be at least 0, but is -1") for name in ("warmup", "workers")]
    + [
        ({name: value}, f"{name} must be above 0 and finite, but is {value}")
        for name in ("learning_rate", "clip", "epochs")
        for value in (0.0, -0.5, math.nan, math.inf)
    ]
    + [
        ({name: value}, f"{name} must be at least 0 and finite, but is {value}")
        for name in ("weight_decay", "warmup_epochs")
        for value in (-0.5, math.nan, math.inf)
    ]
    + [({"average": value}, f"average must be at least 0 and below 1, but is {value}") for value in (1.0, -0.1)]
    + [
        ({"steps": 3, "epochs": 2.0}, "steps must be left out where epochs are given, but is 3"),
        ({"router": "local", "dense": Dense(region=32)}, "dense.region must be left out with router local, whose"),
        ({"router": "all", "k": 3}, "k must be left out with router all, which reads every region, but is 3"),
        ({"data": "recall", "augment": Augment(flip=0.5)}, "augment must be left out for recall, whose boards"),
        ({"centre": 1.5}, "centre must be above 0 and at most 1, but is 1.5"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(PHOTOGRAPHS, **change)


def test_another_decay_is_refused(unchecked):
    with pytest.raises(ValueError, match="decay must be one of cosine, linear, steps, but is 'square'"):
        replace(PHOTOGRAPHS, decay="square")


@pytest.mark.parametrize("change", [{"epochs": 3.0}, {"warmup_epochs": 3.0}])
def test_epochs_of_images_that_never_end_are_refused(change):
    with pytest.raises(
        ValueError, match=f"{next(iter(change))} must be steps for recall, whose images never end, but is 3.0"
    ):
        TrainConfig(**change).resolved(RecallBoards(Recall()))


def test_a_batch_larger_than_the_data_is_refused():
    with pytest.raises(ValueError, match="batch must be at most the number of training images, 139, but is 140"):
        replace(PHOTOGRAPHS, batch=140).resolved(Stub(139))
    assert replace(PHOTOGRAPHS, batch=139, epochs=2.0).resolved(Stub(139)).steps == 2


def test_rand_augment_of_grey_images_is_refused():
    grey = replace(PHOTOGRAPHS, batch=7, augment=Augment(rand_augment=2.0))
    with pytest.raises(ValueError, match=r"augment\.rand_augment must be 0 for images without colour, but is 2.0"):
        grey.resolved(Stub(139, channels=1))
    grey.resolved(Stub(139))
