import pytest
import torch

import bra

TABLES = [
    bra.local_regions,
    bra.axial_regions,
    bra.row_regions,
    bra.column_regions,
    bra.dilated_regions,
    bra.random_regions,
]


def as_set(table, grid, region):
    """The regions that `region` (row, column) reads, as (row, column) pairs."""
    read = table[region[0] * grid[1] + region[1]].tolist()
    return {divmod(r, grid[1]) for r in read}


@pytest.mark.parametrize("make", TABLES)
@pytest.mark.parametrize("k", [1, 4, 15])
def test_every_row_lists_k_distinct_regions_of_the_grid(make, k):
    table = make((3, 5), k)
    assert table.shape == (15, k) and table.dtype == torch.int64
    assert all(len(set(row)) == k and set(row) <= set(range(15)) for row in table.tolist())


def test_local_is_the_window_around_a_region():
    window = {(y, x) for y in (1, 2, 3) for x in (2, 3, 4)}
    assert as_set(bra.local_regions((5, 7), 9), (5, 7), (2, 3)) == window


def test_local_at_a_corner_stays_inside_the_grid():
    assert as_set(bra.local_regions((5, 7), 4), (5, 7), (0, 6)) == {(0, 6), (0, 5), (1, 6), (1, 5)}


def test_axial_is_the_row_and_the_column_and_not_their_neighbours():
    stripes = {(2, x) for x in range(7)} | {(y, 3) for y in range(5)}
    assert as_set(bra.axial_regions((5, 7), 11), (5, 7), (2, 3)) == stripes


def test_axial_fills_up_with_the_nearest_others():
    assert as_set(bra.axial_regions((2, 3), 5), (2, 3), (0, 0)) == {(0, 0), (0, 1), (0, 2), (1, 0), (1, 1)}


def test_rows_and_columns_are_those_of_the_region_and_fill_up_with_the_nearest_others():
    assert as_set(bra.row_regions((5, 7), 7), (5, 7), (2, 3)) == {(2, x) for x in range(7)}
    assert as_set(bra.column_regions((5, 7), 5), (5, 7), (2, 3)) == {(y, 3) for y in range(5)}
    assert as_set(bra.row_regions((3, 2), 3), (3, 2), (0, 0)) == {(0, 0), (0, 1), (1, 0)}
    assert as_set(bra.column_regions((2, 3), 3), (2, 3), (0, 0)) == {(0, 0), (1, 0), (0, 1)}


def test_dilated_leaves_gaps():
    assert as_set(bra.dilated_regions((5, 7), 9), (5, 7), (2, 3)) == {(y, x) for y in (0, 2, 4) for x in (1, 3, 5)}
    assert as_set(bra.dilated_regions((5, 7), 3, step=3), (5, 7), (2, 3)) == {(2, 3), (2, 0), (2, 6)}


def test_the_farthest_preferred_region_comes_before_the_nearest_other():
    assert as_set(bra.dilated_regions((3, 3), 4), (3, 3), (0, 0)) == {(0, 0), (0, 2), (2, 0), (2, 2)}


@pytest.mark.parametrize("make", [make for make in TABLES if make is not bra.random_regions])
def test_nearest_come_first_and_the_region_itself_before_all(make):
    assert make((4, 6), 5)[:, 0].tolist() == list(range(24))


def test_random_repeats_with_its_seed_and_changes_with_it():
    first, again, other = (bra.random_regions((4, 4), 4, seed) for seed in (1, 1, 2))
    assert torch.equal(first, again) and not torch.equal(first, other)
    assert (first != first[0]).any(), "every region must draw its own"


def test_all_reads_all():
    assert bra.all_regions((2, 3)).tolist() == [list(range(6))] * 6


def test_attention_cost_counts_the_multiply_adds_of_both_products():
    table, tokens, channels = bra.local_regions((2, 3), 2), 5, 7
    scores = sum(channels for row in table for _ in row for _ in range(tokens) for _ in range(tokens))
    assert bra.attention_cost(table, tokens, channels) == 2 * scores
    assert bra.attention_cost(bra.all_regions((2, 3)), tokens, channels) == 2 * (6 * tokens) ** 2 * channels


@pytest.mark.parametrize("make", TABLES)
def test_says_which_k_are_allowed(make):
    for k in (0, 7):
        with pytest.raises(ValueError, match=rf"k must be between 1 and the number of regions, 6, but is {k}"):
            make((2, 3), k)


def test_says_which_grids_and_steps_are_allowed():
    for make in (bra.all_regions, lambda grid: bra.local_regions(grid, 1)):
        with pytest.raises(ValueError, match=r"grid must be .* at least 1, but is \(0, 3\)"):
            make((0, 3))
    with pytest.raises(ValueError, match="step must be at least 1, but is 0"):
        bra.dilated_regions((2, 3), 1, step=0)
