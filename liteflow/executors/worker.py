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
from typing import Any, Final

from liteflow.errors import LiteflowError
from liteflow.executors.base import Attempt, Terminated, with_outputs
from liteflow.executors.command import run_environment, task_environment
from liteflow.executors.surroundings import Surroundings, set_variables
from liteflow.masking import Masker
from liteflow.processes.forks import close_in_forks, forking, use_handlers_in_forks
from liteflow.processes.log_file import LogFile
from liteflow.processes.packets import pack, receive, send
from liteflow.processes.switch import Switch, Written
from liteflow.values.payload import Payload
from liteflow.work import Call, ErrorInfo, Outcome, RunInfo, Work

Program = tuple[Mapping[str, Call], RunInfo]
#: Modules of pools of threads, and the function that a thread there is in while it waits for work.
_WAIT_FOR_WORK: Final = {"concurrent.futures.thread": "_worker", "multiprocessing.pool": "worker"}


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


class Output:
    """The worker's descriptors 1 and 2: a pipe to the guardian (see `switch`), or what the program has there.

    What Python prints goes straight into the log until something has gone through the pipe, and then after that: so
    its order is kept, and a task that starts no programs does not wait for the guardian.

    What a thread prints that has outlived its task goes nowhere, as in mode thread: the log of its task is closed, and
    the next task is not its own. The same holds for the threads that it starts; not for a thread of a pool that had
    nothing to do when the next task began.
    """

    def __init__(self, switch: Switch | None, masker: Masker | None) -> None:
        self._switch = switch
        self._masker = masker
        self._pid = os.getpid()
        self._lock = threading.RLock()  # a signal handler may print while its thread does
        self._idle = True
        self._left: set[threading.Thread] = set()  # of earlier tasks
        self._log: LogFile | None = None
        self._piped = False
        if switch is not None:
            self._stdout = _text_stream(self, write_through=False)
            self._stderr = _text_stream(self, write_through=True)
        self._follow_threads()

    def _follow_threads(self) -> None:
        """Count what a thread of an earlier task starts, such as the next timer, to that task too."""
        start = threading.Thread.start

        def start_and_note(thread: threading.Thread) -> None:
            if self._left and threading.current_thread() in self._left:
                self._left.add(thread)
            start(thread)

        threading.Thread.start = start_and_note  # type: ignore[method-assign, assignment]

    def begin(self, log_path: str | None) -> None:
        """A task begins."""
        self._left = _busy_threads() if threading.active_count() > 1 else set()
        self._idle = False
        if self._switch is not None:
            self._switch.begin(log_path)
            self._log = None if log_path is None else LogFile(log_path, masker=self._masker)
            self._piped = log_path is None
            sys.stdout, sys.stderr = self._stdout, self._stderr

    def write(self, data: bytes) -> None:
        """What Python prints: seen in the log at once."""
        if os.getpid() != self._pid:  # a fork of the task leaves the log to us, and our lock may be held for ever
            self._pipe(data)
            return
        with self._lock:
            if self._idle or (self._left and threading.current_thread() in self._left):
                return
            if not self._piped and self._log is not None:
                if self._switch is not None and not self._switch.has_arrived():
                    self._log.write(data)
                    return
                self._piped = True
                self._log.close()
            self._pipe(data)

    @staticmethod
    def _pipe(data: bytes) -> None:
        rest = memoryview(data)
        while rest:
            try:
                rest = rest[os.write(1, rest) :]
            except OSError:  # the task has closed what is not its own, or the guardian is gone
                return

    def flush(self) -> bool:
        """Write what Python still holds; False where the task has closed that."""
        try:
            if self._switch is not None:
                self._stdout.flush()
                self._stderr.flush()
        except (OSError, ValueError):
            return False
        return True

    def end(self) -> tuple[Written, bool]:
        """Close the task's output: what became of it, and whether the descriptors are as they should be.

        Raises:
            EOFError: the guardian is gone.
        """
        flushed = self.flush()
        with self._lock:
            self._idle = True
        if self._switch is None:
            return Written(), True
        is_fine = flushed and not self._switch.has_lost(1) and not self._switch.has_lost(2)
        written = self._switch.end()
        if self._log is not None:
            self._log.close()
            written = Written(written.size_bytes + self._log.written, written.lost or self._log.lost)
            self._log = None
        return written, is_fine


def _busy_threads() -> set[threading.Thread]:
    """The other threads of this process, but for those of pools that wait for work."""
    frames = sys._current_frames()
    busy = set()
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        waits = frame is not None and _WAIT_FOR_WORK.get(frame.f_globals.get("__name__", "")) == frame.f_code.co_name
        if not waits and thread is not threading.current_thread():
            busy.add(thread)
    return busy


class _OutputBytes(io.RawIOBase):
    """`sys.stdout.buffer` of a worker."""

    def __init__(self, output: Output) -> None:
        self._output = output

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1

    def write(self, data: Any, /) -> int:
        raw = bytes(data)
        self._output.write(raw)
        return len(raw)


def _text_stream(output: Output, *, write_through: bool) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        _OutputBytes(output),  # type: ignore[arg-type]
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=True,
        write_through=write_through,
    )


class _Worker:
    def __init__(self, program: Program, sock: socket.socket, switch: Switch | None) -> None:
        self._calls, self._info = program
        sock.setblocking(True)
        self._sock = sock
        close_in_forks(sock)
        use_handlers_in_forks({signal.SIGTERM: signal.SIG_DFL})
        self._terminated = False
        _close_input()
        set_variables(run_environment(self._info))
        signal.signal(signal.SIGTERM, self._on_term)
        self._output = Output(switch, self._info.masker)
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
            self._output.flush()  # half a line may still be in our buffers
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
        written, output_is_fine = self._output.end()
        clean = clean and output_is_fine
        if written != (0, None):
            outcome = outcome._replace(log_path=work.log_path if written.size_bytes else None, log_lost=written.lost)
        try:
            send(self._sock, pack((clean, outcome_to_wire(outcome))))
        except ConnectionError:
            raise
        except OSError as error:  # no memory or file for a large value
            send(self._sock, pack((clean, outcome_to_wire(Attempt(work, self._info).raised(error)))))
        return clean

    def _run_task(self, work: Work, told: Mapping[str, str]) -> Outcome:
        body = self._calls[work.task_id]
        self._output.begin(work.log_path)
        attempt = Attempt(work, self._info)
        try:
            body = attempt.complete_body(body)
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


def serve(program: Program, sock: socket.socket, switch: Switch | None) -> None:
    """Work until the orchestrator closes the socket. Runs in a process of its own."""
    try:
        _Worker(program, sock, switch).run()
    except (EOFError, ConnectionError):
        return
    except Terminated:
        die_of_term()
