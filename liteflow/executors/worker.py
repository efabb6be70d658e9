"""A Python worker: a forked process that runs one task at a time until its socket closes.

It cleans up behind each task. What it cannot put right (processes left running, changed signal handlers, a closed
output) makes it retire: it delivers the outcome and ends, and a fresh one takes its place.
"""

from __future__ import annotations

import io
import os
import signal
import socket
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any

from liteflow.errors import LiteflowError
from liteflow.executors.base import Attempt, Terminated, with_outputs
from liteflow.executors.command import run_environment, task_environment
from liteflow.processes import tree
from liteflow.processes.output import Bounds, open_log
from liteflow.processes.packets import pack, receive, send
from liteflow.values.payload import Payload
from liteflow.work import Call, ErrorInfo, Outcome, RunInfo, Work

try:
    from _signal import getsignal  # type: ignore[import-not-found, unused-ignore]
except ImportError:
    from signal import getsignal  # the same, and an enumeration's member of each answer, which takes 1 µs

Program = tuple[Mapping[str, Call], RunInfo]

_WATCHED_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGALRM, signal.SIGCHLD, signal.SIGHUP, signal.SIGUSR1)


def work_to_wire(work: Work) -> tuple[Any, ...]:
    """A Work as plain values."""
    return (*work[:4], _to_tuples(work.inputs), *work[5:])


def work_from_wire(wire: tuple[Any, ...]) -> Work:
    return Work._make((*wire[:4], _to_payloads(wire[4]), *wire[5:]))


def outcome_to_wire(outcome: Outcome) -> tuple[Any, ...]:
    """An Outcome as plain values."""
    value, error = outcome.value, outcome.error
    return (
        *outcome[:3],
        None if value is None else tuple(value),
        _to_tuples(outcome.pushed),
        None if error is None else tuple(error),
        *outcome[6:],
    )


def outcome_from_wire(wire: tuple[Any, ...]) -> Outcome:
    value, pushed, error = wire[3:6]
    return Outcome._make(
        (
            *wire[:3],
            None if value is None else Payload._make(value),
            _to_payloads(pushed),
            None if error is None else ErrorInfo._make(error),
            *wire[6:],
        )
    )


def _to_tuples(payloads: Mapping[str, Payload] | None) -> dict[str, tuple[Any, ...]] | None:
    return None if payloads is None else {key: tuple(payload) for key, payload in payloads.items()}


def _to_payloads(wire: dict[str, tuple[Any, ...]] | None) -> dict[str, Payload] | None:
    return None if wire is None else {key: Payload._make(parts) for key, parts in wire.items()}


#: Audit events of what starts a process, which may write to descriptors 1 and 2 without our knowing.
_STARTS = frozenset(["subprocess.Popen", "os.fork", "os.forkpty", "os.posix_spawn", "os.system"])


