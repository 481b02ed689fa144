import itertools

import labelled
import numpy as np
import pytest
import torch
from PIL import ExifTags, Image

from bra.data import DamagedImage, DenseSettings, ImageSettings, Pixels, Shard, ade20k, open_data, own_masks
from bra.data.masks import ade20k_names
from bra.data.recall import Recall

SETTINGS = DenseSettings(size=41, workers=0)
SKIP = DenseSettings(size=41, workers=0, corrupt="skip")


@pytest.fixture
def folder(tmp_path):
    labelled.write_masks(tmp_path)
    return tmp_path


def training(data, count, size=4, start=0, seed=1, shard=Shard()):  # noqa: B008
    return list(itertools.islice(data.training(size, seed, start, shard), count))


def cut_short(path):
    path.write_bytes(path.read_bytes()[:-30])


def break_inside(path):
    """Damage that its last bytes do not show."""
    whole = path.read_bytes()
    path.write_bytes(whole[:60] + bytes(len(whole) - 100) + whole[-40:])


def test_an_image_and_its_label_are_scaled_cut_and_mirrored_together(folder):
    """The image's colours tell the class of each pixel; near edges they mix."""
    batches = training(own_masks(folder, SETTINGS), 40, size=7)
    compared = 0
    for batch in batches:
        assert batch.image.shape == (7, 3, 41, 41) and batch.image.dtype == torch.uint8
        assert batch.label.shape == (7, 41, 41) and batch.label.dtype == torch.int64
        for image, label in zip(batch.image, batch.label.numpy(), strict=True):
            inside = labelled.inner(label, 2) & (label != labelled.IGNORED)
            assert (labelled.classes_of(image)[inside] == label[inside]).all()
            compared += inside.sum()
    assert compared > 40 * 7 * 41 * 41 / 10


def test_about_half_of_the_crops_are_mirrored(folder):
    for kind in ("images", "annotations"):
        for path in (folder / kind / "train").iterdir():
            label = np.repeat([[0, 1]], 20, axis=1).repeat(41, axis=0).astype(np.uint8)
            Image.fromarray(label if kind == "annotations" else labelled.painted(label)).save(path)
    plain = DenseSettings(size=40, scales=(1.0, 1.0), workers=0)
    batches = training(own_masks(folder, plain), 9, size=7)
    mirrored = torch.cat([batch.label[:, 0, 0] for batch in batches])
    assert 20 < mirrored.sum() < 43
    still = own_masks(folder, DenseSettings(size=40, scales=(1.0, 1.0), workers=0, flip=False))
    assert not any(batch.label[:, :, :20].any() for batch in training(still, 9, size=7))


def test_training_shows_every_class_and_pixels_without_one(folder):
    labels = torch.cat([batch.label for batch in training(own_masks(folder, SETTINGS), 3, size=7)])
    assert labels.unique().tolist() == [0, 1, 2, 3, 4, labelled.IGNORED]


def test_held_out_images_are_whole_and_alone_and_their_labels_as_they_were_annotated(folder):
    data = open_data(f"masks:{folder}", Recall(), ImageSettings(), SETTINGS)
    labels = labelled.write_masks(folder / "again")["val"]
    assert (data.count, data.held_out_count, data.channels) == (7, 3, 3)
    assert data.classes == ["wall", "floor", "lamp", "door", "cat"] and data.damaged == []
    batches = list(data.held_out(16))
    assert len(batches) == 3 and all(isinstance(batch, Pixels) for batch in batches)
    for batch, label, scaled in zip(batches, labels, [(41, 53), (53, 41), (41, 69)], strict=True):
        assert np.array_equal(batch.label[0], label) and batch.image.shape == (1, 3, *scaled)
        middles = (np.arange(scaled[0])[:, None] + 0.5) / scaled[0], (np.arange(scaled[1]) + 0.5) / scaled[1]
        rows, columns = (np.floor(m * side).astype(int) for m, side in zip(middles, label.shape, strict=True))
        inside = labelled.inner(label, 2)[rows, columns]
        assert inside.sum() > 500 and (labelled.classes_of(batch.image[0]) == label[rows, columns])[inside].all()


def test_ade20k_counts_from_one_and_nothing_is_no_label(tmp_path):
    labels = labelled.write_masks(tmp_path, splits=("training", "validation"), shift=1)
    data = open_data(f"ade20k:{tmp_path}", Recall(), ImageSettings(), SETTINGS)
    for batch, label in zip(data.held_out(1), labels["validation"], strict=True):
        assert np.array_equal(batch.label[0], label) and labelled.IGNORED in label
    assert len(data.classes) == 150 and data.classes[::149] == ["class 1", "class 150"]
    mask = tmp_path / "annotations" / "validation" / "0.png"
    Image.fromarray(np.full((47, 61), 150, np.uint8)).save(mask)
    assert next(data.held_out(1)).label.unique().tolist() == [149]
    Image.fromarray(np.full((47, 61), 151, np.uint8)).save(mask)
    allowed = r"0\.png must hold 1 to 150 for its classes, or 0 for pixels without a label, but holds 151$"
    with pytest.raises(ValueError, match=allowed):
        next(data.held_out(1))


