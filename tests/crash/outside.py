"""The driver of the suites that kill runs whose tasks have something outside the process tree.

A suite gives an `Outside`: its workflow, whose tasks last until they are ended in their first attempt and end at once
in a later one, and a count of what is there for it outside. The driver kills the orchestrator, the clients, the
guardian, or orchestrator and guardian at the same instant: half of the moments are between the start of a run and the
time at which all is there, half after it. In the last case a resume follows, because nobody else is left to clean up;
a suite can have it follow after every kill. First attempts last in a run, and end at once in a resume: `LASTS` in the
workflow is 1 in a run, and 0 in a resume.
"""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import closing, suppress
from pathlib import Path
from typing import NamedTuple

from crashkit import ROOT

VICTIMS = ("orchestrator", "client", "guardian", "both")
MOMENTS = 2  # for each victim, in the quick form
LIMIT_S = 120.0
#: Whether first attempts last, for each command.
_LASTS = {"run": "1", "resume": "0"}
#: How long a run goes on by itself after a kill; then it is interrupted: it may have begun first attempts, which last.
_SETTLE_S = 3.0
_PROGRAM = (sys.executable, "-m", "lightflow")


class Outside:
    """What a workflow has outside the process tree, for the driver."""

    #: The text of the workflow.
    flow = ""
    #: How many things are there when all tasks work.
    complete = 1
    #: How long they may stay after the last process has ended; the figures have the longest time measured.
    stays_s = 10.0
    env: Mapping[str, str] = {}
    victims: Sequence[str] = VICTIMS
    #: The victims after whose kill the run is resumed. After the other kills somebody is left who cleans up.
    resumed: Sequence[str] = ("both",)

    def count(self) -> int:
        """Return how many things are there now."""
        raise NotImplementedError

    def clean(self) -> None:
        """Remove whatever is there."""
        raise NotImplementedError

    def after_kill(self, workers: Sequence[int]) -> None:
        """Let what begins from now on end at once, where the workflow does not say so.

        Args:
            workers: the workers at the moment of the kill, which end now.
        """

    def pids(self, victim: str, orchestrator: int, guardian: int) -> list[int]:
        """Return the processes that are killed as a victim."""
        if victim == "client":
            return self.clients(orchestrator, guardian)
        return {"orchestrator": [orchestrator], "guardian": [guardian], "both": [guardian, orchestrator]}[victim]

    def clients(self, orchestrator: int, guardian: int) -> list[int]:
        """Return the processes that a kill of the clients ends: here, the workers."""
        return children(guardian) if guardian else []

    def surplus(self, db: Path) -> int:
        """Return how many other traces there are that a run must not leave."""
        return 0


class TrialReport(NamedTuple):
    """The counts of a trial."""

    before: int  # at the moment of the kill
    left: int  # at the end, with the surplus
    took_s: float  # until nothing was there


