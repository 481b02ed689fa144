"""The numbers of README.md are those of book/results, and both say by which command they were measured."""

import json
import re
import statistics

import pytest
from reporting.tables import TABLES, table
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


KEPT = {"recall_routers", "dense_recall", "bench_all_cpu models"}  # what README.md must show


def markdown_tables(text):
    """Every table of a text, as (head, rows) of cells without their emphasis."""
    lines = [line.replace("*", "") for line in text.splitlines()]
    blocks = re.findall(r"(?:^\|.*\|$\n?)+", "\n".join(lines), re.M)
    for block in blocks:
        head, _, *rows = ([cell.strip() for cell in line[1:-1].split("|")] for line in block.splitlines())
        yield head, rows


def columns_of(head, columns):
    """Where the columns of a shorter table stand in a longer one, in the same order; None if one is not there."""
    places = []
    for name in head:
        following = [i for i, column in enumerate(columns) if column == name and i > max(places, default=-1)]
        if not following:
            return None
        places.append(following[0])
    return places


def shown_results(text):
    """{result: [rows that it does not hold]} for every table of a text whose columns are those of a result's table."""
    found, results = {}, {name: table(name) for name in TABLES}
    for head, rows in markdown_tables(text):
        for name, whole in results.items():
            if (places := columns_of(head, whole.columns)) is not None:
                held = [[cells[i].replace("*", "") for i in places] for cells in whole.rows]
                found[name] = [row for row in rows if row not in held]
    return found


def test_readme_shows_three_results_with_columns_or_rows_left_out_but_no_other_numbers():
    found = shown_results((ROOT / "README.md").read_text())
    assert found.keys() >= KEPT, (
        f"README.md shows no table of {KEPT - found.keys()}, with that table's names of columns"
    )
    for name in KEPT:
        assert not found[name], f"README.md: {found[name]} are no rows of `python -m reporting.tables {name}`"


def test_a_row_that_nobody_measured_is_found():
    short = "| router | mean accuracy | mean hit rate |\n|---|---|---|\n| **top-4** | {} | 1.00 |\n"
    assert shown_results(short.format("100.0%")) == {"recall_routers": []}
    assert shown_results(short.format("99.0%")) == {"recall_routers": [["top-4", "99.0%", "1.00"]]}
    assert not shown_results(short.replace("mean hit rate", "hits"))


# Until README.md is a front page: its other tables and what it says of them. The pages have tests of their own.


def readme_tables():
    """Every table of README that shows a result: its columns and its rows."""
    for block in re.findall(r"(?:^\|.*\|$\n?)+", (ROOT / "README.md").read_text(), re.M):
        columns, _, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in block.splitlines())
        if columns[0]:  # the map of notebooks has none
            yield columns, rows


SHOWN = ("recall_routers", "bench_all_cpu models", "dense_recall")  # by README, in this order


def test_readme_shows_what_was_measured():
    found = [*readme_tables()]
    assert len(found) == len(SHOWN)
    for name, (columns, rows) in zip(SHOWN, found, strict=True):
        whole = table(name)
        assert columns == whole.columns[: len(columns)], f"README.md: the columns of {name} are {whole.columns}"
        for row in rows:
            assert row in [each[: len(row)] for each in whole.rows], f"README.md: {name} has no row {row}"


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
