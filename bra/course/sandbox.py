"""The trusted side of the process in which an answer runs: it never runs what was handed in, it sends it numbers.

A check of `bra` is called here, with functions that stand for those over there.
"""

import contextlib
import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any

from bra.checks.judge import Wrong
from bra.course.exercises import Exercise, own_names
from bra.course.limits import Limits
from bra.course.wire import identifier, receive, send

START = 120.0  # seconds: importing torch may take long on a busy machine
PACKAGE = Path(__file__).parents[2]
KEPT = (
    "PATH",
    "SYSTEMROOT",
    "LD_LIBRARY_PATH",
    "DYLD_LIBRARY_PATH",
)  # without these nothing starts


class Sandbox:
    """A process for the answers of one notebook. It starts at the first question, and anew after one that ended it."""

    def __init__(self, limits: Limits):
        self.limits = limits
        self.process: subprocess.Popen | None = None
        self.folder = tempfile.TemporaryDirectory(prefix="answer_", ignore_cleanup_errors=True)

    def __enter__(self) -> "Sandbox":
        return self

    def __exit__(self, kind: type | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self.stop()
        self.folder.cleanup()

    def called(self, cells: Sequence[str]) -> dict[str, int]:
        """The names of the checks that a notebook calls, and in how many statements. Raises Wrong."""
        said = self.ask({"do": "called", "cells": list(cells)})
        return {str(name): int(count) for name, count in said.get("checks", {}).items()}

    def answer(self, cells: Sequence[str], asked: Exercise, skip: int) -> list[tuple[list, dict[str, Any]]]:
        """What a notebook hands to a check: arguments by place, and by name, each time that a statement calls it.

        The last such statement, or one that stands `skip` before it. Raises Wrong.
        """
        said = self.ask({"do": "answer", "cells": list(cells), "check": asked.check, "stem": asked.stem,
                         "own": list(own_names(str(asked.check))), "skip": skip})  # fmt: skip
        if "error" in said:
            kind, words, _ = error_of(said)
            raise Wrong(words if kind == "SyntaxError" else f"Your notebook raised {kind}: {words}")
        return [(list(one.get("given", [])), dict(one.get("named", {}))) for one in said.get("calls", [])]

    def standing_for(self, number: int) -> Callable[..., Any]:
        """The function of that number, called over there."""

        def answer(*given):
            said = self.ask({"do": "call", "function": number, "given": given})
            if "error" in said:
                raise raised_there(said)
            if said.get("changed"):
                raise Wrong("Your function changes its input. Work on a copy.")
            return said.get("value")

        return answer

    def ask(self, request: dict[str, Any]) -> dict[str, Any]:
        """The reply to a request. Raises Wrong if none comes in time, or none that can be read."""
        process = self.started()
        said = self.within(self.limits.seconds, process, lambda: self.exchange(process, request))
        if not isinstance(said, dict):
            raise Wrong("Its result cannot be read.")
        return said

    def exchange(self, process: subprocess.Popen, request: dict[str, Any]) -> Any:
        """Send a request and read its reply."""
        send(process.stdin, request)
        return receive(process.stdout, self.standing_for)

    def started(self) -> subprocess.Popen:
        """The process, ready."""
        if self.process is None:
            place = self.folder.name
            limits = [str(self.limits.seconds), str(self.limits.megabytes)]
            self.process = subprocess.Popen(  # -sP: it imports nothing that an earlier answer has left in its folder
                [sys.executable, "-sP", "-m", "bra.course.worker", *limits],
                stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                cwd=place, env=environment(place), start_new_session=True,
            )  # fmt: skip
            self.within(START, self.process, lambda: receive(self.process.stdout))
        return self.process

    def within(self, seconds: float, process: subprocess.Popen, what: Callable[[], Any]) -> Any:
        """Do something with a process that is killed when it takes longer. Raises Wrong, and says why it ended."""
        late = threading.Event()
        timer = threading.Timer(seconds, lambda: (late.set(), kill(process)))
        timer.start()
        try:
            return what()
        except (EOFError, OSError, ValueError) as error:
            timer.cancel()
            self.stop()
            if late.is_set():
                raise Wrong(f"It did not end within {seconds:g} seconds, and was stopped.") from error
            if isinstance(error, ValueError):
                raise Wrong(f"Its result cannot be read: {error}.") from error
            raise Wrong(f"It ended the process in which it ran{ending(process)}.") from error
        finally:
            timer.cancel()

    def stop(self) -> None:
        """End the process."""
        if self.process is not None:
            kill(self.process)
            self.process.wait()
            for pipe in (self.process.stdin, self.process.stdout):
                with contextlib.suppress(OSError):  # what was not yet sent has no reader any more
                    pipe.close()
            self.process = None


def environment(folder: str) -> dict[str, str]:
    """The variables of that process: none of ours but where the libraries are."""
    paths = [str(PACKAGE), *filter(None, [os.environ.get("PYTHONPATH")])]
    return {name: os.environ[name] for name in KEPT if name in os.environ} | {
        "PYTHONPATH": os.pathsep.join(paths), "HOME": folder, "TMPDIR": folder, "MPLCONFIGDIR": folder,
        "MPLBACKEND": "agg", "OMP_NUM_THREADS": "1", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUTF8": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }  # fmt: skip


def kill(process: subprocess.Popen) -> None:
    """End a process at once, and those that it has started."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(process.pid, signal.SIGKILL) if hasattr(os, "killpg") else process.kill()


def ending(process: subprocess.Popen) -> str:
    """How a process has ended, in words."""
    code = process.returncode
    if code is None or code in (-signal.SIGTERM, -9):
        return ""
    return f" (signal {signal.Signals(-code).name})" if code < 0 else f" (exit code {code})"


def error_of(said: dict[str, Any]) -> tuple[str, str, int]:
    """The kind and the words of an error over there, fit to be printed, and its line in her file, or 0."""
    error = said["error"]
    kind, words, line = error if isinstance(error, list | tuple) and len(error) == 3 else ("object", "", 0)
    return identifier(kind), clean(words), line if isinstance(line, int) else 0


def raised_there(said: dict[str, Any]) -> Exception:
    """An error of the same kind as over there."""
    kind, words, line = error_of(said)
    return type(kind, (Exception,), {"line": line})(words)


def clean(words: Any, most: int = 300) -> str:
    """One line, of characters that can be printed."""
    line = " ".join(str(words).split())
    return "".join(letter if letter.isprintable() else "?" for letter in line)[:most]
