"""One meaning a symbol, and a word: the glossary of the book holds for the formulas and the text of every notebook."""

import re

import nbformat
import pytest
from repository import NOTEBOOKS, ROOT

GLOSSARY = ROOT / "book" / "glossary.md"
FORMULA = r"\$\$.+?\$\$|\$[^$\n]+?\$"
NAMES = r"\\(?:mathrm|text|begin|end)\{[^{}]*\}"  # words in a formula are no symbols
COMMANDS = r"\\[A-Za-z]+"  # \frac, \cdot, \sum: how a formula is set

FORBIDDEN = {  # what the text does not say, and what to write instead
    r"\bs x s\b|\bs = \d": "s is no symbol: the side of the LCE's filter is `kernel`, regions per side are S",
    r"\bn x n\b|\bn (?:tokens|images|blocks|layers|regions|keys)\b": "n is a rank among routed regions: name the count",
    r"\b[Bb]locks? of (?:the )?(?:\w+ )?(?:matrix|scores|weights)\b|\bwhole blocks\b": "a part of a matrix: rectangle",
    r"\b(?:query region|query's region)\b": "only attention has queries: the region that reads, or the square's region",
    r"\b(?:its|LCE's|filter's) reach\b": "how far a convolution sees is its field",
    r"\b(?:another|expanded) view\b": "a view is what one layer did with one image",
}
FORBIDDEN_IN_FORMULAS = {
    r"A(?!\^r)": "A is the affinity A^r alone: who reads whom, 0 or 1, is E",
    r"M_": "M is the number of heads alone",
}


def symbols(formula):
    """The letters that stand for something in a formula, without words and LaTeX commands."""
    return set(re.findall("[A-Za-z]", re.sub(COMMANDS, " ", re.sub(NAMES, " ", formula))))


def table():
    """The letters in the first column of the glossary's table of symbols."""
    rows = re.findall(r"^\| (\$.*?) \|", GLOSSARY.read_text(), re.M)
    return set().union(*(symbols(formula) for row in rows for formula in re.findall(FORMULA, row)))


def unknown_symbols(text, known):
    """(letter, formula) for every letter of a formula that the glossary does not know."""
    formulas = re.findall(FORMULA, text, re.S)
    return [(letter, formula) for formula in formulas for letter in sorted(symbols(formula) - known)]


def unwanted_uses(text):
    """(what is written, what to write instead) for every forbidden use."""
    formulas = " ".join(re.sub(COMMANDS, " ", re.sub(NAMES, " ", f)) for f in re.findall(FORMULA, text, re.S))
    searched = [(text, FORBIDDEN), (formulas, FORBIDDEN_IN_FORMULAS)]
    found = (
        (match, then) for where, rules in searched for rule, then in rules.items() for match in re.findall(rule, where)
    )
    return list(found)


def prose(path):
    """The text of a notebook, without what stands in backticks, which is code."""
    cells = [cell.source for cell in nbformat.read(path, 4).cells if cell.cell_type == "markdown"]
    return re.sub(r"`[^`]*`", "``", "\n\n".join(cells))


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_every_symbol_of_a_formula_is_in_the_glossary(path):
    for letter, formula in unknown_symbols(prose(path), table()):
        raise AssertionError(
            f"{letter} in {formula}: book/glossary.md does not know it; use a symbol or word of its table"
        )


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_no_word_or_symbol_is_used_in_another_meaning(path):
    for match, instead in unwanted_uses(prose(path)):
        raise AssertionError(f"{match!r}: {instead}")


def test_the_glossary_keeps_its_own_rules():
    assert not unwanted_uses(GLOSSARY.read_text())


def test_every_symbol_of_the_glossary_is_used():
    used = set().union(*(symbols(f) for path in NOTEBOOKS for f in re.findall(FORMULA, prose(path), re.S)))
    assert table() <= used, f"{table() - used}: no formula needs them; delete them from book/glossary.md"


@pytest.mark.parametrize("wrong", ["$s\\, Q$", "$$u = h / \\mathrm{rows}$$", "$\\frac{1}{N}$"])
def test_a_symbol_without_an_entry_is_found(wrong):
    assert unknown_symbols(f"So {wrong} is right.", table())


@pytest.mark.parametrize(
    "wrong",
    [
        "a block of the matrix",
        "the query's region",
        "filters of s x s",
        "the number of n tokens",
        "its reach",
        "another view of it",
        "$A_{ij} = 1$",
        "$M_b$",
    ],
)
def test_a_word_in_another_meaning_is_found(wrong):
    assert unwanted_uses(f"Take {wrong}.")
