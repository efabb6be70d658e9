"""Mistakes in the keys of a task of type `sql` are reported with their place, before anything runs."""

# ruff: noqa: E501 - workflow files

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from lightflow.errors import WorkflowError
from lightflow.parser.workflow_loader import loads_workflow
from lightflow.plugins.sql_task import SqlTask
from lightflow.sql.addresses import address_of, clear_password

HEAD = "secrets: {DB: {from: env}}\nparams: {day: x}\ntasks:\n  a:\n    type: sql\n"


def problems(keys: str, connection: str = "sqlite:///a.db") -> list[str]:
    text = f"{HEAD}    connection: {connection}\n{keys}"
    try:
        loads_workflow(text, "w.yaml")
    except WorkflowError as error:
        return [str(problem) for problem in error.problems]
    return []


@pytest.mark.parametrize(
    ("keys", "expected"),
    [
        ("    sql: SELECT 1\n    file: a.sql\n", 'needs either "sql" (the statements) or "file"'),
        ("", 'needs either "sql" (the statements) or "file"'),
        ("    sql: SELECT :day\n", "w.yaml:7:10: tasks.a.sql: the parameter :day has no value"),
        ("    sql: |\n      SELECT 1;\n      SELECT 2, 'a\n", "w.yaml:9:17: tasks.a.sql: the quote ' is not closed"),
        ("    sql: |\n      SELECT '${{ params.day }}', :b\n    params: {b: 1}\n", "w.yaml:8:15: tasks.a.sql: an expression"),
        ("    sql: |\n      SELECT ${{ params.day }};\n      SELECT 1 -- ${{ params.day }}\n", "w.yaml:9:19: "),
        ("    sql: SELECT 1 -- :day\n    params: {day: 1}\n", "the text has no parameter :day"),
        ("    sql: |\n      BEGIN;\n      SELECT 1\n", "w.yaml:8:7: tasks.a.sql: the task begins and commits by itself"),
        ("    sql: ' -- nothing'\n", "the text has no statement"),
        ('    sql: "SELECT \\0"\n', "NUL"),
        ("    sql: SELECT 1\n    save: rows.txt\n", "the name of the file must end with .csv, .jsonl, .parquet"),
        ("    sql: SELECT 1\n    save: rows.parquet\n", "only DuckDB writes .parquet"),
        ("    sql: SELECT 1\n    extensions: [httpfs]\n", "only DuckDB has these extensions"),
        ("    sql: SELECT 1\n    once: true\n    transaction: each\n", "w.yaml:8:11: tasks.a.once: needs `transaction: true`"),
        ("    sql: SELECT 1\n    rows: first\n", "tasks.a.rows"),
        ("    sql: SELECT 1\n    max_rows: 0\n", "tasks.a.max_rows"),
        ("    sql: SELECT 1\n    transaction: all\n", "tasks.a.transaction"),
        ("    sql: SELECT 1\n    rows: ${{ params.day }}\n", "tasks.a.rows"),
        ("    sql: SELECT ${{ params.day | ident | upper }}\n", "ident must be the last filter"),
        ("    sql: SELECT :a\n    params: {a: '${{ params.day | ident }}'}\n", "ident is for the text of SQL"),
        ("    sql: SELECT 1\n    query: x\n", 'unknown key "query"'),
    ],
)  # fmt: skip
def test_a_mistake_in_the_keys(keys: str, expected: str) -> None:
    found = problems(keys)
    assert [text for text in found if expected in text], found
    assert len(found) == 1, found


@pytest.mark.parametrize(
    ("connection", "expected"),
    [
        ("oracle://host/db", "oracle://, and there are postgresql://"),
        ("just-a-name", 'no connection "just-a-name"; declare it under `connections`'),
        ("postgresql://me:hunter2@host/db", "a password in clear is not allowed"),
        ("postgresql://host/db?password=hunter2", "a password in clear is not allowed"),
        ("sqlite://file.db", "after three slashes"),
        ("sqlite:///file.db?mode=ro", "takes no options"),
        ("postgresql://host:99999999/db", "not an address"),
    ],
)
def test_a_mistake_in_the_connection(connection: str, expected: str) -> None:
    [text] = problems("    sql: SELECT 1\n", connection)
    assert "w.yaml:6:17: tasks.a.connection: " in text
    assert expected in text
    assert "hunter2" not in text


