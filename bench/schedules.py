"""The rows of `python -m bench live` about schedules: the cost of waiting, and the time from an instant to its run."""

from __future__ import annotations

import os
import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, NamedTuple

from bench.measure import ROOT

WAITING: Final = 1_000  # schedules that are not due
IDLE_S: Final = 30
STEADY: Final = 3  # schedules of one second
STEADY_S: Final = 12
STARTING_S: Final = 4
AT_ONCE: Final = 100  # schedules that are due in one instant
_FLOW: Final = "workflow_name: {name}\nschedule: {schedule}\ntasks: {{t: {{run: 'true'}}}}\n"


class ScheduleFigures(NamedTuple):
    """What was measured."""

    start_cpu_s: float  # of reading the files
    idle_percent: float
    to_claim_ms: float  # p95
    to_task_ms: float  # p95
    at_once_s: float  # from the instant to the start of the last run


@contextmanager
def serving(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start `lightflow serve --no-ui` there, until it has read its files."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lightflow", "serve", "--no-ui", "flows"],
        cwd=folder, env={**os.environ, "PYTHONPATH": str(ROOT)}, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("serves "))
        yield process
    finally:
        process.terminate()
        process.communicate()


def cpu_s(process: subprocess.Popen[str]) -> float:
    fields = Path(f"/proc/{process.pid}/stat").read_text(encoding="ascii").rpartition(")")[2].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def write_flows(folder: Path, schedules: Sequence[str]) -> Path:
    (folder / "flows").mkdir(parents=True)
    for number, schedule in enumerate(schedules):
        (folder / "flows" / f"w{number}.yaml").write_text(_FLOW.format(name=f"w{number}", schedule=schedule))
    return folder


def delays(folder: Path, skip_s: float = 0) -> list[tuple[float, float]]:
    """Return for each run the seconds from its instant to the claim, and to the start of its task.

    The instants of the first `skip_s` are left out: the starter is still being started.
    """
    connection = sqlite3.connect(folder / "lightflow.db")
    rows = connection.execute(
        "SELECT claimed_at - f.at, t.started_at - f.at FROM liteflow_fires AS f "
        "JOIN liteflow_task_instances AS t USING (run_id) WHERE f.status='STARTED' AND t.started_at IS NOT NULL "
        "AND f.at >= (SELECT min(at) FROM liteflow_fires) + ?",
        (skip_s,),
    ).fetchall()
    connection.close()
    return [(float(claimed), float(started)) for claimed, started in rows]


def p95_ms(seconds: Sequence[float]) -> float:
    return 1000 * statistics.quantiles(seconds, n=20)[18]


def measure(folder: Path) -> ScheduleFigures:
    """Measure each figure with a server of its own."""
    idle = write_flows(folder / "idle", [f'"{number % 60} {number % 24} 1 1 *"' for number in range(WAITING)])
    with serving(idle) as server:
        start_cpu_s = cpu_s(server)
        time.sleep(3)
        before = cpu_s(server)
        time.sleep(IDLE_S)
        idle_percent = 100 * (cpu_s(server) - before) / IDLE_S
    steady = write_flows(folder / "steady", ["{every: 1s, overlap: allow}"] * STEADY)
    with serving(steady):
        time.sleep(STEADY_S)
    seconds = delays(steady, skip_s=STARTING_S)
    instant = int(time.time()) + 10
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(instant))
    at_once = write_flows(folder / "at_once", [f'{{every: 1h, start: "{moment}"}}'] * AT_ONCE)
    with serving(at_once):
        give_up = time.monotonic() + 120
        while len(delays(at_once)) < AT_ONCE and time.monotonic() < give_up:
            time.sleep(0.2)
    started = [start for _, start in delays(at_once)]
    return ScheduleFigures(
        start_cpu_s=start_cpu_s,
        idle_percent=idle_percent,
        to_claim_ms=p95_ms([claim for claim, _ in seconds]),
        to_task_ms=p95_ms([start for _, start in seconds]),
        at_once_s=max(started) if len(started) == AT_ONCE else float("inf"),
    )
