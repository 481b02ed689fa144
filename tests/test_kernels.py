"""Step 09: the fused programs, in Triton's interpreter where there is no GPU (conftest sees to it), and FlexAttention.

Errors are norms relative to float64. On a GPU the same tests run natively.
"""

import os
import subprocess
import sys

import oracles
import pytest
import torch
from torch.utils.checkpoint import checkpoint

import bra
from bra.attention import CHOOSERS, attend_gathered, attend_masked
from bra.kernels import attend_flex, attend_fused, choose, flex, fused, way_on_cuda
from bra.measure import LargestTensor

DEVICE = "cuda" if torch.cuda.is_available() else "cpu"
SHAPES = {  # b r t c k heads
    "stage 1": (1, 6, 64, 64, 1, 2),
    "stage 2": (1, 6, 16, 64, 4, 2),
    "stage 3, k = R": (1, 5, 4, 64, 5, 2),
    "odd": (2, 7, 3, 14, 3, 2),
    "7 x 7 tokens": (1, 4, 49, 32, 2, 1),
    "one token": (2, 9, 1, 17, 4, 1),
    "several tiles": (1, 3, 100, 32, 2, 1),
    "wide heads": (1, 3, 5, 128, 2, 1),
}
LIMITS = {torch.float64: 1e-14, torch.float32: 1e-6, torch.float16: 1e-3, torch.bfloat16: 1e-2}
needs_triton = pytest.mark.skipif(fused.why_not(torch.device(DEVICE)) is not None, reason="no Triton")


def draw(shape, dtype=torch.float64):
    """One tensor of q, k and v side by side, as the layer has it, and an index."""
    b, r, t, c, k, _ = shape
    qkv = torch.randn(b, r, t, 3 * c, dtype=dtype, device=DEVICE, requires_grad=True)
    return qkv, torch.rand(b, r, r, device=DEVICE).argsort(dim=-1)[..., :k]


def padded(shape, index, each=False):
    """Which tokens are real: not all of region 1, none of region 0, which is all that region 2 reads.

    each: of each image (b r t), every one with others.
    """
    valid = torch.rand(shape[:3] if each else shape[1:3], device=DEVICE) < 0.7
    valid[..., 0, :], valid[..., 1, 0] = False, True
    index[:, 2] = 0
    return valid


def error(got, expected):
    return ((got.double() - expected.double()).norm() / expected.double().norm()).item()


def out_and_gradient(way, qkv, index, heads, valid, weight):
    out = bra.attend(*qkv.chunk(3, dim=-1), index, heads, valid=valid, way=way)
    return out, *torch.autograd.grad(out, qkv, weight.to(out.dtype))


@needs_triton
@pytest.mark.parametrize("masked", ["full", "padded", "each"])
@pytest.mark.parametrize("name", SHAPES)
def test_equals_gathering_forward_and_backward(name, masked):
    shape = SHAPES[name]
    qkv, index = draw(shape)
    valid = None if masked == "full" else padded(shape, index, each=masked == "each")
    weight = torch.randn(shape[:4], dtype=torch.float64, device=DEVICE)
    got, expected = (
        out_and_gradient(way, qkv, index, shape[5], valid, weight) for way in (attend_fused, attend_gathered)
    )
    for what, a, b in zip(("output", "gradient of q, k, v"), got, expected, strict=True):
        assert error(a, b) < LIMITS[torch.float64], f"the {what} differs from gathering"


@needs_triton
@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
@pytest.mark.parametrize("name", ["odd", "7 x 7 tokens"])
def test_other_precisions_are_as_exact_as_they_can_be(name, dtype):
    shape = SHAPES[name]
    qkv, index = draw(shape, dtype)
    valid, weight = padded(shape, index), torch.randn(shape[:4], device=DEVICE)
    got = out_and_gradient(attend_fused, qkv, index, shape[5], valid, weight)
    exact = out_and_gradient(attend_gathered, qkv.detach().double().requires_grad_(), index, shape[5], valid, weight)
    assert all(a.dtype == dtype for a in got)
    assert all(error(a, b) < LIMITS[dtype] for a, b in zip(got, exact, strict=True))


