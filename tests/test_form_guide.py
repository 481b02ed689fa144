"""The instructor's guide: what it quotes is what checks say, what it computes is so, and what it names is there."""

import contextlib
import io
import json
import re

import pictures
import pytest
from reporting.notebooks import stored
from repository import NOTEBOOKS, ROOT
from sphinx.cmd.build import build_main
from test_form_book import PHONE
from test_form_notebooks import LIMITS

from bra.checks.build import STAGES
from bra.course.exercises import POINTS
from bra.draw.picture import SMALL

PAGES = {path.stem: path.read_text() for path in sorted((ROOT / "book").glob("*.md"))}
STEMS = {path.stem[:2]: path.stem for path in NOTEBOOKS}
CELLS = {path.stem: json.loads(path.read_text())["cells"] for path in NOTEBOOKS}
NUMBER = r"(?<![\w.,])-?\d[\d,]*(?:\.\d+)?(?![\w])"


def source(cell):
    """The text of a cell."""
    return "".join(cell["source"])


def said(cells):
    """The text, the code, the printed outputs and the alternative texts of some cells."""
    outputs = [output for cell in cells for output in cell.get("outputs", [])]
    printed = ["".join(each.get("text", each.get("data", {}).get("text/plain", ""))) for each in outputs]
    alts = [each.get("metadata", {}).get("image/png", {}).get("alt", "") for each in outputs]
    return "\n".join([*map(source, cells), *printed, *alts])


def numbers(text):
    """All numbers of a text, as they are compared: 0.40 is .40, and 1,024 is 1024."""
    return {number.replace(",", "").removeprefix("0") or "0" for number in re.findall(NUMBER, text)}


def run(block):
    """What a block of code prints."""
    out = io.StringIO()
    with contextlib.redirect_stdout(out):
        exec(compile(block, "block", "exec"), {})
    return out.getvalue().strip()


def blocks(text):
    """The blocks of code of a page."""
    return re.findall(r"```python\n(.*?)```", text, re.S)


# --- mistakes ------------------------------------------------------------------------------------------------------

ENTRIES = {  # what stands under each mistake, and under which step
    re.match(r".*", entry)[0]: (step[:2], entry)
    for step in re.split(r"^## ", PAGES["mistakes"], flags=re.M)[1:]
    for entry in re.split(r"^### ", step, flags=re.M)[1:]
}


def test_every_step_has_mistakes():
    steps = [step for step, _ in ENTRIES.values()]
    assert list(dict.fromkeys(steps)) == [f"{n:02}" for n in range(9)] and len(ENTRIES) >= 16


@pytest.mark.parametrize("title", ENTRIES)
def test_the_check_says_what_the_page_quotes(title):
    (block,) = blocks(ENTRIES[title][1])
    quoted = " ".join(re.findall(r"^> (.*)$", ENTRIES[title][1], re.M))
    assert run(block) == quoted and quoted.startswith("Not yet. ")


@pytest.mark.parametrize("title", ENTRIES)
def test_a_mistake_says_what_was_believed_where_it_shows_who_says_it_and_has_a_picture(title):
    step, entry = ENTRIES[title]
    for what in ("- **Believed**: ", "- **Shows**: ", "- **Who says it**: "):
        assert entry.count(what) == 1, what
    (block,), who = blocks(entry), entry.partition("- **Who says it**: ")[2]
    called = re.findall(r"print\((checks\.\w+)\(", block) or re.findall(r"as (checks\.build\(\"\w+\"\)) tries", block)
    assert len(called) == 1 and f"`{called[0]}" in who
    if "build" in called[0]:
        module, name = re.search(r"from bra\.checks\.(\w+) import (\w+)", block).groups()
        assert name in {part.check.__name__ for part in STAGES[module]}, "build asks something else"
    assert len(re.findall(r"^```\{(?:notebook-)?figure\}", entry, re.M)) == 1
    assert step in STEMS


@pytest.mark.parametrize("title", ENTRIES)
def test_numbers_of_a_mistake_are_those_of_the_notebook_or_the_picture(title):
    step, entry = ENTRIES[title]
    shows = re.sub(r"\]\(.*?\)|`[^`]*`", "", re.search(r"- \*\*Shows\*\*: (.*)", entry)[1])
    known = said(CELLS[STEMS[step]]) + "".join(stored(*each).alt for each in notebook_figures(entry)) + entry
    known = known.replace(shows, "").replace("- **Shows**: ", "")
    assert numbers(shows) <= numbers(known), numbers(shows) - numbers(known)


def test_pictures_that_no_notebook_has_are_told_as_they_are_drawn():
    for name, picture in (("softmax", pictures.softmax()), ("heads", pictures.heads())):
        figure = re.search(rf"```\{{figure\}} _static/{name}\.png\n:alt: (.*)\n", PAGES["mistakes"])
        assert figure[1] == picture.alt and f"`python book/pictures.py {name}`" in PAGES["mistakes"]


