"""Measure what a computation costs: multiply-adds, the largest tensor, time in turns; and say on what machine."""

import datetime
import platform
import statistics
import subprocess
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.autograd import DeviceType
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.profiler import ProfilerActivity, profile
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves
from torch.utils.flop_counter import FlopCounterMode


class LargestTensor(TorchDispatchMode):
    """While this context is open, remember the largest memory that any operation's result takes, and whose it was.

    Views of what an operation was given are not new memory and do not count. What a fused kernel keeps inside is not
    seen.

    >>> with LargestTensor() as largest:
    ...     loss.backward()
    >>> largest.bytes, largest.operation
    """

    def __init__(self) -> None:
        super().__init__()
        self.bytes, self.operation = 0, ""

    def __torch_dispatch__(self, function: Any, types: Any, args: tuple = (), kwargs: dict | None = None) -> Any:
        results = function(*args, **(kwargs or {}))
        given = {tensor.untyped_storage().data_ptr() for tensor in dense_tensors((args, kwargs))}
        for result in dense_tensors(results):
            storage = result.untyped_storage()
            if storage.data_ptr() not in given and storage.nbytes() > self.bytes:
                self.bytes, self.operation = storage.nbytes(), str(function)
        return results


def dense_tensors(tree: object) -> list[Tensor]:
    """The tensors, but sparse ones, in nested tuples, lists and dicts."""
    return [leaf for leaf in tree_leaves(tree) if isinstance(leaf, Tensor) and leaf.layout == torch.strided]


def multiply_adds(function: Callable[[], object]) -> int:
    """Multiply-adds of the matrix products and convolutions in one call: half of PyTorch's count of operations."""
    with sdpa_kernel(SDPBackend.MATH), FlopCounterMode(display=False) as counter:  # fused kernels are not all counted
        function()
    return counter.get_total_flops() // 2


def seconds(function: Callable[[], object], device: torch.device) -> float:
    """How long one call takes."""
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    start = time.perf_counter()
    function()
    if device.type == "cuda":
        torch.cuda.synchronize(device)
    return time.perf_counter() - start


def median_seconds(
    functions: Mapping[str, Callable[[], object]], repeats: int = 9, device: torch.device | str = "cpu"
) -> dict[str, float]:
    """The median time of each function. They run in turns, after a warm-up, so that all meet the same conditions."""
    times: dict[str, list[float]] = {name: [] for name in functions}
    for repeat in range(repeats + 1):
        for name, function in functions.items():
            spent = seconds(function, torch.device(device))
            if repeat:
                times[name].append(spent)
    return {name: statistics.median(spent) for name, spent in times.items()}


def kernel_seconds(function: Callable[[], object], device: torch.device | str, calls: int = 1) -> float:
    """How long the kernels of one call run in sum, without the pauses in which a GPU waits for Python; 0: not known."""
    cuda = torch.device(device).type == "cuda"
    with profile(activities=[ProfilerActivity.CUDA if cuda else ProfilerActivity.CPU]) as record:
        for _ in range(calls):
            function()
        if cuda:
            torch.cuda.synchronize(device)
    events = record.key_averages()
    if not cuda:
        return sum(event.self_cpu_time_total for event in events) / calls / 1e6
    on_gpu = [event.self_device_time_total for event in events if event.device_type == DeviceType.CUDA]
    return sum(on_gpu) / calls / 1e6


def environment() -> dict:
    """What a measured number depends on besides its command: date, commit, hardware, versions."""
    git = subprocess.run(
        ["git", "describe", "--always", "--dirty"],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parent,
        check=False,
    )
    return {
        "date": datetime.date.today().isoformat(),
        "commit": git.stdout.strip() or "unknown",
        "platform": platform.platform(),
        "processor": cpu_name(),
        "gpu": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "torch": torch.__version__,
    }


def cpu_name() -> str:
    """The processor's name, where the system tells it."""
    info = Path("/proc/cpuinfo")
    names = (
        [line.split(":")[1].strip() for line in info.read_text().splitlines() if line.startswith("model name")]
        if info.exists()
        else []
    )
    return names[0] if names else platform.processor() or platform.machine()
