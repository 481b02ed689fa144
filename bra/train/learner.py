"""One training step: what happens to the weights."""

import math
from collections.abc import Callable
from contextlib import nullcontext
from pathlib import Path

import torch
from accelerate import Accelerator
from torch import Tensor, nn
from torch.optim.swa_utils import AveragedModel

from bra.data import Shard
from bra.files import load_weights
from bra.layer import record_routes
from bra.train.evaluation import knows_routes, routing_hits, to_device
from bra.train.parallel import share_batch_norm
from bra.train.tasks import Task


def make_optimizer(model: nn.Module, weight_decay: float) -> torch.optim.AdamW:
    """AdamW (Loshchilov and Hutter, 2019) with weight decay on matrices and filters, not on biases and norms."""
    decayed = [p for p in model.parameters() if p.ndim > 1]
    others = [p for p in model.parameters() if p.ndim <= 1]
    groups = [{"params": decayed, "weight_decay": weight_decay}, {"params": others, "weight_decay": 0.0}]
    return torch.optim.AdamW(groups)


def learning_rate(step: int, peak: float, warmup: int, steps: int, decay: str = "cosine") -> float:
    """The rate of `step` (from 0): linear warm-up to the peak; then as `decay` says.

    cosine: half a cosine that would be 0 at `steps`. linear: a line that would be 0 there. steps: a tenth of the peak
    from 8/12 of the steps on, a hundredth from 11/12 on, as detectors are trained for 12 epochs.
    """
    if step < warmup:
        return peak * (step + 1) / warmup
    if decay == "steps":
        return peak * 0.1 ** sum(12 * step >= part * steps for part in (8, 11))
    gone = (step - warmup) / (steps - warmup)
    return peak * ((1 + math.cos(math.pi * gone)) / 2 if decay == "cosine" else 1 - gone)


def moving_average(model: nn.Module, decay: float) -> AveragedModel:
    """An exponential moving average of all weights and running statistics.

    It looks back 1 / (1 - decay) steps, and at the start, where it has not seen so many, a tenth of those it has seen.
    """

    def update(averages: list[Tensor], values: list[Tensor], updates: Tensor) -> None:
        now = 1 - min(decay, (1 + int(updates)) / (10 + int(updates)))
        for average, value in zip(averages, values, strict=True):
            average.lerp_(value, now) if average.is_floating_point() else average.copy_(value)

    return AveragedModel(model, multi_avg_fn=update, use_buffers=True)


class Shell(nn.Module):
    """A module around another, with the same forward."""

    def __init__(self, inner: nn.Module):
        super().__init__()
        self.inner = inner

    def forward(self, *args):
        """What the inner module makes of it."""
        return self.inner(*args)


