import gzip
import itertools
import struct
from pathlib import Path

import labelled
import numpy as np
import pytest
import torch

from bra.data import (
    WHOLE,
    Arrays,
    CocoObjects,
    DenseSettings,
    ImageFolder,
    ImageSettings,
    RecallBoards,
    Shard,
    base,
    derive_seed,
    fashion_mnist,
    normalise,
    open_data,
    own_masks,
    read_idx,
)
from bra.data.recall import Recall

CROPPED = ImageSettings(size=7, least_area=0.3, workers=0)
DEBIAN = Path("/usr/share/datasets/fashion-mnist")


def write_idx(path, array, magic=b"\0\0\x08", cut=None):
    head = magic + bytes([array.ndim]) + struct.pack(f">{array.ndim}I", *array.shape)
    path.write_bytes(gzip.compress((head + array.tobytes())[:cut]))


@pytest.fixture
def fashion(tmp_path):
    """A folder laid out as Fashion-MNIST: 30 training and 20 test images of 6 x 5 pixels."""
    draw = np.random.default_rng(0)
    for split, count in (("train", 30), ("t10k", 20)):
        write_idx(tmp_path / f"{split}-images-idx3-ubyte.gz", draw.integers(256, size=(count, 6, 5), dtype=np.uint8))
        write_idx(tmp_path / f"{split}-labels-idx1-ubyte.gz", draw.integers(10, size=count, dtype=np.uint8))
    return tmp_path


def first(data, count, start=0, size=4, seed=1, shard=WHOLE):
    return list(itertools.islice(data.training(size, seed, start, shard), count))


def as_tuples(batches):
    return [tuple(map(torch.Tensor.tolist, batch)) for batch in batches]


def named(name, request):
    """The data set of each kind."""
    if name == "recall":
        return RecallBoards(Recall())
    if name == "fashion":
        return fashion_mnist(request.getfixturevalue("fashion"))
    if name == "masks":
        labelled.write_masks(request.getfixturevalue("tmp_path"), held_out=labelled.SIZES)
        return own_masks(request.getfixturevalue("tmp_path"), DenseSettings(size=19, workers=0))
    if name == "coco":  # images alike in size and number of objects: so their batches are, too
        objects = {split: [labelled.OBJECTS[0]] * 7 for split in ("train", "val")}
        labelled.write_coco(request.getfixturevalue("tmp_path"), [(61, 47)] * 7, [(61, 47)] * 7, objects)
        return CocoObjects(request.getfixturevalue("tmp_path"), DenseSettings(workers=0))
    return ImageFolder(request.getfixturevalue("image_folder"), CROPPED)


@pytest.mark.parametrize("name", ["recall", "fashion", "folder", "masks", "coco"])
def test_batches_are_a_function_of_seed_and_step(name, request):
    data = named(name, request)
    whole = as_tuples(first(data, 19))  # over several epochs
    assert all(a != b for a, b in itertools.pairwise(whole))
    assert as_tuples(first(data, 4, start=15)) == whole[15:]
    assert as_tuples(first(data, 2, seed=2)) != whole[:2]


def test_every_epoch_shows_every_image_once_in_another_order():
    pixels = torch.arange(20, dtype=torch.uint8).view(20, 1, 1, 1)
    labels = torch.arange(20) % 3
    batches = first(Arrays(pixels, labels, pixels, labels, ["a", "b", "c"]), 10)
    shown = [[v.item() for v in torch.cat([b.image for b in epoch]).flatten()] for epoch in
             (batches[:5], batches[5:])]  # fmt: skip
    assert sorted(shown[0]) == sorted(shown[1]) == list(range(20)) and shown[0] != shown[1]
    for batch in batches:
        assert torch.equal(batch.label, batch.image.flatten().long() % 3)


