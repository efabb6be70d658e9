"""Harness of R32: a workflow on two clusters runs again and again while everything is killed and stopped.

    python tests/crash/far_chaos.py FOLDER --seconds 60 --seed 7 [--control no_sweep]

A third of the tasks run on workers of Dask, a third on hosts of ssh, a third here. The harness kills agents, their
keepers and guardians, workers, clients of ssh, placers, nannies, the scheduler, and the orchestrator, which is resumed;
some of them it stops for a while. The oracle is outside the engine: locks, which the kernel keeps, the begins and ends
that the tasks write, the process table, and the state file read by plain SQL. The last line of output is a report.
"""

from __future__ import annotations

import argparse
import contextlib
import getpass
import json
import math
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path

import pytest
from crashkit import (
    HERE,
    Faults,
    as_harness,
    await_none,
    command_line,
    descendants,
    lines,
    process_table,
    report,
)
from far_chaos_run import INTERRUPTED, LEASE_S, names

sys.path.append(str(HERE.parent))
from dask_kit import DaskCluster, dask_cluster
from scheduler_kit import processes_of
from ssh_kit import SshServer, ssh_server

LIMIT_S = 2.0  # how long anything may live on after its run
RUN_S = 120.0  # how long a run, or a resume of it, may take in which nothing is killed
SSH = ("-T", "-o", "BatchMode=yes", "-o", "ExitOnForwardFailure=yes", "-R", "{socket}:{address}:{port}")
#: What is killed, and how often.
KILLS = {
    "agent": 6,
    "keeper": 3,
    "guardian": 5,
    "agent and guardian": 4,
    "python worker": 4,
    "ssh client": 3,
    "placer": 2,
    "dask worker": 2,
    "nanny": 1,
    "orchestrator": 2,
}
#: In the control, in which keepers leave what they find.
KILLED_IN_CONTROL = "agent and guardian"
SLOWNESS_OF_CONTROL = 10  # what is left lives until the next attempt has begun
#: What is stopped: for less than the lease, or for longer.
STOPS = {"agent": 2, "guardian": 1, "ssh client": 1, "placer": 1, "dask worker": 1, "orchestrator": 1}
SCHEDULER_EVERY_S = 90.0
PAUSE_S = 0.6  # on average, between two blows
BLOWS_OF_CONTROL = 8  # in a run: then it has to end, so that what is left is seen
AWAIT_S = 5.0  # how long a blow waits for something of its kind


class Cluster:
    """The processes of both clusters and of the run that uses them."""

    def __init__(self, dask: DaskCluster, server: SshServer, *, is_control: bool) -> None:
        self.dask = dask
        self.is_control = is_control
        self._server = server
        self.owner = 0  # the process that executes the run; 0: none

    @property
    def words(self) -> str:
        """The clusters as the program of the run takes them."""
        agent = [sys.executable, *([str(HERE / "careless_agent.py")] if self.is_control else [])]
        agent += ["-m", "liteflow.remote.agent"]
        words = ["ssh", *SSH, f"{getpass.getuser()}@server", *agent]
        slowness = SLOWNESS_OF_CONTROL if self.is_control else 1
        return json.dumps({"address": self.dask.address, "ssh": words, "slowness": slowness})

    def agents(self) -> list[int]:
        """Return keepers, agents, guardians and workers."""
        below = {pid for root in (*self.dask.nannies, *self._server.pids) for pid in descendants(root)}
        lines_of = {pid: command_line(pid).split() for pid in below}
        return [
            pid
            for pid, words in lines_of.items()
            if words[-2:] == ["-m", "liteflow.remote.agent"] and "python" in os.path.basename(words[0])
        ]

    def victims(self, part: str, dice: random.Random) -> list[int]:
        """Return the processes of one random part of this kind; nothing when there is none."""
        if part == "agent and guardian":
            agents = self._parts("agent")
            agent = dice.choice(agents) if agents else 0
            table = process_table()
            guardians = [pid for pid in self._parts("guardian") if pid in table and table[pid].parent == agent]
            return [*guardians, agent] if agent else []
        parts = self._parts(part)
        return [dice.choice(parts)] if parts else []

    def _parts(self, part: str) -> list[int]:
        if part in ("dask worker", "nanny", "scheduler", "orchestrator"):
            listed = {
                "dask worker": self.dask.workers(),
                "nanny": list(self.dask.nannies),
                "scheduler": [self.dask.scheduler],
                "orchestrator": [self.owner] if self.owner else [],
            }
            return listed[part]
        if part in ("ssh client", "placer"):
            words = {pid: command_line(pid).split() for pid in descendants(self.owner)} if self.owner else {}
            if part == "ssh client":
                return [pid for pid, line in words.items() if line and os.path.basename(line[0]) == "ssh"]
            return [
                pid for pid, line in words.items() if {"liteflow.remote.hosts", "lightflow.clusters.dask"} & {*line}
            ]
        ours = self.agents()
        table = process_table()
        ours = [pid for pid in ours if pid in table]
        levels: list[list[int]] = [[pid for pid in ours if table[pid].parent not in ours]]
        for _ in range(3):
            levels.append([pid for pid in ours if table[pid].parent in levels[-1]])
        return dict(zip(("keeper", "agent", "guardian", "python worker"), levels, strict=True))[part]


