"""Small data sets whose pixels and objects are labelled: colours encode the classes, so that both can be compared."""

import json

import numpy as np
from PIL import Image

CLASSES, IGNORED = 5, 255
COLOURS = np.array([(0, 0, 0), (255, 0, 0), (0, 255, 0), (0, 0, 255), (255, 255, 0), (255, 0, 255)], np.uint8)
SIZES = [(61, 47), (47, 61), (89, 53), (53, 59), (67, 83), (43, 43), (71, 101)]  # width, height
COLOUR_OF = {1: (255, 0, 0), 2: (0, 255, 0), 3: (0, 0, 255)}  # of objects, by label


def cells(width, height, draw, high=CLASSES + 1):
    """A label of cells, 13 x 11 pixels each, of random classes; the class behind the last one is IGNORED."""
    values = draw.integers(high, size=(-(-height // 11), -(-width // 13)))
    label = values.repeat(11, axis=0).repeat(13, axis=1)[:height, :width]
    return np.where(label == CLASSES, IGNORED, label).astype(np.uint8)


def painted(label):
    """The image of a label."""
    return COLOURS[np.where(label == IGNORED, CLASSES, label)]


def classes_of(image):
    """The class of each pixel (3 h w) by its nearest colour."""
    distance = np.abs(image.permute(1, 2, 0).numpy().astype(int)[:, :, None] - COLOURS).sum(axis=3)
    found = distance.argmin(axis=2)
    return np.where(found == CLASSES, IGNORED, found)


def inner(label, reach):
    """Where all pixels so far around, and the border, are of the same class."""
    same = np.zeros(label.shape, bool)
    same[reach : label.shape[0] - reach, reach : label.shape[1] - reach] = True
    for y in range(-reach, reach + 1):
        for x in range(-reach, reach + 1):
            same &= np.roll(label, (y, x), axis=(0, 1)) == label
    return same


def write_masks(folder, sizes=SIZES, held_out=SIZES[:3], splits=("train", "val"), shift=0):
    """A folder for masks:, or with a shift of 1 for ade20k:. Returns the labels by split."""
    draw, labels = np.random.default_rng(0), {}
    for split, these in zip(splits, (sizes, held_out), strict=True):
        for kind in ("images", "annotations"):
            (folder / kind / split).mkdir(parents=True)
        labels[split] = [cells(width, height, draw) for width, height in these]
        for i, label in enumerate(labels[split]):
            Image.fromarray(painted(label)).save(folder / "images" / split / f"{i}.png")
            written = np.where(label == IGNORED, 0, label + 1).astype(np.uint8) if shift else label
            Image.fromarray(written).save(folder / "annotations" / split / f"{i}.png")
    (folder / "classes.txt").write_text("wall\nfloor\nlamp\ndoor\ncat\n")
    return labels


OBJECTS = [  # category id, left, top, width, height, crowd; of each image in turn
    [(7, 3, 5, 11, 13, 0), (3, 20, 2, 7, 17, 0)],
    [(90, 0, 0, 23, 29, 0), (7, 30, 31, 5, 7, 1)],
    [(3, 1, 2, 3, 5, 0), (3, 8, 9, 13, 11, 0), (90, 30, 4, 10, 12, 0)],
]
CATEGORIES = {7: "dog", 3: "cat", 90: "eel"}  # in the file not in the order of ids


def coco_content(sizes, objects):
    """What COCO's file of annotations holds; the objects are their boxes, crowds as runs and others as polygons."""
    images = [
        {"id": 100 + i, "file_name": f"{i}.png", "width": width, "height": height}
        for i, (width, height) in enumerate(sizes)
    ]
    annotations = []
    for i, (width, height) in enumerate(sizes):
        for category, left, top, w, h, crowd in objects[i]:
            corners = [left, top, left + w, top, left + w, top + h, left, top + h]
            outline = runs(left, top, w, h, width, height) if crowd else [corners]
            annotations.append(
                {
                    "id": 1000 + len(annotations),
                    "image_id": 100 + i,
                    "category_id": category,
                    "iscrowd": crowd,
                    "bbox": [left, top, w, h],
                    "area": w * h - 0.5,
                    "segmentation": outline,
                }
            )
    categories = [{"id": number, "name": name} for number, name in CATEGORIES.items()]
    return {"images": images, "annotations": annotations, "categories": categories}


def runs(left, top, w, h, width, height):
    """A box as COCO's lengths of runs, down the columns, counted one pixel after the other."""
    inside = [left <= x < left + w and top <= y < top + h for x in range(width) for y in range(height)]
    counts, last = [0], False
    for value in inside:
        if value != last:
            counts.append(0)
        counts[-1] += 1
        last = value
    return {"size": [height, width], "counts": counts}


def write_coco(folder, sizes=SIZES, held_out=SIZES[:4], objects=None, year="2017"):
    """A folder for coco: each object is a box of its category's colour; the last image held out has none."""
    objects = objects or {
        "train": [OBJECTS[i % 3] for i in range(len(sizes))],
        "val": [OBJECTS[(i + 1) % 3] for i in range(len(held_out) - 1)] + [[]],
    }
    (folder / "annotations").mkdir()
    for split, these in (("train", sizes), ("val", held_out)):
        (folder / f"{split}{year}").mkdir()
        for i, (width, height) in enumerate(these):
            pixels = np.full((height, width, 3), 9 * i, np.uint8)
            for category, left, top, w, h, _ in objects[split][i]:
                pixels[top : top + h, left : left + w] = COLOUR_OF[1 + sorted(CATEGORIES).index(category)]
            Image.fromarray(pixels).save(folder / f"{split}{year}" / f"{i}.png")
        content = coco_content(these, objects[split])
        (folder / "annotations" / f"instances_{split}{year}.json").write_text(json.dumps(content))
    return objects
