"""Clusters for tests: agents on this machine, started by the placer of hosts."""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from types import MappingProxyType
from typing import Any

import cloudpickle
import pytest

from liteflow.executors import Executor, open_executor
from liteflow.executors.protocol import BackendFactory
from liteflow.processes import tree
from liteflow.record import replace
from liteflow.remote.cluster import Cluster
from liteflow.remote.handshake import greet
from liteflow.remote.lane import lane_of
from liteflow.remote.link import Link, Message
from liteflow.remote.messages import OF_OWNER
from liteflow.remote.ticket import Ticket, ticket_from
from liteflow.version import __version__
from liteflow.work import Body, Call, Command, Outcome, Ref, RunInfo, Work

LIMIT_S = 120.0
PLAYED_SLOTS = 2  # of an agent that a test plays
#: The command line of an agent on this machine.
AGENT = (sys.executable, "-m", "liteflow.remote.agent")


#: A placer that starts nothing: it writes the ticket into a file, and says what it reads from a pipe.
_PLACER = """
import os, select, sys
ticket, pipe = sys.argv[1:]
line = os.read(0, 65536)
lines = os.open(pipe, os.O_RDWR)
with open(ticket + ".new", "wb") as file:
    file.write(line.partition(b"\\n")[0])
os.rename(ticket + ".new", ticket)
while True:
    ready = select.select([0, lines], [], [])[0]
    if lines in ready:
        os.write(1, os.read(lines, 65536))
    if 0 in ready and not os.read(0, 65536):
        break
"""


class ByValue:
    """Sends functions with their code."""

    by_value = True

    def dump(self, call: Call) -> bytes:
        data: bytes = cloudpickle.dumps(call)
        return data


def cluster_of(
    hosts: Mapping[str, int],
    argv: tuple[str, ...] = AGENT,
    others: Mapping[str, tuple[str, ...]] = MappingProxyType({}),
    before: tuple[str, ...] = (),
    **options: Any,
) -> Cluster:
    """Return a cluster whose hosts are this machine, each with so many slots; `others` have other command lines.

    The words `before` are those before the command line of the placer.
    """
    listed = [{"name": name, "slots": slots, "argv": others.get(name, argv)} for name, slots in hosts.items()]
    placer = (*before, sys.executable, "-m", "liteflow.remote.hosts", json.dumps(listed))
    return Cluster(argv=placer, **{"slots": sum(hosts.values()), "shipping": ByValue(), **options})


def far_lane(slots: int = 4, **options: Any) -> Mapping[str, BackendFactory]:
    """Return the lane `far`, whose one host `w1` is this machine."""
    return {"far": lane_of("far", cluster_of({"w1": slots}, **options))}


class Far:
    """An executor whose tasks run on a cluster, and the processes of the cluster."""

    def __init__(self, folder: Path, bodies: dict[str, Body], hosts: dict[str, int], **options: Any) -> None:
        self.folder = folder
        self.logs = folder / "logs"
        (folder / "outs").mkdir(exist_ok=True)
        info = RunInfo(
            run_id="run-1",
            dag_id="flow",
            db_path=str(folder / "state.db"),
            log_dir=str(self.logs),
            outputs_dir=str(folder / "outs"),
            values_dir=str(folder / "values"),
            secrets=options.pop("secrets", None),
        )
        cluster = options.pop("cluster", None) or cluster_of(hosts, **options)
        self.executor: Executor = open_executor(
            bodies, info, mode="far", slots=4, lanes={"far": lane_of("far", cluster)}
        )
        self.node = 0
        self._outcomes: list[Outcome] = []  # that nobody has collected yet

    def ready(self, slots: int) -> None:
        """Wait until there are so many free slots."""
        self.executor.want("far", slots)
        self.until(lambda: self.executor.room()["far"] == slots)

    def until(self, condition: Callable[[], bool]) -> None:
        give_up = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < give_up, self._outcomes
            self._outcomes += self.executor.wait(0.01)

    def awaited(self, path: Path) -> int:
        """Return the process id in a file, once it is there. The owner answers its agents meanwhile."""
        self.until(path.exists)
        return int(path.read_text())

    def submit(self, task_id: str, **fields: Any) -> int:
        self.node += 1
        log_path = str(self.logs / f"{task_id}-{self.node}.log")
        fields = {"attempt": 1, "log_path": log_path, **fields}
        self.executor.submit(Work(node=self.node, task_id=task_id, **fields))
        self.executor.flush()
        return self.node

    def collect(self, count: int = 1) -> list[Outcome]:
        self.until(lambda: len(self._outcomes) >= count)
        outcomes, self._outcomes = self._outcomes, []
        return outcomes

    def agents(self) -> list[tuple[int, int]]:
        return agents_in(os.environ["TMPDIR"])


@contextmanager
def opened_executors(folder: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Far]]:
    """Have a function that opens executors, and close them: no agent and no folder of one is left."""
    opened: list[Far] = []
    agents = tempfile.mkdtemp(prefix="far-", dir="/tmp")  # the paths of sockets are short
    monkeypatch.setenv("TMPDIR", agents)

    def make(bodies: dict[str, Body], hosts: dict[str, int] | None = None, **options: Any) -> Far:
        made = Far(folder, bodies, hosts or {"w1": 4}, **options)
        opened.append(made)
        return made

    yield make
    for made in opened:
        made.executor.close()
        assert made.agents() == []
    os.rmdir(agents)  # the folders of agents are removed


