"""Built once from the stored outputs, without a warning, the book loads nothing from elsewhere, and fits a phone."""

import contextlib
import functools
import http.server
import re
import subprocess
import sys
import threading

import pytest
from browser import offline
from repository import NOTEBOOKS, ROOT, STEMS

import bra

PAGES = {path.stem for path in (ROOT / "book").glob("*.md")}
PHONE = {"viewport": {"width": 390, "height": 844}}


@pytest.fixture(scope="module")
def book(tmp_path_factory):
    """The folder of the built book."""
    out = tmp_path_factory.mktemp("book")
    command = [sys.executable, "-m", "sphinx", "-W", "-q", "-c", "book", ".", str(out)]
    built = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert built.returncode == 0, built.stderr
    return out


def html_of(book, name):
    """A page's HTML, without scripts."""
    return re.sub(r"<script.*?</script>", "", (book / f"{name}.html").read_text(), flags=re.S)


def article(book, name):
    """What a page says, without what stands around it."""
    return re.search(r"<article.*?</article>", html_of(book, name), re.S)[0]


def test_book_builds_and_needs_no_network(book):
    pages = [page for folder in ("book", "notebooks") for page in (book / folder).rglob("*.html")]
    assert {page.stem for page in pages} >= {*PAGES, *(path.stem for path in NOTEBOOKS)}
    for page in pages:
        html = page.read_text()
        remote = re.findall(r"<(?:script|link|img|iframe)[^>]*?(?:src|href)=\"((?:https?:)?//[^\"]*)\"", html)
        assert not remote, f"{page.name} loads {remote}"
        for image in re.findall(r"<img[^>]*>", html):
            assert re.search(r"alt=\"(?![^\"]*\.png)[^\"]+\"", image), f"{page.name}: {image}"


def test_the_front_door_leads_to_the_start_page(book):
    target = re.search(r"url=(\S+?)\"", (book / "index.html").read_text())[1]
    assert (book / target).exists()
    assert "build/book/index.html" in (ROOT / "Makefile").read_text()


def test_chapters_are_numbered_and_in_order(book):
    sidebar = re.search(r"<nav class=\"bd-links.*?</nav>", html_of(book, "book/index"), re.S)[0]
    assert re.findall(r">\s*(\d\d \w+): [\w ?-]+<", sidebar) == [f"{i:02} {stem}" for i, stem in enumerate(STEMS)]
    for path in NOTEBOOKS:
        assert re.search(rf"<h1>{path.stem[:2]}\. ", article(book, f"notebooks/{path.stem}"))


def test_every_notebook_can_be_downloaded_from_its_page(book):
    for path in NOTEBOOKS:
        link = re.search(rf"\.\./_sources/notebooks/{path.stem}\.ipynb\"", html_of(book, f"notebooks/{path.stem}"))
        assert link, f"{path.stem} has no link to itself"
        assert (book / "_sources" / "notebooks" / path.name).read_bytes() == path.read_bytes()


def test_the_reference_has_every_public_name_and_no_left_over_markup(book):
    text = article(book, "book/reference")
    for name in bra.__all__:
        assert f'id="bra.{name}"' in text or f">{name}</span>" in text, name
    plain = re.sub(r"<[^>]+>", "", re.sub(r"<pre>.*?</pre>", "", text, flags=re.S))
    assert not re.findall(r"\S*(?:\^\(|``|:py:|:sup:|\\\*)\S*", plain)
    attend = re.search(r'<dt[^>]*id="bra\.attend">.*?(?=<dt[^>]*id=)|<dt[^>]*id="bra\.attend">.*', text, re.S)[0]
    for argument in ("q, k, v", "index", "scale", "valid", "way"):
        names = "</strong>, <strong>".join(argument.split(", "))
        assert f"<strong>{names}</strong>:" in attend, argument
    assert "(c / heads)<sup>−1/2</sup>" in attend and "<em>Raises</em> ValueError" in attend


def wide_pages():
    return ["book/index", "book/faq", "book/compare", "book/reference", "notebooks/02_adjacency", "notebooks/10_dense"]


@pytest.mark.parametrize("name", wide_pages())
def test_no_page_scrolls_sideways_on_a_phone(book, browser, name):
    with offline(browser, book / f"{name}.html", **PHONE) as page:
        over = page.evaluate(
            """() => [...document.querySelectorAll("article *")].filter(one => {
                if (!one.checkVisibility() || one.getBoundingClientRect().right <= 390.5) return false;
                for (let box = one.parentElement; box; box = box.parentElement)
                    if (box.localName !== "main" && ["auto", "scroll"].includes(getComputedStyle(box).overflowX)
                        && box.getBoundingClientRect().right <= 390.5) return false;
                return true;
            }).map(one => `${one.localName}.${one.className}: ${one.textContent.slice(0, 60)}`)"""
        )
        assert not over, over[:5]
        assert page.evaluate("document.documentElement.scrollWidth") <= 390


def test_figures_are_white_cards_in_the_dark(book, browser):
    with offline(browser, book / "notebooks/02_adjacency.html", color_scheme="dark") as page:
        assert page.locator("html").get_attribute("data-theme") == "dark"
        style = "one => [getComputedStyle(one).filter, getComputedStyle(one).backgroundColor]"
        for image in page.locator("article .cell_output img").all():
            assert image.evaluate(style) == ["none", "rgb(255, 255, 255)"]


def test_the_explorer_is_live_in_the_book(book, browser):
    with offline(browser, book / "notebooks/12_explorer.html") as page:
        assert page.locator("[data-explorer]").count() >= 1
        first = page.locator("[data-explorer]").first
        assert first.locator("canvas").first.evaluate("one => one.width") > 0


@contextlib.contextmanager
def served(folder):
    """The address of this folder, on this machine, until the block ends."""
    handler = functools.partial(
        type("Quiet", (http.server.SimpleHTTPRequestHandler,), {"log_message": lambda *_: None})
    )
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), functools.partial(handler, directory=folder)) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


def test_search_finds_a_notebook(book, browser):
    context = browser.new_context()
    context.route(lambda address: "127.0.0.1" not in address, lambda route: route.abort())
    page = context.new_page()
    with served(book) as address:
        page.goto(f"{address}/search.html?q=affinity")
        found = page.locator("#search-results li a")
        found.first.wait_for()
        assert any("02. Which regions are related?" in text for text in found.all_text_contents())
    context.close()