class Trial:
    """Runs a workflow again and again, each time in a folder of its own, and kills."""

    def __init__(self, outside: Outside, folder: Path, program: Sequence[str] = _PROGRAM) -> None:
        self._outside = outside
        self._folder = folder
        self._program = program
        self._count = 0
        self._place = folder
        self._ready_s = 0.0

    def all_moments(self, moments: int) -> dict[str, object]:
        """Kill each victim at some moments; return the figures."""
        process = self._start()
        began = time.monotonic()
        self._await_all(process)
        self._ready_s = time.monotonic() - began
        process.terminate()
        process.wait(LIMIT_S)
        assert seconds_until(lambda: self._outside.count() == 0) is not None
        self._outside.clean()
        reports = [
            self.run(victim, (number + 0.5) / moments) for victim in self._outside.victims for number in range(moments)
        ]
        return {
            "trials": len(reports),
            "running": sum(report.before for report in reports),
            "left": sum(report.left for report in reports),
            "worst_ms": round(max(report.took_s for report in reports) * 1000),
        }

    def run(self, victim: str, moment: float, *, resumes: bool = True, stays_s: float | None = None) -> TrialReport:
        """Kill at a moment: 0 is the start of the run, 0.5 and more is after all is there."""
        process = self._start()
        if moment < 0.5:
            time.sleep(self._ready_s * moment * 2)
        else:
            self._await_all(process)
            time.sleep(self._ready_s * (moment - 0.5))
        before = self._outside.count()
        guardian = next(iter(children(process.pid)), 0)
        workers = children(guardian) if guardian else []
        self._kill(self._outside.pids(victim, process.pid, guardian))
        self._outside.after_kill(workers)
        _let_end(process)
        await_end(guardian)
        db = self._place / "lightflow.db"
        if victim in self._outside.resumed and resumes and db.exists():
            self._command("resume").wait(LIMIT_S)
        limit_s = self._outside.stays_s if stays_s is None else stays_s
        took_s = seconds_until(lambda: self._outside.count() == 0, limit_s)
        left = self._outside.count() if took_s is None else 0
        left += self._outside.surplus(db)
        self._outside.clean()
        return TrialReport(before, left, limit_s if took_s is None else took_s)

    def mend(self, fault: Callable[[], None], mend: Callable[[], None]) -> TrialReport:
        """Let a fault happen while all is there, and mend it when nothing is left. The run goes on and succeeds."""
        process = self._start()
        self._await_all(process)
        before = self._outside.count()
        fault()
        took_s = seconds_until(lambda: self._outside.count() == 0, self._outside.stays_s)
        left = self._outside.count() if took_s is None else 0
        if left:
            self._outside.clean()
        mend()
        assert process.wait(LIMIT_S) == 0, "the run has succeeded"
        left += self._outside.count() + self._outside.surplus(self._place / "lightflow.db")
        return TrialReport(before, left, self._outside.stays_s if took_s is None else took_s)

    @staticmethod
    def _kill(pids: Sequence[int]) -> None:
        """End processes at the same instant: none of them sees another one ended."""
        for number in (signal.SIGSTOP, signal.SIGKILL):
            for pid in pids:
                with suppress(ProcessLookupError):
                    if pid:
                        os.kill(pid, number)

    def _start(self) -> subprocess.Popen[bytes]:
        self._count += 1
        self._place = self._folder / str(self._count)
        self._place.mkdir()
        return self._command("run")

    def _command(self, name: str) -> subprocess.Popen[bytes]:
        (self._place / "flow.yaml").write_text(self._outside.flow.replace("LASTS", _LASTS[name]))
        return subprocess.Popen(
            [*self._program, name, "flow.yaml"],
            cwd=self._place,
            env={**os.environ, **self._outside.env, "PYTHONPATH": str(ROOT)},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
        )

    def _await_all(self, process: subprocess.Popen[bytes]) -> None:
        give_up = time.monotonic() + LIMIT_S
        while self._outside.count() < self._outside.complete:
            assert process.poll() is None, "the run has ended by itself"
            assert time.monotonic() < give_up, f"after {LIMIT_S:g} s there are {self._outside.count()}"
            time.sleep(0.02)


def _let_end(process: subprocess.Popen[bytes]) -> None:
    """Let a run go on for a while, and interrupt it."""
    try:
        process.wait(_SETTLE_S)
    except subprocess.TimeoutExpired:
        process.terminate()
        process.wait(LIMIT_S)


def seconds_until(condition: Callable[[], bool], limit_s: float = LIMIT_S) -> float | None:
    """Return the seconds until a condition holds; None: it does not within the limit."""
    began = time.monotonic()
    while not condition():
        if time.monotonic() > began + limit_s:
            return None
        time.sleep(0.02)
    return time.monotonic() - began


def children(pid: int) -> list[int]:
    try:
        return list(map(int, Path(f"/proc/{pid}/task/{pid}/children").read_text().split()))
    except OSError:
        return []


def await_end(pid: int) -> None:
    """Wait for the end of a process that is not our child."""
    took_s = seconds_until(lambda: not pid or has_ended(pid))
    assert took_s is not None, "the guardian does not end"


def has_ended(pid: int) -> bool:
    """Return whether a process has ended; it may still be in the table of processes."""
    return "\nState:\tZ" in _status(pid)


def _status(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/status").read_text()
    except OSError:
        return "\nState:\tZ"


def check_nothing_left(
    name: str, outside: Outside, folder: Path, figure: Callable[..., str], scaled: Callable[[int], int]
) -> None:
    """Kill each victim at some moments, print the figures under a name, and check that nothing was left."""
    figures = Trial(outside, folder).all_moments(scaled(MOMENTS))
    line = figure(name, **figures)
    assert figures["left"] == 0, line


def status_in(db: Path) -> str | None:
    """Return the status of the run in a state file; None: it has none."""
    if not db.exists():
        return None
    with closing(sqlite3.connect(db)) as connection:
        try:
            row = connection.execute("SELECT status FROM liteflow_dag_runs").fetchone()
        except sqlite3.OperationalError:  # the run was killed before it had tables
            return None
    return None if row is None else str(row[0])


def attempts_in(db: Path) -> dict[str, int]:
    """Return how many attempts of each task a state file has."""
    if not db.exists():
        return {}
    with closing(sqlite3.connect(db)) as connection:
        try:
            return dict(connection.execute("SELECT task_id, try_number FROM liteflow_task_instances").fetchall())
        except sqlite3.OperationalError:  # the run was killed before it had tables
            return {}
