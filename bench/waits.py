"""`python -m bench waits`: what a run costs while it waits, and how soon it notices that a wait is over.

The processor time is that of all processes of the run, while nothing happens but polls. It depends on how busy the
machine is, so the goals have a tolerance.
"""

from __future__ import annotations

import os
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from liteflow.api import History

MANY: Final = 1000
SECONDS: Final = 60.0
SETTLE_S: Final = 15.0  # until the polls of many waits have come together
LOOKS: Final = 10
CPU_GOAL_S: Final = 0.1
SHARE_GOAL: Final = 0.02
TOLERANCE: Final = 1.5

ONE_FILE: Final = "tasks:\n  ready: {type: wait, file: ready.csv}\n"
ONE_DECISION: Final = "tasks:\n  ok: {type: approval, message: Deploy}\n"
MANY_FILES: Final = (
    "tasks:\n  ready:\n    type: wait\n    file: ready-${{ item }}.csv\n"
    f"    foreach: {{items: [{', '.join(map(str, range(MANY)))}]}}\n"
)
SOON: Final = "tasks:\n  ready: {type: wait, file: ready.csv, every: 1s}\n"


def start(folder: str, text: str) -> subprocess.Popen[bytes]:
    """Start a run of a workflow, without a display."""
    Path(folder, "w.yaml").write_text(text, encoding="utf-8")
    command = [sys.executable, "-m", "lightflow", "run", "w.yaml", "--quiet"]
    with open(os.path.join(folder, "output"), "wb") as output:
        return subprocess.Popen(command, cwd=folder, stdout=output, stderr=output)


def await_waits(folder: str, count: int) -> None:
    """Return when so many instances wait."""
    give_up, db = time.monotonic() + 120, os.path.join(folder, "lightflow.db")
    while time.monotonic() < give_up:
        if os.path.exists(db):
            with History(db) as history:
                runs = history.runs(None, limit=1)
                if runs and len(history.handles(runs[0].run_id)) >= count:
                    return
        time.sleep(0.2)
    raise SystemExit(f"{count} instances did not begin to wait within 120 s")


def processes(pid: int) -> list[int]:
    """Return a process and those below it."""
    pids = [pid]
    for thread in os.listdir(f"/proc/{pid}/task"):
        for child in Path(f"/proc/{pid}/task/{thread}/children").read_text(encoding="ascii").split():
            pids += processes(int(child))
    return pids


def cpu_s(pid: int) -> float:
    """Return the processor time that a run has used: that of its threads, as the scheduler of the kernel counts it."""
    used = 0
    for each in processes(pid):
        for thread in os.listdir(f"/proc/{each}/task"):
            used += int(Path(f"/proc/{each}/task/{thread}/schedstat").read_text(encoding="ascii").split()[0])
    return used / 1e9


def end(run: subprocess.Popen[bytes]) -> None:
    """Interrupt a run."""
    run.send_signal(signal.SIGTERM)
    run.wait()


def cpu_of(text: str, count: int, settle_s: float) -> float:
    """Return the seconds of processor time that a minute of waiting costs."""
    with tempfile.TemporaryDirectory() as folder:
        run = start(folder, text)
        try:
            await_waits(folder, count)
            time.sleep(settle_s)
            before, began = cpu_s(run.pid), time.monotonic()
            time.sleep(SECONDS)
            return (cpu_s(run.pid) - before) / (time.monotonic() - began) * 60.0
        finally:
            end(run)


def latencies() -> list[float]:
    """Return how long after a file is there its run has ended, with a look each second."""
    seconds = []
    for number in range(LOOKS):
        with tempfile.TemporaryDirectory() as folder:
            run = start(folder, SOON)
            await_waits(folder, 1)
            time.sleep(number / LOOKS)  # so that files come at different times between two looks
            Path(folder, "ready.csv").touch()
            began = time.monotonic()
            run.wait()
            seconds.append(time.monotonic() - began)
    return seconds


def main() -> int:
    """Measure, print, and return 1 if a goal is clearly missed."""
    decision, file = cpu_of(ONE_DECISION, 1, 2.0), cpu_of(ONE_FILE, 1, 2.0)
    print(f"a run that waits for a decision: {decision:.3f} s of CPU a minute (goal {CPU_GOAL_S} s)")
    print(f"a run that waits for a file, looked at each 10 s: {file:.3f} s of CPU a minute (goal {CPU_GOAL_S} s)")
    share = cpu_of(MANY_FILES, MANY, SETTLE_S) / 60.0
    print(f"a run with {MANY:,} such waits: {share:.2%} of a core (goal {SHARE_GOAL:.0%})")
    soon = latencies()
    print(f"end of a run after its file is there, with a look each second: {statistics.median(soon):.2f} s (median)")
    return int(max(decision, file) > CPU_GOAL_S * TOLERANCE or share > SHARE_GOAL * TOLERANCE)
