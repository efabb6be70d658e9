"""A command whose output is wanted while there is no guardian: kept by a small process of its own.

The keeper is a fork that does nothing but wait for the command, or for our end: if we are killed it kills everything
that the command has started, as a guardian would.
"""

from __future__ import annotations

import contextlib
import os
import select
import signal
import socket
import time
import warnings
from collections.abc import Sequence
from typing import NoReturn

from liteflow.processes import tree
from liteflow.processes.forks import close_in_forks, keep_open_in_forks
from liteflow.processes.frames import close_quietly
from liteflow.processes.spawn import TO_DEFAULT

_PIPE_BYTES = 1 << 20
_LOOK_EVERY_MS = 10  # where the kernel gives no descriptor of a process


class CommandNotStarted(Exception):
    """A command could not be started; the message says why."""


def run_guarded(argv: Sequence[str], cwd: str | None, timeout_s: float, *, quiet: bool = False) -> tuple[int, bytes]:
    """Run a program (its path is the first word) and return its exit code, -N for signal N, and what it printed.

    It has the null device as its input; its complaints go where ours go, or with `quiet` nowhere. When it is late, or
    we are interrupted or killed, all that it started is killed; what it leaves behind when it ends by itself lives on.

    Raises:
        CommandNotStarted: see there.
        TimeoutError: it took longer than `timeout_s`.
        OSError: there are no more processes or files.
    """
    ours, theirs = socket.socketpair()
    close_in_forks(ours)
    read, write = os.pipe2(os.O_CLOEXEC)
    pid = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about threads: the keeper uses nothing of theirs
            pid = os.fork()
        if pid == 0:
            _keep(argv, cwd, write, quiet, theirs)
        theirs.close()
        os.close(write)
        write = -1
        return _listen(ours, read, time.monotonic() + timeout_s)
    finally:
        keep_open_in_forks(ours)
        ours.close()  # whatever still runs is killed now
        theirs.close()
        for handle in (read, write):
            if handle >= 0:
                os.close(handle)
        if pid:
            with contextlib.suppress(ChildProcessError):  # the program ignores SIGCHLD, or has reaped it itself
                os.waitpid(pid, 0)


def _listen(ours: socket.socket, read: int, give_up: float) -> tuple[int, bytes]:
    """Collect what the command prints until the keeper says that it has ended."""
    os.set_blocking(read, False)
    poll = select.poll()
    for handle in (ours.fileno(), read):
        poll.register(handle, select.POLLIN)
    said, open_, over = bytearray(), True, False
    while not over:
        pause = give_up - time.monotonic()
        ready = {handle for handle, _ in poll.poll(pause * 1000)} if pause > 0 else set()
        if not ready:
            raise TimeoutError
        over = ours.fileno() in ready
        with contextlib.suppress(BlockingIOError):
            # Once, and all that a pipe holds: what it printed is there by its end, and who prints later is another.
            data = os.read(read, _PIPE_BYTES) if open_ else b""
            said += data
            if not data and open_:  # it has closed its output, and perhaps goes on
                open_ = False
                poll.unregister(read)
    answer = ours.recv(4096).decode()
    if answer.startswith("!"):
        raise CommandNotStarted(answer[1:])
    return int(answer or -signal.SIGKILL), bytes(said)


def _keep(argv: Sequence[str], cwd: str | None, write: int, quiet: bool, theirs: socket.socket) -> NoReturn:
    """Be the keeper, in the fresh fork."""
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_DFL)
        tree.set_subreaper(on=True)
        for name in os.listdir("/proc/self/fd"):  # what the program has open is not ours to hold
            if int(name) > 2 and int(name) not in (write, theirs.fileno()):
                close_quietly(int(name))
        try:
            if cwd is not None:
                os.chdir(cwd)
            actions: list[tuple[int, int, str, int, int] | tuple[int, int, int]] = [
                (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
                (os.POSIX_SPAWN_DUP2, write, 1),
            ]
            if quiet:
                actions.append((os.POSIX_SPAWN_OPEN, 2, os.devnull, os.O_WRONLY, 0))
            child = os.posix_spawn(
                argv[0], list(argv), os.environ, file_actions=actions, setsigmask=(), setsigdef=TO_DEFAULT
            )
        except (OSError, ValueError) as error:
            theirs.sendall(f"!{getattr(error, 'strerror', None) or error}".encode("utf-8", "replace"))
            os._exit(0)
        os.close(write)
        if (code := _await(child, theirs)) is None:
            tree.sweep(lambda tag: False, roots=tree.own_root(), spare=(os.getpid(),))
        else:
            theirs.sendall(str(code).encode())
    finally:
        os._exit(0)


def _await(child: int, theirs: socket.socket) -> int | None:
    """Wait for the end of the command and return its exit code; None: the program that wanted it is gone."""
    ended = tree.open_pidfd(child)
    poll = select.poll()
    poll.register(theirs, select.POLLIN)
    if ended >= 0:
        poll.register(ended, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll(None if ended >= 0 else _LOOK_EVERY_MS)}
        if ended in ready or ended < 0:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
        if theirs.fileno() in ready:
            return None