class Chaos(Faults):
    """Runs the workflow, strikes, and looks."""

    def __init__(self, folder: Path, cluster: Cluster, seed: int) -> None:
        super().__init__()
        self._folder = folder
        self._cluster = cluster
        self._dice = random.Random(seed)
        self._scheduler_due = time.monotonic() + SCHEDULER_EVERY_S / 2
        self._due = 0.0  # when the next blow is dealt
        self._blows_of_run = 0
        self._next = self._choice()
        self._stopped: list[tuple[float, int]] = []  # when to continue what is stopped
        self.blows: Counter[str] = Counter()
        self.totals: Counter[str] = Counter()

    def run_for(self, seconds: float) -> None:
        """Run the workflow again and again for so long; in the control only until a fault is seen."""
        end = time.monotonic() + seconds
        while time.monotonic() < end and not (self._cluster.is_control and self.counts):
            folder = self._folder / f"run-{self.totals['runs']}"
            folder.mkdir()
            self._run(folder, end)
            self._check(folder)
            self.totals["runs"] += 1

    # -- one run -------------------------------------------------------------------------------------------

    def _run(self, folder: Path, end: float) -> None:
        """Execute a run until it has succeeded: it is resumed as often as it takes."""
        self._blows_of_run = 0
        give_up = None
        while True:
            words = [str(HERE / "far_chaos_run.py"), str(folder), self._cluster.words, str(self.totals["runs"])]
            with (folder / "out").open("ab") as out:
                owner = subprocess.Popen([sys.executable, *words], stdout=out, stderr=out, start_new_session=True)
            self._cluster.owner = owner.pid
            while owner.poll() is None:
                if time.monotonic() < end:
                    self._strike()
                elif give_up is None:
                    give_up = time.monotonic() + RUN_S
                self._continue(time.monotonic())
                self._cluster.dask.revive()
                if give_up is not None and time.monotonic() > give_up:
                    self.fault("stuck", f"{folder}: {(folder / 'out').read_text()[-2000:]}")
                    owner.kill()
                    owner.wait()
                    return
                time.sleep(0.05)
            self._cluster.owner = 0
            if owner.returncode == 0:
                return
            self.totals["interrupted"] += owner.returncode == INTERRUPTED
            self.totals["resumes"] += 1
            if owner.returncode not in (INTERRUPTED, -signal.SIGKILL):
                self.fault("crash", f"{owner.returncode}: {(folder / 'out').read_text()[-2000:]}")
                return
            if give_up is not None and time.monotonic() > give_up:
                self.fault("stuck", f"{folder}: {(folder / 'out').read_text()[-2000:]}")
                return

    def _strike(self) -> None:
        """Deal the next blow when it is due, and there is what it is for."""
        if time.monotonic() < self._due or (self._cluster.is_control and self._blows_of_run == BLOWS_OF_CONTROL):
            return
        part, kills = self._next
        victims = self._cluster.victims(part, self._dice)
        if not victims and time.monotonic() < self._due + AWAIT_S:
            return
        self._next = self._choice()
        self._due = time.monotonic() + self._dice.expovariate(1 / PAUSE_S)
        for pid in victims:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL if kills else signal.SIGSTOP)
            if not kills:
                stopped_s = self._dice.choice((0.2, 1.0, LEASE_S + 3.0))
                self._stopped.append((time.monotonic() + stopped_s, pid))
        if victims:
            self._blows_of_run += 1
            self.blows[f"{'killed' if kills else 'stopped'} {part}"] += 1

    def _choice(self) -> tuple[str, bool]:
        """Return the kind of the next victim, and whether it is killed."""
        if self._cluster.is_control:
            return KILLED_IN_CONTROL, True
        if time.monotonic() > self._scheduler_due:
            self._scheduler_due = time.monotonic() + SCHEDULER_EVERY_S
            return "scheduler", True
        kills = self._dice.random() < 0.85
        table = KILLS if kills else STOPS
        (part,) = self._dice.choices([*table], [*table.values()])
        return part, kills

    def _continue(self, now: float) -> None:
        """Continue what was to be stopped until now."""
        due = [pid for at, pid in self._stopped if at <= now]
        self._stopped = [entry for entry in self._stopped if entry[1] not in due]
        for pid in due:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGCONT)

    # -- the oracle ----------------------------------------------------------------------------------------

    def _check(self, folder: Path) -> None:
        self._continue(math.inf)
        _, left = await_none(lambda: processes_of(folder), LIMIT_S)
        for pid in left:
            self.fault("left", f"{pid} {command_line(pid)}")
        effects = [line.split() for line in lines(str(folder / "effects"))]
        starts = Counter((name, int(attempt)) for what, name, attempt in effects if what == "begin")
        ended = Counter((name, int(attempt)) for what, name, attempt in effects if what == "end")
        for what, name, attempt in effects:
            if what == "overlap":
                self.fault("overlap", f"{folder.name}: {name} {attempt}")
        attempts = _attempts(folder)
        self.totals["lost"] += sum(status == "LOST" for status in attempts.values())
        self.totals["tasks"] += sum(map(len, names()))
        for name in (name for row in names() for name in row):
            won = [attempt for (task, attempt), status in attempts.items() if task == name and status == "SUCCESS"]
            if len(won) != 1:
                self.fault("successes", f"{folder.name}: {name} has succeeded in {won}")
                continue
            last = max(attempt for task, attempt in starts if task == name)
            if last != won[0] or any(task == name and attempt > won[0] for task, attempt in attempts):
                self.fault(
                    "rerun", f"{folder.name}: {name} succeeded in attempt {won[0]}, and attempt {last} has started"
                )
            if ended[name, won[0]] != 1:
                self.fault("false", f"{folder.name}: {name} {won[0]} has ended {ended[name, won[0]]} times")
        for (name, attempt), count in starts.items():
            if count != 1 or (name, attempt) not in attempts:
                self.fault("ghost", f"{folder.name}: {name} {attempt} has started {count} times")


