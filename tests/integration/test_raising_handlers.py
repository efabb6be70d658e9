"""A program whose signal handlers raise, such as a time limit of a task queue: nothing piles up in it."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
import gc, os, random, signal, sys, time
from liteflow import Command, Dag, Task

class Late(Exception):
    pass

def raising(number, frame):
    raise Late

def work():
    time.sleep(0.01)

def run(number):
    dag = Dag("d", "a.db")
    dag.add_task(Task("c", body=Command(("sleep", "0.01"))))
    dag.task(work, "w")
    return dag.run(2, "process", log_dir="logs")

def children():
    return open(f"/proc/self/task/{os.getpid()}/children").read().split()

run(0)
before = len(os.listdir("/proc/self/fd"))
chance = random.Random(7)
signal.signal(signal.SIGALRM, raising)
for number in range(40):
    try:
        signal.setitimer(signal.ITIMER_REAL, chance.uniform(0.001, 0.12))
        run(number)
        signal.setitimer(signal.ITIMER_REAL, 0)
    except Late:
        pass
give_up = time.monotonic() + 120
while True:
    assert run(99).status == "SUCCESS"
    gc.collect()
    after = len(os.listdir("/proc/self/fd"))
    if (not children() and after <= before) or time.monotonic() > give_up:
        break
print(len(children()), after - before)
"""


def test_interrupted_runs_leave_no_processes_and_no_descriptors(tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", PROGRAM], cwd=tmp_path, capture_output=True, text=True, timeout=90, check=False
    )
    assert (done.returncode, done.stdout.split()) == (0, ["0", "0"]), done.stdout + done.stderr
    assert "Traceback" not in done.stderr
