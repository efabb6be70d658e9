"""The notes of an agent for its keeper."""

from __future__ import annotations

import socket

from liteflow.remote.keeper import Notes


def test_a_note_for_a_keeper_that_was_killed_raises_nothing() -> None:
    """The agent reads of its end from the descriptor, perhaps after it has noted something."""
    agent_end, keeper_end = socket.socketpair()
    notes = Notes(agent_end)
    keeper_end.close()
    notes.lease(1.0)
    notes.failed("too late")
    assert agent_end.recv(1) == b""
    agent_end.close()
