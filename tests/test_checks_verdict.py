"""A verdict that nobody looks at prints itself, once; one that is shown, tested or read does not."""

import subprocess
import sys

import pytest

from bra import checks
from bra.checks.verdict import Verdict


def made(look):
    look(Verdict(False, "Look."))


def test_what_nobody_looks_at_is_heard(capsys):
    made(lambda verdict: None)
    assert capsys.readouterr().out == "Not yet. Look.\n"


@pytest.mark.parametrize("look", [bool, repr, str, tuple, lambda v: v.text, lambda v: v.passed])
def test_what_was_looked_at_is_silent(look, capsys):
    made(look)
    assert capsys.readouterr().out == ""


def test_a_check_within_a_check_is_silent(capsys, tmp_path):
    assert not checks.patterns(lambda grid, side: None)  # tries a second time, with each row sorted
    path = tmp_path / "my_bra.py"
    path.write_text("def partition_regions(x, grid):\n    ...\n")
    assert not checks.build("adjacency", path)
    assert capsys.readouterr().out == ""


def test_a_script_that_calls_a_check_prints(tmp_path):
    script = """
from bra import checks
checks.layer_recall(4)
kept = checks.layer_recall(38_208)
print(checks.layer_recall(None))
assert not checks.layer_recall(39_744)
checks.build("partition")
print("end")
"""
    told = subprocess.run(
        [sys.executable, "-W", "error", "-c", script], capture_output=True, text=True, check=True, cwd=tmp_path
    )
    lines = told.stdout.splitlines()
    assert lines[:2] == [
        "Not yet. my_weights is wrong. Four square matrices with biases; a filter and a bias for each channel.",
        "Not yet. my_weights has no answer yet.",
    ]
    assert lines[2].startswith("There is no my_bra.py yet. Make it in the folder of this notebook")
    assert lines[-2:] == ["end", "Right. Heads, grid and k do not matter: routing has no weights."] and not told.stderr
