"""The picture of README: the explorer of a run, as Chromium shows it. Needs the extra `test`, and Chromium on the path.

python book/pictures.py book/results/recall-topk explorer.png
"""

import io
import shutil
import sys
import tempfile
from pathlib import Path

from PIL import Image
from playwright.sync_api import sync_playwright

from bra.explorer.page import portrait_page
from bra.train.report import of_run

WIDTH, HEIGHT, LARGEST = 1200, 900, 150_000  # pixels, pixels, bytes
NAMES = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def photographed(html: str) -> bytes:
    """The upper part of a page, as a PNG file. Raises FileNotFoundError without a browser."""
    browser = next(filter(None, map(shutil.which, NAMES)), None)
    if browser is None:
        raise FileNotFoundError(f"a browser must be on the path: one of {', '.join(NAMES)}")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        file = Path(folder) / "page.html"
        file.write_text(html, encoding="utf-8")
        chromium = play.chromium.launch(executable_path=browser, args=ARGUMENTS)
        page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(file.as_uri())
        found = page.screenshot()
        chromium.close()
    return found


def smaller(png: bytes) -> bytes:
    """The same picture in 128 colours, which it hardly has more of. Raises ValueError if it is still too large."""
    buffer = io.BytesIO()
    Image.open(io.BytesIO(png)).convert("RGB").quantize(128, dither=Image.Dither.NONE).save(
        buffer, "PNG", optimize=True
    )
    if len(buffer.getvalue()) > LARGEST:
        raise ValueError(f"the picture must have at most {LARGEST} bytes, but has {len(buffer.getvalue())}")
    return buffer.getvalue()


if __name__ == "__main__":
    run, out = map(Path, sys.argv[1:])
    out.write_bytes(smaller(photographed(portrait_page(of_run(run)))))
    print(f"{out}: {WIDTH} x {HEIGHT} pixels, {out.stat().st_size / 1000:.0f} kB")
