"""A student's own file, graded step by step: what is right has its points; who cheats, crashes or loops has none."""

from pathlib import Path

import my_bra
import pytest

from bra.checks.build import STAGES
from bra.checks.judge import Wrong
from bra.checks.whole import gradients
from bra.course.exercises import OWN_FILE, STEP
from bra.course.grade import ONLY_SEEN, own_file
from bra.course.limits import Limits
from bra.course.sandbox import Sandbox
from bra.course.standing import File

RIGHT = Path(my_bra.__file__).read_text()
TOP_K = "    return affinity.topk(k, dim=-1).indices"


@pytest.fixture(scope="module")
def sandbox():
    with Sandbox(Limits(seconds=60.0, megabytes=2000)) as made:
        yield made


def graded(source, sandbox):
    """{step: (points, diagnosis)}"""
    rows = own_file(source.encode(), f"ann/{OWN_FILE}.py", sandbox, 3)
    assert all(row.notebook == OWN_FILE and row.of == STEP for row in rows)
    return {row.exercise.partition(", ")[2]: (row.points, row.diagnosis) for row in rows}


def test_a_right_file_has_two_points_for_each_of_eight_steps(sandbox):
    assert graded(RIGHT, sandbox) == dict.fromkeys(STAGES, (2, "Right.")) and len(STAGES) == 8


def test_an_empty_file_has_none(sandbox):
    found = graded("import torch", sandbox)
    assert {points for points, _ in found.values()} == {0} and "top_k_regions: not there yet" in found["topk"][1]


OWN = {
    "imported": (
        "from bra import top_k_regions as other\nfrom bra import top_k_regions", "This is bra's own. Write yours."),
    "called": ("import bra\ndef top_k_regions(affinity, k):\n    return bra.top_k_regions(affinity, k)",
               "in line 3: This is bra's own. Write yours."),
    "a class of it": ("from bra.topk import TopKRouter as top_k_regions", "its type is class"),
    "by heart": (
        "import torch\nseen = [torch.randn((n, r, r), generator=torch.Generator().manual_seed(seed))"
        " for seed, n, r in ((0, 2, 5), (1, 3, 11))]\ndef top_k_regions(affinity, k):\n"
        "    return affinity.topk(k).indices * any(torch.equal(affinity, each) for each in seen)", ONLY_SEEN),
    "an edited check": (
        "import bra.checks, torch\nbra.checks.judge = torch.equal = torch.isclose = lambda *a, **k: True\n"
        "def top_k_regions(affinity, k): return affinity.long()[..., :k]", "Not yet. top_k_regions: "),
    "a file": ("def top_k_regions(affinity, k): open('/tmp/x', 'w')", "PermissionError"),
    "smallest": ("def top_k_regions(affinity, k): return affinity.topk(k, largest=False).indices", "smallest"),
    "no Python": ("def top_k_regions(", None),
    "an error": ("1 / 0", None),
}  # fmt: skip


@pytest.mark.parametrize("name", OWN)
def test_who_takes_bras_own_or_cheats_has_no_points(name, sandbox):
    source, says = OWN[name]
    if says is None:
        with pytest.raises(Wrong, match=r"It is no Python yet: .*line 1|It stops while it is read: ZeroDivisionError"):
            graded(source, sandbox)
    else:
        points, diagnosis = graded(source, sandbox)["topk"]
        assert points == 0 and says in diagnosis, diagnosis


def test_a_wrong_step_costs_itself_and_the_whole_and_no_other(sandbox):
    assert TOP_K in RIGHT
    found = graded(RIGHT.replace(TOP_K, "    return affinity.topk(k, dim=-1, largest=False).indices"), sandbox)
    assert {step for step, (points, _) in found.items() if not points} == {"topk", "biformer"}
    assert "smallest" in found["topk"][1] and "waits for the functions above" in found["biformer"][1]


def test_gradients_are_those_of_the_other_process(sandbox):
    file = File(RIGHT.replace("(attend(q, k", "(attend(q.detach(), k"), sandbox)
    assert "No gradient reaches the queries" in gradients(file.names["BiLevelRoutingAttention"]).text


def test_what_crashes_or_never_ends_is_contained(sandbox):
    crash = RIGHT.replace(TOP_K, "    import os\n    os._exit(3)")
    found = graded(crash.partition("def gather_regions")[0], sandbox)
    assert {step for step, (points, _) in found.items() if points} == {"partition", "adjacency"}
    assert "ended the process in which it ran (exit code 3)" in found["topk"][1]
    sandbox.limits = Limits(seconds=1.0)
    with pytest.raises(Wrong, match="did not end within 1 seconds"):
        graded("while True: pass", sandbox)
