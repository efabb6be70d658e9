"""`retry`, `clear --task` and `mark` as programs."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

import pytest
from test_cli_run import COMMAND, environment, lightflow

FLOW = """\
workflow_name: etl
tasks:
  fetch: {foreach: [eu, us], run: "echo ${{ item }} >> trail"}
  load: {run: "test -e mended && echo load >> trail", depends_on: [fetch]}
  report: {run: "echo report >> trail", depends_on: [load]}
  other: {run: "echo other >> trail"}
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "etl.yaml").write_text(FLOW)
    return tmp_path


@pytest.fixture
def failed(folder: Path) -> Path:
    """A folder with a run in which `load` has failed."""
    assert lightflow(folder, "run", "etl.yaml", "-q").returncode == 1
    (folder / "trail").unlink()
    return folder


def trail(folder: Path) -> list[str]:
    """The tasks that have run since the last call."""
    path = folder / "trail"
    words = sorted(path.read_text().split()) if path.exists() else []
    path.unlink(missing_ok=True)
    return words


def shown(folder: Path) -> dict[str, Any]:
    status = lightflow(folder, "status", "--json")
    return {task["task"]: task for task in json.loads(status.stdout)["tasks"]}


def test_retry_runs_what_is_named(failed: Path) -> None:
    (failed / "mended").touch()
    assert lightflow(failed, "retry", "latest", "--only", "fetch[us]", "-q").returncode == 1
    assert trail(failed) == ["us"]
    assert lightflow(failed, "retry", "latest", "--from", "load", "-q").returncode == 0
    assert trail(failed) == ["load", "report"]
    assert lightflow(failed, "retry", "etl.yaml", "--from", "fetch[eu]", "--from", "oth*", "-q").returncode == 0
    assert trail(failed) == ["eu", "load", "other", "report"]


def test_why_says_that_a_retry_did_not_run_a_task_again(failed: Path) -> None:
    (failed / "mended").touch()
    left_out = "the retry did not run it again: it had succeeded before"
    assert lightflow(failed, "retry", "latest", "--from", "load", "-q").returncode == 0
    for task, says_so in (("fetch", True), ("fetch[us]", True), ("other", True), ("load", False), ("report", False)):
        assert (left_out in lightflow(failed, "why", task).stdout) is says_so, task


def test_retry_without_a_choice_is_a_resume(failed: Path) -> None:
    (failed / "mended").touch()
    assert lightflow(failed, "retry", "latest", "--failed", "-q").returncode == 0
    assert trail(failed) == ["load", "report"]
    done = lightflow(failed, "retry", "latest")
    assert (done.returncode, trail(failed)) == (0, [])
    assert "has succeeded already: name the tasks to run again, with --from" in done.stderr


def test_retry_of_what_has_changed(failed: Path) -> None:
    (failed / "mended").touch()
    (failed / "etl.yaml").write_text(FLOW.replace("echo other", "echo another"))
    assert lightflow(failed, "retry", "latest", "--changed", "-q").returncode == 1
    assert trail(failed) == ["another"]
    nothing = lightflow(failed, "retry", "latest", "--changed")
    assert nothing.returncode == 1
    assert "has changed: nothing was run" in nothing.stderr
    assert trail(failed) == []


