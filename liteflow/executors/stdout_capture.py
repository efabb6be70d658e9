"""What Python tasks in threads print: sys.stdout and sys.stderr, routed to the log of the attempt that writes.

While a run is open the two streams are proxies. What is written outside a task, or by a thread that a task has
started, goes to the real stream, without the secrets of the runs that are open. Several runs in one process share the
proxies; the last one to close puts the real streams back.
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
    """The output of one attempt: whole lines as they come, the rest at the end. Any thread may write."""

    def __init__(self, path: str, masker: Masker | None = None) -> None:
        self._log = LogFile(path, masker=masker)
        self._pending: list[str] = []
        self._pending_size = 0
        self._lock = threading.RLock()  # a signal handler, or a finalizer, may print while its thread does
        self._closed = False

    def write(self, text: str, *, at_once: bool) -> None:
        """Add text; it reaches the file with its line's end, or `at_once`."""
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
            pending, self._pending, self._pending_size = self._pending, [], 0  # first: a handler may print from here on
            data = "".join(pending).encode("utf-8", "backslashreplace")
            if data and not self._closed:  # a thread that outlives its attempt writes to nowhere
                self._log.write(data)

    def forked(self) -> None:
        """In a fork of the task: what was pending is the parent's to write, and the lock may be held for ever."""
        self._lock = threading.RLock()
        self._pending.clear()
        self._pending_size = 0

    def close(self, outcome: Outcome) -> Outcome:
        """End the output. Returns the outcome of its attempt with what became of it."""
        with self._lock:
            self._flush()
            self._closed = True
            self._log.close()
            written, lost = self._log.written, self._log.lost
        if not written and lost is None:
            return outcome
        return outcome._replace(log_path=self._log.path if written else None, log_lost=lost)


#: Where the running attempt writes; None sends it to the real streams.
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
    """The way to a real stream, without the secrets of the runs that are open.

    What a thread writes in pieces is put together: the end of a piece that may be the beginning of a secret waits for
    the next one, or for the end of a run.
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
        """Write what was held back; the secrets are to become others."""
        while self._streams:
            _, streams = self._streams.popitem()
            data = b""
            for stream in streams:
                data = stream.feed(data) + stream.end()
            self._pass_on(data)


class _Proxy(io.TextIOBase):
    """Stands in for sys.stdout or sys.stderr."""

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
    def encoding(self) -> str:  # type: ignore[override]
        return self.real.encoding if destination.get() is None else "utf-8"

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self.real.errors if destination.get() is None else "backslashreplace"

    def isatty(self) -> bool:
        return destination.get() is None and self.real.isatty()

    def fileno(self) -> int:
        return self.real.fileno()

    def writable(self) -> bool:
        return True

    def close(self) -> None:
        """Stays open: it is not the task's to close."""

    def __del__(self) -> None:
        """Nothing to do; the base class would close."""

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
    """Route the streams; every call needs one `uninstall`."""
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
    """Put the real streams back when nobody routes any more, unless someone else has replaced them since."""
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