def _attempts(folder: Path) -> dict[tuple[str, int], str]:
    with contextlib.closing(sqlite3.connect(f"file:{folder}/state.db?mode=ro", uri=True)) as connection:
        rows = connection.execute("SELECT task_id, attempt, status FROM liteflow_attempts WHERE run_id='r'").fetchall()
    return {(task, attempt): status for task, attempt, status in rows}


#: What must not happen.
KINDS = ("rerun", "successes", "overlap", "left", "false", "ghost", "stuck", "crash")


@contextlib.contextmanager
def clusters(folder: Path, *, is_control: bool) -> Iterator[Cluster]:
    with ExitStack() as opened:
        patch = opened.enter_context(pytest.MonkeyPatch.context())
        server = opened.enter_context(ssh_server(folder / "ssh"))
        server.use(patch)
        dask = opened.enter_context(dask_cluster(folder / "dask", threads=3))
        yield Cluster(dask, server, is_control=is_control)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--seconds", type=float, default=60.0)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--control", choices=["no_sweep"])
    options = parser.parse_args()
    for name in ("ssh", "dask"):
        (options.folder / name).mkdir()
    began = time.monotonic()
    with (
        as_harness(int(options.seconds + 4 * RUN_S)),
        clusters(options.folder, is_control=bool(options.control)) as cluster,
    ):
        chaos = Chaos(options.folder, cluster, options.seed)
        chaos.run_for(options.seconds)
    report(
        totals=dict(chaos.totals),
        blows=dict(chaos.blows),
        faults={kind: chaos.counts[kind] for kind in KINDS},
        notes=chaos.notes,
        took_s=round(time.monotonic() - began),
    )


if __name__ == "__main__":
    main()
