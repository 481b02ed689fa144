"""The numbers of README.md are those of book/results, and both say by which command they were measured."""

import json
import re

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


STAGES = {64: 1, 128: 2, 256: 3}  # the routed stages of BiFormer-T by their channels


def mean(values):
    return sum(values) / len(values)


def by_label(name):
    """What the runs of an experiment reached on held-out images: a list for each label."""
    found = {}
    for run in RESULTS[name]["runs"]:
        found.setdefault(run["label"], []).append(run["held_out"])
    return found


def recall_rows():
    for label, found in by_label("recall_routers").items():
        accuracies, hits = [f["accuracy"] for f in found], [max(f["hit_rate"]) for f in found]
        yield f"| {label} | {mean(accuracies):.1%} | {min(accuracies):.1%} | {mean(hits):.2f} | {min(hits):.2f} |"


def dense_rows():
    for label, found in by_label("dense_recall").items():
        ious, cells = ([each[name] for each in found] for name in ("iou", "right_cell"))
        hits = [max(each["hit_rate"]) for each in found]
        yield f"| {label} | {mean(ious):.2f} | {min(ious):.2f} | {mean(cells):.2f} | {mean(hits):.2f} |"


def box_rows():
    for label, found in by_label("dense_recall_boxes").items():
        precisions, hits = [each["ap"] for each in found], [max(each["hit_rate"]) for each in found]
        yield f"| {label} | {mean(precisions):.2f} | {min(precisions):.2f} | {mean(hits):.2f} |"


def head_rows():
    rows = RESULTS["dense_cpu"]["rows"]
    for each in rows:
        if each["attention"] == "bra":
            alike = [r for r in rows if all(r[n] == each[n] for n in ("host", "height", "mode"))]
            seconds = ["-" if r["seconds"] is None else f"{r['seconds']:.1f}" for r in alike]
            peaks = ["-" if r["bytes"] is None else f"{r['bytes'] / 2**20:.0f}" for r in alike]
            yield f"| {each['host']} | {each['height']} | {each['mode']} | {' | '.join(seconds + peaks)} |"


def nuclei_rows():
    for label, found in by_label("nuclei").items():
        yield f"| {label} | " + " | ".join(f"{100 * each['iou']:.1f}" for each in found) + " |"


def fashion_rows():
    for label, found in by_label("fashion_mnist").items():
        yield " | ".join([f"| {label}", *(f"{f['accuracy']:.1%}" for f in found)]) + " |"


def bench_rows():
    case, measured = {"part", "b", "r", "t", "c", "k", "side", "grid", "name", "size", "mode"}, {}
    for row in RESULTS["bench_all_cpu"]["rows"]:
        same = tuple(str(value) for key, value in row.items() if key in case)
        measured.setdefault(same, {})[row["way"]] = row
    return filter(None, map(bench_row, measured.values()))


def bench_row(ways):
    """The row of README.md for one case of the bench, by its ways; None for those that are not told there."""
    ours = ways["ours"]
    if ours["part"] == "layer" and ours["mode"] == "train":
        stage, pixels = STAGES[ours["c"]], ours["side"] * ours["c"] // 16  # a token of stage 1 is 4 pixels wide
        told = f"| {pixels} | {stage} | {{side}} x {{side}} | {{b}} | {{k}} |".format(**ours)
        for key, unit in (("seconds", 1e-3), ("bytes", 2**20)):
            told += "".join(f" {ways[way][key] / unit:.0f} |" for way in ("expanded", "dense", "ours"))
        return told
    if ours["part"] == "model":
        spent, theirs = ours["seconds"], ways["official"]["seconds"]
        sizes = "| {name} | {b} | {size} | {grid} x {grid} | {mode} |".format(**ours)
        smaller = ways["official"]["bytes"] / ours["bytes"]
        return f"{sizes} {theirs:.2f} | {spent:.2f} | {theirs / spent:.1f} | {smaller:.1f} |"
    return None


