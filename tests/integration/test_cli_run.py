"""`run` and `resume` as programs: what they print, exit with and leave behind, on a terminal and elsewhere."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pexpect
import pytest

ROOT = Path(__file__).resolve().parents[2]
COMMAND = [sys.executable, "-m", "lightflow"]
GOOD = "workflow_name: good\ntasks:\n  a: {run: echo one}\n  b: {run: echo two, depends_on: [a]}\n"
BAD = """\
workflow_name: bad
tasks:
  a: {run: echo one}
  b: {run: "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do echo line $i; done; printf '\\\\033[2J'; test -e mended"}
  c: {run: echo three, depends_on: [b]}
"""
#: Says that it runs through a FIFO, so that a test can wait for it instead of for time to pass.
STUCK = "workflow_name: stuck\ntasks:\n  a: {run: echo up > fifo; exec sleep 1000, kill_grace: 1}\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in (("good", GOOD), ("bad", BAD), ("stuck", STUCK)):
        (tmp_path / f"{name}.yaml").write_text(text)
    os.mkfifo(tmp_path / "fifo")
    return tmp_path


def environment(**extra: str) -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTFLOW_")}
    return {**plain, "PYTHONPATH": str(ROOT), **extra}


def lightflow(folder: Path, *arguments: str, **env: str) -> subprocess.CompletedProcess[str]:
    done = subprocess.run(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment(**env),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert "Traceback" not in done.stderr
    return done


def test_success_is_0_and_a_line_each(folder: Path) -> None:
    done = lightflow(folder, "run", "good.yaml")
    assert (done.returncode, done.stderr) == (0, "")
    lines = done.stdout.splitlines()
    assert (lines[1], lines[2].split()[1:3]) == ("a | one", ["a", "SUCCESS"])
    assert (lines[3], lines[4].split()[1:3]) == ("b | two", ["b", "SUCCESS"])
    assert lines[5].startswith("✓ good SUCCESS in ")


def test_failure_is_1_and_shows_the_end_of_the_log(folder: Path) -> None:
    done = lightflow(folder, "run", "bad.yaml", "--quiet")
    assert done.returncode == 1
    assert "line 2\n" not in done.stdout
    assert [f"  │ line {number}" in done.stdout.splitlines() for number in range(4, 13)] == [True] * 9
    assert "\x1b" not in done.stdout
    assert "  logs/task_b_" in done.stdout
    assert done.stdout.splitlines()[-1].endswith("1 succeeded, 1 failed, 1 upstream failed")


def test_resume_keeps_what_succeeded(folder: Path) -> None:
    lightflow(folder, "run", "bad.yaml")
    again = lightflow(folder, "run", "bad.yaml", "--dry-run", "--resume", "--json")
    done = {task["task"]: task["done"] for level in json.loads(again.stdout)["levels"] for task in level}
    assert done == {"a": True, "b": False, "c": False}
    (folder / "mended").touch()
    resumed = lightflow(folder, "resume", "bad.yaml", "--json")
    assert resumed.returncode == 0
    tries = {task["task"]: len(task["attempts"]) for task in json.loads(resumed.stdout)["tasks"]}
    assert tries == {"a": 1, "b": 2, "c": 1}
    nothing = lightflow(folder, "resume", "latest")
    assert (nothing.returncode, nothing.stdout) == (0, "")
    assert "succeeded already" in nothing.stderr


def test_a_run_by_its_id_needs_no_file_name(folder: Path) -> None:
    lightflow(folder, "run", "bad.yaml", "--run-id", "mine")
    (folder / "mended").touch()
    assert lightflow(folder, "resume", "mine").returncode == 0


def test_resume_from_a_checkpoint_where_the_state_file_is_gone(folder: Path) -> None:
    lightflow(folder, "run", "bad.yaml")
    (folder / "lightflow.db").unlink()
    (folder / "mended").touch()
    [saved] = (folder / ".lightflow-checkpoints").iterdir()
    done = lightflow(folder, "resume", "bad.yaml", "--from-checkpoint", str(saved))
    assert done.returncode == 0
    assert " a SUCCESS" not in done.stdout


def test_json_is_all_that_is_on_stdout(folder: Path) -> None:
    done = lightflow(folder, "run", "bad.yaml", "--json")
    run = json.loads(done.stdout)
    assert done.returncode == 1
    assert (run["workflow"], run["status"]) == ("bad", "FAILED")
    assert run["counts"] == {"SUCCESS": 1, "FAILED": 1, "UPSTREAM_FAILED": 1}
    assert run["created_at"].endswith("Z")
    [attempt] = run["tasks"][1]["attempts"]
    assert (attempt["attempt"], attempt["status"], attempt["exit_code"]) == (1, "FAILED", 1)
    assert Path(attempt["log"]).is_file()
    assert "✗ b failed" in done.stderr


@pytest.mark.parametrize("extra", [[], ["--json"]])
def test_a_dry_run_leaves_nothing(folder: Path, extra: list[str]) -> None:
    before = sorted(folder.iterdir())
    done = lightflow(folder, "run", "good.yaml", "--dry-run", *extra)
    assert done.returncode == 0
    assert "echo two" in done.stdout
    assert sorted(folder.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["run", "none.yaml"], 2, "none.yaml: no such file"),
        (["run", "good.yaml", "--mode", "warp"], 2, "error: "),
        (["run", "good.yaml", "-j", "0"], 2, "error: "),
        (["run"], 2, "error: "),
        (["run", "good.yaml", "--run-id", "../x"], 2, "error: "),
        (["resume", "good.yaml"], 3, "error: "),
        (["resume", "nothing"], 3, "error: "),
        (["run", "good.yaml", "--db", "good.yaml"], 3, "error: "),
        (["run", "good.yaml", "--db", "no/such/folder/x.db"], 3, "error: "),
    ],
)
def test_bad_input_is_a_line_and_a_code(folder: Path, arguments: list[str], code: int, message: str) -> None:
    done = lightflow(folder, *arguments)
    assert done.returncode == code, done.stderr
    assert done.stderr.startswith(message)
    assert done.stdout == ""


@pytest.mark.parametrize(
    ("arguments", "named"),
    [
        (["run", "good.yaml", "--mode", "warp"], "--mode"),
        (["run", "good.yaml", "-j", "0"], "-j"),
        (["run"], "FILE"),
        (["run", "good.yaml", "--qiuet"], "--qiuet"),
    ],
)
def test_a_wrong_option_or_argument_is_named(folder: Path, arguments: list[str], named: str) -> None:
    assert named in lightflow(folder, *arguments).stderr.splitlines()[0]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_a_signal_ends_tasks_and_is_reported_by_the_code(folder: Path, number: signal.Signals) -> None:
    process = subprocess.Popen(
        [*COMMAND, "run", "stuck.yaml"], cwd=folder, env=environment(), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    try:
        (folder / "fifo").read_text()  # until the task is up
        process.send_signal(number)
        out, err = process.communicate(timeout=120)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 128 + number
    assert b"INTERRUPTED" in out
    assert f"interrupted by {number.name}".encode() in out
    assert b"lightflow resume stuck.yaml" in out
    assert err == b""


def test_another_process_owns_the_run_and_can_cancel_it(folder: Path) -> None:
    process = subprocess.Popen(
        [*COMMAND, "run", "stuck.yaml", "--quiet"], cwd=folder, env=environment(), stdout=subprocess.DEVNULL
    )
    try:
        (folder / "fifo").read_text()
        owned = lightflow(folder, "resume", "stuck.yaml")
        assert (owned.returncode, owned.stderr.partition(":")[0]) == (4, "error")
        status = json.loads(lightflow(folder, "status", "--json").stdout)
        assert status["status"] == "RUNNING"
        cancelled = lightflow(folder, "cancel", "latest", "--json")
        assert (cancelled.returncode, json.loads(cancelled.stdout)["status"]) == (0, "CANCELLED")
        assert process.wait(timeout=120) == 1
    finally:
        process.kill()
        process.wait()
    again = lightflow(folder, "cancel", "latest")
    assert again.returncode == 2
    assert "has ended already" in again.stderr


def test_a_reader_that_leaves_does_not_stop_the_run(folder: Path) -> None:
    read, write = os.pipe()
    os.close(read)
    with os.fdopen(write, "wb") as closed:
        done = subprocess.run(
            [*COMMAND, "run", "good.yaml"],
            cwd=folder,
            env=environment(),
            stdout=closed,
            stderr=subprocess.PIPE,
            timeout=60,
            check=False,
        )
    assert (done.returncode, done.stderr) == (0, b"")
    assert json.loads(lightflow(folder, "status", "--json").stdout)["status"] == "SUCCESS"


def test_without_any_standard_stream(folder: Path) -> None:
    done = subprocess.run(
        ["sh", "-c", 'exec "$0" -m lightflow run good.yaml <&- >&- 2>&-', sys.executable],
        cwd=folder,
        env=environment(),
        timeout=60,
        check=False,
    )
    assert done.returncode == 0
    assert json.loads(lightflow(folder, "status", "--json").stdout)["counts"] == {"SUCCESS": 2}


def test_debug_reports_every_step(folder: Path) -> None:
    done = lightflow(folder, "run", "good.yaml", "--debug")
    assert "a RUNNING (attempt 1)" in done.stdout
    assert f"state in {folder}/lightflow.db" in done.stdout


def test_the_state_file_of_the_environment(folder: Path) -> None:
    assert lightflow(folder, "run", "good.yaml", LIGHTFLOW_DB="other.db").returncode == 0
    assert (folder / "other.db").exists()
    assert not (folder / "lightflow.db").exists()


@pytest.fixture
def terminal(folder: Path) -> Iterator[pexpect.spawn]:
    child = pexpect.spawn(
        sys.executable,
        ["-m", "lightflow", "run", "stuck.yaml"],
        cwd=str(folder),
        env=environment(TERM="xterm-256color"),
        dimensions=(12, 50),
        encoding="utf-8",
        timeout=30,
    )
    yield child
    child.close(force=True)


def test_on_a_terminal_it_is_painted_and_wiped(folder: Path, terminal: pexpect.spawn) -> None:
    (folder / "fifo").read_text()
    terminal.expect("1 running")
    terminal.sendintr()
    terminal.expect("TASK.*STATE.*ATTEMPTS")
    terminal.expect("INTERRUPTED")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 130


def test_the_painting_keeps_its_hands_off_the_output_of_tasks(folder: Path) -> None:
    os.mkfifo(folder / "go")
    (folder / "threads.yaml").write_text(
        "tasks:\n  a:\n    type: python\n    run: |\n      import sys\n      open('go').read()\n"
        "      print('to stdout')\n      print('to stderr', file=sys.stderr)\n"
    )
    child = pexpect.spawn(
        sys.executable,
        ["-m", "lightflow", "run", "threads.yaml", "--mode", "thread", "--output", "quiet"],
        cwd=str(folder),
        env=environment(TERM="xterm-256color"),
        encoding="utf-8",
        timeout=30,
    )
    try:
        child.expect("1 running")
        (folder / "go").write_text("go")
        child.expect(pexpect.EOF)
    finally:
        child.close(force=True)
    assert "to std" not in (child.before or "")
    [log] = (folder / "logs").iterdir()
    assert log.read_text() == "to stdout\nto stderr\n"
