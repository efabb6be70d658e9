"""Statements run on four real databases, in one transaction that is committed last."""

from __future__ import annotations

import csv
import json
import socket
import threading
import uuid
from contextlib import suppress
from pathlib import Path
from typing import Any

import pytest
import sql_servers
from sql_servers import SqlServer

from lightflow.spec.model import Identifier
from lightflow.sql.addresses import address_of
from lightflow.sql.databases import ConnectionOptions
from lightflow.sql.execution import COMMIT_UNKNOWN, SqlJob, SqlResult, execute
from liteflow import TaskFailed
from liteflow.api import replace

DATABASES = ["sqlite", "duckdb", "postgresql", "mysql"]


@pytest.fixture(params=DATABASES)
def url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """The address of a database of each kind."""
    if request.param in ("sqlite", "duckdb"):
        if request.param == "duckdb":
            pytest.importorskip("duckdb")
        return f"{request.param}:///{tmp_path}/file.db"
    server: SqlServer = request.getfixturevalue(request.param)
    return server.url


@pytest.fixture
def table() -> str:
    return f"t{uuid.uuid4().hex[:12]}"


def job(url: str, text: str, **fields: Any) -> SqlJob:
    return SqlJob(text=text, address=address_of(url, "/"), **{"options": ConnectionOptions(), **fields})


def run(url: str, text: str, **fields: Any) -> SqlResult:
    return execute(job(url, text, **fields))


def failure(url: str, text: str, **fields: Any) -> TaskFailed:
    with pytest.raises(TaskFailed) as caught:
        run(url, text, **fields)
    assert "\n" not in str(caught.value)
    assert sql_servers.TOKEN not in str(caught.value)
    return caught.value


def test_several_statements_and_the_rows_of_the_last(url: str, table: str) -> None:
    run(url, f"CREATE TABLE {table} (day VARCHAR(20), n INTEGER)")
    text = f"""
        INSERT INTO {table} VALUES (:day, 1), (:day, 2); -- it's; two rows
        INSERT INTO {table} VALUES (\0, :n);
        SELECT day, n FROM {table} WHERE n IN (:ids) ORDER BY n;
        UPDATE {table} SET n = n WHERE n = 2
    """
    params = {"day": "2026-'\\%s", "n": None, "ids": [1, 2, 9]}
    result = run(url, text, params=params, values=("x;",))
    assert result.value == [{"day": "2026-'\\%s", "n": 1}, {"day": "2026-'\\%s", "n": 2}]
    assert result.outputs == {"row_count": 2, "columns": ["day", "n"], "statements": 4}
    assert run(url, f"SELECT count(*) FROM {table}", rows="value").value == 3
    assert run(url, f"SELECT n FROM {table} WHERE n = 1", rows="one").value == {"n": 1}
    assert run(url, "SELECT max(n) AS n FROM \0", values=(Identifier(table),), rows="one").value == {"n": 2}
    assert run(url, f"SELECT n FROM {table} WHERE n = 99", rows="one").value is None
    assert run(url, f"SELECT n FROM {table}", rows="none").value is None
    assert run(url, f"DELETE FROM {table}").outputs["row_count"] == 3


def test_a_failure_undoes_all_statements(url: str, table: str) -> None:
    run(url, f"CREATE TABLE {table} (n INTEGER PRIMARY KEY)")
    error = failure(url, f"INSERT INTO {table} VALUES (1);\n\nINSERT INTO {table} VALUES (1)")
    assert "statement 2 (line 3)" in str(error)
    assert error.final
    assert error.codes
    assert run(url, f"SELECT count(*) FROM {table}", rows="value").value == 0
    each = job(url, f"INSERT INTO {table} VALUES (1); INSERT INTO {table} VALUES (1)", transaction="each")
    with pytest.raises(TaskFailed):
        execute(each)
    assert run(url, f"SELECT count(*) FROM {table}", rows="value").value == 1


def test_an_error_of_the_database_has_a_code_and_is_final(url: str) -> None:
    error = failure(url, "SELECT * FROM no_such_table_here")
    assert "no_such_table_here" in str(error)
    assert error.final
    assert {"sqlstate:42P01", "sqlstate:42S02", "sqlite:error", "duckdb:catalog"} & set(error.codes)


