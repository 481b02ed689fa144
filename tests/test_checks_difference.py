"""What is said of a wrong result without a name: where it is wrong, and which operation would explain it."""

import pytest
import torch
from test_checks import RIGHT

from bra import checks
from bra.checks.difference import located, operation

RESULT = torch.randn(2, 5, 3, 12, generator=torch.Generator().manual_seed(0))  # b r t (m d), three heads of four


def wrong_at(*place):
    wrong = torch.zeros(RESULT.shape, dtype=torch.bool)
    wrong[place] = True
    return wrong


every = slice(None)


@pytest.mark.parametrize(
    "wrong, says",
    [
        (wrong_at(1), "Wrong is all of image 1."),
        (wrong_at(1, 3), "Wrong is all of image 1, region 3."),
        (wrong_at(every, every, slice(1, 3)), "Wrong is all of tokens 1 and 2."),
        (wrong_at(every, every, every, slice(4, 8)), "Wrong is all of head 1."),
        (wrong_at(1, 0, 0, 5), "Wrong is all of image 1, region 0, token 0, head 1, channel 1."),
        (wrong_at(0, slice(1, None)), "Wrong is all of image 0, every region but 0."),
        (wrong_at(0) & (RESULT > 0), "All that is wrong lies in image 0."),
        (wrong_at(every), "Every entry is wrong."),
        (RESULT > 0, ""),
    ],
)
def test_it_is_said_where_all_that_is_wrong_lies(wrong, says):
    assert located(wrong, "b r t (m d)", heads=3) == says


def test_axes_without_names_have_numbers():
    assert located(wrong_at(every, 4)) == "Wrong is all of axis-1 slice 4."


BIAS = torch.randn(12, generator=torch.Generator().manual_seed(1))
SQUARE = torch.randn(2, 5, 5, generator=torch.Generator().manual_seed(2))
BROKEN = RESULT * 0.5
BROKEN[0, 0] = 7.0


@pytest.mark.parametrize(
    "found, expected, says",
    [
        (SQUARE.transpose(1, 2), SQUARE, "with axes 1 and 2 swapped"),
        (RESULT * 0.5, RESULT, "times 0.5 (or it divided by 2)"),
        (-RESULT, RESULT, "times -1"),
        (RESULT + 3, RESULT, "Every entry is off by 3."),
        (RESULT + BIAS, RESULT, "Each channel is off by one number of its own, as if a bias were missing."),
        (RESULT + BIAS[:5, None, None], RESULT, "Each region is off by one number of its own"),
        (RESULT.flip(1), RESULT, "regions run backwards"),
        (RESULT.flip(0), RESULT, "images run backwards"),
        (RESULT.roll(1, 2), RESULT, "token 0 has what belongs to token 2"),
        (RESULT[:, [0, 3, 2, 1, 4]], RESULT, "region 1 has what belongs to region 3"),
        (RESULT[[0, 0]], RESULT, "every image has what belongs to image 0"),
        (BROKEN, RESULT, "Nearly: 36 entries are left that this does not explain. It is the right result times"),
        (RESULT.movedim(1, 2), RESULT, "permute(0, 2, 1, 3) would mend it"),
        (RESULT.flatten(1, 2), RESULT, "only reshape it"),
        (torch.tensor([[3, 1], [2, 0]]), torch.tensor([[1, 3], [0, 2]]), "axis-1 slices run backwards"),
        (RESULT.sin(), RESULT, None),
        (RESULT[:1], RESULT, None),
    ],
)
def test_an_operation_that_explains_the_difference_is_named(found, expected, says):
    told = operation(found, expected, "b r t c" if expected.ndim == 4 else "")
    assert says in told if says else told == ""


def changed(name, change):
    def answer(*given):
        result = RIGHT[name](*given).clone()
        return change(result)

    return answer


def but_one_head(result):
    heads = result.unflatten(-1, (2 if result.shape[-1] == 8 else 4, -1))
    heads[:, :, :, 1] += torch.rand(heads[:, :, :, 1].shape)
    return result


def but_image_1(result):
    result[1:] = result[1:].sin()
    return result


@pytest.mark.parametrize(
    "name, change, says",
    [
        ("attention", but_one_head, "Wrong is all of head 1."),
        ("gather", but_image_1, "All that is wrong lies in image 1, every region but 2."),
        ("layer", lambda result: result * 2, "It is the right result times 2."),
        ("lce", lambda result: result + torch.arange(result.shape[-1]) + 1, "off by"),
        ("biformer", lambda result: result.flip(1), "rows run backwards"),
        ("kernels", lambda result: result.flip(1), "channels run backwards"),
        ("topk", lambda result: result.roll(1, 1), "region 0 has what belongs to region"),
        ("partition", lambda result: result.sin(), "first is at [0, 0, 1, 0]"),
    ],
)
def test_a_check_says_so_of_a_mistake_that_it_has_no_name_for(name, change, says):
    verdict = getattr(checks, name)(changed(name, change))
    assert not verdict and says in verdict.text, verdict
