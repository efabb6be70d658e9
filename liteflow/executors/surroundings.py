"""What surrounds a task in its worker: it is arranged before the task, and put back behind it."""

from __future__ import annotations

import _locale
import gc
import os
import resource
import signal
import socket
import sys
import time
from collections.abc import Mapping
from typing import Final

from liteflow.processes import tree
from liteflow.processes.spawn import encoded

try:
    from _signal import getsignal, pthread_sigmask  # type: ignore[import-not-found, unused-ignore]
except ImportError:
    from signal import getsignal, pthread_sigmask  # the same, with enumerations in the answers, which take 1 µs each

_SIGNALS: Final = range(1, 32)  # without those for real time
_TIMERS: Final = (signal.ITIMER_REAL, signal.ITIMER_VIRTUAL, signal.ITIMER_PROF)
#: Of the limits, those that programs set for themselves: asking for one takes half a microsecond.
_LIMITS: Final = (resource.RLIMIT_CPU, resource.RLIMIT_FSIZE, resource.RLIMIT_DATA, resource.RLIMIT_STACK,
                  resource.RLIMIT_CORE, resource.RLIMIT_NPROC, resource.RLIMIT_NOFILE, resource.RLIMIT_MEMLOCK,
                  resource.RLIMIT_AS)  # fmt: skip


def _zone() -> tuple[object, ...]:
    return time.tzname, time.timezone, time.altzone


def _facts() -> list[object]:
    """What a task may change, and what is compared behind it.

    What importing a module changes is not among these (the module path, filters of warnings, hooks for exceptions): the
    module stays, and may need it.
    """
    stdin = sys.stdin
    return [
        _zone(),
        list(map(getsignal, _SIGNALS)),
        pthread_sigmask(signal.SIG_BLOCK, ()),
        list(map(resource.getrlimit, _LIMITS)),
        os.getpriority(os.PRIO_PROCESS, 0),
        os.sched_getaffinity(0),
        os.getresuid(),
        os.getresgid(),
        _locale.setlocale(_locale.LC_ALL, None),
        socket.getdefaulttimeout(),
        sys.getrecursionlimit(),
        sys.getswitchinterval(),
        sys.gettrace(),
        sys.getprofile(),
        gc.isenabled(),
        stdin,
        stdin is None or stdin.closed,
    ]


def set_variables(variables: Mapping[str, str]) -> None:
    """Set environment variables, as programs get them."""
    os.environb.update((encoded(name), encoded(value)) for name, value in variables.items())


class Surroundings:
    """What a task may change in its process, and what is put back behind it."""

    def __init__(self) -> None:
        self._home = os.open(".", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        self._umask = os.umask(0o077)
        os.umask(self._umask)
        self._argv, self._argv_values = sys.argv, list(sys.argv)
        # The mapping behind os.environ, compared without decoding; were it renamed, changes would go unseen.
        self._raw_environ: dict[bytes, bytes] = getattr(os.environ, "_data", {})
        self._environ = dict(self._raw_environ)
        self._arranged = self._environ
        self._told: set[str] = set()  # names of what the last task was told
        self._pid = os.getpid()
        self._tag = tree.tag_of(self._pid)
        self._facts = _facts()

    def arrange(self, cwd: str | None, own: Mapping[str, str], told: Mapping[str, str]) -> None:
        """Set the folder and the environment for a task: its own variables, and those that every task is told.

        Raises OSError when there is no such folder.
        """
        if own:
            self._arranged = {}  # not what is found behind the task: then all is put back
            set_variables(own)
            if "TZ" in own:
                time.tzset()
        for name in self._told.difference(told):
            self._put_back(os.fsencode(name))
        self._told = set(told)
        set_variables(told)  # the next task's take their place
        if not own:
            self._arranged = dict(self._raw_environ)
        if cwd is not None:
            os.chdir(cwd)

    def restore(self) -> bool:
        """Put back what can be; False when this process had better end: something else in it is not as it was."""
        for which in _TIMERS:  # first: one that runs out would end this process before it has told its outcome
            signal.setitimer(which, 0)
        os.fchdir(self._home)
        os.umask(self._umask)
        if self._raw_environ != self._arranged:
            for name in self._raw_environ.keys() | self._environ.keys():
                self._put_back(name)
            if b"TZ" in self._environ or _zone() != self._facts[0]:
                time.tzset()
        sys.argv = self._argv
        if sys.argv != self._argv_values:
            sys.argv[:] = self._argv_values
        clean = self._end_children()
        return clean and _facts() == self._facts

    def _put_back(self, name: bytes) -> None:
        """Give an environment variable the value that it had before the first task."""
        value = self._environ.get(name)
        if self._raw_environ.get(name) == value:
            return
        if value is None:
            del os.environb[name]
        else:
            os.environb[name] = value

    def _end_children(self) -> bool:
        """Kill what the task left running. We are a subreaper, so that is what our children are."""
        if tree.is_childless():
            return True
        _reap()
        if tree.is_childless():
            return True
        mine = tree.session_of(self._tag) is not None
        swept = tree.sweep(
            lambda tag: mine and tag == self._tag,
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
