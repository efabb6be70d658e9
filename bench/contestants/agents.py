"""A placer whose agents answer at once and run nothing: `python -m bench.contestants.agents MACHINES SLOTS`.

All agents of the simulated machines live in this one process, each with a link of its own.
"""

from __future__ import annotations

import os
import select
import socket
import sys
import time
from typing import Any, Final

from liteflow.executors.worker import outcome_to_wire
from liteflow.record import replace
from liteflow.remote.agent import introduction
from liteflow.remote.handshake import greet
from liteflow.remote.link import Link
from liteflow.remote.messages import OF_OWNER
from liteflow.remote.ticket import Ticket, ticket_from
from liteflow.values.payload import Payload
from liteflow.work import Outcome

_BEAT_S: Final = 2.0
_VALUE: Final = Payload("json", "1", 1)


class Answers:
    """The agents of all machines."""

    def __init__(self, ticket: Ticket, machines: int, slots: int) -> None:
        self._links: dict[int, Link] = {}
        self._epoll = select.epoll()
        self._slots = slots
        for number in range(machines):
            self._connect(ticket, f"m{number}")

    def _connect(self, ticket: Ticket, name: str) -> None:
        sock = socket.create_connection((ticket.address, ticket.port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        greet(sock, bytes.fromhex(ticket.key))
        link = Link(sock, OF_OWNER)
        link.send(introduction(replace(ticket, agent=name, host=name, slots=self._slots)))
        self._links[link.fileno()] = link
        self._epoll.register(link.fileno(), select.EPOLLIN)

    def run(self) -> None:
        """Answer until the owner has closed all links."""
        beat_at = 0.0
        while self._links:
            if time.monotonic() >= beat_at:
                beat_at = time.monotonic() + _BEAT_S
                for link in self._links.values():
                    link.send_urgent(("beat", 0.0))
            for fd, _ in self._epoll.poll(_BEAT_S):
                self._answer(fd, self._links[fd])

    def _answer(self, fd: int, link: Link) -> None:
        now = time.time()
        for message in link.take():
            if message[0] == "work":
                link.put(("outcome", _success(message[1], now), False))
            elif message[0] == "open":
                link.put(("ready", self._slots))
        link.flush()
        if link.eof:
            self._epoll.unregister(fd)
            del self._links[fd]
            link.close()
        else:
            self._epoll.modify(fd, select.EPOLLIN | (select.EPOLLOUT if link.backlog else 0))


def _success(wire: tuple[Any, ...], now: float) -> tuple[Any, ...]:
    """Return the outcome of a work, with a value."""
    node, attempt = wire[0][0], wire[0][3]
    return outcome_to_wire(Outcome(node, attempt, "SUCCESS", _VALUE, None, None, None, now, now, None))


def main() -> None:
    line = b""
    while not line.endswith(b"\n"):
        line += os.read(0, 1)
    Answers(ticket_from(line), int(sys.argv[1]), int(sys.argv[2])).run()


if __name__ == "__main__":
    main()