class Learner:
    """A model with all that training changes: weights, optimiser, moving average, loss scale.

    model: the model itself, whose weights are saved. task: what it is asked, and its loss. evaluated: the one whose
    score counts, the moving average if there is one. accelerator: the devices. parts: in how many parts a process takes
    a step. clip: what the gradient's norm is cut down to; None: never.
    """

    def __init__(
        self,
        model: nn.Module,
        task: Task,
        accelerator: Accelerator,
        *,
        weight_decay: float = 0.05,
        average: float = 0.0,
        clip: float | None = 1.0,
        parts: int = 1,
        compiled: bool = False,
    ):
        self.model, self.accelerator, self.parts = model.to(accelerator.device), accelerator, parts
        self.task, self.clip = task, math.inf if clip is None else clip
        self.average = moving_average(self.model, average) if average else None
        self.evaluated = self.average.module if self.average else self.model
        self.shard = Shard(accelerator.process_index, accelerator.num_processes)
        if self.shard.world_size > 1:
            share_batch_norm(model)
        optimizer = make_optimizer(model, weight_decay)
        # Accelerate replaces the forward method of what it prepares: of this shell, not of the model itself
        inner = Shell(torch.compile(model) if compiled else model)
        self.forward, self.optimizer = accelerator.prepare(inner, optimizer)

    def step(self, batch, prepare: Callable[..., tuple[Tensor, Tensor]], rate: float) -> dict:
        """One step of gradient descent; returns its loss, what the task measures, on boards hit rates of each block.

        `prepare` turns a batch into images and targets. Raises FloatingPointError, before any weight is changed, if the
        loss or its gradient is not finite.
        """
        self.model.train()
        for group in self.optimizer.param_groups:
            group["lr"] = rate
        self.optimizer.zero_grad()
        batch = to_device(batch, self.accelerator.device)
        parts = [type(batch)(*part) for part in zip(*(value.chunk(self.parts) for value in batch), strict=True)]
        measured = {}
        for i, part in enumerate(parts):
            last = i == len(parts) - 1
            with nullcontext() if last else self.accelerator.no_sync(self.forward):
                for name, value in self.descend(part, *prepare(part), share=len(part.label) / len(batch.label)).items():
                    measured[name] = measured.get(name, 0) + value
        exact = torch.float32 if self.accelerator.device.type == "mps" else torch.float64
        names, values = list(measured), torch.cat([value.to(exact).view(-1) for value in measured.values()])
        sizes = [value.numel() for value in measured.values()]
        values = self.accelerator.reduce(values, "mean").tolist()
        norm = self.accelerator.clip_grad_norm_(self.model.parameters(), self.clip)
        # a scaled loss may overflow: its optimiser then skips the step, and lowers the scale
        scaled = self.accelerator.scaler is not None
        if not math.isfinite(values[0]) or not (scaled or torch.isfinite(norm)):
            raise FloatingPointError(f"the loss is {values[0]} and its gradient's norm {norm.item()}")
        self.optimizer.step()
        if self.average:
            self.average.update_parameters(self.model)
        return unpack(names, sizes, values)

    def descend(self, batch, images: Tensor, targets: Tensor, share: float) -> dict[str, Tensor]:
        """The gradient of one part of a step, and what is measured on it, times its share of the step."""
        known = knows_routes(batch)  # on other data recording would only slow torch.compile
        with record_routes(self.model) if known else nullcontext([]) as routes, self.accelerator.autocast():
            loss, measured = self.task.loss(self.forward, images, targets, batch)
        self.accelerator.backward(loss * share)
        measured = {"loss": loss.detach()} | measured
        measured |= {
            name: torch.tensor(rates, device=loss.device) for name, rates in routing_hits(routes, batch).items()
        }
        return {name: share * value for name, value in measured.items()}

    def any_process(self, flag: bool) -> bool:
        """Whether the flag is set in any of the processes."""
        if self.shard.world_size == 1:
            return flag
        return self.accelerator.reduce(torch.tensor(float(flag), device=self.accelerator.device), "sum").item() > 0

    def tensors(self) -> dict[str, Tensor]:
        """All that a checkpoint must hold: weights, optimiser, moving average, loss scale."""
        tensors = {f"model.{name}": value for name, value in self.model.state_dict().items()}
        for i, state in self.optimizer.state_dict()["state"].items():
            tensors |= {f"optimizer.{i}.{name}": value for name, value in state.items()}
        if self.average:
            tensors |= {f"average.{name}": value for name, value in self.average.state_dict().items()}
        if self.accelerator.scaler is not None:
            scaler = self.accelerator.scaler.state_dict()
            tensors |= {f"scaler.{name}": torch.tensor(float(value)) for name, value in scaler.items()}
        return tensors

    def load(self, tensors: dict[str, Tensor], source: Path, steps: int) -> None:
        """Put back what `tensors` took after some steps, read from the file `source`.

        Raises ValueError, and has then changed nothing, if the optimiser's part is missing or any part does not fit.
        """
        parts: dict[str, dict[str, Tensor]] = {}
        for key, value in tensors.items():
            kind, _, name = key.partition(".")
            parts.setdefault(kind, {})[name] = value
        groups = self.optimizer.state_dict()["param_groups"]
        state = read_moments(parts.get("optimizer", {}), self.optimizer.param_groups, source)
        if steps and not state:
            raise ValueError(f"{source} does not fit the model: it holds {steps} steps, but no part of the optimiser")
        load_weights(self.model, parts.get("model", {}), source)
        if self.average:
            load_weights(self.average, parts.get("average", {}), source)
        self.optimizer.load_state_dict({"state": state, "param_groups": groups})
        if self.accelerator.scaler is not None and "scaler" in parts:
            found = {name: value.item() for name, value in parts["scaler"].items()}
            counts = {name: int(found[name]) for name in ("growth_interval", "_growth_tracker")}
            self.accelerator.scaler.load_state_dict(found | counts)


def read_moments(entries: dict[str, Tensor], groups: list[dict], source: Path) -> dict[int, dict[str, Tensor]]:
    """AdamW's state of each parameter, by its number in the groups, from entries such as "3.exp_avg".

    Parameters that never had a gradient have none. Raises ValueError for parts that are missing or of another shape.
    """
    shapes = dict(enumerate(tuple(p.shape) for group in groups for p in group["params"]))
    state: dict[int, dict[str, Tensor]] = {}
    for key, value in entries.items():
        i, _, name = key.partition(".")
        state.setdefault(int(i) if i.isdigit() else -1, {})[name] = value
    for i, found in state.items():
        expected = {"step": (), "exp_avg": shapes.get(i), "exp_avg_sq": shapes.get(i)}
        if {name: tuple(value.shape) for name, value in found.items()} != expected:
            there = ", ".join(f"{name} {tuple(value.shape)}" for name, value in sorted(found.items()))
            raise ValueError(f"{source} does not fit the model: the optimiser's part {i} holds {there}")
    return state


def unpack(names: list[str], sizes: list[int], values: list[float]) -> dict:
    """Numbers by name: lists, one for each block, of hit rates; else one number."""
    rest = iter(values)
    found = {name: [next(rest) for _ in range(size)] for name, size in zip(names, sizes, strict=True)}
    return {name: value if name.endswith("hit_rate") else value[0] for name, value in found.items()}
