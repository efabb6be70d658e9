"""The output of a worker process: descriptors 1 and 2, and `sys.stdout` and `sys.stderr`."""

from __future__ import annotations

import io
import os
import sys
import threading
from typing import Any, Final

from liteflow.masking import Masker
from liteflow.processes.log_file import LogFile
from liteflow.processes.log_switch import LogSwitch, Written

#: Modules of thread pools, and the function in which one of their threads is while it waits for work.
_IDLE_IN_POOL: Final = {"concurrent.futures.thread": "_worker", "multiprocessing.pool": "worker"}


class _Threads:
    """The threads that earlier tasks have left behind, and those that they start."""

    def __init__(self) -> None:
        self._left: set[threading.Thread] = set()
        start = threading.Thread.start

        def start_and_note(thread: threading.Thread) -> None:
            if self.is_of_earlier_task():  # such as a timer that starts the next one
                self._left.add(thread)
            start(thread)

        threading.Thread.start = start_and_note  # type: ignore[method-assign, assignment]  # replaced on purpose

    def begin(self) -> None:
        """Note which threads there are when a task starts."""
        self._left = _busy_threads() if threading.active_count() > 1 else set()

    def is_of_earlier_task(self) -> bool:
        """Return whether the calling thread belongs to an earlier task."""
        return bool(self._left) and threading.current_thread() in self._left


class WorkerOutput:
    """Descriptors 1 and 2: a pipe to the guardian (see `switch`), or those of the program.

    Python's own output is written straight into the log until the first output has gone through the pipe, and then
    through the pipe: so its order is preserved, and a task that starts no programs does not wait for the guardian.

    Output of threads that outlive their task is dropped, as in mode thread: the log of their task is closed, and the
    next task is not theirs. This holds for threads that they start, too, but not for an idle thread of a pool.
    """

    def __init__(self, switch: LogSwitch | None, masker: Masker | None) -> None:
        self._switch = switch
        self._masker = masker
        self._pid = os.getpid()
        self._lock = threading.RLock()  # a signal handler may print while its thread does
        self._idle = True
        self._threads = _Threads()
        self._log: LogFile | None = None
        self._piped = False
        if switch is not None:
            self._stdout = _text_stream(self, write_through=False)
            self._stderr = _text_stream(self, write_through=True)

    def begin(self, log_path: str | None) -> None:
        """Open the output of a task."""
        self._threads.begin()
        self._idle = False
        if self._switch is not None:
            self._switch.begin(log_path)
            self._log = None if log_path is None else LogFile(log_path, masker=self._masker)
            self._piped = log_path is None
            sys.stdout, sys.stderr = self._stdout, self._stderr

    def write(self, data: bytes) -> None:
        """Write Python's output into the log at once, or into the pipe."""
        if os.getpid() != self._pid:  # a fork of the task: the log is the worker's, and the lock may be held for ever
            self._pipe(data)
            return
        with self._lock:
            if self._idle or self._threads.is_of_earlier_task():
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
            except OSError:  # the task has closed descriptor 1, or the guardian is dead
                return

    def flush(self) -> bool:
        """Write what is still in Python's buffers; return False if the task has closed the descriptor."""
        try:
            if self._switch is not None:
                self._stdout.flush()
                self._stderr.flush()
        except (OSError, ValueError):
            return False
        return True

    def end(self) -> tuple[Written, bool]:
        """Close the task's output; return what was written, and whether the descriptors are unchanged.

        Raises:
            EOFError: the guardian is dead.
        """
        flushed = self.flush()
        with self._lock:
            self._idle = True
        if self._switch is None:
            return Written(), True
        is_unchanged = flushed and not self._switch.has_lost(1) and not self._switch.has_lost(2)
        written = self._switch.end()
        if self._log is not None:
            self._log.close()
            written = Written(written.size_bytes + self._log.written, written.lost or self._log.lost)
            self._log = None
        return written, is_unchanged


def _busy_threads() -> set[threading.Thread]:
    """Return the other threads of this process, except those of pools that wait for work."""
    frames = sys._current_frames()
    busy = set()
    for thread in threading.enumerate():
        frame = frames.get(thread.ident or 0)
        is_idle = frame is not None and _IDLE_IN_POOL.get(frame.f_globals.get("__name__", "")) == frame.f_code.co_name
        if not is_idle and thread is not threading.current_thread():
            busy.add(thread)
    return busy


class _OutputBytes(io.RawIOBase):
    """`sys.stdout.buffer` of a worker."""

    def __init__(self, output: WorkerOutput) -> None:
        self._output = output

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        return 1

    def write(self, data: Any, /) -> int:
        raw = bytes(data)
        self._output.write(raw)
        return len(raw)


def _text_stream(output: WorkerOutput, *, write_through: bool) -> io.TextIOWrapper:
    return io.TextIOWrapper(
        _OutputBytes(output),  # type: ignore[arg-type]  # has the methods that are used
        encoding="utf-8",
        errors="backslashreplace",
        line_buffering=True,
        write_through=write_through,
    )
