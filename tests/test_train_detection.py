import sys
from types import SimpleNamespace

import pytest
import torch
from torch import nn

from bra.data.dense import Objects
from bra.train.detection import DetectionNetwork, average_precision, findings, objects, require_detection

CLASSES = ["dog", "cat"]
NOTHING = [[], [], []]  # boxes, labels, scores


def batch_of(*images, masks=None, sizes=None):
    """Images (h w 40 x 60 unless said), each a list of objects (label, box, crowd); the shorter lists filled up."""
    most = max(1, *map(len, images))
    filled = [[*image, *[(0, (0, 0, 0, 0), False)] * (most - len(image))] for image in images]
    boxes = torch.tensor([[box for _, box, _ in image] for image in filled]).float()
    sizes = torch.tensor(sizes or [(40, 60)] * len(images))
    return Objects(
        torch.zeros(len(images), 3, *sizes.amax(dim=0).tolist(), dtype=torch.uint8),
        sizes,
        torch.tensor([[label for label, _, _ in image] for image in filled]),
        boxes,
        torch.zeros(len(images), most, 0, 0, dtype=torch.bool) if masks is None else masks,
        torch.tensor([[crowd for _, _, crowd in image] for image in filled]),
        (boxes[..., 2:] - boxes[..., :2]).prod(dim=2),
    )


def says(boxes, labels, scores):
    """What a detector answers for one image."""
    return {
        "boxes": torch.tensor(boxes).float().view(-1, 4),
        "labels": torch.tensor(labels, dtype=torch.int64),
        "scores": torch.tensor(scores),
    }


def judged(images, answers):
    return average_precision(findings([says(*answer) for answer in answers], batch_of(*images)), CLASSES)


BOX, OTHER = (3, 5, 13, 15), (20, 10, 50, 37)


def test_what_is_right_and_sure_is_perfect():
    images = [[(1, BOX, False), (2, OTHER, False)], [(2, BOX, False)]]
    found = judged(images, [([BOX, OTHER], [1, 2], [0.9, 0.3]), ([BOX], [2], [0.7])])
    assert found == {"ap": 1, "ap50": 1, "ap75": 1}
    swapped = judged(images, [([BOX, OTHER], [2, 1], [0.9, 0.3]), ([BOX], [2], [0.7])])
    assert swapped["ap50"] < 0.5, "a class must be right"


def test_a_shifted_box_counts_as_far_as_it_overlaps():
    """10 x 10 shifted by 2.3: in both 77, in either 123, an IoU of 0.626: enough for 0.5, 0.55 and 0.6."""
    found = judged([[(1, (23, 25, 33, 35), False)]], [([(25.3, 25, 35.3, 35)], [1], [0.9])])
    assert found == pytest.approx({"ap": 0.3, "ap50": 1, "ap75": 0})


def test_a_wrong_box_that_is_surer_costs_half():
    """Of two objects one is found, behind a wrong box: precision 1/2 up to recall 1/2, 51 of COCO's 101 recalls."""
    images = [[(1, BOX, False), (1, OTHER, False)]]
    found = judged(images, [([(30, 1, 40, 4), OTHER], [1, 1], [0.9, 0.8])])
    assert found["ap50"] == pytest.approx(51 / 101 / 2)
    less_sure = judged(images, [([(30, 1, 40, 4), OTHER], [1, 1], [0.7, 0.8])])
    assert less_sure["ap50"] == pytest.approx(51 / 101)


def test_an_image_without_objects_counts():
    answers = [([BOX], [1], [0.8]), ([OTHER], [1], [0.9])]
    assert judged([[(1, BOX, False)], []], answers)["ap"] == pytest.approx(0.5)
    assert judged([[(1, BOX, False)], []], [answers[0], NOTHING])["ap"] == pytest.approx(1)


@pytest.mark.parametrize(("crowd", "expected"), [(True, 1), (False, 51 / 101 / 2)])
def test_what_lies_in_a_crowd_is_not_judged(crowd, expected):
    images = [[(1, BOX, False), (1, OTHER, crowd)]]
    found = judged(images, [([(22, 12, 30, 20), BOX], [1, 1], [0.9, 0.8])])
    assert found["ap50"] == pytest.approx(expected)


def test_classes_count_alike_and_those_without_objects_not():
    images = [[(1, BOX, False), (1, OTHER, False)]]
    answers = [([BOX, OTHER], [1, 1], [0.9, 0.8])]
    assert judged(images, answers)["ap"] == pytest.approx(1), "there is no cat"
    images[0].append((2, (30, 1, 40, 7), False))
    assert judged(images, answers)["ap"] == pytest.approx(0.5), "there is one, and it is missed"


def test_to_say_nothing_is_worth_nothing():
    assert judged([[(1, BOX, False)]], [NOTHING]) == {"ap": 0, "ap50": 0, "ap75": 0}
    nothing_to_find = {"ap": -1, "ap50": -1, "ap75": -1}
    assert judged([[], []], [NOTHING, NOTHING]) == nothing_to_find
    assert judged([[], []], [([BOX], [1], [0.9]), NOTHING]) == nothing_to_find


def test_evaluation_prints_no_tables(capsys):
    judged([[(1, BOX, False)]], [([BOX], [1], [0.9])])
    assert capsys.readouterr() == ("", "")


