"""What a server must not give away: files by their names, tokens; and what viewers and stored data must not do."""

from __future__ import annotations

import os
import pickle
import re
import socket
import sqlite3
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any
from urllib.parse import quote

import pytest
from graphql import GraphQLNonNull, get_named_type, is_input_object_type, is_required_argument, is_required_input_field
from scheduler_kit import until
from server_kit import RunningServer, environment, filled, lightflow, serving

from lightflow.server.api import ROUTES
from lightflow.server.graphql.types import executable_schema

FLOW = """
workflow_name: flow
tasks:
  t: {run: "echo printed; echo n=1 >> $LIGHTFLOW_OUTPUT"}
  m: {run: "echo n=1 >> $LIGHTFLOW_OUTPUT", foreach: [1]}
"""
NAMES = {"run": "r", "other": "r", "task": "t", "index": "0", "attempt": "1", "workflow": "flow", "key": "n",
         "pool": "none", "trigger": "flow:manual"}  # fmt: skip
#: Names that lead elsewhere where they become a part of a path; quoted, as a client sends them, and raw.
HOSTILE = [
    "../../../../etc/passwd",
    "/etc/passwd",
    "..",
    "%2e%2e%2f%2e%2e%2fetc%2fpasswd",
    "....//etc/passwd",
    "a\\..\\b",
]
HOSTILE += [
    "t/../../x",
    "t\x00",
    "t\n",
    "~root",
    "file:///etc/passwd",
    "t;id",
    "$(id)",
    "' OR 1=1 --",
    "a" * 600,
    "\u202e",
]


@pytest.fixture(scope="module")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RunningServer]:
    folder = tmp_path_factory.mktemp("security")
    (folder / "flow.yaml").write_text(FLOW)
    assert lightflow(folder, "run", "flow.yaml", "--run-id", "r").returncode == 0
    with serving(folder, "serve") as running:
        yield running


def path_of(route: Any, **names: str) -> str:
    return filled(route.path, NAMES | names)


def test_no_name_leads_to_a_file(server: RunningServer) -> None:
    """Each route gets a part of the names, and the names of its parts one after the other."""
    for number, route in enumerate(ROUTES):
        for part in re.findall(r"\{(\w+)\}", route.path) if route.method == "GET" else ():
            for name in HOSTILE[number % 4 :: 4]:
                answer = server.request("GET", path_of(route, **{part: quote(name, safe="")}))
                # A name that does not exist is an error, or leaves the values of a run as they are.
                assert answer.status in (400, 404) or (part == "key" and answer.json()["value"] is None), (
                    route.path,
                    name,
                )
                assert b"root:" not in answer.body


LOG = "/api/v1/runs/r/tasks/t/attempts/1/log"


@pytest.mark.parametrize("kind", ["link", "pipe", "folder"])
def test_what_takes_the_place_of_a_log_is_not_opened(server: RunningServer, kind: str) -> None:
    log = Path(server.get("/api/v1/runs/r/tasks/t")["attempts"][0]["log"])
    away = log.with_suffix(".away")
    log.rename(away)
    try:
        if kind == "link":
            log.symlink_to("/etc/passwd")
        elif kind == "pipe":
            os.mkfifo(log)
        else:
            log.mkdir()
        assert server.request("GET", LOG).body == b""
    finally:
        (log.rmdir if kind == "folder" else log.unlink)()
        away.rename(log)
    assert b"printed" in server.request("GET", LOG).body


def test_an_altered_path_of_a_log_leads_to_no_other_file(server: RunningServer) -> None:
    changed = "UPDATE liteflow_attempts SET log_path=? WHERE task_id='t'"
    with sqlite3.connect(server.folder / "lightflow.db") as connection:
        guards = connection.execute(
            "SELECT name, sql FROM sqlite_schema WHERE type='trigger' AND tbl_name='liteflow_attempts'"
        ).fetchall()
        (before,) = connection.execute("SELECT log_path FROM liteflow_attempts WHERE task_id='t'").fetchone()

    def alter(path: str) -> None:
        with sqlite3.connect(server.folder / "lightflow.db") as connection:
            for name, _ in guards:
                connection.execute(f"DROP TRIGGER {name}")
            assert connection.execute(changed, (path,)).rowcount == 1
            for _, sql in guards:
                connection.execute(sql)

    try:
        for path in ("/etc/passwd", f"{Path(before).parent}/../../../../../../../../../../etc/passwd"):
            alter(path)
            assert b"root:" not in server.request("GET", LOG).body
    finally:
        alter(before)
    assert b"printed" in server.request("GET", LOG).body


