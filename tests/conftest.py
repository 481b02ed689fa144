"""Shape checks are on in every test: the annotations of `bra` are enforced as it is imported."""

import os

import jaxtyping
import numpy as np
import pytest
import torch
from browser import chromium, offline
from explored import SETUP
from PIL import Image

if not torch.cuda.is_available():
    os.environ.setdefault("TRITON_INTERPRET", "1")  # before Triton is imported: tests of bra.kernels run on a CPU

hook = jaxtyping.install_import_hook("bra", "beartype.beartype")


@pytest.fixture(autouse=True)
def seed():
    """Every test begins with the same random numbers."""
    torch.manual_seed(0)


@pytest.fixture
def unchecked():
    """Shape checks off, as for a user: what a function itself says about a bad argument."""
    jaxtyping.config.update("jaxtyping_disable", True)
    yield
    jaxtyping.config.update("jaxtyping_disable", False)


@pytest.fixture
def image_folder(tmp_path):
    """A folder of images: five reddish and five bluish ones to train on, two of each held out; no two are alike."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 5), ("val", 2)):
        for colour, channel in (("blue", 2), ("red", 0)):
            (tmp_path / split / colour).mkdir(parents=True)
            for i in range(count):
                pixels = draw.integers(100, size=(31, 20 + 7 * i, 3), dtype=np.uint8)
                pixels[:, :, channel] += 150
                Image.fromarray(pixels).save(tmp_path / split / colour / f"{i}{'.png' if i % 2 else '.JPG'}")
    return tmp_path


@pytest.fixture
def made():
    """All that explored.SETUP makes."""
    space = {"__name__": "made"}
    exec(SETUP, space)
    return space


@pytest.fixture
def explorer(made):
    return made["explorer"]


@pytest.fixture(scope="module")
def browser():
    with chromium() as found:
        yield found


@pytest.fixture
def page(browser, explorer, tmp_path):
    with offline(browser, explorer.save_html(tmp_path / "page.html")) as found:
        yield found
