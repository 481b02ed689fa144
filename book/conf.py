"""The book is built from the repository's root, `sphinx-build -c book . build/book`, so that nothing is copied."""

from latex2mathml.converter import convert

project = "Bi-level Routing Attention"
author = "the bra contributors"
extensions = ["myst_nb"]
root_doc = "book/index"
include_patterns = ["book/*.md", "notebooks/*.ipynb"]
html_theme = "sphinx_book_theme"
html_title = project
html_theme_options = {"navbar_persistent": [], "show_toc_level": 2}
html_permalinks_icon = "#"
nb_execution_mode = "off"  # the stored outputs are what the tests compare
myst_enable_extensions = ["dollarmath", "colon_fence"]
suppress_warnings = ["mystnb.unknown_mime_type"]


def setup(app):
    """Write equations as MathML, which browsers and screen readers know: no script, no network."""

    def render(self, node, display):
        self.body.append(convert(node.astext(), display=display))
        raise __import__("docutils").nodes.SkipNode

    app.add_html_math_renderer(
        "mathml",
        inline_renderers=(lambda self, node: render(self, node, "inline"), None),
        block_renderers=(lambda self, node: render(self, node, "block"), None),
    )
    app.config.html_math_renderer = "mathml"
