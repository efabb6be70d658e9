"""A state file whose tables are not what they seem: views, triggers and others in their place."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import flow_folder
import pytest

from liteflow import Dag
from liteflow.errors import CorruptDatabase
from liteflow.state import schema
from liteflow.state.history import History

ENDLESS = "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n+1 FROM r)"
ALTERED = {
    "a view without end": f"ALTER TABLE liteflow_dag_runs RENAME TO x; "
    f"CREATE VIEW liteflow_dag_runs AS {ENDLESS} SELECT x.* FROM x, r WHERE n < 0;",
    "a view of a table that is rarely read": f"ALTER TABLE liteflow_xcom RENAME TO x; "
    f"CREATE VIEW liteflow_xcom AS {ENDLESS} SELECT x.* FROM x, r WHERE n < 0;",
    "a trigger": f"CREATE TRIGGER mine AFTER INSERT ON liteflow_dag_runs BEGIN "
    f"SELECT count(*) FROM ({ENDLESS} SELECT n FROM r); END;",
    "a trigger on a request": f"CREATE TRIGGER mine AFTER INSERT ON liteflow_requests BEGIN "
    f"INSERT INTO liteflow_events (run_id, status, at) {ENDLESS} SELECT 'r', 'x', n FROM r; END;",
    "another trigger of the same name": "DROP TRIGGER liteflow_attempt_is_final; "
    f"CREATE TRIGGER liteflow_attempt_is_final AFTER INSERT ON liteflow_attempts BEGIN {ENDLESS} SELECT n FROM r; END;",
    "a check": "ALTER TABLE liteflow_events ADD COLUMN more TEXT CHECK (more GLOB '*a*a*a*a*a*a*b');",
    "a generated column": "ALTER TABLE liteflow_dags ADD COLUMN more TEXT AS (hex(zeroblob(100000000)));",
    "a table that is missing": "DROP TABLE liteflow_slots;",
    "a virtual table": "ALTER TABLE liteflow_pools RENAME TO x; "
    "CREATE VIRTUAL TABLE liteflow_pools USING fts5(name, slots);",
}
COMMANDS = [
    ["status"], ["runs"], ["list"], ["why", "a"], ["outputs"], ["logs", "a"], ["pools"], ["doctor"],
    ["dag", "--run", "latest"], ["run", "flow.yaml"], ["resume", "flow.yaml"], ["cancel", "latest"],
]  # fmt: skip


@pytest.mark.parametrize("what", ALTERED)
def test_every_command_refuses_it_at_once(tmp_path: Path, what: str) -> None:
    flow_folder.write(tmp_path, "workflow_name: w\ntasks: {a: {run: 'true'}}\n")
    assert flow_folder.lightflow(tmp_path, "run", "flow.yaml", "-q").returncode == 0
    connection = sqlite3.connect(tmp_path / "lightflow.db")
    connection.executescript(ALTERED[what])
    connection.close()
    with pytest.raises(
        CorruptDatabase, match=r"lightflow\.db: its tables are not those of Lightflow \((liteflow_|a trigger of )"
    ):
        History(str(tmp_path / "lightflow.db"))
    for words in COMMANDS if what in ("a view without end", "a trigger") else COMMANDS[:1] + COMMANDS[-3:-2]:
        done = flow_folder.lightflow(tmp_path, *words)
        assert done.returncode == 3, (words, done.stdout, done.stderr)


def test_tables_that_users_add_are_ignored(tmp_path: Path) -> None:
    """An index, a report and a table of their own; and what SQLite adds by itself."""
    flow_folder.write(tmp_path, "workflow_name: w\ntasks: {a: {run: 'true'}}\n")
    assert flow_folder.lightflow(tmp_path, "run", "flow.yaml", "-q").returncode == 0
    connection = sqlite3.connect(tmp_path / "lightflow.db")
    connection.executescript(
        "CREATE INDEX by_time ON liteflow_events (at); CREATE VIEW report AS SELECT count(*) FROM liteflow_dag_runs; "
        "CREATE TABLE notes (text); ANALYZE; VACUUM;"
    )
    connection.close()
    for words in COMMANDS[:-1]:
        done = flow_folder.lightflow(tmp_path, *words)
        assert done.returncode in (0, 2), (words, done.stderr)


def test_a_check_of_a_foreign_table_is_not_evaluated_by_the_doctor(tmp_path: Path) -> None:
    with Dag("flow", str(tmp_path / "lightflow.db")) as dag:
        dag.task(lambda: 1, task_id="a")
    dag.run(mode="inline")
    connection = sqlite3.connect(tmp_path / "lightflow.db")
    connection.execute("CREATE TABLE mine (a TEXT)")
    connection.execute("INSERT INTO mine VALUES (?)", ("a" * 5_000,))
    connection.execute("PRAGMA writable_schema=ON")
    glob = "*".join("a" * 40)
    connection.execute(
        "UPDATE sqlite_schema SET sql=? WHERE name='mine'", (f"CREATE TABLE mine (a TEXT CHECK (a GLOB '*{glob}*b'))",)
    )
    connection.commit()
    connection.close()
    assert flow_folder.lightflow(tmp_path, "doctor").returncode == 0


@pytest.mark.parametrize("version", range(1, schema.SCHEMA_VERSION + 1))
def test_the_shape_that_is_expected_is_the_one_that_sqlite_makes(version: int) -> None:
    connection = sqlite3.connect(":memory:", isolation_level=None)
    for script in schema.MIGRATIONS[:version]:
        for statement in schema._statements(script):
            connection.execute(statement)
    rows = connection.execute("SELECT type, name, tbl_name, sql FROM sqlite_schema").fetchall()
    connection.close()
    assert schema.difference(version, rows) is None
    assert schema.difference(version, [*rows, ("index", "by_time", "liteflow_events", "CREATE INDEX …")]) is None
    assert schema.difference(version, rows[1:]) == "liteflow_dags is missing"
