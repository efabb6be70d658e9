"""The agents of a cluster that take attempts, and which of them gets the next one."""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Iterator
from itertools import islice
from typing import Final

from liteflow.executors.outcome_queue import OutcomeQueue
from liteflow.remote.ferry import Outbox
from liteflow.remote.link import Link, Message
from liteflow.remote.sent_values import SentValues, User
from liteflow.work import HostId

#: Attempts that an agent has beyond its slots, at most.
_MOST_QUEUED: Final = 64


class FarAgent:
    """An agent on another machine."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.outbox = Outbox(link)
        self.agent_id = ""
        self.host_id = HostId("", "")
        self.slots = 0
        self.nodes: dict[int, None] = {}  # of its attempts, in the order in which they were sent
        self.bodies: set[str] = set()  # digests of those that it has
        self.values = SentValues()
        self.received_at = time.monotonic()
        self.is_ready = False
        self.is_leaving = False  # its place is about to end
        self.is_closed = False  # nothing that it has started lives

    @property
    def host(self) -> str:
        """The name of its machine for people."""
        return self.host_id.host

    @property
    def running(self) -> Iterator[int]:
        """The nodes of the attempts that run there: it starts them in order, and queues those beyond its slots."""
        return islice(self.nodes, self.slots)

    @property
    def free(self) -> int:
        """How many attempts more it takes; less than zero where some are queued."""
        return 0 if self.is_leaving else self.slots - len(self.nodes)


class ReadyAgents:
    """The agents that are ready, in the order in which they get attempts."""

    def __init__(self, outcomes: OutcomeQueue) -> None:
        self._outcomes = outcomes
        self._ready: deque[FarAgent] = deque()
        self._free: dict[FarAgent, None] = {}  # those with a free slot; the first gets the next attempt
        self._unsent: set[FarAgent] = set()  # those whose links have messages that are not flushed

    def __bool__(self) -> bool:
        """Whether an agent is ready."""
        return bool(self._ready)

    def __iter__(self) -> Iterator[FarAgent]:
        return iter(tuple(self._ready))

    def add(self, agent: FarAgent) -> None:
        """Let an agent take attempts."""
        agent.is_ready = True
        self._ready.append(agent)
        self.update(agent)

    def remove(self, agent: FarAgent) -> None:
        """Let an agent take no attempts."""
        if agent.is_ready:
            agent.is_ready = False
            self._ready.remove(agent)
        self._free.pop(agent, None)
        self._unsent.discard(agent)

    def update(self, agent: FarAgent) -> None:
        """Handle that an agent has more free slots, or fewer."""
        if agent.free <= 0:
            self._free.pop(agent, None)
        elif agent.is_ready and agent not in self._free:
            self._free[agent] = None

    @property
    def slots(self) -> int:
        """How many attempts the agents run at once."""
        return sum(agent.slots for agent in self._ready if not agent.is_leaving)

    def room(self) -> int:
        """Return how many attempts more the agents take; less than zero where some are queued."""
        return sum(agent.free for agent in self._ready)

    def take_slot(self, node: int) -> FarAgent | None:
        """Give an attempt to the next agent with a free slot and return it; None when there is none."""
        agent = next(iter(self._free), None)
        if agent is not None:
            agent.nodes[node] = None
            del self._free[agent]
            if agent.free > 0:
                self._free[agent] = None  # behind the others
        return agent

    def queue_at(self, node: int) -> FarAgent | None:
        """Queue an attempt at an agent, and return the agent; None when all queues are full."""
        for _ in range(len(self._ready)):
            agent = self._ready[0]
            self._ready.rotate(-1)
            if not agent.is_leaving and -agent.free < _MOST_QUEUED:
                agent.nodes[node] = None
                return agent
        return None

    def end(self, agent: FarAgent, node: int) -> None:
        """Handle that an agent no longer has an attempt."""
        agent.nodes.pop(node, None)
        self.end_use(agent, node)
        self.update(agent)

    def end_use(self, agent: FarAgent, user: User) -> None:
        """Handle that something at an agent has ended; the agent drops the values that are too many then."""
        names = agent.values.end(user)
        if names:
            self.put(agent, ("drop", names))

    # -- messages ------------------------------------------------------------------------------------------

    def put(self, agent: FarAgent, message: Message) -> None:
        """Have a message sent to an agent with the next `flush`."""
        agent.link.put(message)
        self._unsent.add(agent)

    def mark_unsent(self, agent: FarAgent) -> None:
        """Have what the outbox of an agent has put into its link sent with the next `flush`."""
        self._unsent.add(agent)

    def flush(self) -> None:
        """Send what was put: all messages for an agent with one call of the system."""
        unsent, self._unsent = self._unsent, set()
        for agent in unsent:
            self.flush_link(agent)

    def flush_link(self, agent: FarAgent) -> None:
        """Send what waits for an agent, the rest as soon as its link takes more."""
        agent.link.flush()
        self._outcomes.watch_writing(agent.link.fileno(), on=agent.link.backlog or bool(agent.outbox))
