import math
from collections import Counter
from dataclasses import replace

import pytest
import torch

from bra.data import Arrays, Batch, RecallBoards, normalise
from bra.data.loading import MEAN, STD
from bra.data.recall import Recall
from bra.train import augment as module
from bra.train.augment import Augment, Preparation, cut, mix, rand_augment, smooth

CLASSES = 7


def photographs(*shape, labels=None):
    """A data set with the mean and deviation of ImageNet, and one batch of it: random bytes (b c h w)."""
    pixels = torch.randint(256, shape, dtype=torch.uint8)
    labels = torch.arange(len(pixels)) % CLASSES if labels is None else torch.tensor(labels)
    data = Arrays(pixels, labels, pixels, labels, list("abcdefg"))
    data.mean, data.std = MEAN, STD
    return data, Batch(pixels, labels)


def by_hand(pixels):
    """Bytes, normalised with ImageNet's mean and deviation, channel by channel and in double precision."""
    channels = zip(pixels.double().unbind(1), (0.485, 0.456, 0.406), (0.229, 0.224, 0.225), strict=True)
    return torch.stack([(channel / 255 - mean) / std for channel, mean, std in channels], dim=1).float()


def bytes_of(images):
    """The bytes that normalised images had; fails where they were none."""
    mean, std = (torch.tensor(values).view(3, 1, 1) for values in (MEAN, STD))
    pixels = (images * std + mean) * 255
    torch.testing.assert_close(pixels, pixels.round(), rtol=0, atol=1e-3)
    return pixels.round().long()


def alone(operation, images):
    """What one of Kornia's operations makes of images of 0..1, applied for certain."""
    operation.p = 1.0
    return operation(images)


def rectangle(mask):
    """Top, bottom, left and right of the true part of a mask (h w), which must be a rectangle."""
    rows, columns = mask.any(dim=1).nonzero().flatten(), mask.any(dim=0).nonzero().flatten()
    top, bottom, left, right = rows.min().item(), rows.max().item() + 1, columns.min().item(), columns.max().item() + 1
    assert mask[top:bottom, left:right].all()
    return top, bottom, left, right


def test_nothing_set_normalises_and_leaves_the_labels():
    data, batch = photographs(5, 3, 4, 2)
    images, targets = Preparation(Augment(), data)(batch)
    assert torch.equal(images, normalise(batch.image, MEAN, STD))
    torch.testing.assert_close(images, by_hand(batch.image))
    assert targets is batch.label


def test_nothing_set_draws_no_random_number():
    data, batch = photographs(5, 3, 4, 2)
    before = torch.get_rng_state()
    Preparation(Augment(), data)(batch)
    assert torch.equal(torch.get_rng_state(), before)


def test_boards_which_are_normalised_already_pass_untouched():
    data = RecallBoards(Recall())
    boards = data.task.sample(3, 0)
    images, targets = Preparation(Augment(), data)(boards)
    assert torch.equal(images, boards.image) and targets is boards.label


@pytest.mark.parametrize("change", [{"flip": 1.0}, {"rand_augment": 1e-9}])
def test_photographs_are_normalised_once_after_what_is_done_to_their_pixels(change, monkeypatch):
    monkeypatch.setattr(module, "OPERATIONS", math.inf)  # of RandAugment, none befalls an image
    data, batch = photographs(11, 3, 4, 5)
    images, targets = Preparation(Augment(**change), data)(batch)
    expected = batch.image.flip(3) if "flip" in change else batch.image
    torch.testing.assert_close(images, by_hand(expected))
    assert torch.equal(targets, batch.label)


def test_a_flip_mirrors_left_and_right_at_its_probability():
    data, batch = photographs(600, 3, 2, 3)
    images, _ = Preparation(Augment(flip=0.3), data)(batch)
    pixels, mirrored = bytes_of(images), 0
    for before, after in zip(batch.image.long(), pixels, strict=True):
        turned = torch.equal(after, before.flip(2))
        assert turned or torch.equal(after, before)
        mirrored += turned
    assert abs(mirrored - 180) < 4 * math.sqrt(600 * 0.3 * 0.7)