def dense_against_ours(mode):
    """For every measured (pixels, stage): how many times our time and our memory fused dense attention takes."""
    rows = [row for row in RESULTS["bench_all_cpu"]["rows"] if row["part"] == "layer" and row["mode"] == mode]
    ours, dense = ([row for row in rows if row["way"] == way] for way in ("ours", "dense"))
    return {
        (o["side"] * o["c"] // 16, STAGES[o["c"]]): (d["seconds"] / o["seconds"], d["bytes"] / o["bytes"])
        for o, d in zip(ours, dense, strict=True)
    }


def test_what_readme_says_of_dense_attention_is_what_was_measured():
    """BRA buys time where there are many tokens; memory it does not."""
    found = {mode: dense_against_ours(mode) for mode in ("inference", "train")}
    assert len(found["train"]) == len(found["inference"]) == 9
    times = {mode: [round(found[mode][pixels, 1][0]) for pixels in (224, 512, 1024)] for mode in found}
    assert times == {"inference": [6, 28, 74], "train": [6, 22, 61]}
    for pixels in (224, 512):
        assert all(0.9 < found[mode][pixels, 3][0] < 1.15 for mode in found), "stage 3: dense is as fast"
    memory = [memory for each in found.values() for _, memory in each.values()]
    assert min(memory) > 0.69 and max(memory) < 1


PEERS = {  # what README.md calls the ways that it shows beside one another
    "ours": "BiFormer-S, ours",
    "timm Swin-T": "Swin-T, timm",
    "birder BiFormer-S": "BiFormer-S, birder",
}


def peer_rows():
    found = {(row["way"], row["mode"]): row for row in RESULTS["bench_peers_cpu"]["rows"]}
    for way, name in PEERS.items():
        rows = [found[way, mode] for mode in ("inference", "train")]
        adds = rows[0]["multiply_adds"] / rows[0]["b"] / 1e9
        peaks = (f"{row['bytes'] / 2**20:.0f}" for row in rows)
        yield " | ".join([f"| {name}", f"{adds:.2f} G", *(f"{row['seconds']:.2f}" for row in rows), *peaks]) + " |"


def test_what_readme_says_of_peers_is_what_was_measured():
    """Swin-T wins, but for the memory of inference."""
    found = {(row["way"], row["mode"]): row for row in RESULTS["bench_peers_cpu"]["rows"]}

    def ratio(way, mode, what):
        return found[way, mode][what] / found["ours", mode][what]

    swin = [ratio("timm Swin-T", mode, what) for mode in ("train", "inference") for what in ("seconds", "bytes")]
    readme = " ".join((ROOT / "README.md").read_text().split())
    told = "**Swin-T is faster**: it trains in {:.2f} of our time and {:.2f} of our memory, "
    told += "and infers in {:.2f} of our time, though in {:.2f} of our memory."
    assert told.format(*swin) in readme
    assert f"trains in {ratio('birder BiFormer-S', 'train', 'seconds'):.1f} times our time" in readme
    ours, theirs = profile_seconds("ours"), profile_seconds("timm Swin-T")
    assert {group for group in theirs if ours[group] < theirs[group]} == {
        "linear layers", "norms and GELU", "copies and zeros"
    }  # fmt: skip
    filters = {group: seconds for group, seconds in ours.items() if "depthwise" in group or "convolutions" in group}
    assert max(filters, key=filters.get) == "depthwise 5 x 5, backward"


def profile_seconds(way):
    """Seconds of a training step on two threads, by what they are for."""
    rows = RESULTS["bench_profile_cpu"]["rows"]
    return {row["group"]: row["seconds"] for row in rows if (row["way"], row["threads"]) == (way, 2)}


def profile_rows():
    ours, theirs = profile_seconds("ours"), profile_seconds("timm Swin-T")
    for group, seconds in ours.items():
        swin = theirs.get(group, 0)
        yield f"| {group} | {seconds:.2f} | {swin:.2f} | {seconds - swin:+.2f} |"


@pytest.mark.parametrize(
    "rows, least",
    [
        (recall_rows, 12),
        (dense_rows, 8),
        (box_rows, 3),
        (nuclei_rows, 4),
        (head_rows, 8),
        (fashion_rows, 5),
        (bench_rows, 17),
        (peer_rows, 3),
        (profile_rows, 10),
    ],
)
def test_readme_tables_are_those_of_the_results(rows, least):
    readme, expected = (ROOT / "README.md").read_text(), list(rows())
    assert len(expected) >= least
    for row in expected:
        assert row in readme, f"README.md must hold the row {row}"
