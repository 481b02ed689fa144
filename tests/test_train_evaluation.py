from types import SimpleNamespace

import pytest
import torch
from torch import nn

import bra
from bra.data import Arrays, Batch, CocoObjects, RecallBoards, Shard
from bra.data.recall import Recall
from bra.data.recall_where import box_boards, mark_boards
from bra.train import evaluation as module
from bra.train.evaluation import add, add_over_processes, evaluate, routing_hits, to_device


class Judge(nn.Module):
    """Says class 1 for images whose mean is above its threshold, and remembers what it saw."""

    def __init__(self, threshold=0.0):
        super().__init__()
        self.threshold, self.seen = nn.Parameter(torch.tensor(threshold)), []

    def forward(self, images):
        self.seen.append(images)
        bright = images.mean(dim=(1, 2, 3)) - self.threshold
        return torch.stack([-bright, bright], dim=1)


def two_classes(pixels, labels):
    pixels, labels = torch.tensor(pixels, dtype=torch.uint8).view(-1, 1, 1, 1), torch.tensor(labels)
    return Arrays(pixels, labels, pixels, labels, ["dark", "bright"])


def processes(monkeypatch, *sums):
    """As if there were a process for each of `sums`, which is what it has found."""

    def gather(everybody, mine):
        assert len(everybody) == len(sums) and any(mine is theirs for theirs in sums)
        everybody[:] = sums

    monkeypatch.setattr(torch.distributed, "get_world_size", lambda: len(sums))
    monkeypatch.setattr(torch.distributed, "all_gather_object", gather)


def test_evaluation_counts_every_image_once_whatever_the_batch():
    data = two_classes([0, 255, 0, 255, 255, 0, 255], [0, 1, 0, 1, 1, 1, 0])
    for batch in (1, 3, 7, 100):
        judge = Judge()
        assert evaluate(judge, data, batch) == {"accuracy": 5 / 7}
        assert sum(map(len, judge.seen)) == 7 and max(map(len, judge.seen)) <= batch


def test_bytes_are_normalised_with_the_mean_and_deviation_of_the_data():
    data = two_classes([100, 150, 200], [0, 0, 1])
    data.mean, data.std = (0.4,), (0.2,)
    judge = Judge(threshold=1.0)  # (200 / 255 - 0.4) / 0.2 = 1.92, and (150 / 255 - 0.4) / 0.2 = 0.94
    assert evaluate(judge, data) == {"accuracy": 1.0}
    expected = torch.tensor([(p / 255 - 0.4) / 0.2 for p in (100, 150, 200)])
    torch.testing.assert_close(judge.seen[0].flatten(), expected)


def test_boards_which_are_normalised_already_are_shown_as_they_are():
    data, judge = RecallBoards(Recall(), held_out_count=5), Judge()
    found = evaluate(judge, data)
    assert torch.equal(judge.seen[0], next(data.held_out(5)).image)
    assert set(found) == {"accuracy"}, "a model without routes hits nothing"


def test_evaluation_measures_hits_and_leaves_the_model_as_it_was():
    data = RecallBoards(Recall(), held_out_count=96)
    table = bra.random_regions((4, 4), 4)
    model = bra.biformer_nano(router=lambda grid, k: bra.TableRouter(table))
    before = {name: value.clone() for name, value in model.state_dict().items()}
    found = evaluate(model.train(), data, batch=50)
    boards = next(data.held_out(96))
    expected = (table[boards.square] == boards.target[:, None]).any(dim=1).double().mean().item()
    assert found["hit_rate"][0] == found["hit_rate"][1] == pytest.approx(expected)
    back = (table[boards.target] == boards.square[:, None]).any(dim=1).double().mean().item()
    assert found["reverse_hit_rate"] == pytest.approx([back, back])
    assert model.training and not any(p.grad is not None for p in model.parameters())
    assert all(torch.equal(before[name], value) for name, value in model.state_dict().items())
    evaluate(model.eval(), data)
    assert not model.training


def test_the_model_is_evaluated_and_not_trained():
    data = two_classes([0, 255], [0, 1])
    judge, modes = Judge().train(), []
    judge.register_forward_hook(lambda module, images, said: modes.append((module.training, torch.is_grad_enabled())))
    evaluate(judge, data)
    assert modes == [(False, False)] and judge.training


def test_hits_are_known_for_boards_only():
    boards = Recall().sample(3, 0)
    routes = bra.biformer_nano().eval().routes(boards.image)
    assert set(routing_hits(routes, boards)) == {"hit_rate", "reverse_hit_rate"}
    assert routing_hits(routes, Batch(boards.image, boards.label)) == {}
    assert routing_hits([], boards) == {}


def test_batches_keep_their_kind_on_their_way_to_a_device():
    boards = Recall().sample(2, 0)
    moved = to_device(boards, torch.device("meta"))
    assert type(moved) is type(boards) and moved.image.is_meta and moved.target.is_meta


