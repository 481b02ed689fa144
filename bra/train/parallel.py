"""Where training runs, and when it must stop: on a CPU, a GPU, or in several processes (`torchrun`).

Each process takes its part of the same batch, gradients are averaged, and batch norm looks at what all of them have:
two processes take the step that one would have taken, up to the random numbers of augmentation and drop path, and,
where a step is taken in parts, up to which images share a batch norm. Where pixels have no label or images differ in
size, two processes weigh theirs alike, and one would not.
"""

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import torch
from accelerate import Accelerator
from accelerate.state import AcceleratorState
from accelerate.utils.memory import should_reduce_batch_size
from jaxtyping import Float
from torch import Tensor, nn

PRECISIONS = {"fp32": "no", "bf16": "bf16", "fp16": "fp16"}  # our names, and Accelerate's


def pick_device(name: str) -> torch.device:
    """The device called `name`. Raises ValueError if there is none such on this machine."""
    if name == "auto":
        return torch.accelerator.current_accelerator(check_available=True) or torch.device("cpu")
    try:
        device = torch.device(name)
        torch.ones(1, device=device).sum().item()
    except (RuntimeError, AssertionError, ValueError, NotImplementedError) as error:
        raise ValueError(f"device must be auto or one of this machine, but is {name!r}: {error}") from error
    if device.index is not None:
        raise ValueError(
            f"device must be a kind, such as cuda, but is {name!r}: "
            f"CUDA_VISIBLE_DEVICES={device.index} chooses one of several GPUs"
        )
    return device


def open_accelerator(device: str, precision: str) -> Accelerator:
    """Hugging Face Accelerate on `device`, in all the processes that `torchrun` started.

    precision: fp32, bf16 or fp16 (with loss scaling; GPUs only) for what autocast may lower.
    Raises ValueError for a device that is not here, or a precision that it does not have.
    """
    kind = pick_device(device).type
    if precision not in PRECISIONS:
        raise ValueError(f"precision must be {', '.join(PRECISIONS)}, but is {precision!r}")
    if precision == "fp16" and kind == "cpu":
        raise ValueError("precision must be fp32 or bf16 on a CPU, but is 'fp16'")
    if precision == "bf16" and kind == "cuda" and not torch.cuda.is_bf16_supported(including_emulation=False):
        raise ValueError(
            f"precision must be fp32 or fp16 on {torch.cuda.get_device_name()}, which lacks bf16, but is 'bf16'"
        )
    # Accelerate keeps device and precision for the whole process: a second run in a notebook would get the first one's
    AcceleratorState._reset_state(reset_partial_state=True)
    return Accelerator(cpu=kind == "cpu", mixed_precision=PRECISIONS[precision])


@contextmanager
def memory_told() -> Iterator[None]:
    """Raise MemoryError with advice where a computation asks for more memory than there is, on a GPU too."""
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not should_reduce_batch_size(error):
            raise
        told = str(error).partition("\n")[0] or "MemoryError"
        raise MemoryError(
            "there is too little memory: take a smaller --batch or more --accumulate, for photographs a smaller "
            f"--image-size, for recall fewer --recall.cells ({told})"
        ) from error


class SumOverProcesses(torch.autograd.Function):
    """The sum of a tensor over all processes; its gradient is the sum of their gradients."""

    @staticmethod
    def forward(ctx, x: Tensor) -> Tensor:
        """The sum."""
        total = x.clone()
        torch.distributed.all_reduce(total)
        return total

    @staticmethod
    def backward(ctx, gradient: Tensor) -> Tensor:
        """Each process's loss depends on the sum, so each gradient counts."""
        return SumOverProcesses.forward(ctx, gradient)


class SharedBatchNorm2d(nn.BatchNorm2d):
    """Batch norm over the batches of all processes; they must be of one size.

    PyTorch's SyncBatchNorm does the same, but not on a CPU, where it could not be tested.
    """

    @torch.compiler.disable
    def forward(self, x: Float[Tensor, "b c h w"]) -> Float[Tensor, "b c h w"]:
        """Mean and variance over all processes in training; the running ones in evaluation."""
        if not self.training:
            return super().forward(x)
        processes = torch.distributed.get_world_size()

        def mean(values: Tensor) -> Tensor:
            return SumOverProcesses.apply(values.float().mean(dim=(0, 2, 3))) / processes

        centre = mean(x)
        shifted = x - centre[:, None, None].to(x.dtype)
        variance = mean(shifted.square())
        with torch.no_grad():
            count = processes * x.numel() // x.shape[1]
            self.num_batches_tracked += 1
            self.running_mean.lerp_(centre, self.momentum)
            self.running_var.lerp_(variance * count / (count - 1), self.momentum)
        factor = self.weight * (variance + self.eps).rsqrt()
        return shifted * factor[:, None, None].to(x.dtype) + self.bias[:, None, None].to(x.dtype)


def share_batch_norm(model: nn.Module) -> None:
    """Let every batch norm of `model` look at the batches of all processes; names and weights stay."""
    for module in model.modules():
        if type(module) is nn.BatchNorm2d:
            module.__class__ = SharedBatchNorm2d


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
