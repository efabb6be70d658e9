"""The undo of an attempt: whatever ends the attempt, what it started outside the process tree is ended."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from flow_folder import COMMAND, environment, lightflow, status, write

from liteflow.state.history import History

PLUGIN = """
import os
import time
from typing import ClassVar

from lightflow.plugins.base import TaskType


class Remote(TaskType):
    name = "remote"
    schema: ClassVar = {
        "properties": {"how": {"type": "string"}, "tag": {"type": "string"}},
        "required": ["how"],
    }

    def run(self, config, context):
        folder = context.folder
        open(os.path.join(folder, "things", context.mark), "w").write(config.get("tag", ""))
        with open(os.path.join(folder, "marks"), "a") as file:
            file.write(f"{context.mark} {context.key} {context.attempt}\\n")
        if config["how"] == "fail":
            raise ValueError("the remote job failed")
        if config["how"] == "sleep":
            with open(os.path.join(folder, "started"), "a") as file:
                file.write(f"{os.getpid()}\\n")
            while not os.path.exists(os.path.join(folder, "go")):
                time.sleep(0.02)
        os.unlink(os.path.join(folder, "things", context.mark))
        return context.mark

    def undo(self, config, context, handle):
        assert handle is None
        folder = context.folder
        with open(os.path.join(folder, "undone"), "a") as file:
            file.write(f"{context.mark} {config.get('tag')}\\n")
        if os.path.exists(os.path.join(folder, "refuse")):
            raise ConnectionError(f"the server says no to {config.get('tag')}")
        try:
            os.unlink(os.path.join(folder, "things", context.mark))
        except FileNotFoundError:
            pass
