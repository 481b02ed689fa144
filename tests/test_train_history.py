import math

import pytest
import torch

import bra
from bra.data.recall import Recall, hit_rates
from bra.look.statistics import entropy
from bra.topk import Routes
from bra.train.history import RoutingHistory, steps_to_note


def routes_of(affinity):
    return Routes(affinity.topk(2, dim=-1).indices, affinity)


def test_entropy_is_that_of_its_definition():
    shares = torch.tensor([[0.5, 0.25, 0.25], [0.125, 0.75, 0.125], [1 / 3, 1 / 3, 1 / 3]], dtype=torch.float64)
    expected = torch.tensor([sum(-p * math.log2(p) for p in row) for row in shares.tolist()]).mean().item()
    affinity = shares.log()[None] * 7**0.5  # what the scale of 7 channels takes away again
    assert entropy(routes_of(affinity), 7) == pytest.approx(expected, rel=1e-6)


def test_no_preference_is_all_the_bits_and_a_certain_one_none():
    assert entropy(routes_of(torch.zeros(2, 16, 16)), 64) == pytest.approx(4)
    assert entropy(routes_of(1e4 * torch.eye(16)[None]), 64) == pytest.approx(0)
    masked = torch.zeros(1, 4, 4).index_fill(2, torch.tensor([3]), -math.inf)
    assert entropy(routes_of(masked), 64) == pytest.approx(math.log2(3)), "regions of padding have no share"


def test_a_history_notes_what_the_model_routes_at_its_steps():
    boards = Recall().sample(20, seed=5)
    model, history = bra.biformer_nano(), RoutingHistory(boards, steps=(0, 2))
    for step in range(4):
        history(step, model)
    assert [page["step"] for page in history.pages] == [0, 2]
    routes = model.eval().routes(boards.image)
    expected = hit_rates(routes, boards)
    for page in history.pages:
        assert page["hit_rate"] == pytest.approx(expected["hit_rate"], abs=1e-4)
        assert page["reverse_hit_rate"] == pytest.approx(expected["reverse_hit_rate"], abs=1e-4)
        assert page["entropy"] == pytest.approx([entropy(r, 64) for r in routes], abs=1e-3)
        assert page["index"] == [r.index[0].tolist() for r in routes]
        assert torch.allclose(torch.tensor(page["affinity"][1]), routes[1].affinity[0], atol=0.006)
        assert len(page["more"]) == 3, "the next boards"
        assert page["more"][2]["index"] == [r.index[3].tolist() for r in routes]
        assert torch.allclose(torch.tensor(page["more"][0]["affinity"][1]), routes[1].affinity[1], atol=0.006)


def test_a_history_hands_each_page_on_as_it_is_written():
    kept = []
    history = RoutingHistory(
        Recall().sample(3, seed=5), steps=(1, 3), keep=lambda page: kept.append((page["step"], len(history.pages)))
    )
    model = bra.biformer_nano()
    for step in range(5):
        history(step, model)
    assert kept == [(1, 1), (3, 2)]


@pytest.mark.parametrize(
    ("last", "steps"),
    [
        (1, (0, 1)),
        (10, (0, 10)),
        (11, (0, 10, 11)),
        (40, (0, 10, 14, 20, 28, 40)),
        (500, (0, 10, 14, 20, 28, 40, 57, 80, 113, 160, 226, 320, 453, 500)),
    ],
)
def test_the_steps_to_note_are_close_at_first_and_end_with_the_last(last, steps):
    assert steps_to_note(last) == steps


@pytest.mark.parametrize("last", range(1, 3000, 37))
def test_the_steps_to_note_rise_and_are_few(last):
    steps = steps_to_note(last)
    assert list(steps) == sorted(set(steps)) and steps[0] == 0 and steps[-1] == last
    assert last < 15 or steps[-2] >= last / 1.5
    assert len(steps) <= 20
