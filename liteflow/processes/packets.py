"""Packets: plain values over a socket that preserves message boundaries.

Each value is one message, marshalled (see `frames`). A large one travels as a descriptor of a file in memory, so that
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
_MARK: Final = (
    b"\xf1lf\x01"  # how each packet begins; what else arrives was written by a task that has no business here
)
_IN_A_FILE: Final = _MARK + b"\0"  # no value's marshalled form
_ONE_DESCRIPTOR: Final = socket.CMSG_SPACE(4)
# Plain numbers: to combine the flags of `socket` costs more than the call.
_CLOSE_ON_EXEC: Final = int(socket.MSG_CMSG_CLOEXEC)
_NOW: Final = int(socket.MSG_DONTWAIT)


def pack(value: Any) -> bytes:
    """Marshal a value. Raises ValueError for one that marshal cannot carry."""
    return _MARK + marshal.dumps(value)


class Garbled(Exception):
    """What arrived is no packet."""


def send(sock: socket.socket, packet: bytes, flags: int = 0) -> None:
    """Send one packet. Raises OSError: nobody listens, or (BlockingIOError) the buffer is full."""
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
    """The next value.

    Raises:
        EOFError: the other side is gone.
        BlockingIOError: there is none, and the flags say not to wait.
        Garbled: something else was written into the socket.
        OSError: a large one is lost, because this process may have no more files.
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
    except (EOFError, TypeError, ValueError) as error:  # cut off, or altered
        raise Garbled from error


class WorkerSocket:
    """The orchestrator's socket to a worker.

    Both ends stay open here: so the socket does not become readable when the worker dies, which the guardian reports.
    """

    def __init__(self) -> None:
        """Raises ResourceError when there may be no more files."""
        self.problem: str | None = None  # why something that the worker has sent is lost
        try:
            self.ours, self.theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        except OSError as error:
            raise ResourceError(f"a worker process cannot be started: {error.strerror}") from None

    def fileno(self) -> int:
        return self.ours.fileno()

    def post(self, packet: bytes) -> bool:
        """Send without waiting; False when the socket takes no more."""
        try:
            send(self.ours, packet, _NOW)
        except BlockingIOError:
            return False
        return True

    def take(self) -> list[Any]:
        """Return the values that the worker has sent since the last call."""
        values: list[Any] = []
        while True:
            try:
                values.append(receive(self.ours, _NOW))
            except (BlockingIOError, EOFError):
                return values
            except Garbled:
                self.problem = "the task has written into a descriptor that is not its own: the socket of its worker"
            except OSError as error:
                if error.errno != errno.EMFILE:  # closed
                    return values
                self.problem = "its value is lost: this process may have no more files (ulimit -n)"

    def close(self) -> None:
        self.ours.close()
        self.theirs.close()