def agents_in(folder: str) -> list[tuple[int, int]]:
    """Return the keepers of agents whose folders are below this one, each with its agent."""
    rows = tree.processes()
    named = {pid for pid in rows if _is_of_an_agent(pid) and _folder_of_agents(pid) == folder}
    return [(row.parent, pid) for pid in named if (row := rows[pid]).parent in named and not _is_guardian(pid, rows)]


def _folder_of_agents(pid: int) -> str | None:
    try:
        environment = Path(f"/proc/{pid}/environ").read_bytes().decode().split("\0")
    except OSError:
        return None
    return next((each.partition("=")[2] for each in environment if each.startswith("TMPDIR=")), None)


def _is_of_an_agent(pid: int) -> bool:
    line = _command_line(pid)
    return b"liteflow.remote.agent" in line and b"liteflow.remote.hosts" not in line


def _is_guardian(pid: int, rows: dict[int, tree.Process]) -> bool:
    parent = rows.get(rows[pid].parent)
    return parent is not None and _is_of_an_agent(parent.parent)


def _command_line(pid: int) -> bytes:
    try:
        return Path(f"/proc/{pid}/cmdline").read_bytes()
    except OSError:
        return b""


class PlayedAgent:
    """An agent that a test plays: it runs nothing, and says what the test says."""

    def __init__(self, ticket: Ticket, agent_id: str, slots: int, *, says_hello: bool = True) -> None:
        """Connect, and take part in the run. The owner has to answer meanwhile."""
        sock = socket.create_connection((ticket.address, ticket.port))
        greet(sock, bytes.fromhex(ticket.key))
        self.link = Link(sock, OF_OWNER)
        facts = {
            "agent": agent_id,
            "host": agent_id,
            "machine": agent_id,
            "boot": "",
            "slots": slots,
        }
        if says_hello:
            self.link.send(("hello", {**facts, "version": __version__, "python": tuple(sys.version_info[:3])}))
        self.link.send(("ready", slots))

    def took(self) -> list[Message]:
        """Return the works that have arrived."""
        self.link.flush()
        return [message[1] for message in self.link.take() if message[0] == "work"]

    def succeed(self, work: Message) -> None:
        """Send the outcome of a work."""
        node, attempt = work[0][0], work[0][3]
        outcome = (node, attempt, "SUCCESS", None, None, None, None, 1.0, 2.0, None, None, None, None, None)
        self.link.send(("outcome", outcome, False))


class PlayedCluster:
    """A cluster whose agents a test plays."""

    def __init__(self, folder: Path) -> None:
        self._file = folder / "ticket"
        self._lines = folder / "ticket.lines"
        os.mkfifo(self._lines)
        self.argv = (sys.executable, "-S", "-E", "-c", _PLACER, str(self._file), str(self._lines))

    @property
    def is_placed(self) -> bool:
        """Whether the owner has started the placer."""
        return self._file.exists()

    def ticket(self) -> Ticket:
        return ticket_from(self._file.read_bytes())

    def say(self, message: Mapping[str, Any]) -> None:
        """Let the placer say a line."""
        lines = os.open(self._lines, os.O_RDWR)  # to write alone would wait for a placer that has ended
        os.write(lines, json.dumps(message).encode() + b"\n")
        os.close(lines)


class PlayedRun:
    """An executor, its cluster, and the agents that the test plays."""

    def __init__(self, folder: Path) -> None:
        self.cluster = PlayedCluster(folder)
        played = replace(cluster_of({"w": PLAYED_SLOTS}), argv=self.cluster.argv, slots=8, lease_s=1000.0)
        bodies: dict[str, Body] = {"t": Command(("true",)), "large": Call(len, {"obj": Ref("x")})}
        self.far = Far(folder, bodies, {}, cluster=played)
        self.far.executor.want("far", 1)
        self.far.until(lambda: self.cluster.is_placed)
        self._agents: list[PlayedAgent] = []
        self._threads = ThreadPoolExecutor(1)

    def connected(self, agent_id: str) -> PlayedAgent:
        """Return an agent that is ready."""
        room = self.far.executor.room()["far"]
        agent = self._connected(agent_id)
        self.far.until(lambda: self.far.executor.room()["far"] == room + PLAYED_SLOTS)
        return agent

    def nameless(self) -> PlayedAgent:
        """Return an agent that is ready and has not said who it is."""
        return self._connected("", says_hello=False)

    def _connected(self, agent_id: str, **options: Any) -> PlayedAgent:
        made = self._threads.submit(PlayedAgent, self.cluster.ticket(), agent_id, PLAYED_SLOTS, **options)
        self.far.until(made.done)
        self._agents.append(made.result())
        return self._agents[-1]

    def work_of(self, agent: PlayedAgent) -> Message:
        """Return the next work that reaches an agent."""
        works: list[Message] = []

        def has_come() -> bool:
            works.extend(agent.took())
            return bool(works)

        self.far.until(has_come)
        (work,) = works
        return work

    def send(self, agent: PlayedAgent, messages: Sequence[Message]) -> None:
        """Send messages of an agent, which the owner reads meanwhile."""
        for message in messages:
            agent.link.put(message)

        def is_sent() -> bool:
            agent.link.flush()
            return not agent.link.backlog

        self.far.until(is_sent)

    def close(self) -> None:
        self.far.executor.close()
        self._threads.shutdown()
        for agent in self._agents:
            agent.link.close()
