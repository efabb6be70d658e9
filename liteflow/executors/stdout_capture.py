"""Capture of sys.stdout and sys.stderr: the output of a Python task in a thread goes to the log of its attempt.

While a run is open the two streams are proxies. Output from outside tasks, or from threads that a task has started,
goes to the real stream, without the secrets of the open runs. Several runs in one process share the proxies; the last
run restores the real streams.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from contextvars import ContextVar
from typing import Any, TextIO

from liteflow.masking import Masker, Stream
from liteflow.processes.log_file import LogFile
from liteflow.work import Outcome

_PENDING_CHARACTERS = 8192


class AttemptOutput:
    """The output of an attempt: each line when it is complete, the rest at the end. Any thread may write."""

    def __init__(self, path: str, masker: Masker | None = None) -> None:
        self._log = LogFile(path, masker=masker)
        self._pending: list[str] = []
        self._pending_size = 0
        self._lock = threading.RLock()  # a signal handler, or a finalizer, may print while its thread does
        self._closed = False

    def write(self, text: str, *, at_once: bool) -> None:
        """Add text, which is written at the end of its line, or `at_once`."""
        with self._lock:
            self._pending.append(text)
            self._pending_size += len(text)
            if at_once or "\n" in text or self._pending_size > _PENDING_CHARACTERS:
                self._flush()

    def write_bytes(self, data: bytes) -> None:
        with self._lock:
            self._flush()
            if not self._closed:
                self._log.write(data)

    def flush(self) -> None:
        with self._lock:
            self._flush()

    def _flush(self) -> None:
        if self._pending:
            pending, self._pending, self._pending_size = (
                self._pending,
                [],
                0,
            )  # first: a signal handler may print here
            data = "".join(pending).encode("utf-8", "backslashreplace")
            if data and not self._closed:  # output of a thread that outlives its attempt is dropped
                self._log.write(data)

    def forked(self) -> None:
        """Reset the output in a fork of the task: the parent writes pending text, and the lock may be held for ever."""
        self._lock = threading.RLock()
        self._pending.clear()
        self._pending_size = 0

    def close(self, outcome: Outcome) -> Outcome:
        """Close the output; return the outcome of its attempt with its log."""
        with self._lock:
            self._flush()
            self._closed = True
            self._log.close()
            written, lost = self._log.written, self._log.lost
        if not written and lost is None:
            return outcome
        return outcome._replace(log_path=self._log.path if written else None, log_lost=lost)


#: The output of the running attempt; None: the real streams.
destination: ContextVar[AttemptOutput | None] = ContextVar("liteflow_output", default=None)


class _Bytes(io.RawIOBase):
    """`sys.stdout.buffer` inside a task."""

    def __init__(self, output: AttemptOutput) -> None:
        self._output = output

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        raw = bytes(data)
        self._output.write_bytes(raw)
        return len(raw)


class _Outlet(io.RawIOBase):
    """A real stream without the secrets of the open runs.

    The output of a thread is masked across its pieces: the end of a piece that may be the start of a secret waits for
    the next piece, or for the end of a run.
    """

    def __init__(self, real: TextIO) -> None:
        self._real = real
        self._streams: dict[int, list[Stream]] = {}  # by thread: one for each run with secrets

    def write_text(self, text: str) -> int:
        if not _maskers:
            return self._real.write(text)
        self._pass_on(self._masked(text.encode("utf-8", "surrogatepass")))
        return len(text)

    def writable(self) -> bool:
        return True

    def write(self, data: Any, /) -> int:
        raw = bytes(data)
        self._real.flush()
        self._real.buffer.write(self._masked(raw))
        return len(raw)

    def flush(self) -> None:
        self._real.flush()

    def _masked(self, data: bytes) -> bytes:
        thread = threading.get_ident()
        streams = self._streams.get(thread)
        if streams is None:
            streams = self._streams[thread] = [masker.stream() for masker in _maskers]
        for stream in streams:
            data = stream.feed(data)
        return data

    def _pass_on(self, data: bytes) -> None:
        if data:
            self._real.write(data.decode("utf-8", "surrogatepass"))

    def end(self) -> None:
        """Write the text that is held back, before the set of secrets changes."""
        while self._streams:
            _, streams = self._streams.popitem()
            data = b""
            for stream in streams:
                data = stream.feed(data) + stream.end()
            self._pass_on(data)


class _Proxy(io.TextIOBase):
    """Replaces sys.stdout or sys.stderr."""

    def __init__(self, real: TextIO, *, at_once: bool) -> None:
        self.real = real
        self.outlet = _Outlet(real)
        self._at_once = at_once

    def write(self, text: str, /) -> int:
        output = destination.get()
        if output is None:
            return self.outlet.write_text(text)
        if not isinstance(text, str):
            raise TypeError(f"write() argument must be str, not {type(text).__name__}")
        output.write(text, at_once=self._at_once)
        return len(text)

    def flush(self) -> None:
        output = destination.get()
        if output is not None:
            output.flush()
        elif not getattr(self.real, "closed", False):
            self.real.flush()

    @property
    def buffer(self) -> Any:
        output = destination.get()
        if output is not None:
            return _Bytes(output)
        return self.outlet if _maskers else self.real.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]  # read-only here
        return self.real.encoding if destination.get() is None else "utf-8"

    @property
    def errors(self) -> str | None:  # type: ignore[override]  # read-only here
        return self.real.errors if destination.get() is None else "backslashreplace"

    def isatty(self) -> bool:
        return destination.get() is None and self.real.isatty()

    def fileno(self) -> int:
        return self.real.fileno()

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Do nothing: the stream belongs to the program, not to the task."""

    def __del__(self) -> None:
        """Do nothing, because the base class would close the stream."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self.real, name)


_lock = threading.Lock()
_users = 0
_maskers: list[Masker] = []
_installed: tuple[_Proxy, _Proxy] | None = None


def _after_fork() -> None:
    global _lock
    _lock = threading.Lock()
    output = destination.get()
    if output is not None:
        output.forked()


os.register_at_fork(after_in_child=_after_fork)


def install(masker: Masker | None = None) -> None:
    """Replace the streams by proxies; every call needs one `uninstall`."""
    global _users, _installed
    with _lock:
        if masker is not None:
            _end_outlets()
            _maskers.append(masker)
        _users += 1
        if _users == 1 and sys.stdout is not None and sys.stderr is not None:
            _installed = _Proxy(sys.stdout, at_once=False), _Proxy(sys.stderr, at_once=True)
            sys.stdout, sys.stderr = _installed


def _end_outlets() -> None:
    for proxy in _installed or ():
        if not getattr(proxy.real, "closed", False):
            proxy.outlet.end()


def uninstall(masker: Masker | None = None) -> None:
    """Restore the real streams with the last run, except where other code has replaced them since."""
    global _users, _installed
    with _lock:
        if masker is not None:
            _end_outlets()
            _maskers.remove(masker)
        _users -= 1
        if _users == 0 and _installed is not None:
            if sys.stdout is _installed[0]:
                sys.stdout = _installed[0].real
            if sys.stderr is _installed[1]:
                sys.stderr = _installed[1].real
            _installed = None
