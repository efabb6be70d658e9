"""The orchestrator's connection to its guardian."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import socket
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Final, NamedTuple

from liteflow.errors import ResourceError
from liteflow.masking import Masker
from liteflow.processes import tree
from liteflow.processes.forks import close_in_forks, keep_open_in_forks, passing_to_forks
from liteflow.processes.frames import Channel, close_quietly
from liteflow.processes.guardian import WorkerMain, serve
from liteflow.record import Record

_THREAD_EXIT_S = 0.02
_CHECK_EVERY_S = 0.25  # for a guardian that was stopped by a signal
CLOSE_S: Final = 20.0  # how long a guardian may take to end what it has started
_UNWATCHED_PAUSE_S = 0.005  # where the kernel has no process descriptors


class Started(Record, kw_only=False):
    """The main process of a job has started."""

    job: int
    pid: int


class Exited(Record):
    """The main process of a job has ended, and its tree with it."""

    job: int
    code: int  # -N: signal N
    started_at: float  # epoch seconds, as the next one
    ended_at: float
    output_bytes: int = 0
    error: str | None = None  # why it could not be started
    masked: tuple[str, ...] = ()  # names of the secrets in its output
    stopped: bool = False  # its stop was requested while it ran
    lost: str | None = None  # why its log does not hold all of its output
    survivors: tuple[int, ...] = ()  # processes of the job that cannot be killed


class Undone(Record, kw_only=False):
    """An undo has ended."""

    number: int
    value: Any  # from its worker; None: none has arrived
    error: str  # why none has arrived, or nothing


class NotImportable(Exception):
    """A fresh interpreter cannot import the functions of the run; it has to be forked instead."""


class ImportableWorker(NamedTuple):
    """The main function of a worker in a fresh interpreter: `module.function(unpickled argument, socket, switch)`."""

    module: str
    function: str
    argument: bytes
    secrets: Mapping[str, str] | None = None  # to be masked; they are sent over the control socket


_PYTHON: Final = r"(python|pypy)[0-9.]*[a-z-]*"


def interpreter() -> str:
    """Return the path of the Python interpreter that runs this program.

    A frozen program, or one that embeds Python, has itself as `sys.executable`: with `-c` it would run itself again.

    Raises:
        NotImportable: the path is not known, or is not a Python interpreter.
    """
    path = sys.executable
    if not isinstance(path, str) or not path:
        raise NotImportable("there is no interpreter: sys.executable is not set")
    try:
        is_ours = os.path.samefile(path, "/proc/self/exe")
        names = (os.path.basename(path), os.path.basename(os.readlink("/proc/self/exe")))
    except (OSError, ValueError) as error:
        raise NotImportable(f"the interpreter {path!r} cannot be used: {error}") from None
    if getattr(sys, "frozen", False) or not is_ours or not any(re.fullmatch(_PYTHON, name) for name in names):
        raise NotImportable(f"{path!r} is not a Python interpreter")
    return path


def _pair() -> tuple[socket.socket, socket.socket]:
    """Return two connected sockets that forks close: a child that outlives this process would hide its death."""
    parent_end, child_end = socket.socketpair()
    close_in_forks(parent_end)
    close_in_forks(child_end)
    return parent_end, child_end


def is_single_threaded() -> bool:
    """Return whether this process has one thread only, counting threads that Python does not know."""
    if threading.active_count() > 1:
        return False
    end = time.monotonic() + _THREAD_EXIT_S
    while _thread_count() > 1:  # the kernel needs a moment to remove a thread that was joined
        if time.monotonic() >= end:
            return False
        time.sleep(0.0005)
    return True


def _thread_count() -> int:
    """Return the number of threads in the kernel's table, or in Python's where /proc is missing."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


#: Guardians of this process that are not reaped yet: a signal handler of the program may raise inside `close`.
_unreaped: dict[int, weakref.ref[GuardianConnection]] = {}


def _reap_abandoned() -> None:
    """Reap guardians that have ended and whose connection is closed or collected."""
    for pid, reference in list(_unreaped.items()):
        guardian = reference()
        if guardian is None or guardian.is_closed():
            try:
                has_ended = os.waitpid(pid, os.WNOHANG)[0] != 0
            except ChildProcessError:
                has_ended = True
            if has_ended:
                _unreaped.pop(pid, None)


