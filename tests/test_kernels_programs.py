"""What the fused programs become on GPUs that are not here: Triton compiles them all the same."""

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from bra.kernels import choose, fused

SCRIPT = Path(__file__).parent / "support" / "compile_offline.py"


@pytest.fixture(scope="module")
def rows(tmp_path_factory):
    if fused.why_not(torch.device("cpu")):
        pytest.skip("no Triton here")
    environment = os.environ | {"TRITON_CACHE_DIR": str(tmp_path_factory.mktemp("triton"))}
    environment |= {"PYTHONPATH": os.pathsep.join(sys.path), "TRITON_INTERPRET": "0"}
    done = subprocess.run([sys.executable, SCRIPT], capture_output=True, text=True, env=environment, check=False)
    assert done.returncode == 0, done.stderr[-3000:]
    return [json.loads(line) for line in done.stdout.splitlines()]


@pytest.mark.slow
def test_half_precision_uses_matrix_units_and_nothing_spills(rows):
    new = [row for row in rows if row["capability"] >= 10 * choose.LEAST_CAPABILITY[0]]
    assert {row["capability"] for row in new} == {80, 90} and len(new) == 24
    for row in new:
        half = row["dtype"] == "fp16"
        assert (row["matrix"] > 0) == half, "float32 is multiplied exactly, which matrix units cannot"
        assert row["spilled"] == 0, f"registers do not hold its tiles: {row}"


@pytest.mark.slow
def test_on_older_gpus_there_is_no_matrix_unit_and_tiles_spill(rows):
    """Why `way_on_cuda` takes another way there."""
    old = [row for row in rows if row["capability"] < 10 * choose.LEAST_CAPABILITY[0]]
    assert len(old) == 3 and all(row["matrix"] == 0 and row["spilled"] > 0 for row in old)