class Spool:
    """The worker's descriptors 1 and 2: a file of its own that takes the name of the first log that needs it.

    A task that writes nothing costs no file. `path` None leaves the descriptors alone.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._log_path: str | None = None
        self._claimed = False
        self._size = 0
        self._inode = 0
        self._bounds = Bounds(1)
        self._pid = os.getpid()
        if path is not None:
            self._open(path)
            self.stdout = _text_stream(self, write_through=False)
            self.stderr = _text_stream(self, write_through=True)
            sys.addaudithook(self._heard)

    def _heard(self, event: str, _: tuple[Any, ...]) -> None:
        """The task starts a process: what that prints is seen in the log at once, too."""
        if event in _STARTS and not self._claimed and self._log_path is not None and os.getpid() == self._pid:
            self._claim()

    def _open(self, path: str) -> None:
        try:
            fd = open_log(path)
        except OSError:  # the task runs all the same: its output has no place to go
            fd = os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC)
        os.dup2(fd, 1)
        os.dup2(fd, 2)
        os.close(fd)
        self._inode = os.fstat(1).st_ino
        self._bounds = Bounds(1)
        self._size = 0
        self._claimed = False

    def begin(self, log_path: str | None) -> None:
        self._log_path = log_path
        if self._path is not None:
            sys.stdout, sys.stderr = self.stdout, self.stderr

    def write(self, data: bytes) -> None:
        """What Python prints: seen in the log at once. A full disk loses it."""
        if not self._claimed and os.getpid() == self._pid:  # a fork of the task leaves the name to us
            self._claim()
        try:
            self._size += os.write(1, data)
            if self._bounds.exceeded(self._size):
                self._size = self._bounds.cut()
        except OSError:
            return

    def _claim(self) -> None:
        self._claimed = True
        if self._path is None or self._log_path is None:
            return
        try:
            os.rename(self._path, self._log_path)
        except FileNotFoundError:
            try:
                os.makedirs(os.path.dirname(self._log_path), mode=0o700, exist_ok=True)
                os.rename(self._path, self._log_path)
            except OSError:
                return
        except OSError:
            return

    def end(self) -> tuple[str | None, bool]:
        """Close the task's output: its file's path, if there is one, and whether all is as it should be."""
        if self._path is None:
            return None, True
        try:
            self.stdout.flush()
            self.stderr.flush()
            status = os.fstat(1)
        except (OSError, ValueError):  # the task has closed what is not its own
            return (self._log_path if self._claimed else None), False
        if status.st_ino != self._inode:
            return (self._log_path if self._claimed else None), False
        if status.st_size == 0:
            return self._unclaimed()
        if self._log_path is None:
            os.ftruncate(1, 0)
            self._claimed = False
            return None, True
        if not self._claimed:
            self._claim()
        try:
            self._bounds.cut()
        except OSError:
            return self._log_path, False
        self._open(self._path)
        return self._log_path, True

    def _unclaimed(self) -> tuple[str | None, bool]:
        """Nothing was printed: the file is there for the next task, if it had got a name already."""
        if self._claimed and self._path is not None and self._log_path is not None:
            try:
                os.rename(self._log_path, self._path)
            except OSError:
                return None, False  # the task has removed it: a fresh worker has a file
            self._claimed = False
        return None, True


class Piped:
    """The worker's descriptors 1 and 2 in a run with secrets: a pipe to the guardian, which masks what comes."""

    def __init__(self) -> None:
        self.stdout = _text_stream(self, write_through=False)
        self.stderr = _text_stream(self, write_through=True)

    def begin(self, log_path: str | None) -> None:
        sys.stdout, sys.stderr = self.stdout, self.stderr

    def write(self, data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(1, rest) :]
            except OSError:
                return

    def end(self) -> tuple[str | None, bool]:
        """Nothing of the task stays: such a worker has one task only."""
        try:
            self.stdout.flush()
            self.stderr.flush()
        except (OSError, ValueError):
            pass
        return None, False


class _SpoolBytes(io.RawIOBase):
    """`sys.stdout.buffer` of a worker."""

    def __init__(self, spool: Spool | Piped) -> None:
        self._spool = spool

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1

    def write(self, data: Any, /) -> int:
        raw = bytes(data)
        self._spool.write(raw)
        return len(raw)


def _text_stream(spool: Spool | Piped, *, write_through: bool) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        _SpoolBytes(spool),  # type: ignore[arg-type]
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=True,
        write_through=write_through,
    )