def test_label_smoothing_spreads_its_share_over_all_classes():
    found = smooth(torch.tensor([2, 0]), 5, 0.1)
    torch.testing.assert_close(found, torch.tensor([[0.02, 0.02, 0.92, 0.02, 0.02], [0.92, 0.02, 0.02, 0.02, 0.02]]))


def test_smoothing_alone_makes_targets_and_leaves_the_images():
    data, batch = photographs(3, 3, 2, 2, labels=[4, 0, 6])
    images, targets = Preparation(Augment(smoothing=0.07), data)(batch)
    expected = torch.full((3, CLASSES), 0.01)
    expected[[0, 1, 2], [4, 0, 6]] = 0.94
    torch.testing.assert_close(targets, expected)
    assert torch.equal(images, normalise(batch.image, MEAN, STD))


def test_mixup_takes_images_and_targets_in_the_same_proportion():
    images, targets = torch.tensor([3.0, 5.0, 11.0]).view(3, 1, 1, 1), torch.eye(3)
    seen = set()
    for _ in range(20):
        mixed, shares = mix(images, targets, mixup=0.8, cutmix=0.0)
        own = shares[0, 0].item()
        torch.testing.assert_close(shares, torch.tensor([[own, 0, 1 - own], [0, 1, 0], [1 - own, 0, own]]))
        torch.testing.assert_close(
            mixed.flatten(), torch.tensor([3 * own + 11 * (1 - own), 5, 11 * own + 3 * (1 - own)])
        )
        seen.add(own)
    assert len(seen) == 20 and 0 <= min(seen) < 0.2 and 0.8 < max(seen) <= 1


@pytest.mark.parametrize(("alpha", "variance"), [(0.8, 0.25 / 2.6), (11.0, 0.25 / 23)])
def test_mixup_draws_its_share_from_the_beta_distribution(alpha, variance):
    """Beta(a, a) has mean 1/2 and variance 1 / (4 (2 a + 1))."""
    images = torch.tensor([1.0, 0.0]).view(2, 1, 1, 1)
    drawn = torch.tensor([mix(images, torch.eye(2), alpha, 0.0)[0][0].item() for _ in range(2000)])
    assert drawn.mean() == pytest.approx(0.5, abs=4 * math.sqrt(variance / 2000))
    assert drawn.var() == pytest.approx(variance, rel=0.15)


def test_cutmix_pastes_a_rectangle_of_the_other_image_and_its_share_of_the_target():
    h, w = 13, 29
    images = torch.stack([torch.full((3, h, w), value) for value in (2.0, 3.0, 5.0, 7.0)])
    targets, cut_off = torch.eye(4), Counter()
    for _ in range(300):
        mixed, shares = mix(images, targets, mixup=0.0, cutmix=1.0)
        pasted = mixed[0, 0] == 7
        share = pasted.sum().item() / (h * w)
        for i, (own, other) in enumerate([(2, 7), (3, 5), (5, 3), (7, 2)]):
            assert torch.equal(mixed[i], torch.where(pasted, float(other), float(own)).expand(3, h, w))
            torch.testing.assert_close(shares[i], (1 - share) * targets[i] + share * targets[3 - i])
        if share:
            top, bottom, left, right = rectangle(pasted)
            cut_off |= Counter(top=top == 0, bottom=bottom == h, left=left == 0, right=right == w)
    assert set(cut_off.elements()) == {"top", "bottom", "left", "right"}, "borders must have been met"
    assert torch.equal(images, torch.stack([torch.full((3, h, w), value) for value in (2.0, 3.0, 5.0, 7.0)]))


def test_what_cutmix_cuts_lies_around_a_random_middle_and_ends_at_the_borders():
    found = Counter(cut(10, 0.45) for _ in range(4000))  # half of 4 pixels to either side of 0 ... 9
    expected = {(0, 2), (0, 3), (0, 4), (1, 5), (2, 6), (3, 7), (4, 8), (5, 9), (6, 10), (7, 10)}
    assert found.keys() == expected
    for times in found.values():
        assert abs(times - 400) < 5 * math.sqrt(4000 * 0.1 * 0.9)
    assert all(end == begin for begin, end in (cut(11, 0.0) for _ in range(20)))
    assert {end - begin for begin, end in (cut(2, 1.0) for _ in range(20))} == {1, 2}


