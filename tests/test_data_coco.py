import itertools
import json
import logging
import sys

import labelled
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from bra.data import CocoObjects, DamagedImage, DenseSettings, ImageSettings, Objects, Shard, open_data
from bra.data.outlines import draw_outline, runs_of
from bra.data.recall import Recall

SETTINGS, MASKS = DenseSettings(workers=0), DenseSettings(workers=0, masks=True)
SKIP = DenseSettings(workers=0, corrupt="skip")


@pytest.fixture
def folder(tmp_path):
    labelled.write_coco(tmp_path)
    return tmp_path


@pytest.fixture
def library():
    return pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")


def training(data, count, size=4, start=0, seed=1, shard=Shard()):  # noqa: B008
    return list(itertools.islice(data.training(size, seed, start, shard), count))


def edit(folder, change, split="train"):
    """Change what a file of annotations holds."""
    path = folder / "annotations" / f"instances_{split}2017.json"
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


def painted_as(image, box):
    """The label whose colour all of a box has, and nothing next to it on the left or right."""
    left, top, right, bottom = (int(side) for side in box)
    colours = image[:, top:bottom, left:right].flatten(1).unique(dim=1).T.tolist()
    (label,) = [label for label, colour in labelled.COLOUR_OF.items() if [list(colour)] == colours]
    for column in (left - 1, right):
        if 0 <= column < image.shape[2]:
            beside, colour = image[:, top:bottom, column].T, torch.tensor(labelled.COLOUR_OF[label])
            assert (beside != colour).any(dim=1).all()
    return label


def test_held_out_images_have_all_their_objects_and_zeros_where_they_end(folder):
    data = open_data(f"coco:{folder}", Recall(), ImageSettings(), SETTINGS)
    assert (data.count, data.held_out_count) == (7, 4) and data.damaged == []
    assert data.categories == [3, 7, 90] and data.classes == ["cat", "dog", "eel"]
    batches = list(data.held_out(3))
    assert [len(batch.label) for batch in batches] == [3, 1] and all(isinstance(b, Objects) for b in batches)
    first, second = batches
    assert first.image.shape == (3, 3, 61, 89) and first.masks.shape == (3, 3, 0, 0)
    assert first.size.tolist() == [[47, 61], [61, 47], [53, 89]]
    assert first.label.tolist() == [[3, 2, 0], [1, 1, 3], [2, 1, 0]]
    assert first.crowd.tolist() == [[False, True, False], [False] * 3, [False] * 3]
    assert first.area.tolist() == [[666.5, 34.5, 0], [14.5, 142.5, 119.5], [142.5, 118.5, 0]]
    assert first.boxes[0].tolist() == [[0, 0, 23, 29], [30, 31, 35, 38], [0, 0, 0, 0]]
    for image, (height, width), labels, boxes in zip(*first[:4], strict=True):
        assert not image[:, height:].any() and not image[:, :, width:].any()
        assert [painted_as(image, box) for box, label in zip(boxes, labels, strict=True) if label] == [
            label for label in labels.tolist() if label
        ]
    assert second.label.shape == (1, 0) and second.boxes.shape == (1, 0, 4) and second.masks.shape == (1, 0, 0, 0)
    assert second.image.shape == (1, 3, 59, 53)


def test_an_image_its_boxes_and_its_masks_are_mirrored_together(folder, library):
    mirrored = set()
    for batch in training(CocoObjects(folder, MASKS), 12, size=7):
        assert batch.masks.shape[2:] == batch.image.shape[2:] and not batch.crowd.any()
        for image, size, labels, boxes, masks in zip(*batch[:5], strict=True):
            for label, box, mask in zip(labels.tolist(), boxes, masks, strict=True):
                if not label:
                    assert not mask.any() and not box.any()
                    continue
                assert painted_as(image, box) == label
                rows, columns = (np.flatnonzero(mask.any(dim=axis).numpy()) for axis in (1, 0))
                assert box.tolist() == [columns[0], rows[0], columns[-1] + 1, rows[-1] + 1]
                assert mask.sum() == (columns[-1] + 1 - columns[0]) * (rows[-1] + 1 - rows[0])
                assert box[2] <= size[1] and box[3] <= size[0]
            if labels[0] == 3:  # the eel lies at the left edge
                mirrored.add(boxes[0, 0].item() > 0)
    assert mirrored == {True, False}
    still = CocoObjects(folder, DenseSettings(workers=0, flip=False))
    for batch in training(still, 3, size=7):
        assert all(boxes[0, 0] == 0 for boxes, labels in zip(batch.boxes, batch.label, strict=True) if labels[0] == 3)


