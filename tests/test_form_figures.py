"""The figures that the notebooks store: text that can be read, on white, none twice. Nothing is executed."""

import base64
import io

import nbformat
import pytest
from PIL import Image
from repository import NOTEBOOKS, ROOT

from bra.draw.picture import COLUMN

LEAST = 9  # points at the size at which the book and JupyterLab show a figure; see bra/draw/picture.py


def figures(path):
    """Number, metadata and file of each figure of a notebook, the first is number 1."""
    outputs = [output for cell in nbformat.read(path, 4).cells for output in cell.get("outputs", [])]
    shown = [output for output in outputs if "image/png" in output.get("data", {})]
    for number, output in enumerate(shown, start=1):
        yield number, output.metadata["image/png"], base64.b64decode(output.data["image/png"])


def too_small(path):
    """The figures whose smallest text, as measured when they were drawn, is too small; or was not measured."""
    sizes = {number: told.get("smallest_text") for number, told, _ in figures(path)}
    return {number: size for number, size in sizes.items() if size is None or size < LEAST}


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
class TestFigures:
    def test_text_can_be_read(self, path):
        wrong = too_small(path)
        assert not wrong, f"points of the smallest text, which must be {LEAST}, by figure: {wrong}. Run make notebooks"

    def test_stand_on_white(self, path):
        for number, _, png in figures(path):
            with Image.open(io.BytesIO(png)) as image:
                assert image.convert("RGBA").getpixel((0, 0)) == (255, 255, 255, 255), f"figure {number} on a dark page"
                assert image.convert("RGBA").getextrema()[3] == (255, 255), f"figure {number} is not opaque"

    def test_none_stands_there_twice(self, path):
        seen = {}
        for number, told, png in figures(path):
            for what in (png, told["alt"]):
                assert what not in seen, f"figures {seen[what]} and {number} show the same"
                seen[what] = number


def test_what_is_too_small_or_was_not_measured_is_told(tmp_path):
    data = {"image/png": base64.b64encode(b"png").decode()}
    told = [{"alt": "a", "smallest_text": size} for size in (9.0, 8.99, 12)] + [{"alt": "a"}]
    cell = nbformat.v4.new_code_cell("")
    cell.outputs = [nbformat.v4.new_output("display_data", data, metadata={"image/png": each}) for each in told]
    nbformat.write(nbformat.v4.new_notebook(cells=[cell]), tmp_path / "a.ipynb")
    assert too_small(tmp_path / "a.ipynb") == {2: 8.99, 4: None}


def test_the_picture_on_the_start_page_is_drawn_as_wide_as_it_is_shown():
    with Image.open(ROOT / "book" / "_static" / "boards.png") as image:
        assert image.width == pytest.approx(COLUMN, abs=2), "else it is blurred: python book/pictures.py"
