"""The explorer's front end: the files of `front_end/` as one ES module, for anywidget and for pages.

No bundler is needed: the files import one another by plain lines at their top, which are taken out when they are
joined, with the comments about types, and no two of them use a name twice. While they are apart, Node runs them and
TypeScript checks them (CONTRIBUTING.md says how).
"""

import re
from importlib.resources import files

ORDER = (
    "layer", "words", "now", "canvas", "curves", "stage", "tables", "blocks", "elements", "explorer", "play", "listen",
    "main",
)  # fmt: skip
TYPES = re.compile(
    r"^ */\*\*(?:(?!\*/).)*\*/\n|/\*\*(?:(?!\*/).)*\*/ ?", re.M | re.S
)  # JSDoc: on lines of its own, or within one
IMPORT = re.compile(r'^import \{ [\w, ]+ \} from "\./\w+\.js";\n', re.M)
EXPORT = re.compile(r"^export (?=(?:const|class|function) )", re.M)
OTHER_FORM = re.compile(r"^(?:import|export)\b(?! default \{ render \};$).*", re.M)


def join(sources: dict[str, str], style: str) -> str:
    """One module of several, in their order, and of the style sheet, which is its constant STYLE.

    Raises ValueError for an import or export of another form, a name that is declared twice, or a character that
    would not stay itself.
    """
    if found := re.search(r"[`\\$]", style):
        raise ValueError(f"the style sheet must stand in a template string, but has {found[0]!r}")
    parts, owner = [f"const STYLE = `\n{style}`;\n"], {"STYLE": "the style sheet"}
    for file, source in sources.items():
        part = EXPORT.sub("", IMPORT.sub("", TYPES.sub("", source)))
        if found := OTHER_FORM.search(part):
            raise ValueError(f"{file}.js must import and export by plain lines, but has {found[0]!r}")
        for name in declared(part):
            if name in owner:
                raise ValueError(f"{name} must be declared once, but is in {owner[name]} and in {file}.js")
            owner[name] = f"{file}.js"
        parts.append(part)
    return "\n".join(parts)


def declared(source: str) -> list[str]:
    """The names that a file declares for itself and the others: those of lines that are not indented."""
    names = re.findall(r"^(?:async )?(?:function\*?|class) (\w+)", source, re.M)
    for line in re.findall(r"^(?:const|let|var) (.*)", source, re.M):
        names += re.findall(r"(?:^|, )(\w+) = ", line)
    return names


FOLDER = files("bra.explorer").joinpath("front_end")
FRONT_END = join(
    {name: FOLDER.joinpath(f"{name}.js").read_text(encoding="utf-8") for name in ORDER},
    FOLDER.joinpath("explorer.css").read_text(encoding="utf-8"),
)
