"""R28: a task on another machine does not outlive its run, its agent, its place or its lease.

Proved: the eight hostile kinds of R3 as commands and as Python tasks, 28 processes and more, on two hosts that are
reached by a real server of ssh. Killed are the orchestrator, the agents, their keepers, their guardians, agents and
guardians, the clients of ssh and the placer: two seconds later nothing of the tasks lives. Stopped are the
orchestrator, the agents (with and without their guardian) and the clients of ssh: nothing lives a second after the
lease has ended. A guardian, a keeper or a placer that is stopped changes nothing. A run whose orchestrator lives starts
the lost tasks again and succeeds. The control takes the sweep of the keepers away.
Not proved: a machine that is cut off from its network; see R31.

    pytest tests/crash/test_r28_far.py --crash-scale 5
"""

from __future__ import annotations

import getpass
import json
import signal
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from pathlib import Path

import pytest
from crashkit import HERE, await_none
from far_trials import LIMIT_S, SHORT_LEASE_S, Trial, stopped
from ssh_kit import SshServer, ssh_server

#: Options of ssh as `lightflow.clusters.ssh` gives them.
SSH = ("-T", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-R", "{socket}:{address}:{port}")
AGENT = (sys.executable, "-m", "liteflow.remote.agent")
#: The parts that are killed, and those that are stopped until their lease has ended everything: the run goes on.
KILLED = ("agents", "keepers", "guardians", "agents and guardians", "clients", "placer")
STOPPED = ("agents and a guardian", "clients")
CARELESS_AGENT = (sys.executable, str(HERE / "careless_agent.py"), *AGENT[1:])


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SshServer]:
    with ssh_server(tmp_path_factory.mktemp("ssh")) as running:
        yield running


Start = Callable[..., Trial]


@pytest.fixture
def start(server: SshServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Start]:
    server.use(monkeypatch)
    with ExitStack() as started:

        def start(number: int = 0, agent: Sequence[str] = AGENT, **options: float) -> Trial:
            hosts = [
                {"name": name, "slots": 8, "argv": ["ssh", *SSH, f"{getpass.getuser()}@{name}", *agent]}
                for name in ("w1", "w2")
            ]
            placer = (sys.executable, "-m", "liteflow.remote.hosts", json.dumps(hosts))
            made = Trial(tmp_path / str(number), placer, server.pids, **options)
            started.callback(made.end)
            made.await_ready()
            return made

        yield start


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("part", KILLED)
def test_r28_a_killed_part_leaves_nothing_and_its_tasks_run_again(
    start: Start, part: str, figure: Callable[..., str], scaled: Callable[[int], int]
) -> None:
    worst = 0.0
    for number in range(scaled(1)):
        run = start(number)
        worst = max(worst, run.kill(run.parts(part)))
        run.await_success()
    figure("R28", trials=scaled(1), left=0, **{f"killed_{part.replace(' ', '_')}_ms": round(worst * 1000)})


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("fault", [signal.SIGKILL, signal.SIGTERM])
def test_r28_the_end_of_the_orchestrator_leaves_nothing(
    start: Start, fault: signal.Signals, figure: Callable[..., str], scaled: Callable[[int], int]
) -> None:
    worst = max(start(number).end_by(fault) for number in range(scaled(1)))
    figure("R28", trials=scaled(1), left=0, **{f"{fault.name}_to_orchestrator_ms": round(worst * 1000)})


@pytest.mark.slow
@pytest.mark.timeout(3000)
@pytest.mark.parametrize("part", ["orchestrator", *STOPPED])
def test_r28_the_lease_ends_the_tasks_of_a_stopped_part_and_they_run_again(
    start: Start, part: str, figure: Callable[..., str], scaled: Callable[[int], int]
) -> None:
    worst = 0.0
    for number in range(scaled(1)):
        run = start(number, lease_s=SHORT_LEASE_S)
        victims = [run.orchestrator.pid] if part == "orchestrator" else run.parts(part)
        worst = max(worst, run.stop(victims))
        run.await_success()
    took = {f"stopped_{part.replace(' ', '_')}_ms": round(worst * 1000)}
    figure("R28", trials=scaled(1), left=0, lease_s=SHORT_LEASE_S, **took)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_r28_a_stopped_guardian_keeper_or_placer_ends_nothing(start: Start, figure: Callable[..., str]) -> None:
    run = start()
    for part in ("guardians", "keepers", "placer"):
        with stopped(run.parts(part)):
            run.goes_on()
    run.end_by(signal.SIGTERM)
    figure("R28", trials=1, left=0, ended_without_need=0)


@pytest.mark.slow
@pytest.mark.timeout(3000)
def test_r28_without_the_sweep_of_the_keepers_processes_are_left(start: Start, figure: Callable[..., str]) -> None:
    run = start(agent=CARELESS_AGENT)
    with pytest.raises(AssertionError):
        run.kill(run.parts("agents and guardians"))
    _, left = await_none(run.left, LIMIT_S)
    figure("R28-control-no_sweep", left=len(left))
    assert left
