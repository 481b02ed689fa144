import math

import oracles
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

import bra
from bra.partition import RegionGrid, middle_region, pad_to_grid, partition_regions, real_map

sides = st.integers(1, 5)


def test_by_hand():
    x = torch.arange(16).reshape(1, 4, 4, 1)
    regions = bra.partition_regions(x, (2, 2))[0, :, :, 0]
    assert regions.tolist() == [[0, 1, 4, 5], [2, 3, 6, 7], [8, 9, 12, 13], [10, 11, 14, 15]]


@given(rows=sides, columns=sides, height=sides, width=sides)
def test_equals_the_loops_and_round_trips(rows, columns, height, width):
    x = torch.randn(2, rows * height, columns * width, 3, dtype=torch.float64)
    regions = bra.partition_regions(x, (rows, columns))
    assert (regions.numpy() == oracles.partition(x.numpy(), (rows, columns))).all()
    assert torch.equal(bra.merge_regions(regions, (rows, columns), x.shape[1:3]), x)


@given(h=st.integers(1, 11), w=st.integers(1, 11), rows=sides, columns=sides)
def test_padding_is_least_at_the_end_and_marked(h, w, rows, columns):
    x = torch.randn(2, h, w, 3)
    padded, valid = bra.pad_to_grid(x, (rows, columns))
    assert padded.shape[1:3] == valid.shape
    assert padded.shape[1] % rows == 0 and 0 <= padded.shape[1] - h < rows
    assert padded.shape[2] % columns == 0 and 0 <= padded.shape[2] - w < columns
    assert torch.equal(padded[:, :h, :w], x) and valid[:h, :w].all()
    assert valid.sum() == h * w and (padded[:, ~valid] == 0).all()


def test_gradients():
    x = torch.randn(1, 3, 5, 2, dtype=torch.float64, requires_grad=True)

    def there_and_back(x):
        padded, _ = bra.pad_to_grid(x, (2, 3))
        return bra.merge_regions(bra.partition_regions(padded, (2, 3)) ** 2, (2, 3), padded.shape[1:3])

    assert torch.autograd.gradcheck(there_and_back, x)


@pytest.mark.parametrize("size", [(4, 6), (5, 7)])
def test_the_mask_lies_on_the_device_of_the_map(size):
    padded, valid_map = bra.pad_to_grid(torch.empty(1, *size, 2, device="meta"), (2, 3))
    assert padded.is_meta and valid_map.is_meta


@pytest.mark.usefixtures("unchecked")
def test_says_what_is_wrong():
    x = torch.zeros(2, 6, 10, 3)
    with pytest.raises(ValueError, match=r"x must have 4 axes \(b h w c\), but its shape is \(6, 10, 3\)"):
        bra.partition_regions(x[0], (2, 2))
    with pytest.raises(ValueError, match=r"grid \(4, 2\) does not divide x of 6 x 10 tokens; pad_to_grid makes it fit"):
        bra.partition_regions(x, (4, 2))
    assert bra.partition_regions(bra.pad_to_grid(x, (4, 2))[0], (4, 2)).shape == (2, 8, 10, 3), "as that error says"
    for bad in [(0, 2), (2, -1), (2,)]:
        for function in (bra.partition_regions, bra.pad_to_grid):
            with pytest.raises(ValueError, match="grid must be"):
                function(x, bad)
    with pytest.raises(ValueError, match="x must have 4 axes"):
        bra.pad_to_grid(x[0], (2, 2))
    regions = bra.partition_regions(x, (2, 5))
    with pytest.raises(ValueError, match="regions must have 4 axes"):
        bra.merge_regions(x[0], (2, 5), (6, 10))
    with pytest.raises(ValueError, match=r"grid must be .* but is \(0, 5\)"):
        bra.merge_regions(regions, (0, 5), (6, 10))
    for grid, size in [((5, 2), (6, 10)), ((2, 5), (10, 6)), ((2, 5), (6, 20)), ((2, 2), (6, 10))]:
        with pytest.raises(ValueError, match="do not make a map of"):
            bra.merge_regions(regions, grid, size)


CASES = [((3, 5), (7, 11)), ((4, 4), (7, 7)), ((2, 2), (1, 3)), ((7, 7), (3, 3)), ((1, 1), (1, 1)), ((3, 2), (5, 9))]


@pytest.mark.parametrize(("grid", "size"), CASES)
def test_a_region_covers_the_tokens_that_partition_gives_it(grid, size):
    """The oracle numbers the tokens, pads and cuts them; everything is then counted in what each region holds."""
    numbers = torch.arange(1, size[0] * size[1] + 1, dtype=torch.float64).reshape(1, *size, 1)  # 0 is padding
    cut = partition_regions(pad_to_grid(numbers, grid)[0], grid)[0, :, :, 0].long()
    where = RegionGrid(grid, size)
    assert where.count == len(cut) and math.prod(where.cell) == cut.shape[1]
    owners = torch.full(size, -1)
    for region, tokens in enumerate(cut.tolist()):
        held = [divmod(token - 1, size[1]) for token in tokens if token]
        row, column, height, width = where.box(region)
        box = [(y, x) for y in range(row, row + height) for x in range(column, column + width)]
        assert box == held, "row by row, without padding"
        assert where.is_real(region) == bool(held)
        for place, token in enumerate(tokens):
            if token:
                y, x = divmod(token - 1, size[1])
                assert where.locate(y, x) == (region, place) and where.region_at(y, x) == region
                owners[y, x] = region
        if not held:
            assert where.middle(region) is None
            continue
        rows, columns = ([at[axis] for at in held] for axis in (0, 1))
        y, x = (min(n) + (max(n) - min(n) + 1) // 2 for n in (rows, columns))
        assert where.middle(region) == y * size[1] + x and (y, x) in held
    assert torch.equal(where.owners(), owners)


def test_a_map_is_real_as_far_as_each_image_goes():
    real = real_map(torch.tensor([[1, 3], [5, 2]]), (5, 3))
    assert real.shape == (2, 5, 3) and real.sum(dim=(1, 2)).tolist() == [3, 10]
    assert real[0, :1, :3].all() and real[1, :5, :2].all()


@given(height=st.integers(1, 33), width=st.integers(1, 33), power=st.integers(0, 4))
def test_at_a_larger_stride_the_sizes_are_rounded_up(height, width, power):
    stride = 2**power
    real = real_map(torch.tensor([[height, width]]), (37, 34))[:, ::stride, ::stride]
    expected = real_map(torch.tensor([[-(-height // stride), -(-width // stride)]]), real.shape[1:])
    assert torch.equal(real, expected), "the last token of an image may stand for less than a whole stride of pixels"


def test_the_middle_region_is_in_the_middle_row_and_column():
    assert [middle_region(grid) for grid in ((1, 1), (3, 5), (4, 4), (7, 2))] == [0, 7, 10, 7]


@pytest.mark.parametrize(("row", "column"), [(-1, 0), (0, -1), (7, 0), (0, 11)])
def test_a_token_beyond_the_map_has_no_region(row, column):
    with pytest.raises(ValueError, match=rf"token must be on the map of 7 x 11, but is \({row}, {column}\)"):
        RegionGrid((3, 5), (7, 11)).region_at(row, column)


@pytest.mark.parametrize(
    ("grid", "size", "message"),
    [((0, 2), (3, 3), "grid must be"), ((2, 2), (0, 3), r"size must be \(h, w\) of at least one token each")],
)
def test_a_grid_without_regions_or_a_map_without_tokens_is_refused(grid, size, message):
    with pytest.raises(ValueError, match=message):
        RegionGrid(grid, size)
