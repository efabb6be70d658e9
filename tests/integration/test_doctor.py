"""`lightflow doctor`: what it finds, that it changes nothing, and that no file gets the better of it."""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path

import pytest

from lightflow.service.doctor import Finding, exit_code, file_system_finding, file_system_of, run_checks
from liteflow import Dag
from liteflow.processes import tree
from liteflow.state.schema import SCHEMA_VERSION

ROOT = Path(__file__).resolve().parents[2]
ENV = {
    **{name: value for name, value in os.environ.items() if not name.startswith("LIGHTFLOW_")},
    "PYTHONPATH": str(ROOT),
}


def said(db: str) -> dict[str, Finding]:
    return {one.check: one for one in run_checks(db)}


def ran(db: str) -> None:
    with Dag("flow", db) as dag:
        dag.task(lambda: 1, task_id="one")
    dag.run(mode="inline", run_id="first")


def command(*words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "lightflow", "doctor", *words],
        cwd=cwd,
        env=ENV,
        capture_output=True,
        text=True,
        check=False,
    )


def test_a_machine_without_a_state_file(tmp_path: Path) -> None:
    done = command("--json", cwd=tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    answer = json.loads(done.stdout)
    assert answer["ok"] is True
    assert answer["db"] == "lightflow.db"
    checks = {one["check"] for one in answer["findings"]}
    assert {"python", "sqlite", "processes", "disk", "file system", "locks", "state file"} <= checks
    assert os.listdir(tmp_path) == []  # nothing was made


def test_as_text(tmp_path: Path) -> None:
    ran(str(tmp_path / "state.db"))
    done = command("--db", "state.db", cwd=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "intact" in done.stdout
    assert "no run has lost its owner" in done.stdout
    assert f"SQLite {sqlite3.sqlite_version}" in done.stdout
    assert "\x1b" not in done.stdout


def test_the_hazards_of_sqlite_are_told(db: str, monkeypatch: pytest.MonkeyPatch) -> None:
    for version, verdict in [((3, 36, 0), "missing"), ((3, 40, 1), "note"), ((3, 51, 2), "note"), ((3, 51, 3), "fine")]:
        monkeypatch.setattr(sqlite3, "sqlite_version_info", version)
        assert said(db)["sqlite"].severity == verdict


def test_a_sound_file_is_left_as_it_is(db: str) -> None:
    ran(db)
    before = Path(db).read_bytes()
    found = said(db)
    assert found["state file"].severity == "fine"
    assert f"schema {SCHEMA_VERSION} of {SCHEMA_VERSION}" in found["state file"].message
    assert Path(db).read_bytes() == before
    assert not [name for name in os.listdir(os.path.dirname(db)) if "doctor" in name]


@pytest.mark.parametrize("kind", ["text", "folder", "fifo", "device", "foreign", "newer", "damaged", "dangling"])
def test_a_file_with_a_problem(db: str, kind: str) -> None:
    path = Path(db)
    match kind:
        case "text":
            path.write_text("no database at all, and longer than its header\n" * 10)
        case "folder":
            path.mkdir()
        case "fifo":
            os.mkfifo(path)
        case "device":
            path.symlink_to("/dev/zero")
        case "dangling":
            path.symlink_to("nowhere")
        case "foreign":
            with sqlite3.connect(path) as connection:
                connection.execute("CREATE TABLE theirs (x)")
            connection.close()
        case "newer":
            ran(db)
            connection = sqlite3.connect(path)
            connection.execute("PRAGMA user_version=99")
            connection.close()
        case "damaged":
            ran(db)
            connection = sqlite3.connect(path)
            connection.execute("PRAGMA wal_checkpoint(TRUNCATE)")
            connection.close()
            data = bytearray(path.read_bytes())
            for page in range(3, len(data) // 4096):
                data[page * 4096 : page * 4096 + 8] = b"\xff" * 8
            path.write_bytes(data)
    findings = run_checks(db)
    assert exit_code(findings) == 3
    assert [one for one in findings if one.severity == "problem"]
    assert db in next(one.message for one in findings if one.severity == "problem")


def test_an_empty_file_is_no_problem(db: str) -> None:
    Path(db).touch()
    findings = run_checks(db)
    assert exit_code(findings) == 0
    assert said(db)["state file"].severity == "note"


def test_a_run_whose_owner_died_and_what_is_left_of_it(db: str, tmp_path: Path) -> None:
    """The orchestrator and its guardian are both killed, so that nobody ends the task; the doctor finds it."""
    script = tmp_path / "flow.py"
    script.write_text(
        "import subprocess\nfrom liteflow import Dag\n"
        "def long():\n    subprocess.run(['sleep', '300'])\n"
        f"with Dag('flow', {db!r}) as dag:\n    dag.task(long)\n"
        "dag.run(run_id='orphaned')\n"
    )
    process = subprocess.Popen([sys.executable, str(script)], cwd=tmp_path, env=ENV, stdin=subprocess.DEVNULL)
    session = None
    try:
        give_up = time.monotonic() + 120
        while True:
            assert time.monotonic() < give_up
            guardians = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
            if os.path.exists(db):
                try:
                    connection = sqlite3.connect(f"file:{db}?mode=ro", uri=True)
                    row = connection.execute("SELECT owner_session FROM liteflow_dag_runs").fetchone()
                    connection.close()
                except sqlite3.Error:
                    row = None
                session = row[0] if row else None
                if session is not None and tree.find_survivors(session):
                    break
            time.sleep(0.01)
        assert said(db)["runs"].severity == "fine"  # its owner lives
        for pid in (int(guardians[0]), process.pid):
            os.kill(pid, signal.SIGSTOP)
        for pid in (int(guardians[0]), process.pid):
            os.kill(pid, signal.SIGKILL)
        process.wait(120)
        give_up = time.monotonic() + 120
        while said(db)["runs"].severity != "warning":
            assert time.monotonic() < give_up, said(db)["runs"]
            time.sleep(0.02)
        found = said(db)["runs"]
        assert "orphaned" in found.message
        assert "still alive" in found.message
        assert "lightflow resume orphaned" in (found.hint or "")
        assert exit_code(run_checks(db)) == 0
    finally:
        if process.poll() is None:
            process.kill()
            process.wait(120)
        if session is not None:
            tree.sweep_session(session)


def test_file_systems(tmp_path: Path) -> None:
    table = tmp_path / "mountinfo"
    table.write_text(
        "1 0 8:1 / / rw - ext4 /dev/a rw\n"
        "2 1 0:5 / /srv/with\\040blank rw shared:1 - nfs4 host:/x rw\n"
        "3 1 0:6 / /srv rw - tmpfs none rw\n"
        "4 3 0:7 / /srv rw - xfs none rw\n"
        "broken\n\n"
    )
    assert file_system_of("/home/x", str(table)) == "ext4"
    assert file_system_of("/srv/with blank/x", str(table)) == "nfs4"
    assert file_system_of("/srv/without", str(table)) == "xfs"
    assert file_system_of("/srvx", str(table)) == "ext4"
    assert file_system_of("/", str(tmp_path / "nothing")) is None


@pytest.mark.parametrize(
    ("kind", "severity", "words"),
    [
        ("nfs4", "warning", "network"),
        ("tmpfs", "note", "does not survive a restart"),
        ("ext4", "fine", "ext4"),
        (None, "note", "not known"),
    ],
)
def test_the_meaning_of_a_file_system(kind: str | None, severity: str, words: str) -> None:
    finding = file_system_finding(kind)
    assert (finding.check, finding.severity) == ("file system", severity)
    assert words in finding.message


def test_a_folder_that_is_missing(tmp_path: Path) -> None:
    assert exit_code(run_checks(str(tmp_path / "nosuch" / "state.db"))) == 1


def test_the_file_system_of_the_state_file_is_one_of_the_findings(db: str) -> None:
    assert said(db)["file system"] == file_system_finding(file_system_of(os.path.realpath(os.path.dirname(db))))
