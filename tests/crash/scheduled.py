"""Harness of R22: schedules of one second, while servers and starters are killed or stopped at random moments.

python tests/crash/scheduled.py FOLDER --kills 60 --triggers 50 --servers 3 --stops --seed 7 [--control no_flip]
"""

from __future__ import annotations

import argparse
import contextlib
import os
import random
import signal
import sqlite3
import subprocess
import sys
import time
from collections import Counter
from pathlib import Path

from crashkit import Faults, as_harness, descendants, end_descendants, reap, report

ROOT = Path(__file__).resolve().parents[2]
_READY = 0.7  # the share of servers that have read their files when they are killed
_STALL_S = 60.0  # so long without a decision, and the backlog counts as lost
FAULTS = ("twice", "lost", "hurt", "left", "open", "unexplained", "tracebacks")
FLOW = """\
workflow_name: {name}
schedule: {{every: {every}, overlap: allow{end}}}
tasks: {{t: {{run: 'echo "$LIGHTFLOW_WORKFLOW $LIGHTFLOW_SCHEDULED_AT $LIGHTFLOW_RUN_ID $(date +%s.%N)" >> trail'}}}}
settings: {{checkpoint_dir: checkpoints}}
"""
#: A control: a process does not look whether its fire was started, and takes a run id of its own, as cron would.
_NO_FLIP = """\
import lightflow.service.runs as runs
import liteflow.state.transitions as transitions
from liteflow.api import replace

_start = runs.start
transitions.start_fire = lambda connection, run_id, now: True
runs.start = lambda path, options, *, notify: _start(path, replace(options, run_id=None), notify=notify)
"""


def start(folder: Path, path: str) -> subprocess.Popen[bytes]:
    environment = {**os.environ, "PYTHONPATH": path}
    with open(folder / "server.log", "ab") as log:
        return subprocess.Popen(
            [sys.executable, "-m", "lightflow", "serve", "--no-ui", "flows"],
            cwd=folder, env=environment, stdin=subprocess.DEVNULL, stdout=log, stderr=log,
        )  # fmt: skip


def starter_of(server: int) -> int | None:
    with contextlib.suppress(OSError, IndexError, ValueError):
        return int(Path(f"/proc/{server}/task/{server}/children").read_text().split()[0])
    return None


def kill(server: subprocess.Popen[bytes], what: str) -> None:
    starter = starter_of(server.pid)
    for pid in [*([starter] if what != "server" else []), *([server.pid] if what != "starter" else [])]:
        if pid is not None:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
    reap()


def attack(folder: Path, path: str, options: argparse.Namespace, rng: random.Random) -> Counter[str]:
    """Kill a server, its starter, or both, or stop a server for a while; start it again each time."""
    done: Counter[str] = Counter()
    servers = [start(folder, path) for _ in range(options.servers)]
    while done.total() < options.kills:
        time.sleep(rng.uniform(0.05, options.pace) / options.servers)
        place = rng.randrange(options.servers)
        what = rng.choice(["server", "server", "starter", "both", *(["stop"] if options.stops else [])])
        done[what] += 1
        if what == "stop":
            servers[place].send_signal(signal.SIGSTOP)
            time.sleep(rng.uniform(0.5, 3.0))  # several instants pass
            servers[place].send_signal(signal.SIGCONT)
            continue
        kill(servers[place], what)
        if what != "starter":
            servers[place].wait()
            servers[place] = start(folder, path)
            if rng.random() < _READY:
                wait_until_ready(folder, servers[place])
    for standby in servers[1:]:
        standby.send_signal(signal.SIGTERM)
        standby.wait()
    time.sleep(3)
    end_when_idle(folder, servers[0])
    return done


def wait_until_ready(folder: Path, server: subprocess.Popen[bytes]) -> None:
    """Wait until a server has read its files; it may be killed at any moment of its work then."""
    before, give_up = served(folder), time.monotonic() + 120
    while served(folder) == before and server.poll() is None and time.monotonic() < give_up:
        time.sleep(0.01)


def served(folder: Path) -> int:
    """Return how many servers have read their files, up to now."""
    return (folder / "server.log").read_text().count("serves ")


def end_when_idle(folder: Path, server: subprocess.Popen[bytes]) -> None:
    """Pause all triggers, wait until each fire is decided, and end the server."""
    with contextlib.closing(connect(folder)) as state:
        state.execute("UPDATE liteflow_triggers SET paused_at=1, paused_by='the test'")
        before, give_up = -1, time.monotonic() + _STALL_S
        while time.monotonic() < give_up:
            time.sleep(0.2)
            sql = "SELECT count(*) FROM liteflow_fires WHERE status IN ('CLAIMED', 'WAITING')"
            waiting = state.execute(sql).fetchone()[0]
            if not waiting:
                break
            if waiting != before:  # a backlog takes as long as the machine needs
                before, give_up = waiting, time.monotonic() + _STALL_S
    server.send_signal(signal.SIGTERM)
    server.wait()