@pytest.mark.parametrize(
    "connection",
    ["${{ secrets.DB }}", "postgresql://me:${{ secrets.DB }}@host/db", "duckdb:///:memory:", "mariadb://host/db"],
)
def test_a_connection_that_is_right(connection: str) -> None:
    keys = "    sql: SELECT * FROM ${{ params.day | ident }} WHERE a = ${{ params.day }} AND b IN (:b)\n"
    assert problems(f"{keys}    params: {{b: [1, 2]}}\n", f'"{connection}"') == []


def test_bodies_of_routines_are_not_divided() -> None:
    body = "    sql: |\n      CREATE PROCEDURE p() BEGIN SELECT 1; SELECT 2; END\n"
    assert "`split: false`" in problems(body, "mysql://host/db")[0]
    assert problems(f"{body}    split: false\n", "mysql://host/db") == []
    assert "DELIMITER" in problems("    sql: |\n      DELIMITER //\n      SELECT 1\n", "mysql://host/db")[0]
    trigger = "    sql: CREATE TRIGGER t AFTER INSERT ON a BEGIN SELECT 1; SELECT 2; END; SELECT 3\n"
    assert problems(trigger) == []
    assert problems("    sql: CREATE FUNCTION f() RETURNS int AS $$ BEGIN RETURN 1; END $$\n", "postgres://h/d") == []


def test_a_mistake_counts_only_where_every_database_sees_it() -> None:
    """The database of a secret address is not known before the run."""
    assert problems(r"    sql: SELECT 'a\' AS b" + "\n", "${{ secrets.DB }}") == []
    assert problems("    sql: SELECT 'a\n", "${{ secrets.DB }}") != []


def test_checks_load_no_driver() -> None:
    before = set(sys.modules)
    problems("    sql: SELECT 1\n", "postgresql://host/db")
    assert not {"psycopg", "pymysql", "duckdb"} & (set(sys.modules) - before)


def test_the_parts_of_an_address(tmp_path: Path) -> None:
    address = address_of("postgres://u%40x:p%2F@[::1]:5433/my%20db?sslmode=require&host=%2Ftmp", "/")
    assert (address.scheme, address.user, address.password, address.host) == ("postgresql", "u@x", "p/", "::1")
    assert (address.port, address.database) == (5433, "my db")
    assert address.options == {"sslmode": "require", "host": "/tmp"}
    assert address.shown == "::1:5433/my db"
    assert address_of("sqlite:///a/../b.db", str(tmp_path)).database == f"{tmp_path}/b.db"
    assert address_of("sqlite:////srv/b.db", str(tmp_path)).database == "/srv/b.db"
    assert address_of("duckdb:///:memory:", str(tmp_path)).database == ":memory:"
    assert not clear_password("postgresql://me@host/db")
    assert not clear_password("postgresql://me:${{ secrets.PW }}@host/db")


def test_warnings_about_transactions_that_do_not_undo_everything() -> None:
    def hints(keys: dict[str, object]) -> list[str]:
        return [hint.message for hint in SqlTask().hints(keys)]

    mysql = "mysql://host/db"
    assert hints({"connection": mysql, "sql": "INSERT INTO a VALUES (1); SELECT 1"}) == []
    [message] = hints({"connection": mysql, "sql": "INSERT INTO a VALUES (1); DROP TABLE a"})
    assert "commit at DROP" in message
    assert hints({"connection": "sqlite:///a.db", "sql": "DROP TABLE a"}) == []
    [message] = hints({"connection": mysql, "sql": "DROP TABLE a", "transaction": "each", "retries": 2})
    assert "`retries` repeats it" in message