def test_the_rectangle_has_the_images_proportions_and_the_area_that_lambda_leaves(monkeypatch):
    monkeypatch.setattr(torch.distributions.Beta, "sample", lambda self: torch.tensor(0.64))  # sides of 0.6
    images = torch.stack([torch.zeros(1, 50, 70), torch.ones(1, 50, 70)])
    largest = 0
    for _ in range(200):
        mixed, shares = mix(images, torch.eye(2), mixup=0.0, cutmix=1.0)
        top, bottom, left, right = rectangle(mixed[0, 0] == 1)
        assert bottom - top <= 30 and right - left <= 42
        assert shares[0, 1].item() == pytest.approx((bottom - top) * (right - left) / 3500)
        largest = max(largest, (bottom - top) * (right - left))
    assert largest == 30 * 42


def test_with_both_every_batch_takes_one_of_them_at_even_odds():
    images, targets = torch.stack([torch.zeros(1, 17, 17), torch.ones(1, 17, 17)]), torch.eye(2)
    mixed_up = 0
    for _ in range(1000):
        mixed, shares = mix(images, targets, mixup=50.0, cutmix=50.0)
        if len(mixed[0].unique()) == 1:
            mixed_up += 1
            assert mixed[0, 0, 0, 0].item() == pytest.approx(shares[0, 1].item())
        else:
            assert set(mixed[0].unique().tolist()) == {0, 1}
    assert abs(mixed_up - 500) < 4 * math.sqrt(1000 / 4)


@pytest.mark.parametrize(("change", "values"), [({"mixup": 50.0}, 1), ({"cutmix": 50.0}, 2)])
def test_one_alone_is_taken_always(change, values):
    pixels = torch.tensor([0, 255], dtype=torch.uint8).view(2, 1, 1, 1).expand(2, 1, 17, 17)
    data = Arrays(pixels, torch.tensor([0, 1]), pixels, torch.tensor([0, 1]), ["dark", "bright"])
    for _ in range(50):
        images, targets = Preparation(Augment(**change), data)(Batch(pixels, torch.tensor([0, 1])))
        assert len(images[0].unique()) == values
        assert (images[0].mean().item() + 1) / 2 == pytest.approx(targets[0, 1].item(), abs=1e-6)
        assert targets.sum(dim=1).tolist() == pytest.approx([1, 1])


def test_smoothed_targets_are_what_is_mixed():
    data, batch = photographs(2, 3, 5, 5, labels=[1, 3])
    _, targets = Preparation(Augment(mixup=0.8, smoothing=0.14), data)(batch)
    own = (targets[0, 1].item() - 0.02) / 0.86
    assert targets[0, 3].item() == pytest.approx(0.02 + 0.86 * (1 - own))
    assert targets[:, [0, 2, 4, 5, 6]].flatten().tolist() == pytest.approx([0.02] * 10)


def test_erasing_blanks_one_rectangle_with_the_mean_colour_at_its_probability():
    data, batch = photographs(400, 3, 31, 37)
    batch = Batch(torch.full_like(batch.image, 200), batch.label)
    images, _ = Preparation(Augment(erasing=0.25), data)(batch)
    whole, shares = by_hand(batch.image), []
    for image, before in zip(images, whole, strict=True):
        blank = (image == 0).all(dim=0)
        torch.testing.assert_close(image, torch.where(blank, 0.0, before))
        if blank.any():
            top, bottom, left, right = rectangle(blank)
            shares.append((bottom - top) * (right - left) / (31 * 37))
            assert 0.3 * 0.75 < (bottom - top) / (right - left) < 3.3 / 0.75 or min(bottom - top, right - left) < 6
    assert abs(len(shares) - 100) < 4 * math.sqrt(400 * 0.25 * 0.75)
    assert 0.01 < min(shares) < 0.06 and 0.26 < max(shares) < 0.36


