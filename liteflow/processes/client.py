"""The orchestrator's handle on its guardian."""

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

_THREAD_EXIT_S = 0.02
_LOOK_EVERY_S = 0.25  # whether somebody has stopped the guardian
_UNWATCHED_PAUSE_S = 0.005  # where the kernel gives no descriptor of a process


class Started(NamedTuple):
    ticket: int
    pid: int


class Exited(NamedTuple):
    """A main process has ended, and its tree with it. `code` is -N for signal N; times are epoch seconds."""

    ticket: int
    code: int
    started_at: float
    ended_at: float
    output_bytes: int = 0
    error: str | None = None  # why it could not be started
    masked: tuple[str, ...] = ()  # names of the secrets that were in its output
    told: bool = False  # it was told to stop while it ran
    lost: str | None = None  # why not all of its output is in its log
    left: tuple[int, ...] = ()  # processes of its task that nobody can end


class NotImportable(Exception):
    """A fresh interpreter could not find the program; the caller has another way."""


class Program(NamedTuple):
    """What a fresh interpreter needs to become a worker: `module.function(unpickled argument, sock, spool)`."""

    module: str
    function: str
    argument: bytes
    secrets: Mapping[str, str] | None = None  # to be masked; they travel over the control socket


_PYTHON: Final = re.compile(r"(python|pypy)[0-9.]*[a-z-]*")


def interpreter() -> str:
    """The path of the Python that runs this program; `-c` makes it run other code.

    A program that is frozen, or has Python built in, names itself as `sys.executable`: started with `-c` it would run
    itself once more.

    Raises:
        NotImportable: it is not known, or is no Python.
    """
    path = sys.executable
    if not isinstance(path, str) or not path:
        raise NotImportable("there is no interpreter: sys.executable is not set")
    try:
        is_ours = os.path.samefile(path, "/proc/self/exe")
        names = (os.path.basename(path), os.path.basename(os.readlink("/proc/self/exe")))
    except (OSError, ValueError) as error:
        raise NotImportable(f"the interpreter {path!r} cannot be used: {error}") from None
    if getattr(sys, "frozen", False) or not is_ours or not any(_PYTHON.fullmatch(name) for name in names):
        raise NotImportable(f"{path!r} is a program of its own and no Python interpreter")
    return path


def _pair() -> tuple[socket.socket, socket.socket]:
    """Two connected sockets that no fork keeps open: a child that outlives us would hide our death."""
    ours, theirs = socket.socketpair()
    close_in_forks(ours)
    close_in_forks(theirs)
    return ours, theirs


def is_single_threaded() -> bool:
    """May this process be forked? Threads that Python does not know of count too."""
    if threading.active_count() > 1:
        return False
    give_up = time.monotonic() + _THREAD_EXIT_S
    while _threads() > 1:  # a thread that was joined takes a moment to be gone
        if time.monotonic() >= give_up:
            return False
        time.sleep(0.0005)
    return True


def _threads() -> int:
    """How many threads the kernel knows of; where /proc is missing, how many Python does."""
    try:
        return len(os.listdir("/proc/self/task"))
    except OSError:
        return threading.active_count()


#: Guardians of this process that nobody has reaped. A handler of the program's may raise anywhere, also in `close`.
_unreaped: dict[int, weakref.ref[Guardian]] = {}


def _reap_abandoned() -> None:
    """Reap guardians that have ended and that nobody asks for any more."""
    for pid, reference in list(_unreaped.items()):
        guardian = reference()
        if guardian is None or guardian.is_closed():
            try:
                over = os.waitpid(pid, os.WNOHANG)[0] != 0
            except ChildProcessError:
                over = True
            if over:
                _unreaped.pop(pid, None)


