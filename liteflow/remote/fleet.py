"""The agents of a cluster, as the owner of a run has them: which are connected, which have free slots, which are lost.

An agent whose link has ended is *doubtful*: its processes may live for a moment. It is lost, and its attempts with it,
when its place says that nothing is left, or when nothing was heard for its lease and a second more. Both are after the
end of its processes: the guardian ends them by the end of the lease, which is never later than the last message of the
agent plus the length of the lease. So no attempt runs twice at the same time.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final, Protocol

from liteflow.errors import ResourceError
from liteflow.executors.outcome_queue import OutcomeQueue, Timer
from liteflow.executors.protocol import PlaceState
from liteflow.record import Record
from liteflow.remote.cluster import Cluster
from liteflow.remote.files import file_messages
from liteflow.remote.link import Link, Message
from liteflow.remote.listener import Listener
from liteflow.remote.messages import invalid
from liteflow.remote.placing import Placement
from liteflow.remote.ready_agents import FarAgent, ReadyAgents
from liteflow.remote.ticket import ticket_to
from liteflow.version import __version__
from liteflow.work import HostId

_SWEEP_S: Final = 1.0  # between the end of a lease and the end of the last process
_CHECKS_IN_A_LEASE: Final = 10
_RESTART_S: Final = 1.0  # before a placer that has ended is started again


class Patience:
    """How long a cluster may fail: not at all at first, because a mistake is likely; for a while once it has worked."""

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._limit_s = 0.0
        self._since: float | None = None
        self.problem = ""  # why a machine could not be had last; empty: one could
        self.missing = ""  # why machines have not given all slots that are wanted; empty: they have, or it is not known

    def worked(self) -> None:
        self._limit_s, self._since, self.problem = self._longest_s, None, ""

    def failed(self) -> bool:
        """Note that no machine can be had now. Return whether the patience is over."""
        if self._since is None:
            self._since = time.monotonic()
        return time.monotonic() - self._since >= self._limit_s


class FleetUser(Protocol):
    """The part of a lane that a fleet calls."""

    def receive(self, agent: FarAgent, message: Message) -> None:
        """Handle a message about an attempt."""

    def lose(self, agent: FarAgent, reason: str, *, undone: bool) -> None:
        """Handle the end of an agent; no process of its attempts lives. `undone`: their undos were done, too."""

    def note_slots(self, existing: int, held: int) -> None:
        """Note how many slots there are at most, and how many of them a machine has given."""

    def settle(self) -> None:
        """Use the slots that have become free, once all messages that have arrived are handled."""


class Introduction(Record):
    """The first message to each agent, and the demands on it."""

    facts: Mapping[str, Any]  #: of the run; plain data
    same_python: bool  #: whether the agent needs the same minor version of Python
    files: bytes = b""  #: the archive of the files that it needs (see `files`); empty: it needs none


def version_problem(hello: Mapping[str, Any], *, same_python: bool) -> str | None:
    """Return why an agent cannot work with this version; None: it can.

    Args:
        hello: its first message.
        same_python: whether it needs the same minor version of Python.
    """
    python, own_python = tuple(hello["python"]), sys.version_info[:3]
    if hello["version"] == __version__ and (python[:2] == own_python[:2] or not same_python):
        return None
    versions = ".".join(map(str, python)), ".".join(map(str, own_python))
    return (
        f"{hello['host']} ({hello['machine']}) has Lightflow {hello['version']} on Python {versions[0]}, this is "
        f"{__version__} on {versions[1]}: install the same there"
    )


class Fleet:
    """The agents of one cluster."""

    def __init__(
        self, name: str, cluster: Cluster, introduction: Introduction, outcomes: OutcomeQueue, user: FleetUser
    ) -> None:
        """Listen for agents; none is started yet. Raises ResourceError: this machine cannot listen there."""
        self._name = name
        self._cluster = cluster
        self._introduction = introduction
        self._outcomes = outcomes
        self._user = user
        self._listener = Listener(cluster, outcomes, self._welcome, self._note_failure)
        self._placement: Placement | None = None
        self._wanted = 0
        self._patience = Patience(cluster.patience_s)
        self._agents: set[FarAgent] = set()  # all, also those that are not ready yet, or doubtful
        self.ready = ReadyAgents(outcomes)  # those that are ready
        self._check: Timer | None = None

    # -- slots ---------------------------------------------------------------------------------------------

    def want(self, count: int) -> None:
        """Have the placer bring so many slots, or take some away."""
        if count == self._wanted:
            return
        self._wanted = count
        if self._placement is None and count:
            self._place()
        elif self._placement is not None:
            self._placement.want(count, self._busy)

    @property
    def wanted(self) -> int:
        return self._wanted

    def state(self) -> PlaceState:
        """Return what is known of the place."""
        hosts = {node: agent.host for agent in self._agents for node in agent.running}
        problem = self._patience.problem or self._patience.missing
        return PlaceState(slots=self.ready.slots, wanted=self._wanted, hosts=hosts, problem=problem)

    @property
    def _busy(self) -> dict[str, int]:
        """How many attempts each agent has, by its id."""
        return {agent.agent_id: len(agent.nodes) for agent in self._agents if agent.nodes}

    def _place(self) -> None:
        if self._placement is not None:
            return
        if not self._wanted:  # the slots of the placer before have ended with it
            self._user.note_slots(0, 0)
            return
        ticket = ticket_to(self._cluster, self._listener.port, self._listener.key)
        self._placement = Placement(self._cluster.argv, ticket, self._outcomes, self._on_line, self._on_placer_end)
        self._placement.want(self._wanted, self._busy)
        if self._check is None:
            self._check_later()

    # -- the placer ----------------------------------------------------------------------------------------

    def _on_line(self, line: Mapping[str, Any]) -> None:
        if "gone" in line:
            for agent in [agent for agent in self._agents if agent.agent_id == line["gone"]]:
                self._read(agent, to_the_end=True)
                self._lose(agent, "it has ended", undone=True)
        elif "failed" in line:
            self._note_failure(str(line["failed"]), is_final=bool(line.get("final")))
        elif "slots" in line and self._placement is not None and line["number"] == self._placement.number:
            self._patience.missing = str(line.get("missing", ""))
            self._user.note_slots(line["slots"], line["held"])

    def _on_placer_end(self) -> None:
        """Start another placer later; one that was not killed has ended because it cannot work."""
        was_killed = False
        if self._placement is not None:
            was_killed = self._placement.close() < 0
            self._placement, self._patience.missing = None, ""
        self._outcomes.at(time.monotonic() + _RESTART_S, self._place)
        self._note_failure("its placer has ended", is_final=not was_killed)

    def _note_failure(self, reason: str, *, is_final: bool = False) -> None:
        """Note why an agent does not come. Raises ResourceError: none is left that could."""
        self._patience.problem = reason
        if is_final and not self.ready and self._wanted and self._patience.failed():
            raise ResourceError(f"the cluster {self._name!r} has no machine that can run a task: {reason}")

    # -- agents --------------------------------------------------------------------------------------------

    def _welcome(self, link: Link) -> None:
        agent = FarAgent(link)
        self._agents.add(agent)
        self._outcomes.watch(link.fileno(), partial(self._read, agent))

    def _read(self, agent: FarAgent, *, to_the_end: bool = False) -> None:
        if agent.link.fileno() < 0:
            return
        while True:
            messages = agent.link.take()
            if messages:
                agent.received_at = time.monotonic()
            for message in messages:
                self._receive(agent, message)
                if agent.link.fileno() < 0:  # refused
                    self._user.settle()
                    return
            if not to_the_end or not messages or agent.link.eof:
                break
        agent.outbox.pump()
        if agent.link.eof:
            self._doubt(agent)
        else:
            self.ready.flush_link(agent)
        self._user.settle()

    def _receive(self, agent: FarAgent, message: Message) -> None:
        kind = message[0]
        if (kind == "hello") == bool(agent.agent_id) or (kind == "ready" and agent.is_ready):
            agent.link.refuse(invalid(f"{kind} at this moment"))
            self._doubt(agent)
        elif kind == "beat":
            agent.link.send_urgent(("beat", message[1], time.time()))
        elif kind == "hello":
            self._introduce(agent, message[1])
        elif kind == "ready":
            agent.slots = message[1]
            self.ready.add(agent)
            self._patience.worked()
            self._outcomes.wake()  # the caller may submit more
        elif kind == "slots":
            agent.slots = message[1]
            self.ready.update(agent)
            self._outcomes.wake()
        elif kind == "leaving":
            agent.is_leaving = True
            self.ready.update(agent)
            agent.outbox.add(iter([("leave",)]))
        elif kind == "closed":
            agent.is_closed = True
        else:
            self._user.receive(agent, message)

    def _introduce(self, agent: FarAgent, hello: Mapping[str, Any]) -> None:
        agent.agent_id = hello["agent"]
        agent.host_id = HostId(hello["host"], f"{hello['machine']} {hello['boot']}")
        problem = version_problem(hello, same_python=self._introduction.same_python)
        if problem is None:
            agent.link.send(("open", self._introduction.facts))
            agent.outbox.add(file_messages(self._introduction.files))
            return
        agent.link.refuse(problem)  # its placer reports it, and knows whether other machines may come
        self._forget(agent)

    # -- ends ----------------------------------------------------------------------------------------------

    def _doubt(self, agent: FarAgent) -> None:
        """Handle the end of a link."""
        self.ready.remove(agent)
        self._close_link(agent)
        if agent.link.problem:
            self._note_failure(f"{agent.host}: {agent.link.problem}")
        if agent.is_closed or not agent.nodes:
            self._lose(agent, "it has ended", undone=True)

    def _lose(self, agent: FarAgent, reason: str, *, undone: bool) -> None:
        self._forget(agent)
        self._user.lose(agent, agent.link.problem or reason, undone=undone)

    def _forget(self, agent: FarAgent) -> None:
        self.ready.remove(agent)
        self._agents.discard(agent)
        self._close_link(agent)

    def _close_link(self, agent: FarAgent) -> None:
        if agent.link.fileno() >= 0:
            self._outcomes.unwatch(agent.link.fileno())
            agent.link.close()
            agent.outbox.close()

    def _check_later(self) -> None:
        due = time.monotonic() + self._cluster.lease_s / _CHECKS_IN_A_LEASE
        self._check = self._outcomes.at(due, self._check_silence)

    def _check_silence(self) -> None:
        """Lose the agents from which nothing was heard for so long that the lease has ended all they have started."""
        limit_s = self._cluster.lease_s + _SWEEP_S
        for agent in list(self._agents):
            if time.monotonic() - agent.received_at > limit_s:
                self._lose(agent, f"nothing was heard of it for {limit_s:g} s", undone=False)
                if self._placement is not None and agent.agent_id:
                    self._placement.lost(agent.agent_id)
        self._check_later()

    # -- the end of the run --------------------------------------------------------------------------------

    def say_goodbye(self, grace_s: float) -> None:
        """Have all agents end what they run."""
        self._wanted = 0
        for agent in self.ready:
            agent.link.send_urgent(("goodbye", grace_s))
            self.ready.flush_link(agent)

    def close(self) -> None:
        """Close all links, end all agents, and wait for the end of their places."""
        self._wanted = 0
        if self._check is not None:
            self._check.cancel()
        for agent in list(self._agents):
            self._forget(agent)
        self._listener.close()
        if self._placement is not None:
            self._placement.close()
            self._placement = None
