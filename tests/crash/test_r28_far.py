"""R28: a task on another machine does not outlive its run, its agent, its place or its lease.

Proved: the eight hostile kinds of R3 as commands and as Python tasks, 28 processes and more, on two hosts that are
reached by a real server of ssh, while the orchestrator is killed, stopped or asked to end, or while the agents, their
guardians, both, the clients of ssh or the placer are killed: two seconds later (stopped: by the end of the lease)
nothing of them lives, and a run whose orchestrator lives starts the lost tasks again and succeeds.
Not proved: a machine that is cut off from its network. The lease ends its tasks, as for a stopped orchestrator.

    pytest tests/crash/test_r28_far.py --crash-scale 5
"""

from __future__ import annotations

import getpass
import json
import os
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path

import escapees
import pytest
from crashkit import HERE, await_none, command_line, lines, marked, process_table
from ssh_kit import SshServer, ssh_server

LEASE_S = 3.0
LIMIT_S = 2.0  # how long anything may live on
READY_S = 60.0
#: Options of ssh as `lightflow.clusters.ssh` gives them.
SSH = ("-T", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-R", "{socket}:{address}:{port}")
#: The parts that are killed: the run goes on.
PARTS = ("agents", "guardians", "agents and guardians", "clients", "placer")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with ssh_server(tmp_path_factory.mktemp("ssh")) as running:
        yield running


class Trial:
    """One run of hostile tasks, and the processes of its cluster."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.mark = f"lf{os.urandom(3).hex()}"  # of the tasks
        self.cluster_mark = f"cluster-{os.urandom(4).hex()}"  # of agents, their clients and their placer
        self.ready = folder / "ready"
        agent = (sys.executable, "-m", "liteflow.remote.agent", self.cluster_mark)
        user = getpass.getuser()
        hosts = {name: ["ssh", *SSH, f"{user}@{name}", *agent] for name in ("w1", "w2")}
        words = [str(HERE / "far_run.py"), str(folder), self.mark, str(self.ready), json.dumps(hosts), str(LEASE_S)]
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
        mine = {pid: command_line(pid).split() for pid in process_table() if self.cluster_mark in command_line(pid)}
        table = process_table()
        agents_and_keepers = [pid for pid, words in mine.items() if "-m" in words and words[-1] == self.cluster_mark]
        python = [pid for pid in agents_and_keepers if "python" in os.path.basename(mine[pid][0])]
        keepers = [pid for pid in python if table[pid].parent not in python]
        agents = [pid for pid in python if table[pid].parent in keepers]
        guardians = [pid for pid in python if table[pid].parent in agents]
        return {
            "agents": agents,
            "guardians": guardians,
            "agents and guardians": [*guardians, *agents],
            "clients": [pid for pid, words in mine.items() if os.path.basename(words[0]) == "ssh"],
            "placer": [pid for pid, words in mine.items() if "liteflow.remote.hosts" in words],
        }[name]

    def left(self) -> list[str]:
        """Return the processes of first attempts that live."""
        return [f"{pid} {row.name}" for pid, row in marked(f"{self.mark}a1").items() if pid != self.orchestrator.pid]

    def cluster_left(self) -> list[str]:
        return [command_line(pid)[:80] for pid in process_table() if self.cluster_mark in command_line(pid)]

    def end(self) -> None:
        if self.orchestrator.poll() is None:
            self.orchestrator.kill()
        self.orchestrator.wait()
        for pid in marked(self.mark):
            os.kill(pid, signal.SIGKILL)


@pytest.fixture
def trial(server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[int], Trial]]:
    server.use(monkeypatch)
    started: list[Trial] = []

    def start(number: int) -> Trial:
        folder = tmp_path / str(number)
        folder.mkdir()
        made = Trial(folder)
        started.append(made)
        made.await_ready()
        return made

    yield start
    for made in started:
        made.end()


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("part", PARTS)
def test_r28_a_killed_part_leaves_nothing_and_its_tasks_run_again(
    trial: Callable[[int], Trial], part: str, figure: Callable[..., str], scaled: Callable[[int], int]
) -> None:
    worst = 0.0
    for number in range(scaled(1)):
        run = trial(number)
        victims = run.parts(part)
        assert victims, part
        for pid in victims:
            os.kill(pid, signal.SIGKILL)
        took, left = await_none(run.left, LIMIT_S)
        assert left == [], part
        worst = max(worst, took)
        assert run.orchestrator.wait(READY_S) == 0, "the lost tasks have run again"
        _, left = await_none(run.cluster_left, LIMIT_S)
        assert left == []
    figure("R28", killed=part.replace(" ", "_"), rounds=scaled(1), left=0, worst_ms=round(worst * 1000))


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGTERM])
def test_r28_the_end_of_the_orchestrator_leaves_nothing(
    trial: Callable[[int], Trial], fault: signal.Signals, figure: Callable[..., str], scaled: Callable[[int], int]
) -> None:
    worst = 0.0
    for number in range(scaled(1)):
        run = trial(number)
        os.kill(run.orchestrator.pid, fault)
        took, left = await_none(lambda run=run: [*run.left(), *run.cluster_left()], LIMIT_S)  # type: ignore[misc]
        assert left == []
        worst = max(worst, took)
    figure("R28", orchestrator=fault.name, rounds=scaled(1), left=0, worst_ms=round(worst * 1000))


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_r28_the_lease_ends_the_tasks_of_a_stopped_orchestrator(
    trial: Callable[[int], Trial], figure: Callable[..., str], scaled: Callable[[int], int]
) -> None:
    worst = 0.0
    for number in range(scaled(1)):
        run = trial(number)
        os.kill(run.orchestrator.pid, signal.SIGSTOP)
        took, left = await_none(run.left, LEASE_S + LIMIT_S)
        os.kill(run.orchestrator.pid, signal.SIGCONT)
        assert left == []
        worst = max(worst, took)
        assert run.orchestrator.wait(READY_S) == 0, "the lost tasks have run again"
    figure("R28", orchestrator="SIGSTOP", lease_s=LEASE_S, rounds=scaled(1), left=0, worst_ms=round(worst * 1000))
