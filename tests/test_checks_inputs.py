"""Numbers and sizes that a check tries: the same each time, others in each hidden variant."""

import pytest
import torch

from bra.checks.inputs import hidden, numbers, sizes


def test_what_readers_see_is_the_same_each_time_and_no_variant_is():
    def drawn(variant):
        with hidden(variant):
            size = sizes()
            return [size(3), size(3), size(5)], numbers(4, seed=1)

    size = sizes()
    assert [size(3), size(7)] == [3, 7] and torch.equal(numbers(4, seed=1), numbers(4, seed=1))
    shapes = [drawn(variant)[0] for variant in range(1, 9)]
    assert len({tuple(shape) for shape in shapes}) > 4 and all(4 <= a <= 8 and 6 <= c <= 10 for a, _, c in shapes)
    assert drawn(2)[0] == drawn(2)[0] and torch.equal(drawn(2)[1], drawn(2)[1])
    assert not torch.equal(drawn(2)[1], drawn(3)[1]) and not torch.equal(drawn(2)[1], numbers(4, seed=1))


def test_a_variant_ends_with_its_block_after_an_error_too():
    before = numbers(3)
    with pytest.raises(ZeroDivisionError), hidden(1):
        raise ZeroDivisionError
    assert torch.equal(numbers(3), before)
    with pytest.raises(ValueError, match="variant must be at least 1, but is 0"), hidden(0):
        pass
