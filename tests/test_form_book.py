"""The book is built from the stored outputs, without a warning, and loads nothing from elsewhere."""

import re
import subprocess
import sys

from repository import NOTEBOOKS, ROOT


def test_book_builds_and_needs_no_network(tmp_path):
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-c", "book", ".", str(tmp_path)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    pages = [page for folder in ("book", "notebooks") for page in (tmp_path / folder).rglob("*.html")]
    written = {path.stem for path in (ROOT / "book").glob("*.md")}
    assert {page.stem for page in pages} == {*written, *(path.stem for path in NOTEBOOKS)}
    for page in pages:
        html = page.read_text()
        remote = re.findall(r"<(?:script|link|img|iframe)[^>]*?(?:src|href)=\"((?:https?:)?//[^\"]*)\"", html)
        assert not remote, f"{page.name} loads {remote}"
        for image in re.findall(r"<img[^>]*>", html):
            assert re.search(r"alt=\"(?![^\"]*\.png)[^\"]+\"", image), f"{page.name}: {image}"


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
