"""The state of a worker process: it is prepared for a task, and restored after it."""

from __future__ import annotations

import functools
import gc
import locale
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Callable, Iterable, Mapping
from types import ModuleType
from typing import Any, Final

from liteflow.processes import tree
from liteflow.processes.spawn import encoded

_SIGNALS: Final = range(1, 32)  # without those for real time
_TIMERS: Final = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
#: The limits that programs set for themselves.
_LIMITS: Final = (resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_DATA, resource.RLIMIT_STACK,
                  resource.RLIMIT_CORE, resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE, resource.RLIMIT_MEMLOCK,
                  resource.RLIMIT_AS)  # fmt: skip


def _zone() -> tuple[object, ...]:
    return time.tzname, time.timezone, time.altzone


def _irreversible() -> list[object]:
    """Return the state that is compared after each task: a worker that finds it changed retires.

    Changes that importing a module makes are not part of it (the module path, filters of warnings, exception hooks):
    the module stays imported, and may need them.
    """
    stdin = sys.stdin
    return [
        _zone(),
        signal.pthread_sigmask(signal.SIG_BLOCK, ()),
        os.getpriority(os.PRIO_PROCESS, 0),
        os.sched_getaffinity(0),
        os.getresuid(),
        os.getresgid(),
        locale.setlocale(locale.LC_ALL),
        socket.getdefaulttimeout(),
        sys.getrecursionlimit(),
        sys.getswitchinterval(),
        sys.gettrace(),
        sys.getprofile(),
        gc.isenabled(),
        stdin,
        stdin is None or stdin.closed,
    ]


def _handlers_and_limits() -> list[object]:
    """Return the state that is compared only after a task that may have changed it, because reading it takes 40 µs."""
    return [list(map(signal.getsignal, _SIGNALS)), list(map(resource.getrlimit, _LIMITS))]


class _NotedCalls:
    """Replaces functions by ones that note their call; `noted` is true if one may have been called since `forget`."""

    def __init__(self, *functions: tuple[ModuleType, str]) -> None:
        originals = {id(getattr(module, name)) for module, name in functions}
        for module, name in functions:
            setattr(module, name, self._noting(getattr(module, name)))
        # A module with a reference of its own (`from signal import signal`) calls the original function.
        modules = [module for module in list(sys.modules.values()) if isinstance(module, ModuleType)]
        self._is_unsure = any(not originals.isdisjoint(map(id, list(vars(module).values()))) for module in modules)
        self.forget()

    def _noting(self, function: Callable[..., Any]) -> Callable[..., Any]:
        @functools.wraps(function)
        def note_and_call(*args: Any, **kwargs: Any) -> Any:
            self.noted = True
            return function(*args, **kwargs)

        return note_and_call

    def forget(self) -> None:
        self.noted = self._is_unsure


def set_variables(variables: Mapping[str, str]) -> None:
    """Set environment variables in the encoding that programs get."""
    os.environb.update((encoded(name), encoded(value)) for name, value in variables.items())


class _Environment:
    """The environment variables of the process, and which of them a task has changed.

    To compare all variables takes 30 µs, so `os.environ` and `os.environb` note the names. To set one takes 1 µs, and
    most have the value that the last task had.
    """

    def __init__(self) -> None:
        self._before = dict(os.environb)
        self._changed = changed = set[bytes]()
        self._task_values: dict[str, str] = {}  # the variables that `set` has set, unless they may have changed since
        kind: Any = type(os.environ)
        self._set_unnoted = kind.__setitem__

        class Noting(kind):  # type: ignore[misc]  # the base class is known at run time only
            def __setitem__(self, name: Any, value: Any) -> None:
                super().__setitem__(name, value)
                changed.add(os.fsencode(name))

            def __delitem__(self, name: Any) -> None:
                super().__delitem__(name)
                changed.add(os.fsencode(name))

        os.environ.__class__ = os.environb.__class__ = Noting

    def set(self, variables: Mapping[str, str]) -> None:
        """Set variables for a task, which are not noted as changes of the task."""
        set_variable, environ, values = self._set_unnoted, os.environb, self._task_values
        for name, value in variables.items():
            if values.get(name) != value:
                set_variable(environ, encoded(name), encoded(value))
                values[name] = value

    def restore(self, names: Iterable[bytes]) -> bool:
        """Give these variables, and those that were changed, their first values; return whether there were any."""
        changed = {*names, *self._changed}
        if changed:
            self._task_values.clear()
        for name in changed:
            value = self._before.get(name)
            if value is not None:
                os.environb[name] = value
            elif name in os.environb:
                del os.environb[name]
        self._changed.clear()
        return bool(changed)


class ProcessState:
    """The state of a process that a task may change, saved and restored."""

    def __init__(self) -> None:
        self._home = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._argv, self._argv_values = sys.argv, list(sys.argv)
        self._environment = _Environment()
        self._task_variables: list[bytes] = []  # names of the variables that only the present task has
        self._of_every_task: set[str] = set()  # names of those that every task has, with other values
        self._pid = os.getpid()
        self._tag = tree.tag_of(self._pid)
        self._before = _irreversible()
        self._handlers_and_limits = _handlers_and_limits()
        self._calls = _NotedCalls((signal, "signal"), (resource, "setrlimit"), (resource, "prlimit"))

    def prepare(self, cwd: str | None, variables: Mapping[str, str], of_every_task: Mapping[str, str]) -> None:
        """Set the folder and the environment for a task: its own variables, and those that every task has.

        Raises OSError when the folder does not exist.
        """
        if absent := self._of_every_task.difference(of_every_task):
            self._environment.restore(map(encoded, absent))
        self._of_every_task = set(of_every_task)
        self._task_variables = [encoded(name) for name in variables]
        if variables:
            self._environment.set(variables)
            if "TZ" in variables:
                time.tzset()
        self._environment.set(of_every_task)
        if cwd is not None:
            os.chdir(cwd)

    def restore(self) -> bool:
        """Restore what can be restored; return False if this process must end because of the other changes."""
        for which in _TIMERS:  # first: a timer that runs out would end this process before it has sent the outcome
            signal.setitimer(which, 0)
        os.fchdir(self._home)
        os.umask(self._umask)
        if self._environment.restore(self._task_variables) and ("TZ" in os.environ or _zone() != self._before[0]):
            time.tzset()
        sys.argv = self._argv
        if sys.argv != self._argv_values:
            sys.argv[:] = self._argv_values
        is_clean = self._end_children() and _irreversible() == self._before
        if self._calls.noted:
            is_clean = is_clean and _handlers_and_limits() == self._handlers_and_limits
            self._calls.forget()
        return is_clean

    def _end_children(self) -> bool:
        """Kill what the task left running; return whether there was nothing. This process is a subreaper."""
        if tree.is_childless():
            return True
        _reap()
        if tree.is_childless():
            return True
        is_tagged = tree.session_of(self._tag) is not None
        swept = tree.sweep(
            lambda tag: is_tagged and tag == self._tag,
            roots=tree.own_root(),
            spare=(self._pid,),
        )
        _reap()
        return swept.killed == 0


def _reap() -> None:
    try:
        while os.waitpid(-1, os.WNOHANG)[0]:
            continue
    except ChildProcessError:
        return
