"""Tasks of type `wait` that look at a server or a database, by the commands that people type."""

from __future__ import annotations

import json
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from flow_folder import COMMAND, environment, lightflow, problems, write
from http_kit import Server, serving


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as server:
        yield server


def outputs(folder: Path) -> dict[str, Any]:
    shape = json.loads(lightflow(folder, "outputs", "--json").stdout)
    return {f"{each['task']}.{each['key']}": each["value"] for each in shape["outputs"]}


def reasons(folder: Path) -> list[str]:
    with closing(sqlite3.connect(folder / "lightflow.db")) as connection:
        return [row[0] for row in connection.execute("SELECT reason FROM liteflow_events WHERE status='WAITING'")]


def ready(url: str, keys: str = "", every: str = "1s") -> str:
    return f"tasks:\n  ready:\n    type: wait\n    every: {every}\n    http: {{url: '{url}'{keys}}}\n"


def test_an_answer_that_is_not_the_expected_one_means_not_yet(tmp_path: Path, server: Server) -> None:
    server.answers += [
        (404, {}, b"none"),
        (503, {"Retry_After": "2"}, b"busy"),
        (202, {}, b'{"state": "queued"}'),
        (200, {}, b'{"state": "running"}'),
        (200, {}, b'{"state": "done", "rows": 7}'),
    ]
    expect = ", expect: {status: [200, 202], json: {$.state: done}}"
    write(tmp_path, ready(server.url("/scripted"), expect))
    done = lightflow(tmp_path, "run", "flow.yaml")
    assert done.returncode == 0, done.stdout
    values = outputs(tmp_path)
    assert (values["ready.status"], values["ready.content"]) == (200, {"state": "done", "rows": 7})
    assert values["ready.waited_s"] >= 5.0, "four pauses, and one of them as long as the server has said"
    assert [text.partition(": ")[2] for text in reasons(tmp_path)] == [
        "404 Not Found: none",
        "503 Service Unavailable: busy",
        '$.state is "queued", expected "done"',
        '$.state is "running", expected "done"',
    ]
    logs = [path.read_text(encoding="utf-8") for path in tmp_path.rglob("task_*.log")]
    assert "".join(logs) == "", "a look that is repeated for days prints nothing"


@pytest.mark.parametrize("code", [401, 403, 400])
def test_an_answer_that_no_time_changes_fails_the_task(tmp_path: Path, server: Server, code: int) -> None:
    write(tmp_path, ready(server.url(f"/status?code={code}")))
    done = lightflow(tmp_path, "run", "flow.yaml")
    assert done.returncode == 1
    assert f": {code} " in done.stdout
    assert len(server.received) == 1


def test_a_server_that_does_not_run_yet_is_awaited(tmp_path: Path) -> None:
    with serving() as server:
        url = server.url("/status?code=200")
    write(tmp_path, ready(url))
    process = subprocess.Popen([*COMMAND, "run", "flow.yaml", "-q"], cwd=tmp_path, env=environment())
    try:
        while not (tmp_path / "lightflow.db").exists() or not reasons_or_none(tmp_path):
            assert process.poll() is None
        assert "no connection" in reasons(tmp_path)[0]
    finally:
        process.kill()
        process.wait()


def reasons_or_none(folder: Path) -> list[str]:
    try:
        return reasons(folder)
    except sqlite3.OperationalError:  # it has no tables yet
        return []


