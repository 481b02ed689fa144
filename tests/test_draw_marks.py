import io
import itertools

import pytest
import torch
from matplotlib.collections import LineCollection
from matplotlib.colors import to_hex
from PIL import Image

from bra import draw
from bra.data import IGNORED
from bra.draw import marks
from bra.draw.marks import MARKED, MOST, outline
from bra.draw.picture import YELLOW
from bra.draw.regions import show_image, side_by_side


def outlined(found):
    """The line segments ((x, y), (x, y)) that outline a mask or boxes, ends in order, each as often as it is drawn."""
    _, (axes,) = side_by_side(1, (2, 2))
    show_image(axes, torch.zeros(3, 7, 11), (1, 1), "")
    before = axes.get_xlim(), axes.get_ylim()
    outline(axes, found, **MARKED)
    assert (axes.get_xlim(), axes.get_ylim()) == before, "an outline does not stretch the image"
    lines = [line.tolist() for each in axes.collections for line in each.get_segments()]
    assert all(isinstance(each, LineCollection) for each in axes.collections)
    return sorted(tuple(sorted(map(tuple, pair))) for line in lines for pair in itertools.pairwise(line))


def borders(mask):
    """Between which pixels of a mask one is marked and the other not, one pixel after the other."""
    height, width = len(mask), len(mask[0])

    def there(y, x):
        return 0 <= y < height and 0 <= x < width and mask[y][x]

    lines = []
    for y in range(height + 1):
        for x in range(width + 1):
            if there(y, x) != there(y - 1, x):
                lines.append(((x - 0.5, y - 0.5), (x + 0.5, y - 0.5)))
            if there(y, x) != there(y, x - 1):
                lines.append(((x - 0.5, y - 0.5), (x - 0.5, y + 0.5)))
    return sorted(lines)


def test_a_mask_is_outlined_along_the_borders_of_its_pixels():
    mask = torch.rand(7, 11) < 0.4
    mask[0, 0] = mask[6, 10] = True
    assert outlined(mask) == borders(mask.tolist())
    assert outlined(torch.zeros(7, 11, dtype=torch.bool)) == []
    assert len(outlined(torch.ones(7, 11, dtype=torch.bool))) == 2 * (7 + 11)


def test_a_box_is_outlined_where_the_mask_of_its_pixels_would_be():
    mask = torch.zeros(7, 11, dtype=torch.bool)
    mask[2:5, 3:9] = True
    lines = outlined(torch.tensor([[3.0, 2, 9, 5]]))
    assert lines == [
        ((2.5, 1.5), (2.5, 4.5)),
        ((2.5, 1.5), (8.5, 1.5)),
        ((2.5, 4.5), (8.5, 4.5)),
        ((8.5, 1.5), (8.5, 4.5)),
    ]
    assert {end for line in lines for end in line} <= {end for line in outlined(mask) for end in line}
    assert outlined(torch.zeros(0, 4)) == []


def boards_with(found):
    images, index = torch.zeros(2, 3, 32, 32), torch.tensor([[[1, 2]] * 16] * 2)
    return draw.marked_boards(
        images, index, (4, 4), torch.tensor([5, 6]), torch.tensor([2, 9]), found, ["first", "second"]
    )


def test_boards_show_the_target_what_it_reads_and_what_is_marked():
    mask = torch.zeros(32, 32, dtype=torch.bool)
    mask[3:5, 8:10] = True
    picture = boards_with([mask, torch.tensor([[8.0, 3, 10, 5], [0, 0, 4, 4]])])
    assert (
        "region 5 reads 1, 2 and should read 2" in picture.alt
        and "on 1 of them the right region is read" in picture.alt
    )
    assert picture.alt.endswith(". What the network marks is outlined: first; second.") and ".." not in picture.alt
    for axes, lines in zip(picture.figure.axes, (8, 2), strict=True):
        (collection,) = axes.collections
        assert len(collection.get_segments()) == lines and to_hex(collection.get_color()[0]) == YELLOW.lower()
    (legend,) = picture.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [
        "the right glyph", "it reads, by rank", "the square: it should read it", "is marked",
    ]  # fmt: skip
    asked = picture.figure.get_suptitle()  # the square asks, but another question than that of `routed_boards`
    assert asked.startswith("Mark the glyph") and picture.alt.startswith(asked)
    assert picture.png().startswith(b"\x89PNG")