def test_dry_run_of_a_retry(failed: Path) -> None:
    before = (failed / "lightflow.db").read_bytes()
    done = lightflow(failed, "retry", "latest", "--from", "load", "--dry-run", "--json")
    levels = json.loads(done.stdout)["levels"]
    tasks = {task["task"]: task["done"] for level in levels for task in level}
    assert tasks == {"fetch": True, "load": False, "report": False, "other": True}
    assert (failed / "lightflow.db").read_bytes() == before


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--from", "lod"], "has no task 'lod'; did you mean 'load'?"),
        (["--only", "fetch[jp]"], "has no instance fetch[jp]"),
        (["--only", "report"], "--ignore-upstream"),
        (["--only", "load", "--from", "load"], "give one of --failed, --from, --only"),
        (["--ignore-upstream"], "--ignore-upstream is for --from and --only"),
    ],
)
def test_bad_input_is_2_and_changes_nothing(failed: Path, arguments: list[str], message: str) -> None:
    before = shown(failed)
    done = lightflow(failed, "retry", "latest", *arguments)
    assert done.returncode == 2
    assert message in done.stderr
    assert shown(failed) == before


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["clear", "latest", "--task", "report"], 2, "`retry` with --ignore-upstream"),
        (["fork", "latest", "--from", "load", "--file", "absent.yaml"], 2, "absent.yaml: no such file"),
        (["run", "etl.yaml", "--only", "other", "--values-from", "absent"], 3, "there is no run 'absent'"),
        (["mark", "latest", "lo*d", "success", "--output", "n"], 2, "write NAME=VALUE"),
        (["mark", "latest", "x*", "success"], 2, "has no task 'x*'"),
    ],
)
def test_bad_input_of_the_other_commands_changes_nothing(
    failed: Path, arguments: list[str], code: int, message: str
) -> None:
    before = lightflow(failed, "runs", "--json").stdout
    done = lightflow(failed, *arguments)
    assert (done.returncode, message in done.stderr) == (code, True), done.stderr
    assert lightflow(failed, "runs", "--json").stdout == before


def test_clear_and_mark(failed: Path) -> None:
    cleared = lightflow(failed, "clear", "latest", "--task", "fetch[eu]", "--only")
    assert "pending again: fetch, fetch[0] eu\n" in cleared.stdout
    outputs = ["--output", "rows=7", "--output", "day=today"]
    marked = lightflow(failed, "mark", "latest", "load", "success", *outputs, "--reason", "by hand", "--json")
    answer = json.loads(marked.stdout)
    assert (answer["status"], answer["tasks"]) == ("INTERRUPTED", ["load"])
    assert lightflow(failed, "resume", "latest", "-q").returncode == 0
    assert trail(failed) == ["eu", "report"]
    assert [lightflow(failed, "outputs", "load", "--key", key).stdout.strip() for key in ("rows", "day")] == [
        "7",
        "today",
    ]
    assert "by hand" in lightflow(failed, "status").stdout
    why = lightflow(failed, "why", "load").stdout
    assert "load is SUCCESS: marked by " in why
    assert why.splitlines()[0].endswith(": by hand")


def test_a_mark_holds_no_secret(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cr3t-value")
    (tmp_path / "w.yaml").write_text("secrets: [TOKEN]\ntasks:\n  a: {run: exit 1}\n", encoding="utf-8")
    assert lightflow(tmp_path, "run", "w.yaml", "-q").returncode == 1
    done = lightflow(tmp_path, "mark", "latest", "a", "success", "--output", "token=s3cr3t-value")
    assert done.returncode == 2
    assert "token: the value contains the secret TOKEN" in done.stderr
    reason = ["--reason", "used s3cr3t-value"]
    assert lightflow(tmp_path, "mark", "latest", "a", "success", "--output", "n=1", *reason).returncode == 0
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.name.startswith("lightflow.db"))
    assert b"s3cr3t-value" not in stored
    assert b"used ***" in stored


def test_a_run_that_a_process_executes_is_4_unless_it_is_awaited(tmp_path: Path) -> None:
    (tmp_path / "slow.yaml").write_text(
        "workflow_name: slow\ntasks:\n  a: {run: 'echo a >> trail; echo up > fifo; read x < gate'}\n"
        "  b: {run: echo b >> trail, depends_on: [a]}\n"
    )
    for name in ("fifo", "gate"):
        subprocess.run(["mkfifo", name], cwd=tmp_path, check=True)
    first = subprocess.Popen([*COMMAND, "run", "slow.yaml", "-q"], cwd=tmp_path, env=environment())
    (tmp_path / "fifo").read_text()
    for command in (
        ["retry", "latest", "--only", "b"],
        ["clear", "latest", "--task", "b"],
        ["mark", "latest", "b", "failed"],
    ):
        done = lightflow(tmp_path, *command)
        assert done.returncode == 4
        assert f"is owned by process {first.pid} on " in done.stderr
    again = subprocess.Popen(
        [*COMMAND, "retry", "latest", "--only", "b", "--wait", "-q"], cwd=tmp_path, env=environment()
    )
    assert again.poll() is None
    (tmp_path / "gate").write_text("go\n")
    assert (first.wait(120), again.wait(120)) == (0, 0)
    assert trail(tmp_path) == ["a", "b", "b"]