"""


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    (tmp_path / "remote.py").write_text(PLUGIN)
    (tmp_path / "things").mkdir()
    return tmp_path


@pytest.fixture
def running(folder: Path) -> Iterator[list[subprocess.Popen[bytes]]]:
    started: list[subprocess.Popen[bytes]] = []
    yield started
    for process in started:
        process.kill()
        process.wait()


def flow(folder: Path, how: str, options: str = "") -> None:
    write(
        folder,
        f"""
        workflow_name: outside
        plugins: [remote.py]
        params: {{tag: {{type: string, default: a thing}}}}
        tasks:
          job:
            type: remote
            how: {how}
            tag: ${{{{ params.tag }}}}
            {options}
        """,
    )


def words(path: Path) -> list[list[str]]:
    return [line.split(" ") for line in path.read_text().splitlines()] if path.exists() else []


def start(folder: Path, running: list[subprocess.Popen[bytes]], *arguments: str) -> subprocess.Popen[bytes]:
    """Start a run, and wait until its task has started what is outside."""
    process = subprocess.Popen(
        [*COMMAND, *arguments],
        cwd=folder,
        env=environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    running.append(process)
    await_true(lambda: (folder / "started").exists() and bool((folder / "started").read_text()))
    return process


def await_true(condition: object, limit_s: float = 120.0) -> None:
    assert callable(condition)
    give_up = time.monotonic() + limit_s
    while not condition():
        assert time.monotonic() < give_up
        time.sleep(0.01)


def guardian_of(process: subprocess.Popen[bytes]) -> int:
    (child,) = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
    return int(child)


def things(folder: Path) -> list[str]:
    return os.listdir(folder / "things")


def due(folder: Path) -> list[tuple[object, ...]]:
    with sqlite3.connect(folder / "lightflow.db") as connection:
        return connection.execute("SELECT task_id, map_index, attempt, problem FROM liteflow_undos").fetchall()


def test_a_success_is_not_undone(folder: Path) -> None:
    flow(folder, "succeed")
    assert lightflow(folder, "run", "flow.yaml").returncode == 0
    assert words(folder / "undone") == []
    assert due(folder) == []


def test_each_failed_attempt_is_undone_by_its_mark(folder: Path) -> None:
    flow(folder, "fail", "retries: 1")
    assert lightflow(folder, "run", "flow.yaml").returncode == 1
    assert things(folder) == []
    (first, second) = words(folder / "marks")
    assert first[0] != second[0], "each attempt has its own mark"
    assert first[1] == second[1], "the key is the same for all"
    assert [row[2] for row in (first, second)] == ["1", "2"]
    assert all(mark.startswith("lf-") and len(mark) == 23 for mark in (first[0], first[1], second[0]))
    assert words(folder / "undone") == [[first[0], "a", "thing"], [second[0], "a", "thing"]]
    assert due(folder) == []


def test_a_timeout_and_a_cancel_are_undone(folder: Path, running: list[subprocess.Popen[bytes]]) -> None:
    flow(folder, "sleep", "timeout: 4")
    assert lightflow(folder, "run", "flow.yaml").returncode != 0
    assert things(folder) == []
    (folder / "started").unlink()
    flow(folder, "sleep")
    process = start(folder, running, "run", "flow.yaml")
    process.send_signal(signal.SIGINT)
    process.wait(timeout=120)
    assert things(folder) == []
    assert len(words(folder / "undone")) == 2
    assert due(folder) == []


def test_the_death_of_a_worker_is_undone(folder: Path, running: list[subprocess.Popen[bytes]]) -> None:
    flow(folder, "sleep")
    process = start(folder, running, "run", "flow.yaml")
    os.kill(int((folder / "started").read_text()), signal.SIGKILL)
    process.wait(timeout=120)
    assert process.returncode == 1
    assert things(folder) == []


def test_the_death_of_the_orchestrator_is_undone(folder: Path, running: list[subprocess.Popen[bytes]]) -> None:
    flow(folder, "sleep")
    process = start(folder, running, "run", "flow.yaml")
    process.kill()
    await_true(lambda: things(folder) == [])
    assert due(folder) == [("job", -1, 1, None)]
    (folder / "go").touch()
    assert lightflow(folder, "resume", "flow.yaml").returncode == 0
    assert due(folder) == []
    first, second = words(folder / "marks")
    assert {row[0] for row in words(folder / "undone")} == {first[0]}, "only the lost attempt"
    assert second[0] != first[0]


def test_the_death_of_the_guardian_is_undone(folder: Path, running: list[subprocess.Popen[bytes]]) -> None:
    flow(folder, "sleep")
    process = start(folder, running, "run", "flow.yaml")
    os.kill(guardian_of(process), signal.SIGKILL)
    await_true(lambda: len(words(folder / "marks")) == 2)  # the attempt is lost, so another one starts
    (first, second) = words(folder / "marks")
    assert things(folder) == [second[0]]
    (folder / "go").touch()
    process.wait(timeout=120)
    assert process.returncode == 0
    assert [row[0] for row in words(folder / "undone")] == [first[0]]
    assert due(folder) == []


def test_the_death_of_both_is_undone_by_the_resume(folder: Path, running: list[subprocess.Popen[bytes]]) -> None:
    flow(folder, "sleep")
    process = start(folder, running, "run", "flow.yaml", "-p", "tag=other")
    guardian = guardian_of(process)
    for pid in (guardian, process.pid):
        os.kill(pid, signal.SIGSTOP)
    for pid in (guardian, process.pid):
        os.kill(pid, signal.SIGKILL)
    process.wait()
    (mark,) = things(folder)
    assert due(folder) == [("job", -1, 1, None)]
    assert f"the undo of job, attempt 1, was not done; what it started may still run under the mark {mark}" in (
        " ".join(lightflow(folder, "doctor").stdout.split())
    )
    (folder / "go").touch()
    assert lightflow(folder, "resume", "flow.yaml").returncode == 0
    assert things(folder) == []
    assert words(folder / "undone") == [[mark, "other"]], "before the next attempt, with the values of the run"
    assert due(folder) == []


def test_a_failing_undo_changes_nothing_and_is_repeated_by_the_next_resume(folder: Path) -> None:
    flow(folder, "fail")
    (folder / "refuse").touch()
    done = lightflow(folder, "run", "flow.yaml")
    assert done.returncode == 1
    assert "warning: job: its undo failed: ConnectionError: the server says no to a thing" in done.stdout
    assert status(folder)["tasks"][0]["status"] == "FAILED"
    assert due(folder) == [("job", -1, 1, "ConnectionError: the server says no to a thing")]
    with History(str(folder / "lightflow.db")) as history:
        events = [event for event in history.events(status(folder)["run_id"]) if event.task_id == "job"]
    assert (events[-1].previous, events[-1].status) == ("FAILED", "FAILED")
    assert events[-1].reason == "the undo of attempt 1 failed: ConnectionError: the server says no to a thing"
    assert "attempt 1, failed: ConnectionError: the server says no" in lightflow(folder, "doctor").stdout
    (folder / "refuse").unlink()
    flow(folder, "succeed")
    assert lightflow(folder, "resume", "flow.yaml").returncode == 0
    assert things(folder) == []
    assert due(folder) == []


def test_a_secret_in_the_message_of_an_undo_is_masked(folder: Path) -> None:
    write(
        folder,
        """
        workflow_name: outside
        plugins: [remote.py]
        secrets: [PASSWORD]
        tasks:
          job: {type: remote, how: fail, tag: "${{ secrets.PASSWORD }}"}
        """,
    )
    (folder / "refuse").touch()
    done = lightflow(folder, "run", "flow.yaml", extra_env={"PASSWORD": "open-sesame-9"})
    assert "its undo failed: ConnectionError: the server says no to ***" in done.stdout
    assert b"open-sesame-9" not in (folder / "lightflow.db").read_bytes()


def test_instances_of_a_mapped_task_and_hooks_are_undone(folder: Path) -> None:
    write(
        folder,
        """
        workflow_name: outside
        plugins: [remote.py]
        tasks:
          each:
            foreach: [x, y]
            type: remote
            how: fail
            tag: ${{ item }}
          other:
            run: exit 1
            on_failure: {type: remote, how: fail, tag: hook}
        """,
    )
    assert lightflow(folder, "run", "flow.yaml").returncode == 1
    assert things(folder) == []
    assert sorted(row[1] for row in words(folder / "undone")) == ["hook", "x", "y"]
    assert due(folder) == []
