"""Runs of hostile tasks on the machines of a cluster, and the processes of the cluster (R28, R29)."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Collection, Iterator, Sequence
from pathlib import Path

import escapees
from crashkit import HERE, await_none, command_line, descendants, lines, marked, process_table

LEASE_S = 30.0  # a machine that is busy with other tests does not lose its agents
SHORT_LEASE_S = 6.0
LIMIT_S = 2.0  # how long anything may live on
AFTER_LEASE_S = 1.0  # the same when a lease ends it
GOES_ON_S = 1.0  # how long attempts are watched that a fault must not end
READY_S = 120.0


@contextlib.contextmanager
def stopped(pids: Sequence[int]) -> Iterator[None]:
    """Stop processes, and continue those that live at the end of the block."""
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        yield
    finally:
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)


class Trial:
    """One run of hostile tasks, and the processes of its cluster."""

    def __init__(
        self,
        folder: Path,
        placer: Sequence[str],
        roots: Sequence[int],
        lease_s: float = LEASE_S,
        address: str = "127.0.0.1",
    ) -> None:
        """Start a run whose cluster has this placer; its agents are below the processes `roots`."""
        folder.mkdir()
        self.lease_s = lease_s
        self._db = folder / "state.db"
        self.mark = f"lf{os.urandom(3).hex()}"  # of the tasks
        self.ready = folder / "ready"
        self.roots = roots
        words = [str(HERE / "far_run.py"), str(folder), self.mark, str(self.ready), json.dumps(placer), str(lease_s)]
        words.append(address)
        self.orchestrator = subprocess.Popen([sys.executable, *words], cwd=folder, start_new_session=True)

    def await_ready(self) -> None:
        """Wait until every process has taken its place."""
        give_up = time.monotonic() + READY_S
        wanted = {kind: 2 * count for kind, count in escapees.KINDS.items()}
        while True:
            leaves = Counter(kind for what, kind, _ in map(str.split, lines(str(self.ready))) if what == "leaf")
            if all(leaves[kind] >= count for kind, count in wanted.items()):
                return
            assert time.monotonic() < give_up, leaves
            assert self.orchestrator.poll() is None
            time.sleep(0.01)

    def parts(self, name: str) -> list[int]:
        """Return the processes of a part of the cluster."""
        if name in ("clients", "placer"):
            words = {pid: command_line(pid).split() for pid in descendants(self.orchestrator.pid)}
            table = process_table()
            placers = [pid for pid in words if table[pid].parent == self.orchestrator.pid and "-m" in words[pid]]
            return placers if name == "placer" else [pid for pid in words if os.path.basename(words[pid][0]) == "ssh"]
        table, python = process_table(), self.agent_processes()
        keepers = [pid for pid in python if table[pid].parent not in python]
        agents = [pid for pid in python if table[pid].parent in keepers]
        guardians = [pid for pid in python if table[pid].parent in agents]
        return {
            "keepers": keepers,
            "agents": agents,
            "guardians": guardians,
            "agents and guardians": [*guardians, *agents],
            "agents and a guardian": [guardians[0], *agents],
        }[name]

    def agent_processes(self) -> list[int]:
        """Return keepers, agents, guardians and workers."""
        below = {pid for root in self.roots for pid in descendants(root)}
        lines_of = {pid: command_line(pid).split() for pid in below}
        return [
            pid
            for pid, words in lines_of.items()
            if words[-2:] == ["-m", "liteflow.remote.agent"] and "python" in os.path.basename(words[0])
        ]

    def left(self, among: Collection[int] | None = None) -> list[str]:
        """Return the processes of first attempts that live, in words."""
        return [f"{pid} {command_line(pid)}" for pid in self.left_pids() if among is None or pid in among]

    def left_pids(self) -> list[int]:
        return [pid for pid in marked(f"{self.mark}a1") if pid != self.orchestrator.pid]

    def kill(self, victims: Sequence[int], below: int | None = None) -> float:
        """Kill processes, and return after how many seconds the last one of a task has ended.

        With `below`, only the tasks count that are below this process.
        """
        assert victims
        tasks = None if below is None else {*descendants(below)} & {*self.left_pids()}
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        took, left = await_none(lambda: self.left(tasks), LIMIT_S)
        assert left == []
        return took

    def stop(self, victims: Sequence[int]) -> float:
        """Stop processes. Return after how many seconds their lease has ended the last process of a task."""
        assert victims
        with stopped(victims):
            took, left = await_none(self.left, self.lease_s + AFTER_LEASE_S)
            assert left == []
        return took

    def attempts(self, status: str) -> dict[str, str]:
        """Return the machine of the last attempt of each task that has ended like this."""
        with contextlib.closing(sqlite3.connect(f"file:{self._db}?mode=ro", uri=True)) as connection:
            words = "SELECT task_id, host FROM liteflow_attempts WHERE status = ? ORDER BY attempt"
            return dict(connection.execute(words, (status,)).fetchall())

    def count(self) -> int:
        """Return how many processes of first attempts live."""
        return len(self.left_pids())

    def goes_on(self) -> None:
        """Watch attempts that go on in spite of a fault."""
        before = self.count()
        end = time.monotonic() + GOES_ON_S
        while time.monotonic() < end:
            assert self.count() == before
            time.sleep(0.05)

    def end_by(self, number: signal.Signals) -> float:
        """End the orchestrator by a signal, and return after how many seconds nothing lives, not even an agent."""
        self.orchestrator.send_signal(number)
        took, left = await_none(lambda: [*self.left(), *self.agent_processes()], LIMIT_S)
        assert left == []
        return took

    def await_success(self) -> None:
        """Wait for the end of a run whose lost tasks run again, and of its agents."""
        assert self.orchestrator.wait(READY_S) == 0, "the lost tasks have run again"
        _, left = await_none(self.agent_processes, LIMIT_S)
        assert left == []

    def end(self) -> None:
        if self.orchestrator.poll() is None:
            self.orchestrator.kill()
        self.orchestrator.wait()
        for pid in marked(self.mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
