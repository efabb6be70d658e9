"""A server at work: started as a process, read line by line, ended by its pid."""

from __future__ import annotations

import os
import re
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
COMMAND = [sys.executable, "-m", "lightflow"]


def environment(first_path: str = "") -> dict[str, str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTFLOW_")}
    path = os.pathsep.join([*([first_path] if first_path else []), str(ROOT)])
    return {**plain, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}


def start(folder: Path, *arguments: str, ui: bool = False, first_path: str = "") -> subprocess.Popen[str]:
    """Start `lightflow serve --no-ui` there, or without that; its output is in `server.log`.

    Modules in the folder `first_path` come before all others.
    """
    with open(folder / "server.log", "ab") as log:
        return subprocess.Popen(
            [*COMMAND, "serve", *([] if ui else ["--no-ui"]), *arguments],
            cwd=folder, env=environment(first_path), stdin=subprocess.DEVNULL, stdout=log, stderr=log, text=True,
            start_new_session=True,
        )  # fmt: skip


@contextmanager
def serving(folder: Path, *arguments: str) -> Iterator[subprocess.Popen[str]]:
    """A server that has read its files; it is ended at the end."""
    before = (folder / "server.log").read_text() if (folder / "server.log").exists() else ""
    server = start(folder, *arguments)
    try:
        until(lambda: "serves " in log(folder)[len(before) :], server)
        yield server
    finally:
        end(server)
    assert "Traceback" not in log(folder), log(folder)


def end(server: subprocess.Popen[str], number: int = signal.SIGTERM) -> int:
    """End a server and return its exit code."""
    if server.poll() is None:
        server.send_signal(number)
    return server.wait(120)


def log(folder: Path) -> str:
    return (folder / "server.log").read_text()


def until(condition: Callable[[], Any], server: subprocess.Popen[str] | None = None, limit_s: float = 60.0) -> Any:
    """Wait for a condition and return its value."""
    give_up = time.monotonic() + limit_s
    while not (value := condition()):
        assert time.monotonic() < give_up, "it did not happen in time"
        assert server is None or server.poll() is None, "the server has ended"
        time.sleep(0.02)
    return value


def rows(folder: Path, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
    """Return rows of the state file; none before it exists."""
    path = folder / "lightflow.db"
    if not path.exists():
        return []
    connection = sqlite3.connect(f"file:{path}?mode=ro", uri=True, timeout=30)
    try:
        return connection.execute(sql, parameters).fetchall()
    except sqlite3.OperationalError as error:
        if "no such table" in str(error):
            return []
        raise
    finally:
        connection.close()


def fires(folder: Path, trigger_id: str) -> list[tuple[Any, ...]]:
    """Return the fires of a trigger: status, run, reason, parameters, key."""
    sql = "SELECT status, run_id, reason, params, key FROM liteflow_fires WHERE trigger_id=? ORDER BY fire_no"
    return rows(folder, sql, trigger_id)


def runs(folder: Path, dag_id: str) -> list[tuple[Any, ...]]:
    """Return the runs of a workflow: id, status, logical date, parameters."""
    sql = "SELECT run_id, status, logical_date, params FROM liteflow_dag_runs WHERE dag_id=? ORDER BY run_no"
    return rows(folder, sql, dag_id)


def children(pid: int) -> list[int]:
    """Return the child processes of all threads of a process."""
    texts = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/children")]
    return [int(word) for text in texts for word in text.split()]


def starter_of(server: subprocess.Popen[str]) -> int:
    """Return the pid of the starter of a server."""
    return int(until(lambda: children(server.pid), server)[0])


def is_running(pid: int) -> bool:
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return False
    return state != "Z"


def processes_of(folder: Path) -> list[int]:
    """Return the processes that work in a folder."""
    found = []
    for entry in os.listdir("/proc"):
        if re.fullmatch(r"\d+", entry):
            try:
                if os.readlink(f"/proc/{entry}/cwd") == str(folder) and is_running(int(entry)):
                    found.append(int(entry))
            except OSError:
                continue
    return found
