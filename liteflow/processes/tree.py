"""Process trees: which processes belong to a job, and how all of them are ended.

Every process of a job has a *tag*: a unique, harmless soft limit (`RLIMIT_RTTIME`, a number of microseconds that no
process reaches), which is inherited through fork, exec, setsid, double forks and an emptied environment. A process
belongs to a job when it has the tag of the job, or is a descendant of a process that has it.

A program that resets all limits (`su`) removes the tag. For such processes the tag is in the environment, too, and
the caller of `members` names the processes that it knows by other means.

Where /proc is missing, or belongs to another PID namespace, processes are found by their tags alone.
"""

from __future__ import annotations

import os
import resource
import select
import signal
import time
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager

from liteflow.record import Record

_MARK = 1 << 61
_SEQUENCE_BITS = 24
_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_SEQUENCE_MASK = (1 << _SEQUENCE_BITS) - 1
_SESSION_MASK = (1 << 36) - 1
OWNER = 0  # the number of the orchestrator itself, where its own children are claimed; jobs count from 1
_WALL = 0x40000000  # children of every kind, as in wait(2)
_GIVE_UP_S = 10.0  # a process in uninterruptible sleep, or in a frozen group, dies only when that ends
_SWEEP_AGAIN_S = 0.5
_UNWATCHED_PAUSE_S = 0.005
_PROBED_ABOVE = 1 << 15  # process numbers above this process's, where there is no table of processes

#: The variable that repeats the tag in the environment of commands.
TAG_VARIABLE = "LIGHTFLOW_PROCESS_TAG"


class Process(Record, kw_only=False):
    """A row of the process table. `started` (clock ticks since boot) distinguishes processes that had the same pid.

    Where there is no table, `parent` and `started` are 0.
    """

    pid: int
    parent: int
    state: str
    started: int


def new_session() -> int:
    """Return a number for a guardian: 36 random bits."""
    return int.from_bytes(os.urandom(8), "little") & _SESSION_MASK or 1


def make_tag(session: int, sequence: int) -> int:
    """Return the tag of a job of a session."""
    return _MARK | (session & _SESSION_MASK) << _SEQUENCE_BITS | (sequence & _SEQUENCE_MASK)


def session_of(tag: int) -> int | None:
    """Return the session of a tag; None when the number is not a tag."""
    if tag < _MARK or tag >= _MARK << 1:
        return None
    return tag >> _SEQUENCE_BITS & _SESSION_MASK


class Swept(Record):
    """The result of a sweep: the number of processes that it killed, and those that live on, which it cannot end."""

    killed: int
    left: tuple[int, ...] = ()


class Tagger:
    """Gives this process a tag for the moment in which it starts a child."""

    def __init__(self) -> None:
        self._before, self._hard = resource.getrlimit(resource.RLIMIT_RTTIME)

    def put_on(self, tag: int) -> None:
        """Let children inherit the tag from now on; do nothing where a hard limit forbids it, and lineage has to do."""
        if self._hard == resource.RLIM_INFINITY or tag <= self._hard:
            resource.setrlimit(resource.RLIMIT_RTTIME, (tag, self._hard))

    def take_off(self) -> None:
        resource.setrlimit(resource.RLIMIT_RTTIME, (self._before, self._hard))


@contextmanager
def untagged() -> Iterator[None]:
    """Let children that are started within this context inherit no tag: they belong to no job."""
    before, hard = resource.getrlimit(resource.RLIMIT_RTTIME)
    if session_of(before) is None:
        yield
        return
    resource.setrlimit(resource.RLIMIT_RTTIME, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_RTTIME, (before, hard))


def set_subreaper(*, on: bool) -> bool:
    """Make orphaned descendants of this process its children instead of init's; return False where that is refused."""
    import ctypes  # 3 ms, in the guardian only

    return int(ctypes.CDLL(None).prctl(_PR_SET_CHILD_SUBREAPER, int(on), 0, 0, 0)) == 0


def die_with_parent(parent: int) -> None:
    """Let the kernel kill this process when its parent, which has one thread, ends. `parent` is the parent's pid."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, int(signal.SIGKILL), 0, 0, 0)
    if os.getppid() != parent:  # it has ended before the call
        os.kill(os.getpid(), signal.SIGKILL)


def tag_of(pid: int) -> int:
    """Return the process's RLIMIT_RTTIME; 0 when the process has ended or its limit cannot be read."""
    try:
        return resource.prlimit(pid, resource.RLIMIT_RTTIME)[0]
    except PermissionError:  # another uid (a set-user-id program): the file is readable, the call is refused
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


def environment_tag_of(pid: int) -> int:
    """Return the tag in the environment with which the process's program was started; 0 when it has none."""
    try:
        with open(f"/proc/{pid}/environ", "rb") as file:
            for entry in file.read().split(b"\0"):
                name, _, value = entry.partition(b"=")
                if name == TAG_VARIABLE.encode() and value.isdigit() and len(value) < 20:
                    return int(value)
    except OSError:
        return 0
    return 0


