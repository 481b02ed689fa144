"""One training step and one evaluation: what happens to the weights, and what is measured."""

import math
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
import torch.nn.functional as F
from torch import nn

from bra.data import DataSet, normalise
from bra.layer import record_routes
from bra.recall import Boards, hit_rates
from bra.topk import Routes


def make_optimizer(model: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, 2019) with weight decay on matrices and filters, not on biases and norms."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups)


def learning_rate(step: int, peak: float, warmup: int, steps: int) -> float:
    """The rate of `step` (from 0): linear warm-up to the peak, then half a cosine that would be 0 at `steps`."""
    if step < warmup:
        return peak * (step + 1) / warmup
    return peak * (1 + math.cos(math.pi * (step - warmup) / (steps - warmup))) / 2


def to_device(batch, device: torch.device):
    """The same batch with its tensors on `device`."""
    return type(batch)(*(value.to(device, non_blocking=True) for value in batch))


def normalised(batch, data: DataSet):
    """The same batch with its images as floats, by the mean and deviation of the data set's pixels."""
    return batch._replace(image=normalise(batch.image, data.mean, data.std))


def routing_hits(routes: list[Routes], batch) -> dict[str, list[float]]:
    """Hit rates of each block, where the right region is known; else nothing."""
    return hit_rates(routes, batch) if isinstance(batch, Boards) and routes else {}


@torch.no_grad()
def evaluate(model: nn.Module, data: DataSet, batch: int = 256) -> dict:
    """Accuracy over all held-out images, and on boards the hit rate of each block, both ways."""
    device = next(model.parameters()).device
    was_training = model.training
    model.eval()
    right, seen, hits = 0, 0, {}
    for images in data.held_out(batch):
        images = normalised(to_device(images, device), data)
        with record_routes(model) as routes:
            right += (model(images.image).argmax(dim=1) == images.label).sum().item()
        for name, rates in routing_hits(routes, images).items():
            total = hits.setdefault(name, torch.zeros(len(rates), dtype=torch.float64))
            total += len(images.label) * torch.tensor(rates, dtype=torch.float64)
        seen += len(images.label)
    model.train(was_training)
    return {"accuracy": right / seen} | {name: (total / seen).tolist() for name, total in hits.items()}


def train_step(model: nn.Module, optimizer: torch.optim.Optimizer, batch, rate: float) -> dict:
    """One step of gradient descent; returns its loss, accuracy and, on boards, the hit rates of each block.

    Raises FloatingPointError, before any weight is changed, if the loss or its gradient is not finite.
    """
    for group in optimizer.param_groups:
        group["lr"] = rate
    with record_routes(model) as routes:
        logits = model(batch.image)
    loss = F.cross_entropy(logits, batch.label)
    optimizer.zero_grad()
    loss.backward()
    norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
    if not torch.isfinite(loss + norm):
        raise FloatingPointError(f"the loss is {loss.item()} and its gradient's norm {norm.item()}")
    optimizer.step()
    accuracy = (logits.argmax(dim=1) == batch.label).float().mean().item()
    return {"loss": loss.item(), "accuracy": accuracy} | routing_hits(routes, batch)


@contextmanager
def stop_request() -> Iterator[threading.Event]:
    """An event that Ctrl-C or SIGTERM sets, so that the step in hand can end first; a second one does not wait."""
    stop = threading.Event()

    def ask(number, frame):
        if stop.is_set():
            raise KeyboardInterrupt
        stop.set()

    if threading.current_thread() is not threading.main_thread():
        yield stop
        return
    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
