import copy
import math
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
import torch.nn.functional as F
from torch import nn

import bra
from bra.data import Arrays, Batch, RecallBoards
from bra.data.recall import Recall
from bra.train.augment import Augment, Preparation
from bra.train.learner import Learner, learning_rate, make_optimizer, moving_average, unpack
from bra.train.parallel import open_accelerator
from bra.train.tasks import Classes

NOTHING = torch.zeros(1, 3, 7, 9, dtype=torch.uint8)
TASK = Classes(Arrays(NOTHING, torch.zeros(1).long(), NOTHING, torch.zeros(1).long(), list("abcd")))


def as_it_is(batch):
    return batch.image, batch.label


def plain_model():
    """A model without batch norm, so that the parts of a batch do not see each other."""
    return nn.Sequential(nn.Conv2d(3, 5, 3), nn.GELU(), nn.Flatten(), nn.Linear(5 * 5 * 7, 4))


def batch_of(count, seed=0):
    draw = torch.Generator().manual_seed(seed)
    return Batch(torch.randn(count, 3, 7, 9, generator=draw), torch.randint(4, (count,), generator=draw))


def learner(model, precision="fp32", **options):
    return Learner(model, TASK, open_accelerator("cpu", precision), **options)


def same_weights(a, b):
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


def test_learning_rate_warms_up_and_follows_half_a_cosine():
    rates = [learning_rate(step, 0.5, warmup=10, steps=30) for step in range(30)]
    assert rates[:10] == pytest.approx([0.05 * (i + 1) for i in range(10)])
    assert rates[10] == 0.5 and rates[20] == pytest.approx(0.25)
    assert rates[29] == pytest.approx(0.25 * (1 + math.cos(math.pi * 19 / 20)))
    assert learning_rate(0, 0.5, warmup=0, steps=1) == 0.5


def test_learning_rate_falls_along_a_line():
    rates = [learning_rate(step, 0.5, warmup=10, steps=30, decay="linear") for step in range(30)]
    assert rates[:10] == pytest.approx([0.05 * (i + 1) for i in range(10)])
    assert rates[10:] == pytest.approx([0.5 * (20 - i) / 20 for i in range(20)])


def test_learning_rate_falls_in_two_steps_after_eight_and_eleven_of_twelve_epochs():
    per_epoch = 7
    rates = [learning_rate(step, 0.5, warmup=10, steps=12 * per_epoch, decay="steps") for step in range(12 * per_epoch)]
    assert rates[:10] == pytest.approx([0.05 * (i + 1) for i in range(10)])
    for step, rate in enumerate(rates[10:], 10):
        epoch = step // per_epoch  # from 0: eight are over when the ninth, number 8, begins
        assert rate == pytest.approx(0.5 if epoch < 8 else 0.05 if epoch < 11 else 0.005), step


def test_weight_decay_is_for_matrices_and_filters_only():
    model = bra.biformer_nano()
    groups = make_optimizer(model, 0.05).param_groups
    decayed = {id(p) for p in groups[0]["params"]}
    assert groups[0]["weight_decay"] == 0.05 and groups[1]["weight_decay"] == 0
    for module in model.modules():
        for name, parameter in module.named_parameters(recurse=False):
            is_weight = isinstance(module, (nn.Linear, nn.Conv2d)) and name == "weight"
            assert (id(parameter) in decayed) == is_weight


def test_a_step_is_the_one_that_plain_pytorch_takes():
    model, batch = plain_model(), batch_of(8)
    twin = copy.deepcopy(model)
    measured = learner(model, weight_decay=0.07, clip=0.3).step(batch, as_it_is, rate=3e-3)
    optimizer = make_optimizer(twin, 0.07)
    for group in optimizer.param_groups:
        group["lr"] = 3e-3
    logits = twin(batch.image)
    loss = F.cross_entropy(logits, batch.label)
    loss.backward()
    assert nn.utils.clip_grad_norm_(twin.parameters(), 0.3) > 0.6, "the test must clip"
    optimizer.step()
    assert measured["loss"] == pytest.approx(loss.item(), rel=1e-6)
    assert measured["accuracy"] == (logits.argmax(dim=1) == batch.label).float().mean().item()
    for found, expected in zip(model.parameters(), twin.parameters(), strict=True):
        assert torch.allclose(found, expected, rtol=0, atol=1e-6)


