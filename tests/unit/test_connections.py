"""Named connections: which keys a task takes, and where a mistake in one is reported."""

from __future__ import annotations

from pathlib import Path

import pytest

from lightflow.errors import WorkflowError
from lightflow.parser.value_origins import value_origins
from lightflow.parser.workflow_loader import load_with_hints, loads_workflow
from lightflow.tasks import connection, http, sql
from liteflow import DefinitionError, Secret

TEXT = """
secrets: [TOKEN, PASSWORD]
connections:
  api:
    type: http
    url: https://api.example.org/v1
    headers: {X-Api-Key: "${{ secrets.TOKEN }}", Accept: text/plain}
    proxy: none
  warehouse: {type: sql, url: "postgresql://db.example.org/shop", user: loader, password: "${{ secrets.PASSWORD }}"}
defaults:
  types: {http: {connection: api}}
tasks:
  fetch: {type: http, url: "/orders/${{ run.id }}", headers: {accept: application/json}}
  elsewhere: {type: http, url: /status, proxy: env}
  load: {type: sql, connection: warehouse, sql: SELECT 1}
  plain: {type: sql, connection: "sqlite:///a.db", sql: SELECT 1}
on_failure: {type: mail, connection: post, to: a@example.org}
x-rest: 0
"""
POST = 'connections:\n  post: {type: mail, server: "smtp://mail.example.org", from: me@example.org}'


def test_a_task_takes_the_keys_that_it_lacks() -> None:
    spec = loads_workflow(TEXT.replace("connections:", POST, 1))
    fetch, elsewhere, load = (spec.tasks[name] for name in ("fetch", "elsewhere", "load"))
    assert fetch.config["base_url"] == "https://api.example.org/v1"
    assert fetch.config["headers"] == {"X-Api-Key": "${{ secrets.TOKEN }}", "accept": "application/json"}
    assert (fetch.config["proxy"], elsewhere.config["proxy"]) == ("none", "env")
    assert load.config["connection"] == "postgresql://db.example.org/shop"
    assert load.config["user"] == "loader"
    assert spec.tasks["plain"].config["connection"] == "sqlite:///a.db"
    assert spec.hooks["on_failure"].config["server"] == "smtp://mail.example.org"
    assert all("type" not in task.config and task.config.get("connection") != "api" for task in spec.tasks.values())


def test_a_connection_is_part_of_the_definition_of_its_tasks() -> None:
    text = TEXT.replace("connections:", POST, 1)
    before, after = loads_workflow(text), loads_workflow(text.replace("/v1", "/v2"))
    assert before.tasks["fetch"].digest != after.tasks["fetch"].digest
    assert before.tasks["load"].digest == after.tasks["load"].digest


def test_the_place_of_a_value_is_in_the_connection(tmp_path: Path) -> None:
    file = tmp_path / "flow.yaml"
    file.write_text(TEXT.replace("connections:", POST, 1))
    origins = {each.key: (each.source, each.location.line) for each in value_origins(file, "fetch")}
    assert origins["base_url"] == ("the connection api", 7)
    assert origins["headers.X-Api-Key"] == ("the connection api", 8)
    assert origins["headers.accept"] == ("the task", 14)