class Guardian:
    """A running guardian. Watch `fileno()`; when it is readable, `read()`.

    `is_dead()` turns true when it has been killed: by then everything it had started is dead as well. `failed` tells
    then why it could not work.
    """

    def __init__(self, control: socket.socket, pid: int, session: int) -> None:
        self._socket = control
        self._control = Channel(control)
        self._events: list[Started | Exited] = []
        self._answer: tuple[Any, ...] | None = None  # to the introduction of an executed guardian
        self.pid = pid
        _unreaped[pid] = weakref.ref(self)
        self.session = session
        self.failed: str | None = None
        self.heard = 0  # how many messages have come
        self._dead = False

    @classmethod
    def fork(
        cls, worker_main: WorkerMain, *, close_in_workers: Sequence[int] = (), masker: Masker | None = None
    ) -> Guardian:
        """Fork a guardian that has the whole program in memory. Best done while there is one thread only.

        Raises:
            ResourceError: no more processes or files are allowed.
        """
        _reap_abandoned()
        session = tree.new_session()
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()  # or what is still buffered would be written twice
            except (AttributeError, OSError, ValueError):
                continue
        try:
            ours, theirs = _pair()
            with warnings.catch_warnings(), passing_to_forks((*close_in_workers, theirs.fileno())):
                warnings.simplefilter("ignore", DeprecationWarning)  # about threads: the caller has weighed that
                pid = os.fork()
        except OSError as error:
            raise ResourceError(f"the guardian process cannot be started: {error.strerror}") from None
        if pid == 0:
            serve(theirs, session, worker_main, close_in_workers, masker)
        theirs.close()
        return cls(ours, pid, session)

    @classmethod
    def execute(cls, program: Program, *, close_in_workers: Sequence[int] = ()) -> Guardian:
        """Start a guardian as a fresh interpreter that imports the program; threads do not matter to it.

        Raises:
            NotImportable: the program cannot be imported there, or there is no interpreter.
            ResourceError: no more processes or files are allowed.
        """
        _reap_abandoned()
        python, session = interpreter(), tree.new_session()
        code = f"import sys; sys.path[:] = {sys.path!r}; from liteflow.processes.guardian import main; main()"
        try:
            ours, theirs = _pair()
            with theirs:
                pid = os.posix_spawn(
                    python,
                    [python, "-c", code],
                    os.environ,
                    file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)],
                )
        except OSError as error:
            raise ResourceError(f"the guardian process cannot be started: {error.strerror}") from None
        guardian = cls(ours, pid, session)
        guardian._introduce(program, list(close_in_workers))
        return guardian

    def _introduce(self, program: Program, descriptors: list[int]) -> None:
        secrets = None if program.secrets is None else dict(program.secrets)
        message = ("init", self.session, *program[:3], secrets)
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
        """Whether `close` was called; it may have been interrupted."""
        return self._socket.fileno() < 0

    def is_dead(self) -> bool:
        """Has `read` found the guardian gone?"""
        return self._dead

    @property
    def pending(self) -> bool:
        """Have messages been read while sending? Then `read` them without waiting for the descriptor."""
        return bool(self._events) or self._control.eof

    def start_command(
        self,
        ticket: int,
        argv: Sequence[str],
        cwd: str | None,
        environ: Mapping[str, str],
        log_path: str | None,
    ) -> None:
        """Start a command; Started and Exited will tell of it. `log_path` None: it writes where we write."""
        self._send(("command", ticket, list(argv), cwd, dict(environ), log_path))

    def start_worker(self, ticket: int, sock: socket.socket, *, keeps_logs: bool) -> None:
        """Fork a worker that has this socket; Started and Exited will tell of it.

        With `keeps_logs` what it writes goes through the guardian into the log of the task that it is at (see
        `switch`); otherwise where we write.
        """
        self._control.send_descriptors(("worker", ticket, keeps_logs), [sock.fileno()], self._wait)

    def stop(self, ticket: int, grace_s: float) -> None:
        """SIGTERM to the ticket's process group; after `grace_s` seconds kill its whole tree."""
        self._send(("stop", ticket, float(grace_s)))

    def ping(self) -> None:
        """Ask for a sign of life: `heard` rises."""
        self._send(("ping",))

    def go_on(self) -> None:
        """Continue a guardian that somebody has stopped."""
        try:
            if os.waitid(os.P_PID, self.pid, os.WSTOPPED | os.WNOHANG) is not None:
                os.kill(self.pid, signal.SIGCONT)
        except OSError:  # it is gone, or the program ignores SIGCHLD
            return

    def kill(self) -> None:
        """End the guardian itself; `read` then ends what it has started."""
        with contextlib.suppress(ProcessLookupError):
            os.kill(self.pid, signal.SIGKILL)

    def _send(self, message: tuple[Any, ...]) -> None:
        self._control.send(message)
        while self._control.backlog and not self._control.eof:
            self._wait()
            self._control.flush()

    def _wait(self) -> None:
        """Wait until more can be sent, reading meanwhile, so that neither side waits for the other."""
        poll = select.poll()
        poll.register(self.fileno(), select.POLLIN | (select.POLLOUT if self._control.backlog else 0))
        if not poll.poll(_LOOK_EVERY_S * 1000):
            self.go_on()
        self._collect()

    def read(self) -> list[Started | Exited]:
        """What has happened since the last call. When the guardian is gone, its session is swept."""
        self._collect()
        events, self._events = self._events, []
        if self._control.eof and not self._dead:
            self._dead = True
            tree.sweep_session(self.session)
        return events

    def _collect(self) -> None:
        for message in self._control.take():
            self.heard += 1
            if message[0] == "started":
                self._events.append(Started(*message[1:]))
            elif message[0] == "exited":
                self._events.append(Exited(**message[1]))
            elif message[0] == "unable":
                self.failed = message[1]
            elif message[0] != "pong":
                self._answer = message

    def close(self, timeout_s: float = 20.0) -> None:
        """End everything the guardian has started, and the guardian; safe to call twice."""
        if self._socket.fileno() < 0:
            return
        with contextlib.suppress(OSError):
            os.kill(self.pid, signal.SIGCONT)
        self._control.send(("goodbye",))
        keep_open_in_forks(self._socket)
        self._control.close()  # says the same, should the message not have been sent
        if not self._reap(time.monotonic() + timeout_s) and not self._dead:
            self._dead = True
            tree.sweep_session(self.session)

    def _reap(self, deadline: float) -> bool:
        """Wait for the guardian's end; kill it when that does not come. Did it end its work by itself?"""
        ended = -1
        try:
            ended = tree.open_pidfd(self.pid)
            while time.monotonic() < deadline:
                pid, status = os.waitpid(self.pid, os.WNOHANG)
                if pid:
                    break
                self.go_on()
                _pause(ended)
            else:
                self.kill()
                _, status = os.waitpid(self.pid, 0)
        except (ChildProcessError, ProcessLookupError):  # the program ignores SIGCHLD, or has reaped it itself
            status = -1
        finally:
            close_quietly(ended)
        _unreaped.pop(self.pid, None)
        return status == 0


def _pause(ended: int) -> None:
    """Wait for the end of a process by its descriptor; for a moment only, where there is none."""
    if ended < 0:
        time.sleep(_UNWATCHED_PAUSE_S)
        return
    poll = select.poll()
    poll.register(ended, select.POLLIN)
    poll.poll(_LOOK_EVERY_S * 1000)
