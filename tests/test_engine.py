import math
import signal

import pytest
import torch
from torch import nn

import bra
from bra.data import Arrays, RecallBoards
from bra.engine import evaluate, learning_rate, make_optimizer, stop_request, to_device, train_step
from bra.recall import Recall


def test_learning_rate_warms_up_and_follows_half_a_cosine():
    rates = [learning_rate(step, 0.5, warmup=10, steps=30) for step in range(30)]
    assert rates[:10] == pytest.approx([0.05 * (i + 1) for i in range(10)])
    assert rates[10] == 0.5 and rates[20] == pytest.approx(0.25)
    assert rates[29] == pytest.approx(0.25 * (1 + math.cos(math.pi * 19 / 20)))
    assert learning_rate(0, 0.5, warmup=0, steps=1) == 0.5


def test_weight_decay_is_for_matrices_and_filters_only():
    model = bra.biformer_nano()
    groups = make_optimizer(model, 0.05).param_groups
    decayed = {id(p) for p in groups[0]["params"]}
    assert groups[0]["weight_decay"] == 0.05 and groups[1]["weight_decay"] == 0
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_weight = isinstance(module, (nn.Linear, nn.Conv2d)) and name == "weight"
            assert (id(parameter) in decayed) == is_weight


def test_a_step_lowers_the_loss_at_the_given_rate_and_counts():
    model, boards = bra.biformer_nano(), Recall().sample(32, 0)
    optimizer = make_optimizer(model, 0.0)
    first = train_step(model, optimizer, boards, rate=2e-3)
    for _ in range(5):
        last = train_step(model, optimizer, boards, rate=2e-3)
    assert last["loss"] < first["loss"]
    assert optimizer.param_groups[1]["lr"] == 2e-3
    assert len(first["hit_rate"]) == 2 and 0 <= first["accuracy"] <= 1


def test_a_loss_that_is_not_finite_changes_no_weight():
    model, boards = bra.biformer_nano(), Recall().sample(8, 0)
    optimizer = make_optimizer(model, 0.0)
    before = {name: value.clone() for name, value in model.named_parameters()}
    boards.image[0, 0, 0, 0] = math.nan
    with pytest.raises(FloatingPointError, match="the loss is nan"):
        train_step(model, optimizer, boards, rate=2e-3)
    assert all(torch.equal(before[name], value) for name, value in model.named_parameters())


def test_evaluation_counts_every_image_once_whatever_the_batch():
    class Brightness(nn.Module):
        """Says class 1 for bright images."""

        def __init__(self):
            super().__init__()
            self.unused = nn.Parameter(torch.zeros(1))

        def forward(self, images):
            bright = images.mean(dim=(1, 2, 3))
            return torch.stack([-bright, bright], dim=1)

    pixels = torch.tensor([0, 255, 0, 255, 255, 0, 255], dtype=torch.uint8).view(7, 1, 1, 1)
    data = Arrays(
        pixels, torch.zeros(7, dtype=torch.long), pixels, torch.tensor([0, 1, 0, 1, 1, 1, 0]), ["dark", "bright"]
    )
    for batch in (1, 3, 7, 100):
        assert evaluate(Brightness(), data, batch) == {"accuracy": 5 / 7}


def test_evaluation_measures_hits_and_leaves_the_model_as_it_was():
    data = RecallBoards(Recall(), held_out_count=96)
    table = bra.random_regions((4, 4), 4)
    model = bra.biformer_nano(router=lambda grid, k: bra.TableRouter(table))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = evaluate(model.train(), data, batch=50)
    boards = next(data.held_out(96))
    expected = (table[boards.query] == boards.target[:, None]).any(dim=1).double().mean().item()
    assert found["hit_rate"][0] == found["hit_rate"][1] == pytest.approx(expected)
    assert model.training
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())


def test_batches_keep_their_kind_on_their_way_to_a_device():
    boards = Recall().sample(2, 0)
    moved = to_device(boards, torch.device("meta"))
    assert type(moved) is type(boards) and moved.image.is_meta and moved.target.is_meta


def test_ctrl_c_is_a_request_first_and_an_order_the_second_time():
    handler = signal.getsignal(signal.SIGINT)
    with stop_request() as stop:
        assert not stop.is_set()
        signal.raise_signal(signal.SIGINT)
        assert stop.is_set()
        with pytest.raises(KeyboardInterrupt):
            signal.raise_signal(signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is handler
    with stop_request() as stop:
        signal.raise_signal(signal.SIGTERM)
        assert stop.is_set()
