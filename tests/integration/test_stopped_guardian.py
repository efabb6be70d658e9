"""A task that stops the guardian (SIGSTOP) holds nobody up."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from process_kit import await_delivery

from liteflow.processes import tree

LIMIT_S = 120.0


def start(folder: Path, script: str) -> subprocess.Popen[str]:
    tasks = "".join(f"    {line}\n" for line in script.splitlines())
    (folder / "f.yaml").write_text(f"workflow_name: w\ntasks:\n  a:\n   kill_grace: 60\n   run: |\n{tasks}")
    return subprocess.Popen(
        [sys.executable, "-m", "lightflow", "run", "f.yaml", "-q"],
        cwd=folder,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def await_file(path: Path, process: subprocess.Popen[str]) -> None:
    give_up = time.monotonic() + LIMIT_S
    while not path.exists():
        assert process.poll() is None, process.communicate()[0]
        assert time.monotonic() < give_up
        time.sleep(0.01)


def test_a_task_that_stops_the_guardian_ends_as_ever(tmp_path: Path) -> None:
    process = start(tmp_path, "kill -STOP $PPID; echo done")
    message, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, message


@pytest.mark.parametrize("again_and_again", [False, True])
def test_the_second_interrupt_ends_a_run_whose_guardian_is_stopped(tmp_path: Path, again_and_again: bool) -> None:
    stop = "while :; do kill -STOP $PPID; done" if again_and_again else "kill -STOP $PPID; while :; do sleep 1; done"
    process = start(tmp_path, f"trap '' TERM\necho $$ > pid\ntouch up\n{stop}")
    await_file(tmp_path / "up", process)
    process.send_signal(signal.SIGINT)
    await_delivery(process.pid, signal.SIGINT)
    time.sleep(0.3)  # for the handler in Python: two signals at once would be one
    process.send_signal(signal.SIGINT)
    message, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 130, message
    row = tree.process(int((tmp_path / "pid").read_text()))
    assert row is None or row.state in "ZX"


def test_a_guardian_that_was_started_afresh_after_it_was_killed_while_stopped(tmp_path: Path) -> None:
    script = "[ $LIGHTFLOW_ATTEMPT = 1 ] || exit 0\necho $PPID > guardian\ntouch up\nkill -STOP $PPID\nsleep 600\n"
    process = start(tmp_path, script)
    await_file(tmp_path / "up", process)
    os.kill(int((tmp_path / "guardian").read_text()), signal.SIGKILL)
    message, _ = process.communicate(timeout=LIMIT_S)
    assert process.returncode == 0, message