def test_each_operation_of_rand_augment_does_what_its_level_says():
    """Level 0.5 on pictures of one row or one colour or one white pixel; expected values by hand."""
    row, colours = torch.tensor([0.1, 0.3, 0.45, 0.55, 0.7, 0.8]), torch.tensor([0.6, 0.4, 0.2])
    x, coloured = row.expand(1, 3, 6, 6).contiguous(), colours.view(1, 3, 1, 1).expand(1, 3, 2, 2)
    bits = torch.tensor([0, 64, 64, 128, 128, 192]) / 255  # 4 - 4 * 0.5 bits: steps of a quarter of the range
    negative = torch.tensor([0.1, 0.3, 0.45, 0.45, 0.3, 0.2])  # above 1 - 0.5
    lighter = torch.tensor([0.315, 0.515, 0.665, 0.55, 0.7, 0.8])  # 0.43 * 0.5 more below a half
    operations = rand_augment(0.5)
    stretch, equalise, invert, posterise, solarise, add = operations[:6]
    for operation, expected in [
        (stretch, (row - 0.1) / 0.7), (invert, 1 - row), (posterise, bits), (solarise, negative), (add, lighter)
    ]:  # fmt: skip
        torch.testing.assert_close(alone(operation, x)[0, 1, 2], expected)
    dark = torch.arange(64 * 64).view(1, 1, 64, 64).expand(1, 3, 64, 64) // 32 / 255  # 0 to 127, each as often
    assert alone(equalise, dark).max() == pytest.approx(1, abs=0.02), "spread over the whole range"
    grey, mean = 0.299 * 0.6 + 0.587 * 0.4 + 0.114 * 0.2, row.mean()
    blurred = (3 * row[:-2] + 7 * row[1:-1] + 3 * row[2:]) / 13
    spot = torch.zeros(1, 3, 41, 41)
    spot[..., 15, 20] = 1  # 5 above the middle
    for sign, ways in ((-1, operations[6:15]), (1, operations[15:])):
        saturation, contrast, brightness, sharpness, turn, shear_x, shear_y, along_x, along_y = ways
        factor = 1 + 0.45 * sign
        torch.testing.assert_close(alone(saturation, coloured)[0, :, 0, 0], grey + factor * (colours - grey))
        torch.testing.assert_close(alone(contrast, x)[0, 1, 2], (mean + factor * (row - mean)).clamp(0, 1))
        torch.testing.assert_close(alone(brightness, x)[0, 1, 2], (factor * row).clamp(0, 1))
        torch.testing.assert_close(alone(sharpness, x)[0, 1, 2, 1:-1], blurred + factor * (row[1:-1] - blurred))
        moved = [centre_of(alone(operation, spot)) for operation in (turn, shear_x, along_x, along_y)]
        sideways = 5 * math.sin(math.radians(15))
        assert moved[0] == pytest.approx((20 - 5 * math.cos(math.radians(15)), 20 - sign * sideways), abs=0.2)
        assert abs(moved[1][1] - 20) == pytest.approx(5 * 0.15, abs=0.1) and moved[1][0] == pytest.approx(15, abs=0.1)
        assert moved[2] == pytest.approx((15, 20 + sign * 0.225 * 41), abs=0.2)
        assert moved[3] == pytest.approx((15 + sign * 0.225 * 41, 20), abs=0.2)
        beside = centre_of(alone(shear_y, spot.transpose(2, 3)))
        assert abs(beside[0] - 20) == pytest.approx(5 * 0.15, abs=0.1) and beside[1] == pytest.approx(15, abs=0.1)
    assert len(operations) == 6 + 2 * 9


def centre_of(images):
    """Row and column of the centre of mass."""
    mass = images[0, 0] / images[0, 0].sum()
    places = torch.arange(41.0)
    return (mass.sum(dim=1) @ places).item(), (mass.sum(dim=0) @ places).item()


