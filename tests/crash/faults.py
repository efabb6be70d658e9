"""System calls that fail: strace makes the Nth one, or all from the Nth on, return an error to a program."""

from __future__ import annotations

import os
import re
import shutil
import signal
import sqlite3
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Final, NamedTuple

from lines import ENV, missing

FLOW: Final = """\
workflow_name: flow
tasks:
  a: {run: "echo a >> trail; echo said a"}
  b: {run: "echo b >> trail", depends_on: [a]}
  c: {type: python, run: "open('trail', 'a').write('c\\\\n'); print('said c')", depends_on: [a]}
  d: {run: "echo d >> trail; echo said d", depends_on: [b, c]}
  e: {run: "echo e >> trail; echo said e", depends_on: [d]}
settings: {max_parallel_tasks: 2}
"""
UPSTREAM: Final = {"a": "", "b": "a", "c": "a", "d": "bc", "e": "d"}
#: The command line, with a commit given up after 0.3 s instead of a minute.
_PROGRAM: Final = """\
import sys
import liteflow.state.store
liteflow.state.store._COMMIT_RETRY_S = 0.3
from lightflow.cli.main import main
main(sys.argv[1:])
"""
_OURS: Final = ("state.db", "state.db-wal", "state.db-journal", "state.db-shm", "state.db.lock", "logs",
                ".lightflow-checkpoints", "")  # fmt: skip


#: What `hashlib` itself prints for an algorithm whose extension module cannot be opened. The program goes on.
_REPORT_OF_HASHLIB: Final = re.compile(
    r"ERROR:root:code for hash \w+ was not found\.\nTraceback .*:\n(?:  .*\n)+ValueError: unsupported hash type \w+\n"
)


class Fault(NamedTuple):
    """`when` is in strace's words: `7` the seventh, `7+` all from the seventh on. `everywhere`: in all processes."""

    call: str
    error: str
    when: str
    everywhere: bool = False

    def __str__(self) -> str:
        return f"{self.call}:error={self.error}:when={self.when}{' in all processes' if self.everywhere else ''}"


class Ended(NamedTuple):
    code: int
    out: str
    err: str


def prepare(folder: Path) -> None:
    (folder / "bin").mkdir(parents=True, exist_ok=True)  # apart: Python lists the folder of its program
    (folder / "flow.yaml").write_text(FLOW)
    (folder / "bin" / "program.py").write_text(_PROGRAM)


def lightflow(folder: Path, *arguments: str, fault: Fault | None = None, trace: Path | None = None) -> Ended:
    """Run a command in a folder, under a fault or while its calls are listed. All it started is gone afterwards."""
    command = [sys.executable, str(folder / "bin" / "program.py"), *arguments]
    if fault is not None or trace is not None:
        if shutil.which("strace") is None:
            missing("strace")
        follow = trace is None or fault is not None
        before = ["strace", "-qq", "-o", str(trace or os.devnull)]
        if fault is not None and not fault.everywhere:
            follow = False
        if follow:
            before += ["-f", "--seccomp-bpf"]
        else:
            before += [word for name in _OURS for word in ("-P", str(folder / name).rstrip("/"))]
        if fault is not None:
            before += ["-e", f"trace={fault.call}"]
            before += ["-e", f"inject={fault.call}:error={fault.error}:when={fault.when}"]
        command = [*before, *command]
    process = subprocess.Popen(
        command,
        cwd=folder,
        env=ENV,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        errors="replace",
        start_new_session=True,
    )
    try:
        out, err = process.communicate(timeout=200)
    finally:
        if process.poll() is None:
            os.killpg(process.pid, signal.SIGKILL)
            process.communicate()
    return Ended(process.returncode, out, err)


def count_calls(folder: Path) -> Counter[str]:
    """How many calls of each kind a run without faults makes on its own files, in its main thread."""
    prepare(folder)
    trace = folder / "calls"
    ended = lightflow(folder, "run", "flow.yaml", "--db", "state.db", trace=trace)
    if ended.code and "ptrace" in ended.err:
        missing("ptrace")
    assert ended.code == 0, ended.err
    return Counter(re.findall(r"^(\w+)\(", trace.read_text(), re.MULTILINE))


