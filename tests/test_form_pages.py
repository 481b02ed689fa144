"""The texts of the book: every link to a test names one, every row and number is that of a notebook or a result."""

import json
import re

import nbformat
import pytest
from repository import NOTEBOOKS, ROOT

from bra.files import read_json, results

PAGES = {path.stem: path.read_text() for path in sorted((ROOT / "book").glob("*.md"))}
WITH_CODE = [name for name, text in PAGES.items() if "```python" in text]


def test_the_start_page_lists_every_notebook_with_its_question():
    rows = re.findall(r"^\| \[(\d\d)\]\(\.\./notebooks/(\w+)\.ipynb\) \| \w+ \| (.*?) \| \d", PAGES["index"], re.M)
    assert [stem for _, stem, *_ in rows] == [path.stem for path in NOTEBOOKS]
    for (_, _, question), path in zip(rows, NOTEBOOKS, strict=True):
        assert f"# {question}\n" in nbformat.read(path, 4).cells[0].source, path.stem


def sentences_of(file):
    """The names of the tests in a file of tests/, as a sentence."""
    return [
        name.replace("_", " ") for name in re.findall(r"^def test_(\w+)", (ROOT / "tests" / file).read_text(), re.M)
    ]


@pytest.mark.parametrize("name", PAGES)
def test_every_test_that_is_named_exists(name):
    for text, file in re.findall(r"\[([^\]]+)\]\(\.\./tests/(test_\w+\.py)\)", PAGES[name]):
        whole = text == file.removeprefix("test_").removesuffix(".py")
        assert whole or any(text in test for test in sentences_of(file)), f"{name}.md: no test {text!r} in {file}"


def rows_of(text):
    """The cells of the rows of the first table in this text, below its head."""
    lines = [line for line in text.splitlines() if line.startswith("|")]
    return [[cell.strip() for cell in line.split("|")[1:-1]] for line in lines[2:]]


def test_the_one_table_holds_the_rows_of_all_notebooks():
    expected = []
    for path, cell in ((one, cell) for one in NOTEBOOKS for cell in nbformat.read(one, 4).cells):
        if cell.source.startswith("## Paper, official code, ours"):
            link = f"[{path.stem[:2]}](../notebooks/{path.name})"
            rows = (
                [re.sub(r"\]\((\d\d_)", r"](../notebooks/\1", one) for one in row[:4]] for row in rows_of(cell.source)
            )
            expected += [[link, *row] for row in rows]
    found = rows_of(PAGES["compare"])
    assert [row[:5] for row in found] == expected and len(expected) > 40
    for *row, tested in found:
        assert re.fullmatch(r"\[.+\]\(\.\./tests/test_\w+\.py\)", tested) or row[-1] == "left out", row


def test_every_claim_has_a_place_and_a_verdict():
    rows = [row for part in PAGES["claims"].split("\n## ")[1:] for row in rows_of(part)]
    assert len(rows) >= 15
    for _, tested, where, verdict in rows:
        assert tested and "](../" in where
        assert re.search(VERDICTS, verdict), verdict


VERDICTS = "confirmed|differs|not run|not what the models do|fails on our boards|not seen on boards|they learn it later"


def said_in(path):
    """The text, the code and the printed outputs of a notebook, without its pictures."""
    cells = json.loads(path.read_text())["cells"]
    outputs = [out for cell in cells for out in cell.get("outputs", [])]
    printed = ["".join(out.get("text", out.get("data", {}).get("text/plain", ""))) for out in outputs]
    return "\n".join([*("".join(cell["source"]) for cell in cells), *printed])


ASKED = {"81.26", "2.09", "0.14", "0.80", "0.23", "0.69", "0.87", "0.82"}  # said by those who ask, or computed below


@pytest.mark.parametrize("name", ["claims", "faq"])
def test_every_number_is_asserted_elsewhere(name):
    """Where it is repeated, a number is that of a notebook's output, its text, or of the chapter on the literature."""
    told = [PAGES["standing"], *map(said_in, NOTEBOOKS)]
    text = re.sub(r"\]\(.*?\)|`[^`]*`|PyTorch \S+", "", PAGES[name])
    numbers = re.findall(r"(?<![\d.:])(\d+\.\d+(?!\d)|\d+(?=%))((?:%| (?:G|GB|M|MB)\b)?)", text)
    for number, unit in {*numbers}:
        known = number in ASKED or any(
            re.search(rf"(?<![\d.]){re.escape(number)} ?{unit.strip()}(?!\d)", one) for one in told
        )
        assert known, number + unit


