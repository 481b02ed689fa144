import itertools

import numpy as np
import pytest
import torch
from PIL import Image

from bra.data import DamagedImage, ImageFolder, ImageSettings, Shard, check_whole, open_image
from bra.data.decoding import Key, Source, centre_box, cut, random_box
from bra.data.images import ImageFiles

NOISE = np.random.default_rng(0).integers(256, size=(64, 48, 3), dtype=np.uint8)
SKIP = ImageSettings(size=8, corrupt="skip", workers=0)


def decoded(path, size, label=0):
    return ImageFiles([Source(path, str(path), label)], size, ImageSettings().choose, replace=False)[Key(0, None)]


def break_inside(path):
    """Damage that its last bytes do not show."""
    whole = path.read_bytes()
    path.write_bytes(whole[:20] + bytes(len(whole) - 60) + whole[-40:])


def training(data, count, size=4, start=0, seed=1, shard=Shard()):  # noqa: B008
    return list(itertools.islice(data.training(size, seed, start, shard), count))


def test_decoding_gives_the_pixels_and_the_label(tmp_path):
    Image.fromarray(NOISE[:48]).save(tmp_path / "x.png")
    sample = decoded(tmp_path / "x.png", 48, label=7)
    assert torch.equal(sample.pixels, torch.from_numpy(NOISE[:48]).permute(2, 0, 1))
    assert sample.label == 7 and sample.damage == {}


def test_grey_palette_and_transparent_images_become_three_channels(tmp_path):
    for mode in ("L", "P", "RGBA", "CMYK"):
        path = tmp_path / f"{mode}.{'jpg' if mode == 'CMYK' else 'png'}"
        Image.fromarray(NOISE).convert(mode).save(path)
        assert decoded(path, 16).pixels.shape == (3, 16, 16)
    Image.fromarray(NOISE).convert("P").save(tmp_path / "clear.png", transparency=bytes(range(200)))
    assert decoded(tmp_path / "clear.png", 16).pixels.shape == (3, 16, 16)


@pytest.mark.parametrize("suffix", [".jpg", ".png", ".webp", ".bmp"])
def test_an_image_cut_short_is_refused_by_name_before_any_work_or_left_out(image_folder, suffix):
    path = image_folder / "val" / "red" / f"cut{suffix}"
    Image.fromarray(NOISE).save(path)
    whole = path.read_bytes()
    check_whole(path)
    for length in (len(whole) - 40, len(whole) // 2, 5, 0):
        path.write_bytes(whole[:length])
        with pytest.raises(DamagedImage, match=rf"cut\{suffix} is not a whole image"):
            ImageFolder(image_folder, ImageSettings())
        data = ImageFolder(image_folder, SKIP)
        assert data.damaged == [str(path)] and data.held_out_count == 4 and data.count == 10


def test_bytes_behind_a_whole_jpeg_do_no_harm(image_folder):
    path = image_folder / "train" / "red" / "0.JPG"
    path.write_bytes(path.read_bytes() + b"written by a camera")
    ImageFolder(image_folder, ImageSettings())


def test_other_formats_are_not_even_tried(tmp_path):
    """Pillow's rarer decoders are where its holes have been; a file's name does not bring them in."""
    Image.fromarray(NOISE).save(tmp_path / "x.tiff")
    (tmp_path / "x.tiff").rename(tmp_path / "x.jpg")
    for content in (tmp_path / "x.jpg", (tmp_path / "x.jpg").read_bytes()):
        with pytest.raises(DamagedImage, match=r"x\.jpg is not a whole image"), open_image(content, "x.jpg"):
            pass


def test_a_decompression_bomb_is_refused(tmp_path, monkeypatch):
    Image.fromarray(NOISE).save(tmp_path / "x.png")
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 1000)
    with (
        pytest.raises(DamagedImage, match=r"x\.png is not a whole image: .*bomb"),
        open_image(tmp_path / "x.png", "x.png"),
    ):
        pass


def test_what_pillow_says_in_other_words_is_damage_too(tmp_path):
    Image.fromarray(NOISE).save(tmp_path / "x.png")
    whole = (tmp_path / "x.png").read_bytes()
    with (
        pytest.raises(DamagedImage, match="x is not a whole image: Truncated IHDR"),
        open_image(whole[:11] + bytes([7]) + whole[12:], "x"),
    ):
        pass


