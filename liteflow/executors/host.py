"""What a run changes in its own process while Python tasks run in threads of it.

`os._exit` would end the run together with the task, with the exit code of the task's choice, and `os.execv` would put
another program in its place: they end the task instead. And the input of the program is not for tasks: they find its
end, as in a worker process. Several runs in one process share the changes; the last one to leave takes them back.
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

_FAULT = 70  # the exit code where a thread that belongs to no task calls os._exit(0) in the middle of a run

#: Whether this thread runs tasks that are not to read the program's input.
without_input: ContextVar[bool] = ContextVar("liteflow_without_input", default=False)

_lock = threading.Lock()
_users = 0
_alone = 0  # how many of them are the only purpose of this process
_pid = 0
_real_exit, _real_execv, _real_execve = os._exit, os.execv, os.execve
_Path = str | bytes | os.PathLike[str] | os.PathLike[bytes]
_input: _Input | None = None
_terminal = -1  # what descriptor 0 was


class ExitCalled(SystemExit):
    """A task has called a function that would have ended the process of the run, or put a program in its place."""

    def __init__(self, call: str, code: int) -> None:
        super().__init__(code)
        self._call = call

    def __str__(self) -> str:
        return f"{self._call} would have ended the whole run"


class _Input(io.TextIOBase):
    """Stands in for sys.stdin: at its end for tasks in threads, the real one for everybody else."""

    def __init__(self, real: TextIO) -> None:
        self._real = real

    def _now(self) -> TextIO:
        return io.StringIO() if without_input.get() else self._real

    def read(self, size: int | None = -1, /) -> str:
        return self._now().read(-1 if size is None else size)

    def readline(self, size: int = -1, /) -> str:  # type: ignore[override]
        return self._now().readline(size)

    def readlines(self, hint: int = -1, /) -> list[str]:  # type: ignore[override]
        return self._now().readlines(hint)

    def __iter__(self) -> Iterator[str]:  # type: ignore[override]
        return iter(self._now())

    def __next__(self) -> str:  # type: ignore[override]
        return next(self._now())

    def readable(self) -> bool:
        return True

    def fileno(self) -> int:
        return self._now().fileno()

    def isatty(self) -> bool:
        return self._now().isatty()

    @property
    def buffer(self) -> Any:
        return io.BytesIO() if without_input.get() else self._real.buffer

    @property
    def encoding(self) -> str:  # type: ignore[override]
        return self._real.encoding

    @property
    def errors(self) -> str | None:  # type: ignore[override]
        return self._real.errors

    def close(self) -> None:
        """Stays open: it is not the task's to close."""

    def __del__(self) -> None:
        """Nothing to do; the base class would close."""

    def __getattr__(self, name: str) -> Any:
        return getattr(self._real, name)


def _exit(status: int) -> NoReturn:
    """Stands in for `os._exit`."""
    if os.getpid() == _pid:
        if active_context.get(None) is not None:
            raise ExitCalled(f"os._exit({status})", status)
        if _alone and status == 0:
            status = _FAULT
    _real_exit(status)


def _execv(path: _Path, argv: Any, /) -> NoReturn:
    """Stands in for `os.execv`."""
    _refuse_exec("os.execv", path)
    _real_execv(path, argv)


def _execve(path: _Path | int, argv: Any, env: Any) -> NoReturn:
    """Stands in for `os.execve`."""
    _refuse_exec("os.execve", path)
    _real_execve(path, argv, env)


def _refuse_exec(name: str, path: _Path | int) -> None:
    """In a process that is the run's alone, any thread that calls it was started by a task."""
    if os.getpid() == _pid and (_alone or active_context.get(None) is not None):
        raise ExitCalled(f"{name}({path!r}, …)", _FAULT)


def enter(*, alone: bool) -> None:
    """Make the changes; every call needs one `leave`. `alone`: this process has no other purpose than the run."""
    global _users, _alone, _pid
    with _lock:
        _users += 1
        _alone += alone
        if _users == 1:
            _pid = os.getpid()
            os._exit, os.execv, os.execve = _exit, _execv, _execve
            _take_input()
        if _alone == 1 and alone:
            _close_input()


def leave(*, alone: bool) -> None:
    """Take the changes back when nobody needs them any more, unless somebody else has replaced them since."""
    global _users, _alone
    with _lock:
        _users -= 1
        _alone -= alone
        if _users == 0:
            _give_calls_back()
            _give_input_back()
        if _alone == 0 and alone:
            _open_input()


def _give_calls_back() -> None:
    if os._exit is _exit:
        os._exit = _real_exit
    if os.execv is _execv:
        os.execv = _real_execv
    if os.execve is _execve:
        os.execve = _real_execve


def _take_input() -> None:
    global _input
    if sys.stdin is not None:
        _input = _Input(sys.stdin)
        sys.stdin = _input


def _give_input_back() -> None:
    global _input
    if _input is not None and sys.stdin is _input:
        sys.stdin = _input._real
    _input = None


def _close_input() -> None:
    """Put the null device in the place of descriptor 0, which what tasks start inherits."""
    global _terminal
    try:
        _terminal = os.dup(0)
    except OSError:  # it was closed when the program began
        return
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.close(null)


def _open_input() -> None:
    global _terminal
    if _terminal >= 0:
        os.dup2(_terminal, 0)
        os.close(_terminal)
        _terminal = -1


def _after_fork() -> None:
    """In a fork nobody runs tasks yet."""
    global _lock, _users, _alone, _terminal
    _lock = threading.Lock()
    _users = _alone = 0
    _terminal = -1
    _give_calls_back()


os.register_at_fork(after_in_child=_after_fork)
