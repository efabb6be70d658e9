"""The agreement between a worker and the guardian about the log to which the worker's output goes.

Descriptors 1 and 2 of a worker are a pipe to the guardian, as those of a command are. So a log is bounded, masked, and
created again when its folder was deleted, whether Python writes or a program that the task has started.

The worker writes the path of the log into shared memory before a task starts; the guardian reads it when output
arrives. After the task, the worker requests the writing of the rest and waits for the answer, unless nothing has
arrived and nothing is in the pipe. So a task whose programs print nothing costs one system call, and the worker may
write Python's output into the log itself as long as nothing has gone through the pipe.
"""

from __future__ import annotations

import fcntl
import marshal
import mmap
import os
import socket
from typing import Final, NamedTuple

from liteflow.processes.forks import close_in_forks, keep_open_in_forks

_BYTES: Final = 32 * 1024
_LONGEST_PATH: Final = 5000  # characters; the system allows 4096 bytes, so it refuses a path that is cut
_FLAG: Final = 0  # offset of the flag: output has arrived since the last answer
_TEXT: Final = 8  # offset of the number of the task and the path of its log
_FIONREAD: Final = 0x541B
_LONGEST_ANSWER: Final = 4096


class Written(NamedTuple):
    """The output of a task that the guardian has written."""

    size_bytes: int = 0
    lost: str | None = None  # why the log does not hold all of it


class LogSwitch:
    """Two connected ends: the guardian creates both before it forks a worker, then each process closes one."""

    def __init__(self) -> None:
        """Raises OSError when no more files are allowed."""
        self._memory = mmap.mmap(-1, _BYTES)
        self._guardians, self._workers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._number = 0
        self._pipe = -1  # in the worker: the write end
        self._identity = (0, 0)

    # In the worker

    def be_worker(self) -> None:
        """Keep the worker's end only. Descriptor 1 is the pipe by now."""
        self._guardians.close()
        close_in_forks(self._workers)  # a fork that a task makes would hide the end of the worker
        self._pipe = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)
        status = os.fstat(self._pipe)
        self._identity = status.st_dev, status.st_ino

    def begin(self, log_path: str | None) -> None:
        """Set the log of the task that starts."""
        self._number += 1
        text = marshal.dumps((self._number, None if log_path is None else log_path[:_LONGEST_PATH]))
        self._memory[_TEXT : _TEXT + len(text)] = text

    def has_arrived(self) -> bool:
        """Return whether any output of this task has gone into the pipe."""
        # In this order: the guardian sets the flag before it reads.
        in_pipe = fcntl.ioctl(self._pipe, _FIONREAD, bytes(4)) != bytes(4)
        return in_pipe or self._memory[_FLAG] != 0

    def has_lost(self, fd: int) -> bool:
        """Return whether a descriptor no longer is the pipe."""
        try:
            status = os.fstat(fd)
        except OSError:
            return True
        return (status.st_dev, status.st_ino) != self._identity

    def end(self) -> Written:
        """Have the rest of the output written, when the task and everything that it started have ended.

        Raises:
            EOFError: the guardian is dead.
        """
        if not self.has_arrived():
            return Written()
        try:
            self._workers.send(b"end")
            answer = self._workers.recv(_LONGEST_ANSWER)
        except OSError:
            answer = b""
        if not answer:
            raise EOFError
        return Written(*marshal.loads(answer))

    # In the guardian

    def be_guardian(self) -> None:
        """Keep the guardian's end only."""
        self._workers.close()
        self._guardians.setblocking(False)

    def fileno(self) -> int:
        """Return the descriptor that is readable when a task, or the worker, has ended."""
        return self._guardians.fileno()

    def note_arrival(self) -> None:
        """Note that output is about to be read."""
        self._memory[_FLAG] = 1

    def current(self) -> tuple[int, str | None]:
        """Return the number of the task that runs, and the path of its log."""
        try:
            number, path = marshal.loads(self._memory[_TEXT:])
        except (EOFError, ValueError, TypeError):  # no task has started
            return 0, None
        return number, path

    def is_asked(self) -> bool:
        """Return whether the worker waits for an answer; otherwise it has ended."""
        try:
            return bool(self._guardians.recv(16))
        except OSError:
            return False

    def answer(self, written: Written) -> None:
        """Answer the worker that all output is written."""
        self._memory[_FLAG] = 0
        try:
            self._guardians.send(marshal.dumps(tuple(written)))
        except OSError:  # the worker has ended
            return

    def close(self) -> None:
        """Close what this process has of it."""
        keep_open_in_forks(self._workers)
        self._guardians.close()
        self._workers.close()
        self._memory.close()
