import numpy as np
import pytest
import torch
from PIL import Image

from bra.data import ImageFolder
from bra.images import ImageFiles, check_whole, open_image

NOISE = np.random.default_rng(0).integers(256, size=(64, 48, 3), dtype=np.uint8)


@pytest.fixture
def folder(tmp_path):
    """A folder of images with one class."""
    for split in ("train", "val"):
        (tmp_path / split / "red").mkdir(parents=True)
        Image.fromarray(NOISE).save(tmp_path / split / "red" / "0.jpg")
    return tmp_path


def test_decoding_gives_the_pixels_and_the_label(tmp_path):
    Image.fromarray(NOISE[:48]).save(tmp_path / "x.png")
    pixels, label = ImageFiles([(tmp_path / "x.png", 7)], 48)[0]
    assert torch.equal(pixels, torch.from_numpy(NOISE[:48]).permute(2, 0, 1))
    assert label == 7


def test_grey_and_palette_images_become_three_channels(tmp_path):
    for mode in ("L", "P", "RGBA", "CMYK"):
        path = tmp_path / f"{mode}.{'jpg' if mode == 'CMYK' else 'png'}"
        Image.fromarray(NOISE).convert(mode).save(path)
        assert ImageFiles([(path, 0)], 16)[0][0].shape == (3, 16, 16)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
def test_an_image_cut_short_is_refused_by_name_before_any_work(folder, suffix):
    path = folder / "val" / "red" / f"cut{suffix}"
    Image.fromarray(NOISE).save(path)
    whole = path.read_bytes()
    check_whole(path)
    for length in (len(whole) - 40, len(whole) // 2, 5, 0):
        path.write_bytes(whole[:length])
        with pytest.raises(ValueError, match=rf"cut\{suffix} is not a whole image"):
            ImageFolder(folder, 8)


def test_bytes_behind_a_whole_jpeg_do_no_harm(folder):
    path = folder / "train" / "red" / "0.jpg"
    path.write_bytes(path.read_bytes() + b"written by a camera")
    ImageFolder(folder, 8)


def test_other_formats_are_not_even_tried(tmp_path):
    """Pillow's rarer decoders are where its holes have been; a file's name does not bring them in."""
    Image.fromarray(NOISE).save(tmp_path / "x.tiff")
    (tmp_path / "x.tiff").rename(tmp_path / "x.jpg")
    with pytest.raises(ValueError, match=r"x\.jpg is not a whole image"):
        open_image(tmp_path / "x.jpg")


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    Image.fromarray(NOISE).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with pytest.raises(ValueError, match=r"x\.png is not a whole image: .*bomb"):
        open_image(tmp_path / "x.png")