def test_stale_results_are_shown(failed: Path) -> None:
    (failed / "mended").touch()
    assert lightflow(failed, "resume", "latest", "-q").returncode == 0
    assert all(task["stale"] is None for task in shown(failed).values())
    assert lightflow(failed, "retry", "latest", "--only", "fetch[us]", "-q").returncode == 0
    tasks = shown(failed)
    assert tasks["load"]["stale"].startswith("fetch succeeded at ")
    assert tasks["report"]["stale"] == "load is stale"
    assert tasks["fetch"]["stale"] is tasks["other"]["stale"] is None
    assert "stale: load is stale" in lightflow(failed, "status").stdout
    assert "it is stale: fetch succeeded at" in lightflow(failed, "why", "load").stdout
    assert lightflow(failed, "retry", "latest", "--from", "load", "-q").returncode == 0
    assert all(task["stale"] is None for task in shown(failed).values())


def test_why_says_that_a_failure_is_left_alone(failed: Path) -> None:
    lightflow(failed, "clear", "latest", "--task", "other")
    why = lightflow(failed, "why", "load").stdout
    assert "it stays as it is: only chosen tasks run again, until the run has ended" in why
    (failed / "mended").touch()
    assert lightflow(failed, "resume", "latest", "-q").returncode == 1
    assert trail(failed) == ["other"]
    assert lightflow(failed, "resume", "latest", "-q").returncode == 0
    assert trail(failed) == ["load", "report"]


GROUPS = """\
workflow_name: groups
tasks:
  first: {run: "echo first >> trail"}
  load:
    depends_on: [first]
    tasks:
      fetch: {run: "echo fetch >> trail"}
      check: {run: "echo check >> trail && test -e mended", depends_on: [fetch]}
  last: {run: "echo last >> trail", depends_on: [load]}
"""


def test_groups(tmp_path: Path) -> None:
    (tmp_path / "groups.yaml").write_text(GROUPS)
    assert lightflow(tmp_path, "run", "groups.yaml", "-q").returncode == 1
    assert trail(tmp_path) == ["check", "fetch", "first"]
    (tmp_path / "mended").touch()
    assert lightflow(tmp_path, "retry", "latest", "--only", "load", "-q").returncode == 1
    assert trail(tmp_path) == ["check", "fetch"]
    assert lightflow(tmp_path, "resume", "latest", "-q").returncode == 0
    assert trail(tmp_path) == ["last"]
    assert lightflow(tmp_path, "retry", "latest", "--from", "load", "-q").returncode == 0
    assert trail(tmp_path) == ["check", "fetch", "last"]
    assert lightflow(tmp_path, "retry", "latest", "--from", "load.check", "-q").returncode == 0
    assert trail(tmp_path) == ["check", "last"]
    assert lightflow(tmp_path, "fork", "latest", "--from", "last", "-q").returncode == 0
    assert trail(tmp_path) == ["last"]
    assert lightflow(tmp_path, "run", "groups.yaml", "--only", "load", "-q").returncode == 0
    assert trail(tmp_path) == ["check", "fetch"]
    assert lightflow(tmp_path, "run", "groups.yaml", "--only", "load.check", "-q").returncode == 0
    assert trail(tmp_path) == ["check"]
    assert lightflow(tmp_path, "run", "groups.yaml", "load", "-q").returncode == 0
    assert trail(tmp_path) == ["check", "fetch", "first"]