def connect(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(folder / "lightflow.db", timeout=60, isolation_level=None)


def check(
    folder: Path, result: Faults, *, steady: str = "w", lossless: bool = True, ends: bool = False
) -> dict[str, int]:
    """Compare the instants with the fires, the fires with the runs, and the runs with what the tasks have done.

    The files of triggers whose ids begin with `steady` do not change. With `lossless` these triggers lose no instant.
    With `ends` the schedules have ended, all with the same instant.
    """
    give_up = time.monotonic() + 60
    while descendants() and time.monotonic() < give_up:
        reap()
        time.sleep(0.05)
    for pid in descendants():
        result.fault("left", f"process {pid}")
    with contextlib.closing(connect(folder)) as state:
        fires = state.execute("SELECT trigger_id, at, status, run_id, reason FROM liteflow_fires").fetchall()
        runs = dict(state.execute("SELECT run_id, status FROM liteflow_dag_runs").fetchall())
    lines = (folder / "trail").read_text().splitlines()
    for instant, count in Counter(tuple(line.split()[:2]) for line in lines).items():
        if count > 1:
            result.fault("twice", f"{instant} ran {count} times")
    states = Counter(status for _, _, status, _, _ in fires)
    for trigger, at, status, run_id, reason in fires:
        if status == "STARTED" and runs.get(run_id) != "SUCCESS":
            result.fault("hurt", f"{trigger} {at}: run {run_id} is {runs.get(run_id)}")
        elif status not in ("STARTED", "MISSED", "SKIPPED", *(() if trigger.startswith(steady) else ("FAILED",))):
            result.fault("open", f"{trigger} {at} is {status}: {reason}")
    if len(runs) != states["STARTED"]:
        result.fault("unexplained", f"{len(runs)} runs, {states['STARTED']} fires that started")
    last = max(row[1] for row in fires)
    for trigger in {row[0] for row in fires if lossless and row[0].startswith(steady)}:
        instants = sorted(row[1] for row in fires if row[0] == trigger)
        if instants != [instants[0] + number for number in range(len(instants))]:
            result.fault("lost", f"{trigger}: {len(instants)} instants between {instants[0]} and {instants[-1]}")
        elif ends and instants[-1] != last:
            result.fault("lost", f"{trigger}: none after {instants[-1]}")
    return {"instants": len(fires), "runs": len(runs), "missed": states["MISSED"]}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("folder")
    parser.add_argument("--kills", type=int, default=60)
    parser.add_argument("--triggers", type=int, default=50)
    parser.add_argument("--seed", type=int, default=7)
    parser.add_argument("--servers", type=int, default=1)
    parser.add_argument("--stops", action="store_true")
    parser.add_argument("--instants", type=int, default=0, help="the schedules end after so many; 0: they go on")
    parser.add_argument("--pace", type=float, default=2.0, help="the longest time between two kills, in seconds")
    parser.add_argument("--control", choices=["no_flip"])
    options = parser.parse_args()
    began, result, folder = time.monotonic(), Faults(), Path(options.folder)
    (folder / "flows").mkdir()
    end = ""
    if options.instants:
        end = time.strftime(", end: '%Y-%m-%dT%H:%M:%SZ'", time.gmtime(time.time() + options.instants))
    for number in range(options.triggers):
        (folder / "flows" / f"w{number}.yaml").write_text(FLOW.format(name=f"w{number}", every="1s", end=end))
    path = str(ROOT)
    if options.control:
        (folder / "control").mkdir()
        (folder / "control" / "sitecustomize.py").write_text(_NO_FLIP)
        path = f"{folder / 'control'}{os.pathsep}{ROOT}"
    with as_harness(limit_s=900 + 20 * options.kills):
        try:
            kills = attack(folder, path, options, random.Random(options.seed))
            counts = check(folder, result, ends=bool(options.instants))
        finally:
            end_descendants()
    if "Traceback" in (folder / "server.log").read_text():
        result.fault("tracebacks", (folder / "server.log").read_text()[-2000:])
    report(kills=kills.total(), **counts, **{kind: result.counts[kind] for kind in FAULTS}, notes=result.notes,
           seconds=time.monotonic() - began)  # fmt: skip


if __name__ == "__main__":
    main()
