"""Values go over as they are; what is no tensor and not plain arrives as something that can do nothing."""

import io
import json
import math
import pickle

import numpy as np
import pytest
import torch

from bra.course.wire import HEAD, receive, send


def there(value, functions=None, function=None):
    file = io.BytesIO()
    send(file, value, functions)
    file.seek(0)
    return receive(file, function)


@pytest.mark.parametrize(
    "value",
    [
        None,
        True,
        3,
        -(10**200),
        0.1,
        math.inf,
        "a \u2028 b",
        ...,
        (1, [2.5, {"x": (3,)}]),
        {3, 4},
        frozenset({5}),
        {},
        (),
        b""[:0].decode(),
    ],
)
def test_plain_values_go_over(value):
    assert there(value) == value and type(there(value)) is type(value)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int64, torch.float16, torch.bfloat16, torch.float64])
@pytest.mark.parametrize("shape", [(), (3, 5), (0, 2), (2, 3, 7)])
def test_tensors_go_over(shape, dtype):
    sent = (torch.randn(shape) * 3).to(dtype)
    found = there({"x": [sent, sent.mT if sent.ndim > 1 else sent]})["x"]
    assert torch.equal(found[0], sent) and found[0].dtype == dtype
    assert found[1].shape == (sent.mT if sent.ndim > 1 else sent).shape


def test_numbers_of_numpy_and_parameters_become_plain():
    assert there(np.float32(0.5)) == 0.5 and there(np.int64(3)) == 3
    assert torch.equal(there(torch.nn.Parameter(torch.ones(2))), torch.ones(2)) and math.isnan(there(math.nan))


def test_a_range_arrives_as_a_list():
    assert there((range(3), {"x": range(0)})) == ([0, 1, 2], {"x": []})


def test_others_arrive_as_something_that_can_do_nothing():
    class Loud:
        def __reduce__(self):
            return print, ("run",)

    found = there([Loud(), 10**1000, torch.ones(2).to_sparse(), lambda: 1, type("no name", (), {})()])
    assert [type(each).__name__ for each in found] == ["Loud", "int", "Tensor", "function", "object"]
    assert not any(vars(each) for each in found)


def test_functions_go_by_number():
    functions = []
    assert there([len, 3, print], functions, lambda n: f"function {n}") == ["function 0", 3, "function 1"]
    assert functions == [len, print]


def deep(levels):
    return [] if not levels else [deep(levels - 1)]


def test_what_is_too_large_is_refused_on_both_sides(monkeypatch):
    assert type(there(deep(40))) is list
    with pytest.raises(ValueError, match="at most"):
        receive(io.BytesIO(HEAD.pack(2**60, 2**60)))
    monkeypatch.setattr("bra.course.wire.MOST", 100)
    with pytest.raises(ValueError, match="at most 100 are sent"):
        there(torch.zeros(200))


FORMS = [
    ["tensor", "float32", [1000], 0], ["tensor", "float32", [-2, -2], 0], ["tensor", "object", [1], 0], ["tensor"], [],
    3, ["pickle", "x"], ["int", "x"], ["int", "9" * 5000], ["float", "x"], ["function", 0], ["dict", [["int", "1"]]],
    ["dict", [["tuple", [["list", []], ["int", "1"]]]]], ["set", [["list", []]]], ["tensor", "float32", [2**40, 0], 0],
]  # fmt: skip


@pytest.mark.parametrize("form", FORMS, ids=str)
def test_a_forged_message_is_refused_or_harmless(form):
    text = json.dumps(form).encode()
    with pytest.raises(ValueError):
        if type(receive(io.BytesIO(HEAD.pack(len(text), 4) + text + b"abcd"))) is torch.Tensor:
            raise ValueError("an empty tensor is harmless")


def test_a_pickle_is_no_message():
    content = pickle.dumps(print)
    with pytest.raises(ValueError):
        receive(io.BytesIO(HEAD.pack(len(content), 0) + content))
    with pytest.raises(EOFError):
        receive(io.BytesIO(HEAD.pack(50, 0) + b"short"))
