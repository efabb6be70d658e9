"""Python tasks in threads share the process of the run: they do not end it, and do not read its input."""

from __future__ import annotations

import json
import os
import pty
import sqlite3
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

Start = Callable[..., "subprocess.Popen[str]"]
ROOT = Path(__file__).resolve().parents[2]
MODES = ["thread", "async", "inline", "process"]
ENVIRON = {**os.environ, "PYTHONPATH": str(ROOT)}

EXITS = """
import os, sys, threading, time
from liteflow import Dag

def exits(code):
    try:
        os._exit(code)
    finally:
        pass

async def exits_too(code):
    os._exit(code)

def forks(code):
    child = os.fork()
    if child == 0:
        os._exit(7)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

mode, code = sys.argv[1], int(sys.argv[2])
dag = Dag("d", "d.db")
dag.task(exits_too if mode == "async" else exits, "exits", code=code)
dag.task(forks, "forks", code=code)
if __name__ == "__main__":
    run = dag.run(mode=mode, log_dir="logs")
    print(run.statuses(), run.failures(), run.value("forks"), sep="\\n")
    os._exit(5)
"""


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("code", [0, 3])
def test_os_exit_fails_the_task_and_not_the_run(start: Start, mode: str, code: int) -> None:
    process = start(EXITS, mode, str(code))
    out, err = process.communicate(timeout=60)
    words = (
        f"worker exited with code {code}" if mode == "process" else f"os._exit({code}) would have ended the whole run"
    )
    statuses = {"exits": "FAILED", "forks": "SUCCESS"}
    assert (process.returncode, err) == (5, ""), "behind the run os._exit is what it was"
    said, failures, value = out.splitlines()
    assert (said, value) == (str(statuses), "7")
    assert words in failures


@pytest.mark.parametrize("code", [0, 3])
def test_os_exit_in_a_thread_of_a_task_does_not_make_the_command_a_success(tmp_path: Path, code: int) -> None:
    (tmp_path / "flow.yaml").write_text(
        f"""
workflow_name: w
tasks:
  a:
    type: python
    run: |
      import os, threading
      threading.Thread(target=os._exit, args=({code},)).start()
      threading.Event().wait()
"""
    )
    words = [sys.executable, "-m", "lightflow", "run", "flow.yaml"]
    done = subprocess.run(words, cwd=tmp_path, env=ENVIRON, capture_output=True, text=True, check=False)
    assert done.returncode == (code or 70)


READS = """
import os, subprocess, sys

def reads():
    seen = [sys.stdin.read(), sys.stdin.readline(), list(sys.stdin), sys.stdin.buffer.read(), sys.stdin.isatty()]
    try:
        seen.append(input("a prompt: "))
    except EOFError:
        seen.append("EOF")
    return repr(seen)

async def reads_too():
    return reads()

def child():
    return subprocess.run(["cat"], stdout=subprocess.PIPE).stdout.decode()
"""
RUNS = """
import sys, reads
from liteflow import Dag
dag = Dag("d", "d.db")
dag.task(reads.reads, "reads"), dag.task(reads.reads_too, "reads_too")
if __name__ == "__main__":
    run = dag.run(mode=sys.argv[1], log_dir="logs")
    print(run.value("reads"), run.value("reads_too"), sys.stdin.readline(), sep="|")
"""


@pytest.mark.parametrize("mode", ["thread", "async", "process"])
def test_tasks_find_the_end_of_the_input_and_the_program_has_it_all(tmp_path: Path, mode: str) -> None:
    (tmp_path / "reads.py").write_text(READS)
    (tmp_path / "script.py").write_text(RUNS)
    words = [sys.executable, "script.py", mode]
    done = subprocess.run(
        words, cwd=tmp_path, env=ENVIRON, input="a line\nanother\n", capture_output=True, text=True, check=True
    )
    seen = "['', '', [], b'', False, 'EOF']"
    assert done.stdout == f"{seen}|{seen}|a line\n\n"


@pytest.mark.parametrize("mode", ["thread", "async", "process"])
def test_a_workflow_file_reads_nothing_from_the_terminal(tmp_path: Path, mode: str) -> None:
    (tmp_path / "reads.py").write_text(READS)
    (tmp_path / "flow.yaml").write_text(
        """
workflow_name: w
tasks:
  reads: {type: python, call: "reads:reads"}
  child: {type: python, call: "reads:child"}
"""
    )
    control, terminal = pty.openpty()
    try:
        words = [sys.executable, "-m", "lightflow", "run", "flow.yaml", "--mode", mode, "--json"]
        os.write(control, b"typed before\n")
        done = subprocess.run(
            words, cwd=tmp_path, env=ENVIRON, stdin=terminal, capture_output=True, text=True, check=True, timeout=60
        )
        assert json.loads(done.stdout)["status"] == "SUCCESS"
    finally:
        os.close(control)
        os.close(terminal)
    with sqlite3.connect(tmp_path / "lightflow.db") as connection:
        values = dict(connection.execute("SELECT task_id, value FROM liteflow_xcom"))
    connection.close()
    assert json.loads(values["reads"]) == "['', '', [], b'', False, 'EOF']"
    assert json.loads(values["child"]) == ""