# --- figures of notebooks on pages -----------------------------------------------------------------------------------


def notebook_figures(text):
    """(notebook, cell) of every figure that a page takes from a notebook."""
    return re.findall(r"^```\{notebook-figure\} (\S+) (\S+)$", text, re.M)


def test_every_figure_that_a_page_takes_from_a_notebook_is_there():
    used = [each for text in PAGES.values() for each in notebook_figures(text)]
    assert len(used) >= 15
    for name, cell in used:
        figure = stored(name, cell)
        assert figure.png.startswith(b"\x89PNG") and len(figure.alt) > 40
        assert any(re.match(rf"#+ {re.escape(figure.heading)}\n?", source(each)) for each in CELLS[name])


def planted(folder):
    """A folder of one notebook, with a good figure and a bad one."""
    png = {"image/png": "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAAAAAA6fptVAAAACklEQVR4nGNgAAAAAgABSK+kcQAAAABJRU5ErkJggg=="}
    outputs = {
        "good": [{"data": png, "metadata": {"image/png": {"alt": "A dot. Nothing more."}}}],
        "mute": [{"data": png, "metadata": {}}],
        "text": [{"text": ["1"]}],
    }
    cells = [{"id": name, "cell_type": "code", "source": [], "outputs": each} for name, each in outputs.items()]
    heading = {"id": "h", "cell_type": "markdown", "source": ["Words.\n", "### *A* heading\n"]}
    (folder / "kept").mkdir()
    (folder / "kept" / "00_dots.ipynb").write_text(json.dumps({"cells": [heading, *cells]}))


FAULTS = {
    "00_dots mute": "the figure of cell 'mute' in notebook 00_dots has no alternative text",
    "00_dots text": "cell 'text' in notebook 00_dots shows no figure",
    "00_dots gone": "no cell 'gone' in notebook 00_dots",
    "00_gone good": "no notebook '00_gone' in kept/",
}


@pytest.mark.filterwarnings("ignore")  # of Sphinx and what it imports
def test_a_figure_that_is_not_there_fails_the_build_in_one_line(tmp_path, capsys):
    planted(tmp_path)
    (tmp_path / "conf.py").write_text(
        'extensions = ["myst_parser", "reporting.notebooks"]\nnotebooks_folder = "kept"\nhtml_theme = "basic"\n'
        'suppress_warnings = ["myst.xref_missing"]\n'
    )
    wanted = ["00_dots good", *FAULTS]
    page = "\n\n".join(f"```{{notebook-figure}} {each}\nSaid `here`.\n```" for each in wanted)
    (tmp_path / "index.md").write_text(f"# Page\n\n{page}\n")
    assert build_main(["-W", "--keep-going", "-q", str(tmp_path), str(tmp_path / "out")]) == 1
    lines = [line for line in capsys.readouterr().err.splitlines() if "index.md" in line]
    assert len(lines) == len(FAULTS), lines
    assert all(sum(fault in line for line in lines) == 1 for fault in FAULTS.values()), lines
    html = (tmp_path / "out" / "index.html").read_text()
    assert html.count("<img") == 1 and 'alt="A dot. Nothing more."' in html
    told = " ".join(re.sub("<.*?>", "", re.search(r"<figcaption>.*?</figcaption>", html, re.S)[0]).split())
    assert told.startswith("Said here. (00, A heading)")


# --- rubrics -------------------------------------------------------------------------------------------------------

RUBRICS = dict(part.split("\n", 1) for part in re.split(r"^## ", PAGES["rubrics"], flags=re.M)[1:])


def test_every_notebook_has_its_rubric():
    assert [*RUBRICS] == [*CELLS] and POINTS["investigate"] == 2
    for stem, text in RUBRICS.items():
        kinds = re.findall(r"^- \*\*(.*?)\*\*: ", text, re.M)
        assert kinds == ["2 points", "1 point", "0 points", "Common and wrong"], stem


@pytest.mark.parametrize("stem", RUBRICS)
def test_numbers_of_a_rubric_are_those_of_the_exercise_and_its_solution(stem):
    cells = CELLS[stem]
    begins = next(n for n, cell in enumerate(cells) if source(cell).startswith("### 3. Investigate"))
    ends = next(n for n, cell in enumerate(cells) if source(cell).startswith("## Recap"))
    text = re.sub(r"^- \*\*\d points?\*\*|`[^`]*`|exercise 3", "", RUBRICS[stem], flags=re.M)
    unknown = numbers(text) - numbers(said(cells[begins:ends])) - KNOWN.get(stem, set())
    assert not unknown, f"{stem}: {unknown}"


KNOWN = {"08_biformer": {"7"}}  # the S of the published models


# --- plans -----------------------------------------------------------------------------------------------------------


def headings(stem):
    """What stands under # in a notebook."""
    texts = [source(cell) for cell in CELLS[stem] if cell["cell_type"] == "markdown"]
    return {heading.strip("*") for text in texts for heading in re.findall(r"^#+ (.*)$", text, re.M)}


