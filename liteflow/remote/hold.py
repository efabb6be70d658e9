"""A place inside of a process of other software: what a worker of a cluster calls to hold a slot for an agent.

Each call holds one slot. The first for a run starts the agent; further calls join it, so that the agent has as many
slots as this process holds for it. All calls return when the agent has ended.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from liteflow.record import fields_of, replace
from liteflow.remote.cluster import Certificates
from liteflow.remote.keeper import CLEAN, failure_in
from liteflow.remote.ticket import Ticket, ticket_from, ticket_line

_lock = threading.Lock()
_agents: dict[str, _HeldAgent] = {}  # by the key of the run


class _HeldAgent:
    """An agent that this process has started, with the slots that it holds for it."""

    def __init__(self, ticket: Ticket, name: str) -> None:
        """Start an agent. Raises OSError: it cannot be started."""
        self.agent_id = os.urandom(6).hex()
        self.name = name
        self.slots: set[str] = set()
        self._failure = ""
        self._has_ended = False
        self._changed = threading.Condition(_lock)
        self.process = subprocess.Popen(
            [sys.executable, "-m", "liteflow.remote.agent"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            bufsize=0,
            start_new_session=True,
        )
        self._write(ticket_line(replace(ticket, agent=self.agent_id, host=name, slots=1)))
        threading.Thread(target=self._await_end, name="lightflow-agent", daemon=True).start()

    def _write(self, line: bytes) -> None:
        assert self.process.stdin is not None
        with suppress(OSError, ValueError):  # it has ended
            self.process.stdin.write(line)

    def add(self, slot: str) -> None:
        """Give the agent a slot."""
        self.slots.add(slot)
        if len(self.slots) > 1:
            self._say_slots()

    def take(self, slot: str) -> None:
        """Take a slot away; with the last one the agent ends as soon as nothing runs."""
        self.slots.discard(slot)
        self._say_slots()
        self._changed.notify_all()

    def _say_slots(self) -> None:
        message = {"slots": len(self.slots)} if self.slots else {"leaving": True}
        self._write(json.dumps(message).encode() + b"\n")

    def _await_end(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            self._failure = failure_in(line) or self._failure
        self.process.wait()
        for stream in (self.process.stdin, self.process.stdout):
            if stream is not None:
                stream.close()
        with _lock:
            self._has_ended = True
            self._changed.notify_all()

    def result(self, slot: str) -> dict[str, Any]:
        """Wait until the slot is taken away or the agent has ended, and return what became of it."""
        self._changed.wait_for(lambda: self._has_ended or slot not in self.slots)
        is_clean = self._has_ended and self.process.returncode == CLEAN
        return {"agent": self.agent_id, "host": self.name, "is_clean": is_clean, "failure": self._failure}


def hold(
    line: str, slot: str, name: str, on_agent: Callable[[str], object], certificates: Certificates | None = None
) -> dict[str, Any]:
    """Hold a slot of this process for the run of a ticket, until its agent has ended or the slot is given back.

    Args:
        line: the ticket of the run, without the part of an agent.
        slot: the name of the slot.
        name: the name of this place for people.
        on_agent: called with the id of the agent that has the slot.
        certificates: those of this place, for a run whose links are TLS.

    Returns:
        `agent` (its id), `host` (the name of this place), `is_clean` (whether nothing that it started lives) and
        `failure` (why it could not work, or nothing).
    """
    ticket = ticket_from(line.encode())
    if ticket.certificates is not None and certificates is not None:
        ticket = replace(ticket, **fields_of(certificates))
    key = ticket.key
    with _lock:
        agent = _agents.get(key)
        if agent is None or not agent.slots or agent.process.poll() is not None:
            agent = _agents[key] = _HeldAgent(ticket, name)
        agent.add(slot)
    try:
        on_agent(agent.agent_id)
        with _lock:
            return agent.result(slot)
    finally:
        with _lock:
            agent.slots.discard(slot)
            if _agents.get(key) is agent and not agent.slots:
                del _agents[key]


def give_back(slot: str) -> None:
    """Have the call of `hold` with this slot return."""
    with _lock:
        for agent in _agents.values():
            if slot in agent.slots:
                agent.take(slot)
