"""Eight kinds of task that try to live on, for commands and for Python tasks.

    python -S -E escapees.py KIND MARKER READY

Every process of a task carries the marker in its command line or as its name, and ends by itself after a while, so
that not even a harness that was killed leaves one behind. READY is a file: a line "main KIND PID" for the task's own
process and one "leaf KIND PID" for each process that has taken up its final position.
"""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable

#: kind: how many leaves it has
KINDS = {
    "ignores_term": 1,
    "ignores_all": 1,
    "grandchildren": 3,
    "setsid": 1,
    "daemon": 1,
    "daemon_noenv": 1,
    "subreaper": 2,
    "respawner": 1,
}
_LIFE_S = 40.0
_born = time.monotonic()


def _say(ready: str, what: str, kind: str) -> None:
    handle = os.open(ready, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    os.write(handle, f"{what} {kind} {os.getpid()}\n".encode())
    os.close(handle)


def _name(marker: str) -> None:
    with open("/proc/self/comm", "w", encoding="ascii") as file:
        file.write(marker[:15])


def _linger() -> None:
    while time.monotonic() - _born < _LIFE_S:
        time.sleep(0.05)
    os._exit(0)


def _child(marker: str, work: Callable[[], None]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            _name(marker)
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            work()
            _linger()
        finally:
            os._exit(1)
    return pid


def _daemon(marker: str, work: Callable[[], None]) -> None:
    """Fork twice, in a session of its own: the classic."""

    def first() -> None:
        os.setsid()
        _child(marker, work)
        os._exit(0)

    os.waitpid(_child(marker, first), 0)


def _flee(ready: str, kind: str) -> None:
    """Fork away, into another session, whenever the parent is gone."""
    _say(ready, "leaf", kind)
    parent = os.getppid()
    while time.monotonic() - _born < _LIFE_S:
        if os.getppid() != parent:
            if os.fork():
                os._exit(0)
            os.setsid()
            parent = os.getppid()
        time.sleep(0.003)


def behave(kind: str, marker: str, ready: str) -> None:
    """Be that kind of task. Does not return before it is ended."""
    global _born
    _born = time.monotonic()  # in a fork of a harness this module has been imported long ago
    here = os.path.abspath(__file__)

    def leaf() -> None:
        _say(ready, "leaf", kind)

    def own_session() -> None:
        os.setsid()
        leaf()

    def without_environment() -> None:
        os.execve(sys.executable, [sys.executable, "-S", "-E", here, "leaf", marker, f"{ready}:{kind}"], {})

    def subreaper() -> None:
        import ctypes

        ctypes.CDLL(None).prctl(36, 1, 0, 0, 0)
        _daemon(marker, leaf)
        _daemon(marker, leaf)

    if kind == "leaf":
        ready, kind = ready.rsplit(":", 1)
        leaf()
        _linger()
    _say(ready, "main", kind)
    if kind == "ignores_term":
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        leaf()
    elif kind == "ignores_all":
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        leaf()
    elif kind == "grandchildren":
        for _ in range(3):
            _child(marker, leaf)
    elif kind == "setsid":
        _child(marker, own_session)
    elif kind == "daemon":
        _daemon(marker, leaf)
    elif kind == "daemon_noenv":
        _daemon(marker, without_environment)
    elif kind == "subreaper":
        _child(marker, subreaper)
    elif kind == "respawner":
        _child(marker, lambda: _flee(ready, kind))
    _linger()


if __name__ == "__main__":
    behave(*sys.argv[1:4])
