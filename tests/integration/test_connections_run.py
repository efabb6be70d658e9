"""Named connections in runs: a server that counts, and databases that ask for a user and for encryption."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import sql_servers
import trustme
from flow_folder import lightflow, write
from http_kit import Server, serving
from sql_servers import TOKEN, SqlServer

from lightflow.tasks import connection, http, sql
from liteflow import Dag, Secret


@pytest.fixture
def server() -> Iterator[Server]:
    with serving() as running:
        yield running


@pytest.fixture(scope="module")
def certificates(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("certificates")
    authority = trustme.CA()
    authority.cert_pem.write_to_path(folder / "ca.pem")
    trustme.CA().cert_pem.write_to_path(folder / "other.pem")
    authority.issue_cert("127.0.0.1").private_key_and_cert_chain_pem.write_to_path(folder / "server.pem")
    return folder


@pytest.fixture(scope="module")
def databases(certificates: Path) -> Iterator[dict[str, SqlServer]]:
    pem = certificates / "server.pem"
    with sql_servers.postgresql(pem) as postgresql, sql_servers.mariadb(pem) as mariadb:
        yield {"postgresql": postgresql, "mysql": mariadb}


def test_requests_of_a_connection(server: Server, tmp_path: Path) -> None:
    write(
        tmp_path,
        f"""
        secrets: {{TOKEN: {{from: env}}}}
        connections:
          api:
            type: http
            url: {server.url("/status/")}
            auth: {{bearer: "${{{{ secrets.TOKEN }}}}"}}
            headers: {{X-Team: shop}}
            query: {{lang: de}}
            proxy: none
        tasks:
          first: {{type: http, connection: api, url: "/${{{{ 'a b' }}}}", query: {{code: 200}}}}
          second: {{type: http, connection: api, url: "${{{{ tasks.first.outputs.status }}}}", retries: 3}}
        """,
    )
    done = lightflow(tmp_path, "run", "flow.yaml", extra_env={"TOKEN": "t-3141"})
    assert done.returncode == 1, done.stderr
    (request,) = server.received
    assert request.path == "/status/a%20b?lang=de&code=200"
    assert (request.headers["authorization"], request.headers["x-team"]) == ("Bearer t-3141", "shop")
    assert "the url '200' must be a path such as /orders" in done.stdout + done.stderr
    assert "t-3141" not in done.stdout + done.stderr


@pytest.mark.parametrize("scheme", ["postgresql", "mysql"])
def test_a_user_a_password_and_encryption(
    scheme: str, databases: dict[str, SqlServer], certificates: Path, tmp_path: Path
) -> None:
    database, ca = databases[scheme], certificates / "ca.pem"
    user, name = ("postgres", "postgres") if scheme == "postgresql" else ("tester", "test")
    encrypted = {
        "postgresql": "SELECT CAST(ssl AS INTEGER) AS yes FROM pg_stat_ssl WHERE pid = pg_backend_pid()",
        "mysql": "SELECT VARIABLE_VALUE <> '' AS yes FROM information_schema.SESSION_STATUS"
        " WHERE VARIABLE_NAME = 'SSL_CIPHER'",
    }[scheme]
    write(
        tmp_path,
        f"""
        secrets: {{DB_PASSWORD: {{from: env}}}}
        connections:
          db: &db
            type: sql
            url: {scheme}://127.0.0.1:{database.port}/{name}
            user: {user}
            password: ${{{{ secrets.DB_PASSWORD }}}}
            tls: {{ca: {ca}}}
          distrusted: {{<<: *db, tls: {{ca: {certificates / "other.pem"}}}}}
          unchecked: {{<<: *db, tls: {{verify: false}}}}
        x-sql: &sql {{type: sql, rows: value, sql: "{encrypted}"}}
        tasks:
          checked: {{<<: *sql, connection: db}}
          distrusted: {{<<: *sql, connection: distrusted}}
          unchecked: {{<<: *sql, connection: unchecked}}
        """,
    )
    done = lightflow(tmp_path, "run", "flow.yaml", extra_env={"DB_PASSWORD": TOKEN})
    shown = done.stdout + done.stderr
    assert TOKEN not in shown
    view = {
        task: json.loads(lightflow(tmp_path, "outputs", "latest", task, "--json").stdout)["outputs"]
        for task in ("checked", "unchecked")
    }
    values = {task: next(e["value"] for e in entries if e["key"] == "return_value") for task, entries in view.items()}
    assert values == {"checked": 1, "unchecked": 1}, shown
    assert done.returncode == 1
    assert "certificate verify failed" in shown


def test_the_same_in_python(
    server: Server, databases: dict[str, SqlServer], certificates: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DB_PASSWORD", TOKEN)
    dag = Dag("shared", str(tmp_path / "state.db"), secrets=[Secret("DB_PASSWORD")])
    api = connection("http", url=server.url(""), headers={"X-Key": Secret("DB_PASSWORD")}, proxy="none")
    url = f"postgresql://127.0.0.1:{databases['postgresql'].port}/postgres"
    tls = {"ca": str(certificates / "ca.pem")}
    database = connection("sql", url=url, user="postgres", password=Secret("DB_PASSWORD"), tls=tls)
    dag.add("ask", http("/status?code=200", connection=api))
    dag.add("count", sql(database, "SELECT 41 + 1", rows="value"))
    run = dag.run(log_dir=str(tmp_path / "logs"))
    assert run.status == "SUCCESS", run.failures()
    assert run.value("count") == 42
    assert server.received[0].headers["x-key"] == TOKEN
