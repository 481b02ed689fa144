import pytest
import torch

import bra
from bra import arguments
from bra.partition import RegionGrid, middle_region


def test_what_is_allowed_passes():
    arguments.require_axes("x", torch.zeros(1, 2, 3), "b h w")
    arguments.require_grid((1, 1))
    arguments.require_k(1, 1)
    arguments.require_k(6, 6)
    arguments.require_heads(6, 3)
    arguments.require_heads(1, 1)


@pytest.mark.parametrize(
    ("complain", "message"),
    [
        (lambda: arguments.require_axes("x", torch.zeros(2, 3), "b h w"), r"x must have 3 axes \(b h w\).*\(2, 3\)"),
        (lambda: arguments.require_grid((3, 0)), r"grid must be .* each at least 1, but is \(3, 0\)"),
        (lambda: arguments.require_grid((3, 1, 1)), r"grid must be .* but is \(3, 1, 1\)"),
        (lambda: arguments.require_grid([3, 0]), r"grid must be .* but is \(3, 0\)"),
        (lambda: arguments.require_k(0, 6), "k must be between 1 and the number of regions, 6, but is 0"),
        (lambda: arguments.require_k(7, 6), "k must be between 1 and the number of regions, 6, but is 7"),
        (lambda: arguments.require_heads(7, 2), "dim must be divisible by heads, but dim is 7 and heads is 2"),
        (lambda: arguments.require_heads(0, 1), "dim is 0"),
        (lambda: arguments.require_heads(4, 0), "heads is 0"),
    ],
)
@pytest.mark.usefixtures("unchecked")
def test_what_is_not_is_named_with_its_value(complain, message):
    with pytest.raises(ValueError, match=message):
        complain()


@pytest.mark.parametrize(
    ("raised", "code", "told"),
    [
        (ValueError("k must be 3"), "error: k must be 3", ""),
        (OSError("Caught in a worker.\nTraceback\nOSError: no disk"), "error: OSError: no disk", ""),
        (ValueError(), "error: ValueError", ""),
        (KeyboardInterrupt(), 130, "stopped; go on\n"),
        (KeyboardInterrupt("stopped after step 5"), 130, "stopped after step 5\n"),
    ],
)
def test_on_a_command_line_an_error_that_the_user_can_mend_is_one_line(raised, code, told, capsys):
    with (
        pytest.raises(SystemExit) as stopped,
        arguments.errors_in_one_line(ValueError, OSError, stopped="stopped; go on"),
    ):
        raise raised
    assert stopped.value.code == code
    assert capsys.readouterr().err == told


def test_an_error_of_ours_shows_where_it_is_from():
    with pytest.raises(KeyError), arguments.errors_in_one_line(ValueError, OSError):
        raise KeyError("k")


@pytest.mark.parametrize(
    "call",
    [
        lambda grid: bra.BRA2d(16, 2, grid, 2),
        lambda grid: bra.BiLevelRoutingAttention(16, 2, grid, 2),
        lambda grid: bra.partition_regions(torch.zeros(1, 7, 7, 1), grid),
        lambda grid: bra.pad_to_grid(torch.zeros(1, 7, 7, 1), grid),
        lambda grid: bra.merge_regions(torch.zeros(1, 49, 1, 1), grid, (7, 7)),
        lambda grid: bra.biformer_tiny(grid=grid),
        lambda grid: bra.local_regions(grid, 4),
        lambda grid: bra.axial_regions(grid, 4),
        lambda grid: bra.dilated_regions(grid, 4),
        lambda grid: bra.random_regions(grid, 4, 0),
        lambda grid: bra.all_regions(grid),
        lambda grid: RegionGrid(grid, (14, 14)),
        lambda grid: middle_region(grid),
    ],
)
def test_a_grid_that_is_one_number_as_in_the_official_code_is_refused_with_advice(call, unchecked):
    with pytest.raises(ValueError, match=r"grid must be \(rows, columns\) of regions, such as \(7, 7\), .* but is 7$"):
        call(7)
    call((7, 7))