def test_crowds_are_held_out_and_their_masks_are_theirs(folder, library):
    batch = next(CocoObjects(folder, MASKS).held_out(1))
    assert batch.crowd.tolist() == [[False, True]]
    expected = torch.zeros(47, 61, dtype=torch.bool)
    expected[31:38, 30:35] = True
    assert torch.equal(batch.masks[0, 1], expected)


def test_training_leaves_out_images_of_nothing_but_crowds(tmp_path):
    crowd = (7, 30, 31, 5, 7, 1)
    objects = {"train": [[crowd], labelled.OBJECTS[0], [], labelled.OBJECTS[1]], "val": [[crowd], []]}
    labelled.write_coco(tmp_path, labelled.SIZES[:4], labelled.SIZES[:2], objects, year="")
    data = CocoObjects(tmp_path, SETTINGS)
    assert (data.count, data.held_out_count) == (2, 2)
    shown = torch.cat([batch.size for batch in training(data, 1, size=2)]).tolist()
    assert sorted(shown) == sorted([[61, 47], [59, 53]])
    path = tmp_path / "annotations" / "instances_train.json"
    content = json.loads(path.read_text())
    path.write_text(json.dumps(content | {"annotations": content["annotations"][:1]}))
    with pytest.raises(ValueError, match=r"instances_train\.json must hold objects, but holds none$"):
        CocoObjects(tmp_path, SETTINGS)


def test_what_is_read_is_what_pycocotools_reads(folder, library):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = COCO(folder / "annotations" / "instances_val2017.json")
    data, found = CocoObjects(folder, MASKS), []
    for number, batch in zip(sorted(truth.imgs), data.held_out(1), strict=True):
        assert [[truth.imgs[number][side] for side in ("height", "width")]] == batch.size.tolist()
        for label, box, mask in zip(*(part[0] for part in (batch.label, batch.boxes, batch.masks)), strict=True):
            left, top, right, bottom = box.tolist()
            runs = library.encode(np.asfortranarray(mask.numpy().astype(np.uint8)))
            entry = {"image_id": number, "category_id": data.categories[label - 1], "score": 0.9}
            found.append(entry | {"bbox": [left, top, right - left, bottom - top], "segmentation": runs})
    for kind in ("bbox", "segm"):
        judge = COCOeval(truth, truth.loadRes([{**entry} for entry in found]), kind)
        judge.evaluate()
        judge.accumulate()
        judge.summarize()
        assert judge.stats[0] == 1, f"{kind}: what was read is found"


def test_batches_depend_on_seed_and_step_and_not_on_workers_shards_or_where_a_run_starts(folder):
    whole = training(CocoObjects(folder, DenseSettings(workers=2)), 5, size=6)
    alone = CocoObjects(folder, SETTINGS)
    parts = [training(alone, 3, size=6, start=2, shard=Shard(rank, 3)) for rank in range(3)]
    for i, expected in enumerate(whole[2:]):
        entries = [entry for part in parts for entry in zip(*part[i], strict=True)]
        for found, entry in zip(entries, zip(*expected, strict=True), strict=True):
            height, width = entry[1].tolist()
            assert torch.equal(found[1], entry[1])
            assert torch.equal(found[0][:, :height, :width], entry[0][:, :height, :width])
            count = int((entry[2] > 0).sum())
            for mine, theirs in zip(found[2:4], entry[2:4], strict=True):
                assert torch.equal(mine[:count], theirs[:count]) and not mine[count:].any()
    sides = {str(entry[0].tolist()) for batch in training(alone, 30, size=7) for entry in zip(*batch, strict=True)}
    assert len(sides) > 7, "in other epochs an image is mirrored, or is not"


def test_what_an_image_takes_is_no_less_than_in_any_batch(folder, library):
    for settings in (SETTINGS, MASKS):
        data = CocoObjects(folder, settings)
        batch = training(data, 1, size=7)[0]
        assert batch.image.nbytes + batch.masks.nbytes == 7 * data.image_bytes
    assert data.steps == 500


def test_masks_need_a_library(folder, monkeypatch):
    monkeypatch.setitem(sys.modules, "pycocotools", None)
    assert CocoObjects(folder, SETTINGS).count == 7
    with pytest.raises(ValueError, match=r'need the library pycocotools: pip install ".*\[dense\]"$'):
        CocoObjects(folder, MASKS)


