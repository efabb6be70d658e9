"""Frames: plain values over a stream socket, marshalled, each after a mark and its length.

Marshal has numbers, text, bytes, tuples, lists and dicts, and no type that runs code when it is read. Its format is
named, because the other side may be another Python.
"""

from __future__ import annotations

import marshal
import os
import socket
import struct
from collections.abc import Callable
from typing import Any, Final

_HEADER = struct.Struct("<4sQ")
_MARK = b"\xf1lf\x02"  # other data was written by a task into a socket of the engine
_FORMAT: Final = 4  # of marshal
_LONGEST = 1 << 40  # longer than any frame
#: Bytes of a read or a write, at most. `malloc` maps a buffer of 128 KiB or more, and unmaps it again, for each read:
#: that takes four times as long as a short read.
_CHUNK: Final = 64 * 1024
_MOST_READS: Final = 64
_BLOCKED: Final = (BlockingIOError,)
_MOST_LISTED = 4096  # descriptors, where the system does not list them


def pack(value: Any) -> bytes:
    """Marshal a value into a frame. Raises ValueError for a type that marshal does not have."""
    return frame(marshalled(value))


def marshalled(value: Any) -> bytes:
    """Return the body of the frame of a value. Raises ValueError for a type that marshal does not have."""
    return marshal.dumps(value, _FORMAT)


def frame(body: bytes) -> bytes:
    """Return the frame of a marshalled value."""
    return _HEADER.pack(_MARK, len(body)) + body


class FrameReader:
    """Takes complete values from the bytes of a stream; `is_broken` when they are not frames, or one is too long."""

    def __init__(self, longest: int = _LONGEST) -> None:
        self._longest = longest  # bytes of a frame
        self._incoming = bytearray()
        self.fed = 0  # bytes in all
        self.is_broken = False

    def feed(self, data: bytes) -> None:
        self._incoming += data
        self.fed += len(data)

    def read(self, sock: socket.socket, blocked: tuple[type[OSError], ...], *, until_blocked: bool = False) -> bool:
        """Feed the data that has arrived at a socket, a bounded amount; return whether the other side is still there.

        `blocked` are the errors by which the socket says that it would have to wait. A short read is the last unless
        `until_blocked` is true.
        """
        for _ in range(_MOST_READS):
            try:
                data = sock.recv(_CHUNK)
            except blocked:
                return True
            except OSError:
                return False
            if not data:
                return False
            self.feed(data)
            if len(data) < _CHUNK and not until_blocked:
                return True
        return True

    def take(self) -> list[Any]:
        """Return the values that are complete, and drop their bytes."""
        values: list[Any] = []
        start, end, size = 0, len(self._incoming), _HEADER.size
        with memoryview(self._incoming) as view:
            while end - start >= size:
                mark, length = _HEADER.unpack_from(view, start)
                if mark != _MARK or length > self._longest:
                    self.is_broken = True
                    break
                if end - start - size < length:
                    break
                try:
                    values.append(marshal.loads(view[start + size : start + size + length]))
                except Exception:  # noqa: BLE001 - bytes are missing or damaged, and marshal raises what it meets
                    self.is_broken = True
                    break
                start += size + length
        if self.is_broken:
            self._incoming.clear()
        elif start:
            del self._incoming[:start]
        return values


class Channel:
    """One end of a stream socket that never blocks: data that cannot be sent now waits for `flush`.

    `eof` becomes true when the other side is closed, or sends other data than frames; sending then does nothing.
    """

    def __init__(self, sock: socket.socket) -> None:
        sock.setblocking(False)
        self._sock = sock
        self._fd = sock.fileno()
        self._reader = FrameReader()
        self._outgoing = bytearray()
        self.descriptors: list[int] = []
        self.eof = False

    def fileno(self) -> int:
        return self._fd

    @property
    def backlog(self) -> bool:
        """Whether there is data that could not be sent yet."""
        return bool(self._outgoing)

    def put(self, value: Any) -> None:
        """Queue a value without sending it."""
        self._outgoing += pack(value)

    def send(self, value: Any) -> None:
        """Queue a value and send as much as the socket takes."""
        frame = pack(value)
        if not self._outgoing and not self.eof:
            try:
                sent = self._sock.send(frame)
            except BlockingIOError:
                sent = 0
            except OSError:
                self.eof = True
                return
            if sent == len(frame):
                return
            frame = frame[sent:]
        self._outgoing += frame
        self.flush()

    def send_descriptors(self, value: Any, descriptors: list[int], wait: Callable[[], None]) -> None:
        """Send a value together with file descriptors; `wait` is called while the socket is full."""
        self._outgoing += pack(value)
        while not self.eof and len(self._outgoing) > 1:  # the descriptors are sent with the last byte of the frame
            self._flush_all_but(1)
            if len(self._outgoing) > 1:
                wait()
        while not self.eof and self._outgoing:
            try:
                socket.send_fds(self._sock, [bytes(self._outgoing)], descriptors)
                self._outgoing.clear()
            except BlockingIOError:
                wait()
            except OSError:
                self.eof = True

    def flush(self) -> None:
        """Send the data that waits, as much as the socket takes."""
        self._flush_all_but(0)

    def _flush_all_but(self, rest: int) -> None:
        while len(self._outgoing) > rest and not self.eof:
            with memoryview(self._outgoing) as view:
                try:
                    sent = self._sock.send(view[: min(_CHUNK, len(view) - rest)])
                except BlockingIOError:
                    return
                except OSError:
                    self.eof = True
                    return
            del self._outgoing[:sent]

    def take(self) -> list[Any]:
        """Read the data that has arrived (a bounded amount) and return the complete values."""
        if not self._reader.read(self._sock, _BLOCKED):
            self.eof = True
        return self._complete()

    def take_with_descriptors(self) -> list[Any]:
        """Like `take`; append descriptors that were sent along to `descriptors`, in order, -1 for a lost one."""
        try:
            data, descriptors, flags, _ = socket.recv_fds(self._sock, _CHUNK, 64, socket.MSG_CMSG_CLOEXEC)
        except BlockingIOError:
            return []
        except OSError:
            data, descriptors, flags = b"", [], 0
        self.descriptors += descriptors
        if flags & socket.MSG_CTRUNC:  # this process may open no more files
            self.descriptors.append(-1)
        if not data:
            self.eof = True
        self._reader.feed(data)
        return self._complete()

    def _complete(self) -> list[Any]:
        values = self._reader.take()
        self.eof = self.eof or self._reader.is_broken
        return values

    def close(self) -> None:
        self.eof = True
        self._sock.close()


def inherited() -> list[int]:
    """Return the descriptors of this process above standard error, as far as they can be listed."""
    try:
        return [fd for name in os.listdir("/proc/self/fd") if (fd := int(name)) > 2]
    except OSError:  # there is no /proc, or no descriptor left to read it
        return list(range(3, min(os.sysconf("SC_OPEN_MAX"), _MOST_LISTED)))


def close_quietly(fd: int) -> None:
    """Close a descriptor that may already be closed."""
    try:
        os.close(fd)
    except OSError:
        return
