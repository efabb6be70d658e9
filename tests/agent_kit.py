"""A real agent whose owner is played by the test."""

from __future__ import annotations

import json
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from far_kit import AGENT, LIMIT_S

from liteflow.executors.outcome_queue import OutcomeQueue
from liteflow.executors.worker import work_to_wire
from liteflow.record import replace
from liteflow.remote.cluster import Cluster
from liteflow.remote.lane import facts_of
from liteflow.remote.link import Link, Message
from liteflow.remote.listener import Listener
from liteflow.remote.ticket import ticket_line, ticket_to
from liteflow.work import RunInfo, Work


class OwnedAgent:
    """An agent, and the end of its link that its owner has. It has been opened, and may run an attempt."""

    def __init__(self) -> None:
        self._outcomes, self._links = OutcomeQueue(), list[Link]()
        self.messages: list[Message] = []  # those that the owner has read
        cluster = Cluster(argv=(), slots=1, lease_s=1000.0)
        self._listener = Listener(cluster, self._outcomes, self._links.append, print)
        ticket = replace(ticket_to(cluster, self._listener.port, self._listener.key), agent="a", host="w1", slots=1)
        self.process = subprocess.Popen(AGENT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        self.write(ticket_line(ticket))
        self.until(lambda: bool(self.messages))
        self.link.send(("open", facts_of(RunInfo(run_id="r", dag_id="d", db_path=""))))
        self.until(lambda: any(message[0] == "ready" for message in self.messages))

    @property
    def link(self) -> Link:
        (link,) = self._links
        return link

    def write(self, line: bytes) -> None:
        """Say a line of its placer."""
        assert self.process.stdin is not None
        self.process.stdin.write(line)
        self.process.stdin.flush()

    def start(self, script: str) -> None:
        """Start the attempt 1 of the node 1, a script of the shell."""
        command: tuple[Any, ...] = (("/bin/sh", "-c", script), None, {}, (), None, None, ())
        work = Work(node=1, task_id="t", attempt=1, log_path="t.log")
        self.link.send(("work", work_to_wire(work, "1-1"), command))

    def until(self, condition: Callable[[], bool], *, reads: bool = True) -> None:
        """Wait for a condition; the owner sends what waits, and reads what has arrived."""
        give_up = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < give_up, [message[0] for message in self.messages]
            self._outcomes.wait(0.01)
            for link in self._links:
                link.flush()
                if reads:
                    self.messages += link.take()

    def awaited(self, path: Path) -> int:
        """Return the process id in a file, once it is there."""
        self.until(lambda: path.exists() and path.read_text().endswith("\n"))
        return int(path.read_text())

    def ended(self) -> tuple[int, str]:
        """Wait for its end. Return its exit code, and what it says to its placer about a failure."""
        out, _ = self.process.communicate(timeout=LIMIT_S)
        lines = [json.loads(line) for line in out.splitlines()]
        return self.process.returncode, "".join(line["failed"] for line in lines)

    def close(self) -> None:
        for link in self._links:
            link.close()
        if self.process.poll() is None:
            self.process.communicate(timeout=LIMIT_S)
        self._listener.close()
        self._outcomes.close()
