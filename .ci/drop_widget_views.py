"""Take the widget views out of executed notebooks: without their kernel they show nothing, and hide what stands beside.

Every widget of ours stores a picture or HTML as well, which JupyterLab, nbconvert and the book then show.
"""

import sys
from pathlib import Path

import nbformat

VIEW = "application/vnd.jupyter.widget-view+json"

for path in map(Path, sys.argv[1:]):
    notebook = nbformat.read(path, 4)
    for cell in notebook.cells:
        for output in cell.get("outputs", []):
            output.get("data", {}).pop(VIEW, None)
    nbformat.write(notebook, path)