def test_held_out_shows_every_image_once_however_it_is_cut():
    data = RecallBoards(Recall(), held_out_count=520)
    cuts = [list(data.held_out(size)) for size in (7, 256, 1000)]
    assert [len(b.label) for b in cuts[1]] == [256, 256, 8]
    whole = [torch.cat([b.image for b in cut]) for cut in cuts]
    assert len(whole[0]) == 520
    assert torch.equal(whole[0], whole[1])
    assert torch.equal(whole[0], whole[2])
    assert not torch.equal(whole[0][:256], whole[0][256:512]), "no board is held out twice"
    pixels = torch.arange(10, dtype=torch.uint8).view(10, 1, 1, 1)
    arrays = Arrays(pixels, torch.arange(10), pixels, torch.arange(10), list("abcdefghij"))
    assert torch.cat([b.label for b in arrays.held_out(4)]).tolist() == list(range(10))


@pytest.mark.parametrize("name", ["recall", "fashion", "folder", "masks", "coco"])
def test_shards_together_are_the_whole_batch(name, request):
    data = named(name, request)
    whole = as_tuples(first(data, 5, size=6, start=2))
    for of in (2, 3):
        parts = [as_tuples(first(data, 5, size=6, start=2, shard=Shard(rank, of))) for rank in range(of)]
        joined = [
            tuple([*itertools.chain(*values)] for values in zip(*batches, strict=True))
            for batches in zip(*parts, strict=True)
        ]
        assert joined == whole
    with pytest.raises(ValueError, match="size must be a multiple of the number of shards, 3, but is 4"):
        first(data, 1, size=4, shard=Shard(0, 3))


@pytest.mark.parametrize("name", ["recall", "fashion", "folder", "masks", "coco"])
@pytest.mark.parametrize(("size", "of"), [(3, 1), (2, 3), (300, 7)])
def test_shards_together_hold_out_every_image_once(name, size, of, request):
    data = named(name, request)
    if name == "recall":
        data = RecallBoards(Recall(), held_out_count=257)  # the last part has one board
    image = lambda batches: [str(pixels.tolist()) for batch in batches for pixels in batch.image]  # noqa: E731
    parts = [list(data.held_out(size, Shard(rank, of))) for rank in range(of)]
    assert all(0 < len(batch.label) <= size for part in parts for batch in part)
    lengths = [sum(len(batch.label) for batch in part) for part in parts]
    assert sum(lengths) == data.held_out_count and max(lengths) - min(lengths) <= 1
    assert sorted(image(itertools.chain(*parts))) == sorted(image(data.held_out(size)))


def test_normalising_leaves_recorded_results_as_they_are():
    pixels = torch.arange(256, dtype=torch.uint8).repeat(3).view(2, 3, 16, 8)
    assert torch.equal(normalise(pixels), pixels / 127.5 - 1), "bit for bit"
    mean, std = (0.1, 0.2, 0.3), (0.4, 0.5, 0.7)
    found = normalise(pixels, mean, std)
    for channel in range(3):
        expected = (pixels[:, channel].double() / 255 - mean[channel]) / std[channel]
        torch.testing.assert_close(found[:, channel].double(), expected, atol=1e-6, rtol=1e-6)
    floats = torch.rand(1, 3, 2, 2)
    assert normalise(floats, mean, std) is floats


def test_held_out_boards_are_the_same_for_every_seed_and_not_those_of_training():
    data = RecallBoards(Recall())
    held_out = next(data.held_out(4))
    assert torch.equal(held_out.image, next(data.held_out(4)).image)
    assert not torch.equal(held_out.image, first(data, 1, seed=0)[0].image)


def test_seeds_of_different_purposes_differ():
    assert (
        len({derive_seed("a", 1, 23), derive_seed("a", 12, 3), derive_seed("b", 1, 23), derive_seed("a", 1, 24)}) == 4
    )
    assert derive_seed("weights", 0) == derive_seed("weights", 0)


def test_fashion_mnist_reads_what_was_written(fashion):
    data = fashion_mnist(fashion)
    draw = np.random.default_rng(0)
    assert (data.pixels[:, 0, 2:-2, 2:-2].numpy() == draw.integers(256, size=(30, 6, 5), dtype=np.uint8)).all()
    assert data.pixels.sum() == data.pixels[:, :, 2:-2, 2:-2].sum(), "the border must be black"
    assert (data.labels.numpy() == draw.integers(10, size=30, dtype=np.uint8)).all()
    assert data.held_out_pixels.shape == (20, 1, 10, 9) and data.channels == 1 and len(data.classes) == 10
    image = next(data.held_out(20)).image
    assert image.dtype == torch.uint8 and image.min() < 10 and image.max() > 245 and data.mean == data.std == (0.5,)
    assert data.held_out_count == 20 and data.damaged == []


