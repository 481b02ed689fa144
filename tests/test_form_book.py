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
    assert {page.stem for page in pages} == {"index", "glossary", *(path.stem for path in NOTEBOOKS)}
    for page in pages:
        html = page.read_text()
        remote = re.findall(r"<(?:script|link|img|iframe)[^>]*?(?:src|href)=\"((?:https?:)?//[^\"]*)\"", html)
        assert not remote, f"{page.name} loads {remote}"
        for image in re.findall(r"<img[^>]*>", html):
            assert re.search(r"alt=\"(?![^\"]*\.png)[^\"]+\"", image), f"{page.name}: {image}"
