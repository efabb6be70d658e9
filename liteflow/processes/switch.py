"""Which log the output of a worker goes to: agreed between the worker and the guardian, which writes it.

Descriptors 1 and 2 of a worker are a pipe to the guardian, as those of a command are. So a log is bounded, masked, and
made again when its folder was deleted, whoever writes: Python, or a program that it has started.

The worker writes the log's path into memory that both share before a task begins; the guardian looks there when
something arrives. When the task has ended, the worker asks for the rest to be written, and waits for the answer; not
if nothing has arrived, and nothing is on its way. So a task whose programs print nothing costs one system call, and the
worker may write what Python prints into the log itself as long as nothing has gone through the pipe.
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
_LONGEST_PATH: Final = 5000  # characters; the system allows 4096 bytes, and refuses this
_FLAG: Final = 0  # whether something has arrived since the last answer
_TEXT: Final = 8  # where the number of the task and the path of its log begin
_FIONREAD: Final = 0x541B
_LONGEST_ANSWER: Final = 4096


class Written(NamedTuple):
    """What the guardian has done with the output of a task."""

    size_bytes: int = 0
    lost: str | None = None  # why not all of it is in the log


class Switch:
    """Made by the guardian before it forks a worker; each of the two then closes the other's end."""

    def __init__(self) -> None:
        """Raises OSError: there may be no more files."""
        self._memory = mmap.mmap(-1, _BYTES)
        self._guardians, self._workers = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        self._number = 0
        self._pipe = -1  # in the worker: the end that is written to
        self._identity = (0, 0)

    # In the worker

    def be_worker(self) -> None:
        """Keep the worker's end only. Descriptor 1 is the pipe by now."""
        self._guardians.close()
        close_in_forks(self._workers)  # a fork of a task would hide the end of the worker
        self._pipe = fcntl.fcntl(1, fcntl.F_DUPFD_CLOEXEC, 3)
        status = os.fstat(self._pipe)
        self._identity = status.st_dev, status.st_ino

    def begin(self, log_path: str | None) -> None:
        """A task begins: its output goes there."""
        self._number += 1
        text = marshal.dumps((self._number, None if log_path is None else log_path[:_LONGEST_PATH]))
        self._memory[_TEXT : _TEXT + len(text)] = text

    def has_arrived(self) -> bool:
        """Whether anything of this task has gone into the pipe."""
        # In this order: the guardian sets the flag before it reads.
        on_its_way = fcntl.ioctl(self._pipe, _FIONREAD, bytes(4)) != bytes(4)
        return on_its_way or self._memory[_FLAG] != 0

    def has_lost(self, fd: int) -> bool:
        """Whether a descriptor that was the pipe has become something else."""
        try:
            status = os.fstat(fd)
        except OSError:
            return True
        return (status.st_dev, status.st_ino) != self._identity

    def end(self) -> Written:
        """A task has ended, and everything that it started: have the rest written.

        Raises:
            EOFError: the guardian is gone.
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
        """Readable when a task has ended, or the worker."""
        return self._guardians.fileno()

    def note_arrival(self) -> None:
        """Something is about to be read."""
        self._memory[_FLAG] = 1

    def current(self) -> tuple[int, str | None]:
        """The number of the task that prints, and the path of its log."""
        try:
            number, path = marshal.loads(self._memory[_TEXT:])
        except (EOFError, ValueError, TypeError):  # no task has begun
            return 0, None
        return number, path

    def is_asked(self) -> bool:
        """Whether the worker waits for an answer; otherwise it has ended."""
        try:
            return bool(self._guardians.recv(16))
        except OSError:
            return False

    def answer(self, written: Written) -> None:
        """Everything is written."""
        self._memory[_FLAG] = 0
        try:
            self._guardians.send(marshal.dumps(tuple(written)))
        except OSError:  # the worker has ended
            return

    def close(self) -> None:
        """Let go of what this process has of it."""
        keep_open_in_forks(self._workers)
        self._guardians.close()
        self._workers.close()
        self._memory.close()
