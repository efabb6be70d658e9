"""A survey of a cluster: an agent is started on each machine, and says what it finds there. No run is needed."""

from __future__ import annotations

import time
from collections.abc import Mapping
from functools import partial
from typing import Any, Final

from liteflow.executors.outcome_queue import OutcomeQueue
from liteflow.record import Record
from liteflow.remote.cluster import Cluster
from liteflow.remote.ferry import Outbox
from liteflow.remote.files import file_messages, packed_files
from liteflow.remote.fleet import version_problem
from liteflow.remote.lane import facts_of
from liteflow.remote.link import Link, Message
from liteflow.remote.listener import Listener
from liteflow.remote.placing import Placement
from liteflow.remote.ticket import ticket_to
from liteflow.work import RunInfo

_QUIET_S: Final = 2.0  # machines whose names are not known may come so long after the last one


class Machine(Record):
    """The facts of a machine of a cluster after a survey."""

    host: str  #: its name in the declaration of the cluster; empty: that of the cluster as a whole
    hello: Mapping[str, Any] | None = None  #: of its agent: `version`, `python`, `machine`, `slots`
    facts: Mapping[str, Any] | None = None  #: see `inspection`
    offset_s: float = 0.0  #: its clock minus that of this machine
    way_s: float = 0.0  #: how long a question and its answer took; the offset is exact to half of it
    failure: str = ""  #: why it cannot run tasks; empty: it can


class _Visit:
    """An agent that has connected."""

    def __init__(self, link: Link) -> None:
        self.link = link
        self.outbox = Outbox(link)
        self.hello: Mapping[str, Any] = {}
        self.sent_at = 0.0


class Survey:
    """The questions to the machines of a cluster, and their answers."""

    def __init__(self, cluster: Cluster) -> None:
        """Start the agents. Raises DefinitionError, ResourceError: the cluster is not there, as its message says."""
        self._cluster = cluster = cluster.started()
        self._files = packed_files(cluster)
        self._outcomes = OutcomeQueue()
        self._machines: dict[str, Machine] = {}
        self._visits: set[_Visit] = set()
        self._is_over = False
        self._last_news = time.monotonic()
        self._listener = Listener(cluster, self._outcomes, self._welcome, self._note)
        ticket = ticket_to(cluster, self._listener.port, self._listener.key)
        self._placement = Placement(cluster.argv, ticket, self._outcomes, self._on_line, self._on_placer_end)
        self._placement.want(cluster.slots, {})

    def run(self, limit_s: float) -> list[Machine]:
        """Return what is known of each machine, after the last answer, or after so many seconds."""
        end = time.monotonic() + limit_s
        while not self._is_complete and (left_s := end - time.monotonic()) > 0:
            self._outcomes.wait(min(left_s, _QUIET_S))
        for host in self._cluster.hosts:
            if host not in self._machines:
                self._machines[host] = Machine(host=host, failure=f"it has not answered within {limit_s:g} s")
        if not self._machines:
            self._machines[""] = Machine(host="", failure=f"no machine has answered within {limit_s:g} s")
        return list(self._machines.values())

    @property
    def _is_complete(self) -> bool:
        if self._is_over:
            return True
        if self._cluster.hosts:
            return all(host in self._machines for host in self._cluster.hosts)
        return bool(self._machines) and time.monotonic() - self._last_news > _QUIET_S

    # -- what arrives --------------------------------------------------------------------------------------

    def _on_line(self, line: Mapping[str, Any]) -> None:
        if "failed" in line:
            self._note(str(line["failed"]), str(line.get("host", "")))

    def _on_placer_end(self) -> None:
        self._is_over = True
        self._outcomes.wake()

    def _welcome(self, link: Link) -> None:
        visit = _Visit(link)
        self._visits.add(visit)
        self._outcomes.watch(link.fileno(), partial(self._read, visit))

    def _read(self, visit: _Visit) -> None:
        visit.link.flush()
        for message in visit.link.take():
            self._receive(visit, message)
        visit.outbox.pump()
        visit.link.flush()
        if visit.link.eof:
            self._forget(visit)
        else:
            self._outcomes.watch_writing(visit.link.fileno(), on=visit.link.backlog or bool(visit.outbox))

    def _receive(self, visit: _Visit, message: Message) -> None:
        kind = message[0]
        if kind == "hello":
            self._open(visit, message[1])
        elif kind == "ready":
            visit.sent_at = time.time()
            visit.link.send_urgent(("inspect",))
        elif kind == "beat":
            visit.link.send_urgent(("beat", message[1], time.time()))
        elif kind == "inspected":
            now, facts = time.time(), message[1]
            self._add(
                Machine(
                    host=visit.hello["host"],
                    hello=visit.hello,
                    facts=facts,
                    offset_s=facts["time"] - (visit.sent_at + now) / 2,
                    way_s=now - visit.sent_at,
                )
            )

    def _open(self, visit: _Visit, hello: Mapping[str, Any]) -> None:
        visit.hello = hello
        problem = version_problem(hello, same_python=False)
        if problem is None:
            folder = self._cluster.folder if self._files else None
            visit.link.send(("open", facts_of(RunInfo(run_id="doctor", dag_id="", db_path=""), folder)))
            visit.outbox.add(file_messages(self._files))
        else:
            visit.link.refuse(problem)

    def _note(self, reason: str, host: str = "") -> None:
        if host not in self._machines or self._machines[host].facts is None:
            self._add(Machine(host=host, failure=reason))

    def _add(self, machine: Machine) -> None:
        self._machines[machine.host] = machine
        self._last_news = time.monotonic()
        self._outcomes.wake()

    # -- the end -------------------------------------------------------------------------------------------

    def _forget(self, visit: _Visit) -> None:
        if visit in self._visits:
            self._visits.remove(visit)
            self._outcomes.unwatch(visit.link.fileno())
            visit.link.close()

    def close(self) -> None:
        """End the agents, and wait for their end."""
        for visit in list(self._visits):
            self._forget(visit)
        self._listener.close()
        self._placement.close()
        self._outcomes.close()


def survey(cluster: Cluster, limit_s: float) -> list[Machine]:
    """Return what is known of each machine of a cluster, after so many seconds at most.

    Raises:
        DefinitionError, ResourceError: the cluster is not there.
    """
    current = Survey(cluster)
    try:
        return current.run(limit_s)
    finally:
        current.close()