@pytest.mark.parametrize(("magnitude", "factor"), [(3.0, 0.27), (9.0, 0.81), (10.0, 0.9)])
def test_the_magnitude_reaches_rand_augment_in_tenths(magnitude, factor):
    data, batch = photographs(4000, 3, 3, 3)
    batch = Batch(torch.tensor([100, 120, 140], dtype=torch.uint8).repeat(4000, 3, 3, 1), batch.label)
    images, _ = Preparation(Augment(rand_augment=magnitude), data)(batch)
    found = {tuple(row) for row in bytes_of(images)[:, 0, 0].tolist()}
    for sign in (-1, 1):
        darker_or_brighter = tuple(round(min(255, value * (1 + sign * factor))) for value in (100, 120, 140))
        assert darker_or_brighter in found


def test_one_operation_befalls_an_image_on_average_and_each_image_its_own():
    data, batch = photographs(3000, 3, 1, 1)
    preparation = Preparation(Augment(rand_augment=9.0), data)
    times = torch.zeros(3000)

    def note(operation, arguments, result):
        times.add_(((arguments[0] - result).abs() > 1e-4).flatten(1).any(dim=1))

    for operation in preparation.photo[1:]:
        operation.register_forward_hook(note)
    batch = Batch(torch.tensor([60, 120, 180], dtype=torch.uint8).view(1, 3, 1, 1).repeat(3000, 1, 5, 5), batch.label)
    batch.image[:, :, 0, 0], batch.image[:, :, 1, 1:3] = 30, 150
    images, _ = preparation(batch)
    # six operations with chance 1/15, 18 with 1/30; an operation that changes nothing is not seen
    variance = 6 / 15 * 14 / 15 + 18 / 30 * 29 / 30
    assert times.mean() == pytest.approx(1, abs=4 * math.sqrt(variance / 3000) + 0.07)
    untouched = (bytes_of(images) == batch.image).flatten(1).all(dim=1).float().mean()
    chance = (14 / 15) ** 6 * (29 / 30) ** 18
    assert untouched == pytest.approx(chance, abs=4 * math.sqrt(chance / 3000) + 0.05)
    assert len({tuple(image.flatten().tolist()) for image in bytes_of(images)}) > 100


def test_augmented_photographs_stay_photographs():
    data, batch = photographs(300, 3, 9, 7)
    images, _ = Preparation(Augment(flip=0.5, rand_augment=10.0), data)(batch)
    pixels = bytes_of(images)
    assert pixels.min() == 0 and pixels.max() == 255 and images.shape == batch.image.shape


def test_the_seed_decides_all_of_it():
    data, batch = photographs(30, 3, 16, 16)
    everything = Augment(flip=0.5, rand_augment=9.0, mixup=0.8, cutmix=1.0, erasing=0.25, smoothing=0.1)
    preparation = Preparation(everything, data)
    found = []
    for seed in (5, 5, 7):
        torch.manual_seed(seed)
        found.append(preparation(batch))
    assert all(torch.equal(a, b) for a, b in zip(found[0], found[1], strict=True))
    assert not torch.equal(found[0][0], found[2][0])


@pytest.mark.parametrize(
    ("name", "value", "highest"),
    [("flip", 1.1, 1), ("flip", -0.1, 1), ("rand_augment", 10.5, 10), ("mixup", 101.0, 100), ("cutmix", -1.0, 100)]
    + [("erasing", 2.0, 1), ("smoothing", math.nan, 1), ("least_area", 1.5, 1)],
)
def test_what_is_out_of_range_is_refused(name, value, highest):
    with pytest.raises(ValueError, match=rf"augment\.{name} must be between 0 and {highest}, but is {value}"):
        Augment(**{name: value})


def test_the_ends_of_the_ranges_are_allowed():
    nothing = Augment(least_area=1.0, flip=0.0, rand_augment=0.0, mixup=0.0, cutmix=0.0, erasing=0.0, smoothing=0.0)
    assert nothing == Augment()
    replace(
        nothing, least_area=0.01, flip=1.0, rand_augment=10.0, mixup=100.0, cutmix=100.0, erasing=1.0, smoothing=1.0
    )
    with pytest.raises(ValueError, match=r"augment\.least_area must be above 0, but is 0"):
        Augment(least_area=0.0)
