"""The numbers of README.md are those of book/results, and both say by which command they were measured."""

import json
import re
import statistics

import pytest
from reporting.tables import table
from repository import NOTEBOOKS, ROOT

RESULTS = {path.stem: json.loads(path.read_text()) for path in (ROOT / "book" / "results").glob("*.json")}
TEXTS = [ROOT / name for name in ("README.md", "CONTRIBUTING.md", "Makefile")]
TEXTS += [*(ROOT / "book").glob("*.md"), *NOTEBOOKS]


def missing_commands(text):
    """Of the modules that a text starts, as `python -m bra.train` does, those that are no command."""
    modules = {name.rstrip(".") for name in re.findall(r"-m (bra[.\w]*)", text)}
    return {module for module in modules if not is_command(ROOT / module.replace(".", "/"))}


def is_command(stem):
    """Whether a module can be started: a folder with a `__main__`, or a file that ends by starting itself."""
    file = stem.with_suffix(".py")
    return (stem / "__main__.py").exists() or (file.exists() and '__name__ == "__main__"' in file.read_text())


@pytest.mark.parametrize("name", RESULTS)
def test_results_say_where_they_come_from(name):
    command = RESULTS[name]["command"]
    assert command.startswith(("python -m bra.", "python .ci/"))
    assert not missing_commands(command), f"book/results/{name}.json: {command}"
    assert RESULTS[name]["environment"].keys() >= {"date", "commit", "processor", "threads", "python", "torch"}


@pytest.mark.parametrize("path", TEXTS, ids=lambda path: path.stem)
def test_commands_that_are_named_can_be_started(path):
    missing = missing_commands(path.read_text())
    assert not missing, f"{path.name} starts {missing}, but there is no such command"


def test_a_command_that_is_gone_is_found():
    text = "python -m bra.train --steps 3, python -m bra.gone. And python -m bra.topk, torchrun -m bra.data.hub"
    assert missing_commands(text) == {"bra.gone", "bra.topk", "bra.data.hub"}


def tables_in(text):
    """Every table of a text that shows a result: its columns and its rows."""
    for block in re.findall(r"(?:^\|.*\|$\n?)+", text, re.M):
        columns, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines())
        if columns[0]:  # the map of notebooks has none
            yield columns, rows


SHOWN = ("recall_routers", "bench_all_cpu models", "dense_recall")  # by README, in this order


def unmeasured(text):
    """The rows and heads of a text's tables that are not those of the book's."""
    found = [*tables_in(text)]
    assert len(found) == len(SHOWN), f"README.md shows {len(found)} results, not {len(SHOWN)}"
    for name, (columns, rows) in zip(SHOWN, found, strict=True):
        whole = table(name)
        known = [each[: len(columns)] for each in (whole.columns, *whole.rows)]
        yield from (row for row in (columns, *rows) if row not in known)


def test_readme_shows_what_was_measured():
    text = (ROOT / "README.md").read_text()
    assert not [*unmeasured(text)], "README.md: in book/, `python -m reporting.tables NAME` prints the right rows"
    assert [*unmeasured(text.replace("| top-4 | 100.0%", "| top-4 | 99.9%"))] == [["top-4", "99.9%", "100.0%", "1.00"]]


def test_the_alternative_text_of_the_picture_tells_what_was_measured():
    faster = [row[7] for row in table("bench_all_cpu models").rows if row[0] == "T" and row[4] == "train"]
    assert f"takes {faster[0]}, {faster[1]} and {faster[2]} times as long as ours" in (ROOT / "README.md").read_text()


def test_where_it_loses_is_what_was_measured():
    peers = {(row["way"], row["mode"]): row["seconds"] for row in RESULTS["bench_peers_cpu"]["rows"]}
    share = peers["timm Swin-T", "train"] / peers["ours", "train"]
    assert f"Swin-T trains in {share:.2f} of BiFormer-S's time" in " ".join((ROOT / "README.md").read_text().split())
    layers = [row for row in RESULTS["bench_all_cpu"]["rows"] if row["part"] == "layer"]
    ours, dense = ([row["bytes"] for row in layers if row["way"] == way] for way in ("ours", "dense"))
    assert all(theirs < own for theirs, own in zip(dense, ours, strict=True)), "fused dense attention needs less memory"
    for name, what, tables in (("fashion_mnist", "accuracy", ("local", "random")), ("nuclei", "iou", ("local",))):
        reached = {label: [run["held_out"][what] for run in RESULTS[name]["runs"] if run["label"] == label]
                   for label in ("top-4", *tables)}  # fmt: skip
        for label in tables:
            assert statistics.mean(reached[label]) > statistics.mean(reached["top-4"]), f"{name}: {label}"