def test_more_rows_than_max_rows_are_an_error(url: str, table: str) -> None:
    run(url, f"CREATE TABLE {table} (n INTEGER)")
    run(url, f"INSERT INTO {table} VALUES (1), (2), (3)")
    assert len(run(url, f"SELECT n FROM {table}", max_rows=3).value) == 3
    error = failure(url, f"SELECT n FROM {table}", max_rows=2)
    assert "3 rows" in str(error)
    assert "max_rows: 2" in str(error)
    assert "`rows: one`" in str(failure(url, f"SELECT n FROM {table}", rows="one"))
    assert "2 columns" in str(failure(url, "SELECT 1 AS a, 2 AS b", rows="value"))
    assert "'a'" in str(failure(url, "SELECT 1 AS a, 2 AS a", save=None))
    assert "no statement has rows" in str(failure(url, f"DELETE FROM {table}", rows="all"))


@pytest.mark.parametrize("end", [".csv", ".jsonl"])
def test_rows_are_saved_to_a_file(url: str, table: str, tmp_path: Path, end: str) -> None:
    path = tmp_path / "new" / f"rows{end}"
    run(url, f"CREATE TABLE {table} (n INTEGER, a VARCHAR(20))")
    run(url, f"INSERT INTO {table} VALUES (1, 'x,\"y'), (2, NULL), (3, 'é')")
    result = run(url, f"SELECT n, a FROM {table} ORDER BY n", save=str(path), max_rows=1)
    assert result.value is None
    assert result.outputs["row_count"] == 3
    assert result.outputs["file"] == str(path)
    with path.open(encoding="utf-8", newline="") as lines:
        if end == ".csv":
            assert list(csv.reader(lines)) == [["n", "a"], ["1", 'x,"y'], ["2", ""], ["3", "é"]]
        else:
            assert [json.loads(line) for line in lines] == [
                {"n": 1, "a": 'x,"y'}, {"n": 2, "a": None}, {"n": 3, "a": "é"}
            ]  # fmt: skip
    failure(url, f"SELECT n FROM {table}; SELECT * FROM no_such_table", save=str(path))
    assert (
        result.outputs["sha256"] == run(url, f"SELECT n, a FROM {table} ORDER BY n", save=str(path)).outputs["sha256"]
    )
    assert [entry.name for entry in path.parent.iterdir()] == [path.name]


def test_parquet_with_duckdb(tmp_path: Path) -> None:
    pytest.importorskip("duckdb")
    path = tmp_path / "rows.parquet"
    text = "CREATE TABLE t AS SELECT range AS n FROM range(1000); SELECT n, n * 2 AS m FROM t WHERE n >= :low"
    result = run("duckdb:///:memory:", text, params={"low": 10}, save=str(path))
    assert result.outputs["row_count"] == 990
    assert result.outputs["columns"] == ["n", "m"]
    count = run(
        "duckdb:///:memory:", "SELECT sum(m) FROM read_parquet(:path)", params={"path": str(path)}, rows="value"
    )
    assert int(count.value) == 2 * (sum(range(1000)) - sum(range(10)))


def test_read_only_connections_cannot_write(url: str, table: str) -> None:
    run(url, f"CREATE TABLE {table} (n INTEGER)")
    options = ConnectionOptions(read_only=True)
    assert run(url, f"SELECT count(*) FROM {table}", options=options, rows="value").value == 0
    failure(url, f"INSERT INTO {table} VALUES (1)", options=options)
    assert run(url, f"SELECT count(*) FROM {table}", rows="value").value == 0


def test_once_has_its_effect_once(url: str, table: str) -> None:
    run(url, f"CREATE TABLE {table} (n INTEGER)")
    text = f"INSERT INTO {table} VALUES (1); SELECT count(*) AS n FROM {table}"
    first = run(url, text, once_key=table)
    assert first.value == [{"n": 1}]
    assert run(url, text, once_key=table) == first
    assert run(url, f"SELECT count(*) FROM {table}", rows="value").value == 1
    failure(url, f"INSERT INTO {table} VALUES (2); SELECT * FROM no_such_table", once_key=f"{table}-2")
    assert run(url, text, once_key=f"{table}-2").value == [{"n": 2}], "a failed attempt leaves no mark"


