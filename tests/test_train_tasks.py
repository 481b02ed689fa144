import math
import sys
from collections import namedtuple
from dataclasses import replace

import numpy as np
import pytest
import torch
from torch import nn

import bra
from bra.biformer import NANO
from bra.data import DataSet, RecallBoards
from bra.data.dense import Pixels as PixelBatch
from bra.data.recall import CELL, Recall
from bra.data.recall_where import RecallBoxes, RecallPixels, mark_boards
from bra.dense import Backbone
from bra.train.config import TrainConfig
from bra.train.models import build_model
from bra.train.tasks import HEADS, SCORES, Boxes, Classes, Dense, Pixels, confusion, iou, right_cells

IGNORED = 255
SMALL = bra.BiFormerConfig(
    stem=(4, 8), stages=(bra.Stage(8, 1, heads=2, k=2), bra.Stage(12, 1, heads=3, k=2)), grid=(2, 2), num_classes=0
)


class Stub(DataSet):
    """All that a task asks of a data set."""

    training = held_out = None

    def __init__(self, asks, classes, scored=None):
        self.asks, self.classes, self.scored, self.channels = asks, [f"class {i}" for i in range(classes)], scored, 3


class Says(nn.Module):
    """Always says the same."""

    def __init__(self, said):
        super().__init__()
        self.said = said

    def forward(self, images, batch=None):
        return self.said


def labels(*shape, classes, seed=1):
    """Random classes, some pixels without one."""
    draw = torch.Generator().manual_seed(seed)
    found = torch.randint(classes, shape, generator=draw)
    return found.masked_fill(torch.rand(shape, generator=draw) < 0.2, IGNORED)


def counted(said, truth, classes):
    """`confusion` one pixel after the other."""
    table = np.zeros((classes, classes), int)
    for a, b in zip(truth.flatten().tolist(), said.flatten().tolist(), strict=True):
        if a != IGNORED:
            table[a, b] += 1
    return table


def test_confusion_counts_labelled_pixels_truth_by_row():
    truth = labels(2, 7, 11, classes=5)
    said = torch.randint(5, truth.shape)
    found = confusion(said, truth, 5)
    np.testing.assert_array_equal(found, counted(said, truth, 5))
    assert found.sum() == (truth != IGNORED).sum() and not torch.equal(found, found.T)


def test_iou_is_what_is_in_both_over_what_is_in_either():
    truth, said = labels(3, 5, 7, classes=4), torch.randint(4, (3, 5, 7))
    there = (truth != IGNORED).numpy()
    for c, found in enumerate(iou(confusion(said, truth, 4)).tolist()):
        a, b = ((x == c).numpy() & there for x in (truth, said))
        assert found == pytest.approx((a & b).sum() / (a | b).sum())


def test_a_class_that_is_nowhere_does_not_count_and_one_that_is_only_said_counts_as_missed():
    crossed = torch.tensor([[6, 2, 0, 0], [0, 4, 0, 0], [0, 0, 0, 0], [0, 0, 0, 0]])  # 0 and 1 alone
    found = iou(crossed).tolist()
    assert found[:2] == pytest.approx([6 / 8, 4 / 6]) and all(map(math.isnan, found[2:]))
    assert Pixels(Stub("pixels", 4)).mean_iou(crossed).item() == pytest.approx((6 / 8 + 4 / 6) / 2)
    crossed[0, 2] = 1
    assert Pixels(Stub("pixels", 4)).mean_iou(crossed).item() == pytest.approx((6 / 9 + 4 / 6 + 0) / 3)
    told = Pixels(Stub("pixels", 4)).measures({"confusion": crossed.flatten().tolist()}, 1)["ious"]
    assert told == pytest.approx([6 / 9, 4 / 6, 0, -1]), "JSON has no NaN"
    assert Pixels(Stub("pixels", 4)).mean_iou(torch.zeros(4, 4, dtype=torch.long)).item() == 0


