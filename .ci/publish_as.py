"""Write the repository's address on GitHub wherever it stands: `make publish-as REPO=owner/name`.

pyproject.toml holds the present one. Until the repository is published that is a placeholder: its owner's name has an
underscore, which GitHub gives to nobody, so no notebook can fetch a stranger's code.
"""

import contextlib
import re
import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parent.parent
OWNER = r"[A-Za-z0-9](?:-?[A-Za-z0-9]){0,38}"
NAME = r"(?!\.{1,2}$)[A-Za-z0-9._-]{1,100}(?<!\.git)"
BEFORE = r"github\.com[/:]|githubusercontent\.com/|/github/|/gh/"  # the last two: Colab's links, and Binder's


def address(pyproject):
    """The present owner/name, from the text of pyproject.toml."""
    return re.search(r'^Repository = "https://github\.com/(.+?)"', pyproject, re.M)[1]


def rewritten(text, old, new):
    """The text with `new` for `old`, both owner/name, in links to the repository and to its pages."""
    text = re.sub(rf"({BEFORE}){re.escape(old)}(?![\w-])", rf"\g<1>{new}", text)
    pages, new_pages = (repository.replace("/", ".github.io/") for repository in (old, new))
    return re.sub(rf"//{re.escape(pages)}(?![\w-])", f"//{new_pages}", text)


def tracked_texts(root):
    """Path and text of each file that git tracks, pyproject.toml last: whoever interrupts may run it again."""
    listed = subprocess.run(["git", "ls-files", "-z"], cwd=root, capture_output=True, text=True, check=True).stdout
    for name in sorted(filter(None, listed.split("\0")), key=lambda name: (name == "pyproject.toml", name)):
        path = root / name
        if path.is_file():
            with contextlib.suppress(UnicodeDecodeError):  # a picture, or weights
                yield path, path.read_bytes().decode()


def main(new):
    """Rewrite the files; say how many changed."""
    if not re.fullmatch(f"{OWNER}/{NAME}", new):
        sys.exit(f"REPO must be owner/name as on GitHub, but is {new!r}: make publish-as REPO=owner/name")
    old = address((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    changed = 0
    for path, text in tracked_texts(ROOT):
        after = rewritten(text, old, new)
        if after != text:
            path.write_bytes(after.encode())
            changed += 1
    print(f"{old} is now {new} in {changed} files" if changed else f"it is {new} already")


if __name__ == "__main__":
    main(" ".join(sys.argv[1:]))
