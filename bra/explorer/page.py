"""HTML that holds an explorer: a fragment for a notebook, a page for a file. No server, no network, no kernel.

The same front end is in three places: live in a notebook, in a notebook's stored output, and in a file of its own.
"""

import hashlib
import html
import json

from bra.explorer.join import FRONT_END
from bra.explorer.payload import pack
from bra.explorer.portrait import Portrait

POLICY = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'"  # a page that can load nothing

STYLE = (
    ":root { color-scheme: light dark; background: light-dark(#fcfbf8, #14171b); color: light-dark(#1b1e22, #e8e9eb) } "
    "body { font: 16px/1.45 system-ui, -apple-system, 'Segoe UI', Roboto, sans-serif; margin: 0 auto; "
    "max-width: 1320px; padding: clamp(0.8rem, 2vw, 1.6rem) }"
)


def fragment(payload: dict, state: dict) -> str:
    """HTML that shows the explorer wherever it is put, and a line of text where no scripts run.

    payload: of `pack`. state: query, block, token and step to begin with. The same explorer gives the same HTML.
    """
    content = json.dumps({"payload": payload, **state}, sort_keys=True).replace("<", "\\u003c")  # ends no script
    name = hashlib.sha256(content.encode()).hexdigest()[:16]
    hint = "Run this cell, or trust the notebook, to explore whom each region reads."
    label = html.escape(payload["title"] or "Explorer")
    return (
        f'<div data-explorer="{name}" role="group" aria-label="{label}">{hint}</div>'
        f'<script type="module">\n{FRONT_END}\nmount("{name}", {content});\n</script>'
    )


def page(payload: dict, state: dict) -> str:
    """A whole HTML file with the explorer in it."""
    title = html.escape(payload["title"] or "Explorer")
    return (
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n'
        f'<meta http-equiv="Content-Security-Policy" content="{POLICY}">\n'
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n'
        f"<title>{title}</title>\n"
        f"<style>{STYLE}</style>\n"
        f"</head>\n<body>\n<main>\n{fragment(payload, state)}\n</main>\n</body>\n</html>\n"
    )


def portrait_page(portrait: Portrait) -> str:
    """A whole HTML file that shows a portrait, from its start."""
    return page(pack(portrait), portrait.start())
