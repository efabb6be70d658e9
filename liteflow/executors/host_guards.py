"""Guards in the process of a run while Python tasks run in its threads.

`os._exit` would end the run together with the task, and `os.execv` would replace its program: inside a task they end
the task instead. Tasks find the standard input at its end, as in a worker process. Several runs in one process share
the guards; the last run removes them.
"""

from __future__ import annotations

import io
import os
import sys
import threading
from collections.abc import Iterator
from contextvars import ContextVar
from typing import Any, NoReturn, TextIO

from liteflow.context import active_context

_FAULT = 70  # the exit code when a thread that belongs to no task calls os._exit(0) during a run

#: Whether this thread runs tasks, which do not read the program's input.
without_input: ContextVar[bool] = ContextVar("liteflow_without_input", default=False)

_lock = threading.Lock()
_users = 0
_only_for_run = 0  # how many of them are the only purpose of this process (see `install`)
_pid = 0
_real_exit, _real_execv, _real_execve = os._exit, os.execv, os.execve
_Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
_input: _Input | None = None
_real_stdin = -1  # a copy of descriptor 0 before it was replaced


class ExitCalled(SystemExit):
    """A task has called a function that would have ended or replaced the process of the run."""

    def __init__(self, call: str, code: int) -> None:
        super().__init__(code)
        self._call = call

    def __str__(self) -> str:
        return f"{self._call} would have ended the whole run"


class _Input(io.TextIOBase):
    """Replaces sys.stdin: at its end in threads that run tasks, the real one elsewhere."""

    def __init__(self, real: TextIO) -> None:
        self._real = real

    def _current(self) -> TextIO:
        return io.StringIO() if without_input.get() else self._real

    def read(self, size: int | None = -1, /) -> str:
        return self._current().read(-1 if size is None else size)

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]  # text, not bytes
        return self._current().readline(size)

    def readlines(self, hint: int = -1, /) -> list[str]:  # type: ignore[override]  # text, not bytes
        return self._current().readlines(hint)

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]  # text, not bytes
        return iter(self._current())

    def __next__(self) -> str:  # type: ignore[override]  # text, not bytes
        return next(self._current())

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._current().fileno()

    def isatty(self) -> bool:
        return self._current().isatty()

    @property
    def buffer(self) -> Any:
        return io.BytesIO() if without_input.get() else self._real.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]  # read-only here
        return self._real.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]  # read-only here
        return self._real.errors

    def close(self) -> None:
        """Do nothing: the stream belongs to the program, not to the task."""

    def __del__(self) -> None:
        """Do nothing, because the base class would close the stream."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _exit(status: int) -> NoReturn:
    """Replace `os._exit`."""
    if os.getpid() == _pid:
        if active_context.get(None) is not None:
            raise ExitCalled(f"os._exit({status})", status)
        if _only_for_run and status == 0:
            status = _FAULT
    _real_exit(status)


def _execv(path: _Path, argv: Any, /) -> NoReturn:
    """Replace `os.execv`."""
    _refuse_exec("os.execv", path)
    _real_execv(path, argv)


def _execve(path: _Path | int, argv: Any, env: Any) -> NoReturn:
    """Replace `os.execve`."""
    _refuse_exec("os.execve", path)
    _real_execve(path, argv, env)


def _refuse_exec(name: str, path: _Path | int) -> None:
    """Refuse to replace the program; in a process of its own, the run has started every thread that calls this."""
    if os.getpid() == _pid and (_only_for_run or active_context.get(None) is not None):
        raise ExitCalled(f"{name}({path!r}, …)", _FAULT)


def install(*, process_belongs_to_run: bool) -> None:
    """Install the guards; every call needs one `remove`.

    `process_belongs_to_run`: this process has no other purpose than the run.
    """
    global _users, _only_for_run, _pid
    with _lock:
        _users += 1
        _only_for_run += process_belongs_to_run
        if _users == 1:
            _pid = os.getpid()
            os._exit, os.execv, os.execve = _exit, _execv, _execve
            _replace_input()
        if _only_for_run == 1 and process_belongs_to_run:
            _replace_descriptor()


def remove(*, process_belongs_to_run: bool) -> None:
    """Remove the guards with the last run, except where other code has replaced them since."""
    global _users, _only_for_run
    with _lock:
        _users -= 1
        _only_for_run -= process_belongs_to_run
        if _users == 0:
            _restore_calls()
            _restore_input()
        if _only_for_run == 0 and process_belongs_to_run:
            _restore_descriptor()


def _restore_calls() -> None:
    if os._exit is _exit:
        os._exit = _real_exit
    if os.execv is _execv:
        os.execv = _real_execv
    if os.execve is _execve:
        os.execve = _real_execve


def _replace_input() -> None:
    global _input
    if sys.stdin is not None:
        _input = _Input(sys.stdin)
        sys.stdin = _input


def _restore_input() -> None:
    global _input
    if _input is not None and sys.stdin is _input:
        sys.stdin = _input._real
    _input = None


def _replace_descriptor() -> None:
    """Replace descriptor 0, which programs that tasks start inherit, by the null device."""
    global _real_stdin
    try:
        _real_stdin = os.dup(0)
    except OSError:  # it was closed when the program began
        return
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _restore_descriptor() -> None:
    global _real_stdin
    if _real_stdin >= 0:
        os.dup2(_real_stdin, 0)
        os.close(_real_stdin)
        _real_stdin = -1


def _after_fork() -> None:
    """Remove the guards in a fork, in which no task runs yet."""
    global _lock, _users, _only_for_run, _real_stdin
    _lock = threading.Lock()
    _users = _only_for_run = 0
    _real_stdin = -1
    _restore_calls()


os.register_at_fork(after_in_child=_after_fork)
