"""Process trees: which processes belong to a task, and how all of them are ended.

Every process of a task carries a *tag*: a unique, harmless soft limit (`RLIMIT_RTTIME`, a number of microseconds
that nobody reaches) that it inherits through fork, exec, setsid, double forks and an emptied environment.
A process belongs to a task when it has the task's tag, or is a descendant of one that has it.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import time
from collections.abc import Callable, Collection, Mapping
from typing import NamedTuple

_MARK = 1 << 61
_SEQUENCE_BITS = 24
_SEQUENCE_MASK = (1 << _SEQUENCE_BITS) - 1
_SESSION_MASK = (1 << 36) - 1
OWNER = 0  # the sequence of the orchestrator itself, where its own children are claimed; tickets count from 1
_WALL = 0x40000000  # children of every kind, as in wait(2)
_GIVE_UP_S = 20.0  # a process in uninterruptible sleep dies only when its device answers


class Process(NamedTuple):
    """One row of the process table. `started` (clock ticks since boot) tells a pid from its next user."""

    pid: int
    parent: int
    state: str
    started: int


def new_session() -> int:
    """A number for one guardian: 36 random bits."""
    return int.from_bytes(os.urandom(8), "little") & _SESSION_MASK or 1


def make_tag(session: int, sequence: int) -> int:
    """The tag of one command or worker of a session."""
    return _MARK | (session & _SESSION_MASK) << _SEQUENCE_BITS | (sequence & _SEQUENCE_MASK)


def session_of(tag: int) -> int | None:
    """Which session a tag names; None when the number is not a tag."""
    if tag < _MARK or tag >= _MARK << 1:
        return None
    return tag >> _SEQUENCE_BITS & _SESSION_MASK


class Tagger:
    """Gives this process a tag for the moment in which it starts a child."""

    def __init__(self) -> None:
        self._own, self._hard = resource.getrlimit(resource.RLIMIT_RTTIME)

    def put_on(self, tag: int) -> None:
        """From now on children inherit the tag. Does nothing where a hard limit forbids it: lineage must do."""
        if self._hard == resource.RLIM_INFINITY or tag <= self._hard:
            resource.setrlimit(resource.RLIMIT_RTTIME, (tag, self._hard))

    def take_off(self) -> None:
        resource.setrlimit(resource.RLIMIT_RTTIME, (self._own, self._hard))


def tag_of(pid: int) -> int:
    """The process's RLIMIT_RTTIME; 0 when the process is gone or does not tell."""
    try:
        return resource.prlimit(pid, resource.RLIMIT_RTTIME)[0]
    except PermissionError:  # other uids (a set-user-id program): the file is readable where the call is not
        return _tag_from_file(pid)
    except OSError:
        return 0


def _tag_from_file(pid: int) -> int:
    try:
        with open(f"/proc/{pid}/limits", "rb") as file:
            for line in file:
                if line.startswith(b"Max realtime timeout"):
                    soft = line.split()[3]
                    return int(soft) if soft.isdigit() else 0
    except OSError:
        return 0
    return 0


def process(pid: int) -> Process | None:
    """One row of the process table, or None when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            text = file.read(4096)
    except OSError:
        return None
    fields = text[text.rfind(b")") + 2 :].split()  # the name before it may hold blanks and brackets
    return Process(pid, int(fields[1]), fields[0].decode(), int(fields[19]))


def processes() -> dict[int, Process]:
    """The process table, as far as /proc shows it."""
    table: dict[int, Process] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (row := process(int(name))) is not None:
            table[row.pid] = row
    return table


def children() -> list[int] | None:
    """Direct children of this process, zombies included; None when the kernel does not tell."""
    try:
        threads = os.listdir("/proc/self/task")
        if len(threads) == 1:
            return _children_of_thread(threads[0])
        return [pid for thread in threads for pid in _children_of_thread(thread)]
    except OSError:
        return None


def is_childless() -> bool:
    """Has this process no child, alive or dead? One system call, where `children` takes many."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | _WALL)
    except ChildProcessError:
        return True
    except OSError:
        return False  # not known
    return False


