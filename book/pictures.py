"""`python book/pictures.py`: the pictures of README, of the book's start page, and of what students get wrong.

`python book/pictures.py heads softmax` makes these alone. Needs the extra `test`, and for `explorer` Chromium on the
path, which photographs it. Writes into book/_static.
"""

import io
import shutil
import sys
import tempfile
from pathlib import Path

import torch
from PIL import Image
from playwright.sync_api import sync_playwright
from reporting.figures import figure  # Python looks beside the program first

from bra import draw, record_routes
from bra.draw.picture import COLUMN, DOTS, width
from bra.explorer.page import portrait_page
from bra.files import results
from bra.train.models import load_model
from bra.train.report import of_run

STATIC = Path(__file__).parent / "_static"
RUN = "recall-topk"
BLOCK, BOARDS = 0, [0, 2]  # the block that the answer comes through (notebook 12); two of the held-out boards
WIDTH, HEIGHT, LARGEST = 1200, 900, 150_000  # pixels, pixels, bytes
BROWSERS = ("chromium", "chromium-browser", "google-chrome")
ARGUMENTS = ["--no-sandbox", "--disable-gpu", "--disable-background-networking"]


def boards() -> bytes:
    """Two boards, what the trained network says of them, and whom the square's region reads."""
    model, data, _ = load_model(results(RUN))
    batch = next(data.held_out(4))
    with torch.no_grad(), record_routes(model) as routes:
        said = model.eval()(batch.image).argmax(dim=1)
    titles = [f"It says: {data.classes[said[i]]}. It is: {data.classes[batch.label[i]]}" for i in BOARDS]
    places = (batch.image, routes[BLOCK].index, batch.square, batch.target)
    image, index, square, target = (each[BOARDS] for each in places)
    picture = draw.routed_boards(image, index, (4, 4), square, target, titles)
    dots = DOTS * COLUMN / width(picture.png())  # the page shows it as wide as its column of text
    buffer = io.BytesIO()
    picture.figure.savefig(buffer, format="png", dpi=dots, bbox_inches="tight", facecolor="white")
    return buffer.getvalue()


def explorer() -> bytes:
    """The upper part of the explorer's page that shows the training. Raises FileNotFoundError without a browser."""
    browser = next(filter(None, map(shutil.which, BROWSERS)), None)
    if browser is None:
        raise FileNotFoundError(f"a browser must be on the path: one of {', '.join(BROWSERS)}")
    with tempfile.TemporaryDirectory() as folder, sync_playwright() as play:
        file = Path(folder) / "page.html"
        file.write_text(portrait_page(of_run(results(RUN), None)), encoding="utf-8")
        chromium = play.chromium.launch(executable_path=browser, args=ARGUMENTS)
        page = chromium.new_page(viewport={"width": WIDTH, "height": HEIGHT}, color_scheme="light")
        page.goto(file.as_uri())
        found = page.screenshot()
        chromium.close()
    return found


def softmax() -> draw.Picture:
    """Weights of two queries among four keys, with the softmax over the keys, and over the queries."""
    scores = torch.tensor([[3.0, 0, 0, 0], [0, 0, 2, 0]])
    titles = ["over the keys", "over the queries (wrong)"]
    return draw.matrices([scores.softmax(dim=1), scores.softmax(dim=0)], titles, ("query", "key"), same_shades=True)


def heads() -> draw.Picture:
    """What each of two heads gets of four tokens with four channels: split and then moved, and by one reshape."""
    tokens = 10 * torch.arange(4)[:, None] + torch.arange(4)  # t c
    moved, at_once = tokens.unflatten(1, (2, 2)).transpose(0, 1), tokens.reshape(2, 4, 2)  # m t d
    rows = torch.cat([moved, at_once]).flatten(1)
    labels = [f"{how}, head {head}" for how in ("split, moved", "one reshape") for head in (0, 1)]
    return draw.token_rows(rows, rows // 10, labels, "What each head gets (the corner tells the token)")


def smaller(png: bytes) -> bytes:
    """The same picture in 256 colours, which it hardly has more of. Raises ValueError if it is still too large."""
    buffer = io.BytesIO()
    picture = Image.open(io.BytesIO(png)).convert("RGB").quantize(256, dither=Image.Dither.NONE)
    picture.save(buffer, "PNG", optimize=True)
    if len(buffer.getvalue()) > LARGEST:
        raise ValueError(f"the picture must have at most {LARGEST} bytes, but has {len(buffer.getvalue())}")
    return buffer.getvalue()


PICTURES = {
    "boards": boards,
    "explorer": explorer,
    "speed": lambda: figure("bench_all_cpu models").png(),
    "softmax": lambda: softmax().png(),
    "heads": lambda: heads().png(),
}

if __name__ == "__main__":
    for name in sys.argv[1:] or PICTURES:
        path = STATIC / f"{name}.png"
        path.write_bytes(smaller(PICTURES[name]()))
        print(f"{path.name}: {path.stat().st_size / 1000:.0f} kB")
