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
import threading
import time
from _thread import start_new_thread
from collections.abc import Mapping
from types import FrameType
from typing import Any

from liteflow.errors import LiteflowError
from liteflow.executors.base import Attempt, Terminated, with_outputs
from liteflow.executors.command import run_environment, task_environment
from liteflow.executors.surroundings import Surroundings
from liteflow.processes.forks import forking, hand_down, keep_to_ourselves
from liteflow.processes.output import Bounds, open_log
from liteflow.processes.packets import pack, receive, send
from liteflow.values.payload import Payload
from liteflow.work import Call, ErrorInfo, Outcome, RunInfo, Work

Program = tuple[Mapping[str, Call], RunInfo]


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


class Spool:
    """The worker's descriptors 1 and 2: a file of its own that takes the name of the first log that needs it.

    A task that writes nothing costs no file. `path` None leaves the descriptors alone. What a thread prints that has
    outlived its task goes nowhere, as in mode thread: the log of its task is closed, and the next one is not its own.
    """

    def __init__(self, path: str | None) -> None:
        self._path = path
        self._log_path: str | None = None
        self._claimed = False
        self._size = 0
        self._inode = 0
        self._bounds = Bounds(1)
        self._pid = os.getpid()
        self._lock = threading.RLock()  # a signal handler may print while its thread does
        self._idle = True
        self._left: set[threading.Thread] = set()  # of earlier tasks
        if path is not None:
            self._open(path)
            self.stdout = _text_stream(self, write_through=False)
            self.stderr = _text_stream(self, write_through=True)

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
        self._left = (
            set(threading.enumerate()) - {threading.current_thread()} if threading.active_count() > 1 else set()
        )
        self._idle = False
        if self._path is not None:
            sys.stdout, sys.stderr = self.stdout, self.stderr

    def write(self, data: bytes) -> None:
        """What Python prints: seen in the log at once. A full disk loses it."""
        if os.getpid() != self._pid:  # a fork of the task leaves the name to us, and our lock may be held for ever
            self._append(data)
            return
        with self._lock:
            if self._idle or (self._left and threading.current_thread() in self._left):
                return
            if not self._claimed:
                self._claim()
            self._append(data)

    def _append(self, data: bytes) -> None:
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
        with self._lock:
            try:
                return self._end()
            finally:
                self._idle = True

    def _end(self) -> tuple[str | None, bool]:
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
        if status.st_size == 0 and not self._claimed:
            return None, True
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


class _Worker:
    def __init__(self, program: Program, sock: socket.socket, spool_path: str | None) -> None:
        self._calls, self._info = program
        sock.setblocking(True)
        self._sock = sock
        keep_to_ourselves(sock)
        hand_down({signal.SIGTERM: signal.SIG_DFL})
        self._terminated = False
        _close_input()
        os.environ.update(run_environment(self._info))
        signal.signal(signal.SIGTERM, self._on_term)
        self._spool = Spool(spool_path) if self._info.masker is None else Piped()
        self._surroundings = Surroundings()

    def _on_term(self, number: int, frame: FrameType | None) -> None:
        self._terminated = True
        if forking():  # an exception would be lost
            start_new_thread(_terminate_soon, ())
            return
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


def _close_input() -> None:
    """Have tasks, and what they start, find the end of their input, as commands do; the program's is not for them."""
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    if null:
        os.close(null)
    else:  # it was closed
        os.set_inheritable(0, True)
    sys.stdin = io.TextIOWrapper(io.BufferedReader(io.FileIO(0, closefd=False)), encoding="utf-8")


def _terminate_soon() -> None:
    time.sleep(0.001)
    os.kill(os.getpid(), signal.SIGTERM)


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