def has_table() -> bool:
    """Return whether /proc exists and shows the process numbers that this process uses."""
    try:
        return os.readlink("/proc/self") == str(os.getpid())
    except OSError:
        return False


def process(pid: int) -> Process | None:
    """Return a row of the process table, or None when there is no such process."""
    try:
        with open(f"/proc/{pid}/stat", "rb", buffering=0) as file:
            text = file.read(4096)
    except OSError:
        return None
    fields = text[text.rfind(b")") + 2 :].split()  # the name before it may contain blanks and brackets
    return Process(pid, int(fields[1]), fields[0].decode(), int(fields[19]))


def processes() -> dict[int, Process]:
    """Return the process table, as far as /proc shows it; without /proc, the processes that have any tag."""
    if not has_table():
        return {pid: Process(pid, 0, "R", 0) for pid in _probed() if session_of(tag_of(pid)) is not None}
    table: dict[int, Process] = {}
    for name in os.listdir("/proc"):
        if name.isdigit() and (row := process(int(name))) is not None:
            table[row.pid] = row
    return table


def _probed() -> Iterator[int]:
    """Return process numbers that may be in use; a process with a number far above this process's is missed."""
    return iter(range(1, os.getpid() + _PROBED_ABOVE))


def children() -> list[int] | None:
    """Return the direct children of this process, including zombies; None when the kernel does not list them."""
    if not has_table():
        return None
    try:
        threads = os.listdir("/proc/self/task")
        if len(threads) == 1:
            return _children_of_thread(threads[0])
        return [pid for thread in threads for pid in _children_of_thread(thread)]
    except OSError:
        return None


def is_childless() -> bool:
    """Return whether this process has no child, alive or dead; a single system call, unlike `children`."""
    try:
        os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT | _WALL)
    except ChildProcessError:
        return True
    except OSError:
        return False  # unknown
    return False


def _children_of_thread(thread: str) -> list[int]:
    file = os.open(f"/proc/self/task/{thread}/children", os.O_RDONLY | os.O_CLOEXEC)
    try:
        text = os.read(file, 65536)
        if len(text) == 65536:
            while chunk := os.read(file, 65536):
                text += chunk
    finally:
        os.close(file)
    return [int(word) for word in text.split()] if text else []


def own_root() -> dict[int, int]:
    """Return this process as the root of `members`."""
    row = process(os.getpid())
    return {} if row is None or not has_table() else {row.pid: row.started}


def members(
    belongs: Callable[[int], bool], *, roots: Mapping[int, int] | None = None, spare: Collection[int] = ()
) -> dict[int, Process]:
    """Return the living processes whose tag `belongs`, those of `roots` (`started` by pid), and all their descendants.

    Processes in `spare` are left out; their descendants are not.
    """
    table = processes()
    below: dict[int, list[int]] = {}
    for row in table.values():
        below.setdefault(row.parent, []).append(row.pid)
    stack = [pid for pid in table if belongs(tag_of(pid))]
    for pid, started in (roots or {}).items():
        if pid in table and table[pid].started == started:
            stack.append(pid)
    selected: dict[int, Process] = {}
    while stack:
        pid = stack.pop()
        if pid not in selected:
            selected[pid] = table[pid]
            if pid:  # without a table every process has the parent 0
                stack += below.get(pid, ())
    dead = [pid for pid, row in selected.items() if row.state in "ZX" or pid in spare]
    for pid in dead:
        del selected[pid]
    return selected


class Handle:
    """A process that is held, so that no signal hits another process with the same number.

    The kernel holds it by a descriptor. Where the kernel refuses one (old kernels, sandboxes, no more files) the start
    of the process is compared before each signal.
    """

    __slots__ = ("_started", "fd", "pid")

    def __init__(self, row: Process) -> None:
        """Raises ProcessLookupError when there is no such process."""
        self.pid, self._started = row.pid, row.started
        self.fd = open_pidfd(row.pid)

    def signal(self, number: signal.Signals) -> bool:
        """Signal the process; False when that is not allowed."""
        if self.fd >= 0:
            try:
                signal.pidfd_send_signal(self.fd, number)
                return True
            except ProcessLookupError:
                return True
            except (OSError, AttributeError):
                pass  # refused: the process, or the system call
        if self.is_over():
            return True
        try:
            os.kill(self.pid, number)
        except ProcessLookupError:
            return True
        except OSError:
            return False
        return True

    def is_over(self) -> bool:
        """Return whether the process has ended; it may not be reaped yet."""
        if self._started == 0:  # there is no table
            return is_dead_child(self.pid) or session_of(tag_of(self.pid)) is None
        return not _is_running(Process(self.pid, 0, "", self._started))

    def close(self) -> None:
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1


