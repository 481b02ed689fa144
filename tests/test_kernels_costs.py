"""The counts of bra.kernels.costs against what the programs really touch, in Triton's interpreter."""

import pytest
import torch

import bra
from bra.kernels import attend_fused, costs, fused
from bra.measure import LargestTensor, multiply_adds

interpreted = pytest.mark.skipif(
    fused.why_not(torch.device("cpu")) is not None, reason="loads and stores are counted in Triton's interpreter"
)


class Touched:
    """Bytes loaded, bytes stored, multiply-adds and exponentials of each program while it is open."""

    def __init__(self, monkeypatch):
        from triton.runtime import interpreter

        self.kernels, self.running = {}, ""
        builder = interpreter.InterpreterBuilder
        load, store, dot, power = (
            getattr(builder, name)
            for name in ("create_masked_load", "create_masked_store", "create_dot", "create_exp2")
        )

        def create_masked_load(this, pointers, mask, *rest):
            found = load(this, pointers, mask, *rest)
            self.count("loads", int(mask.data.sum()) * found.data.dtype.itemsize)
            return found

        def create_masked_store(this, pointers, value, mask, *rest):
            self.count("stores", int(mask.data.sum()) * pointers.get_element_ty().primitive_bitwidth // 8)
            return store(this, pointers, value, mask, *rest)

        def create_dot(this, a, b, *rest):
            self.count("products", a.data.size * b.data.shape[-1])
            return dot(this, a, b, *rest)

        def create_exp2(this, x):
            self.count("powers", x.data.size if x.data.ndim == 2 else 0)  # of scores, not of a row's shrinking
            return power(this, x)

        for counted in (create_masked_load, create_masked_store, create_dot, create_exp2):
            monkeypatch.setattr(builder, counted.__name__, counted)

    def count(self, what, amount):
        kernel = self.kernels.setdefault(self.running, {"loads": 0, "stores": 0, "products": 0, "powers": 0})
        kernel[what] += amount


@interpreted
@pytest.mark.parametrize(
    ("shape", "dtype"),  # b r t c k heads
    [
        ((1, 5, 64, 64, 1, 2), torch.float16),
        ((1, 7, 16, 64, 4, 2), torch.float32),
        ((1, 5, 4, 32, 5, 1), torch.float16),
        ((2, 3, 7, 34, 2, 2), torch.float64),
        ((1, 3, 67, 17, 2, 1), torch.float16),
    ],
)
def test_the_fused_programs_touch_what_is_counted(shape, dtype, monkeypatch):
    b, r, t, c, k, heads = shape
    qkv = torch.randn(b, r, t, 3 * c, dtype=dtype, requires_grad=True)
    index = torch.rand(b, r, r).argsort(dim=-1)[..., :k]  # not every region has as many readers
    touched = Touched(monkeypatch)
    from bra.kernels import programs

    names = {"forward": "forward", "backward_queries": "queries", "backward_keys": "keys"}
    for program, name in names.items():
        original = getattr(programs, program)
        monkeypatch.setattr(programs, program, Named(original, name, touched))
    out = bra.attend(*qkv.chunk(3, dim=-1), index, heads, way=attend_fused)
    torch.autograd.grad(out.sum(), qkv)
    counted = costs.fused(costs.Reading(index, t, c, heads, dtype))
    for kernel in (*counted.forward, *counted.backward):
        if kernel.name != "invert":
            expected = {field: getattr(kernel, field) for field in ("loads", "stores", "products", "powers")}
            assert touched.kernels[kernel.name] == expected, f"{kernel.name}: touched, and what costs.py counts"


class Named:
    """A program that says when it runs."""

    def __init__(self, program, name, touched):
        self.program, self.name, self.touched = program, name, touched

    def __getitem__(self, grid):
        def launch(*args, **settings):
            self.touched.running = self.name
            return self.program[grid](*args, **settings)

        return launch


FULL = costs.Reading(torch.tensor([[[1, 2], [0, 2], [0, 1], [3, 0]]]), t=128, c=64, heads=2, dtype=torch.float32)
"""Regions that fill the tiles of every way."""


def test_where_tiles_are_full_products_are_those_of_the_sums():
    (b, r, n), t, c = FULL.index.shape, FULL.t, FULL.c
    q = torch.randn(b, r, t, c)
    for name in ("gathered", "masked"):
        way = getattr(bra.attention, f"attend_{name}")
        needed = multiply_adds(lambda way=way: bra.attend(q, q, q, FULL.index, FULL.heads, way=way))
        assert costs.WAYS[name](FULL).total("products", "inference") == needed, name
    for name, pairs in {"fused": n, "flex": n, "gathered": n, "dense": r}.items():
        cost = costs.WAYS[name](FULL)
        assert cost.total("products", "inference") == 2 * b * r * t * pairs * t * c
        assert cost.total("powers", "inference") == b * r * t * pairs * t * FULL.heads


def test_what_is_gathered_is_counted_as_large_as_it_is():
    r = FULL.index.shape[1]
    q = torch.randn(1, r, FULL.t, FULL.c)
    with LargestTensor() as largest:
        bra.gather_regions(q, FULL.index)
    gather, attend = costs.gathered(FULL).forward
    assert gather.stores == 2 * largest.bytes == attend.loads - FULL.unit
    with LargestTensor() as largest:
        bra.attend(q, q, q, FULL.index, FULL.heads, way=bra.attention.attend_masked)
    bias, _ = costs.masked(FULL).forward
    assert bias.stores == largest.bytes == (r * FULL.t) ** 2 * 4


def test_what_must_move_is_no_more_than_what_is_asked_for():
    for name, way in costs.WAYS.items():
        for t, n in ((64, 1), (16, 4), (4, 16)):
            index = torch.rand(2, 49, 49).argsort(dim=-1)[..., :n]
            cost = way(costs.Reading(index, t, 64, 2))
            assert all(kernel.least <= kernel.loads + kernel.stores for kernel in cost.forward + cost.backward), name


def test_flex_loads_blocks_that_hold_several_regions_for_all_of_them():
    index = torch.tensor([[[0], [1], [2], [3]]])
    whole, halves, several = (costs.flex(costs.Reading(index, t, 32, 1)).forward[1] for t in (128, 64, 50))
    assert whole.powers == 4 * 128**2
    assert halves.powers == 2 * 128**2, "two regions a block"
    assert several.powers == 4 * 128**2, "200 tokens are 2 blocks, and region 2 lies in both"
