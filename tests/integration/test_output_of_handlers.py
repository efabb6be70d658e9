"""What a signal handler prints while the task beside it prints."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = """
import signal, sys
from liteflow import Dag

ticks = 0

def tick(number, frame):
    global ticks
    ticks += 1
    print("tick")

def work():
    if sys.argv[1] == "process":
        signal.signal(signal.SIGALRM, tick)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    while ticks < 300:
        sys.stdout.write("line\\n")
    signal.setitimer(signal.ITIMER_REAL, 0)
    print("end")

if __name__ == "__main__":
    signal.signal(signal.SIGALRM, tick)
    dag = Dag("d", "d.db")
    dag.task(work, "work")
    run = dag.run(mode=sys.argv[1], log_dir="logs").raise_for_failure()
"""


@pytest.mark.parametrize("mode", ["inline", "process"])
def test_a_signal_handler_that_prints_does_not_stop_its_task(tmp_path: Path, mode: str) -> None:
    script = tmp_path / "program.py"
    script.write_text(SCRIPT)
    subprocess.run([sys.executable, script, mode], cwd=tmp_path, check=True, timeout=60, stdout=subprocess.DEVNULL)
    (log,) = (tmp_path / "logs").glob("*.log")
    text = log.read_text()
    assert text.endswith("end\n")
    assert text.count("tick") == 300