def test_the_score_is_of_the_classes_that_the_data_name():
    crossed = torch.tensor([[90, 5, 0], [3, 7, 0], [0, 0, 11]])
    ious = [90 / 98, 7 / 15, 1]
    for scored, expected in ((None, sum(ious) / 3), ((1,), 7 / 15), ((1, 2), (7 / 15 + 1) / 2)):
        found = Pixels(Stub("pixels", 3, scored)).measures({"confusion": crossed.flatten().tolist()}, 1)
        assert found["iou"] == pytest.approx(expected) and found["ious"] == pytest.approx(ious)
        assert found["pixel_accuracy"] == pytest.approx(108 / 116)


def test_the_loss_is_the_mean_over_labelled_pixels():
    logits = torch.randn(2, 5, 3, 7, requires_grad=True)
    truth = labels(2, 3, 7, classes=5)
    loss, measured = Pixels(Stub("pixels", 5)).loss(lambda images: logits, torch.zeros(2, 3, 3, 7), truth, None)
    costs = []
    for b, y, x in np.ndindex(2, 3, 7):
        if truth[b, y, x] != IGNORED:
            scores = logits[b, :, y, x].detach().double()
            costs.append(math.log(sum(math.exp(s) for s in scores)) - scores[truth[b, y, x]].item())
    assert loss.item() == pytest.approx(sum(costs) / len(costs), rel=1e-5) and len(costs) < 42
    said = logits.argmax(dim=1)
    assert measured["iou"].item() == pytest.approx(iou(torch.from_numpy(counted(said, truth, 5))).nanmean().item())


def test_a_batch_without_any_labelled_pixel_costs_nothing_and_changes_nothing():
    logits = torch.randn(2, 5, 3, 7, requires_grad=True)
    truth = torch.full((2, 3, 7), IGNORED)
    loss, measured = Pixels(Stub("pixels", 5)).loss(lambda images: logits, torch.zeros(2, 3, 3, 7), truth, None)
    loss.backward()
    assert loss.item() == 0 == measured["iou"].item() and not logits.grad.any()


def test_pixels_are_judged_at_the_size_at_which_they_were_labelled():
    truth = torch.zeros(1, 12, 20, dtype=torch.long)
    truth[:, :, 10:] = 1
    logits = torch.zeros(1, 2, 3, 5)
    logits[:, 1] = torch.tensor([-3.0, -1, 0, 1, 3])  # at columns 1.5, 5.5, 9.5, ... of 20: more than 0 from 9.5 on
    task = Pixels(Stub("pixels", 2))
    found = task.found(Says(logits), torch.zeros(1, 3, 3, 5), PixelBatch(torch.zeros(1, 3, 3, 5).byte(), truth))
    measured = task.measures(found, 1)
    assert measured["ious"] == [1, 1] and "right_cell" not in measured


def test_boards_are_also_judged_by_the_cell_that_has_most_of_the_mark():
    boards = mark_boards(Recall(cells=3, glyphs=4).sample(5, 0))
    logits = torch.zeros(5, 2, 24, 24)
    logits[:, 1] = -9.0  # nowhere does the mark win, but
    for board, target in enumerate([*boards.target[:3].tolist(), *((boards.target[3:] + 1) % 9).tolist()]):
        row, column = divmod(target, 3)
        logits[board, 1, CELL * row + 2, CELL * column + 5] = -1.0
    assert right_cells(logits, boards).tolist() == [True, True, True, False, False]
    found = Pixels(Stub("pixels", 2, (1,))).found(Says(logits), boards.image, boards)
    measured = Pixels(Stub("pixels", 2, (1,))).measures(found, 5)
    assert measured["right_cell"] == 3 / 5 and measured["iou"] == 0


BOARDS = {"recall": RecallBoards, "recall-pixels": RecallPixels, "recall-boxes": RecallBoxes}
PHOTOGRAPHS = {"masks:x": "pixels", "coco:x": "boxes", "folder:x": "classes"}


