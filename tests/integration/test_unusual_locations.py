"""State files in unusual places: long paths, deleted folders, files of other users, invalid clocks."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import flow_folder
import pytest

from lightflow.cli.error_boundary import report
from lightflow.service.doctor import run_checks
from liteflow import Dag
from liteflow.errors import LiteflowError, StoreError

FLOW = "workflow_name: w\ntasks: {a: {run: 'true'}}\n"


def test_a_path_that_sqlite_does_not_take_is_reported(tmp_path: Path) -> None:
    folder = tmp_path
    while len(str(folder)) < 600:
        folder = folder / ("d" * 100)
    folder.mkdir(parents=True)
    flow_folder.write(folder, FLOW)
    for words in (["run", "flow.yaml"], ["run", "flow.yaml", "--db", str(folder / "x.db")]):
        done = flow_folder.lightflow(folder, *words)
        assert done.returncode == 3
        assert "bytes long, and SQLite takes 511" in done.stderr
    assert flow_folder.lightflow(folder, "run", "flow.yaml", "--db", str(tmp_path / "x.db")).returncode == 0


def test_a_current_folder_that_was_removed_is_reported(tmp_path: Path) -> None:
    gone = tmp_path / "gone"
    gone.mkdir()
    script = (
        "import os, sys; os.chdir(sys.argv[1]); os.rmdir(sys.argv[1]); "
        "os.execv(sys.executable, [sys.executable, '-m', *sys.argv[2:]])"
    )
    for words in ("lightflow resume r1", "lightflow status", "lightflow doctor", "liteflow list"):
        done = subprocess.run(
            [sys.executable, "-c", script, str(gone), *words.split()],
            env=flow_folder.environment(), capture_output=True, text=True, check=False,
        )  # fmt: skip
        gone.mkdir()
        assert done.returncode in (1, 2, 3), (words, done.stdout, done.stderr)
        assert "the current folder no longer exists" in done.stdout + done.stderr, words


def test_a_current_folder_that_was_removed_is_an_error_of_the_engine_in_python(start, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    source = """
import os, sys
from liteflow import Dag, LiteflowError
os.mkdir("gone"); os.chdir("gone"); os.rmdir("../gone")
with Dag("flow", "x.db") as dag:
    dag.task(lambda: 1, task_id="a")
for call in (dag.run, dag.resume, lambda: Dag.all_dags("x.db"), dag.runs, lambda: Dag.delete_dag("x.db", "flow")):
    try:
        call()
    except LiteflowError as error:
        print(error)
"""
    out, err = start(source).communicate(timeout=60)
    assert (out.count("the current folder no longer exists"), err) == (5, "")


def test_a_clock_that_python_cannot_read_is_reported(capsys: pytest.CaptureFixture[str]) -> None:
    """From 2262 on: there `time.time()` raises this."""
    assert report(OverflowError("timestamp too large to convert to C _PyTime_t")) == 5
    assert "the clock of this machine is set beyond the year 2262" in capsys.readouterr().err


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files away")
def test_a_state_file_of_another_user_is_reported(tmp_path: Path) -> None:
    flow_folder.write(tmp_path, FLOW)
    assert "belongs to" not in flow_folder.lightflow(tmp_path, "run", "flow.yaml").stderr
    os.chown(tmp_path / "lightflow.db", 65534, 65534)
    finding = next(entry for entry in run_checks(str(tmp_path / "lightflow.db")) if entry.check == "owner")
    assert (finding.severity, "65534" in finding.message or "nobody" in finding.message) == ("warning", True)
    done = flow_folder.lightflow(tmp_path, "run", "flow.yaml")
    assert done.returncode == 0
    assert "lightflow.db belongs to nobody" in done.stderr


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_the_second_user_gets_instructions(tmp_path: Path) -> None:
    with Dag("flow", str(tmp_path / "x.db")) as dag:
        dag.task(lambda: 1, task_id="a")
    dag.run(mode="inline")
    tmp_path.chmod(0o777)
    for parent in tmp_path.parents:
        if parent != Path("/tmp") and parent != Path("/"):
            parent.chmod(0o755)
    shown = []
    for closed in (["x.db.lock"], ["x.db"]):
        for name in ("x.db", "x.db.lock", "x.db-wal", "x.db-shm"):
            if (tmp_path / name).exists():
                (tmp_path / name).chmod(0o600 if name in closed else 0o666)
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            text = "no error"
            try:
                os.setgid(65534)
                os.setuid(65534)
                dag.run(mode="inline")
            except LiteflowError as error:
                text = f"{type(error) is StoreError} {error}"
            os.write(write, text.encode())
            os._exit(0)
        os.close(write)
        os.waitpid(pid, 0)
        shown.append(os.read(read, 4096).decode())
        os.close(read)
    assert all(
        entry.startswith("True") and "belongs to user root" in entry and "chmod g+rw" in entry for entry in shown
    ), shown
