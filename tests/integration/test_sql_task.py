"""Tasks of type `sql` in runs, from a workflow file and from Python."""

# ruff: noqa: E501 - workflow files

from __future__ import annotations

import json
import os
import signal
import sqlite3
import subprocess
import time
from pathlib import Path

import pytest
import sql_servers
from flow_folder import COMMAND, environment, lightflow, status, write
from scheduler_kit import until
from sql_servers import SqlServer

from lightflow.engine.dag_builder import build_dag
from lightflow.engine.external_inputs import ExternalInputs
from lightflow.parser.workflow_loader import loads_workflow
from lightflow.plugins.registry import Registry
from lightflow.spec.model import Identifier
from lightflow.tasks import sql
from liteflow import Call, Dag, DefinitionError, Secret
from liteflow.values.secrets import Secrets

SERVERS = ["postgresql", "mysql"]


def outputs(folder: Path, task: str) -> dict[str, object]:
    done = lightflow(folder, "outputs", "latest", task, "--json")
    assert done.returncode == 0, done.stderr
    return {entry["key"]: entry["value"] for entry in json.loads(done.stdout)["outputs"]}


FLOW = """\
workflow_name: load
params: {day: {default: "2026-01-01"}, table: {default: orders}}
tasks:
  make:
    type: sql
    connection: sqlite:///orders.db
    sql: |
      CREATE TABLE ${{ params.table | ident }} (day TEXT, n INTEGER);
      INSERT INTO ${{ params.table | ident }} VALUES (${{ params.day }}, :n), (${{ params.day }}, 2)
    params: {n: 1}
  count:
    type: sql
    depends_on: [make]
    connection: sqlite:///orders.db
    file: count.sql
    params: {day: "${{ params.day }}", list: [1, 2, 3]}
    rows: one
  export:
    type: sql
    depends_on: [make]
    connection: sqlite:///orders.db
    sql: SELECT * FROM orders ORDER BY n
    save: out/${{ params.day }}.csv
  show:
    run: echo "${{ tasks.count.result.total }} ${{ tasks.export.outputs.row_count }} $(cat ${{ tasks.export.outputs.file }})"
"""
COUNT = "-- the rows of a day\nSELECT count(*) AS n, sum(n) AS total FROM orders WHERE day = :day AND n IN (:list)\n"


def test_a_workflow_on_sqlite(tmp_path: Path) -> None:
    write(tmp_path, FLOW)
    (tmp_path / "count.sql").write_text(COUNT)
    done = lightflow(tmp_path, "run", "flow.yaml", "-p", "day=x'; DROP TABLE orders; --")
    assert done.returncode == 0, done.stdout + done.stderr
    assert outputs(tmp_path, "count")["return_value"] == {"n": 2, "total": 3}
    shown = lightflow(tmp_path, "logs", "show").stdout
    assert "3 2 day,n" in shown
    assert (tmp_path / "out" / "x'; DROP TABLE orders; --.csv").read_text().splitlines()[
        1
    ] == "x'; DROP TABLE orders; --,1"


def test_a_file_with_a_mistake_is_reported_before_anything_runs(tmp_path: Path) -> None:
    write(tmp_path, FLOW)
    for text, expected in (
        (None, "count.sql"),
        ("SELECT 1;\n  SELECT 'a", "count.sql:2:10"),
        (":day :list :x", ":x has no"),
    ):
        if text is not None:
            (tmp_path / "count.sql").write_text(text)
        done = lightflow(tmp_path, "run", "flow.yaml")
        assert done.returncode == 2
        assert expected in done.stderr
        assert not (tmp_path / "orders.db").exists()
    (tmp_path / "count.sql").write_bytes(b"SELECT 1;\n\xff")
    assert "not UTF-8 text (line 2)" in lightflow(tmp_path, "run", "flow.yaml").stderr


