import json
import math
import os
from dataclasses import asdict, replace
from pathlib import Path

import pytest

from bra.data import DataSet, ImageSettings, RecallBoards
from bra.data.recall import Recall
from bra.train.__main__ import asked_for
from bra.train.augment import Augment
from bra.train.config import TrainConfig
from bra.train.recipes import RECIPES, paper

PHOTOGRAPHS = TrainConfig(data="folder:/photographs")


class Stub(DataSet):
    """All that `resolved` asks of a data set."""

    training = held_out = None

    def __init__(self, count, steps=17, channels=3):
        self.count, self.steps, self.channels = count, steps, channels


IMAGENET100 = Stub(126_689)


def test_imagenet100_takes_12300_steps_of_which_615_warm_up():
    found = RECIPES["imagenet100"]().resolved(IMAGENET100)
    assert (found.steps, found.warmup, found.evaluate_every) == (12_300, 615, 123)  # 126,689 = 123 * 1024 + 737
    assert (found.epochs, found.warmup_epochs, found.learning_rate) == (None, None, 1e-3)


def test_epochs_become_steps_of_whole_batches():
    config = replace(PHOTOGRAPHS, batch=7, epochs=1.5, warmup_epochs=0.5)
    found = config.resolved(Stub(139))  # 19 steps an epoch, and 6 images left over
    assert (found.steps, found.warmup, found.evaluate_every) == (28, 10, 19)  # 28.5 and 9.5, to the even neighbour
    assert replace(config, epochs=0.001, warmup_epochs=0.0).resolved(Stub(139)).steps == 1


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
    config, data = RECIPES[name](), RecallBoards(Recall()) if name == "recall" else IMAGENET100
    found = config.resolved(data)
    assert found.resolved(data) == found
    assert found.model == config.model_name
    kept = {"data", "batch", "augment", "weight_decay", "seed", "drop_path", "precision", "average", "clip"}
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


@pytest.mark.parametrize("config", [{"without": ("lce",)}, {"model": "board", "without": ("position", "lce")}])
def test_the_board_network_has_nothing_to_leave_out(config):
    with pytest.raises(ValueError, match=r"without must be left out for model board.*: with model nano there is"):
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
        ({"router": "all", "k": 3}, "k must be left out with router all, which reads every region, but is 3"),
        ({"data": "recall", "augment": Augment(flip=0.5)}, "augment must be left out for recall, whose boards"),
        ({"centre": 1.5}, "centre must be above 0 and at most 1, but is 1.5"),
    ],
)  # fmt: skip
def test_bad_settings_are_refused(change, message):
    with pytest.raises(ValueError, match=message):
        replace(PHOTOGRAPHS, **change)


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
