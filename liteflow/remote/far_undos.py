"""The undos of the attempts of a cluster, as the owner has them.

The agent of an attempt does its undo, and when the agent ends its guardian does. Where both may not have done it,
because they were killed or nothing was heard of their machine, another agent on the same machine does: a container, for
example, is on its machine alone. A resume has the undos done in the same way that a dead owner has left.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

from liteflow.executors.outcome_queue import OutcomeQueue
from liteflow.processes.undos import ALL_UNDOS_S
from liteflow.record import Record
from liteflow.remote.link import Message
from liteflow.remote.ready_agents import FarAgent, ReadyAgents
from liteflow.work import HostId

#: How long an undo waits for an agent: longer than a guardian that lives may work at it.
_PATIENCE_S: Final = ALL_UNDOS_S + 10.0


class LostUndo(Record):
    """An undo that another agent does."""

    host_id: HostId  #: of the machine on which its attempt ran
    messages: Callable[[FarAgent, int], Iterator[Message]]  #: returns those that an agent gets, with a number
    on_end: Callable[[str | None], None]  #: gets why the undo has failed; None: it has not


class FarUndos:
    """The attempts that wait until their machine is stored, and the undos that other agents do."""

    def __init__(self, outcomes: OutcomeQueue, ready: ReadyAgents) -> None:
        self._outcomes = outcomes
        self._ready = ready
        self._held: dict[int, HostId] = {}  # by node
        self._stored: list[int] = []
        self._lost: dict[int, LostUndo] = {}  # by number
        self._agents: dict[int, FarAgent] = {}  # those that do them
        self._last_number = 0

    # -- before an attempt starts --------------------------------------------------------------------------

    def hold(self, node: int, host_id: HostId) -> None:
        """Hold an attempt back until the caller has stored which machine gets it."""
        self._held[node] = host_id
        self._outcomes.wake()

    def take_unstored(self) -> list[tuple[int, HostId]]:
        """Return the attempts whose machine is not stored yet. The caller stores it before `take_stored`."""
        if not self._held:
            return []
        unstored = list(self._held.items())
        self._stored += self._held
        self._held.clear()
        return unstored

    def take_stored(self) -> list[int]:
        """Return the attempts that may start now."""
        if not self._stored:
            return []
        stored, self._stored = self._stored, []
        return stored

    # -- when an agent is lost -----------------------------------------------------------------------------

    def add(self, undo: LostUndo) -> int:
        """Have an undo done by an agent that is ready, or will be soon. Return its number."""
        self._last_number += 1
        number = self._last_number
        self._lost[number] = undo
        self._outcomes.at(time.monotonic() + _PATIENCE_S, partial(self.give_up, number))
        self._outcomes.at(0.0, self.send)
        return number

    def send(self) -> None:
        """Send the undos for whose machine there is an agent now."""
        for number, undo in list(self._lost.items()):
            if number not in self._agents:
                agents = (each for each in self._ready if each.host_id.is_that_of(undo.host_id))
                agent = next((each for each in agents if not each.is_leaving), None)
                if agent is not None:
                    self._agents[number] = agent
                    agent.outbox.add(undo.messages(agent, number))
                    self._ready.flush_link(agent)

    def finish(self, agent: FarAgent, number: int, problem: str | None) -> None:
        """Handle that an agent has done an undo, or why it could not."""
        if self._agents.get(number) is agent:
            self.end(number, problem)

    def end(self, number: int, problem: str | None) -> None:
        """Handle the end of an undo."""
        undo = self._lost.pop(number, None)
        agent = self._agents.pop(number, None)
        if agent is not None:
            self._ready.end_use(agent, -number)
        if undo is not None:
            undo.on_end(problem)

    def give_up(self, number: int) -> None:
        """End an undo that no agent has done."""
        if number in self._lost:
            host = self._lost[number].host_id.host
            self.end(number, f"there is no connection to {host}, where the attempt ran")

    def lose(self, agent: FarAgent) -> None:
        """Let another agent do what this one has not done."""
        self._agents = {number: each for number, each in self._agents.items() if each is not agent}

    def __bool__(self) -> bool:
        """Whether other agents have undos to do."""
        return bool(self._lost)