@pytest.mark.skipif(not DEBIAN.exists(), reason="Debian's package dataset-fashion-mnist is not installed")
def test_fashion_mnist_reads_the_real_files():
    data = fashion_mnist(DEBIAN)
    assert data.pixels.shape == (60_000, 1, 32, 32) and data.held_out_pixels.shape == (10_000, 1, 32, 32)
    assert data.labels.bincount().tolist() == [6000] * 10


def test_idx_files_that_are_damaged_are_refused_by_name(tmp_path):
    path, array = tmp_path / "x.gz", np.zeros((3, 4, 5), np.uint8)
    write_idx(path, array, magic=b"\0\0\x0d")
    with pytest.raises(ValueError, match=r"x\.gz must begin with the IDX magic 00000803, but begins with 00000d03"):
        read_idx(path, 3)
    write_idx(path, array[0])
    with pytest.raises(ValueError, match=r"x\.gz must begin with the IDX magic"):
        read_idx(path, 3)
    write_idx(path, array, cut=-7)
    with pytest.raises(ValueError, match=r"x\.gz must hold 60 bytes as its header says, but holds 53"):
        read_idx(path, 3)
    write_idx(path, array, cut=9)
    with pytest.raises(ValueError, match=r"x\.gz"):
        read_idx(path, 3)
    path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes()) + bytes(100)))
    with pytest.raises(ValueError, match=r"x\.gz must hold"):
        read_idx(path, 3)
    for shape in ((0, 4, 5), (40, 0, 0)):
        write_idx(path, np.zeros(shape, np.uint8))
        with pytest.raises(ValueError, match=r"x\.gz must hold 1 to \d+ bytes, but its header says"):
            read_idx(path, 3)
    path.write_bytes(gzip.compress(b"\0\0\x08\x03" + b"\xff" * 12))
    with pytest.raises(ValueError, match=r"x\.gz must hold 1 to \d+ bytes, but its header says"):
        read_idx(path, 3)
    write_idx(path, array)
    body = path.read_bytes()
    path.write_bytes(body[:10] + b"\xff" + body[11:])
    with pytest.raises(ValueError, match=r"x\.gz is not a whole gzip file"):
        read_idx(path, 3)
    write_idx(path, array)
    path.write_bytes(path.read_bytes()[:-9])
    with pytest.raises(ValueError, match=r"x\.gz is not a whole gzip file"):
        read_idx(path, 3)
    path.write_bytes(b"hello")
    with pytest.raises(ValueError, match=r"x\.gz is not a whole gzip file"):
        read_idx(path, 3)
    with pytest.raises(FileNotFoundError, match=r"y\.gz"):
        read_idx(tmp_path / "y.gz", 3)


def test_fashion_mnist_refuses_labels_that_do_not_fit(fashion):
    for labels in (np.zeros(29, np.uint8), np.full(30, 10, np.uint8)):
        write_idx(fashion / "train-labels-idx1-ubyte.gz", labels)
        with pytest.raises(ValueError, match="train must have a label of 0 to 9 for each of its 30 images"):
            fashion_mnist(fashion)