def test_image_folder_reads_pixels_and_labels(image_folder):
    data = ImageFolder(image_folder, ImageSettings(size=8))
    assert data.classes == ["blue", "red"] and data.count == 10
    batches = list(data.held_out(3))
    images, labels = torch.cat([b.image for b in batches]), torch.cat([b.label for b in batches])
    assert images.shape == (4, 3, 8, 8) and labels.tolist() == [0, 0, 1, 1]
    for image, label in zip(images, labels, strict=True):
        red, _, blue = image.float().mean(dim=(1, 2)).tolist()
        assert (red > blue) == bool(label), "red must be labelled 1 and blue 0"


@pytest.mark.parametrize("upright", [False, True])
def test_images_are_scaled_and_cut_around_their_middle(tmp_path, upright):
    pixels = np.zeros((10, 30, 3), np.uint8)
    pixels[:, 10:20] = 255
    pixels = pixels.swapaxes(0, 1).copy() if upright else pixels
    for split in ("train", "val"):
        (tmp_path / split / "a").mkdir(parents=True)
        Image.fromarray(pixels).save(tmp_path / split / "a" / "x.png")
    image = next(ImageFolder(tmp_path, ImageSettings(size=10, workers=0)).held_out(1)).image
    assert (image == 255).all(), "the middle third is white"


def test_image_folders_that_are_damaged_are_refused_by_name(image_folder):
    with pytest.raises(FileNotFoundError, match=r"data folder .*nowhere.train does not exist"):
        ImageFolder(image_folder / "nowhere", ImageSettings())
    (image_folder / "val" / "green").mkdir()
    with pytest.raises(ValueError, match=r"data folder .*green holds no image"):
        ImageFolder(image_folder, ImageSettings())
    Image.new("RGB", (8, 8)).save(image_folder / "val" / "green" / "x.png")
    with pytest.raises(ValueError, match="has classes that train lacks: green"):
        ImageFolder(image_folder, ImageSettings())
    (image_folder / "val" / ".ipynb_checkpoints").mkdir()
    (image_folder / "val" / "green" / "x.png").unlink()
    (image_folder / "val" / "green").rmdir()
    assert ImageFolder(image_folder, ImageSettings(size=8)).classes == ["blue", "red"], "hidden folders are no classes"
    (image_folder / "empty" / "train").mkdir(parents=True)
    with pytest.raises(ValueError, match=r"data folder .*empty.train holds no class folders"):
        ImageFolder(image_folder / "empty", ImageSettings())


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"size": 0}, "size must be at least 1, but is 0"),
        ({"workers": -1}, "workers must be at least 0, but is -1"),
        ({"least_area": 0.0}, r"least_area must be above 0 and at most 1, but is 0\.0"),
        ({"centre": 1.5}, r"centre must be above 0 and at most 1, but is 1\.5"),
        ({"corrupt": "hide"}, "corrupt must be fatal or skip, but is 'hide'"),
    ],
)
def test_settings_out_of_range_are_refused(change, message, unchecked):
    with pytest.raises(ValueError, match=message):
        ImageSettings(**change)


def test_random_crops_keep_their_share_and_shape_and_reach_everywhere():
    boxes = [random_box(500, 375, 0.2, seed) for seed in range(2000)]
    assert random_box(500, 375, 0.2, 7) == boxes[7]
    shares, ratios = [], []
    for left, top, right, bottom in boxes:
        assert 0 <= left < right <= 500 and 0 <= top < bottom <= 375
        shares.append((right - left) * (bottom - top) / (500 * 375))
        ratios.append((right - left) / (bottom - top))
    assert 0.19 < min(shares) < 0.22 and 0.9 < max(shares) <= 1
    assert 0.74 < min(ratios) < 0.77 and 1.3 < max(ratios) < 1.35
    for edge, end in enumerate((0, 0, 500, 375)):
        assert sum(box[edge] == end for box in boxes) >= 2, "crops reach every edge"
    wide, high = random_box(1000, 100, 0.9, 0), random_box(100, 1000, 0.9, 0)  # no such crop: the largest in the middle
    assert wide == pytest.approx((500 - 200 / 3, 0, 500 + 200 / 3, 100))
    assert high == pytest.approx((0, 500 - 200 / 3, 100, 500 + 200 / 3))


