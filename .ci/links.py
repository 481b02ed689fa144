"""The links of every page and notebook. Those to elsewhere, asked whether they still answer: python .ci/links.py

Links within the repository are checked without a network: tests/test_form_links.py.
"""

import json
import re
import sys
import urllib.error
import urllib.request
from pathlib import Path
from urllib.parse import unquote

ROOT = Path(__file__).parent.parent
PATTERNS = ("*.md", ".github/*.md", "book/**/*.md", "notebooks/*.ipynb")
CODE = r"^(```+|~~~+).*?^\1|`[^`\n]*`"
LINKS = (
    r"\]\(<?([^)\s>]+)>?(?:\s+\"[^\"]*\")?\)",  # [text](link "title"), pictures too
    r"^\[[^\]^]+\]:\s+(\S+)",  # [text]: link
    r"<(https?://[^>\s]+)>",
    r"\b(?:href|src)=\"([^\"]+)\"",
)


def pages(root: Path = ROOT) -> dict[Path, str]:
    """The Markdown of every page, and of every notebook's cells of text."""
    return {path: markdown(path) for pattern in PATTERNS for path in sorted(root.glob(pattern))}


def markdown(path: Path) -> str:
    """A file's text. Of a notebook, its text cells."""
    text = path.read_text(encoding="utf-8")
    if path.suffix != ".ipynb":
        return text
    return "\n\n".join("".join(c["source"]) for c in json.loads(text)["cells"] if c["cell_type"] == "markdown")


def links(text: str) -> list[str]:
    """Where a page leads, in the order of its kinds of links. What stands in code is no link."""
    text = re.sub(CODE, "", text, flags=re.M | re.S)
    return [link for pattern in LINKS for link in re.findall(pattern, text, re.M)]


def anchors(text: str) -> set[str]:
    """What may stand behind # in a link to this page: headings, as GitHub, MyST and Jupyter spell them, and labels."""
    text = re.sub(r"^(```+|~~~+).*?^\1", "", text, flags=re.M | re.S)
    found = {*re.findall(r"\b(?:id|name)=\"([^\"]+)\"", text), *re.findall(r"^\(([^)\s]+)\)=", text, re.M)}
    for heading in re.findall(r"^#+\s+(.*?)\s*#*$", text, re.M):
        plain = re.sub(r"[`*]|\]\([^)]*\)|!?\[", "", heading)
        slug = re.sub(r"[^\w\- ]", "", plain.lower()).replace(" ", "-")
        twice = next(name for n in range(99) if (name := f"{slug}-{n}" if n else slug) not in found)
        found |= {twice, plain.replace(" ", "-")}
    return found


def broken(path: Path, text: str) -> list[str]:
    """The links within the repository that lead nowhere."""
    faults = []
    for link in links(text):
        if re.match(r"[a-z]+:|//|\{", link):  # to elsewhere, or a role of MyST
            continue
        place, _, anchor = link.partition("#")
        target = path.parent / unquote(place) if place else path
        if not target.exists():
            faults.append(f"{link}: no such file")
        elif anchor and target.suffix in (".md", ".ipynb"):
            known = anchors(text if target == path else markdown(target))
            if unquote(anchor) not in known:
                faults.append(f"{link}: no such heading")
    return faults


def why_dead(link: str) -> str | None:
    """What a link answers, if that means that it leads nowhere. Who refuses robots, or is busy, is not dead."""
    request = urllib.request.Request(link, headers={"User-Agent": "Mozilla/5.0 (link check)"})
    try:
        with urllib.request.urlopen(request, timeout=30):
            return None
    except urllib.error.HTTPError as error:
        return f"{link}: {error.code}" if error.code in (404, 410) else None
    except OSError as error:
        return f"{link}: {error}"


def main() -> None:
    """Ask each link to elsewhere once; end with an error if one is dead."""
    outside = {link for text in pages().values() for link in links(text) if link.startswith("http")}
    dead = [answer for link in sorted(outside) if (answer := why_dead(link))]
    print(f"{len(outside)} links lead elsewhere, {len(dead)} are dead")
    sys.exit("\n".join(dead) or 0)


if __name__ == "__main__":
    main()