def filled(height, width, *boxes):
    """Masks (n h w) of boxes."""
    masks = torch.zeros(len(boxes), height, width, dtype=torch.bool)
    for mask, (left, top, right, bottom) in zip(masks, boxes, strict=True):
        mask[top:bottom, left:right] = True
    return masks


def test_masks_are_judged_by_their_pixels_and_boxes_by_themselves():
    """The second image is the smaller one; its mask is that of the object, and its box is not."""
    images = [[(1, BOX, False)], [(1, (2, 3, 12, 13), False)]]
    masks = torch.zeros(2, 1, 40, 60, dtype=torch.bool)
    masks[0, 0] = filled(40, 60, BOX)[0]
    masks[1, 0, :17, :29] = filled(17, 29, (2, 3, 12, 13))[0]
    batch = batch_of(*images, masks=masks, sizes=[(40, 60), (17, 29)])
    said = [says([BOX], [1], [0.9]), says([(4.3, 3, 14.3, 13)], [1], [0.8])]
    said[0]["masks"] = filled(40, 60, (3, 5, 13, 9))[:, None] * 0.4 + filled(40, 60, (3, 9, 13, 15))[:, None] * 0.6
    said[1]["masks"] = filled(17, 29, (2, 3, 12, 13))[:, None] * 0.7
    found = average_precision(findings(said, batch), CLASSES)
    # masks: of the first 60 of 100 pixels, an IoU of 0.6: it counts at 0.5, 0.55 and 0.6
    both = 1.0
    second = 51 / 101 / 2  # alone right behind a wrong one
    assert found["mask_ap50"] == both and found["mask_ap75"] == pytest.approx(second)
    assert found["mask_ap"] == pytest.approx((3 * both + 7 * second) / 10)
    assert found["ap50"] == 1 and found["ap75"] == pytest.approx(51 / 101), "here the first, surer one is right"


def test_an_image_without_objects_has_masks_to_judge_too():
    batch = batch_of([], masks=torch.zeros(1, 0, 40, 60, dtype=torch.bool))
    batch = batch._replace(**{name: getattr(batch, name)[:, :0] for name in ("label", "boxes", "crowd", "area")})
    wrong = says([OTHER], [1], [0.9]) | {"masks": filled(40, 60, OTHER)[:, None].float()}
    other = batch_of([(1, BOX, False)], masks=filled(40, 60, BOX)[None])
    right = says([BOX], [1], [0.8]) | {"masks": filled(40, 60, BOX)[:, None].float()}
    found = average_precision(findings([wrong], batch) + findings([right], other), CLASSES)
    assert found == pytest.approx(dict.fromkeys(found, 0.5)) and "mask_ap" in found


def test_objects_are_those_that_are_there_and_no_crowds():
    masks = torch.rand(2, 3, 40, 60) < 0.5
    images = [[(1, BOX, False), (2, OTHER, True), (2, (1, 2, 3, 7), False)], [(2, (2, 3, 12, 13), False)]]
    found = objects(batch_of(*images, masks=masks, sizes=[(40, 60), (17, 29)]))
    assert [each["labels"].tolist() for each in found] == [[1, 2], [2]]
    assert found[0]["boxes"].tolist() == [list(BOX), [1, 2, 3, 7]]
    assert torch.equal(found[0]["masks"], masks[0, [0, 2]].byte()) and found[0]["masks"].dtype == torch.uint8
    assert torch.equal(found[1]["masks"], masks[1, :1, :17, :29].byte())
    assert set(objects(batch_of(*images))[0]) == {"boxes", "labels"}


class Detector(nn.Module):
    """Keeps what it is given."""

    def forward(self, images, targets=None):
        self.given = images, targets
        return [{}] * len(images)


def test_a_detector_gets_every_image_without_what_fills_it_up():
    network, images = DetectionNetwork(Detector()), torch.randn(2, 3, 40, 60)
    batch = batch_of([(1, BOX, False)], [], sizes=[(40, 60), (17, 29)])
    for training in (False, True):
        network.train(training)(images, batch)
        listed, targets = network.detector.given
        assert torch.equal(listed[0], images[0]) and torch.equal(listed[1], images[1, :, :17, :29])
        assert (targets is not None) == training
    network.eval()(images)
    assert all(torch.equal(a, b) for a, b in zip(network.detector.given[0], images, strict=True))


def test_findings_keep_what_is_needed_on_the_cpu():
    batch = batch_of([(1, BOX, False), (2, OTHER, True)], [])
    (first, second) = findings([says([BOX], [2], [0.5]) | {"more": SimpleNamespace()}, says(*NOTHING)], batch)
    assert first["size"] == (40, 60) and first["truth"]["crowd"].tolist() == [False, True]
    assert first["truth"]["area"].tolist() == [100, 810] and first["said"]["labels"].tolist() == [2]
    assert set(first["said"]) == {"boxes", "labels", "scores"} and len(second["truth"]["boxes"]) == 0


@pytest.mark.parametrize("name", ["torchvision.models.detection", "pycocotools.mask"])
def test_what_detection_needs_is_told(name, monkeypatch):
    require_detection()
    monkeypatch.setitem(sys.modules, name, None)
    with pytest.raises(ValueError, match=r'must be installed for boxes: pip install ".*\[dense\]"'):
        require_detection()