def open_pidfd(pid: int) -> int:
    """Return a descriptor of the process that becomes readable at its end; -1 where the system has no descriptor.

    Raises:
        ProcessLookupError: there is no such process.
    """
    try:
        return os.pidfd_open(pid)
    except ProcessLookupError:
        raise
    except (OSError, AttributeError):  # a Python that was built for an older kernel has no such function
        return -1


def is_dead_child(pid: int) -> bool:
    """Return whether a process is a child of this one that has ended and is not reaped yet."""
    try:
        return os.waitid(os.P_PID, pid, os.WEXITED | os.WNOHANG | os.WNOWAIT | _WALL) is not None
    except OSError:
        return False


def sweep(
    belongs: Callable[[int], bool],
    *,
    roots: Mapping[int, int] | None = None,
    spare: Collection[int] = (),
    first: Mapping[int, Process] | None = None,
) -> Swept:
    """Kill every process that `members` finds (`first`: has just found).

    The processes are stopped first, until no new one appears, so that none escapes by forking; then they are killed;
    then the search is repeated. Zombies count as ended: their parent reaps them. Processes live on that this process
    may not signal, or that do not end within ten seconds.
    """
    deadline = time.monotonic() + _GIVE_UP_S
    killed = 0
    refused = dict[int, Process]()
    dying: list[Handle] = []
    out_of_reach = {os.getpid(), *spare}
    while True:
        held: dict[int, Handle] = {}
        try:
            while True:
                passed = out_of_reach | {handle.pid for handle in dying}
                living = members(belongs, roots=roots, spare=passed) if first is None else first
                first = None
                new = _hold(living, held, belongs, out_of_reach, refused)
                if not new:
                    break
                held |= new
        except OSError:  # no descriptor is free for the table: end those that are held first, then look again
            if not held and not dying:
                raise
        for handle in held.values():
            handle.signal(signal.SIGKILL)
        killed += len(held)
        dying += held.values()
        if not dying:
            break
        awaited = {handle.pid for handle in dying}
        dying = _await_end(dying, min(deadline, time.monotonic() + _SWEEP_AGAIN_S))
        if not has_table():  # a dead process has its tag until it is reaped
            out_of_reach |= awaited - {handle.pid for handle in dying}
        if time.monotonic() >= deadline:
            break
    for handle in dying:
        handle.close()
    left = [handle.pid for handle in dying] + [pid for pid, row in refused.items() if _is_running(row)]
    return Swept(killed=killed, left=tuple(left))


def _hold(
    living: Mapping[int, Process],
    held: Mapping[int, Handle],
    belongs: Callable[[int], bool],
    out_of_reach: set[int],
    refused: dict[int, Process],
) -> dict[int, Handle]:
    """Stop the processes that are not held yet; return handles on them by pid."""
    new: dict[int, Handle] = {}
    for pid, row in living.items():
        if pid in held or pid in out_of_reach:
            continue
        try:
            handle = Handle(row)
        except ProcessLookupError:
            continue
        if not belongs(tag_of(pid)):  # found by lineage: check that the pid is still that of the same process
            now = process(pid)
            if now is None or now.started != row.started:
                handle.close()
                continue
        if handle.signal(signal.SIGSTOP):
            new[pid] = handle
        else:
            out_of_reach.add(pid)
            refused[pid] = row
            handle.close()
    return new


def _is_running(row: Process) -> bool:
    now = process(row.pid)
    return now is not None and now.started == row.started and now.state not in "ZX"


def _await_end(handles: Collection[Handle], deadline: float) -> list[Handle]:
    """Wait for the end of these processes, and return those that have not ended by the deadline."""
    poll, watched, unwatched = select.poll(), dict[int, Handle](), list[Handle]()
    for handle in handles:
        if handle.fd >= 0:
            watched[handle.fd] = handle
            poll.register(handle.fd, select.POLLIN)
        else:
            unwatched.append(handle)
    while (watched or unwatched) and (pause := deadline - time.monotonic()) > 0:
        for fd, _ in poll.poll((min(pause, _UNWATCHED_PAUSE_S) if unwatched else pause) * 1000):
            poll.unregister(fd)
            watched.pop(fd).close()
        unwatched = [handle for handle in unwatched if not handle.is_over()]
    return [*watched.values(), *unwatched]


def sweep_session(session: int) -> int:
    """Kill the processes that are left of a guardian's session; return how many were killed.

    It is for a resume after the orchestrator and its guardian were both killed.
    """
    return sweep(lambda tag: session_of(tag) == session).killed


def find_survivors(session: int) -> list[int]:
    """Return the pids that `sweep_session` would kill."""
    return sorted(members(lambda tag: session_of(tag) == session, spare=(os.getpid(),)))
