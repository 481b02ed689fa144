"""Docstrings of `bra` are plain text; here they become reStructuredText, for the page on the public API."""

import inspect
import re

import bra

SPECIAL = re.compile(r"([\\*_|<>`])")
RAISED = re.compile(r"\^(\([^()]*\)|\w+)|\b([A-Z])_([a-z]+)\b")  # A^r and (c / heads)^(-1/2); W_q
CODE = re.compile(r"(``.+?``|`[^`]+`)")
UNWANTED = re.compile(r"\b(?:[a-z]\w*\.)+(?=[A-Z])|~|<function (\w+) at \w+>")  # where a type comes from; addresses
NAMES = re.compile(r"[a-z_]\w*(?:, [a-z_]\w*)*(?=: )")


def setup(app):
    """As an extension of Sphinx."""
    app.connect("autodoc-process-docstring", process)
    app.connect("autodoc-process-signature", shorten)


def process(app, what, name, obj, options, lines):
    """Sphinx's event `autodoc-process-docstring`: changes `lines` in place."""
    known = parameters(obj)
    blocks = re.split(r"\n\s*\n", "\n".join(lines).strip())
    lines[:] = [line for block in blocks for line in write_block(block, known)]


def shorten(app, what, name, obj, options, signature, returns):
    """Sphinx's event `autodoc-process-signature`: types say their shape, not where they were defined."""
    if name == "bra.train.TrainConfig":
        return "(...)", None  # its forty settings stand below, each with its default
    return tuple(text and UNWANTED.sub(r"\1", text).replace("[[...]", "[...") for text in (signature, returns))


def parameters(obj) -> set[str]:
    """The names of its arguments, if it has any."""
    try:
        return set(inspect.signature(obj).parameters)
    except (TypeError, ValueError):
        return set()


def write_block(block: str, known: set[str]) -> list[str]:
    """One paragraph: its sentences, a list of what its arguments are, and what it raises."""
    out = []
    for piece in split(block, known):
        names = NAMES.match(piece)
        if names:
            bold = ", ".join(f"**{escape(one)}**" for one in names[0].split(", "))
            out += [f"* {bold}: {inline(piece[names.end() + 2 :])}"]
        else:
            out += ["", inline(re.sub(r"^Raises\b", "RAISES", piece)).replace("RAISES", "*Raises*"), ""]
    return [*out, ""]


def split(block: str, known: set[str]) -> list[str]:
    """A paragraph at its arguments (where a line begins with one, or a sentence with a known one) and at "Raises"."""
    lines = []
    for line in block.split("\n"):
        ended = not lines or lines[-1].endswith((".", "!"))
        if ended and (not lines or NAMES.match(line) or (NAMES.match(lines[-1]) and line[0].isupper())):
            lines.append(line.strip())
        else:
            lines[-1] += f" {line.strip()}"
    pieces = []
    for line in lines:
        found = [*re.finditer(rf"(?<=[.;)] ){NAMES.pattern}", line)]
        found = [match for match in found if known.issuperset(match[0].split(", "))]
        found += re.finditer(r"(?<=[.)?] )(?=Raises [A-Z])", line)
        starts = sorted({0, *(match.start() for match in found)})
        pieces += [line[a:b].strip() for a, b in zip(starts, [*starts[1:], None], strict=True)]
    return pieces


def inline(text: str) -> str:
    """Names of the package become links, other code stays code, and exponents are raised."""
    return "".join(code(part) if part.startswith("`") else raised(part) for part in CODE.split(text))


def code(part: str) -> str:
    """A name of the package as a link; anything else as it is."""
    name = part.strip("`")
    return f":py:obj:`{name} <bra.{name}>`" if name in (*bra.__all__, "Explorer") else f"``{name}``"


def raised(text: str) -> str:
    """Plain text with its exponents and indices set as such."""
    out, end = "", 0
    for match in RAISED.finditer(text):
        power, letter, index = match.groups()
        out += escape(text[end : match.start()])
        if power:
            out += rf"\ :sup:`{escape(power.strip('()')).replace('-', '−')}`\ "
        else:
            out += rf"{letter}\ :sub:`{index}`\ "
        end = match.end()
    return out + escape(text[end:])


def escape(text: str) -> str:
    """Nothing in it is markup."""
    return SPECIAL.sub(r"\\\1", text)
