"""R35: no container of ours on another machine outlives its attempt, whoever is killed there or here.

Proved, with docker and with podman on a machine of ssh, and with docker on a worker of Dask: `kill -9` of the
orchestrator, of the worker of the attempt, of its guardian, of the agent, of the keeper, of agent and guardian at one
instant, and of all of them, at moments from the start of a run until its container has run for a while. Afterwards no
container carries our label, and no file of a secret is left in memory; in the last case from the next resume on. The
machine is this one, behind a stand-in for ssh or with a worker of Dask.
The same, with docker on a host of ssh and with both engines on a worker of Dask, when the link of the machine is cut
while its container runs: the machine is a network namespace, the lease ends the attempt, and no container is left once
its undo has ended. The run succeeds when the link is there again.
Not proved: a machine that never comes back; `lightflow doctor` names what its attempts have left.

    CI=true pytest tests/crash/test_r35_far_containers.py --crash-scale 20      # 20 moments each
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import container_kit
import pytest
from container_kit import Engine
from far_machines import LEASE_S, VICTIMS, FarMachine, host_of_ssh, stand_in, worker_of_dask
from netns_kit import network
from outside import Trial
from test_r21_containers import WITHOUT_UNDO, Containers

from liteflow.processes.undos import ALL_UNDOS_S

#: An agent whose undos do nothing, which shows that the test sees what is left.
CARELESS = """#!/bin/sh
exec PYTHON -c '
import runpy, sys
import lightflow.plugins.container_task as container_task

def undo_container(keys, environment):
    pass

container_task.undo_container = undo_container
sys.argv = ["agent"]
runpy.run_module("liteflow.remote.agent", run_name="__main__")
'
"""
AFTER_LEASE_S = 1.0
#: Who is killed in the quick form with other engines and clusters than the first.
FEW_VICTIMS = ("agent", "agent and guardian", "all")
#: The engines and the kinds of cluster. Podman has its state in /run, of which each test server of ssh has its own.
KILLED = (("docker", "ssh"), ("docker", "dask"), ("podman", "ssh"))
CUT = (("docker", "ssh"), ("docker", "dask"), ("podman", "dask"))


class FarContainers(Containers):
    """The containers of an engine on the machine of a cluster."""

    stays_s = 40.0  # an undo waits so long for a machine
    victims = VICTIMS
    resumed = ("all",)

    def __init__(self, engine: Engine, machine: FarMachine) -> None:
        super().__init__(engine)
        self._machine = machine
        self.flow += machine.settings
        self.env = {**self.env, **machine.env}

    def pids(self, victim: str, orchestrator: int, guardian: int) -> list[int]:
        return self._machine.pids(victim, orchestrator)


class CutContainers(FarContainers):
    """The containers on a machine whose link is cut: its guardian undoes their attempts at the end of the lease."""

    stays_s = LEASE_S + AFTER_LEASE_S + ALL_UNDOS_S


@contextmanager
def machine_of(kind: str, engine: Engine, folder: Path) -> Iterator[FarMachine]:
    """Have a machine of a cluster that is this one."""
    if kind == "ssh":
        yield stand_in(folder)
    else:
        with worker_of_dask(folder / "dask", engine.env) as machine:
            yield machine


@contextmanager
def outside_of_cut(
    kind: str, engine: Engine, folder: Path, python: str = sys.executable
) -> Iterator[tuple[CutContainers, Callable[[], None], Callable[[], None]]]:
    """Have containers on a machine behind a link, with functions that cut it and that connect it again."""
    with network(1) as machines:
        opened = (
            host_of_ssh(folder / "ssh", machines, engine.env, python)
            if kind == "ssh"
            else worker_of_dask(folder / "dask", engine.env, machines)
        )
        with opened as machine:
            yield CutContainers(engine, machine), lambda: machines.cut(0), lambda: machines.join(0)


@pytest.fixture(scope="module")
def engine(request: pytest.FixtureRequest) -> Iterator[Engine]:
    with getattr(container_kit, request.param)() as started:
        yield started


def careless(folder: Path) -> str:
    """Make the program of an agent without undos."""
    program = folder / "careless"
    program.write_text(CARELESS.replace("PYTHON", sys.executable))
    program.chmod(0o755)
    return str(program)


@pytest.mark.slow
@pytest.mark.timeout(100_000)
@pytest.mark.parametrize(("engine", "kind"), KILLED, indirect=["engine"])
def test_r35_no_container_is_left(
    engine: Engine,
    kind: str,
    tmp_path: Path,
    figure: Callable[..., str],
    scaled: Callable[[int], int],
    *,
    long_form: bool,
) -> None:
    with machine_of(kind, engine, tmp_path) as machine:
        outside = FarContainers(engine, machine)
        outside.victims = VICTIMS if long_form or (engine.command, kind) == KILLED[0] else FEW_VICTIMS
        figures = Trial(outside, tmp_path).all_moments(scaled(1))
    line = figure(f"R35-{engine.command}-{kind}", **figures)
    assert figures["left"] == 0, line


@pytest.mark.slow
@pytest.mark.timeout(100_000)
@pytest.mark.parametrize(("engine", "kind"), CUT, indirect=["engine"])
def test_r35_a_cut_link_leaves_no_container(
    engine: Engine, kind: str, tmp_path: Path, figure: Callable[..., str], scaled: Callable[[int], int]
) -> None:
    with outside_of_cut(kind, engine, tmp_path) as (outside, cut, join):
        trial = Trial(outside, tmp_path)
        reports = [trial.mend(cut, join) for _ in range(scaled(1))]
    left = sum(report.left for report in reports)
    worst_ms = round(max(report.took_s for report in reports) * 1000)
    figure(f"R35-cut-{engine.command}-{kind}", trials=len(reports), lease_s=LEASE_S, left=left, worst_ms=worst_ms)
    assert left == 0


@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ["docker"], indirect=True)
def test_r35_control(engine: Engine, tmp_path: Path, figure: Callable[..., str]) -> None:
    """Without the undo on the machine of the cluster, a container is left."""
    outside = FarContainers(engine, stand_in(tmp_path, careless(tmp_path)))
    trial = Trial(outside, tmp_path, program=[sys.executable, "-c", WITHOUT_UNDO])
    left = trial.run("agent", 1.0, stays_s=1.0).left
    figure("R35-control", left=left)
    assert left > 0


@pytest.mark.timeout(600)
@pytest.mark.parametrize("engine", ["docker"], indirect=True)
def test_r35_control_of_a_cut(engine: Engine, tmp_path: Path, figure: Callable[..., str]) -> None:
    """Without the undo, a container is left on the machine whose link is cut."""
    with outside_of_cut("ssh", engine, tmp_path, careless(tmp_path)) as (outside, cut, join):
        trial = Trial(outside, tmp_path, program=[sys.executable, "-c", WITHOUT_UNDO])
        left = trial.mend(cut, join).left
    figure("R35-cut-control", left=left)
    assert left > 0