def test_polygons_runs_and_text_stand_for_the_same_mask(library):
    draw = np.random.default_rng(0)
    for height, width in ((47, 61), (1, 7), (5, 1)):
        for share in (0, 0.5, 1):
            mask = draw.random((height, width)) < share
            runs = runs_of(mask)
            assert sum(runs["counts"]) == height * width and runs["size"] == [height, width]
            assert np.array_equal(draw_outline(runs, width, height, "x"), mask)
            text = library.encode(np.asfortranarray(mask.astype(np.uint8)))["counts"].decode()
            assert np.array_equal(draw_outline({"size": [height, width], "counts": text}, width, height, "x"), mask)
    left, right = [0, 0, 3, 0, 3, 5, 0, 5], [10, 1, 12, 1, 12, 4, 10, 4]
    both = draw_outline([left, right], 17, 13, "x")
    assert both[:5, :3].all() and both[1:4, 10:12].all() and both.sum() == 21
    with pytest.raises(ValueError, match=r"^x has a segmentation that is no mask: Invalid RLE"):
        draw_outline({"size": [47, 61], "counts": "no such code~~~"}, 61, 47, "x")


@pytest.mark.parametrize(
    "outline", [None, [], [[1, 2, 3, 4]], [[1, 2, 3, 4, 5]], [[1, 2, 3, 4, "5", 6]], [[1] * 7], "runs", {},
                {"size": [61, 47], "counts": [2867]}, {"size": [47, 61], "counts": [2866]},
                {"size": [47, 61], "counts": [-1, 2868]}, {"size": [47, 61], "counts": ""}]
)  # fmt: skip
def test_outlines_that_are_none_are_refused_if_masks_are_asked_for(folder, outline, library):
    edit(folder, lambda content: content["annotations"][0].update(segmentation=outline))
    assert CocoObjects(folder, SETTINGS).count == 7
    allowed = "polygons of three points or more, or runs for an image of 61 x 47, but it is"
    with pytest.raises(
        ValueError, match=rf"train2017\.json, annotations, id 1000, must have as segmentation {allowed}"
    ):
        CocoObjects(folder, MASKS)


@pytest.mark.parametrize(
    ("part", "change", "message"),
    [
        (
            "annotations",
            {"bbox": [55, 3, 10, 5]},
            r"must have a bbox inside its image of 61 x 47, but it is \[55, 3, 10",
        ),
        ("annotations", {"bbox": [-2, 3, 10, 5]}, "inside its image"),
        ("annotations", {"bbox": [5, 3, -1, 5]}, "inside its image"),
        ("annotations", {"bbox": [5, 3, float("nan"), 5]}, "must have a bbox of four numbers"),
        ("annotations", {"bbox": [5, 3, 7]}, r"must have a bbox of four numbers, .*, but it is \[5, 3, 7\]$"),
        ("annotations", {"bbox": None}, "must have a bbox of four numbers, .*, but it is None$"),
        ("annotations", {"iscrowd": 2}, "must have an iscrowd of 0 or 1 and an area, but they are 2, 142.5$"),
        ("annotations", {"area": "big"}, "an iscrowd of 0 or 1 and an area, but they are 0, 'big'$"),
        ("annotations", {"image_id": 7}, "must refer to one of the 7 images, but refers to 7$"),
        ("annotations", {"category_id": 8}, "must refer to one of the 3 categories, but refers to 8$"),
        ("annotations", {"category_id": "3"}, "must have a category_id of type int, but it is '3'$"),
        ("images", {"width": 0}, "must be there once and at least 1 x 1, but is 0 x 47"),
        ("images", {"id": 101}, "must be there once"),
        ("images", {"height": 47.0}, r"must have a height of type int, but it is 47\.0$"),
        ("images", {"file_name": "../train2017/0.png"}, "must have as file_name .*, but it is '../train2017/0.png'$"),
        ("images", {"file_name": "a\\..\\..\\0.png"}, "must have as file_name an image"),
        ("images", {"file_name": "/tmp/0.png"}, "must have as file_name an image"),
        ("images", {"file_name": "c:/0.png"}, "must have as file_name an image"),
        ("images", {"file_name": "0.tif"}, "must have as file_name an image"),
        ("images", {"file_name": None}, "must have a file_name of type str, but it is None$"),
        ("images", {"width": 62}, r"0\.png must be 62 x 47 upright, as annotated, but is 61 x 47 or 47 x 61$"),
        ("categories", {"name": 3}, "must have a name of type str, but it is 3$"),
        ("categories", {"id": 90}, "must hold categories, each id once, but holds 2 ids$"),
        (
            "categories",
            {"name": "cow"},
            r"and .*val2017\.json must hold the same categories, but differ in \(7, 'cow'\)$",
        ),
    ],
)
def test_files_that_say_what_cannot_be_are_refused_by_name_and_id(folder, part, change, message):
    edit(folder, lambda content: content[part][0].update(change))
    with pytest.raises(ValueError, match=message) as caught:
        CocoObjects(folder, SKIP)
    assert not isinstance(caught.value, DamagedImage) and len(str(caught.value).splitlines()) == 1
    assert part != "annotations" or "train2017.json, annotations, id 1000, must" in str(caught.value)


