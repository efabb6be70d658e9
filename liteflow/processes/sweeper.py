"""What the guardian knows of its tickets, and the forks of it that end their processes.

A sweep may have to wait for processes that do not end when they are killed. The guardian may not. So each sweep is
made by a fork, the sweeper; see docs/adr/0026.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from typing import NamedTuple

from liteflow.processes.log_file import LogFile
from liteflow.processes.switch import Switch
from liteflow.processes.tree import Swept

GAVE_UP = 3  # exit code of a sweeper: some processes live on although they were killed
TRIES = 3  # somebody may kill a sweeper
_MOST_DESCRIPTORS = 1 << 30


class Main:
    """The main process of a ticket: a command or a worker."""

    __slots__ = ("born", "deadline", "log", "pid", "pipe", "started_at", "switch", "task", "ticket", "told")

    def __init__(
        self,
        ticket: int,
        pid: int,
        started_at: float,
        *,
        pipe: int = -1,
        log: LogFile | None = None,
        switch: Switch | None = None,
    ) -> None:
        self.ticket = ticket
        self.pid = pid
        self.started_at = started_at
        self.pipe = pipe  # read end of its output, or -1
        self.log = log
        self.switch = switch  # of a worker: it has a log for each task
        self.task = 0  # the number of the task whose log this is
        self.born = 0  # clock ticks since boot; nothing that it starts is older
        self.told = False  # it was told to end, while it ran
        self.deadline: float | None = None  # monotonic; when patience with a stop ends


class Ended(NamedTuple):
    """A main process that was reaped."""

    main: Main
    status: int  # as of waitpid
    ended_at: float  # epoch seconds


class Sweep:
    """Tickets whose processes a sweeper is ending."""

    __slots__ = ("ended", "roots", "tickets", "tries")

    def __init__(self, tickets: set[int], roots: dict[int, int], ended: Sequence[Ended] = ()) -> None:
        self.tickets = tickets
        self.roots = roots  # processes that belong to the tickets and may not have the tag
        self.ended = list(ended)  # to be reported when the sweep is over
        self.tries = 0


def fork_sweeper(work: Callable[[], Swept], held: Sequence[int]) -> int | None:
    """Fork a process that does a sweep, and return its pid; its exit code tells whether some processes lived on.

    It keeps the descriptors in `held`: the run's lock, so that nobody takes the run over before the sweep is done.
    None: it cannot be forked.
    """
    try:
        pid = os.fork()
    except OSError:
        return None
    if pid:
        return pid
    code = 70
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        _close_all_but(held)
        code = GAVE_UP if work().left else 0
    finally:
        os._exit(code)


def reap_until(pid: int) -> int:
    """Reap children until this one has ended; its exit code, -N for signal N."""
    while True:
        try:
            ended, status = os.waitpid(-1, 0)
        except ChildProcessError:
            return 0
        if ended == pid:
            return os.waitstatus_to_exitcode(status)


def _close_all_but(held: Sequence[int]) -> None:
    """Close all descriptors above standard error but these."""
    first = 3
    for fd in sorted(held):
        os.closerange(first, fd)
        first = max(first, fd + 1)
    os.closerange(first, _MOST_DESCRIPTORS)