def data_of(name):
    return BOARDS[name](Recall()) if name in BOARDS else Stub(PHOTOGRAPHS[name], 4)


def built(name, head=None, size=64, **options):
    config = TrainConfig(data=name, dense=Dense(head=head, **options), image_size=size)
    return build_model(config, data_of(name))


@pytest.mark.parametrize("name", [*BOARDS, *PHOTOGRAPHS])
def test_a_head_for_other_data_is_refused(name):
    wrong = {head for asks, heads in HEADS.items() if asks not in ("classes", data_of(name).asks) for head in heads}
    for head in sorted(wrong):
        with pytest.raises(ValueError, match=f"dense.head must be one of .* for {name}, but is '{head}'"):
            built(name, head)


def test_boards_get_the_head_that_reads_its_own_token_and_photographs_another():
    heads = {name: built(name) for name in ("recall", "recall-pixels", "recall-boxes", "masks:x", "coco:x", "folder:x")}
    assert [type(getattr(model, "head", model)).__name__ for model in heads.values()] == [
        "Linear", "PixelHead", "DetectionNetwork", "SemanticFPN", "DetectionNetwork", "Linear",
    ]  # fmt: skip
    assert type(heads["recall-boxes"].detector.backbone).__name__ == "OneLevel"
    assert type(heads["coco:x"].detector).__name__ == "RetinaNet"


def test_dense_options_reach_the_stages():
    for name in ("masks:x", "coco:x"):
        (stages,) = (m for m in built(name, region=32, batch_norm="frozen").modules() if isinstance(m, Backbone))
        assert (stages.region, stages.batch_norm) == (32, "frozen")


@pytest.mark.parametrize(("head", "first"), [("retinanet", 8), ("fcos", 8), ("faster-rcnn", 4), ("mask-rcnn", 4)])
def test_detectors_begin_at_the_official_stride_and_size(head, first):
    task = Boxes(Stub("boxes", 3))
    found = task.network(bra.BiFormer(SMALL), head, 800).detector
    assert found.backbone.strides[0] == first
    assert (found.transform.min_size, found.transform.max_size) == ((800,), 1333)
    assert found.transform.image_mean == [0.0] * 3 and found.transform.image_std == [1.0] * 3
    threshold = found.roi_heads.score_thresh if "rcnn" in head else found.score_thresh
    assert threshold == 0.05
    one_stage = replace(NANO, num_classes=0)
    assert task.network(bra.BiFormer(one_stage), head, 64).detector.backbone.strides[0] == 4, "it has no other"


def test_without_transformers_the_head_of_upernet_says_so(monkeypatch):
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(ValueError, match=r'transformers must be installed for dense\.head upernet: pip install ".*\['):
        Pixels(Stub("pixels", 2)).network(bra.BiFormer(SMALL), "upernet", 64)


def test_the_loss_of_boxes_is_the_sum_of_the_detectors_losses():
    losses = {"kind": torch.tensor(0.25), "place": torch.tensor(2.0, requires_grad=True)}
    loss, measured = Boxes(Stub("boxes", 3)).loss(lambda images, batch: losses, torch.zeros(1, 3, 5, 7), None, "batch")
    assert loss.item() == 2.25 and loss.requires_grad
    assert {name: value.item() for name, value in measured.items()} == {"kind": 0.25, "place": 2.0}
    assert not any(value.requires_grad for value in measured.values())


def test_the_classes_of_images_are_counted():
    task = Classes(Stub("classes", 3))
    batch = namedtuple("batch", "image label")(torch.zeros(4, 3, 5, 7), torch.tensor([0, 1, 2, 2]))
    logits = torch.eye(3)[[0, 2, 2, 1]]
    assert task.measures(task.found(Says(logits), batch.image, batch), 4) == {"accuracy": 0.5}
    assert SCORES == {"classes": "accuracy", "pixels": "iou", "boxes": "ap"}
