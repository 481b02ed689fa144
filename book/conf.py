"""The book is built from the repository's root, `sphinx-build -c book . build/book`, so that nothing is copied."""

import re
import sys
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from myst_nb.core.render import NbElementRenderer

sys.path[:0] = [str(Path(__file__).parent), str(Path(__file__).parents[1])]  # for docstrings, reporting, and bra

project = "Bi-level Routing Attention"
author = "the bra contributors"
extensions = ["myst_nb", "sphinx.ext.autodoc", "docstrings", "reporting.pages", "reporting.notebooks"]
root_doc = "book/index"
include_patterns = ["book/*.md", "notebooks/*.ipynb"]
html_theme = "sphinx_book_theme"
html_title = project
html_static_path = ["_static"]
html_css_files = ["book.css"]
html_context = {"default_mode": "auto"}  # light or dark, as the reader's system has it
html_theme_options = {
    "navbar_persistent": [],
    "show_toc_level": 2,
    "use_download_button": True,
    "use_fullscreen_button": False,
}
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]  # no kernel: its picture
nb_code_prompt_show = "Show the solution"
nb_code_prompt_hide = "Hide the solution"
nb_execution_mode = "off"  # the stored outputs are what the tests compare
myst_enable_extensions = ["dollarmath", "deflist", "colon_fence", "attrs_block"]
myst_heading_anchors = 3
suppress_warnings = ["mystnb.unknown_mime_type"]
autodoc_typehints_format = "short"
autodoc_preserve_defaults = True
python_maximum_signature_line_length = 80
toc_object_entries_show_parents = "hide"
python_use_unqualified_type_names = True
add_module_names = False

REDIRECT = """<!doctype html><html lang="en"><meta charset="utf-8"><title>{title}</title>
<meta http-equiv="refresh" content="0; url=book/index.html"><a href="book/index.html">{title}</a></html>
"""


def setup(app):
    """Register how equations, pictures and titles are written."""
    inline = (lambda translator, node: write_equation(translator, node, "inline"), None)
    block = (lambda translator, node: write_equation(translator, node, "block"), None)
    app.add_html_math_renderer("mathml", inline_renderers=inline, block_renderers=block)
    app.config.html_math_renderer = "mathml"
    NbElementRenderer.render_image = render_image_with_its_text
    app.connect("doctree-read", number_the_title, priority=1)  # before Sphinx notes the title
    app.connect("build-finished", write_front_door)


def write_equation(translator, node, display):
    """MathML, which browsers and screen readers know: no script, no network. A wide one scrolls in its box."""
    math = convert(node.astext(), display=display)
    translator.body.append(f'<div class="equation" tabindex="0">{math}</div>' if display == "block" else math)
    raise nodes.SkipNode


plain_render_image = NbElementRenderer.render_image


def render_image_with_its_text(renderer, data):
    """MyST-NB would drop the alternative text that a notebook stores beside a picture."""
    rendered = plain_render_image(renderer, data)
    for image in (image for node in rendered for image in node.findall(nodes.image)):
        image["alt"] = data.output_metadata.get(data.mime_type, {}).get("alt", "")
    return rendered


def number_the_title(app, doctree):
    """A notebook's title is a question; the texts say "see 03"."""
    if number := re.match(r"notebooks/(\d\d)_", app.env.current_document.docname):
        next(doctree.findall(nodes.title)).insert(0, nodes.Text(f"{number[1]}. "))


def write_front_door(app, exception):
    """build/book/index.html leads to the start page, which lies beside the other pages of book/."""
    if exception is None and app.builder.name == "html":
        (Path(app.outdir) / "index.html").write_text(REDIRECT.format(title=project))