@pytest.mark.parametrize(
    ("keys", "task", "message"),
    [
        ("{}", "connection: ap, url: /a", '4:31: tasks.a.connection: no connection "ap", did you mean "api"?'),
        ("{}", "connection: db, url: /a", "is of type sql, and the task of type http"),
        ("{}", "connection: api, url: a", "tasks.a.url: must be a path such as /orders"),
        ("{}", "connection: api, url: 'https://other.example.org'", "tasks.a.url: must be a path such as /orders"),
        (
            "{}",
            "connection: api, url: '//other.example.org/${{ run.id }}'",
            "where its value could name another server",
        ),
        ("{url: 'ftp://a'}", "connection: api, url: /a", "2:38: connections.api.url: must be a URL such as"),
        ("{auth: {bearer: clear}}", "url: 'http://h'", "connections.api.auth.bearer: a secret in clear text"),
        ("{method: POST}", "url: 'http://h'", 'connections.api: unknown key "method"'),
        ("{headers: [a]}", "connection: api, url: /a", "connections.api.headers: must be a mapping"),
        ("{type: shell}", "url: 'http://h'", "type shell has no connections; http, sql, mail and lambda"),
        ("{type: htpp}", "url: 'http://h'", "type htpp has no connections"),
    ],
)
def test_a_mistake_has_its_place(keys: str, task: str, message: str) -> None:
    inner = keys[1:-1]
    kind = "" if "type:" in inner else "type: http, "
    url = "" if "url:" in inner or "type:" in inner else ", url: 'https://h'"
    text = (
        f"workflow_name: w\nconnections: {{api: {{{kind}{inner or 'proxy: none'}{url}}}, "
        f"db: {{type: sql, url: 'sqlite:///a'}}}}\ntasks:\n  a: {{type: http, {task}}}\n"
    )
    with pytest.raises(WorkflowError) as caught:
        loads_workflow(text)
    assert message in str(caught.value)
    assert len(caught.value.problems) == 1


def test_a_connection_without_tasks_is_a_warning(tmp_path: Path) -> None:
    file = tmp_path / "flow.yaml"
    file.write_text("connections: {db: {type: sql, url: 'sqlite:///a.db'}}\ntasks: {a: {run: 'true'}}\n")
    _, hints = load_with_hints(file)
    assert [(hint.path, hint.line) for hint in hints] == [("connections", 1)]


def test_a_wait_for_a_server_takes_the_keys_of_a_connection() -> None:
    text = """
connections:
  api: {type: http, url: "https://example.org/v1", headers: {A: b}}
  db: {type: sql, url: "sqlite:///a.db", read_only: true}
tasks:
  job: {type: wait, http: {connection: api, url: /jobs}}
  row: {type: wait, sql: {connection: db, sql: SELECT 1}}
"""
    spec = loads_workflow(text)
    keys = {"base_url": "https://example.org/v1", "headers": {"A": "b"}, "url": "/jobs"}
    assert spec.tasks["job"].config["http"] == keys
    assert spec.tasks["row"].config["sql"] == {"connection": "sqlite:///a.db", "sql": "SELECT 1"}


def test_a_file_that_is_included_has_connections_of_its_own(tmp_path: Path) -> None:
    (tmp_path / "part.yaml").write_text(
        "connections: {db: {type: sql, url: 'sqlite:///part.db'}}\n"
        "tasks: {a: {type: sql, connection: db, sql: SELECT 1}}\n"
    )
    file = tmp_path / "flow.yaml"
    file.write_text(
        "connections: {db: {type: sql, url: 'sqlite:///whole.db'}}\n"
        "tasks: {part: {include: part.yaml}, b: {type: sql, connection: db, sql: SELECT 1}}\n"
    )
    (spec,), hints = load_with_hints(file)
    connections = {name: task.config["connection"] for name, task in spec.tasks.items() if task.type == "sql"}
    assert connections == {"part.a": "sqlite:///part.db", "b": "sqlite:///whole.db"}
    assert hints == []


def test_connections_in_python() -> None:
    api = connection("http", url="https://h/v1", headers={"X-Key": Secret("TOKEN"), "Accept": "a/b"})
    call = http("/orders", connection=api, headers={"accept": "c/d"})
    config = call.kwargs["config"]
    assert config["base_url"] == "https://h/v1"
    assert config["headers"] == {"X-Key": Secret("TOKEN"), "accept": "c/d"}
    assert sql(connection("sql", url="sqlite:///a.db"), "SELECT 1").kwargs["config"]["connection"] == "sqlite:///a.db"
    with pytest.raises(DefinitionError, match="there is no key 'method'"):
        connection("http", method="GET")
    with pytest.raises(DefinitionError, match="type 'shell' has no connections"):
        connection("shell")
    with pytest.raises(DefinitionError, match="it is of type http"):
        sql(api, "SELECT 1")
    with pytest.raises(DefinitionError, match="must be what `connection"):
        http("/orders", connection="api")
