"""A real SMTP server in the test process, which counts its connections and can let a message wait for its answer."""

from __future__ import annotations

import asyncio
import email
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from aiosmtpd.controller import Controller
from aiosmtpd.smtp import SMTP
from sql_servers import free_port


class SmtpServer:
    """The handler of the server; `identities` has the `Message-ID` of each message that arrived."""

    def __init__(self) -> None:
        self.port = 0
        self.identities: list[str] = []
        self.connections = 0  # that are open now
        self.holds = True  # whether messages that arrive wait for their answer
        self.released = False  # whether those that wait get it

    async def handle_DATA(self, server: SMTP, session: Any, envelope: Any) -> str:
        self.identities.append(email.message_from_bytes(envelope.content)["Message-ID"])
        if self.holds:
            while not self.released:  # the task is cancelled when the client is gone
                await asyncio.sleep(0.02)
        return "250 OK"


class _Counting(SMTP):
    """Counts the connections of its handler."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.event_handler.connections += 1
        super().connection_made(transport)

    def connection_lost(self, error: Exception | None) -> None:
        self.event_handler.connections -= 1
        super().connection_lost(error)


class _Controller(Controller):
    def factory(self) -> SMTP:
        return _Counting(self.handler, **self.SMTP_kwargs)


@contextmanager
def receiving() -> Iterator[SmtpServer]:
    """Receive mails until the end of the block."""
    server = SmtpServer()
    server.port = free_port()
    controller = _Controller(server, hostname="127.0.0.1", port=server.port)
    controller.start()
    try:
        yield server
    finally:
        server.released = True
        controller.stop()
