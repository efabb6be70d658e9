"""Packets: plain values over a socket that preserves message boundaries.

Each value is one message, marshalled (see `frames`). A large value is sent as a descriptor of a file in memory, so that
a message always fits into the socket's buffer.
"""

from __future__ import annotations

import errno
import marshal
import os
import socket
from typing import Any, Final

from liteflow.errors import ResourceError

_LARGE: Final = 32 * 1024
_MARK: Final = b"\xf1lf\x01"  # the start of each packet; other data was written by a task into a socket of the engine
_IN_A_FILE: Final = _MARK + b"\0"  # not the marshalled form of a value
_ONE_DESCRIPTOR: Final = socket.CMSG_SPACE(4)
# Plain numbers: combining the enum flags of `socket` costs more than the call.
_CLOSE_ON_EXEC: Final = int(socket.MSG_CMSG_CLOEXEC)
_NOW: Final = int(socket.MSG_DONTWAIT)


def pack(value: Any) -> bytes:
    """Marshal a value. Raises ValueError for a type that marshal does not have."""
    return _MARK + marshal.dumps(value)


class Garbled(Exception):
    """The data that arrived is not a packet."""


def send(sock: socket.socket, packet: bytes, flags: int = 0) -> None:
    """Send a packet. Raises OSError: the other side is closed, or (BlockingIOError) the buffer is full."""
    if len(packet) <= _LARGE:
        sock.send(packet, flags)
        return
    memory = os.memfd_create("liteflow")
    try:
        with open(memory, "wb", closefd=False) as file:
            file.write(packet)
        socket.send_fds(sock, [_IN_A_FILE], [memory], flags)
    finally:
        os.close(memory)


def receive(sock: socket.socket, flags: int = 0) -> Any:
    """Return the next value.

    Raises:
        EOFError: the other side is closed.
        BlockingIOError: there is no value, and the flags say not to wait.
        Garbled: other data was written into the socket.
        OSError: a large value is lost, because this process may open no more files.
    """
    packet, ancillary, _, _ = sock.recvmsg(_LARGE, _ONE_DESCRIPTOR, _CLOSE_ON_EXEC | flags)
    if not packet:
        raise EOFError
    if packet == _IN_A_FILE:
        if not ancillary:
            raise OSError(errno.EMFILE, os.strerror(errno.EMFILE))
        with open(int.from_bytes(ancillary[0][2][:4], "little"), "rb") as file:
            file.seek(0)
            packet = file.read()
    if not packet.startswith(_MARK):
        raise Garbled
    try:
        return marshal.loads(memoryview(packet)[len(_MARK) :])
    except (EOFError, TypeError, ValueError) as error:  # cut off, or changed
        raise Garbled from error


class WorkerSocket:
    """The orchestrator's socket to a worker.

    Both ends stay open here: so the socket does not become readable when the worker dies, which the guardian reports.
    """

    def __init__(self) -> None:
        """Raises ResourceError when no more files are allowed."""
        self.problem: str | None = None  # why a value that the worker has sent is lost
        try:
            self.parent_end, self.worker_end = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            raise ResourceError(f"a worker process cannot be started: {error.strerror}") from None

    def fileno(self) -> int:
        return self.parent_end.fileno()

    def post(self, packet: bytes) -> bool:
        """Send without waiting; False when the socket is full."""
        try:
            send(self.parent_end, packet, _NOW)
        except BlockingIOError:
            return False
        return True

    def take(self) -> Any:
        """Return the next value that the worker has sent; None when there is none."""
        while True:
            try:
                return receive(self.parent_end, _NOW)
            except (BlockingIOError, EOFError):
                return None
            except Garbled:
                self.problem = "the task has written into a descriptor that is not its own: the socket of its worker"
            except OSError as error:
                if error.errno != errno.EMFILE:  # closed
                    return None
                self.problem = "its value is lost: this process may have no more files (ulimit -n)"

    def close(self) -> None:
        self.parent_end.close()
        self.worker_end.close()
