import warnings

import numpy as np
import pytest
import torch
from PIL import Image

from bra.data import DamagedImage, ImageFolder, ImageSettings, open_image
from bra.data.copies import shrink
from bra.data.decoding import centre_box, cut, upright_size
from bra.explorer.portray import open_photograph

HEIGHT, WIDTH = 43, 29
UPRIGHT = np.random.default_rng(3).integers(256, size=(HEIGHT, WIDTH, 3), dtype=np.uint8)
STORED = {  # how EXIF's number says that an image lies in its file
    1: lambda pixels: pixels,
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: lambda pixels: np.rot90(pixels, -1),
}


def lying(pixels, orientation, path, **options):
    """Write the image as a camera does that was held another way: turned, with a note."""
    exif = Image.Exif()
    exif[0x0112] = orientation
    Image.fromarray(np.ascontiguousarray(STORED[orientation](pixels))).save(path, exif=exif, **options)
    return path


def cut_out(path, box=None, size=20):
    with open_image(path, path.name) as image:
        return cut(image, box or centre_box(*upright_size(image), 1.0), size)


@pytest.mark.parametrize("orientation", STORED)
@pytest.mark.parametrize(("suffix", "options"), [("png", {}), ("webp", {"lossless": True})])
def test_images_are_upright_whichever_way_they_lie(orientation, suffix, options, tmp_path):
    Image.fromarray(UPRIGHT).save(tmp_path / "x.png")
    path = lying(UPRIGHT, orientation, tmp_path / f"y.{suffix}", **options)
    with open_image(path, "y") as image:
        assert upright_size(image) == (WIDTH, HEIGHT)
    for box in (None, (3, 5, 17, 42)):
        assert torch.equal(cut_out(path, box), cut_out(tmp_path / "x.png", box))


@pytest.mark.parametrize("orientation", STORED)
def test_a_large_jpeg_that_lies_is_decoded_small_and_cut_at_the_right_place(orientation, tmp_path):
    rows, columns = np.mgrid[:1201, :1600]
    smooth = np.stack([columns // 8, rows // 8, columns // 16], axis=2).astype(np.uint8)
    path = lying(smooth, orientation, tmp_path / "x.jpg", quality=98)
    for box in ((800, 600, 1600, 1201), (100, 300, 430, 630)):
        with open_image(path, "x") as image:
            pixels = cut(image, box, 40).float()
            assert max(image.size) == 200, "an eighth is enough"
        left, top, right, bottom = box
        for i in (0, 17, 39):
            across, down = left + (i + 0.5) * (right - left) / 40, top + (i + 0.5) * (bottom - top) / 40
            assert abs(pixels[0, 20, i] - across / 8) < 2.5 and abs(pixels[1, i, 20] - down / 8) < 2.5


@pytest.mark.parametrize("orientation", [2, 6])
def test_learnt_measured_shown_and_copied_upright(orientation, image_folder, tmp_path_factory):
    tall = UPRIGHT.copy()
    tall[: HEIGHT // 2] = 255
    for split in ("train", "val"):
        for path in sorted((image_folder / split).glob("*/*")):
            lying(tall, orientation, path, **({} if path.suffix == ".png" else {"quality": 95}))
    data = ImageFolder(image_folder, ImageSettings(size=20, workers=0))
    measured = next(data.held_out(4)).image
    assert (measured[:, :, :8] > 230).all() and measured[:, :, 12:].float().mean() < 140
    assert (next(data.training(10, 0, 0)).image[:, :, :8] > 230).all()
    out = tmp_path_factory.mktemp("small")
    shrink(image_folder, out, 25, "fatal", 1)
    copied = next(ImageFolder(out, ImageSettings(size=20, workers=0)).held_out(4)).image
    assert (copied[:, :, :8] > 230).all()
    for i, path in enumerate(sorted((image_folder / "val").glob("*/*"))):
        assert torch.equal(open_photograph(path, 20, 1.0), measured[i])
    for path in out.glob("*/*/*"):
        with Image.open(path) as image:
            assert not image.getexif() and image.size == (25, 37)


@pytest.mark.parametrize("note", [b"Exif\0\0garbage", b"Exif\0\0II*\0\x08\0\0\0\x09\0\x12\x01\x03\0", b"Exif\0\0"])
def test_an_image_whose_note_is_damaged_is_taken_as_it_lies(note, tmp_path):
    Image.fromarray(UPRIGHT).save(tmp_path / "x.webp", lossless=True)
    Image.fromarray(UPRIGHT).save(tmp_path / "y.webp", lossless=True, exif=note)
    with warnings.catch_warnings(action="always", record=True) as said:
        assert torch.equal(cut_out(tmp_path / "y.webp"), cut_out(tmp_path / "x.webp"))
    assert not said, "a million images must not warn a million times"


@pytest.mark.parametrize("orientation", [None, 6])
@pytest.mark.parametrize("damage", [lambda whole: whole[:900], lambda whole: whole[:500] + bytes(100) + whole[600:]])
def test_looking_for_the_note_hides_no_damage(orientation, damage, tmp_path):
    """Pillow looks for it behind the pixels, and what it meets on its way it says only once."""
    path = tmp_path / "x.png"
    Image.fromarray(UPRIGHT).save(path) if orientation is None else lying(UPRIGHT, orientation, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(DamagedImage, match=r"x\.png is not a whole image"):
        cut_out(path)
