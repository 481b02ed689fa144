"""Spelling: no word that codespell knows to be wrong, in no file; and British in all that is read, as `colour` is."""

import ast
import json
import re
import runpy
import subprocess
import sys
from pathlib import Path

import codespell_lib
from repository import NOTEBOOKS, ROOT

CODE = runpy.run_path(str(ROOT / ".ci" / "links.py"))["CODE"]
PYTHON = [path for folder in ("bra", "tests", "book", ".ci") for path in sorted((ROOT / folder).rglob("*.py"))]
PAGES = [path for pattern in ("*.md", ".github/*.md", "book/**/*.md") for path in sorted(ROOT.glob(pattern))]
OTHERS = [ROOT / name for name in ("pyproject.toml", "Makefile", "CITATION.cff")]
OTHERS += [path for pattern in ("*.js", "*.css") for path in sorted((ROOT / "bra").rglob(pattern))]


def cells(notebook, kind):
    """The source of a notebook's cells of one kind."""
    found = json.loads(notebook.read_text(encoding="utf-8"))["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in found if cell["cell_type"] == kind)


def without_code(text):
    """Markdown without code, addresses, formulas, and references: titles stay as their authors wrote them."""
    text = text.partition("\n## References")[0]
    return re.sub(r"https?://\S+|\$[^$]*\$", "", re.sub(CODE, "", text, flags=re.M | re.S))


def said(source):
    """Comments and docstrings of Python source, without code in them."""
    nodes = (ast.Module, ast.ClassDef, ast.FunctionDef)
    texts = [ast.get_docstring(node) or "" for node in ast.walk(ast.parse(source)) if isinstance(node, nodes)]
    return without_code("\n".join([*texts, *re.findall(r"(?:^|\s)# (.*)", source)]))


def misspelt(texts, folder, *options):
    """What codespell says of {name: text}: lines like `name:1: word ==> right`."""
    for name, text in texts.items():
        (folder / name.replace("/", "+")).write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "codespell_lib", "--toml", str(ROOT / "pyproject.toml"), *options, "."]
    ran = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=False)
    assert ran.returncode in (0, 65), ran.stderr  # 65: it found something
    return ran.stdout.splitlines()


def american(folder):
    """A dictionary for codespell that wants what its own one of British words forbids, where the difference is a rule.

    -our, -ise, -yse, -lled and grey; no pairs like `cheque` and `check`, in which the American word is British as well.
    """
    lines = (Path(codespell_lib.__file__).parent / "data" / "dictionary_en-GB_to_en-US.txt").read_text().splitlines()
    pairs = [line.partition("->")[::2] for line in lines]
    rules = (("our", "or"), ("is", "iz"), ("ys", "yz"), ("ll", "l"), ("grey", "gray"), ("ogue", "og"), ("ence", "ense"))
    ours = {them: us for us, them in pairs if any(us.replace(a, b) == them for a, b in rules) and us not in BOTH}
    path = folder / "american.txt"
    path.write_text("".join(f"{them}->{us}\n" for them, us in sorted(ours.items())))
    return path


BOTH = {"licence", "dialogue"}  # MIT's licence is called License, and a program's dialog is one in Britain too


def test_no_word_is_misspelt(tmp_path):
    texts = {path.relative_to(ROOT).as_posix(): path.read_text(encoding="utf-8") for path in PYTHON + PAGES + OTHERS}
    for path in NOTEBOOKS:
        texts |= {f"{path.stem}.md": cells(path, "markdown"), f"{path.stem}.py": cells(path, "code")}
    assert len(texts) > 250
    found = misspelt(texts, tmp_path)
    assert not found, "\n".join(found)


def test_what_is_read_is_british(tmp_path):
    texts = {path.relative_to(ROOT).as_posix(): said(path.read_text(encoding="utf-8")) for path in PYTHON}
    texts |= {path.relative_to(ROOT).as_posix(): without_code(path.read_text(encoding="utf-8")) for path in PAGES}
    texts |= {path.name: without_code(cells(path, "markdown")) for path in NOTEBOOKS}
    (tmp_path / "texts").mkdir()
    found = misspelt(texts, tmp_path / "texts", "--dictionary", str(american(tmp_path)))
    assert not found, "\n".join(found)


def test_planted_words_are_told(tmp_path):
    (tmp_path / "texts").mkdir()
    british = ("--dictionary", str(american(tmp_path)))
    for word, right, options in (
        ("teh", "the", ()),  # codespell:ignore teh
        ("color", "colour", british),
        ("neighbors", "neighbours", british),
        ("initialize", "initialise", british),
        ("gray", "grey", british),
    ):
        source = f'"""A {word} of `{word}`."""\nx = 1  # {word}\n{word} = 2\n'
        found = misspelt({"planted.py": said(source)}, tmp_path / "texts", *options)
        assert len(found) == 2 and all(line.endswith(f"{word} ==> {right}") for line in found), found
