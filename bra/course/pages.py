"""What a page needs that leaves the repository: links that lead somewhere, and the rubrics, which stay behind."""

import re
import tomllib
from collections.abc import Collection

from bra.course.exercises import source_of
from bra.files import REPOSITORY

HOSTED = re.compile(r"\n*\[Open in Colab\].*", re.S)  # leads to the notebook with its solutions
LINK = re.compile(r"\[([^\]]*)\]\(((?:\.\./)?[\w./-]+\.\w+)(#[^)]*)?\)")  # to a file, by its place


def rubrics(text: str) -> dict[str, str]:
    """Of a page of rubrics what stands below each heading that names a notebook: ``## 03_topk``."""
    _, *parts = re.split(r"^## +(\S+) *$", text, flags=re.M)
    return {name: body.strip() for name, body in zip(parts[::2], parts[1::2], strict=True)}


def repository() -> str:
    """The repository's address, as in pyproject.toml; nothing while its owner is a placeholder, with a "_" in it."""
    address = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]["urls"]["Repository"]
    return "" if "_" in address.split("/")[-2] else address


def handed_out(notebook: dict, beside: Collection[str], address: str) -> dict:
    """A notebook whose links lead somewhere from wherever it lies.

    beside: the notebooks that lie beside it. Those to other notebooks become plain text, for what is published has
    solutions in it; those to other files lead to the repository at `address`, or are plain text if that is empty.
    """

    def moved(link: re.Match) -> str:
        words, path, _ = link.groups()
        if path in beside:
            return link[0]
        return f"[{words}]({address}/blob/main/{path[3:]})" if address and path.startswith("../") else words

    title, *others = notebook["cells"]
    cells = [title | {"source": HOSTED.sub("", source_of(title))}, *others]
    return notebook | {"cells": [
        cell | {"source": LINK.sub(moved, source_of(cell))} if cell["cell_type"] == "markdown" else cell
        for cell in cells
    ]}  # fmt: skip