class GuardianConnection:
    """A running guardian. When `fileno()` is readable, call `read()`.

    Attributes:
        pid: the guardian's process id.
        session: the number that is in the tags of all processes that it starts.
        failure: why a guardian that is dead could not work; None if it was killed.
        message_count: the number of messages that have arrived.
    """

    def __init__(self, control: socket.socket, pid: int, session: int) -> None:
        self._socket = control
        self._control = Channel(control)
        self._events: list[Started | Exited | Undone] = []
        self._answer: tuple[Any, ...] | None = None  # to `_introduce`
        self.pid = pid
        _unreaped[pid] = weakref.ref(self)
        self.session = session
        self.failure: str | None = None
        self.message_count = 0
        self._dead = False

    @classmethod
    def fork(
        cls, worker_main: WorkerMain, *, close_in_workers: Sequence[int] = (), masker: Masker | None = None
    ) -> GuardianConnection:
        """Fork a guardian, which has the whole program in memory. Do it while there is one thread only.

        Raises:
            ResourceError: no more processes or files are allowed.
        """
        _reap_abandoned()
        session = tree.new_session()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()  # otherwise the fork would write buffered text again
            except (AttributeError, OSError, ValueError):
                continue
        try:
            parent_end, child_end = _pair()
            with warnings.catch_warnings(), passing_to_forks((*close_in_workers, child_end.fileno())):
                warnings.simplefilter("ignore", DeprecationWarning)  # about threads: the caller has decided
                pid = os.fork()
        except OSError as error:
            raise ResourceError(f"the guardian process cannot be started: {error.strerror}") from None
        if pid == 0:
            serve(child_end, session, worker_main, close_in_workers, masker)
        child_end.close()
        return cls(parent_end, pid, session)

    @classmethod
    def execute(cls, worker: ImportableWorker, *, close_in_workers: Sequence[int] = ()) -> GuardianConnection:
        """Start a guardian as a fresh interpreter that imports its worker: safe with any number of threads.

        Raises:
            NotImportable: the worker cannot be imported there, or there is no interpreter.
            ResourceError: no more processes or files are allowed.
        """
        _reap_abandoned()
        python, session = interpreter(), tree.new_session()
        code = f"import sys; sys.path[:] = {sys.path!r}; from liteflow.processes.guardian import main; main()"
        try:
            parent_end, child_end = _pair()
            with child_end:
                pid = os.posix_spawn(
                    python,
                    [python, "-c", code],
                    os.environ,
                    file_actions=[(os.POSIX_SPAWN_DUP2, child_end.fileno(), 0)],
                )
        except OSError as error:
            raise ResourceError(f"the guardian process cannot be started: {error.strerror}") from None
        guardian = cls(parent_end, pid, session)
        guardian._introduce(worker, list(close_in_workers))
        return guardian

    def _introduce(self, worker: ImportableWorker, descriptors: list[int]) -> None:
        secrets = None if worker.secrets is None else dict(worker.secrets)
        message = ("init", self.session, *worker[:3], secrets)
        if descriptors:
            self._control.send_descriptors(message, descriptors, self._wait)
        else:
            self._control.send(message)
        while self._answer is None and not self._control.eof:
            self._wait()
        if self._answer is None or self._answer[0] != "ready":
            self.close()
            reason = self._answer[1] if self._answer else "it ended at once"
            raise NotImportable(f"the tasks cannot be imported by a fresh interpreter: {reason}")

    def fileno(self) -> int:
        return self._control.fileno()

    def is_closed(self) -> bool:
        """Return whether `close` was called, even if it was interrupted."""
        return self._socket.fileno() < 0

    def is_dead(self) -> bool:
        """Return whether `read` has found the guardian dead; everything that it started is dead, too."""
        return self._dead

    @property
    def pending(self) -> bool:
        """Whether messages were read while others were sent: `read` them without waiting for the descriptor."""
        return bool(self._events) or self._control.eof

    def start_command(
        self,
        job: int,
        argv: Sequence[str],
        cwd: str | None,
        environ: Mapping[str, str],
        log_path: str | None,
    ) -> None:
        """Start a command; its events are Started and Exited. Without `log_path` it writes where we write."""
        self._send(("command", job, list(argv), cwd, dict(environ), log_path))

    def start_worker(self, job: int, sock: socket.socket, *, keeps_logs: bool) -> None:
        """Fork a worker that has this socket; its events are Started and Exited.

        With `keeps_logs` its output goes through the guardian into the log of the task that it runs (see `switch`);
        otherwise it writes where this process writes.
        """
        self._control.send_descriptors(("worker", job, keeps_logs), [sock.fileno()], self._wait)

    def stop(self, job: int, grace_s: float) -> None:
        """Send SIGTERM to the job's process group; kill its whole tree after `grace_s` seconds."""
        self._send(("stop", job, float(grace_s)))

    def signal(self, job: int, number: int) -> None:
        """Send a signal to the first process of a job."""
        self._send(("signal", job, int(number)))

    def register_undo(self, number: int, packet: bytes) -> None:
        """Register an undo: it is done if this process dies. Its number is that of no job."""
        self._send(("register", number, packet))

    def take_back_undo(self, number: int) -> None:
        """Forget a registered undo: the attempt has succeeded."""
        self._send(("take_back", number))

    def undo(self, number: int) -> None:
        """Do a registered undo now; its event is Undone."""
        self._send(("undo", number))

    def set_lease(self, deadline: float) -> None:
        """Have the guardian end everything at a moment of the boot-time clock, unless it is moved before."""
        self._send(("lease", float(deadline)))

    def ping(self) -> None:
        """Ask for a message: `message_count` grows."""
        self._send(("ping",))

    def continue_stopped(self) -> None:
        """Continue a guardian that was stopped by a signal."""
        try:
            if os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG) is not None:
                os.kill(self.pid, signal.SIGCONT)
        except OSError:  # it is dead, or the program ignores SIGCHLD
            return

    def kill(self) -> None:
        """Kill the guardian itself; `read` then kills what it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def _send(self, message: tuple[Any, ...]) -> None:
        self._control.send(message)
        while self._control.backlog and not self._control.eof:
            self._wait()
            self._control.flush()

    def _wait(self) -> None:
        """Wait until more can be sent, and read meanwhile, so that the two sides never wait for each other."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN | (select.POLLOUT if self._control.backlog else 0))
        if not poll.poll(_CHECK_EVERY_S * 1000):
            self.continue_stopped()
        self._collect()

    def read(self) -> list[Started | Exited | Undone]:
        """Return the events since the last call. When the guardian is dead, sweep its session."""
        self._collect()
        events, self._events = self._events, []
        if self._control.eof and not self._dead:
            self._dead = True
            tree.sweep_session(self.session)
        return events

    def _collect(self) -> None:
        for message in self._control.take():
            self.message_count += 1
            if message[0] == "started":
                self._events.append(Started(*message[1:]))
            elif message[0] == "exited":
                self._events.append(Exited(**message[1]))
            elif message[0] == "undone":
                self._events.append(Undone(*message[1:]))
            elif message[0] == "unable":
                self.failure = message[1]
            elif message[0] != "pong":
                self._answer = message

    def close(self, timeout_s: float = CLOSE_S) -> bool:
        """End everything that the guardian has started, and the guardian; safe to call twice.

        Return whether it ended in order, with the undos that were registered; False also for the second call.
        """
        if self._socket.fileno() < 0:
            return False
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGCONT)
        self._control.send(("goodbye",))
        keep_open_in_forks(self._socket)
        self._control.close()  # which has the same effect if the message was not sent
        in_order = self._reap(time.monotonic() + timeout_s)
        if not in_order and not self._dead:
            self._dead = True
            tree.sweep_session(self.session)
        return in_order

    def _reap(self, deadline: float) -> bool:
        """Wait for the guardian's end, and kill it after the deadline; return whether it ended in order."""
        pidfd = -1
        try:
            pidfd = tree.open_pidfd(self.pid)
            while time.monotonic() < deadline:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    break
                self.continue_stopped()
                _pause(pidfd)
            else:
                self.kill()
                _, status = os.waitpid(self.pid, 0)
        except (ChildProcessError, ProcessLookupError):  # the program ignores SIGCHLD, or has reaped the guardian
            status = -1
        finally:
            close_quietly(pidfd)
        _unreaped.pop(self.pid, None)
        return status == 0


def _pause(pidfd: int) -> None:
    """Wait for the end of a process by its descriptor; for a moment only where there is none."""
    if pidfd < 0:
        time.sleep(_UNWATCHED_PAUSE_S)
        return
    poll = select.poll()
    poll.register(pidfd, select.POLLIN)
    poll.poll(_CHECK_EVERY_S * 1000)
