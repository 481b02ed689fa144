import numpy as np
import pytest
import torch

from bra.data import dense
from bra.data.dense import IGNORED, Crop, DenseSettings, fill_up, random_crop, scaled_size


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "size must be at least 1, but is 0"),
        ({"workers": -1}, "workers must be at least 0, but is -1"),
        ({"scales": (0.0, 2.0)}, r"scales must be two numbers above 0, the smaller first, but is \(0\.0, 2\.0\)"),
        ({"scales": (2.0, 0.5)}, r"the smaller first, but is \(2\.0, 0\.5\)"),
        ({"scales": (0.5, float("nan"))}, "scales must be two numbers"),
        ({"corrupt": "hide"}, "corrupt must be fatal or skip, but is 'hide'"),
    ],
)
def test_settings_out_of_range_are_refused(change, message, unchecked):
    with pytest.raises(ValueError, match=message):
        DenseSettings(**change)


@pytest.mark.parametrize(
    ("size", "shorter", "expected"),
    [
        ((60, 40), 80, (120, 80)),
        ((40, 61), 20, (20, 30)),
        ((40, 40), 7.4, (7, 7)),
        ((1000, 100), 50, (200, 20)),  # not 500: at most four times 50
        ((1, 900), 3, (1, 12)),
    ],
)
def test_the_shorter_side_is_scaled_but_not_past_four_times_that(size, shorter, expected):
    assert scaled_size(*size, shorter) == expected


def test_a_scaled_label_takes_the_pixel_at_each_middle():
    draw = np.random.default_rng(0)
    for _ in range(40):
        height, width = (2 * draw.integers(1, 40, size=2) + 1).tolist()  # odd: no middle falls between two pixels
        rows, columns = draw.integers(1, 60, size=2).tolist()
        label = draw.integers(150, size=(height, width))
        whole = Crop(columns, rows, 0, 0, columns, rows).of(label)
        for y, x in ((0, 0), (rows - 1, columns - 1), (rows // 2, columns // 3)):
            assert whole[y, x] == label[int((y + 0.5) * height / rows), int((x + 0.5) * width / columns)]
        assert np.array_equal(Crop(columns, rows, 0, 0, columns, rows).of(label[::-1, ::-1]), whole[::-1, ::-1])
        left, top = draw.integers(columns), draw.integers(rows)
        part = Crop(columns, rows, int(left), int(top), columns - int(left), rows - int(top))
        assert np.array_equal(part.of(label), whole[top:, left:]), "a crop of the scaled label"


def test_a_crop_is_scaled_back_to_where_it_lies_in_the_image():
    assert Crop(10, 30, left=2, top=6, columns=5, rows=9).box(40, 60) == (8, 12, 28, 30)


def test_crops_reach_everywhere_at_every_scale_and_half_of_them_are_mirrored():
    label = np.arange(61 * 47).reshape(61, 47).astype(np.uint8) % 7
    drawn = [random_crop(label, DenseSettings(size=31), seed) for seed in range(600)]
    assert random_crop(label, DenseSettings(size=31), 5) == drawn[5]
    crops = [crop for crop, _ in drawn]
    for crop in crops:
        assert crop.columns == min(31, crop.width) and crop.rows == min(31, crop.height)
        assert 0 <= crop.left <= crop.width - crop.columns and 0 <= crop.top <= crop.height - crop.rows
        assert abs(crop.height - crop.width * 61 / 47) < 1.3, "proportions are kept"
    assert min(crop.width for crop in crops) in (15, 16) and max(crop.width for crop in crops) in (61, 62)
    assert {crop.left == 0 for crop in crops} == {crop.left + 31 == crop.width for crop in crops} == {True, False}
    assert {crop.top == 0 for crop in crops} == {crop.top + 31 == crop.height for crop in crops} == {True, False}
    assert 250 < sum(mirror for _, mirror in drawn) < 350
    still = DenseSettings(size=31, flip=False)
    assert [random_crop(label, still, seed) for seed in range(99)] == [(crop, False) for crop in crops[:99]]


def test_crops_of_almost_one_class_are_drawn_again(monkeypatch):
    label = np.zeros((100, 100), np.uint8)
    label[:, 70:] = IGNORED  # which is no class: crops of it alone are drawn again, too
    label[:60, 40:70] = 1
    settings = DenseSettings(size=20, scales=(5.0, 5.0))

    def share(crop):
        counts = np.bincount(crop.of(label).ravel(), minlength=256)[:IGNORED]
        return counts.max() / max(1, counts.sum())

    crops = [random_crop(label, settings, seed)[0] for seed in range(300)]
    monkeypatch.setattr(dense, "TRIES", 1)
    firsts = [random_crop(label, settings, seed)[0] for seed in range(300)]
    fine = [0 < share(first) <= 0.75 for first in firsts]
    assert 30 < sum(fine) < 150, "some crops are mixed enough at once"
    assert [first == crop for first, crop in zip(firsts, crops, strict=True)] == fine, "only the others are drawn again"
    found = sum(0 < share(crop) <= 0.75 for crop in crops)
    assert abs(found / 300 - (1 - (1 - sum(fine) / 300) ** 10)) < 0.1, "and ten times in all"
    assert random_crop(np.full((50, 50), 3, np.uint8), settings, 0)[0].columns == 20, "where there is no other crop"


def test_what_a_small_image_leaves_free_is_grey_and_without_a_label():
    image, label = torch.full((3, 2, 3), 7, dtype=torch.uint8), torch.ones(2, 3, dtype=torch.int64)
    square, labels = fill_up(image, label, 5)
    assert square[:, :2, :3].eq(7).all() and labels[:2, :3].eq(1).all()
    assert square[:, 2:].flatten(1).unique(dim=1).tolist() == [[124], [116], [104]]
    assert square[:, :, 3:].flatten(1).unique(dim=1).tolist() == [[124], [116], [104]]
    assert labels[2:].eq(IGNORED).all() and labels[:, 3:].eq(IGNORED).all()
