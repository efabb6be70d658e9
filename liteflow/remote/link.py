"""The link: one connection between the owner of a run and an agent, over a socket, a forwarded socket or TLS.

A message is a tuple whose first element is its kind. A long message travels in pieces, between which an urgent one
passes: the answer to a beat is not late because a large value is on its way. Data that this side does not accept as a
message ends the connection, and the other side is sent the reason.
"""

from __future__ import annotations

import marshal
import socket
from collections import deque
from collections.abc import Iterator
from typing import Any, Final

from liteflow.processes.forks import keep_open_in_forks
from liteflow.processes.frames import FrameReader, frame, marshalled, pack
from liteflow.remote.messages import REFUSED, Vocabulary, invalid, problem_of
from liteflow.remote.tls import blocked_errors, is_tls

Message = tuple[Any, ...]

#: The longest frame that is accepted; longer ones come from another program, or from a fault.
LONGEST_FRAME: Final = 64 * 1024 * 1024
#: The longest message.
LONGEST_MESSAGE: Final = 1024 * 1024 * 1024
#: A longer message travels in pieces of this size.
PIECE_BYTES: Final = 64 * 1024
_CHUNK: Final = 64 * 1024
#: Bytes that the system takes before it can send them. It would take megabytes, which no urgent message passes: on a
#: slow link a beat would be answered after the end of the lease.
_NOT_SENT_BYTES: Final = 64 * 1024
_OVERHEAD: Final = 64  # bytes of a frame around a piece


class Link:
    """One end of a connection that never blocks. Data that cannot be sent now waits for `flush`.

    `eof` becomes true when the other side is closed, or a side has refused the other; sending then does nothing.
    """

    def __init__(self, sock: socket.socket, accepted: Vocabulary) -> None:
        """Take a connected socket, which may be one of `ssl`, and the messages that this side accepts."""
        sock.setblocking(False)
        if sock.family != socket.AF_UNIX:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NOTSENT_LOWAT, _NOT_SENT_BYTES)
        self._socket = sock
        self._accepted = accepted
        self._blocked = blocked_errors(sock)
        self._is_tls = is_tls(sock)
        self._reader = FrameReader(LONGEST_FRAME)
        self._pieces = bytearray()
        self._sending = bytearray()  # frames of which a part may have been sent
        self._urgent: deque[bytes] = deque()
        self._queue: deque[bytes] = deque()
        self.backlog_bytes = 0  # that wait, besides those of `_sending`
        self.eof = False
        self.problem = ""  # why a side has refused the other; empty: none has

    def fileno(self) -> int:
        return self._socket.fileno()

    @property
    def backlog(self) -> bool:
        """Whether there is data that could not be sent yet."""
        return bool(self._sending or self._queue or self._urgent)

    @property
    def is_full(self) -> bool:
        """Whether the socket has not taken all of the data that was to be sent with the last `flush`."""
        return bool(self._sending)

    # -- sending -------------------------------------------------------------------------------------------

    def put(self, message: Message) -> None:
        """Add a message to those that wait; `flush` sends all of them with one call of the system.

        Raises:
            ValueError: a value is not plain data, or the message is too long.
        """
        body = marshalled(message)
        if self.eof:
            return
        if len(body) <= PIECE_BYTES:
            self._add(frame(body))
        else:
            for piece in _pieces(body):
                self._add(piece)

    def send(self, message: Message) -> None:
        """Send a message, after those that wait. Raises ValueError as `put` does."""
        self.put(message)
        self.flush()

    def _add(self, data: bytes) -> None:
        self._queue.append(data)
        self.backlog_bytes += len(data)

    def send_urgent(self, message: Message) -> None:
        """Send a short message before those that wait."""
        data = pack(message)
        self._urgent.append(data)
        self.backlog_bytes += len(data)
        self.flush()

    def refuse(self, reason: str) -> None:
        """End the connection, and send the reason to the other side if its socket takes it now."""
        self.send_urgent((REFUSED, reason))
        self._end(reason)

    def _end(self, problem: str) -> None:
        self.eof, self.problem = True, self.problem or problem

    def flush(self) -> None:
        """Send the data that waits, as much as the socket takes."""
        while not self.eof and (self._sending or self._fill()):
            try:
                sent = self._socket.send(self._sending)
            except self._blocked:
                return
            except OSError:
                self.eof = True
                return
            del self._sending[:sent]

    def _fill(self) -> bool:
        """Take the next frames that are sent with one call; return whether there are any."""
        for frames in (self._urgent, self._queue):
            while frames and len(self._sending) < _CHUNK:
                data = frames.popleft()
                self.backlog_bytes -= len(data)
                self._sending += data
        return bool(self._sending)

    # -- receiving -----------------------------------------------------------------------------------------

    def take(self) -> list[Message]:
        """Read the data that has arrived (a bounded amount) and return the complete messages."""
        self._read()
        messages: list[Message] = []
        for value in self._reader.take():
            if isinstance(value, bytes) and len(self._pieces) <= LONGEST_MESSAGE:
                self._pieces += value
                continue
            if value is None:  # the last piece has arrived
                value = _unmarshalled(self._pieces)
                self._pieces = bytearray()
            problem = problem_of(value, self._accepted)
            if problem is not None:
                self.refuse(problem)
                return messages
            if value[0] == REFUSED:
                self._end(value[1])
                return messages
            messages.append(value)
        if self._reader.is_broken:
            self.refuse(invalid("other data"))
        return messages

    def _read(self) -> None:
        # A record of TLS is shorter than a read, and more may be behind it. Decrypted data makes no descriptor
        # readable, so it is read, too; meanwhile TLS may have messages of its own, which hold it up.
        is_there = self._reader.read(self._socket, self._blocked, until_blocked=self._is_tls)
        while is_there and self._is_tls and self._socket.pending():  # type: ignore[attr-defined]  # of an SSLSocket
            fed = self._reader.fed
            is_there = self._reader.read(self._socket, self._blocked)
            if self._reader.fed == fed:
                break
        self.eof = self.eof or not is_there

    def close(self) -> None:
        self.eof = True
        keep_open_in_forks(self._socket)
        self._socket.close()


def _pieces(body: bytes) -> Iterator[bytes]:
    """Yield a long message as frames of its pieces, and the end of them. Raises ValueError: it is too long."""
    if len(body) > LONGEST_MESSAGE:
        raise ValueError(f"its values have {len(body):,} bytes; at most {LONGEST_MESSAGE:,} pass to another machine")
    with memoryview(body) as view:
        for start in range(0, len(view), PIECE_BYTES):
            yield pack(bytes(view[start : start + PIECE_BYTES]))
    yield pack(None)


def _unmarshalled(body: bytearray) -> Any:
    """Return the value of all pieces of a message; None when they are damaged."""
    try:
        return marshal.loads(body)
    except Exception:  # noqa: BLE001 - they are damaged, and marshal raises what it meets
        return None
