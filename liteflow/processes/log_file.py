"""Output files: made when the first byte arrives, bounded, and kept in order.

Of a long output the beginning and the end are kept, with a line between them that says how much is missing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import BinaryIO

from liteflow.identifiers import LOG_NAME_PATTERN
from liteflow.masking import Masker

HEAD_BYTES = 48 * 1024 * 1024
TAIL_BYTES = 16 * 1024 * 1024
_SLACK_BYTES = 32 * 1024 * 1024  # a long output is cut this much at a time: rewriting the tail costs
_COPY_BYTES = 1024 * 1024


def open_log(path: str) -> int:
    """Create or continue a log file, readable by its owner alone; its missing folder is made again.

    Raises:
        OSError: it cannot be made; a symbolic link is never followed, and a pipe never waited for.
    """
    flags = os.O_RDWR | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK
    try:
        fd = os.open(path, flags, 0o600)
    except FileNotFoundError:
        os.makedirs(os.path.dirname(path), mode=0o700, exist_ok=True)
        fd = os.open(path, flags, 0o600)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "not a regular file", path)
    return fd


def open_regular(path: str) -> BinaryIO:
    """Open a file for reading whose name came out of another file: never a pipe that waits, or a device without end.

    Raises:
        OSError: it cannot be opened, or is not a regular file.
    """
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOCTTY)
    except ValueError as error:  # a NUL in the name
        raise FileNotFoundError(errno.ENOENT, str(error), path) from None
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise FileNotFoundError(errno.ENOENT, "not a regular file", path)
    return os.fdopen(fd, "rb")


def open_log_for_reading(path: str) -> BinaryIO:
    """Open a log file for reading whose path came out of a state file, which somebody else may have written.

    Raises:
        OSError: it cannot be opened, or is no log: another kind of file, a link, or one that is not named like a log.
    """
    if not LOG_NAME_PATTERN.match(os.path.basename(path)) or os.path.islink(path):
        raise FileNotFoundError(errno.ENOENT, "not a log file", path)
    return open_regular(path)


class LogBounds:
    """Keeps an open file that nobody else appends to within `head` + `tail` bytes (and, while it grows, some slack)."""

    def __init__(self, fd: int, head: int = HEAD_BYTES, tail: int = TAIL_BYTES) -> None:
        self._fd = fd
        self._head = head
        self._tail = tail
        self._slack = min(_SLACK_BYTES, 2 * tail)
        self._marker = 0  # bytes of the marker line that stands behind the head
        self._dropped = 0

    def exceeded(self, size: int) -> bool:
        """Is a file of `size` bytes to be cut now, while it still grows?"""
        return size > self._head + self._marker + self._tail + self._slack

    def cut(self) -> int:
        """Cut the middle out where the file is too long; return its new size.

        Raises:
            OSError: reading or writing failed; the file may then hold some bytes twice.
        """
        size = os.fstat(self._fd).st_size
        excess = size - self._head - self._marker - self._tail
        if excess <= 0:
            return size
        marker = f"\n… {self._dropped + excess:,} bytes dropped …\n".encode()
        if self._marker + excess <= len(marker):  # not worth a marker
            return size
        flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
        fcntl.fcntl(self._fd, fcntl.F_SETFL, flags & ~os.O_APPEND)  # or it would append wherever it is told to write
        try:
            os.pwrite(self._fd, marker, self._head)
            source, target = size - self._tail, self._head + len(marker)
            while chunk := os.pread(self._fd, _COPY_BYTES, source):
                os.pwrite(self._fd, chunk, target)
                source += len(chunk)
                target += len(chunk)
            os.ftruncate(self._fd, target)
        finally:
            fcntl.fcntl(self._fd, fcntl.F_SETFL, flags)
        self._dropped += excess
        self._marker = len(marker)
        return target


class LogFile:
    """An output file that exists once something was written. A disk that takes no more loses output, not the task.

    With a masker nothing reaches the file that may be a secret or the beginning of one.
    """

    def __init__(
        self, path: str, head: int = HEAD_BYTES, tail: int = TAIL_BYTES, *, masker: Masker | None = None
    ) -> None:
        self.path = path
        self._mask = None if masker is None else masker.stream()
        self.written = 0
        self._head = head
        self._tail = tail
        self._fd = -1
        self._size = 0
        self._bounds: LogBounds | None = None
        self._unsaid = 0  # bytes lost since the last note of that in the file
        #: why not all that was written is in the file; None: it is, as far as the bounds allow
        self.lost: str | None = None

    def write(self, data: bytes) -> None:
        """Append bytes. Never raises: what the disk refuses is counted and noted in the file later."""
        if self._mask is None:
            self._append(data)
        elif ready := self._mask.feed(data):
            self._append(ready)

    @property
    def masked(self) -> tuple[str, ...]:
        """The names of the secrets that were in what was written."""
        return () if self._mask is None else tuple(sorted(self._mask.masked))

    def _append(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            if self._bounds is None:
                self._fd = open_log(self.path)
                self._size = os.fstat(self._fd).st_size  # another part of the same output may be there
                self._bounds = LogBounds(self._fd, self._head, self._tail)
            if self._unsaid:
                self._note_loss()
            while rest:
                sent = os.write(self._fd, rest)
                self._size += sent
                self.written += sent
                rest = rest[sent:]
                if self._bounds.exceeded(self._size):
                    self._size = self._bounds.cut()
        except OSError as error:
            self._unsaid += len(rest)
            self.lost = error.strerror or str(error)

    def _note_loss(self) -> None:
        note = f"\n… {self._unsaid:,} bytes lost: {self.lost} …\n".encode()
        self._size += os.write(self._fd, note)
        self._unsaid = 0

    def close(self) -> None:
        """Cut the file to its bounds and let go of it."""
        if self._mask is not None and (rest := self._mask.end()):
            self._append(rest)
        if self._bounds is None:
            return
        try:
            if self._unsaid:
                self._note_loss()
            self._bounds.cut()
        except OSError as error:  # the disk still takes nothing: the note is lost too
            self.lost = self.lost or error.strerror or str(error)
        os.close(self._fd)
        self._fd = -1
        self._bounds = None
