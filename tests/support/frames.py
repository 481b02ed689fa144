"""How long the explorer takes from an arrow key, or a move of the mouse, to the next frame.

    python tests/support/frames.py

For BiFormer-T on a photograph of 224 x 224 (56 x 56 tokens, 7 x 7 regions) and of 512 x 512 under 16 x 16 regions, in
Chromium without a graphics card. Prints one JSON object: median and 95th percentile in milliseconds.
"""

import json
import statistics
import sys
import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from browser import chromium
from PIL import Image
from skimage import data

from bra.biformer import TINY, BiFormer
from bra.data import Images
from bra.explorer.page import portrait_page
from bra.explorer.portray import of_pixels, open_photograph

TIMES = 100
CLOCK = """kind => { // from the event to when the frame that it caused has been drawn
    window.times = [];
    window.addEventListener(kind, event => {
        const began = performance.now();
        requestAnimationFrame(() => setTimeout(() => window.times.push(performance.now() - began)));
    }, true);
}"""


def measure(page, kind: str, act) -> dict[str, float]:
    """Median and 95th percentile over `act(i)`, which causes one event of this kind."""
    page.evaluate(CLOCK, kind)
    for i in range(TIMES):
        act(i)
        page.wait_for_function("count => times.length > count", arg=i, polling=5)
    times = sorted(page.evaluate("times"))
    return {"median": round(statistics.median(times), 1), "95%": round(times[int(0.95 * len(times))], 1)}


def frames(file: Path) -> dict[str, dict]:
    """Times for an explorer's page: arrow keys over regions and over tokens, and pointing at the matrix."""
    return {mode: measure_mode(file, mode) for mode in ("regions", "tokens", "matrix")}


def measure_mode(file: Path, mode: str) -> dict[str, float]:
    """Times of one of them, in a fresh browser."""
    keys = ["ArrowRight", "ArrowDown", "ArrowLeft", "ArrowUp"]
    with chromium() as browser:
        page = browser.new_page(viewport={"width": 1280, "height": 900})
        page.goto(file.as_uri())
        page.locator(".stage").wait_for()
        if mode == "matrix":
            box = page.locator(".matrix").bounding_box()
            x, y = box["x"] + 5, box["y"] + 5
            return measure(page, "pointermove", lambda i: page.mouse.move(x + 2.5 * i, y + (37 * i) % 260))
        if mode == "tokens":
            page.locator("input[value=tokens]").check()
        page.locator(".stage").focus()
        return measure(page, "keydown", lambda i: page.keyboard.press(keys[i // 3 % 4]))


def main() -> None:
    """Write the pages, measure, print."""
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        photograph = Path(folder) / "photograph.png"
        Image.fromarray(data.chelsea()).save(photograph)
        for size, grid in ((224, (7, 7)), (512, (16, 16))):
            torch.manual_seed(0)
            portrait = of_pixels(
                BiFormer(replace(TINY, grid=grid)), open_photograph(photograph, size, 1.0), Images, f"{size} pixels"
            )
            file = Path(folder) / f"{size}.html"
            file.write_text(portrait_page(portrait))
            found[f"{size} pixels, {grid[0]} x {grid[1]} regions"] = frames(file)
    json.dump(
        {"milliseconds": found, "python": sys.version.split()[0], "date": time.strftime("%F")}, sys.stdout, indent=1
    )


if __name__ == "__main__":
    main()