def test_without_a_limit_the_gradient_keeps_its_length():
    steps = []
    for clip in (None, 1e9, 0.01):
        torch.manual_seed(1)
        model = plain_model()
        made = learner(model, clip=clip)
        made.step(batch_of(8), as_it_is, rate=1e-3)
        steps.append(torch.cat([p.grad.flatten() for p in model.parameters()]).norm().item())
    assert steps[0] == steps[1] > 0.1 and steps[2] == pytest.approx(0.01, rel=1e-3)


def test_boards_are_learnt_and_their_hit_rates_told():
    model, boards = bra.biformer_nano(), Recall().sample(32, 0)
    made = learner(model)
    first = made.step(boards, as_it_is, rate=2e-3)
    for _ in range(5):
        last = made.step(boards, as_it_is, rate=2e-3)
    assert last["loss"] < first["loss"]
    assert made.optimizer.param_groups[1]["lr"] == 2e-3
    assert list(first) == ["loss", "accuracy", "hit_rate", "reverse_hit_rate"]
    assert len(first["hit_rate"]) == len(first["reverse_hit_rate"]) == 2 and 0 <= first["accuracy"] <= 1


@pytest.mark.parametrize("parts", [2, 4])
def test_a_step_in_parts_is_the_step_at_once(parts):
    batch, measured, models = batch_of(8), [], []
    for n in (1, parts):
        torch.manual_seed(3)
        models.append(plain_model())
        measured.append(learner(models[-1], parts=n, clip=None).step(batch, as_it_is, rate=1e-2))
    assert measured[0]["loss"] == pytest.approx(measured[1]["loss"], rel=1e-6)
    assert measured[0]["accuracy"] == measured[1]["accuracy"]
    for whole, cut in zip(models[0].parameters(), models[1].parameters(), strict=True):
        assert torch.allclose(whole.grad, cut.grad, rtol=0, atol=1e-6), "AdamW's first step would not show their length"
        assert torch.allclose(whole, cut, rtol=0, atol=1e-5)


def test_a_loss_that_is_not_finite_changes_no_weight():
    model, boards = bra.biformer_nano(), Recall().sample(8, 0)
    before = {name: value.clone() for name, value in model.named_parameters()}
    boards.image[0, 0, 0, 0] = math.nan
    made = learner(model, average=0.9)
    with pytest.raises(FloatingPointError, match="the loss is nan and its gradient's norm nan"):
        made.step(boards, as_it_is, rate=2e-3)
    assert all(torch.equal(before[name], value) for name, value in model.named_parameters())
    assert made.average.n_averaged == 0


def test_mixed_targets_count_as_their_larger_share():
    data = RecallBoards(Recall())
    prepare = Preparation(Augment(smoothing=0.1), data)
    model, boards = bra.biformer_nano(), Recall().sample(16, 0)
    twin = copy.deepcopy(model).train()
    measured = learner(model).step(boards, prepare, rate=1e-3)
    logits = twin(boards.image)
    assert measured["loss"] == pytest.approx(
        F.cross_entropy(logits, boards.label, label_smoothing=0.1).item(), rel=1e-5
    )
    assert measured["accuracy"] == (logits.argmax(dim=1) == boards.label).float().mean().item()


def test_the_moving_average_is_the_recursion_of_its_definition():
    model = nn.BatchNorm2d(2)
    average = moving_average(model, decay=0.6)
    expected = None
    for step in range(12):
        model.weight.data.fill_(float(step**2))
        model.running_mean.fill_(float(-step))
        model.num_batches_tracked.fill_(step)
        average.update_parameters(model)
        decay = min(0.6, (1 + step) / (10 + step))
        now = torch.tensor([step**2, -step], dtype=torch.float64)
        expected = now if expected is None else decay * expected + (1 - decay) * now
    found = torch.stack([average.module.weight[0], average.module.running_mean[0]]).double()
    assert torch.allclose(found, expected, rtol=1e-6)
    assert average.module.num_batches_tracked == 11, "a count is no mean"