@needs_triton
def test_equals_the_loops_and_a_region_read_twice_counts_twice():
    shape = (1, 5, 3, 14, 3, 2)
    qkv, index = draw(shape)
    index[0, :, 2] = index[0, :, 0]
    parts = [x.detach() for x in qkv.chunk(3, dim=-1)]
    expected = torch.from_numpy(oracles.attend(*(x.cpu().numpy() for x in (*parts, index)), 2))
    assert error(bra.attend(*parts, index, 2, way=attend_fused).cpu(), expected) < 1e-14


@needs_triton
def test_every_image_has_a_table_of_its_own():
    qkv, index = draw(SHAPES["odd"])
    alone = [bra.attend(*qkv[i : i + 1].chunk(3, -1), index[i : i + 1], 2, way=attend_fused) for i in range(2)]
    assert torch.equal(bra.attend(*qkv.chunk(3, -1), index, 2, way=attend_fused), torch.cat(alone))


@needs_triton
def test_gradients_are_the_same_in_every_run():
    shape = SHAPES["stage 2"]
    qkv, index = draw(shape, torch.float32)
    index[:] = index[:, :1]  # all read the same: many gradients are added up in the same rows
    weight = torch.randn(shape[:4], device=DEVICE)
    first, again = (out_and_gradient(attend_fused, qkv, index, 2, None, weight)[1] for _ in range(2))
    assert torch.equal(first, again)


@needs_triton
def test_nothing_that_is_gathered_is_stored():
    b, r, t, c, k, heads = shape = (1, 16, 16, 32, 8, 1)
    qkv, index = draw(shape, torch.float32)
    gathered = b * r * k * t * c * 4
    with LargestTensor() as largest:
        out_and_gradient(attend_fused, qkv, index, heads, None, torch.randn(shape[:4]))
    assert largest.bytes <= qkv.numel() * 4 < gathered, f"{largest.operation} made {largest.bytes} bytes"
    with LargestTensor() as largest:
        out_and_gradient(attend_gathered, qkv, index, heads, None, torch.randn(shape[:4]))
    assert largest.bytes >= gathered, "the meter must see what gathering stores"


@needs_triton
@pytest.mark.filterwarnings("ignore:The .grad attribute")  # opcheck's own
@pytest.mark.parametrize("masked", [False, True])
def test_is_an_operator_as_pytorch_wants_it(masked):
    qkv, index = draw((1, 3, 2, 4, 2, 2))
    rows = [x.detach().flatten(0, 2).requires_grad_() for x in qkv.chunk(3, dim=-1)]
    valid = torch.rand(1, 3, 2, 2, device=DEVICE) < 0.5 if masked else None
    inputs = (*rows, index.view(3, 2).int(), 2, 0.5, valid)
    torch.library.opcheck(torch.ops.bra.attend.default, inputs, rtol=1e-9, atol=1e-9)


@needs_triton
def test_a_query_without_anything_to_read_gets_0_and_no_gradient():
    """`attend` never asks for it; the operator itself must be right, too."""
    rows = [torch.randn(4, 4, dtype=torch.float64, device=DEVICE, requires_grad=True) for _ in range(3)]
    table = torch.tensor([[1], [0]], dtype=torch.int32, device=DEVICE)
    valid = torch.tensor([True, True, False, False], device=DEVICE).view(2, 1, 2)  # region 1 may read nothing
    out, lse = fused.attend_rows(*rows, table, 2, 0.5, valid)
    assert (out[2:] == 0).all() and (lse[2:] == torch.inf).all() and lse[:2].isfinite().all()
    dq, dk, dv = torch.autograd.grad(out.sum(), rows)
    assert (dq[2:] == 0).all() and (dk[:2] == 0).all() and (dv[:2] == 0).all() and (dv[2:] != 0).all()