class _Surroundings:
    """What a task may change in its process, and what is put back behind it."""

    def __init__(self) -> None:
        self._home = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._argv, self._argv_values = sys.argv, list(sys.argv)
        self._handlers = self._signal_handlers()
        # The mapping behind os.environ, compared without decoding; were it renamed, changes would go unseen.
        self._raw_environ: dict[bytes, bytes] = getattr(os.environ, "_data", {})
        self._environ = dict(self._raw_environ)
        self._arranged = self._environ
        self._pid = os.getpid()
        self._tag = tree.tag_of(self._pid)

    @staticmethod
    def _signal_handlers() -> list[Any]:
        return [getsignal(number) for number in _WATCHED_SIGNALS]

    def arrange(self, cwd: str | None, own: Mapping[str, str], told: Mapping[str, str]) -> None:
        """Set the folder and the environment for a task: its own variables, and those that every task is told.

        Raises OSError when there is no such folder.
        """
        if own:
            self._arranged = {}  # not what is found behind the task: then all is put back
            os.environ.update(own)
        os.environ.update(told)  # the next task's take their place
        if not own:
            self._arranged = dict(self._raw_environ)
        if cwd is not None:
            os.chdir(cwd)

    def restore(self) -> bool:
        """Put back what can be; False when this process had better end."""
        os.fchdir(self._home)
        os.umask(self._umask)
        if self._raw_environ != self._arranged:
            for name in self._raw_environ.keys() - self._environ.keys():
                del os.environb[name]
            for name, value in self._environ.items():
                if self._raw_environ.get(name) != value:
                    os.environb[name] = value
        sys.argv = self._argv
        if sys.argv != self._argv_values:
            sys.argv[:] = self._argv_values
        clean = self._end_children()
        return clean and self._signal_handlers() == self._handlers

    def _end_children(self) -> bool:
        """Kill what the task left running. We are a subreaper, so that is what our children are."""
        if tree.is_childless():
            return True
        _reap()
        if tree.is_childless():
            return True
        mine = tree.session_of(self._tag) is not None
        killed = tree.sweep(
            lambda tag: mine and tag == self._tag,
            root=self._pid,
            spare=(self._pid,),
        )
        _reap()
        return killed == 0


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return


class _Worker:
    def __init__(self, program: Program, sock: socket.socket, spool_path: str | None) -> None:
        self._calls, self._info = program
        sock.setblocking(True)
        self._sock = sock
        self._terminated = False
        self._pid = os.getpid()
        os.environ.update(run_environment(self._info))
        signal.signal(signal.SIGTERM, self._on_term)
        self._spool = Spool(spool_path) if self._info.masker is None else Piped()
        self._surroundings = _Surroundings()

    def _on_term(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._pid:  # a fork of the task: let it die as any process would
            die_of_term()
        self._terminated = True
        raise Terminated(128 + number)

    def run(self) -> None:
        """Serve until told to stop, by EOFError or Terminated, or until this process is worn out."""
        try:
            while self._serve_one():
                continue
        except Terminated:
            self._spool.end()  # half a line may still be in our buffers
            raise

    def _serve_one(self) -> bool:
        """Run one task; False when this process cannot be put right behind it."""
        work = work_from_wire(receive(self._sock))
        told = task_environment(self._info, work)
        outcome = self._run_task(work, told)
        if self._terminated:  # the task has caught what was to end it
            raise Terminated
        clean = self._surroundings.restore()  # first: it ends whoever still writes, and resets the umask
        if self._info.outputs_dir is not None:
            outcome = with_outputs(outcome, told["LIGHTFLOW_OUTPUT"], self._info)
        log_path, output_is_fine = self._spool.end()
        clean = clean and output_is_fine
        if log_path is not None:
            outcome = outcome._replace(log_path=log_path)
        try:
            send(self._sock, pack((clean, outcome_to_wire(outcome))))
        except ConnectionError:
            raise
        except OSError as error:  # no memory or file for a large value
            send(self._sock, pack((clean, outcome_to_wire(Attempt(work, self._info).raised(error)))))
        return clean

    def _run_task(self, work: Work, told: Mapping[str, str]) -> Outcome:
        body = self._calls[work.task_id]
        self._spool.begin(work.log_path)
        attempt = Attempt(work, self._info)
        try:
            body = attempt.completed(body)
            self._surroundings.arrange(body.cwd, self._info.environment(body), told)
        except (OSError, ValueError, LiteflowError) as error:
            return attempt.raised(error)
        return attempt.run(body)


def die_of_term() -> None:
    """End this process by SIGTERM."""
    signal.signal(signal.SIGTERM, signal.SIG_DFL)
    os.kill(os.getpid(), signal.SIGTERM)


def serve(program: Program, sock: socket.socket, spool_path: str | None) -> None:
    """Work until the orchestrator closes the socket. Runs in a process of its own."""
    try:
        _Worker(program, sock, spool_path).run()
    except (EOFError, ConnectionError):
        return
    except Terminated:
        die_of_term()