def count_opens(folder: Path) -> int:
    """Count the files that the main thread of a run without faults opens, modules of Python included."""
    prepare(folder)
    if shutil.which("strace") is None:
        missing("strace")
    trace = folder / "calls"
    program = [sys.executable, str(folder / "bin" / "program.py"), "run", "flow.yaml", "--db", "state.db"]
    before = ["strace", "-qq", "-o", str(trace), "-e", "trace=openat"]
    subprocess.run([*before, *program], cwd=folder, env=ENV, stdin=subprocess.DEVNULL, capture_output=True, check=True)
    return len(re.findall(r"^openat\(", trace.read_text(), re.MULTILINE))


def trail(folder: Path) -> list[str]:
    """The tasks that really ran, in order: the oracle."""
    path = folder / "trail"
    return path.read_text().split() if path.exists() else []


def stored(folder: Path) -> tuple[str | None, dict[str, str]]:
    """What the state file says of the latest run: its state, and its tasks'. Read without the program under test."""
    path = folder / "state.db"
    if not path.exists():
        return None, {}
    connection = sqlite3.connect(path)
    try:
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        if not connection.execute("SELECT 1 FROM sqlite_schema WHERE name='liteflow_dag_runs'").fetchone():
            return None, {}
        run = connection.execute("SELECT run_id, status FROM liteflow_dag_runs ORDER BY run_no DESC").fetchone()
        if run is None:
            return None, {}
        rows = connection.execute("SELECT task_id, status FROM liteflow_task_instances WHERE run_id=?", run[:1])
        return run[1], dict(rows.fetchall())
    finally:
        connection.close()


def check_truth(folder: Path, ended: Ended) -> set[str]:
    """Is all true that was said and stored? Returns the tasks that are recorded as succeeded."""
    assert "Traceback" not in _REPORT_OF_HASHLIB.sub("", ended.err) + ended.out, "a traceback"
    if "ImportError" not in ended.err:  # a part of the program itself that cannot be read: nobody can go on
        unread = "flow.yaml: cannot be read" in ended.err  # bad input: 2
        assert ended.code in ((2,) if unread else (0, 1, 3, 5)), f"exit code {ended.code}"
    status, tasks = stored(folder)
    ran = trail(folder)
    succeeded = {name for name, state in tasks.items() if state == "SUCCESS"}
    assert succeeded <= set(ran), f"recorded as succeeded, and did not run: {sorted(succeeded - set(ran))}"
    reported = set(re.findall(r"^[0-9:]{8} (\w+) SUCCESS", ended.out, re.MULTILINE))
    assert reported <= succeeded, f"told to have succeeded, and not stored: {sorted(reported - succeeded)}"
    for name in succeeded:
        assert set(UPSTREAM[name]) <= succeeded, f"{name} succeeded before what it waits for"
    for name in ran:
        assert set(UPSTREAM[name]) <= set(ran[: ran.index(name)]), f"{name} ran before what it waits for"
    if ended.code == 0:
        assert status == "SUCCESS", f"exit code 0 with a run that is {status}"
        assert len(succeeded) == len(UPSTREAM)
    else:
        assert ended.err.strip() or "FAILED" in ended.out, "it failed and did not say why"
    return succeeded


def check_recovery(folder: Path, succeeded: set[str]) -> None:
    """With the cause gone the run is gone on with, to its end; what had succeeded does not run again."""
    before = Counter(trail(folder))
    known = stored(folder)[0] is not None
    ended = lightflow(folder, "resume" if known else "run", "flow.yaml", "--db", "state.db")
    assert ended.code == 0, f"{ended.out}{ended.err}"
    assert check_truth(folder, ended) == set(UPSTREAM)
    after = Counter(trail(folder))
    again = [name for name in succeeded if after[name] != before[name]]
    assert not again, f"ran again although it had succeeded: {again}"