def sessions():
    """Heading of each session, and the rows of its table: minutes, how, what, where."""
    for part in re.split(r"^##+ ", PAGES["plans"], flags=re.M)[1:]:
        rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in re.findall(r"^\| \d.*$", part, re.M)]
        if rows:
            yield part.partition("\n")[0], part, rows


SESSIONS = {title: (part, rows) for title, part, rows in sessions()}


def test_minutes_of_each_session_add_up():
    found = {title: sum(int(row[0]) for row in rows) for title, (_, rows) in SESSIONS.items()}
    weeks = [minutes for title, minutes in found.items() if title.startswith("Week ")]
    assert weeks == [90] * 4 and found["One afternoon"] == 240 and found["A lab of two hours"] == 120
    for told in ("4 of 90 minutes | 360 minutes", "| 240 minutes |", "| 120 minutes |"):
        assert told in PAGES["plans"]
    row = r"^\| \[(\d\d)\]\(\S+ipynb\) \|.*\| (\d+) \+ (\d+) \|$"
    minutes = {n: (int(read), int(solve)) for n, read, solve in re.findall(row, PAGES["index"], re.M)}
    taught = [*(f"{n:02}" for n in range(9)), "11", "12"]
    read, solve = (sum(column) for column in zip(*(minutes[n] for n in taught), strict=True))
    assert f"eleven notebooks, {read} minutes to read and {solve} to solve" in PAGES["plans"] and len(taught) == 11


@pytest.mark.parametrize("title", SESSIONS)
def test_every_place_that_a_session_names_is_there(title):
    part, rows = SESSIONS[title]
    for _, how, what, where in rows:
        assert set(how.split(", ")) <= {"board", "live", "class", ""} and what
        number = None
        for link, plain, heading in re.findall(r"\[(\d\d)\]|\b(\d\d),|\"(.*?)\"", where):
            number = link or plain or number
            assert not heading or heading in headings(STEMS[number]), f"{title}: {number} has no {heading!r}"
    for what in ("*Before*: ", "*Hand in*: "):
        assert part.count(what) == 1, f"{title}: {what}"
    assert "*Next time opens with*: " in part or "*Afterwards*: " in part or not title.startswith("Week")


# --- the test of oneself ---------------------------------------------------------------------------------------------


def test_every_answer_of_the_self_test_is_asserted():
    parts = re.split(r"^\*\*\d+\.\*\* ", PAGES["students"], flags=re.M)[1:]
    assert len(parts) == 7
    for part in parts:
        answer, (block,) = part.partition("</summary>")[2].partition("```")[0], blocks(part)
        assert "assert " in block
        first = re.split(r"[:.](?:\s|$)", answer.strip())[0]
        assert numbers(first) <= numbers(block.replace(".0", "")), f"{first}: not asserted"


def test_the_commands_for_a_room_are_those_that_were_measured_and_messages_are_said():
    text, program = PAGES["students"], (ROOT / ".ci" / "classroom.py").read_text()
    asked = re.search(r"^ASKED = \((.*?)\)", program, re.M)[1].replace('"', "").split(", ")
    words = " ".join(f'"{word}"' if re.search(r"[>\[]", word) else word for word in asked)
    assert text.count(words) == 2, f"{words}: once to download, once to install"
    code = "".join((ROOT / name).read_text() for name in ("Makefile", "bra/checks/build.py", "bra/checks/judge.py"))
    for message in re.findall(
        r"^\| (?:a check says )?`(?!make|No module)(.*?)`", text.partition("## When it fails")[2], re.M
    ):
        assert message.replace("my_bra.py", "{path}") in code or message in code, message


# --- accessibility, and the guide as a whole -------------------------------------------------------------------------


def test_limits_that_the_page_promises_are_those_that_are_kept():
    text = PAGES["accessibility"]
    least, most, _ = LIMITS["characters of an alternative text"]
    assert f"of {least} to {most} characters" in text
    assert f"more than {LIMITS['words of a block'].most} words" in text
    assert f"has {LIMITS['lines of a code cell'].most} lines at most" in text
    assert f"at most {LIMITS['bytes of a notebook'].most / 1e6} MB" in text
    assert f"of a figure has {SMALL} points" in text
    assert f"phone of {PHONE['viewport']['width']} pixels" in text


def test_pages_of_the_guide_stand_under_one_caption_and_on_the_first_page():
    (listed,) = re.findall(r"```\{toctree\}\n:caption: Teach\n:hidden:\n\n(.*?)\n```", PAGES["index"], re.S)
    names = [line.removeprefix("/book/") for line in listed.splitlines()]
    assert names[0] == "teach" and {*names} >= {"plans", "students", "mistakes", "rubrics", "exam", "accessibility"}
    for name in set(names) - {"teach"}:
        assert f"({name}.md)" in PAGES["teach"], name
    linking = [name for name, text in PAGES.items() if "exam_solutions" in text]
    assert linking == ["exam"], "the solutions are linked at the end of the exam alone"
