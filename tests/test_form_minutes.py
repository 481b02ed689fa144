"""How long the notebooks take: what is promised is what .ci/minutes.py counts, everywhere."""

import re
import runpy

import nbformat
import pytest
from repository import NOTEBOOKS, ROOT

MINUTES = runpy.run_path(str(ROOT / ".ci" / "minutes.py"))
COUNTED = {path.stem: MINUTES["minutes"](path) for path in NOTEBOOKS}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_a_notebook_promises_what_is_counted(path):
    read, solve = COUNTED[path.stem]
    head = nbformat.read(path, 4).cells[0].source
    told = re.findall(MINUTES["HEAD"], head)
    assert told == [f"About {read} minutes to read and {solve} to solve"], "python .ci/minutes.py writes it again"


@pytest.mark.parametrize("page", MINUTES["PAGES"])
def test_a_page_says_what_is_counted(page):
    text = (ROOT / page).read_text()
    assert MINUTES["written"](text, COUNTED) == text, "python .ci/minutes.py writes it again"


def test_the_start_page_says_how_long_it_is_to_the_empty_file():
    hours = round(sum(sum(COUNTED[path.stem]) for path in NOTEBOOKS[:8]) / 60)
    assert hours == 7 and "it is about seven hours" in (ROOT / "book" / "index.md").read_text()


def test_what_is_written_replaces_links_and_rows():
    counted = {"00_patterns": (25, 30)}
    text = (
        "- [Why](../notebooks/00_patterns.ipynb), 5 minutes\n| [00](notebooks/00_patterns.ipynb) | Why? | 5 | open |\n"
    )
    after = MINUTES["written"](text, counted)
    assert "ipynb), 55 minutes\n" in after and "| Why? | 25 + 30 | open |" in after
    assert MINUTES["written"](after, counted) == after


def test_words_lines_and_solutions_are_counted(tmp_path):
    (tmp_path / "tests" / "support").mkdir(parents=True)
    (tmp_path / "tests" / "support" / "my_bra.py").write_text("")
    new = nbformat.v4
    notebook = new.new_notebook(cells=[
        new.new_markdown_cell("one [two](three.md) $4 + 4$ " + "word " * 1198),  # 1200 words: 6 minutes
        new.new_code_cell("a = 1\n# no\n\nassert a\n" * 75),  # 75 lines: 5 minutes
        new.new_code_cell("b = 2\n" * 300, metadata={"tags": ["remove-cell"]}),
        new.new_code_cell("b = 2\n" * 300, metadata={"tags": ["solution"]}),
        new.new_code_cell("b = 2\n", metadata={"tags": ["solution"]}),  # counts as 3
    ])  # fmt: skip
    path = tmp_path / "00_toy.ipynb"
    nbformat.write(notebook, path)
    assert MINUTES["minutes"](path, tmp_path) == (15, 305)


def test_ones_own_file_counts_where_it_is_written():
    own = {path.stem: MINUTES["own_lines"](path.stem) for path in NOTEBOOKS}
    steps = [path.stem for path in NOTEBOOKS[1:8]]
    assert [stem for stem, lines in own.items() if lines] == steps
    whole = MINUTES["lines_of"]((ROOT / "tests" / "support" / "my_bra.py").read_text())
    assert sum(own.values()) > whole - 10, "nearly all of the file is asked for"
