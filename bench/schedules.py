"""The rows of `python -m bench live` about schedules: the cost of waiting, and the time from an instant to its run."""

from __future__ import annotations

import sqlite3
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final

from bench.live_servers import environment
from liteflow.api import scheduler_is_active

WAITING: Final = 1_000  # schedules that are not due
STEADY: Final = 3  # schedules of one second
STEADY_S: Final = 12
STARTING_S: Final = 4
AT_ONCE: Final = 100  # schedules that are due in one instant
FORKS: Final = 20
#: Forks runs as the starter does, and bare commands in turns; prints the ratio of their processor times.
_FORKS: Final = """
import os, resource, statistics, sys
from lightflow.scheduler import starter
starter.prepare_forks()

def order(number):
    return starter.StartOrder(key=str(number), run_id=f"r{number}", source=sys.argv[1], dag=None, db="lightflow.db",
        folder=os.getcwd(), params={}, date=0.0, day=None, scheduled_at=None, overlap=None)

def cpu(child):
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    pid = os.fork()
    if pid == 0:
        child()
    os.waitpid(pid, 0)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime

ratios = []
for number in range(int(sys.argv[2])):
    run = cpu(lambda: os._exit(starter.execute(order(number))))
    ratios.append(run / cpu(lambda: os.execv("/bin/true", ["true"])))
print(statistics.median(ratios))
"""
_FLOW: Final = "workflow_name: {name}\nschedule: {schedule}\ntasks: {{t: {{run: 'true'}}}}\n"


@contextmanager
def serving(folder: Path) -> Iterator[subprocess.Popen[str]]:
    """Start `lightflow serve --no-ui` there, until it has read its files."""
    process = subprocess.Popen(
        [sys.executable, "-m", "lightflow", "serve", "--no-ui", "flows"],
        cwd=folder, env=environment(folder), stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        assert process.stdout is not None
        next(line for line in process.stdout if line.startswith("serves "))
        yield process
    finally:
        process.terminate()
        process.communicate()


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


def steady_delays(folder: Path) -> list[tuple[float, float]]:
    """Return the delays of schedules of one second: see `delays`."""
    steady = write_flows(folder / "steady", ["{every: 1s, overlap: allow}"] * STEADY)
    with serving(steady):
        time.sleep(STEADY_S)
    return delays(steady, skip_s=STARTING_S)


def at_once_s(folder: Path) -> float:
    """Return the seconds from an instant at which many schedules are due to the start of the last task."""
    instant = int(time.time()) + 10
    moment = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(instant))
    at_once = write_flows(folder / "at_once", [f'{{every: 1h, start: "{moment}"}}'] * AT_ONCE)
    with serving(at_once):
        give_up = time.monotonic() + 120
        while len(delays(at_once)) < AT_ONCE and time.monotonic() < give_up:
            time.sleep(0.2)
    started = [start for _, start in delays(at_once)]
    return max(started) if len(started) == AT_ONCE else float("inf")


def take_over_s(folder: Path) -> float:
    """Return the seconds from a `kill -9` of a server until its standby is the active scheduler."""
    flows = write_flows(folder / "standby", ["{every: 1h}"])
    db = str(flows / "lightflow.db")
    with serving(flows) as active, serving(flows):
        active.kill()
        active.wait()
        began = time.perf_counter()
        while not scheduler_is_active(db):
            time.sleep(0.001)
        return time.perf_counter() - began


def run_ratio(folder: Path) -> float:
    """Return the CPU of a run as the starter forks it, to that of a bare `fork` and `exec`, in turns."""
    flows = write_flows(folder / "forks", ["{every: 1h}"])
    command = [sys.executable, "-c", _FORKS, "flows/w0.yaml", str(FORKS)]
    done = subprocess.run(command, cwd=flows, env=environment(folder), check=True, capture_output=True, text=True)
    return float(done.stdout)