def test_the_centre_crop_keeps_its_share_of_the_shorter_side():
    assert centre_box(40, 20, 1.0) == (10, 0, 30, 20)
    assert centre_box(20, 40, 0.5) == (5, 15, 15, 25)
    settings = ImageSettings(centre=0.5, least_area=0.3)
    assert settings.choose(20, 40, None) == (5, 15, 15, 25), "held out"
    assert settings.choose(20, 40, 3) == random_box(20, 40, 0.3, 3) != random_box(20, 40, 0.3, 4)
    assert ImageSettings(centre=0.5).choose(20, 40, 3) == (5, 15, 15, 25), "no random crop was asked for"


def test_a_large_jpeg_is_decoded_small_and_cut_at_the_right_place(tmp_path):
    rows, columns = np.mgrid[:1201, :1600]
    smooth = np.stack([columns // 8, rows // 8, columns // 16], axis=2).astype(np.uint8)
    Image.fromarray(smooth).save(tmp_path / "x.jpg", quality=98)
    for box in ((0, 0, 1600, 1201), (800, 600.5, 1600, 1201), (100, 300, 700, 900)):
        with open_image(tmp_path / "x.jpg", "x") as image:
            pixels = cut(image, box, 40).float()
            assert image.size != (1600, 1201), "decoded smaller"
        left, top, right, bottom = box
        for i in (0, 17, 39):
            across, down = left + (i + 0.5) * (right - left) / 40, top + (i + 0.5) * (bottom - top) / 40
            assert abs(pixels[0, 20, i] - across / 8) < 2 and abs(pixels[1, i, 20] - down / 8) < 2


def test_boxes_fit_images_of_any_size(tmp_path):
    draw = np.random.default_rng(0)
    for seed, (width, height) in enumerate(draw.integers(1, 300, size=(100, 2)).tolist()):
        Image.new("RGB", (width, height)).save(tmp_path / "x.jpg")
        for box in (random_box(width, height, 0.08, seed), centre_box(width, height, 0.875)):
            with open_image(tmp_path / "x.jpg", "x") as image:
                assert cut(image, box, 13).shape == (3, 13, 13)


def test_crops_change_with_the_epoch_and_not_with_workers_shards_or_where_a_run_starts(image_folder):
    settings = ImageSettings(size=9, least_area=0.2, workers=2)
    batches = training(ImageFolder(image_folder, settings), 5, size=5)
    alone = ImageFolder(image_folder, ImageSettings(size=9, least_area=0.2, workers=0))
    for found, expected in zip(training(alone, 3, size=5, start=2), batches[2:], strict=True):
        assert torch.equal(found.image, expected.image) and torch.equal(found.label, expected.label)
    shown = [{str(image.tolist()) for batch in batches[i : i + 2] for image in batch.image} for i in (0, 2)]
    assert len(shown[0]) == len(shown[1]) == 10 and not shown[0] & shown[1]
    assert batches[0].image.dtype == torch.uint8 and alone.mean == (0.485, 0.456, 0.406)
    plain = ImageFolder(image_folder, ImageSettings(size=9, workers=0))
    shown = [{str(image.tolist()) for batch in training(plain, 2, 5, i) for image in batch.image} for i in (0, 2)]
    assert shown[0] == shown[1], "without random crops, every epoch shows the same"


def test_every_image_of_an_epoch_is_cropped_in_its_own_way(image_folder):
    for path in (image_folder / "train").glob("*/*"):
        Image.fromarray(NOISE).save(path, "PNG")
    batch = training(ImageFolder(image_folder, ImageSettings(size=9, least_area=0.2, workers=0)), 1, size=10)[0]
    assert len({str(image.tolist()) for image in batch.image}) == 10


@pytest.mark.parametrize("workers", [0, 2])
def test_damage_inside_is_fatal_or_skipped_and_named(image_folder, workers):
    paths = [image_folder / "train" / "blue" / "4.JPG", image_folder / "val" / "red" / "0.JPG"]
    [break_inside(path) for path in paths]
    data = ImageFolder(image_folder, ImageSettings(size=8, workers=workers))
    with pytest.raises(DamagedImage, match=r"^\S*blue.4\.JPG is not a whole image: [^\n]*$"):
        training(data, 3)
    with pytest.raises(DamagedImage, match=r"^\S*red.0\.JPG is not a whole image"):
        list(data.held_out(3))
    data = ImageFolder(image_folder, ImageSettings(size=8, workers=workers, corrupt="skip"))
    assert data.damaged == []
    shown = training(data, 6, size=5)
    assert data.damaged == [str(paths[0])], "once, however often it was met"
    for epoch in (0, 2, 4):
        labels = torch.cat([batch.label for batch in shown[epoch : epoch + 2]])
        images = torch.cat([batch.image for batch in shown[epoch : epoch + 2]]).float()
        assert labels.tolist().count(1) == 6, "the next of the list, a red one, with its label, takes its place"
        assert ((images[:, 0] > images[:, 2]).float().mean(dim=(1, 2)).round() == labels).all()
    held_out = list(data.held_out(3))
    assert [len(batch.label) for batch in held_out] == [2, 1] and held_out[1].label.tolist() == [1]
    assert data.damaged == [str(path) for path in paths]


def test_the_last_image_of_the_list_is_replaced_by_the_first(image_folder):
    break_inside(image_folder / "train" / "red" / "4.JPG")
    data = ImageFolder(image_folder, SKIP)
    assert torch.cat([batch.label for batch in training(data, 2, size=5)]).tolist().count(0) == 6


def test_a_split_of_damaged_images_is_refused(image_folder):
    for path in (image_folder / "val").glob("*/*"):
        break_inside(path)
    data = ImageFolder(image_folder, SKIP)
    for size, shard in ((3, Shard()), (1, Shard(1, 2)), (1, Shard(5, 6))):
        with pytest.raises(ValueError, match=r"all 4 held-out images are damaged, the first: .*blue.0\.JPG is"):
            list(data.held_out(size, shard))
    for path in (image_folder / "train").glob("*/*"):
        break_inside(path)
    with pytest.raises(ValueError, match="all 10 train images are damaged"):
        training(ImageFolder(image_folder, SKIP), 1)
    for path in (image_folder / "train").glob("*/*"):
        path.write_bytes(b"")
    with pytest.raises(ValueError, match=r"all images in data folder .*train are damaged, the first: .*blue.0.JPG"):
        ImageFolder(image_folder, SKIP)


def test_a_shard_whose_images_are_damaged_shows_none_while_others_do(image_folder):
    for i, path in enumerate(sorted((image_folder / "val").glob("*/*"))):
        if i % 2:
            break_inside(path)
    data = ImageFolder(image_folder, SKIP)
    assert list(data.held_out(1, Shard(1, 2))) == [] and len(data.damaged) == 2


def test_classes_may_have_readable_names(image_folder):
    names = image_folder / "classes.txt"
    names.write_text("red\tdeep red\nblue\tsky blue\n", encoding="utf-8")
    assert ImageFolder(image_folder, SKIP).classes == ["sky blue", "deep red"], "in the order of the folders"
    for text, message in (
        ("red\tr\n", "missing blue; extra none"),
        ("red\tr\nblue\tb\ngreen\tg\n", "missing none; extra green"),
        ("red\tr\nblue\tb\nblue\tc\n", "has 3 lines for 2 folders"),
        ("red r\nblue\tb\n", "must hold lines of a folder, a tab and a name, but one is 'red r'"),
    ):
        names.write_text(text)
        with pytest.raises(ValueError, match=message):
            ImageFolder(image_folder, SKIP)


def test_what_would_be_lost_in_silence_is_refused(image_folder):
    deep = image_folder / "train" / "red" / "deep.png"
    Image.fromarray(np.arange(64, dtype=np.uint16).reshape(8, 8) * 999).save(deep)
    told = r"deep\.png is not a whole image: its mode I;16 has more than 8 bits .*: convert it"
    with pytest.raises(DamagedImage, match=told), open_image(deep, str(deep)):
        pass
    with Image.open(deep) as image:
        image.convert("RGB").save(deep)
    with open_image(deep, str(deep)) as image:
        assert image.mode == "RGB", "as that error says"
    deep.unlink()
    Image.fromarray(NOISE).save(deep)
    deep.rename(deep.with_name("._deep.png"))  # hidden, as macOS leaves them
    assert ImageFolder(image_folder, SKIP).count == 10
