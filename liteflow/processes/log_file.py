"""Log files: created with the first byte, and bounded.

A long output is cut in the middle: a line between its start and its end says how many bytes are missing.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import BinaryIO

from liteflow.errors import DefinitionError
from liteflow.identifiers import LOG_NAME_PATTERN
from liteflow.masking import Masker

HEAD_BYTES = 48 * 1024 * 1024
TAIL_BYTES = 16 * 1024 * 1024
_SLACK_BYTES = 32 * 1024 * 1024  # an output grows by this much before it is cut again, because cutting copies its end
_COPY_BYTES = 1024 * 1024


def open_log(path: str) -> int:
    """Create a log file, readable by its owner only, or open it for appending; create its folder if it is missing.

    Raises:
        OSError: the file cannot be created. A symbolic link is never followed, and a pipe never waited for.
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


def check_log_folder(path: str) -> None:
    """Check that logs can be created in a folder, before a run begins; the folder is created with the first log.

    A disk that is full does not count: it may have room later, and each attempt says whether output was lost.

    Raises:
        DefinitionError: something else has the path, or the folder, or the one in which it would be, refuses files.
    """
    place = path
    while not os.path.lexists(place) and place != os.path.dirname(place):
        place = os.path.dirname(place)
    if not os.path.isdir(place):
        problem = "is not a folder; remove it"
    elif not os.access(place, os.W_OK | os.X_OK):
        problem = "refuses new files; change its permissions"
    else:
        return
    raise DefinitionError(f"{place}: {problem}, or choose another folder for the logs (log_dir, --log-dir)")


def open_regular(path: str) -> BinaryIO:
    """Open a file for reading whose name was read from another file; refuse pipes and devices.

    Raises:
        OSError: the file cannot be opened, or is not a regular file.
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
    """Open a log file for reading whose path was read from a state file, which may be another user's.

    Raises:
        OSError: the file cannot be opened, is not a regular file, or does not have the name of a log.
    """
    if not LOG_NAME_PATTERN.match(os.path.basename(path)) or os.path.islink(path):
        raise FileNotFoundError(errno.ENOENT, "not a log file", path)
    return open_regular(path)


class LogBounds:
    """Keeps an open file within `head` + `tail` bytes, and some slack while it grows; it must be its only writer."""

    def __init__(self, fd: int, head: int = HEAD_BYTES, tail: int = TAIL_BYTES) -> None:
        self._fd = fd
        self._head = head
        self._tail = tail
        self._slack = min(_SLACK_BYTES, 2 * tail)
        self._marker = 0  # bytes of the line after the head that marks the cut
        self._dropped = 0

    def exceeded(self, size: int) -> bool:
        """Return whether a file of `size` bytes has to be cut now, while it still grows."""
        return size > self._head + self._marker + self._tail + self._slack

    def cut(self) -> int:
        """Cut the middle out if the file is too long; return its new size.

        Raises:
            OSError: reading or writing failed; the file may then contain some bytes twice.
        """
        size = os.fstat(self._fd).st_size
        excess = size - self._head - self._marker - self._tail
        if excess <= 0:
            return size
        marker = f"\n… {self._dropped + excess:,} bytes dropped …\n".encode()
        if self._marker + excess <= len(marker):  # not worth a marker
            return size
        flags = fcntl.fcntl(self._fd, fcntl.F_GETFL)
        fcntl.fcntl(self._fd, fcntl.F_SETFL, flags & ~os.O_APPEND)  # with it, pwrite would append
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
    """A log file, which is created with its first byte. On a full disk output is lost, and the task continues.

    With a masker no secret and no start of one reaches the file.
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
        self._unreported = 0  # bytes lost since the last note about that in the file
        #: why the file does not contain all output; None: it does, within the bounds
        self.lost: str | None = None

    def write(self, data: bytes) -> None:
        """Append bytes. Never raises: bytes that the disk refuses are counted, and a note is written later."""
        if self._mask is None:
            self._append(data)
        elif ready := self._mask.feed(data):
            self._append(ready)

    @property
    def masked(self) -> tuple[str, ...]:
        """The names of the secrets that were in the output."""
        return () if self._mask is None else tuple(sorted(self._mask.masked))

    def _append(self, data: bytes) -> None:
        rest = memoryview(data)
        try:
            if self._bounds is None:
                self._fd = open_log(self.path)
                self._size = os.fstat(self._fd).st_size  # another part of the same output may already be in the file
                self._bounds = LogBounds(self._fd, self._head, self._tail)
            if self._unreported:
                self._note_loss()
            while rest:
                sent = os.write(self._fd, rest)
                self._size += sent
                self.written += sent
                rest = rest[sent:]
                if self._bounds.exceeded(self._size):
                    self._size = self._bounds.cut()
        except OSError as error:
            self._unreported += len(rest)
            self.lost = _reason(error)

    def _note_loss(self) -> None:
        note = f"\n… {self._unreported:,} bytes lost: {self.lost} …\n".encode()
        self._size += os.write(self._fd, note)
        self._unreported = 0

    def close(self) -> None:
        """Cut the file to its bounds and close it."""
        if self._mask is not None and (rest := self._mask.end()):
            self._append(rest)
        if self._bounds is None:
            return
        try:
            if self._unreported:
                self._note_loss()
            self._bounds.cut()
        except OSError as error:  # the disk is still full: the note is lost, too
            self.lost = self.lost or _reason(error)
        os.close(self._fd)
        self._fd = -1
        self._bounds = None


def _reason(error: OSError) -> str:
    """Return why output is lost, with the file or folder that cannot be made; a disk that is full has no name."""
    reason = error.strerror or str(error)
    return reason if error.filename is None else f"{error.filename}: {reason}"