def test_numbers_of_the_pages_are_those_that_were_measured():
    peers = read_json(results("bench_peers_cpu.json"))["rows"]
    seconds = {row["way"]: row["seconds"] for row in peers if row["mode"] == "train"}
    assert f"{seconds['timm Swin-T'] / seconds['ours']:.2f} of BiFormer-S's time" in PAGES["claims"]
    boxes = {}
    for run in read_json(results("dense_recall_boxes.json"))["runs"]:
        boxes.setdefault(run["label"], []).append(run["held_out"]["ap"])
    means = {label: f"{sum(found) / len(found):.2f}" for label, found in boxes.items()}
    assert means["local"] == means["random"]
    seeds = f"three seeds, {min(boxes['top-4']):.2f} to {max(boxes['top-4']):.2f}"
    assert f"{means['top-4']} with routing ({seeds}), {means['local']} with tables" in PAGES["claims"]
    assert round((0.814 - 0.8126) * 50_000) == 70 and "are 70 of the 50,000" in PAGES["faq"]


QUESTIONS = {  # what a question of the issue must be answered about, in the heading of its answer
    "routing", "weights", "one GPU", "100 GB", "backward", "S = 7", "last stage", "means", "two implementations",
    "patch embedding", "FLOPs", "LCE", "81.26", "NaN", "Colab", "Three dimensions", "Segmentation", "YOLO", "ONNX",
    "TensorRT", "Half precision", "torch.compile", "odd sizes", "n_win", "random grouping", "MoBA",
}  # fmt: skip


def test_every_question_is_answered_with_a_link():
    parts = re.split(r"^### ", PAGES["faq"], flags=re.M)[1:]
    headings = [part.partition("\n")[0] for part in parts]
    for question in QUESTIONS:
        assert any(question in heading for heading in headings), question
    for heading, part in zip(headings, parts, strict=True):
        assert "](" in part or "`python -m" in part or "as above" in part, heading


@pytest.mark.parametrize("name", WITH_CODE)
def test_the_code_of_a_page_runs(name):
    for block in re.findall(r"```python\n(.*?)```", PAGES[name], re.S):
        exec(compile(block, f"{name}.md", "exec"), {})


def faults_of_standing(text):
    """What is wrong with the chapter on the literature: numbers that nobody reported, references without a year."""
    body, _, references = text.partition("## References")
    blocks = re.split(r"\n\n+", body)
    faults = [
        f"nobody reported: {table.splitlines()[0]}"
        for table, below in zip(blocks, [*blocks[1:], ""], strict=True)
        if table.startswith("|") and re.search(r"\d\.\d", table) and not below.startswith("Reported by ")
    ]
    for entry in re.findall(r"^- .*$", references, re.M):
        if not re.search(r"\b20\d\d\b", re.sub(r"\[arXiv.*?\)", "", entry)):
            faults.append(f"no year: {entry}")
        faults += [
            f"leads elsewhere: {name}"
            for name, target in re.findall(r"\[arXiv:(.*?)\]\(https://arxiv.org/abs/(.*?)\)", entry)
            if name != target
        ]
    return faults


def test_numbers_of_others_are_marked_as_reported_and_references_have_years():
    text = (ROOT / "book" / "standing.md").read_text()
    assert not faults_of_standing(text)
    assert text.count("Reported by ") >= 6
    assert len(faults_of_standing(text.replace("Reported by the authors", "Measured", 1))) == 1
    assert len(faults_of_standing(text.replace("CVPR 2023.", "CVPR."))) == 1
    assert len(faults_of_standing(text.replace("abs/2303.08810", "abs/2303.08811"))) == 1


def test_points_gained_over_swin_are_the_differences_of_the_tables():
    text = (ROOT / "book" / "standing.md").read_text()
    rows = (r"BiFormer-S \| 25\.5 M \| 4\.5 G", r"BRA \(\*BiFormer-STL\*\)", r"shifted window \(Swin\)")
    ours, same_layout, swin = (float(re.search(rf"^\| {row} \| (\d+\.\d) \|", text, re.M)[1]) for row in rows)
    around, in_all = re.search(r"(\S+) of\s+BiFormer-S's\s+(\S+)\s+points\s+over\s+Swin-T", text).groups()
    assert round(ours - same_layout, 1) == float(around)
    assert round(ours - swin, 1) == float(in_all)
