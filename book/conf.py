"""The book is built from the repository's root, `sphinx-build -c book . build/book`, so that nothing is copied."""

import sys
from pathlib import Path

from docutils import nodes
from latex2mathml.converter import convert
from myst_nb.core.render import NbElementRenderer

sys.path.insert(0, str(Path(__file__).parent))  # for reporting

project = "Bi-level Routing Attention"
author = "the bra contributors"
extensions = ["myst_nb", "reporting.pages"]
root_doc = "book/index"
include_patterns = ["book/*.md", "notebooks/*.ipynb"]
html_theme = "sphinx_book_theme"
html_title = project
html_theme_options = {"navbar_persistent": [], "show_toc_level": 2}
nb_mime_priority_overrides = [("html", "application/vnd.jupyter.widget-view+json", None)]  # no kernel: its picture
nb_code_prompt_show = "Show the solution"
nb_code_prompt_hide = "Hide the solution"
nb_execution_mode = "off"  # the stored outputs are what the tests compare
myst_enable_extensions = ["dollarmath", "deflist"]
suppress_warnings = ["mystnb.unknown_mime_type"]


def setup(app):
    """Register how equations and pictures are written."""
    inline = (lambda translator, node: write_equation(translator, node, "inline"), None)
    block = (lambda translator, node: write_equation(translator, node, "block"), None)
    app.add_html_math_renderer("mathml", inline_renderers=inline, block_renderers=block)
    app.config.html_math_renderer = "mathml"
    NbElementRenderer.render_image = render_image_with_its_text


def write_equation(translator, node, display):
    """MathML, which browsers and screen readers know: no script, no network."""
    math = convert(node.astext(), display=display)
    translator.body.append(f"<p>{math}</p>" if display == "block" else math)
    raise nodes.SkipNode


plain_render_image = NbElementRenderer.render_image


def render_image_with_its_text(renderer, data):
    """MyST-NB would drop the alternative text that a notebook stores beside a picture."""
    rendered = plain_render_image(renderer, data)
    for image in (image for node in rendered for image in node.findall(nodes.image)):
        image["alt"] = data.output_metadata.get(data.mime_type, {}).get("alt", "")
    return rendered
