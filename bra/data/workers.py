"""Processes that decode images for another one: how they take signals, and what is said when one is lost."""

import os
import re
import signal
import threading
from collections.abc import Iterator
from concurrent.futures import BrokenExecutor
from contextlib import contextmanager
from multiprocessing import active_children

from torch.utils.data import DataLoader

GRACE = 20  # seconds
LOST = re.compile(r"worker.* (exited unexpectedly|killed by signal)|shared memory|memory thread exited")  # PyTorch's


class WorkersLost(OSError):
    """A process that decodes images was killed, or there was no memory for its work."""


def leave_signals_to_the_parent(worker: int = 0) -> None:
    """Ctrl-C reaches the whole group of processes, and a cluster's SIGTERM may: the parent decides what they mean.

    If SIGTERM ended a worker at once, the parent would lose it before it has written its checkpoint. So the worker
    goes on for GRACE seconds. A parent that ends while workers are busy waits as long for them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    if hasattr(signal, "alarm"):  # Windows has neither the alarm nor the problem
        signal.signal(signal.SIGALRM, lambda number, frame: os._exit(0))
        signal.signal(signal.SIGTERM, lambda number, frame: signal.alarm(GRACE))


@contextmanager
def explain_loss(workers: int, fewest: int) -> Iterator[None]:
    """Raise WorkersLost, with what to do about it, where the work inside is lost with a process or for want of memory.

    workers: how many processes there are; fewest: how many there must be.
    """
    try:
        yield
    except MemoryError as error:
        reason, cause = "no memory was left to decode images", error
    except (BrokenExecutor, ConnectionError, EOFError, RuntimeError) as error:
        if type(error) is RuntimeError and not LOST.search(str(error)):
            raise
        reason, cause = "a process that decodes images was killed, as happens when memory runs out", error
    else:
        return
    advice = "use fewer --workers" if workers > fewest else "end other programs"
    raise WorkersLost(f"{reason}: {advice}; the same command goes on, a training run with --resume") from cause


def read_on(loader: DataLoader) -> Iterator:
    """What PyTorch's loader gives. Raises WorkersLost where the next batch is waited for.

    PyTorch itself raises the loss of a worker from a signal handler: wherever the program is, even while it writes a
    checkpoint. Without the handler, the loader looks every five seconds whether its workers live.
    """
    if not loader.num_workers:  # the main process decodes
        yield from loader
        return
    unhandled = threading.current_thread() is threading.main_thread() and hasattr(signal, "SIGCHLD")
    before, others = signal.getsignal(signal.SIGCHLD) if unhandled else None, active_children()
    batches = iter(loader)
    workers = [process for process in active_children() if process not in others]
    if before is not None:
        signal.signal(signal.SIGCHLD, before)
    while True:
        try:
            with explain_loss(loader.num_workers, fewest=0):
                batch = next(batches, None)
        except WorkersLost:
            for worker in workers:
                worker.kill()  # what the lost one held they may wait for without end, and SIGTERM they outlive
            raise
        if batch is None:
            return
        yield batch