def _children_of_thread(thread: str) -> list[int]:
    file = os.open(f"/proc/self/task/{thread}/children", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(file, 65536)
        if len(text) == 65536:
            while more := os.read(file, 65536):
                text += more
    finally:
        os.close(file)
    return [int(word) for word in text.split()] if text else []


def members(
    belongs: Callable[[int], bool], *, root: int | None = None, spare: Collection[int] = ()
) -> dict[int, Process]:
    """Living processes whose tag `belongs`, with their descendants; also those of `root` (without itself)."""
    table = processes()
    below: dict[int, list[int]] = {}
    for row in table.values():
        below.setdefault(row.parent, []).append(row.pid)
    stack = [pid for pid in table if belongs(tag_of(pid))]
    if root is not None:
        stack += below.get(root, ())
    found: dict[int, Process] = {}
    while stack:
        pid = stack.pop()
        if pid not in found:
            found[pid] = table[pid]
            stack += below.get(pid, ())
    dead = [pid for pid, row in found.items() if row.state in "ZX" or pid in spare]
    for pid in dead:
        del found[pid]
    return found


def sweep(belongs: Callable[[int], bool], *, root: int | None = None, spare: Collection[int] = ()) -> int:
    """Kill every process that `members` finds and return how many there were.

    They are stopped first, until no new one appears, so that none can fork its way out; then killed; then looked
    for again. Zombies count as gone: their parent reaps them. Processes that we may not signal are left.
    """
    give_up = time.monotonic() + _GIVE_UP_S
    killed = 0
    out_of_reach = {os.getpid(), *spare}
    while time.monotonic() < give_up:
        held: dict[int, int] = {}
        try:
            try:
                while new := _hold(members(belongs, root=root, spare=out_of_reach), held, belongs, out_of_reach):
                    held |= new
            except OSError:  # the handles have used up all descriptors: end these first, then look again
                if not held:
                    raise
            if not held:
                break
            for handle in held.values():
                _signal(handle, signal.SIGKILL)
            killed += len(held)
            _await_end(held.values(), give_up)
        finally:
            for handle in held.values():
                os.close(handle)
    return killed


def _hold(
    found: Mapping[int, Process],
    held: Mapping[int, int],
    belongs: Callable[[int], bool],
    out_of_reach: set[int],
) -> dict[int, int]:
    """Stop the processes that are not held yet; return handles on them by pid."""
    new: dict[int, int] = {}
    for pid, row in found.items():
        if pid in held:
            continue
        try:
            handle = os.pidfd_open(pid)
        except OSError:
            continue
        if not belongs(tag_of(pid)):  # found by lineage: is the pid still the same process's?
            now = process(pid)
            if now is None or now.started != row.started:
                os.close(handle)
                continue
        if _signal(handle, signal.SIGSTOP):
            new[pid] = handle
        else:
            out_of_reach.add(pid)
            os.close(handle)
    return new


def _signal(handle: int, number: signal.Signals) -> bool:
    """Signal a process by its handle; False when that is not allowed."""
    try:
        signal.pidfd_send_signal(handle, number)
    except ProcessLookupError:
        return True
    except PermissionError:
        return False
    return True


def _await_end(handles: Collection[int], give_up: float) -> None:
    poll = select.poll()
    for handle in handles:
        poll.register(handle, select.POLLIN)
    left = len(handles)
    while left and (pause := give_up - time.monotonic()) > 0:
        for handle, _ in poll.poll(pause * 1000):
            poll.unregister(handle)
            left -= 1


def sweep_session(session: int) -> int:
    """Kill what is left of a guardian's session, whoever its parent is by now. Returns how many it killed.

    For a later start whose predecessor and its guardian were both killed.
    """
    return sweep(lambda tag: session_of(tag) == session)


def find_survivors(session: int) -> list[int]:
    """The pids that `sweep_session` would kill."""
    return sorted(members(lambda tag: session_of(tag) == session, spare=(os.getpid(),)))
