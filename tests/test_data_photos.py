import statistics

import pytest
import torch
from skimage import data

from bra.data.photos import PHOTOGRAPHS, colour_and_edges, photograph

SIZES = {"astronaut": (512, 512), "chelsea": (300, 451), "coffee": (400, 600), "rocket": (427, 640)}


@pytest.mark.parametrize("name", PHOTOGRAPHS)
def test_a_photograph_is_an_image_as_all_others(name):
    photo = photograph(name)
    assert photo.shape == (3, *SIZES[name])
    assert photo.min() >= -1 and photo.max() <= 1 and photo.min() < -0.5 and photo.max() > 0.5
    pixels = getattr(data, name)()
    for colour in range(3):
        assert (((photo[colour] + 1) * 127.5).round().numpy() == pixels[:, :, colour]).all()


def test_the_rocket_is_the_one_that_is_given_unasked():
    assert torch.equal(photograph(), photograph("rocket"))


def test_no_other_photograph_is_given():
    with pytest.raises(ValueError, match="one of astronaut, chelsea, coffee, rocket, but is camera"):
        photograph("camera")


def test_features_are_means_and_edges_of_patches():
    image = torch.rand(3, 6, 9)
    features = colour_and_edges(image, 3)
    assert features.shape == (1, 2, 3, 5)
    assert torch.allclose(features.mean(dim=(1, 2)), torch.zeros(5), atol=1e-5)
    assert torch.allclose(features.std(dim=(1, 2)), torch.ones(5), atol=1e-4)
    means = image[0].reshape(2, 3, 3, 3).mean(dim=(1, 3))
    assert torch.allclose(features[0, :, :, 0], (means - means.mean()) / means.std(), atol=1e-4)


def test_features_equal_the_sums_written_as_loops():
    height, width, patch = 6, 15, 3
    image = torch.rand(3, height, width, dtype=torch.float64)
    grey = [[sum(image[:, y, x].tolist()) / 3 for x in range(width)] for y in range(height)]

    def look(y, x):
        down = abs(grey[y + 1][x] - grey[y][x]) if y + 1 < height else 0.0
        across = abs(grey[y][x + 1] - grey[y][x]) if x + 1 < width else 0.0
        return [*image[:, y, x].tolist(), down, across]

    features = colour_and_edges(image, patch)[0]
    assert features.shape == (2, 5, 5)
    for channel in range(5):
        means = [
            statistics.mean(look(patch * row + y, patch * column + x)[channel] for y in range(3) for x in range(3))
            for row in range(2)
            for column in range(5)
        ]
        middle, deviation = statistics.mean(means), statistics.stdev(means)
        expected = [(mean - middle) / deviation for mean in means]
        assert features[..., channel].flatten().tolist() == pytest.approx(expected)


@pytest.mark.parametrize(("axis", "channel"), [(1, 3), (2, 4)])
def test_edges_know_their_direction(axis, channel):
    image = torch.zeros(3, 8, 8)
    image.narrow(axis, 2, 6).fill_(1.0)  # one edge, across `axis`
    features = colour_and_edges(image, 4)[0]
    strong = features[:, :, channel] > 0
    assert strong.tolist() == [[True, axis == 1], [axis == 2, False]], "the edge lies in the first two patches"
    assert torch.equal(features[:, :, 7 - channel], torch.zeros(2, 2)), "no edge in the other direction"


def test_edges_count_both_directions_of_brightness():
    image = torch.zeros(3, 4, 8)
    image[0, :, 2:6] = 1.0  # red alone: a rise and a fall, both inside patches
    across = colour_and_edges(image, 4)[0, 0, :, 4]
    assert across[0] == across[1] == 0, "as much in the left patch as in the right one"