def test_what_is_evaluated_is_the_average_and_it_is_a_model_of_its_own():
    made = learner(bra.biformer_nano(), average=0.5)
    assert made.evaluated is made.average.module and learner(plain_model()).evaluated is not None
    boards = Recall().sample(8, 0)
    for _ in range(3):
        made.step(boards, as_it_is, rate=1e-2)
    assert made.average.n_averaged == 3
    made.evaluated.eval(), made.model.eval()
    assert not torch.allclose(made.evaluated(boards.image), made.model(boards.image))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_a_learner_that_is_put_back_goes_on_as_the_other_does(precision):
    boards = [Recall().sample(8, seed) for seed in range(4)]
    made = learner(bra.biformer_nano(), precision, average=0.9)
    for batch in boards[:2]:
        made.step(batch, as_it_is, rate=1e-2)
    kept = {name: value.clone() for name, value in made.tensors().items()}
    other = learner(bra.biformer_nano(), precision, average=0.9)
    other.load(kept, Path("kept"), 2)
    for batch in boards[2:]:
        assert made.step(batch, as_it_is, rate=1e-2) == other.step(batch, as_it_is, rate=1e-2)
    assert same_weights(made.model, other.model) and same_weights(made.average, other.average)


def test_bfloat16_computes_in_it_and_keeps_the_weights_in_float32():
    batch, losses = Recall().sample(16, 0), {}
    for precision in ("fp32", "bf16"):
        torch.manual_seed(0)
        made = learner(bra.biformer_nano(), precision)
        losses[precision] = made.step(batch, as_it_is, rate=1e-3)["loss"]
    assert losses["fp32"] != losses["bf16"] == pytest.approx(losses["fp32"], rel=0.02)
    assert {value.dtype for value in made.model.parameters()} == {torch.float32}


def test_a_copy_of_a_model_in_training_computes_with_its_own_weights():
    """Accelerate replaces the forward of what it prepares, and a copy would bring the original's along."""
    made = learner(bra.biformer_nano(), "bf16")
    twin = copy.deepcopy(made.model).eval()
    images = Recall().sample(4, 0).image
    before = twin(images)
    with torch.no_grad():
        for value in made.model.parameters():
            value.zero_()
    assert torch.equal(twin(images), before) and before.dtype == torch.float32


def test_an_overflow_of_half_precision_lowers_the_loss_scale_and_changes_no_weight():
    accelerator = open_accelerator("cpu", "fp32")
    accelerator.scaler = torch.amp.GradScaler("cpu", init_scale=2.0**127)
    model, batch = plain_model(), batch_of(8)
    made = Learner(model, TASK, accelerator)
    before = copy.deepcopy(model)
    measured = made.step(Batch(batch.image * 100, batch.label), as_it_is, rate=1e-2)
    assert math.isfinite(measured["loss"]) and same_weights(model, before)
    assert accelerator.scaler.get_scale() == 2.0**126
    accelerator.scaler.update(8.0)
    made.step(batch, as_it_is, rate=1e-2)
    assert not same_weights(model, before)
    kept = {name: value.clone() for name, value in made.tensors().items()}
    accelerator.scaler.update(2.0)
    made.load(kept, Path("kept"), 2)
    assert accelerator.scaler.get_scale() == 8.0 and accelerator.scaler._growth_tracker == 1


def test_a_flag_of_one_process_is_everybodys():
    made = learner(plain_model())
    assert made.any_process(True) and not made.any_process(False)
    made.shard = made.shard._replace(world_size=3)
    made.accelerator = SimpleNamespace(device="cpu", reduce=lambda flag, how: flag + {"sum": 1}[how])
    assert made.any_process(False), "another process stops"


def test_numbers_get_their_names_back():
    found = unpack(["loss", "accuracy", "hit_rate"], [1, 1, 2], [3.0, 0.5, 0.25, 0.75])
    assert found == {"loss": 3.0, "accuracy": 0.5, "hit_rate": [0.25, 0.75]}