def test_ade20k_names_its_classes_in_a_table(tmp_path):
    path = tmp_path / "objectInfo150.txt"
    lines = [f"{i + 1}\t0.1\t7\t5\tthing{i} , other name" for i in range(150)]
    path.write_text("\n".join(["Idx\tRatio\tTrain\tVal\tName", *lines]) + "\n")
    assert ade20k_names(path) == [f"thing{i}" for i in range(150)]
    path.write_text("\n".join(lines))
    with pytest.raises(ValueError, match=r"Info150\.txt must name 150 classes below its head, but names 149"):
        ade20k_names(path)


def test_crops_change_with_the_epoch_and_not_with_workers_shards_or_where_a_run_starts(folder):
    data = own_masks(folder, DenseSettings(size=23, workers=2))
    whole = training(data, 5, size=6)
    alone = own_masks(folder, DenseSettings(size=23, workers=0))
    parts = [training(alone, 3, size=6, start=2, shard=Shard(rank, 3)) for rank in range(3)]
    for i, expected in enumerate(whole[2:]):
        for name in Pixels._fields:
            assert torch.equal(torch.cat([getattr(part[i], name) for part in parts]), getattr(expected, name))
    shown = [str(image.tolist()) for batch in whole for image in batch.image]
    assert len(set(shown)) == 30, "an image is cut in another way in every epoch"
    other = {str(image.tolist()) for image in training(alone, 1, size=7, seed=2)[0].image}
    assert not other & {str(image.tolist()) for image in training(alone, 1, size=7)[0].image}, "and for every seed"


@pytest.mark.parametrize("of", [1, 2])
def test_shards_hold_out_every_image_once(folder, of):
    data = own_masks(folder, SETTINGS)
    shown = [str(batch.label.tolist()) for rank in range(of) for batch in data.held_out(2, Shard(rank, of))]
    assert sorted(shown) == sorted(str(batch.label.tolist()) for batch in data.held_out(2)) and len(set(shown)) == 3


def test_what_an_image_takes_is_what_it_takes_in_a_batch(folder):
    data = own_masks(folder, SETTINGS)
    assert data.image_bytes * 3 == sum(part.nbytes for part in training(data, 1, size=3)[0])
    assert data.steps == 100 and (data.mean, data.std) == ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225))
    with pytest.raises(ValueError, match="batch must be at most the number of training images, 7, but is 8"):
        data.require_batch(8)


def test_palettes_are_read_as_numbers(folder):
    path = folder / "annotations" / "val" / "1.png"
    with Image.open(path) as mask:
        expected = np.array(mask)
    coloured = Image.fromarray(expected).convert("P")
    coloured.putdata(expected.ravel().tolist())
    coloured.putpalette([17 * i % 256 for i in range(768)])
    coloured.save(path)
    assert np.array_equal(list(own_masks(folder, SETTINGS).held_out(1))[1].label[0], expected)


@pytest.mark.parametrize("suffix", [".png", ".jpg"])
def test_a_photograph_that_lies_on_its_side_is_turned_and_its_mask_is_not(folder, suffix):
    """A camera's note: the mask was drawn on what people see."""
    path, label = folder / "images" / "val" / "0.png", labelled.cells(61, 47, np.random.default_rng(5))
    Image.fromarray(label).save(folder / "annotations" / "val" / "0.png")
    note = Image.Exif()
    note[ExifTags.Base.Orientation] = 6
    lying = Image.fromarray(labelled.painted(label)).transpose(Image.Transpose.ROTATE_90)
    path.unlink()
    lying.save(path.with_suffix(suffix), exif=note, quality=100, subsampling=0)
    batch = next(own_masks(folder, DenseSettings(size=47, workers=0)).held_out(1))
    inside = labelled.inner(label, 1)
    assert (labelled.classes_of(batch.image[0]) == label)[inside].all() and inside.sum() > 900


def test_a_mask_of_another_size_is_refused_before_training(folder):
    path = folder / "annotations" / "val" / "1.png"
    for size in ((61, 47), (47, 60)):
        Image.new("L", size).save(path)
        Image.new("RGB", (47, 61)).save(folder / "images" / "val" / "1.jpg")
        (folder / "images" / "val" / "1.png").unlink(missing_ok=True)
        sizes = f"{size[0]} x {size[1]}"
        with pytest.raises(
            ValueError, match=rf"1\.png must be as large as its image upright, 47 x 61, but is {sizes}$"
        ):
            own_masks(folder, SKIP)