def test_a_secret_is_sent_and_not_stored(tmp_path: Path, server: Server, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TOKEN", "s3cr3t")
    server.answers += [(503, {}, b"no: s3cr3t"), (200, {}, b"{}")]
    keys = ", auth: {bearer: '${{ secrets.TOKEN }}'}, query: {key: '${{ secrets.TOKEN }}'}"
    write(tmp_path, "secrets: [TOKEN]\n" + ready(server.url("/scripted"), keys))
    done = lightflow(tmp_path, "run", "flow.yaml")
    assert done.returncode == 0, done.stdout
    assert {each.headers["authorization"] for each in server.received} == {"Bearer s3cr3t"}
    stored = b"".join(path.read_bytes() for path in tmp_path.iterdir() if path.name.startswith("lightflow.db"))
    assert b"s3cr3t" not in stored
    assert "***" in reasons(tmp_path)[0]


def test_a_row_ends_the_wait(tmp_path: Path) -> None:
    """The database is made while the run waits for it; the last wait is for a count that is not 0."""
    write(
        tmp_path,
        """
        params: {day: "2026-01-31"}
        tasks:
          row:
            type: wait
            every: 1s
            sql:
              connection: sqlite:///loads.db
              sql: SELECT n, day FROM loads WHERE day = :day
              params: {day: "${{ params.day }}"}
          count:
            type: wait
            every: 1s
            sql: {connection: "sqlite:///loads.db", sql: "SELECT count(*) FROM loads WHERE day = ${{ params.day }}"}
          fill:
            run: |
              sleep 1
              PYTHON fill.py
        """.replace("PYTHON", sys.executable),
    )
    (tmp_path / "fill.py").write_text(
        "import sqlite3\nwith sqlite3.connect('loads.db') as loads:\n"
        "    loads.execute('INSERT INTO loads VALUES (?, ?)', (7, '2026-01-31'))\n",
        encoding="utf-8",
    )
    with closing(sqlite3.connect(tmp_path / "loads.db")) as connection:
        connection.execute("CREATE TABLE loads (n INTEGER, day TEXT)")
    done = lightflow(tmp_path, "run", "flow.yaml")
    assert done.returncode == 0, done.stdout
    values = outputs(tmp_path)
    assert values["row.row"] == {"n": 7, "day": "2026-01-31"}
    assert values["count.row"] == {"count(*)": 1}
    assert set(reasons(tmp_path)) == {"a row", "another value than 0"}


def test_a_query_that_is_wrong_or_writes_fails_the_task(tmp_path: Path) -> None:
    with closing(sqlite3.connect(tmp_path / "loads.db")) as connection:
        connection.execute("CREATE TABLE loads (n INTEGER)")
    for query in ("SELECT x FROM loads", "INSERT INTO loads VALUES (1) RETURNING n"):
        write(
            tmp_path,
            f"tasks:\n  a:\n    type: wait\n    sql: {{connection: 'sqlite:///loads.db', sql: '{query}'}}\n",
        )
        assert lightflow(tmp_path, "run", "flow.yaml").returncode == 1
    with closing(sqlite3.connect(tmp_path / "loads.db")) as connection:
        assert connection.execute("SELECT count(*) FROM loads").fetchone() == (0,)


@pytest.mark.parametrize(
    ("keys", "message"),
    [
        ("http: {url: example.org}", "w.yaml:4:17"),
        ("http: {url: example.org}", "must begin with http:// or https://"),
        ("http: {url: 'https://a.b', save: a.json}", "save"),
        ("http: {url: 'https://a.b', auth: {bearer: abc}}", "a secret in clear text"),
        ("{http: {url: 'https://a.b'}, every: 0.5s}", "must be 1s or more with `http`"),
        ("sql: {connection: 'sqlite:///a.db', sql: 'SELECT 1; COMMIT'}", "remove COMMIT"),
        ("sql: {connection: 'postgresql://u:p@h/d', sql: SELECT 1}", "a password in clear"),
        ("sql: {connection: 'sqlite:///a.db', sql: 'SELECT :day'}", "day"),
        ("{http: {url: 'https://a.b'}, file: a}", "needs exactly one of file, http, sql"),
    ],
)
def test_mistakes_are_found_before_a_run(keys: str, message: str) -> None:
    keys = keys[1:-1].replace(", every", "\n    every").replace(", file", "\n    file") if keys[0] == "{" else keys
    assert message in problems(f"tasks:\n  a:\n    type: wait\n    {keys}\n")
