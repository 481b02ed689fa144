"""What code that was handed in may use: time, memory, its own folder. For a process that runs nothing else.

This keeps accidents and mischief in. It is no wall against an attack: who expects one grades in a container.
"""

import os
import sys
from pathlib import Path
from typing import NamedTuple

FORBIDDEN = ("os.exec", "os.fork", "os.kill", "os.posix_spawn", "os.spawn", "os.startfile", "os.system", "pty.spawn",
             "signal.pthread_kill", "socket.bind", "socket.connect", "socket.getaddrinfo", "socket.sendto",
             "subprocess.Popen", "ctypes.")  # fmt: skip
CHANGING = ("os.chmod", "os.chown", "os.link", "os.mkdir", "os.remove", "os.rename", "os.rmdir", "os.symlink",
            "os.truncate", "os.utime", "shutil.")  # fmt: skip
WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND


class Limits(NamedTuple):
    """Seconds for each call of an answer, and megabytes for all that it makes."""

    seconds: float = 20.0
    megabytes: int = 2000


def restrict(limits: Limits) -> None:
    """Limit this process, for good. Where the system cannot limit memory (Windows, macOS), time alone is limited."""
    os.environ.pop("PYTHONPATH", None)
    try:
        import resource
    except ImportError:  # Windows
        return
    calls = 20  # one answer is called several times, each of which has its own limit of time
    bounds = {
        "RLIMIT_CPU": int(limits.seconds * calls) + 1,
        "RLIMIT_FSIZE": 100_000_000,  # of one file
        "RLIMIT_CORE": 0,
    }
    if sys.platform == "linux":  # the libraries that are loaded already do not count
        pages = int(Path("/proc/self/statm").read_text().split()[0])
        bounds["RLIMIT_AS"] = pages * resource.getpagesize() + limits.megabytes * 1_000_000
    for name, most in bounds.items():
        resource.setrlimit(getattr(resource, name), (most, most))


def confine(folder: Path) -> None:
    """From now on this process starts no other, signals none, talks to no network, and writes in `folder` alone."""
    home = os.path.realpath(folder)

    def inside(path) -> bool:
        return isinstance(path, int) or os.path.realpath(os.fsdecode(path)).startswith((home + os.sep, os.devnull))

    def hook(event: str, given: tuple) -> None:
        if event == "open":
            path, mode, flags = given
            writes = any(letter in mode for letter in "wax+") if isinstance(mode, str) else flags & WRITING
            others = not isinstance(path, int) and os.path.realpath(os.fsdecode(path)).startswith("/proc/")
            if (writes and not inside(path)) or others:
                raise PermissionError(f"an answer may not open {path!r}")
        elif event.startswith(FORBIDDEN):
            raise PermissionError(f"an answer may not use {event}")
        elif event.startswith(CHANGING):
            paths = [part for part in given[:2] if isinstance(part, str | bytes | os.PathLike)]
            if not all(inside(path) for path in paths):
                raise PermissionError(f"an answer may not use {event} outside its folder")

    sys.addaudithook(hook)
