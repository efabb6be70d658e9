"""R35: no container of ours on another machine outlives its attempt, whoever is killed there or here.

Proved, with docker: `kill -9` of the orchestrator, of the worker of the attempt, of its guardian, of the agent, of the
keeper, of agent and guardian at one instant, and of all of them, at moments from the start of a run until its container
has run for a while. Afterwards no container carries our label, and no file of a secret is left in memory; in the last
case from the next resume on. The machine is this one, behind a stand-in for ssh.
Not proved: a machine that never comes back; `lightflow doctor` names what its attempts have left.

    CI=true pytest tests/crash/test_r35_far_containers.py --crash-scale 20      # 20 moments each
"""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import container_kit
import pytest
import ssh_stand_in
from container_kit import Engine
from crashkit import command_line, descendants, process_table
from outside import Trial
from test_r21_containers import WITHOUT_UNDO, Containers

CLUSTER = """
clusters: {lab: {ssh: ["node1:1"], python: PYTHON, lease: 4s}}
settings: {mode: lab}
"""
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
PARTS = ("worker", "guardian", "agent", "keeper")


class FarContainers(Containers):
    """The containers of an engine on the machine of a cluster."""

    stays_s = 40.0  # an undo waits so long for a machine
    victims = ("orchestrator", *PARTS, "agent and guardian", "all")
    resumed = ("all",)

    def __init__(self, engine: Engine, folder: Path, python: str = sys.executable) -> None:
        super().__init__(engine)
        self.flow += CLUSTER.replace("PYTHON", python)
        self.env = {**self.env, "PATH": ssh_stand_in.install(folder / "bin", os.path.dirname(sys.executable))}

    def pids(self, victim: str, orchestrator: int, guardian: int) -> list[int]:
        if victim == "orchestrator":
            return [orchestrator]
        table, parts = process_table(), dict[str, list[int]]()
        there = {pid: command_line(pid) for pid in table if self._is_there(pid)}  # no descendants of the orchestrator
        if victim == "all":
            return [orchestrator, *{**descendants(orchestrator), **there}]
        agents = [pid for pid, line in there.items() if "liteflow.remote.agent" in line and _is_python(line)]
        parts["keeper"] = [pid for pid in agents if table[pid].parent not in agents]
        for part, above in (("agent", "keeper"), ("guardian", "agent"), ("worker", "guardian")):
            parts[part] = [pid for pid in agents if table[pid].parent in parts[above]]
        parts["agent and guardian"] = [*parts["guardian"], *parts["agent"]]
        return parts[victim]

    def _is_there(self, pid: int) -> bool:
        """Return whether a process was started by the stand-in for ssh of this folder, or by what that has started."""
        try:
            return f"PATH={self.env['PATH']}".encode() in Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
        except OSError:  # it has ended
            return False


def _is_python(line: str) -> bool:
    """Return whether a command line is that of an agent: not that of the shell or the client which start it."""
    words = line.split()
    return bool(words) and "python" in os.path.basename(words[0]) and "stand_in" not in line


@pytest.fixture(scope="module")
def engine() -> Iterator[Engine]:
    with container_kit.docker() as started:
        yield started


@pytest.mark.slow
@pytest.mark.timeout(100_000)
def test_r35_no_container_is_left(
    engine: Engine, tmp_path: Path, figure: Callable[..., str], scaled: Callable[[int], int]
) -> None:
    figures = Trial(FarContainers(engine, tmp_path), tmp_path).all_moments(scaled(1))
    line = figure("R35", **figures)
    assert figures["left"] == 0, line


@pytest.mark.timeout(600)
def test_r35_control(engine: Engine, tmp_path: Path, figure: Callable[..., str]) -> None:
    """Without the undo on the machine of the cluster, a container is left."""
    program = tmp_path / "careless"
    program.write_text(CARELESS.replace("PYTHON", sys.executable))
    program.chmod(0o755)
    outside = FarContainers(engine, tmp_path, str(program))
    trial = Trial(outside, tmp_path, program=[sys.executable, "-c", WITHOUT_UNDO])
    left = trial.run("agent", 1.0, stays_s=1.0).left
    figure("R35-control", left=left)
    assert left > 0
