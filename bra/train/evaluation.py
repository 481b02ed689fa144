"""What is measured on held-out images: what the task asks, and, where the right route is known, who takes it."""

import functools

import torch
from accelerate import Accelerator
from torch import nn

from bra.data import DataSet, Shard, normalise
from bra.data.recall import Boards, hit_rates
from bra.layer import record_routes
from bra.topk import Routes
from bra.train.tasks import TASKS


def to_device(batch, device: torch.device):
    """The same batch with its tensors on `device`."""
    return type(batch)(*(value.to(device, non_blocking=True) for value in batch))


def routing_hits(routes: list[Routes], batch) -> dict[str, list[float]]:
    """Hit rates of each block, where the right region is known; else nothing.

    Of a board that asks where, the target asks, and the square has the answer: there they change their parts.
    """
    if not knows_routes(batch) or not routes:
        return {}
    if not isinstance(batch, Boards):
        batch = Boards(batch.image, batch.label, square=batch.target, target=batch.square)
    return hit_rates(routes, batch)


def knows_routes(batch) -> bool:
    """Whether it is known of the images which region should read which."""
    return "square" in batch._fields


@torch.no_grad()
def evaluate(model: nn.Module, data: DataSet, batch: int = 256, accelerator: Accelerator | None = None) -> dict:
    """What the data's task measures over all held-out images, and on boards the hit rate of each block, both ways.

    batch: at most so many images at once; photographs of objects one by one. With an accelerator every process takes
    some of the images; each image counts once.
    """
    device = next(model.parameters()).device
    shard = Shard(accelerator.process_index, accelerator.num_processes) if accelerator else Shard()
    was_training = model.training
    model.eval()
    task, sums = TASKS[data.asks](data), {}
    for images in data.held_out(1 if data.one_by_one else batch, shard):
        images = to_device(images, device)
        with record_routes(model) as routes:
            found = task.found(model, normalise(images.image, data.mean, data.std), images)
        count = len(images.label)
        hits = {name: [count * rate for rate in rates] for name, rates in routing_hits(routes, images).items()}
        sums = add(sums, {"seen": [count]} | found | hits)
    model.train(was_training)
    if accelerator and shard.world_size > 1:
        sums = add_over_processes(sums)
    (seen,) = sums.pop("seen")
    hits = {name: [total / seen for total in sums.pop(name)] for name in list(sums) if name.endswith("hit_rate")}
    return task.measures(sums, seen) | hits


def add(*parts: dict[str, list]) -> dict[str, list]:
    """By name the sums of lists of numbers; lists of anything else are joined. A part may lack a name."""

    def both(one: list, other: list) -> list:
        numbers = isinstance((one or other or [None])[0], (int, float))
        return [a + b for a, b in zip(one, other, strict=True)] if numbers else one + other

    names = dict.fromkeys(name for part in parts for name in part)
    return {name: functools.reduce(both, [part[name] for part in parts if name in part]) for name in names}


def add_over_processes(sums: dict[str, list]) -> dict[str, list]:
    """The sums of all processes together; one that saw no image at all adds nothing."""
    everybody: list[dict | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everybody, sums)
    return add(*everybody)
