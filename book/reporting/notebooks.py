"""How a page shows a figure that a notebook stores, so that it is kept in one place: a Sphinx extension.

```{notebook-figure} 01_partition 01-22      the notebook, and the identifier of the cell
words below the figure, if there are any
```

Its alternative text is the notebook's. A notebook, cell, figure or text that is not there fails the build in one line.
"""

import base64
import json
import os
import re
from pathlib import Path
from typing import NamedTuple

from docutils import nodes
from docutils.statemachine import StringList
from sphinx.util.docutils import SphinxDirective

NOTEBOOKS = Path(__file__).parents[2] / "notebooks"


class Stored(NamedTuple):
    """A figure as a notebook holds it: the PNG file, its alternative text, and the heading that it stands under."""

    png: bytes
    alt: str
    heading: str


def stored(name: str, cell: str, folder: Path = NOTEBOOKS) -> Stored:
    """The first figure of a cell. Raises ValueError, in one line, if there is none, or none with alternative text."""
    path = folder / f"{name}.ipynb"
    if not path.exists():
        raise ValueError(f"no notebook {name!r} in {folder.name}/")
    heading = ""
    for each in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if each["cell_type"] == "markdown" and (found := re.findall(r"^#+ (.*)", "".join(each["source"]), re.M)):
            heading = found[-1]
        if each["id"] == cell:
            return figure_of(each, name, heading)
    raise ValueError(f"no cell {cell!r} in notebook {name}")


def figure_of(cell: dict, name: str, heading: str) -> Stored:
    """The first figure among a cell's outputs. Raises ValueError."""
    for output in cell.get("outputs", []):
        if png := output.get("data", {}).get("image/png"):
            if alt := output.get("metadata", {}).get("image/png", {}).get("alt"):
                return Stored(base64.b64decode("".join(png)), alt, heading)
            raise ValueError(f"the figure of cell {cell['id']!r} in notebook {name} has no alternative text")
    raise ValueError(f"cell {cell['id']!r} in notebook {name} shows no figure")


class NotebookFigure(SphinxDirective):
    """The figure, with what the page says of it and where it comes from below."""

    required_arguments, has_content = 2, True

    def run(self) -> list[nodes.Node]:
        """A figure, whose picture lies beside the doctrees, from where Sphinx takes it."""
        name, cell = self.arguments
        try:
            picture = stored(name, cell, Path(self.env.srcdir) / self.config.notebooks_folder)
        except ValueError as error:
            return [self.state.document.reporter.error(str(error), line=self.lineno)]
        self.env.note_dependency(str(Path(self.env.srcdir) / self.config.notebooks_folder / f"{name}.ipynb"))
        path = Path(self.env.doctreedir) / "notebooks" / f"{name}_{cell}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(picture.png)
        uri = "/" + os.path.relpath(path, self.env.srcdir).replace(os.sep, "/")
        source = f"([{name[:2]}](/{self.config.notebooks_folder}/{name}.ipynb), *{picture.heading}*)"
        told = nodes.Element()
        self.state.nested_parse(StringList([*self.content, source], self.env.docname), self.content_offset, told)
        caption = nodes.caption("", "", *(part for paragraph in told.children for part in paragraph.children))
        return [nodes.figure("", nodes.image(uri=uri, alt=picture.alt), caption, classes=["notebook-figure"])]


def setup(app) -> dict:
    """Register it."""
    app.add_config_value("notebooks_folder", "notebooks", "env")
    app.add_directive("notebook-figure", NotebookFigure)
    return {"parallel_read_safe": True, "parallel_write_safe": True}