def test_files_that_are_no_such_list_are_refused(folder):
    path = folder / "annotations" / "instances_train2017.json"
    whole = path.read_text()
    path.write_text(whole[:99])
    with pytest.raises(ValueError, match=r"train2017\.json is not JSON"):
        CocoObjects(folder, SKIP)
    for part, value in (("images", {}), ("annotations", None), ("categories", [3])):
        path.write_text(json.dumps(json.loads(whole) | {part: value}))
        with pytest.raises(ValueError, match=rf"train2017\.json must hold a list of objects called {part}, but holds"):
            CocoObjects(folder, SKIP)
    path.write_text(json.dumps(json.loads(whole) | {"images": [], "annotations": []}))
    with pytest.raises(ValueError, match=r"train2017\.json must hold images, but holds none$"):
        CocoObjects(folder, SKIP)
    path.unlink()
    with pytest.raises(
        FileNotFoundError, match=r"data need .*train2017\.json and .*train2017; or .*train\.json and .*n$"
    ):
        CocoObjects(folder, SKIP)


def test_images_that_are_missing_are_counted(folder):
    for name in ("2.png", "5.png"):
        (folder / "train2017" / name).unlink()
    with pytest.raises(
        FileNotFoundError, match=r"^2 of the 7 images that .*\.json names do not exist, the first: .*2\.png"
    ):
        CocoObjects(folder, SKIP)


def test_boxes_without_area_are_left_out_and_told(folder, caplog):
    """COCO has two: 918 and 2206849 of instances_train2017.json."""
    edit(folder, lambda content: [a.update(bbox=[5, 3, 1.03, 0.0]) for a in content["annotations"][:2]])
    edit(folder, lambda content: content["annotations"][2].update(bbox=[-0.6, 0, 48.2, 62]))
    with caplog.at_level(logging.WARNING):
        data = CocoObjects(folder, DenseSettings(workers=0, flip=False))
    assert data.count == 6, "the first image has no other object"
    assert "2 objects are left out, whose boxes have no area, the first: " in caplog.text and "id 1000" in caplog.text
    batch = training(data, 1, size=6)[0]
    eel = batch.boxes[batch.size.tolist().index([61, 47]), 0]
    assert eel.tolist() == [0, 0, 47, 61], "rounding beyond the edge is cut off"


def test_what_may_be_left_out_is_put_in(folder):
    edit(folder, lambda content: [a.pop(key) for a in content["annotations"] for key in ("area", "iscrowd")], "val")
    batch = next(CocoObjects(folder, SETTINGS).held_out(1))
    assert batch.area.tolist() == [[23 * 29, 5 * 7]] and not batch.crowd.any()


@pytest.mark.parametrize("workers", [0, 2])
def test_damaged_images_are_fatal_or_skipped_and_named(folder, workers):
    path = folder / "train2017" / "1.png"
    path.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(DamagedImage, match=r"train2017.1\.png is not a whole image"):
        CocoObjects(folder, SETTINGS)
    for name in ("train2017/2.png", "val2017/0.png"):
        whole = (folder / name).read_bytes()
        (folder / name).write_bytes(whole[:60] + bytes(len(whole) - 100) + whole[-40:])
    data = CocoObjects(folder, DenseSettings(workers=workers, corrupt="skip"))
    assert data.count == 6 and len(training(data, 2, size=6)[1].label) == 6
    assert torch.cat([batch.size for batch in data.held_out(2)]).tolist() == [[61, 47], [53, 89], [59, 53]], "no first"
    assert data.damaged == [str(folder / name) for name in ("train2017/1.png", "train2017/2.png", "val2017/0.png")]


@pytest.mark.parametrize("workers", [0, 1])
def test_a_photograph_that_lies_on_its_side_is_turned(folder, workers):
    path = folder / "val2017" / "0.png"
    with Image.open(path) as image:
        lying = image.transpose(Image.Transpose.ROTATE_90)
    note = Image.Exif()
    note[ExifTags.Base.Orientation] = 6
    lying.save(path, exif=note)
    data = CocoObjects(folder, DenseSettings(workers=workers, corrupt="skip"))
    batch = next(data.held_out(1))
    assert painted_as(batch.image[0], batch.boxes[0, 0]) == batch.label[0, 0]
    note[ExifTags.Base.Orientation] = 1
    lying.save(path, exif=note)
    with pytest.raises(ValueError, match=r"^\S*0\.png must be 61 x 47 upright, as annotated, but is 47 x 61$"):
        next(data.held_out(1))