def test_parameters_that_are_missing_or_not_used(url: str) -> None:
    assert ":day has no value" in str(failure(url, "SELECT :day"))
    assert "no parameter :day" in str(failure(url, "SELECT 1 -- :day", params={"day": 1}))
    assert "has no statement" in str(failure(url, " ; -- nothing\n"))
    assert "line 2" in str(failure(url, "SELECT 1;\nSELECT 'a"))
    assert "empty list" in str(failure(url, "SELECT 1 WHERE 1 IN (:ids)", params={"ids": []}))


@pytest.mark.parametrize("name", ["postgresql", "mysql"])
def test_a_connection_that_ends_during_commit(name: str, request: pytest.FixtureRequest, table: str) -> None:
    """Whether the commit took effect is unknown, and only `once` finds out."""
    server: SqlServer = request.getfixturevalue(name)
    run(server.url, f"CREATE TABLE {table} (n INTEGER)")
    with cutting_proxy(server.port) as port:
        text = f"INSERT INTO {table} VALUES (1)"
        error = failure(server.url_at(port), text)
        assert COMMIT_UNKNOWN in error.codes
        assert error.final
        again = job(server.url_at(port), text, once_key=table)
        with pytest.raises(TaskFailed) as caught:
            execute(again)
        assert COMMIT_UNKNOWN in caught.value.codes
        assert not caught.value.final
    execute(replace(again, address=address_of(server.url, "/")))
    assert run(server.url, f"SELECT count(*) FROM {table}", rows="value").value == 2


def test_a_server_that_does_not_answer_is_tried_again() -> None:
    port = sql_servers.free_port()
    for scheme in ("postgresql", "mysql"):
        error = failure(f"{scheme}://user:{sql_servers.TOKEN}@127.0.0.1:{port}/db", "SELECT 1")
        assert not error.final
        assert any(code.startswith("sqlstate:08") for code in error.codes)
        assert f"127.0.0.1:{port}/db: connect" in str(error)


def test_a_wrong_password(postgresql: SqlServer, mysql: SqlServer) -> None:
    error = failure(mysql.url.replace(sql_servers.TOKEN, "wrong"), "SELECT 1")
    assert error.final
    assert "sqlstate:28000" in error.codes
    error = failure(postgresql.url.replace(sql_servers.TOKEN, "wrong"), "SELECT 1")
    assert error.codes == ("sqlstate:08006",), "libpq does not say why a connection was refused"


class cutting_proxy:  # noqa: N801 - a context manager
    """A proxy that passes on a COMMIT, and then ends the connection before the answer."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self._threads: list[threading.Thread] = []
        self._ends: list[socket.socket] = []

    def __enter__(self) -> int:
        thread = threading.Thread(target=self._accept, daemon=True)
        thread.start()
        self._threads.append(thread)
        return int(self._listener.getsockname()[1])

    def __exit__(self, *error: object) -> None:
        self._listener.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(120)
        for end in (self._listener, *self._ends):
            end.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            server = socket.create_connection(("127.0.0.1", self._port))
            self._ends += [client, server]
            cut = threading.Event()
            for source, target in ((client, server), (server, client)):
                thread = threading.Thread(
                    target=self._pass_on, args=(source, target, source is client, cut), daemon=True
                )
                thread.start()
                self._threads.append(thread)

    def _pass_on(self, source: socket.socket, target: socket.socket, is_client: bool, cut: threading.Event) -> None:
        with suppress(OSError):
            while data := source.recv(65536):
                if is_client and b"COMMIT" in data:
                    cut.set()
                elif not is_client and cut.is_set():
                    break  # the server has committed, and its answer is lost
                target.sendall(data)
        for end in (source, target):
            with suppress(OSError):
                end.shutdown(socket.SHUT_RDWR)