def test_what_all_processes_found_is_added(monkeypatch):
    mine = {"seen": [3.0], "hit_rate": [2.0, 5.0]}
    theirs = {"seen": [7.0], "hit_rate": [11.0, 13.0]}
    processes(monkeypatch, mine, theirs)
    found = add_over_processes(mine)
    assert found == {"seen": [10], "hit_rate": [13, 18]}
    assert mine["seen"] == [3], "what is added stays as it was"


@pytest.mark.parametrize("order", [(0, 1, 2), (1, 0, 2), (2, 1, 0)])
def test_a_process_that_saw_no_image_adds_nothing(monkeypatch, order):
    sums = [{}, {"seen": [5.0], "accuracy": [2.0]}, {"seen": [2.0]}]
    processes(monkeypatch, *(sums[i] for i in order))
    for mine in sums:
        assert add_over_processes(mine) == {
            "seen": [7],
            "accuracy": [2],
        }


def test_a_process_sees_its_share_and_reports_for_all(monkeypatch):
    data = two_classes([0, 255, 0, 255, 0], [0, 1, 0, 1, 1])
    others = {"seen": [3.0], "accuracy": [2.0]}  # of images 0, 2 and 4
    monkeypatch.setattr(
        module, "add_over_processes", lambda sums: {name: [value[0] + others[name][0]] for name, value in sums.items()}
    )
    judge = Judge()
    found = evaluate(judge, data, accelerator=stand_in(rank=1, of=2))
    assert found == {"accuracy": 4 / 5} and [len(images) for images in judge.seen] == [2]
    assert [shown.mean().item() for shown in judge.seen] == [1.0], "the second and the fourth are bright"


def test_one_process_asks_no_other(monkeypatch):
    monkeypatch.setattr(module, "add_over_processes", None)
    data = two_classes([0, 255, 255], [0, 1, 0])
    assert evaluate(Judge(), data, accelerator=stand_in(rank=0, of=1)) == {"accuracy": 2 / 3}


def stand_in(rank, of):
    """What `evaluate` asks of an accelerator, with its type."""
    accelerator = object.__new__(module.Accelerator)
    state = SimpleNamespace(process_index=rank, num_processes=of)
    object.__setattr__(accelerator, "state", state)
    assert Shard(accelerator.process_index, accelerator.num_processes) == (rank, of)
    return accelerator


def test_numbers_are_added_and_all_else_is_joined():
    first, second, third = {"size": (2, 3)}, {"size": (5, 7)}, {"size": (11, 13)}
    parts = [{"seen": [2], "images": [first]}, {"images": [], "seen": [0]}, {"seen": [3], "images": [second, third]}]
    assert add(*parts) == {"seen": [5], "images": [first, second, third]}
    assert add({"images": []}, {"images": [first]}) == {"images": [first]}
    assert add({}, {"rates": [0.5, 1]}, {"rates": [0.25, 2.5]}) == {"rates": [0.75, 3.5]}
    assert parts[0] == {"seen": [2], "images": [first]}, "what is added stays as it was"
    with pytest.raises(ValueError, match="zip"):
        add({"rates": [1.0]}, {"rates": [1.0, 2.0]})


def test_what_all_processes_found_is_joined(monkeypatch):
    mine, theirs = {"seen": [1], "images": [{"score": 0.5}]}, {"seen": [2], "images": [{"score": 1.0}, {"score": 2.0}]}
    processes(monkeypatch, {}, mine, theirs)
    assert add_over_processes(mine) == {"seen": [3], "images": [{"score": 0.5}, {"score": 1.0}, {"score": 2.0}]}


def test_who_asks_of_a_board_where_is_the_target():
    boards = Recall().sample(3, 0)
    routes = bra.biformer_nano().eval().routes(boards.image)
    rates = routing_hits(routes, boards)
    assert rates["hit_rate"] != rates["reverse_hit_rate"]
    for turned in (mark_boards(boards), box_boards(boards)):
        found = routing_hits(routes, turned)
        assert found == {"hit_rate": rates["reverse_hit_rate"], "reverse_hit_rate": rates["hit_rate"]}


@pytest.mark.parametrize(("one_by_one", "expected"), [(False, [2, 2, 1]), (True, [1] * 5)])
def test_images_that_would_be_padded_beside_others_are_judged_alone(one_by_one, expected):
    data = two_classes([0, 255, 0, 255, 255], [0, 1, 0, 1, 1])
    data.one_by_one, judge = one_by_one, Judge()
    assert evaluate(judge, data, batch=2) == {"accuracy": 1} and list(map(len, judge.seen)) == expected
    assert CocoObjects.one_by_one and not Arrays.one_by_one and not RecallBoards.one_by_one
