"""Descriptors and signal handlers in processes that are forked from this one.

Tasks, and the program that embeds the engine, fork at any time: `os.fork`, `pty.fork`, `multiprocessing`. Such a child
is not a process of the engine. It closes the descriptors that would hide the death of this process or hold its lock,
and it handles signals as if there were no run.
"""

from __future__ import annotations

import _frozen_importlib  # there is no public way to the locks of imports, see `_forget_imports`
import os
import signal
import sys
import threading
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from types import FrameType
from typing import Any, NoReturn, Protocol
from weakref import WeakSet

Handler = Callable[[int, FrameType | None], Any] | int | None


class Owner(Protocol):
    """An owner of a descriptor, such as a socket."""

    def fileno(self) -> int:
        """Return the descriptor, or -1."""

    def detach(self) -> int:
        """Forget the descriptor without closing it, and return it."""


class _Local(threading.local):
    """The state of a thread that forks."""

    def __init__(self) -> None:
        self.masks: list[Iterable[int]] = []  # signal masks to restore; more than one if a handler forks meanwhile
        self.passed: frozenset[int] = frozenset()  # descriptors that the new child keeps open


_local = _Local()
_owners: WeakSet[Owner] = WeakSet()
_handlers: dict[int, Handler] = {}


def close_in_forks(owner: Owner) -> None:
    """Have the descriptor closed in every fork of this process. Call `keep_open_in_forks` before closing it here."""
    _owners.add(owner)


def keep_open_in_forks(owner: Owner) -> None:
    """Undo `close_in_forks`."""
    _owners.discard(owner)


@contextmanager
def passing_to_forks(descriptors: Iterable[int]) -> Iterator[None]:
    """Keep these descriptors open in processes that this thread forks within this context."""
    before, _local.passed = _local.passed, frozenset(descriptors)
    try:
        yield
    finally:
        _local.passed = before


def use_handlers_in_forks(handlers: Mapping[int, Handler]) -> list[int]:
    """Have forks start with these signal handlers; return the signals that were added.

    Python drops a signal that reaches a fork before its first bytecode, unless the system handles it. So these signals
    are blocked around each fork. Where runs are nested, the handlers of the outermost run hold. Undo with
    `forget_handlers_in_forks`.
    """
    added = [number for number in handlers if number not in _handlers]
    _handlers.update((number, handlers[number]) for number in added)
    return added


def forget_handlers_in_forks(numbers: Iterable[int]) -> None:
    """Remove handlers that `use_handlers_in_forks` has added."""
    for number in numbers:
        _handlers.pop(number, None)


def forking() -> bool:
    """Return whether this thread is about to fork, or has just forked: an exception raised now would be lost."""
    return bool(_local.masks)


@contextmanager
def ending_forks() -> Iterator[None]:
    """End a process that is forked within this context and leaves it: the rest of the stack is its parent's."""
    pid = os.getpid()
    try:
        yield
    except BaseException as error:
        if os.getpid() != pid:
            end_fork(error)
        raise
    if os.getpid() != pid:
        end_fork(None)


def end_fork(error: BaseException | None) -> NoReturn:
    """End this process as the interpreter does at the end of a script, or after an unhandled error."""
    code = 0
    try:
        if isinstance(error, SystemExit):
            code = exit_code(error)
            if code and not isinstance(error.code, int):
                print(error.code, file=sys.stderr)
        elif error is not None:
            code = 1
            sys.excepthook(type(error), error, error.__traceback__)
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(code)


def exit_code(error: SystemExit) -> int:
    """Return the exit code of a process that calls `sys.exit`."""
    if error.code is None:
        return 0
    return error.code & 0xFF if isinstance(error.code, int) else 1


def _before() -> None:
    _local.masks.append(signal.pthread_sigmask(signal.SIG_BLOCK, tuple(_handlers)))


def _in_parent() -> None:
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, _local.masks[-1])  # handlers of pending signals run in here
    finally:
        _local.masks.pop()


def _forget_imports() -> None:
    """Forget the modules that other threads were importing: those threads do not exist in the fork.

    An import of such a module would wait for its lock for ever; now it is imported again.
    """
    locks = getattr(_frozen_importlib, "_module_locks", {})
    thread = threading.get_ident()
    for name, reference in list(locks.items()):
        lock = reference()
        if getattr(lock, "owner", thread) not in (thread, None):
            locks.pop(name)
            sys.modules.pop(name, None)


def _in_child() -> None:
    _forget_imports()
    for owner in tuple(_owners):
        if owner.fileno() not in _local.passed:
            _close(owner.detach())
            _owners.discard(owner)
    try:
        for number, handler in _handlers.items():
            signal.signal(number, handler)
    finally:
        _handlers.clear()
        _in_parent()


def _close(fd: int) -> None:
    try:
        os.close(fd)
    except OSError:  # the program has closed it
        return


os.register_at_fork(before=_before, after_in_parent=_in_parent, after_in_child=_in_child)