class Canary:
    """Leaves a file where it is unpickled."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return os.mkdir, (str(self.path),)


def test_nothing_that_is_stored_is_executed(server: RunningServer) -> None:
    canary = server.folder / "canary"
    with sqlite3.connect(server.folder / "lightflow.db") as connection:
        text = "UPDATE liteflow_xcom SET encoding='pickle', value=?, size=length(value) WHERE run_id='r'"
        assert connection.execute(text, (pickle.dumps(Canary(canary)),)).rowcount == 2
    connection.close()
    query = '{ run(id: "r") { tasks { nodes { values { key content } why } } } }'
    assert server.request("POST", "/graphql", {"query": query}).status == 200
    for route in ROUTES:
        for task in ("t", "m") if route.method == "GET" else ():
            server.request("GET", path_of(route, task=task))
    assert not canary.exists()
    with pytest.raises(FileNotFoundError):
        pickle.loads(pickle.dumps(Canary(canary / "below" / "nothing")))


def minimal(kind: Any) -> str:
    """Return the shortest value of a type of the schema."""
    named = get_named_type(kind)
    if is_input_object_type(named):
        fields = {name: each.type for name, each in named.fields.items() if is_required_input_field(each)}
        return "{" + ", ".join(f"{name}: {minimal(each)}" for name, each in fields.items()) + "}"
    inner = kind.of_type if isinstance(kind, GraphQLNonNull) else kind
    value = {"Int": "1", "Boolean": "true"}.get(named.name, '"x"')
    return f"[{value}]" if inner is not named else value


def test_a_viewer_may_call_no_mutation(server: RunningServer) -> None:
    mutations = executable_schema().mutation_type
    assert mutations is not None
    assert len(mutations.fields) > 15
    for name, field in mutations.fields.items():
        needed = {key: each.type for key, each in field.args.items() if is_required_argument(each)}
        arguments = ", ".join(f"{key}: {minimal(kind)}" for key, kind in needed.items())
        query = f"mutation {{ {name}({arguments}) {{ problems {{ code }} }} }}"
        answer = server.request("POST", "/graphql", {"query": query}, token="viewer").json()
        assert [error["extensions"]["code"] for error in answer["errors"]] == ["FORBIDDEN"], (query, answer)


def test_the_tokens_are_where_their_user_may_read_them_and_nowhere_else(server: RunningServer) -> None:
    secrets = [token.encode() for token in (server.operator, server.viewer)]
    for entry in Path("/proc").iterdir():
        for name in ("cmdline", "environ") if entry.name.isdecimal() else ():
            try:
                content = (entry / name).read_bytes()
            except OSError:
                continue
            assert not any(secret in content for secret in secrets), entry
    holders = [
        path
        for path in server.folder.rglob("*")
        if stat.S_ISREG(path.lstat().st_mode) and any(secret in path.read_bytes() for secret in secrets)
    ]
    assert len(holders) == 1
    assert stat.S_IMODE(holders[0].stat().st_mode) == 0o600
    assert (server.folder / "state") in holders[0].parents


def test_a_socket_is_for_its_user_and_needs_a_token_all_the_same(tmp_path: Path) -> None:
    assert lightflow(tmp_path, "token").returncode == 0
    path = tmp_path / "s"
    (tmp_path / "flow.yaml").write_text(FLOW)
    command = [sys.executable, "-m", "lightflow", "serve", "--socket", str(path)]
    process = subprocess.Popen(command, cwd=tmp_path, env=environment(tmp_path), stdout=subprocess.PIPE)
    try:
        until(path.exists)
        assert stat.S_IMODE(path.stat().st_mode) == 0o600
        for target, status in (("/healthz", b" 200 "), ("/api/v1/runs", b" 401 ")):
            with socket.socket(socket.AF_UNIX) as client:
                client.connect(str(path))
                client.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost:8787\r\nConnection: close\r\n\r\n".encode())
                assert status in client.recv(65536)
    finally:
        process.terminate()
        process.communicate(timeout=120)
    assert not path.exists()
