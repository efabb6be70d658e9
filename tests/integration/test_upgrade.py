"""State files that earlier versions wrote: they are read as they are, and upgraded by the first process that writes."""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
from pathlib import Path
from typing import Any

import pytest

from liteflow import Dag, StoreError, init_schema
from liteflow.state import schema
from liteflow.state.history import History

DATA = Path(__file__).resolve().parent.parent / "data" / "state"
OLD = range(1, schema.SCHEMA_VERSION)
TABLES = ("dags", "graphs", "dag_runs", "task_instances", "attempts", "xcom", "events", "requests")

pytestmark = pytest.mark.alters_rows("earlier versions stored no events of a reset")


@pytest.fixture
def old(tmp_path: Path, request: pytest.FixtureRequest) -> str:
    """A copy of the state file of an earlier schema."""
    path = tmp_path / "old.db"
    shutil.copyfile(DATA / f"schema_{request.param}.db", path)
    path.chmod(0o600)
    return str(path)


def each_version(argument: str = "old") -> Any:
    return pytest.mark.parametrize(argument, OLD, indirect=True, ids=[f"schema {version}" for version in OLD])


def rows(path: str) -> dict[str, list[dict[str, Any]]]:
    """All rows of the first schema's tables, by table."""
    connection = sqlite3.connect(path)
    connection.row_factory = sqlite3.Row
    try:
        return {
            table: sorted(map(dict, connection.execute(f"SELECT * FROM liteflow_{table}")), key=str) for table in TABLES
        }
    finally:
        connection.close()


def version_of(path: str) -> int:
    connection = sqlite3.connect(path)
    try:
        return int(connection.execute("PRAGMA user_version").fetchone()[0])
    finally:
        connection.close()


def facts(path: str) -> dict[str, Any]:
    """What a reader is told of an old file in fields that did not exist when it was written."""
    with History(path) as history:
        runs = {run.run_id: run for run in history.runs()}
        return {
            "runs": {run_id: (run.status, run.timed_out) for run_id, run in runs.items()},
            "tolerated": [each.task_id for run_id in runs for each in history.instances(run_id) if each.tolerated],
            "kinds": {each.task_id: each.kind for run_id in runs for each in history.hooks(run_id)},
            "tasks": sorted({each.kind for run_id in runs for each in history.instances(run_id)}),
        }


FACTS = {
    1: {
        "runs": {"failed": ("FAILED", False), "killed": ("INTERRUPTED", False)},
        "tolerated": [],
        "kinds": {},
        "tasks": ["task"],
    },
    2: {
        "runs": {"failed": ("FAILED", False), "timed-out": ("FAILED", True), "killed": ("INTERRUPTED", False)},
        "tolerated": ["check"],
        "kinds": {
            "fetch.on_success": "hook",
            "guarded.precondition_1": "precondition",
            "on_failure": "hook",
            "resize.on_failure": "hook",
            "work.on_start": "hook",
        },
        "tasks": ["task"],
    },
}


@each_version()
def test_it_is_read_without_a_change_and_equal_after_an_upgrade(old: str) -> None:
    version, before = version_of(old), Path(old).read_bytes()
    wanted = FACTS[version] | ({"runs": {**FACTS[2]["runs"], "timed-out": ("FAILED", False)}} if version == 2 else {})
    assert facts(old) == wanted, "that a run timed out is stored from schema 3 on"
    assert Path(old).read_bytes() == before
    init_schema(old)
    assert version_of(old) == schema.SCHEMA_VERSION
    assert facts(old) == FACTS[version]
    assert version_of(f"{old}.v{version}.bak") == version


@each_version()
def test_an_upgrade_keeps_every_value_of_every_row(old: str) -> None:
    before = rows(old)
    init_schema(old)
    after = rows(old)
    renamed = {"told": "hook_events"}
    for table in TABLES:
        columns = before[table][0].keys() if before[table] else ()
        same = [{column: row[renamed.get(column, column)] for column in columns} for row in after[table]]
        assert sorted(same, key=str) == before[table], table


@each_version()
def test_a_run_that_an_earlier_version_left_is_resumed(old: str) -> None:
    names = ("a", "b", "c") if version_of(old) == 1 else ("open", "work", "close")
    with Dag("long", old) as dag:
        first, second, third = (dag.task(lambda: 1, task_id=name) for name in names)
        first >> second >> third
    run = dag.resume("killed", mode="inline")
    assert run.status == "SUCCESS"
    with History(old) as history:
        attempts = [(each.task_id, each.attempt, each.status) for each in history.attempts("killed", names[1])]
        assert attempts == [(names[1], 1, "LOST"), (names[1], 2, "SUCCESS")]
        assert [each.attempt for each in history.attempts("killed", names[0])] == [1], "it is not run again"


@pytest.mark.parametrize("version", OLD)
def test_a_process_that_is_killed_within_the_upgrade_leaves_the_old_file_or_the_new_one(
    tmp_path: Path, version: int
) -> None:
    point, died = 0, True
    while died:
        folder = tmp_path / str(point)
        folder.mkdir()
        path = str(folder / "old.db")
        shutil.copyfile(DATA / f"schema_{version}.db", path)
        died = _upgrade_until(path, point)
        assert version_of(path) in (version, schema.SCHEMA_VERSION)
        backup = f"{path}.v{version}.bak"
        if version_of(path) == version and os.path.exists(backup):
            with pytest.raises(StoreError, match="is in the way of the backup"):
                init_schema(path)
            os.remove(backup)
        init_schema(path)
        assert version_of(path) == schema.SCHEMA_VERSION
        assert facts(path) == FACTS[version]
        point += 1
    statements = [text for script in schema.MIGRATIONS[version:] for text in schema._statements(script)]
    assert point > len(statements), "each statement of the upgrade was a point"


def _upgrade_until(path: str, point: int) -> bool:
    """Upgrade a file in a process that is killed at its statement number `point`. Return whether it came so far."""
    pid = os.fork()
    if pid == 0:  # a real death: no rollback is run
        with contextlib.suppress(BaseException):
            connection = sqlite3.connect(path, isolation_level=None)
            count = 0

            def trace(sql: str) -> None:
                nonlocal count
                if sql.lstrip().startswith(("CREATE", "ALTER", "DROP", "UPDATE", "BEGIN", "COMMIT", "PRAGMA user")):
                    if count == point:
                        os.kill(os.getpid(), 9)
                    count += 1

            connection.set_trace_callback(trace)
            schema.migrate(connection, path)
            connection.close()
        os._exit(0)
    _, status = os.waitpid(pid, 0)
    return os.WIFSIGNALED(status)
