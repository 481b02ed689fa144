"""The swaps of the instructor's guide: every diff fits the present sources, and each swap does what its page says."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import oracles
import pytest
import torch
from repository import ROOT
from swaps.per_head import AttentionPerHead
from swaps.soft import SoftAttention

import bra

FOLDER, PAGE = ROOT / "book" / "swaps", (ROOT / "book" / "swaps.md").read_text()
DIFFS = {path.stem: path.read_text() for path in sorted(FOLDER.glob("*.diff"))}


@pytest.fixture(scope="module")
def wrong(tmp_path_factory):
    """For each diff what is wrong with it: why it cannot be applied, or what the package then does not do."""
    told, folders = {}, {name: tmp_path_factory.mktemp("swaps") / name for name in DIFFS}
    for name, folder in folders.items():
        shutil.copytree(ROOT / "bra", folder / "bra", ignore=shutil.ignore_patterns("__pycache__"))
        command = ["git", "apply", str(FOLDER / f"{name}.diff")]
        told[name] = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False).stderr
    applied = [str(folder) for name, folder in folders.items() if not told[name]]
    program = [sys.executable, "-W", "error", str(ROOT / "tests" / "support" / "swapped.py"), *applied]
    subprocess.run(program, env=os.environ | {"OMP_NUM_THREADS": "1"}, check=True)
    for folder in map(Path, applied):
        told[folder.name] = (folder / "wrong.txt").read_text()
    return told


@pytest.mark.parametrize("name", DIFFS)
def test_a_diff_applies_and_what_it_makes_of_the_package_is_right(name, wrong):
    again = f"make the swap again on a branch, git diff -U1 bra > book/swaps/{name}.diff, and leave the branch"
    assert not wrong[name], f"{wrong[name]}\nIf bra has moved on: {again}. What it must do stands in support/swapped.py"


def test_the_table_of_the_page_names_the_files_and_lines_of_every_swap():
    rows = [[cell.strip() for cell in row.split("|")[1:-1]] for row in re.findall(r"^\| \[.*$", PAGE, re.M)]
    told = {re.search(r"\]\(#(.*?)\)", row[0])[1]: (re.findall(r"`(\w+)`", row[2]), row[3]) for row in rows}
    found = {}
    for heading, name in re.findall(r"^## (.*)\n(?:(?!^## ).*\n)*?```\{literalinclude\} swaps/(\S+)$", PAGE, re.M):
        text, anchor = (FOLDER / name).read_text(), re.sub(r"\W+", "-", heading.lower())
        added = len(re.findall(r"^\+(?!\+\+)", text, re.M))
        lines = f"{added}" if name.endswith(".diff") else f"{sum(bool(line.strip()) for line in text.splitlines())}"
        found[anchor] = (re.findall(r"^\+\+\+ b/bra/(\w+)\.py", text, re.M), lines)
    assert told == found and len(found) == 5
    assert {*re.findall(r"swaps/(\S+)", PAGE)} >= {path.name for path in FOLDER.iterdir() if path.suffix != ".pyc"}


def make(attend, k=2, heads=2, grid=(2, 3), **options):
    """Two layers with the same weights, float64: the one that the book derives, and one that attends by `attend`."""
    layer = bra.BiLevelRoutingAttention(6, heads, grid, k, **options).double()
    with torch.no_grad():
        for parameter in layer.parameters():
            parameter.normal_()
    swapped = bra.BiLevelRoutingAttention(6, heads, grid, k, attend=attend, **options).double()
    swapped.load_state_dict(layer.state_dict())
    return layer, swapped


def draw(*shape):
    return torch.randn(*shape, dtype=torch.float64)


def asked(size, k, heads=2):
    """What a layer asks of its attention on maps of this size: q, k, v, index, heads, scale, valid."""
    given = []

    def spy(*args, scale, valid):
        given.extend([*(part.detach() if isinstance(part, torch.Tensor) else part for part in args), scale, valid])
        return torch.zeros_like(args[0])

    make(spy, k, heads)[1](draw(2, *size, 6))
    return given


def arrays(*parts):
    return [None if part is None else part.numpy() for part in parts]


SIZES = [(4, 6), (5, 7), (1, 2)]


@pytest.mark.parametrize("size", SIZES)
def test_soft_routing_equals_the_loops(size):
    given = q, k, v, index, heads, scale, valid = asked(size, k=3)
    found = SoftAttention(temperature=0.7)(*given)
    q, k, v, index, valid = arrays(q, k, v, index, valid)
    expected, d = np.zeros(q.shape), q.shape[3] // heads
    affinity = oracles.affinity(oracles.means(q, valid), oracles.means(k, valid))
    for n, i, token, head in np.ndindex(*q.shape[:3], heads):
        part = slice(head * d, (head + 1) * d)
        read = [(j, m) for j in index[n, i] for m in range(q.shape[2]) if valid is None or valid[j, m]]
        scores = [scale * q[n, i, token, part] @ k[n, j, m, part] + affinity[n, i, j] / 0.7 for j, m in read]
        weights = np.exp(np.array(scores) - max(scores))
        expected[n, i, token, part] = weights / weights.sum() @ [v[n, j, m, part] for j, m in read]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_soft_routing_has_two_limits(size):
    x = draw(2, *size, 6)
    layer, hot = make(SoftAttention(1e12), k=3)
    torch.testing.assert_close(hot(x), layer(x), rtol=0, atol=1e-9)
    hot.attend.temperature = 1e-5
    layer.k = 1
    torch.testing.assert_close(hot(x), layer(x), rtol=0, atol=1e-6)


def test_soft_routing_passes_a_gradient_to_what_decides():
    x = draw(2, 5, 7, 6)
    decide = {}
    for name, layer in zip(("hard", "soft"), make(SoftAttention(), k=3, scale=0.0), strict=True):
        layer(x).square().sum().backward()  # with scale 0 tokens do not compare: q and k serve the routing alone
        decide[name] = layer.qkv.weight.grad[:12].abs().amax(dim=1)
    assert (decide["hard"] == 0).all() and (decide["soft"] > 1e-6).all()


@pytest.mark.parametrize("size", SIZES)
def test_routing_per_head_equals_the_loops(size):
    given = q, k, v, index, heads, scale, valid = asked(size, k=2)
    found = AttentionPerHead(2)(*given)
    q, k, v, index, valid = arrays(q, k, v, index, valid)
    expected = np.zeros(q.shape)
    for head in range(heads):
        part = slice(head * 3, head * 3 + 3)
        affinity = oracles.affinity(oracles.means(q[..., part], valid), oracles.means(k[..., part], valid))
        if valid is not None:
            affinity[:, :, ~valid.any(axis=1)] = -np.inf
        chosen = oracles.top_k(affinity, 2)
        expected[..., part] = oracles.attend(q[..., part], k[..., part], v[..., part], chosen, 1, scale, valid)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-9)


@pytest.mark.parametrize("size", SIZES)
def test_with_one_head_routing_per_head_is_the_layer(size):
    layer, swapped = make(AttentionPerHead(2), heads=1)
    x = draw(2, *size, 6)
    torch.testing.assert_close(swapped(x), layer(x), rtol=0, atol=1e-12)


def test_heads_read_differently_and_the_shared_affinity_is_the_sum_of_theirs():
    layer, swapped = make(AttentionPerHead(2), heads=3)
    x, routes = draw(2, 4, 6, 6), []
    swapped.attend.router.register_forward_hook(lambda module, inputs, outputs: routes.append(outputs))
    assert (swapped(x) - layer(x)).abs().max() > 0.01
    index, affinity = (part.unflatten(0, (2, 3)) for part in routes[0])
    assert not torch.equal(index[:, 0], index[:, 1]) and not torch.equal(index[:, 1], index[:, 2])
    torch.testing.assert_close(affinity.sum(dim=1), layer.route(x).affinity, rtol=0, atol=1e-12)


@pytest.mark.parametrize("attend", [SoftAttention(), AttentionPerHead(2)])
def test_what_is_not_real_does_not_matter(attend):
    _, swapped = make(attend)
    x, real = draw(2, 5, 7, 6), torch.rand(2, 5, 7) < 0.6
    real[1, :, 4:] = False
    poisoned = torch.where(real[..., None], x, 50 * torch.randn_like(x))
    torch.testing.assert_close(swapped(poisoned, real)[real], swapped(x, real)[real], rtol=0, atol=1e-9)