@needs_triton
def test_runs_under_autocast_and_checkpointing():
    shape = SHAPES["odd"]
    qkv, index = draw(shape, torch.float32)
    weight = torch.randn(shape[:4], device=DEVICE)
    out, gradient = out_and_gradient(attend_fused, qkv, index, 2, None, weight)
    with torch.autocast(DEVICE, torch.bfloat16):
        half = bra.attend(*qkv.chunk(3, dim=-1), index, 2, way=attend_fused)
    assert half.dtype == torch.bfloat16 and error(half, out) < LIMITS[torch.bfloat16]
    again = checkpoint(lambda x: bra.attend(*x.chunk(3, -1), index, 2, way=attend_fused), qkv, use_reentrant=False)
    assert torch.equal(torch.autograd.grad(again, qkv, weight)[0], gradient)


COMPILED = """
import torch, bra
from bra.kernels import attend_fused
device = "cuda" if torch.cuda.is_available() else "cpu"
attend = lambda x: bra.attend(*x.chunk(3, -1), index, 2, way=attend_fused)
index = torch.rand(2, 7, 7, device=device).argsort(dim=-1)[..., :3]
qkv = torch.randn(2, 7, 3, 42, device=device, requires_grad=True)
found = []
for way in (attend, torch.compile(attend, fullgraph=True)):
    out = way(qkv)
    found.append((out, *torch.autograd.grad(out.square().sum(), qkv)))
torch.testing.assert_close(*found)
"""


@pytest.mark.slow
@needs_triton
def test_is_compiled_without_a_break():
    """In a process of its own: the shape checks of these tests are in the way of compilers."""
    environment = os.environ | {"JAXTYPING_DISABLE": "1", "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", COMPILED], capture_output=True, text=True, env=environment, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]


@needs_triton
def test_has_no_second_derivative():
    qkv, index = draw((1, 2, 2, 4, 1, 2))
    out = bra.attend(*qkv.chunk(3, dim=-1), index, 2, way=attend_fused)
    (grad,) = torch.autograd.grad(out.sum(), qkv, create_graph=True)
    with pytest.raises(RuntimeError, match="no autograd formula was registered"):
        grad.sum().backward()


def test_the_inverted_table_lists_the_readers():
    table = torch.randint(6, (6, 4), dtype=torch.int32)
    table[:, 3] = table[:, 0]  # named twice: listed twice
    readers, starts = fused.inverted(table)
    for region in range(6):
        places = readers[starts[region] : starts[region + 1]].tolist()
        assert places == [n for n, named in enumerate(table.flatten().tolist()) if named == region]


def test_says_why_it_cannot_run(monkeypatch):
    qkv, index = draw(SHAPES["odd"], torch.float32)
    parts = qkv.chunk(3, dim=-1)
    monkeypatch.setitem(sys.modules, "triton", None)
    with pytest.raises(
        RuntimeError, match=r"attend_fused cannot run here: it needs Triton .*; way=attend_gathered can"
    ):
        bra.attend(*parts, index, 2, way=attend_fused)
    monkeypatch.undo()
    if DEVICE == "cpu" and "triton" in sys.modules:
        monkeypatch.setenv("TRITON_INTERPRET", "0")
        with pytest.raises(RuntimeError, match="needs a GPU with CUDA, but q is on cpu"):
            bra.attend(*parts, index, 2, way=attend_fused)


