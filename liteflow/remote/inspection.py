"""The facts of a machine, from its agent: for people who check a cluster before they use it."""

from __future__ import annotations

import os
import time
from typing import Any, Final

from liteflow.processes import tree

_AGENT: Final = b"liteflow.remote.agent"
_INIT: Final = (b"systemd", b"init")  # names of processes that adopt orphans, besides process 1


def inspection(temporary: str) -> dict[str, Any]:
    """Return the facts of this machine as plain data.

    Args:
        temporary: the folder in which agents make their folders.

    Returns:
        `time` (the clock, epoch seconds), `cwd`, `free` and `temporary_free` (bytes of the disks of the current folder
        and of the temporary one), `agents` (the number of other agents), `left` (the pids of processes of tasks
        whose guardian is dead).
    """
    table = tree.processes()
    return {
        "time": time.time(),
        "cwd": os.getcwd(),
        "free": _free(os.curdir),
        "temporary": temporary,
        "temporary_free": _free(temporary),
        "agents": sum(pid != os.getppid() and _is_keeper(row, table) for pid, row in table.items()),
        "left": sorted(pid for pid, row in table.items() if _is_left(row, table)),
    }


def _free(folder: str) -> int:
    disk = os.statvfs(folder)
    return disk.f_bavail * disk.f_frsize


def _is_keeper(row: tree.Process, table: dict[int, tree.Process]) -> bool:
    """Return whether a process is the first of an agent, of which the others are forks."""
    if _AGENT not in _words(row.pid):
        return False
    parent = table.get(row.parent)
    return parent is None or _AGENT not in _words(parent.pid)


def _is_left(row: tree.Process, table: dict[int, tree.Process]) -> bool:
    """Return whether a process belongs to a task, and its guardian is dead: what adopts orphans has adopted it."""
    if row.state in "ZX" or tree.session_of(tree.tag_of(row.pid)) is None:
        return False
    parent = table.get(row.parent)
    return parent is None or parent.pid == 1 or _name(parent.pid) in _INIT


def _words(pid: int) -> list[bytes]:
    return _read(f"/proc/{pid}/cmdline").split(b"\0")[:4]


def _name(pid: int) -> bytes:
    return _read(f"/proc/{pid}/comm").strip()


def _read(path: str) -> bytes:
    try:
        with open(path, "rb") as file:
            return file.read(4096)
    except OSError:  # it has ended, or belongs to another user
        return b""
