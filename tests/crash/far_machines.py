"""The machine of a cluster on which workflows have something outside the process tree (R35, R24)."""

from __future__ import annotations

import os
import sys
from collections.abc import Callable, Collection, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

import pytest
import ssh_stand_in
from crashkit import command_line, descendants, process_table
from dask_kit import DaskCluster, dask_cluster
from netns_kit import Network
from ssh_kit import ssh_server

LEASE_S = 4.0
PARTS = ("worker", "guardian", "agent", "keeper")
#: Who is killed. In the last case the run is resumed, because nobody else is left who cleans up.
VICTIMS = ("orchestrator", *PARTS, "agent and guardian", "all")


class FarMachine(NamedTuple):
    """A machine of a cluster, for the driver of `outside`."""

    cluster: str  # what a workflow declares, in YAML
    env: Mapping[str, str]  # of the orchestrator
    processes: Callable[[], Collection[int]]  # returns those of the machine, of which some are the agent's

    @property
    def settings(self) -> str:
        """The keys of a workflow that runs there."""
        return f"\nclusters: {{lab: {{{self.cluster}, lease: {LEASE_S:g}s}}}}\nsettings: {{mode: lab}}\n"

    def pids(self, victim: str, orchestrator: int) -> list[int]:
        """Return the processes of a victim."""
        if victim == "orchestrator":
            return [orchestrator]
        table, parts = process_table(), dict[str, list[int]]()
        there = {pid: command_line(pid) for pid in self.processes()}
        if victim == "all":
            return [orchestrator, *{**descendants(orchestrator), **there}]
        agents = [pid for pid, line in there.items() if pid in table and _is_of_agent(line)]
        parts["keeper"] = [pid for pid in agents if table[pid].parent not in agents]
        for part, above in (("agent", "keeper"), ("guardian", "agent"), ("worker", "guardian")):
            parts[part] = [pid for pid in agents if table[pid].parent in parts[above]]
        parts["agent and guardian"] = [*parts["guardian"], *parts["agent"]]
        return parts[victim]


def _is_of_agent(line: str) -> bool:
    """Return whether a command line is that of an agent: not that of the shell or the client which start it."""
    words = line.split()
    is_python = bool(words) and "python" in os.path.basename(words[0]) and "stand_in" not in line
    return is_python and "liteflow.remote.agent" in line


def stand_in(folder: Path, python: str = sys.executable) -> FarMachine:
    """Return this machine as another one, behind a stand-in for ssh."""
    path = ssh_stand_in.install(folder / "bin", os.path.dirname(sys.executable))

    def processes() -> list[int]:  # no descendants of the orchestrator
        return [pid for pid in process_table() if f"PATH={path}".encode() in _environment(pid)]

    return FarMachine(f'ssh: ["node1:1"], python: {python}', {"PATH": path}, processes)


@contextmanager
def host_of_ssh(
    folder: Path, network: Network, env: Mapping[str, str], python: str = sys.executable
) -> Iterator[FarMachine]:
    """Have the first machine of a network as a host of a real server of ssh, on which agents have some variables."""
    folder.mkdir()
    program = folder / "python"
    words = " ".join(f"{name}='{value}'" for name, value in env.items())
    program.write_text(f'#!/bin/sh\nexec env {words} {python} "$@"\n')
    program.chmod(0o755)
    with ssh_server(folder, network) as server, pytest.MonkeyPatch.context() as patch:
        server.use(patch)
        (root,) = server.pids
        cluster = f'ssh: ["w1:1"], python: {program}'
        yield FarMachine(cluster, {"PATH": os.environ["PATH"]}, lambda: descendants(root))


@contextmanager
def worker_of_dask(folder: Path, env: Mapping[str, str], network: Network | None = None) -> Iterator[FarMachine]:
    """Have a worker of Dask, whose agents have some variables; with a network it is the first machine of it."""
    folder.mkdir()
    with pytest.MonkeyPatch.context() as patch:
        for name, value in env.items():
            patch.setenv(name, value)
        with dask_cluster(folder, workers=1, network=network) as cluster:
            declared = f'dask: "{cluster.address}", plain_secrets: true'
            yield FarMachine(declared, {}, lambda: _below_workers(cluster))


def _below_workers(cluster: DaskCluster) -> list[int]:
    workers = cluster.workers()
    return [*workers, *(pid for worker in workers for pid in descendants(worker))]


def _environment(pid: int) -> list[bytes]:
    try:
        return Path(f"/proc/{pid}/environ").read_bytes().split(b"\0")
    except OSError:  # it has ended
        return []