@pytest.mark.filterwarnings("ignore:`torch.jit")  # what the compiler imports
@pytest.mark.parametrize("masked", [False, True], ids=["full", "padded"])
@pytest.mark.parametrize("name", ["stage 2", "odd"])  # whole blocks, and several regions a block: 6 s each to compile
def test_flex_equals_gathering_and_a_new_table_does_not_compile_again(name, masked):
    shape, heads = SHAPES[name], SHAPES[name][5]
    parts = torch.randn(3, *shape[:4], device=DEVICE).unbind(0)
    _, index = draw(shape)
    index[0, :, 1] = index[0, :, 0]  # read twice
    valid = padded(shape, index, each=True) if masked else None
    for table in (index, index.roll(1, dims=1)):
        found = [bra.attend(*parts, table, heads, valid=valid, way=way) for way in (attend_flex, attend_gathered)]
        assert error(*found) < 1e-5
        torch.compiler.set_stance("fail_on_recompile")
    torch.compiler.set_stance("default")


def test_flex_blocks_hold_what_is_read():
    index = torch.tensor([[[1], [3], [0], [0]]])
    assert [flex.block_size(t, "cpu") for t in (64, 256, 48, 49, 12, 4, 1)] == [64, 128, 16, 128, 128, 128, 128]
    assert {flex.block_size(t, "cuda") for t in (64, 256, 48, 49, 12, 4, 1)} == {128}, "smaller ones are refused there"
    whole = flex.blocks_read(index, 4, 16, 16)
    assert whole.to_dense()[0, 0].int().tolist() == [[0, 1, 0, 0], [0, 0, 0, 1], [1, 0, 0, 0], [1, 0, 0, 0]]
    halves = flex.blocks_read(index, 4, 32, 32)
    assert halves.BLOCK_SIZE == (32, 32) and halves.to_dense().sum() == 4
    several = flex.blocks_read(index, 4, 50, 128)  # 200 tokens, 2 blocks: the first holds regions 0, 1 and half of 2
    assert several.to_dense()[0, 0].int().tolist() == [[1, 1], [1, 0]]


def test_flex_says_why_it_cannot_run():
    qkv, index = draw(SHAPES["odd"])
    with pytest.raises(RuntimeError, match="attend_flex cannot run here: FlexAttention has no float64"):
        bra.attend(*qkv.chunk(3, dim=-1), index, 2, way=attend_flex)
    if DEVICE == "cpu":
        with pytest.raises(RuntimeError, match="on a CPU FlexAttention has no backward pass; way=attend_gathered can"):
            bra.attend(*qkv.float().chunk(3, dim=-1), index, 2, way=attend_flex)


def test_heads_that_are_too_wide_are_refused():
    q = torch.zeros(1, 2, 3, 258)
    with pytest.raises(ValueError, match="heads must have at most 128 channels each in attend_fused, but have 129"):
        bra.attend(q, q, q, torch.zeros(1, 2, 1, dtype=torch.long), 2, way=attend_fused)


def test_which_way_on_cuda(monkeypatch):
    fast = True
    monkeypatch.setattr(choose, "fused_is_fast", lambda device: fast)
    q, few, many = torch.zeros(1, 49, 64, 64), torch.zeros(1, 49, 1), torch.zeros(1, 49, 16)
    assert way_on_cuda(q, few, 2) is attend_fused
    assert way_on_cuda(q[:, :, :4], many, 2) is attend_masked
    assert way_on_cuda(q[:, :, :4], few, 2) is attend_fused
    assert way_on_cuda(q.double(), few, 2) is attend_gathered
    assert way_on_cuda(torch.zeros(1, 49, 64, 160), few, 1) is attend_gathered
    fast = False
    assert way_on_cuda(q, few, 2) is attend_gathered
    assert list(CHOOSERS.items()) == [("cuda", way_on_cuda)]


def test_fused_is_fast_where_triton_has_matrix_units(monkeypatch):
    device = torch.device("cuda")
    for capability, reason, expected in (((8, 0), None, True), ((7, 5), None, False), ((9, 0), "no Triton", False)):
        monkeypatch.setattr(choose, "why_not", lambda device: reason)  # noqa: B023
        monkeypatch.setattr(torch.cuda, "get_device_capability", lambda device: capability)  # noqa: B023
        assert choose.fused_is_fast(device) == expected
