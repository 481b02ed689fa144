"""Chromium, offline: what the tests of the explorer see, and what they must never see."""

import contextlib
import os
import shutil
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import nbformat
import numpy as np
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
        if message.type == "error" and not (foreign and lost):
            wrong.append(message.text)

    page.on("request", note)
    page.on("console", hear)
    page.on("pageerror", lambda error: wrong.append(str(error)))
    try:
        page.goto(file.as_uri())
        yield page
        assert not wrong, wrong
    finally:
        context.close()


def marks(page: Page, kind: str) -> list[tuple[float, float]]:
    """The middles of the outlines of this kind over the image, in tokens: (row, column)."""
    found = page.locator(f".stage rect.{kind}:not(.badge)").evaluate_all(
        """all => all.map(one => ["y", "height", "x", "width"].map(name => Number(one.getAttribute(name))))"""
    )
    return [(y + height / 2, x + width / 2) for y, height, x, width in found]


def pixels(page: Page, canvas: str) -> np.ndarray:
    """What a canvas holds: rows, columns, and red, green, blue, opacity."""
    width, height, values = page.locator(canvas).evaluate(
        """one => [one.width, one.height, [...one.getContext("2d").getImageData(0, 0, one.width, one.height).data]]"""
    )
    return np.array(values).reshape(height, width, 4)


def tab_stops(page: Page) -> list[tuple[str, str]]:
    """From the first press of Tab to where it leaves: what has the focus, and the outline that shows it."""
    found = []
    while True:
        page.keyboard.press("Tab")
        stop = page.evaluate(
            """() => {
                const one = document.activeElement.shadowRoot?.activeElement;
                if (!one) return null;
                const { outlineStyle, outlineWidth, outlineColor } = getComputedStyle(one);
                const name = one.className || one.value || one.textContent;
                return [`${one.localName} ${name}`, `${outlineStyle} ${outlineWidth} ${outlineColor}`];
            }"""
        )
        if stop is None:
            return found
        found.append(tuple(stop))


def contrasts(page: Page) -> dict[str, float]:
    """The contrast of each piece of text with what lies behind it, as WCAG 2 defines it."""
    found = page.evaluate(
        r"""() => {
            const canvas = document.createElement("canvas").getContext("2d", { willReadFrequently: true });
            const over = (colour, below) => { // what the eye sees, whatever notation the colour is in
                canvas.fillStyle = below;
                canvas.fillRect(0, 0, 1, 1);
                canvas.fillStyle = colour;
                canvas.fillRect(0, 0, 1, 1);
                return [...canvas.getImageData(0, 0, 1, 1).data.slice(0, 3)];
            };
            const behind = element => {
                const colour = getComputedStyle(element).backgroundColor;
                const parent = element.parentElement ?? element.getRootNode().host;
                if (!parent) return over(colour, "white");
                return /, 0\)$/.test(colour) ? behind(parent) : over(colour, `rgb(${behind(parent)})`);
            };
            const root = document.querySelector("[data-explorer]").shadowRoot;
            const texts = [...root.querySelectorAll("section *:not(svg *):not(canvas):not(option):not(optgroup)")];
            return texts.filter(one => one.checkVisibility() && (one.localName === "select"
                || [...one.childNodes].some(node => node.nodeType === 3 && node.data.trim()))).map(one => {
                const below = behind(one), text = over(getComputedStyle(one).color, `rgb(${below})`);
                return [`${one.localName}: ${one.textContent}`, text, below];
            });
        }"""
    )

    def luminance(colour):
        share = np.array(colour) / 255
        linear = np.where(share <= 0.04045, share / 12.92, ((share + 0.055) / 1.055) ** 2.4)
        return linear @ [0.2126, 0.7152, 0.0722]

    levels = {name: sorted([luminance(text), luminance(below)]) for name, text, below in found}
    return {name: (high + 0.05) / (low + 0.05) for name, (low, high) in levels.items()}


def write_notebook(path: Path, *cells: str) -> Path:
    """A notebook of these cells of code."""
    notebook = nbformat.v4.new_notebook(cells=[nbformat.v4.new_code_cell(cell) for cell in cells])
    notebook.metadata["kernelspec"] = {"display_name": "Python 3 (ipykernel)", "language": "python", "name": "python3"}
    nbformat.write(notebook, path)
    return path


def environment(folder: Path) -> dict[str, str]:
    """So that Jupyter neither reads nor changes anything of the user's."""
    places = {f"JUPYTER_{name}_DIR": str(folder / name) for name in ("CONFIG", "DATA", "RUNTIME")}
    return os.environ | places | {"IPYTHONDIR": str(folder / "ipython"), "PYTHONPATH": os.pathsep.join(sys.path)}


def run_jupyter(folder: Path, *arguments: str) -> None:
    """One command of Jupyter."""
    command = [sys.executable, "-m", "jupyter", *arguments]
    done = subprocess.run(command, cwd=folder, env=environment(folder), capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


@contextlib.contextmanager
def jupyter_lab(folder: Path) -> Iterator[str]:
    """The address of a JupyterLab that serves this folder, without a password, until the block ends."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    options = {
        "ServerApp.ip": "127.0.0.1",
        "ServerApp.port": port,
        "ServerApp.root_dir": folder,
        "IdentityProvider.token": "secret",
        "LabApp.news_url": None,
        "LabApp.check_for_updates_class": "jupyterlab.NeverCheckForUpdate",
        "LabApp.extension_manager": "readonly",
    }
    arguments = [f"--{name}={value}" for name, value in options.items()]
    root = ["--allow-root"] if hasattr(os, "geteuid") and os.geteuid() == 0 else []
    command = [sys.executable, "-m", "jupyterlab", "--no-browser", *root, *arguments]
    with (folder / "lab.log").open("w") as log:
        server = subprocess.Popen(command, cwd=folder, env=environment(folder), stdout=log, stderr=log)
    try:
        wait_for(f"http://127.0.0.1:{port}/api?token=secret", folder / "lab.log")
        yield f"http://127.0.0.1:{port}/lab/tree/{{}}?token=secret"
    finally:
        server.terminate()  # it ends its kernels, too
        try:
            server.wait(20)
        except subprocess.TimeoutExpired:
            server.kill()
            server.wait()


def wait_for(address: str, log: Path) -> None:
    """Until a server answers."""
    for _ in range(300):
        with contextlib.suppress(urllib.error.URLError), urllib.request.urlopen(address, timeout=5):
            return
        time.sleep(0.1)
    raise TimeoutError(f"JupyterLab does not answer: {log.read_text()}")
