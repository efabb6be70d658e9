"""A place inside of a process of other software: what a worker of a cluster calls to hold a slot for an agent.

Each call holds one slot. The first for a run starts the agent; further calls join it, so that the agent has as many
slots as this process holds for it. All calls return when the agent has ended.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import threading
from contextlib import suppress
from typing import Any

from liteflow.record import fields_of, replace
from liteflow.remote.cluster import Certificates
from liteflow.remote.keeper import CLEAN
from liteflow.remote.ticket import Ticket, ticket_from, ticket_line

_lock = threading.Lock()
_agents: dict[str, _HeldAgent] = {}  # by the key of the run


class _HeldAgent:
    """An agent that this process has started, with the slots that it holds for it."""

    def __init__(self, ticket: Ticket, name: str) -> None:
        """Start an agent. Raises OSError: it cannot be started."""
        self.agent_id = os.urandom(6).hex()
        self.slots = 1
        self.failure = ""
        self.process = subprocess.Popen(
            [sys.executable, "-m", "liteflow.remote.agent"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self.write(ticket_line(replace(ticket, agent=self.agent_id, host=name, slots=1)))
        self._has_ended = threading.Event()
        threading.Thread(target=self._await_end, name="lightflow-agent", daemon=True).start()

    def write(self, line: bytes) -> None:
        assert self.process.stdin is not None
        with suppress(OSError):  # it has ended
            self.process.stdin.write(line)

    def join(self) -> None:
        """Give the agent one slot more."""
        self.slots += 1
        self.write(json.dumps({"slots": self.slots}).encode() + b"\n")

    def _await_end(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            with suppress(ValueError):
                self.failure = str(json.loads(line).get("failed", ""))
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        self._has_ended.set()

    def result(self) -> dict[str, Any]:
        """Wait for the end of the agent, and return what became of it."""
        self._has_ended.wait()
        return {"agent": self.agent_id, "is_clean": self.process.returncode == CLEAN, "failure": self.failure}


def hold(line: str, name: str | None = None, certificates: Certificates | None = None) -> dict[str, Any]:
    """Hold a slot of this process for the run of a ticket, until its agent has ended.

    Args:
        line: the ticket of the run, without the part of an agent.
        name: the name of this place for people; None: the name of the machine.
        certificates: those of this place, for a run whose links are TLS.

    Returns:
        `agent` (its id), `is_clean` (whether nothing that it started lives) and `failure` (why it could not work, or
        nothing).
    """
    ticket = ticket_from(line.encode())
    if ticket.certificates is not None and certificates is not None:
        ticket = replace(ticket, **fields_of(certificates))
    with _lock:
        agent = _agents.get(ticket.key)
        if agent is None or agent.process.poll() is not None:
            agent = _agents[ticket.key] = _HeldAgent(ticket, name or socket.gethostname())
        else:
            agent.join()
    try:
        return agent.result()
    finally:
        with _lock:
            if _agents.get(ticket.key) is agent:
                del _agents[ticket.key]