def test_a_mask_that_only_the_pixels_show_to_lie_is_refused_when_it_is_read(folder):
    path = folder / "annotations" / "val" / "0.png"
    Image.new("L", (47, 61)).save(path)  # the image, a PNG, might bear a note that turns it
    for workers in (0, 1):
        data = own_masks(folder, DenseSettings(size=41, workers=workers, corrupt="skip"))
        with pytest.raises(ValueError, match=r"^\S*0\.png must be as large as its image upright, 61 x 47, but is 47 x"):
            next(data.held_out(1))


@pytest.mark.parametrize("workers", [0, 2])
def test_numbers_that_are_no_class_are_refused_in_one_line(folder, workers):
    path = folder / "annotations" / "train" / "3.png"
    pixels = np.zeros((59, 53), np.uint8)
    pixels[7, 11] = 5
    Image.fromarray(pixels).save(path)
    data = own_masks(folder, DenseSettings(size=41, workers=workers, corrupt="skip"))
    allowed = "0 to 4 for its classes, or 255 for pixels without a label"
    with pytest.raises(ValueError, match=rf"^\S*train.3\.png must hold {allowed}, but holds 5$") as caught:
        training(data, 2, size=7)
    assert not isinstance(caught.value, DamagedImage)


@pytest.mark.parametrize("mode", ["RGB", "I;16", "1", "LA"])
def test_masks_of_other_pixels_than_bytes_are_refused(folder, mode):
    path = folder / "annotations" / "train" / "2.png"
    Image.new(mode, (89, 53)).save(path)
    with pytest.raises(ValueError, match=rf"2\.png must be a mask of one byte a pixel, .* but its mode is {mode}$"):
        own_masks(folder, SKIP)


def test_images_and_masks_come_in_pairs(folder):
    images, masks = folder / "images" / "train", folder / "annotations" / "train"
    (masks / "2.png").rename(masks / "x.png")
    with pytest.raises(
        ValueError, match=r"annotations.train must hold one mask .*, but lacks 1, the first for 2\.png$"
    ):
        own_masks(folder, SKIP)
    (images / "2.png").unlink()
    with pytest.raises(ValueError, match=r"images.train must hold one image .*, but lacks 1, the first for x\.png$"):
        own_masks(folder, SKIP)
    (masks / "x.png").rename(masks / "3.jpg")
    with pytest.raises(ValueError, match=r"train must not hold both 3\.jpg and 3\.png"):
        own_masks(folder, SKIP)
    (masks / "3.png").unlink()
    with pytest.raises(ValueError, match=r"masks must be PNG files, but one is .*3\.jpg$"):
        own_masks(folder, SKIP)
    for path in masks.iterdir():
        path.unlink()
    with pytest.raises(ValueError, match=r"annotations.train holds no image$"):
        own_masks(folder, SKIP)
    with pytest.raises(FileNotFoundError, match=r"data folder .*images.training does not exist$"):
        ade20k(folder, SKIP)


def test_classes_are_named_one_a_line(folder):
    names = folder / "classes.txt"
    for text, message in (
        ("", "1 to 255 classes, one a line, but has 0 lines"),
        ("a\n\nb\n", "one a line, but line 2 is empty"),
        ("a\n" * 256, "but has 256 lines"),
    ):
        names.write_text(text)
        with pytest.raises(ValueError, match=rf"classes\.txt must name .*{message}$"):
            own_masks(folder, SKIP)
    names.unlink()
    with pytest.raises(FileNotFoundError, match=r"classes\.txt must name the classes, one a line, but does not exist$"):
        own_masks(folder, SKIP)


@pytest.mark.parametrize("kind", ["images", "annotations"])
def test_damaged_files_are_fatal_or_skipped_and_named(folder, kind):
    cut_short(folder / kind / "train" / "2.png")
    with pytest.raises(DamagedImage, match=rf"{kind}.train.2\.png is not a whole image"):
        own_masks(folder, SETTINGS)
    data = own_masks(folder, SKIP)
    assert data.count == 6 and data.damaged == [str(folder / "images" / "train" / "2.png")]
    break_inside(folder / kind / "train" / "3.png")
    break_inside(folder / kind / "val" / "0.png")
    data = own_masks(folder, SKIP)
    assert len(training(data, 2, size=6)[1].label) == 6 and len(list(data.held_out(1))) == 2
    assert data.damaged == [str(folder / "images" / name) for name in ("train/2.png", "train/3.png", "val/0.png")]
    for path in (folder / kind / "val").iterdir():
        cut_short(path)
    with pytest.raises(DamagedImage, match=r"all val images are damaged, the first: .*val.0\.png is not a whole image"):
        own_masks(folder, SKIP)