@pytest.mark.parametrize(
    ("count", "size", "parts", "message"),
    [
        (1, 1, 1, "data must hold at least 2 training images, but holds 1$"),
        (1, 2, 1, "data must hold at least 2 training images, but holds 1$"),
        (5, 5, 3, r"at least 6 training images for batches in 3 parts \(processes x accumulate\), but holds 5$"),
        (5, 6, 3, r"at least 6 training images for batches in 3 parts \(processes x accumulate\), but holds 5$"),
        (7, 1, 1, "batch must be a multiple of processes x accumulate, 1, at least twice, but is 1$"),
        (7, 3, 3, "batch must be a multiple of processes x accumulate, 3, at least twice, but is 3$"),
        (9, 8, 3, "batch must be a multiple of processes x accumulate, 3, at least twice, but is 8$"),
        (7, 8, 1, "batch must be at most the number of training images, 7, but is 8$"),
    ],
)
def test_batches_that_cannot_be_are_refused(count, size, parts, message):
    pixels = torch.zeros(count, 1, 5, 3, dtype=torch.uint8)
    data = Arrays(pixels, torch.arange(count), pixels, torch.arange(count), ["a"])
    with pytest.raises(ValueError, match=message):
        data.require_batch(size, parts)


@pytest.mark.parametrize("count", range(2, 9))
@pytest.mark.parametrize("parts", [1, 2, 3])
def test_where_a_batch_is_refused_another_is_allowed_or_none_is(count, parts):
    """No two limits exclude each other: what is said of the batch can be followed."""
    pixels = torch.zeros(count, 1, 5, 3, dtype=torch.uint8)
    data, allowed, said = Arrays(pixels, torch.arange(count), pixels, torch.arange(count), ["a"]), [], []
    for size in range(1, 12):
        try:
            data.require_batch(size, parts)
            allowed.append(size)
        except ValueError as error:
            said.append(str(error))
    assert allowed == [size for size in range(2 * parts, count + 1) if size % parts == 0]
    assert all(text.startswith("batch" if allowed else "data") for text in said)


@pytest.mark.parametrize(
    ("cells", "size", "memory", "message"),
    [
        (
            4,
            10**9,
            24e9,
            r"memory, 24\.0 GB, but 1000000000 images at once take 12,288\.0 GB: .* or a smaller --batch$",
        ),
        (10_000, 128, 24e9, r"memory, 24\.0 GB, but 256 images at once take 19,660\.8 GB: give smaller .*cells\)$"),
        (600, 2, 24e9, r"memory, 24\.0 GB, but 256 images at once take 70\.8 GB: give smaller .*cells\)$"),
        (4, 257, 3_158_000.0, "257 images at once"),
    ],
)
def test_boards_that_no_memory_holds_are_refused(cells, size, memory, message, monkeypatch):
    monkeypatch.setattr(base, "machine_memory", lambda: memory)
    data = RecallBoards(Recall(cells=cells))
    with pytest.raises(ValueError, match=message):
        data.require_batch(size)
    RecallBoards(Recall()).require_batch(256)


def test_what_an_image_takes_is_what_it_takes_in_a_batch(fashion, image_folder, monkeypatch):
    for data in (RecallBoards(Recall(cells=3)), fashion_mnist(fashion), ImageFolder(image_folder, CROPPED)):
        assert data.image_bytes == next(data.held_out(1)).image.nbytes
    assert 1e8 < base.machine_memory() < 1e15
    monkeypatch.delattr("os.sysconf")
    assert base.machine_memory() == float("inf")


@pytest.mark.parametrize("kind", ["folder", "fashion-mnist"])
def test_the_home_folder_may_be_written_as_a_tilde(kind, request, tmp_path, monkeypatch):
    request.getfixturevalue("fashion" if kind == "fashion-mnist" else "image_folder")
    monkeypatch.setenv("HOME", str(tmp_path.parent))
    monkeypatch.setenv("USERPROFILE", str(tmp_path.parent))
    assert open_data(f"{kind}:~/{tmp_path.name}", Recall(), ImageSettings(size=8)).count in (10, 30)


def test_says_which_names_are_allowed():
    for name in ("cifar", "recall:x", "folder:", "fashion-mnist", "hf:", "coco:", "masks"):
        allowed = (
            "recall, recall-pixels, recall-boxes, fashion-mnist:FOLDER, folder:FOLDER, hf:NAME, masks:FOLDER, "
            "ade20k:FOLDER or coco:FOLDER"
        )
        with pytest.raises(ValueError, match=f"data must be {allowed}, but is '{name}'"):
            open_data(name, Recall(), ImageSettings())
