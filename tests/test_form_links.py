"""Every link within the repository leads to a file, and to a heading that is there. Those to elsewhere: .ci/links.py"""

import runpy

import pytest
from repository import NOTEBOOKS, ROOT

LINKS = runpy.run_path(str(ROOT / ".ci" / "links.py"))
PAGES = LINKS["pages"]()


def test_every_page_and_notebook_is_read():
    names = {"README.md", "CONTRIBUTING.md", "CHANGELOG.md", ".github/SECURITY.md", "book/index.md"}
    assert {path.relative_to(ROOT).as_posix() for path in PAGES} >= names
    assert {*NOTEBOOKS} <= PAGES.keys()
    assert sum(len(LINKS["links"](text)) for text in PAGES.values()) > 200


@pytest.mark.parametrize("path", PAGES, ids=lambda path: path.relative_to(ROOT).as_posix())
def test_links_within_the_repository_lead_somewhere(path):
    faults = LINKS["broken"](path, PAGES[path])
    assert not faults, f"{path.relative_to(ROOT)}: {'; '.join(faults)}"


@pytest.mark.parametrize(
    "text, fault",
    [
        ("[a](gone.md)", "gone.md: no such file"),
        ('![a](gone.png "title")', "gone.png: no such file"),
        ('<img src="gone.png">', "gone.png: no such file"),
        ("[a][b]\n\n[b]: gone.md", "gone.md: no such file"),
        ("[a](CONTRIBUTING.md#gone)", "CONTRIBUTING.md#gone: no such heading"),
        ("[a](notebooks/07_layer.ipynb#gone)", "notebooks/07_layer.ipynb#gone: no such heading"),
        ("# One\n[a](#two)", "#two: no such heading"),
        ("```\n# Two\n```\n[a](#two)", "#two: no such heading"),
    ],
)
def test_a_planted_link_is_told(text, fault):
    assert LINKS["broken"](ROOT / "README.md", text) == [fault]


@pytest.mark.parametrize(
    "text",
    [
        "`[a](gone.md)`",
        "```\n[a](gone.md)\n```",
        "[a](https://example.org/#b)",
        "[a](CONTRIBUTING.md#add-a-step)",
        "[a](notebooks/07_layer.ipynb#Paper,-official-code,-ours)",
        "## The `same`, in *bra*\n[a](#the-same-in-bra)",
        "(label)=\n# One\n[a](#label)",
        "# One\n# One\n[a](#one-1)",
    ],
)
def test_what_is_right_is_not_told(text):
    assert LINKS["broken"](ROOT / "README.md", text) == []
