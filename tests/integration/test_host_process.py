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
    message, failures, value = out.splitlines()
    assert (message, value) == (str(statuses), "7")
    assert words in failures


EXECS = """
import os, sys
from liteflow import Dag

def replaces(function):
    arguments = {"execv": (sys.executable, ["python", "-c", ""]), "execlp": ("true", "true")}
    arguments["execvpe"] = ("true", ["true"], {"PATH": os.environ["PATH"]})
    getattr(os, function)(*arguments[function])

def forks():
    child = os.fork()
    if child == 0:
        os.execlp("sh", "sh", "-c", "exit 7")
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])

dag = Dag("d", "d.db")
for function in ("execv", "execlp", "execvpe"):
    dag.task(replaces, function, function=function)
dag.task(forks)
if __name__ == "__main__":
    run = dag.run(mode=sys.argv[1], log_dir="logs")
    print(*run.statuses().values(), run.value("forks"), flush=True)
    os.execlp("echo", "echo", "behind the run")
"""


@pytest.mark.parametrize("mode", MODES)
def test_a_task_cannot_put_another_program_in_the_place_of_the_run(start: Start, mode: str) -> None:
    process = start(EXECS, mode)
    out, err = process.communicate(timeout=60)
    assert (process.returncode, err) == (0, "")
    assert out == "FAILED FAILED FAILED SUCCESS 7\nbehind the run\n"


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


@pytest.mark.parametrize("mode", ["thread", "async", "process"])
def test_a_task_that_changes_the_folder_moves_nothing_of_the_run(tmp_path: Path, mode: str) -> None:
    (tmp_path / "flow.yaml").write_text(
        """
workflow_name: w
tasks:
  moves: {type: python, run: "import os; os.chdir('/'); print('moved')"}
  after: {type: python, depends_on: moves, call: "in_the_folder:after"}
  shell: {depends_on: moves, run: "echo shell; pwd > where"}
  fails: {depends_on: [after, shell], run: "test -e mended"}
"""
    )
    (tmp_path / "flows").mkdir()
    (tmp_path / "flow.yaml").rename(tmp_path / "flows" / "flow.yaml")
    (tmp_path / "in_the_folder.py").write_text("def after(): print('after')\n")
    words = [sys.executable, "-P", "-m", "lightflow"]
    for command, code in (("run", 1), ("resume", 0)):
        done = subprocess.run(
            [*words, command, "flows/flow.yaml", "--mode", mode, "--db", "mine.db", "--log-dir", "out", "--json"],
            cwd=tmp_path,
            env=ENVIRON,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == code, done.stderr
        (tmp_path / "mended").touch()
    assert json.loads(done.stdout)["status"] == "SUCCESS"
    assert (tmp_path / "where").read_text() == f"{tmp_path}\n"
    assert len(list((tmp_path / "out").glob("task_*.log"))) == 3
    assert list((tmp_path / ".lightflow-checkpoints").iterdir())


MOVES = """
import os, sys
from liteflow import Dag

def moves():
    os.chdir("/")
    if not os.path.exists(sys.argv[2]):
        raise ValueError("not yet")

dag = Dag("d", "d.db")
dag.task(moves)
if __name__ == "__main__":
    run = dag.run(mode=sys.argv[1], log_dir="logs")
    with open(sys.argv[2], "w"):
        pass
    print(run.statuses(), dag.resume(mode=sys.argv[1]).status, len(dag.runs()))
"""


@pytest.mark.parametrize("mode", ["thread", "inline", "async"])
def test_a_dag_keeps_its_state_file_when_a_task_changes_the_folder(start: Start, tmp_path: Path, mode: str) -> None:
    out, err = start(MOVES, mode, str(tmp_path / "mended")).communicate(timeout=60)
    assert (out, err) == ("{'moves': 'FAILED'} SUCCESS 1\n", "")


def test_a_log_that_is_not_there_names_where_the_output_of_children_is(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(
        """
workflow_name: w
tasks:
  starts: {type: python, run: "import subprocess; subprocess.run(['echo', 'from a child'])"}
  shell: {run: "true"}
"""
    )
    words = [sys.executable, "-m", "lightflow"]
    ran = subprocess.run([*words, "run", "flow.yaml"], cwd=tmp_path, env=ENVIRON, capture_output=True, text=True)
    assert "from a child\n" in ran.stdout
    for task, hint in (("starts", True), ("shell", False)):
        logs = subprocess.run([*words, "logs", task], cwd=tmp_path, env=ENVIRON, capture_output=True, text=True)
        assert "printed nothing: it is SUCCESS" in logs.stderr
        assert ("on the terminal" in logs.stderr) == hint
