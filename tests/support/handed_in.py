"""Notebooks as students hand them in, made for tests."""

import json

from repository import NOTEBOOKS

from bra.course.kit import for_nbgrader, for_students

OWN = {path: json.loads(path.read_text()) for path in NOTEBOOKS}
EMPTY = {"nbformat": 4, "nbformat_minor": 5, "metadata": {}}


def notebook(*cells):
    """A notebook of code cells."""
    return EMPTY | {"cells": [
        {"cell_type": "code", "id": f"c{n}", "metadata": {}, "source": cell, "outputs": [], "execution_count": None}
        for n, cell in enumerate(cells)
    ]}  # fmt: skip


def joined(notebooks):
    """All cells of several notebooks in one: then one process grades them."""
    return EMPTY | {"cells": [cell for each in notebooks for cell in each["cells"]]}


def released():
    """The student versions of all notebooks, in one."""
    return joined(for_students(own) for own in OWN.values())


def solved():
    """All solutions, in the cells of their exercises, in one notebook."""
    return joined(for_nbgrader(own, path.stem.partition("_")[2], 7, "") for path, own in OWN.items())


def written(folder, name, content):
    """A file with a notebook in it."""
    path = folder / name
    path.write_text(content if isinstance(content, str) else json.dumps(content))
    return path
