"""Running a command for its output where there is no guardian: a small process, the keeper, guards it.

The keeper is a fork that waits for the end of the command or of this process: if this process is killed, the keeper
kills everything that the command has started, as a guardian would.
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
_ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_CHECK_EVERY_MS = 10  # where the kernel has no process descriptors


class CommandNotStarted(Exception):
    """A command could not be started; the message is the reason."""


def run_guarded(argv: Sequence[str], cwd: str | None, timeout_s: float, *, quiet: bool = False) -> tuple[int, bytes]:
    """Run a program (its path is the first argument) and return its exit code, -N for signal N, and its output.

    Its input is the null device; its stderr is that of this process, or with `quiet` the null device. When it takes too
    long, or this process is interrupted or killed, everything that it started is killed. When it ends by itself,
    processes that it leaves behind live on.

    Raises:
        CommandNotStarted: the command could not be started.
        TimeoutError: it took longer than `timeout_s`.
        OSError: no more processes or files are allowed.
    """
    parent_end, child_end = socket.socketpair()
    close_in_forks(parent_end)
    read, write = os.pipe2(os.O_CLOEXEC)
    pid = 0
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # about threads: the keeper does not need them
            mask = signal.pthread_sigmask(signal.SIG_BLOCK, _ENDING)  # an exception raised by a hook of forks is lost
            try:
                pid = os.fork()
            finally:
                signal.pthread_sigmask(signal.SIG_SETMASK, mask)
        if pid == 0:
            _keep(argv, cwd, write, quiet, child_end)
        child_end.close()
        os.close(write)
        write = -1
        return _listen(parent_end, read, time.monotonic() + timeout_s)
    finally:
        keep_open_in_forks(parent_end)
        parent_end.close()  # the keeper kills what still runs
        child_end.close()
        for handle in (read, write):
            if handle >= 0:
                os.close(handle)
        if pid:
            with contextlib.suppress(ChildProcessError):  # the program ignores SIGCHLD, or has reaped the keeper
                os.waitpid(pid, 0)


def _listen(parent_end: socket.socket, read: int, end: float) -> tuple[int, bytes]:
    """Collect the output of the command until the keeper reports its end."""
    os.set_blocking(read, False)
    poll = select.poll()
    for handle in (parent_end.fileno(), read):
        poll.register(handle, select.POLLIN)
    output, open_, over = bytearray(), True, False
    while not over:
        pause = end - time.monotonic()
        ready = {handle for handle, _ in poll.poll(pause * 1000)} if pause > 0 else set()
        if not ready:
            raise TimeoutError
        over = parent_end.fileno() in ready
        with contextlib.suppress(BlockingIOError):
            # Once, and all that a pipe holds: by its end all its output is there, and other processes may print later.
            data = os.read(read, _PIPE_BYTES) if open_ else b""
            output += data
            if not data and open_:  # the command has closed its output, and may still run
                open_ = False
                poll.unregister(read)
    answer = parent_end.recv(4096).decode()
    if answer.startswith("!"):
        raise CommandNotStarted(answer[1:])
    return int(answer or -signal.SIGKILL), bytes(output)


def _keep(argv: Sequence[str], cwd: str | None, write: int, quiet: bool, child_end: socket.socket) -> NoReturn:
    """Be the keeper, in the fork."""
    try:
        os.setsid()
        signal.set_wakeup_fd(-1)
        for number in (signal.SIGCHLD, *_ENDING):
            signal.signal(number, signal.SIG_DFL)
        tree.set_subreaper(on=True)
        for name in os.listdir("/proc/self/fd"):  # the keeper must not hold files of the program open
            if int(name) > 2 and int(name) not in (write, child_end.fileno()):
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
            child_end.sendall(f"!{getattr(error, 'strerror', None) or error}".encode("utf-8", "replace"))
            os._exit(0)
        os.close(write)
        if (code := _await(child, child_end)) is None:
            tree.sweep(lambda tag: False, roots=tree.own_root(), spare=(os.getpid(),))
        else:
            child_end.sendall(str(code).encode())
    finally:
        os._exit(0)


def _await(child: int, child_end: socket.socket) -> int | None:
    """Wait for the end of the command and return its exit code; None: the program that runs it is dead."""
    pidfd = tree.open_pidfd(child)
    poll = select.poll()
    poll.register(child_end, select.POLLIN)
    if pidfd >= 0:
        poll.register(pidfd, select.POLLIN)
    while True:
        ready = {fd for fd, _ in poll.poll(None if pidfd >= 0 else _CHECK_EVERY_MS)}
        if pidfd in ready or pidfd < 0:
            pid, status = os.waitpid(child, os.WNOHANG)
            if pid:
                return os.waitstatus_to_exitcode(status)
        if child_end.fileno() in ready:
            return None