def fills(axes):
    """Colour and hatch of each class that is told apart on a map, and the rows and columns that it covers."""
    found = {}
    for contour in axes.collections:
        (hatch,), (colour,) = contour.hatches, contour.get_facecolor()
        (path,) = contour.get_paths()
        found[to_hex(colour), hatch or ""] = path.get_extents().extents.round(1).tolist()
    return found


def test_class_maps_tell_classes_apart_by_colour_and_hatch():
    classes = ["sky", "wall", "cat", "dog", "eel"]
    true = torch.zeros(12, 20, dtype=torch.long)
    true[2:5, 3:9], true[6:10, 11:17], true[11] = 2, 4, IGNORED
    said = torch.zeros(12, 20, dtype=torch.long)
    said[2:5, 3:9] = 4
    picture = draw.class_maps(torch.zeros(3, 12, 20), {"annotated": true, "found": said}, classes)
    (legend,) = picture.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == ["sky", "eel", "cat"], "the most frequent first"
    looks = [(to_hex(key.get_facecolor()), key.get_hatch() or "") for key in legend.legend_handles]
    assert len(set(looks)) == len({hatch for _, hatch in looks[1:]}) + 1 == 3, "in greyscale too"
    _, annotated, found = picture.figure.axes
    eel, cat = looks[1:]
    assert fills(annotated) == {eel: [10.5, 5.5, 16.5, 9.5], cat: [2.5, 1.5, 8.5, 4.5]}
    assert fills(found) == {eel: [2.5, 1.5, 8.5, 4.5]}
    assert "annotated: sky 74%, eel 10%, cat 8%" in picture.alt and "found: sky 93%, eel 8%, cat 0%" in picture.alt
    assert "wall" not in picture.alt and "dog" not in picture.alt


def test_of_many_classes_those_are_told_that_are_most():
    said = torch.arange(9).repeat_interleave(torch.tensor([5, 40, 30, 20, 10, 9, 8, 7, 6])).view(1, 135).expand(4, -1)
    picture = draw.class_maps(torch.zeros(3, 4, 135), {"found": said}, [f"class {i}" for i in range(9)])
    (legend,) = picture.figure.legends
    assert [text.get_text() for text in legend.get_texts()] == [f"class {i}" for i in range(1, MOST + 1)]
    assert len(marks.FILLS) == len(marks.HATCHES) == MOST and len(set(marks.HATCHES)) == MOST


def test_an_image_without_any_label_can_be_shown():
    nothing = torch.full((4, 6), IGNORED)
    picture = draw.class_maps(torch.zeros(3, 4, 6), {"annotated": nothing}, ["a", "b"])
    assert "annotated: " in picture.alt and picture.png()


def test_boxes_are_counted_and_drawn_for_each_name():
    boxes = {"annotated": torch.tensor([[3.0, 2, 9, 5]]), "found": torch.tensor([[3.0, 2, 9, 5], [0, 0, 2, 2]])}
    picture = draw.boxed(torch.zeros(3, 7, 11), boxes)
    assert [axes.get_title() for axes in picture.figure.axes] == ["annotated: 1 object", "found: 2 objects"]
    assert [len(axes.collections[0].get_segments()) for axes in picture.figure.axes] == [1, 2]
    assert picture.alt == "An image with boxes around objects: annotated 1 object, found 2 objects."
    with Image.open(io.BytesIO(picture.png())) as image:
        assert image.text["Description"] == picture.alt


@pytest.mark.parametrize("count", [0, 1])
def test_what_is_not_found_is_not_drawn(count):
    picture = draw.boxed(torch.zeros(3, 7, 11), {"found": torch.tensor([[3.0, 2, 9, 5]])[:count]})
    assert len(picture.figure.axes[0].collections[0].get_segments()) == count
