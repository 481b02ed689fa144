"""Chromium, offline: what the tests of the explorer see, and what they must never see."""

import contextlib
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Browser, Page, sync_playwright

ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]
NAMES = ("chromium", "chromium-browser", "google-chrome")
LOCAL = ("file:", "data:", "blob:", "about:", "http://127.0.0.1", "ws://127.0.0.1")


def executable() -> str | None:
    """Where this machine's browser is."""
    return next(filter(None, map(shutil.which, NAMES)), None)


@contextlib.contextmanager
def chromium() -> Iterator[Browser]:
    """The browser; the test is skipped where there is none."""
    path = executable()
    if path is None:
        pytest.skip(f"no browser: none of {', '.join(NAMES)} is on the path")
    with sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=ARGUMENTS)
        try:
            yield browser
        finally:
            browser.close()


@contextlib.contextmanager
def offline(browser: Browser, file: Path, foreign: tuple[str, ...] = (), **options) -> Iterator[Page]:
    """A page without a network. Fails on any error in it, and on any request that is not to this machine.

    foreign: beginnings of addresses that others, such as a notebook's template, ask for: these go nowhere.
    """
    wrong, context = [], browser.new_context(**{"viewport": {"width": 1280, "height": 900}} | options)
    context.set_offline(True)
    page = context.new_page()

    def note(request) -> None:
        if not request.url.startswith((*LOCAL, *foreign)):
            wrong.append(f"asks for {request.url}")

    def hear(message) -> None:
        lost = message.text.startswith("Failed to load resource") and message.location["url"].startswith(foreign)
        if message.type in ("error", "warning") and not (foreign and lost):
            wrong.append(f"{message.type}: {message.text}")

    page.on("request", note)
    page.on("console", hear)
    page.on("pageerror", lambda error: wrong.append(f"error: {error}"))
    try:
        page.goto(file.as_uri())
        yield page
        assert not wrong, wrong
    finally:
        context.close()


class Jupyter: ...
def contrasts(): ...
def marks(): ...
def pixels(): ...
def tab_stops(): ...
def write_notebook(): ...
