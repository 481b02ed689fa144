"""What is measured on held-out images: accuracy, and where the right route is known, how often it is taken."""

import torch
from accelerate import Accelerator
from torch import Tensor, nn

from bra.data import DataSet, Shard, normalise
from bra.data.recall import Boards, hit_rates
from bra.layer import record_routes
from bra.topk import Routes


def to_device(batch, device: torch.device):
    """The same batch with its tensors on `device`."""
    return type(batch)(*(value.to(device, non_blocking=True) for value in batch))


def routing_hits(routes: list[Routes], batch) -> dict[str, list[float]]:
    """Hit rates of each block, where the right region is known; else nothing."""
    return hit_rates(routes, batch) if isinstance(batch, Boards) and routes else {}


@torch.no_grad()
def evaluate(model: nn.Module, data: DataSet, batch: int = 256, accelerator: Accelerator | None = None) -> dict:
    """Accuracy over all held-out images, and on boards the hit rate of each block, both ways.

    With an accelerator every process takes some of the images; each image counts once.
    """
    device = next(model.parameters()).device
    shard = Shard(accelerator.process_index, accelerator.num_processes) if accelerator else Shard()
    was_training = model.training
    model.eval()
    sums: dict[str, Tensor] = {}
    for images in data.held_out(batch, shard):
        images = to_device(images, device)
        with record_routes(model) as routes:
            said = model(normalise(images.image, data.mean, data.std)).argmax(dim=1)
        count = len(images.label)
        found = {"seen": [count], "accuracy": [(said == images.label).sum().item()]}
        found |= {name: [count * rate for rate in rates] for name, rates in routing_hits(routes, images).items()}
        for name, values in found.items():
            sums[name] = sums.get(name, 0) + torch.tensor(values, dtype=torch.float64)
    model.train(was_training)
    if accelerator and shard.world_size > 1:
        sums = add_over_processes(sums)
    seen = sums.pop("seen").item()
    means = {name: (total / seen).tolist() for name, total in sums.items()}
    return means | {"accuracy": means["accuracy"][0]}


def add_over_processes(sums: dict[str, Tensor]) -> dict[str, Tensor]:
    """Each sum over all processes; one that saw no image at all adds nothing."""
    everybody: list[dict[str, Tensor] | None] = [None] * torch.distributed.get_world_size()
    torch.distributed.all_gather_object(everybody, sums)
    return {name: sum(part[name] for part in everybody if name in part) for part in everybody for name in part}
