import pytest
import torch

import bra
from bra.data.recall import Recall
from bra.data.recall_where import RecallBoxes, box_boards
from bra.dense import Backbone
from bra.dense.token_boxes import OneLevel, token_detector
from bra.layer import record_routes
from bra.train.detection import objects
from bra.train.tasks import Boxes

CONFIG = bra.BiFormerConfig(stem=(4, 8), stages=(bra.Stage(8, 1, heads=2, k=2),), grid=(3, 5), num_classes=0)
SIZE = (24, 40)  # pixels: 6 x 10 tokens


def make(classes=3):
    backbone = Backbone(bra.BiFormer(CONFIG))
    options = {"min_size": 24, "max_size": 40, "image_mean": [0.0] * 3, "image_std": [1.0] * 3}
    return token_detector(backbone, classes, **options, score_thresh=0.0, nms_thresh=1.0, detections_per_img=999)


def said_of(detector, maps):
    """What the head says of each token: logits of the kinds, the box, how central it is. Shape b tokens 8 + 1."""
    found = detector.head([maps])
    return torch.cat([found[name] for name in ("cls_logits", "bbox_regression", "bbox_ctrness")], dim=2)


def test_no_token_reads_another():
    detector, maps = make().eval(), torch.randn(2, 8, 6, 10)
    with torch.no_grad():
        before = said_of(detector, maps)
        for row, column in ((0, 0), (2, 7), (5, 9)):
            changed = maps.clone()
            changed[1, :, row, column] += 1
            differs = (said_of(detector, changed) != before).any(dim=2)
            expected = torch.zeros(2, 60, dtype=torch.bool)
            expected[1, row * 10 + column] = True
            assert torch.equal(differs, expected)


def test_the_usual_head_does_read_others():
    """So that the test above could fail."""
    from torchvision.models.detection.fcos import FCOSHead

    detector, maps = make().eval(), torch.randn(1, 8, 6, 10)
    detector.head = FCOSHead(8, 1, 4, num_convs=0)
    with torch.no_grad():
        before = said_of(detector, maps)
        maps[0, :, 2, 7] += 1
        assert (said_of(detector, maps) != before).any(dim=2).sum() == 9


def test_an_anchor_lies_over_the_pixels_of_its_token():
    detector, given = make(), {}
    detector.anchor_generator.register_forward_hook(lambda module, inputs, anchors: given.update(anchors=anchors))
    with torch.no_grad():
        detector.eval()([torch.randn(3, *SIZE)])
    expected = [[4 * x, 4 * y, 4 * x + 4, 4 * y + 4] for y in range(6) for x in range(10)]
    assert given["anchors"][0].tolist() == expected


def test_a_token_says_how_far_its_box_reaches_from_its_middle():
    """Distances are counted in tokens: 1, 2, 3, 4 of them to the left, top, right and bottom of token (2, 5)."""
    detector = make(classes=1).eval()
    for layer in (detector.head.classification_head.cls_logits, detector.head.regression_head.bbox_reg):
        torch.nn.init.zeros_(layer.weight)
    with torch.no_grad():
        detector.head.regression_head.bbox_reg.bias.copy_(torch.tensor([1.0, 2, 3, 4]))
        (found,) = detector([torch.randn(3, *SIZE)])
    boxes = [[round(side) for side in box] for box in found["boxes"].tolist()]
    middle_x, middle_y = 5 * 4 + 2, 2 * 4 + 2
    assert [middle_x - 4, middle_y - 8, middle_x + 12, 24] in boxes, "cut off at the image's edge"
    assert len(found["boxes"]) == 2 * 60, "each token's, for a class and for none"


def test_every_parameter_gets_a_gradient_from_the_glyphs_box():
    torch.manual_seed(0)
    network = Boxes(RecallBoxes(Recall())).network(bra.BiFormer(bra.BiFormerConfig(
        stem=(4, 8), stages=(bra.Stage(8, 1, heads=2, k=2),), grid=(4, 4), num_classes=0)), "token", 32)  # fmt: skip
    boards = box_boards(Recall().sample(4, 0))
    losses = network.train()(boards.image, boards)
    assert set(losses) == {"classification", "bbox_regression", "bbox_ctrness"}
    sum(losses.values()).backward()
    assert all(p.grad is not None and p.grad.abs().sum() > 0 for p in network.parameters())
    assert objects(boards)[0]["labels"].tolist() == [1]


def test_half_of_the_tokens_may_be_unsure_at_first():
    detector = make()
    head = detector.head.classification_head.cls_logits
    assert head.bias.abs().max() < 1, "not the usual bias of -4.6, which says 1%"
    assert isinstance(detector.backbone, OneLevel) and detector.head.classification_head.num_classes == 4


@pytest.mark.parametrize("cells", [3, 5])
def test_regions_are_the_cells_of_a_board_of_any_size(cells):
    """Batches of torchvision are filled up to multiples of 32 pixels by default: then cells would be cut."""
    task = Recall(cells=cells, glyphs=4)
    config = bra.BiFormerConfig(
        stem=(4, 8), stages=(bra.Stage(8, 1, heads=2, k=2),), grid=(cells, cells), num_classes=0
    )
    network = Boxes(RecallBoxes(task)).network(bra.BiFormer(config), "token", 8 * cells).eval()
    boards = box_boards(task.sample(2, 0))
    (backbone,) = (module for module in network.modules() if isinstance(module, Backbone))
    seen = []
    backbone.register_forward_pre_hook(lambda module, given: seen.append(given[0]))
    with torch.no_grad(), record_routes(network) as routes:
        network(boards.image, boards)
    assert torch.equal(seen[0], boards.image) and routes[0].index.shape == (2, cells**2, 2)
