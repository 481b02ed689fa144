import json
from dataclasses import replace
from pathlib import Path

import pytest

from bra.bench import roofline
from bra.bench.jobs import Core
from bra.bench.roofline import GPU, GPUS, LAUNCH, SHAPES, SHARES
from bra.kernels.costs import WAYS, Cost, Kernel

KEPT = Path(__file__).parents[1] / "book" / "results" / "kernels_predicted.json"
ROUND = GPU(memory=1e9 / SHARES["memory"], cache=10e9, matrix=100e9, plain=1e9, powers=1e9)


@pytest.mark.parametrize(
    ("kernel", "expected"),
    [
        (Kernel("memory", loads=7, stores=0, least=7), 7),
        (Kernel("cache", loads=60, stores=30, least=7), 9),
        (Kernel("products", loads=7, stores=0, least=7, products=110), 11),
        (Kernel("powers", loads=7, stores=0, least=7, powers=13), 13),
    ],
)
def test_a_kernel_takes_as_long_as_its_slowest_part_and_its_launches(kernel, expected):
    assert roofline.roof(kernel, ROUND, rate=10e9) == pytest.approx(LAUNCH + expected * 1e-9)
    twice = kernel._replace(launches=2)
    assert roofline.roof(twice, ROUND, 10e9) == pytest.approx(2 * LAUNCH + expected * 1e-9)


def test_training_adds_the_backward_kernels():
    kernel = Kernel("any", loads=0, stores=0, least=7_000_000)
    cost = Cost([kernel], [kernel, kernel])
    seconds = [roofline.predicted_seconds(cost, "dense", ROUND, mode) for mode in ("inference", "train")]
    assert seconds == pytest.approx([0.007 + LAUNCH, 3 * (0.007 + LAUNCH)])


def test_triton_multiplies_without_matrix_units_on_an_old_gpu():
    cost = Cost([Kernel("products", 0, 0, 0, products=10**12)], [])
    old = replace(ROUND, triton_has_matrix_units=False)
    times = {
        (way, gpu): roofline.predicted_seconds(cost, way, gpu, "inference")
        for way in ("fused", "flex", "dense")
        for gpu in (ROUND, old)
    }
    assert times["fused", old] > 50 * times["fused", ROUND] and times["flex", old] > 50 * times["flex", ROUND]
    assert times["dense", old] == times["dense", ROUND]


def test_the_shapes_are_those_of_biformer():
    """Tokens: the map's side is the image's / 4, 8, 16, over 7 regions a side at 224, 16 at 512 and 1024."""
    for (size, stage), case in SHAPES.items():
        side, grid = size // 2 ** (stage + 1), 7 if size == 224 else 16
        assert case.r == grid**2 and case.t == (side // grid) ** 2
        assert (case.c, case.k) == {1: (64, 1), 2: (128, 4), 3: (256, 16)}[stage]


def test_the_kept_predictions_are_what_the_code_predicts():
    """Whoever changes a count or a rate runs `python -m bra.bench.roofline` again."""
    kept = json.loads(KEPT.read_text())
    assert kept["measured"] is False and kept["assumed"]["shares"] == SHARES
    assert len(kept["rows"]) == len(GPUS) * len(SHAPES) * len(WAYS) * 2
    cases = {(224, 3, "H100"), (1024, 1, "T4"), (512, 2, "A100")}
    rows = [row for row in kept["rows"] if (row["size"], row["stage"], row["gpu"]) in cases]
    assert len(rows) == len(cases) * len(WAYS) * 2
    for row in rows:
        case = Core(*(row[field] for field in Core._fields))
        assert case == roofline.batch_for(SHAPES[row["size"], row["stage"]], GPUS[row["gpu"]])
        seconds = roofline.predicted_seconds(
            roofline.cost_of(case, row["way"]), row["way"], GPUS[row["gpu"]], row["mode"]
        )
        assert row["seconds"] == pytest.approx(seconds, rel=0.005), "python -m bra.bench.roofline writes it anew"


def test_the_printed_table_marks_the_fastest():
    rows = [
        {"gpu": "T4", "size": 224, "stage": 1, "way": way, "mode": "train", "seconds": 1e-6 * (10 - i)}
        for i, way in enumerate(WAYS)
    ]
    header, line = roofline.table(rows, "train").splitlines()
    assert header.split()[3:] == list(WAYS) and line.split()[3:] == ["10", "9", "8", "7", "6*"]