def test_the_state_file_is_refused(tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        tasks:
          direct: {type: sql, connection: "sqlite:///lightflow.db", sql: "DELETE FROM liteflow_events"}
          linked: {type: sql, connection: "sqlite:///link.db", sql: "DELETE FROM liteflow_events"}
          attached: {type: sql, connection: "sqlite:///:memory:", sql: "ATTACH 'lightflow.db' AS a", transaction: none}
        """,
    )
    (tmp_path / "link.db").symlink_to("lightflow.db")
    done = lightflow(tmp_path, "run", "flow.yaml")
    assert done.returncode == 1
    for task in ("direct", "linked"):
        assert "is the state file of this run" in lightflow(tmp_path, "why", task).stdout
    assert "not authorized" in lightflow(tmp_path, "why", "attached").stdout
    assert lightflow(tmp_path, "status").returncode in (0, 1)


@pytest.mark.parametrize("name", SERVERS)
def test_secrets_retries_and_codes(name: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    server: SqlServer = request.getfixturevalue(name)
    write(
        tmp_path,
        """\
        secrets: {DB: {from: env}}
        tasks:
          fails:
            type: sql
            connection: ${{ secrets.DB }}
            sql: SELECT * FROM no_such_table
            retries: 3
          named:
            type: sql
            connection: ${{ secrets.DB }}
            sql: SELECT * FROM no_such_table
            retries: 1
            retry: {on_sqlstate: ["42*"]}
          again:
            type: sql
            connection: ${{ secrets.DB }}
            sql: SELECT ${{ task.attempt }} AS n
            rows: value
        """,
    )
    done = lightflow(tmp_path, "run", "flow.yaml", extra_env={"DB": server.url})
    assert done.returncode == 1
    view = {task["task"]: task for task in status(tmp_path)["tasks"]}
    assert len(view["fails"]["attempts"]) == 1
    assert len(view["named"]["attempts"]) == 2
    assert outputs(tmp_path, "again")["return_value"] == 1
    assert "sqlstate:42" in lightflow(tmp_path, "why", "fails").stdout
    everything = done.stdout + done.stderr + "".join(path.read_text() for path in (tmp_path / "logs").rglob("*.log"))
    assert sql_servers.TOKEN not in everything
    assert sql_servers.TOKEN.encode() not in (tmp_path / "lightflow.db").read_bytes()


def test_five_hundred_inserts_leave_no_connection(postgresql: SqlServer, tmp_path: Path) -> None:
    write(
        tmp_path,
        """\
        secrets: {DB: {from: env}}
        tasks:
          table: {type: sql, connection: "${{ secrets.DB }}", sql: "CREATE TABLE many (n integer)"}
          insert:
            type: sql
            depends_on: [table]
            foreach: "${{ range(500) }}"
            connection: ${{ secrets.DB }}
            sql: INSERT INTO many VALUES (${{ item }})
        """,
    )
    flow = [*COMMAND, "run", "flow.yaml", "-q", "-j", "2"]
    process = subprocess.Popen(flow, cwd=tmp_path, env=environment({"DB": postgresql.url}))
    most, connection = 0, sql_servers.connected(postgresql)
    marked = "SELECT count(*) FROM pg_stat_activity WHERE application_name LIKE 'lf-%'"
    while process.poll() is None:
        most = max(most, connection.execute(marked).fetchone()[0])
        time.sleep(0.02)
    assert process.returncode == 0
    assert connection.execute("SELECT count(*), count(DISTINCT n) FROM many").fetchone() == (500, 500)
    assert most <= 3, "two workers, and the connection that one of them has just closed"
    end = time.monotonic() + 120
    while connection.execute(marked).fetchone()[0] and time.monotonic() < end:
        time.sleep(0.02)
    assert connection.execute(marked).fetchone()[0] == 0
    connection.close()


SLOW = {
    "sqlite": "WITH RECURSIVE c(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM c) SELECT count(*) FROM c",
    "duckdb": "SELECT count(*) FROM range(1000000) a, range(1000000) b WHERE a.range * b.range % 7 = 3",
    "postgresql": "SELECT count(*) FROM pg_attribute a, pg_attribute b, pg_attribute c WHERE a.attnum * b.attnum * c.attnum % 7 = 9",
    "mysql": "SELECT BENCHMARK(100000000000, md5('a'))",
}


@pytest.mark.parametrize("name", SLOW)
@pytest.mark.parametrize("how", ["timeout", "cancel"])
def test_a_statement_ends_with_its_task(name: str, how: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    """It ends at once, not after the grace, and nothing is left on the server a moment later."""
    url = f"{name}:///file.db"
    if name in SERVERS:
        url = request.getfixturevalue(name).url
    elif name == "duckdb":
        pytest.importorskip("duckdb")
    limit = "timeout: 1s" if how == "timeout" else "timeout: 10m"
    write(
        tmp_path,
        f"""\
        secrets: {{DB: {{from: env}}}}
        tasks:
          slow:
            type: sql
            connection: ${{{{ secrets.DB }}}}
            sql: {SLOW[name]}
            {limit}
            kill_grace: 100s
        """,
    )
    run = [*COMMAND, "run", "flow.yaml"]
    process = subprocess.Popen(run, cwd=tmp_path, env=environment({"DB": url}), stdout=subprocess.PIPE, text=True)
    if how == "cancel":
        _until_running(tmp_path)
        process.send_signal(signal.SIGTERM)
    out, _ = process.communicate(timeout=60)
    assert process.returncode != 0
    if how == "timeout":
        assert "timed out after 1 s" in out
    if name in SERVERS:
        until(lambda: sql_servers.marked(request.getfixturevalue(name)) == [])


def _until_running(folder: Path) -> None:
    end = time.monotonic() + 120
    while time.monotonic() < end:
        if (folder / "lightflow.db").exists():
            connection = sqlite3.connect(f"file:{folder}/lightflow.db?mode=ro", uri=True)
            try:
                rows = connection.execute("SELECT status FROM liteflow_task_instances").fetchall()
            except sqlite3.Error:
                rows = []
            finally:
                connection.close()
            if ("RUNNING",) in rows:
                return
        time.sleep(0.02)
    raise AssertionError("no task has started")


def test_a_driver_that_is_missing_is_named_before_anything_runs(tmp_path: Path) -> None:
    """The modules of the driver cannot be imported here: a folder without them hides the installed one."""
    write(tmp_path, 'tasks: {a: {type: sql, connection: "duckdb:///a.db", sql: "SELECT 1"}, b: {run: "touch ran"}}')
    hide = tmp_path / "hide"
    hide.mkdir()
    (hide / "sitecustomize.py").write_text(
        "import sys\n"
        "class Hide:\n"
        "    def find_spec(self, name, *rest):\n"
        "        if name == 'duckdb':\n"
        "            raise ModuleNotFoundError(name=name)\n"
        "sys.meta_path.insert(0, Hide())\n"
    )
    path = os.pathsep.join([str(hide), environment()["PYTHONPATH"]])
    done = lightflow(tmp_path, "run", "flow.yaml", extra_env={"PYTHONPATH": path})
    assert done.returncode == 2
    assert "type sql needs duckdb: pip install 'lightflow-workflows[sql]'" in done.stderr
    assert not (tmp_path / "ran").exists()


def test_the_same_in_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ORDERS", f"sqlite:///{tmp_path}/orders.db")
    with Dag("python", str(tmp_path / "lightflow.db"), secrets=[Secret("ORDERS")]) as dag:
        number = dag.task(lambda: 20, "number")
        load = dag.add(
            "load",
            sql(
                Secret("ORDERS"),
                "CREATE TABLE orders (n INTEGER); INSERT INTO orders VALUES (1), (:n)",
                params={"n": number},
            ),
        )
        text = "SELECT sum(n) FROM :table WHERE n IN (:list)"
        keys = {"params": {"table": Identifier("orders"), "list": [1, 20]}, "rows": "value"}
        dag.add("total", sql(Secret("ORDERS"), text, **keys), depends_on=[load])
    run = dag.run(log_dir=str(tmp_path / "logs"))
    assert run.status == "SUCCESS"
    assert run.value("total") == 21
    with pytest.raises(DefinitionError, match=":day has no value"):
        sql(Secret("ORDERS"), "SELECT :day")


@pytest.mark.parametrize(("address", "module"), [("mysql://me@127.0.0.1/shop", "pymysql"), ("sqlite:///a.db", None)])
def test_the_driver_of_a_secret_address_is_loaded_before_the_workers(address: str, module: str | None) -> None:
    text = """
secrets: {WAREHOUSE: {from: env}}
connections: {db: {type: sql, url: "${{ secrets.WAREHOUSE }}"}}
tasks:
  secret: {type: sql, connection: db, sql: SELECT 1}
  later: {type: sql, connection: "${{ tasks.secret.result }}", sql: SELECT 1}
"""
    spec, inputs = loads_workflow(text), ExternalInputs(secrets=Secrets({"WAREHOUSE": address}))
    dag = build_dag(spec, Registry(), "state.db", {}, inputs, folder=os.getcwd())
    secret, later = (dag.tasks[name].fixed_body for name in ("secret", "later"))
    assert isinstance(secret, Call)
    assert isinstance(later, Call)
    assert (secret.preload, later.preload) == ((module,) if module else (), ())
