import itertools
import multiprocessing
import os
import signal
import subprocess
import sys
import time

import pytest
import torch

import bra.data.__main__ as data_command
import bra.train.__main__ as train_command
from bra.data import ImageFolder, ImageSettings, WorkersLost, copies, images, loading
from bra.train.runs import RunFolder

CUT = images.cut
COPY_SMALLER = copies.copy_smaller
KILLED = "a process that decodes images was killed, as happens when memory runs out"
GOES_ON = "the same command goes on, a training run with --resume"


def in_a_worker():
    return torch.utils.data.get_worker_info() is not None


def ended_by_error(command, monkeypatch, *words):
    """What the command line says when it ends with an error."""
    monkeypatch.setattr(sys, "argv", ["bra", *map(str, words)])
    with pytest.raises(SystemExit) as stopped:
        command.main()
    return stopped.value.code


def test_a_killed_worker_is_told_where_its_batch_is_waited_for_and_nowhere_else(image_folder):
    data = ImageFolder(image_folder, ImageSettings(size=8, workers=2))
    batches = data.training(5, seed=0, start=0)
    next(batches)
    workers = multiprocessing.active_children()
    workers[-1].kill()
    time.sleep(0.3)  # here PyTorch's handler would raise
    with pytest.raises(WorkersLost, match=f"^{KILLED}: use fewer --workers; {GOES_ON}$"):
        list(itertools.islice(batches, 40))
    workers[0].join(5)
    assert not workers[0].is_alive(), "the others are not waited for"


@pytest.mark.parametrize(("asked", "cores", "started"), [(5, 3, 3), (2, 3, 2), (0, 3, 0), (5, None, 1)])
def test_no_more_workers_than_cores(asked, cores, started, image_folder, monkeypatch):
    def opened(*_, num_workers, **__):
        raise SystemError(num_workers)

    monkeypatch.setattr(loading, "DataLoader", opened)
    monkeypatch.setattr(os, "cpu_count", lambda: cores)
    with pytest.raises(SystemError, match=f"^{started}$"):
        next(ImageFolder(image_folder, ImageSettings(size=8, workers=asked)).held_out(3))


def test_a_worker_without_memory_is_told(image_folder, monkeypatch):
    def greedy(*arguments):
        raise MemoryError

    monkeypatch.setattr(images, "cut", greedy)
    with pytest.raises(WorkersLost, match=f"^no memory was left to decode images: use fewer --workers; {GOES_ON}$"):
        next(ImageFolder(image_folder, ImageSettings(size=8, workers=1)).held_out(3))
    with pytest.raises(MemoryError):  # there is no worker to do without
        next(ImageFolder(image_folder, ImageSettings(size=8, workers=0)).held_out(3))


def test_other_errors_in_a_worker_are_ours_and_keep_their_traceback(image_folder, monkeypatch):
    def wrong(*arguments):
        raise RuntimeError("shapes do not match")

    monkeypatch.setattr(images, "cut", wrong)
    with pytest.raises(RuntimeError, match=r"Traceback[\s\S]*shapes do not match"):
        next(ImageFolder(image_folder, ImageSettings(size=8, workers=1)).held_out(3))


def test_a_training_run_that_loses_a_worker_ends_in_one_line_and_goes_on(image_folder, tmp_path, monkeypatch):
    def fatal(image, box, size):
        if in_a_worker():
            os.kill(os.getpid(), signal.SIGKILL)
        return CUT(image, box, size)

    words = ["--data", f"folder:{image_folder}", "--out", tmp_path / "run", "--image-size", 32, "--batch", 2]
    words += ["--steps", 1, "--device", "cpu"]
    monkeypatch.setattr(images, "cut", fatal)
    told = ended_by_error(train_command, monkeypatch, *words, "--workers", 1)
    assert told == f"error: {KILLED}: use fewer --workers; {GOES_ON}"
    monkeypatch.setattr(sys, "argv", ["bra", *map(str, words), "--workers", "0", "--resume"])
    train_command.main()
    assert RunFolder(tmp_path / "run").ended and not list((tmp_path / "run").glob("*.part"))


def killed_in_its_midst(copy):
    if copy.source.name == "3.png":
        copy.target.with_name(copy.target.name + ".part").write_bytes(b"half a")
        os.kill(os.getpid(), signal.SIGKILL)
    return COPY_SMALLER(copy)


def without_memory(copy):
    raise MemoryError


@pytest.mark.parametrize(("workers", "advice"), [(2, "use fewer --workers"), (1, "end other programs")])
def test_shrinking_that_loses_a_process_ends_in_one_line_leaves_no_part_and_goes_on(
    workers, advice, image_folder, tmp_path, monkeypatch
):
    words = ["shrink", "--folder", image_folder, "--out", tmp_path / "out", "--resize", 16, "--workers", workers]
    monkeypatch.setattr(copies, "copy_smaller", killed_in_its_midst)
    assert ended_by_error(data_command, monkeypatch, *words) == f"error: {KILLED}: {advice}; {GOES_ON}"
    assert not list((tmp_path / "out").rglob("*.part"))
    monkeypatch.setattr(copies, "copy_smaller", without_memory)
    told = ended_by_error(data_command, monkeypatch, *words)
    assert told == f"error: no memory was left to decode images: {advice}; {GOES_ON}"
    monkeypatch.setattr(copies, "copy_smaller", COPY_SMALLER)
    data_command.main()
    assert len(list((tmp_path / "out").glob("*/*/*"))) == 14


LEFT_OPEN = """
import os, pathlib, signal, sys
from bra.data import ImageFolder, ImageSettings, workers
workers.GRACE = 1
signal.signal(signal.SIGTERM, lambda number, frame: print("the parent's handler, in", os.getpid()))
batches = ImageFolder(pathlib.Path(sys.argv[1]), ImageSettings(size=8, workers=2)).training(2, 0, 0)
[next(batches) for _ in range(4)]  # from both workers: until it has begun, one may be interrupted
if sys.argv[2] == "interrupt":
    signal.signal(signal.SIGINT, lambda number, frame: None)
    os.killpg(0, signal.SIGINT)
    [next(batches) for _ in range(20)]
"""


@pytest.mark.skipif(sys.platform == "win32", reason="Windows has no process groups of this kind")
@pytest.mark.parametrize("how", ["leave", "interrupt"])
def test_workers_leave_signals_to_their_parent_and_end_with_it(image_folder, how):
    command = [sys.executable, "-W", "error", "-c", LEFT_OPEN, image_folder, how]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60, start_new_session=True)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
