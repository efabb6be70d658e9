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
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from crashkit import await_none
from far_trials import LIMIT_S, Trial
from ssh_kit import SshServer, ssh_server

SHORT_LEASE_S = 6.0
#: Options of ssh as `lightflow.clusters.ssh` gives them.
SSH = ("-T", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-R", "{socket}:{address}:{port}")
#: The parts that are killed: the run goes on.
PARTS = ("agents", "guardians", "agents and guardians", "clients", "placer")


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with ssh_server(tmp_path_factory.mktemp("ssh")) as running:
        yield running


Start = Callable[..., Trial]


@pytest.fixture
def trial(server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    server.use(monkeypatch)
    agent = (sys.executable, "-m", "liteflow.remote.agent")
    hosts = [
        {"name": name, "slots": 8, "argv": ["ssh", *SSH, f"{getpass.getuser()}@{name}", *agent]}
        for name in ("w1", "w2")
    ]
    placer = (sys.executable, "-m", "liteflow.remote.hosts", json.dumps(hosts))
    started: list[Trial] = []

    def start(number: int, **options: float) -> Trial:
        folder = tmp_path / str(number)
        folder.mkdir()
        made = Trial(folder, placer, [server.pid], **options)
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
    trial: Start, part: str, figure: Callable[..., str], scaled: Callable[[int], int]
) -> None:
    worst = 0.0
    for number in range(scaled(1)):
        run = trial(number)
        worst = max(worst, run.kill(run.parts(part)))
        run.await_success()
    figure("R28", killed=part.replace(" ", "_"), rounds=scaled(1), left=0, worst_ms=round(worst * 1000))


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGTERM])
def test_r28_the_end_of_the_orchestrator_leaves_nothing(
    trial: Start, fault: signal.Signals, figure: Callable[..., str], scaled: Callable[[int], int]
) -> None:
    worst = 0.0
    for number in range(scaled(1)):
        run = trial(number)
        os.kill(run.orchestrator.pid, fault)
        took, left = await_none(lambda run=run: [*run.left(), *run.agent_processes()], LIMIT_S)  # type: ignore[misc]
        assert left == []
        worst = max(worst, took)
    figure("R28", orchestrator=fault.name, rounds=scaled(1), left=0, worst_ms=round(worst * 1000))


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_r28_the_lease_ends_the_tasks_of_a_stopped_orchestrator(
    trial: Start, figure: Callable[..., str], scaled: Callable[[int], int]
) -> None:
    worst = 0.0
    for number in range(scaled(1)):
        run = trial(number, lease_s=SHORT_LEASE_S)
        os.kill(run.orchestrator.pid, signal.SIGSTOP)
        took, left = await_none(run.left, SHORT_LEASE_S + LIMIT_S)
        os.kill(run.orchestrator.pid, signal.SIGCONT)
        assert left == []
        worst = max(worst, took)
        run.await_success()
    figure("R28", orchestrator="SIGSTOP", lease_s=SHORT_LEASE_S, rounds=scaled(1), left=0, worst_ms=round(worst * 1000))
