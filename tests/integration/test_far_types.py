"""Task types on the machines of a cluster: they work there, what they started is undone there, what cannot is an error.

The machines are this one, behind a stand-in for ssh.
"""

from __future__ import annotations

import json
import os
import signal
import sqlite3
import sys
from contextlib import closing
from pathlib import Path

import pytest
import sql_servers
from flow_folder import problems
from http_kit import serving
from smtp_kit import receiving
from sql_servers import SqlServer
from test_ssh_clusters import Folder

from liteflow.processes import tree

PLUGIN = """
import os
import time
from typing import ClassVar

from lightflow.plugins.base import TaskType
from liteflow import current_context


class Remote(TaskType):
    name = "remote"
    schema: ClassVar = {"properties": {"things": {"type": "string"}, "how": {"type": "string"}}}

    def run(self, config, context):
        open(os.path.join(config["things"], context.mark), "x").close()
        if config["how"] == "wait" and context.attempt == 1:
            print("begun", flush=True)
            with open(os.path.join(config["things"], "..", "pids"), "w") as file:
                file.write(f"{os.getpid()}")
            time.sleep(1000)
        os.unlink(os.path.join(config["things"], context.mark))
        return [current_context().host, os.path.exists(os.path.join(context.folder, "data.txt"))]

    def undo(self, config, context, handle):
        with open(os.path.join(config["things"], "..", "undone"), "a") as file:
            file.write(f"{current_context().host}\\n")
        try:
            os.unlink(os.path.join(config["things"], context.mark))
        except FileNotFoundError:
            pass


class Sensor(TaskType):
    name = "sensor"
    schema: ClassVar = {"properties": {"x": {"type": "string"}}}

    def poll(self, config, context, handle):
        return 1
"""
FLOW = """
clusters: {lab: {ssh: ["node1:1"], python: PYTHON, files: [remote.py, data.txt]}}
plugins: [remote.py]
tasks:
  job: {type: remote, things: FOLDER/things, how: HOW, mode: lab}
"""
#: An agent that cannot import a module.
WITHOUT = """#!/bin/sh
exec PYTHON -c '
import runpy, sys
sys.modules["urllib3"] = None
sys.argv = ["agent"]
runpy.run_module("liteflow.remote.agent", run_name="__main__")
'
"""


@pytest.fixture
def folder(tmp_path: Path) -> Folder:
    return Folder(tmp_path)


def plugin_flow(folder: Folder, how: str, text: str = FLOW) -> None:
    (folder.path / "remote.py").write_text(PLUGIN)
    (folder.path / "data.txt").write_text("here")
    (folder.path / "things").mkdir(exist_ok=True)
    folder.write(text.replace("FOLDER", str(folder.path)).replace("HOW", how))


def things(folder: Folder) -> list[str]:
    return os.listdir(folder.path / "things")


def due(folder: Folder) -> list[tuple[object, ...]]:
    with closing(sqlite3.connect(folder.path / "lightflow.db")) as connection:
        return connection.execute("SELECT task_id, host, problem FROM liteflow_undos").fetchall()


def value(folder: Folder, task: str) -> object:
    return json.loads(folder.lightflow(0, "outputs", task, "--key", "return_value", "--json"))


def test_http_mail_and_notify_work_on_a_cluster(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as server, receiving() as mails:
        mails.holds = False
        folder.write(f"""
clusters: {{lab: {{ssh: ["node1:2"], python: PYTHON}}}}
settings: {{mode: lab}}
secrets: [HOOK]
tasks:
  fetch: {{type: http, url: "{server.url("/echo")}", method: POST, json: {{n: 1}}}}
  tell: {{type: notify, slack: "${{{{ secrets.HOOK }}}}", text: "${{{{ tasks.fetch.outputs.status }}}}"}}
  send:
    type: mail
    server: "smtp://127.0.0.1:{mails.port}"
    tls: none
    from: a@b.org
    to: [c@d.org]
    subject: s
    text: t
""")
        monkeypatch.setitem(folder.env, "HOOK", server.url("/hook"))
        folder.lightflow(0, "run", "flow.yaml", "--quiet")
        assert folder.hosts() == {"fetch": ["node1"], "tell": ["node1"], "send": ["node1"]}
        assert server.counts() == {"POST /echo": 1, "POST /hook": 1}
        assert len(mails.identities) == 1


def test_a_module_that_a_machine_lacks_is_named_with_the_machine(folder: Folder) -> None:
    program = folder.path / "without"
    folder.write(
        """
clusters: {lab: {ssh: ["node1:1"], python: WITHOUT}}
tasks:
  fetch: {type: http, url: "http://127.0.0.1:9/", mode: lab}
""".replace("WITHOUT", str(program))
    )
    program.write_text(WITHOUT.replace("PYTHON", sys.executable))
    program.chmod(0o755)
    text = folder.lightflow(1, "run", "flow.yaml")
    assert "node1: type http needs urllib3: pip install 'lightflow-workflows[http]'" in text


def test_a_module_that_only_the_machine_has_is_enough(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    hide, program = folder.path / "hide", folder.path / "with"
    hide.mkdir()
    (hide / "sitecustomize.py").write_text("import sys\nsys.modules['urllib3'] = None\n")
    program.write_text(f'#!/bin/sh\nunset PYTHONPATH\nexec {sys.executable} "$@"\n')
    program.chmod(0o755)
    monkeypatch.setitem(folder.env, "PYTHONPATH", str(hide))
    with serving() as server:
        fetch = f"{{type: http, url: '{server.url('/echo')}', MODE}}"
        text = f"clusters: {{lab: {{ssh: ['node1:1'], python: {program}}}}}\ntasks: {{fetch: {fetch}}}\n"
        folder.write(text.replace("MODE", "mode: process"))
        assert "type http needs urllib3" in folder.lightflow(2, "run", "flow.yaml")
        folder.write(text.replace("MODE", "mode: lab"))
        folder.lightflow(0, "run", "flow.yaml", "--quiet")
        assert server.counts() == {"GET /echo": 1}


def test_a_type_of_a_plugin_file_runs_on_a_cluster_with_the_files_of_its_folder(folder: Folder) -> None:
    plugin_flow(folder, "succeed")
    folder.lightflow(0, "run", "flow.yaml", "--quiet")
    assert value(folder, "job") == ["node1", True]
    assert (things(folder), due(folder)) == ([], [])


def test_a_plugin_file_that_a_machine_lacks_is_named_with_the_machine(folder: Folder) -> None:
    plugin_flow(folder, "succeed", FLOW.replace("files: [remote.py, data.txt]", "files: [data.txt]"))
    text = folder.lightflow(1, "run", "flow.yaml")
    assert "/remote.py on node1, which has the type of the task: name it in `files` of the cluster" in text
    assert due(folder) == []


def test_an_attempt_is_undone_there_when_its_run_is_killed(folder: Folder) -> None:
    plugin_flow(folder, "wait")
    run = folder.popen("run", "flow.yaml", "--quiet")
    folder.await_file("pids")
    run.kill()
    run.communicate()
    assert folder.await_file("undone") == "node1\n"
    folder.until(lambda: things(folder) == [])
    assert due(folder) == [("job", "node1", None)], "only the owner removes the row"
    folder.lightflow(0, "resume", "flow.yaml", "--quiet")
    assert due(folder) == []
    assert set((folder.path / "undone").read_text().split()) == {"node1"}


def test_what_nobody_could_undo_is_named_by_doctor_and_undone_by_the_resume(folder: Folder) -> None:
    plugin_flow(folder, "wait")
    run = folder.popen("run", "flow.yaml", "--quiet")
    worker = int(folder.await_file("pids"))
    kill_all(run.pid, worker)
    run.communicate()
    assert len(things(folder)) == 1
    text = " ".join(folder.lightflow(0, "doctor").split())
    assert "the undo of job, attempt 1, was not done on node1; what it started may still run under the mark lf-" in text
    folder.lightflow(0, "resume", "flow.yaml", "--quiet")
    assert (things(folder), due(folder)) == ([], [])
    assert (folder.path / "undone").read_text() == "node1\n"


def kill_all(run: int, worker: int) -> None:
    """Kill a run and its agent at one instant, so that nobody of them can undo anything."""
    pids = [run, worker]
    for _ in ("guardian", "agent", "keeper"):
        row = tree.process(pids[-1])
        assert row is not None
        pids.append(row.parent)
    for number in (signal.SIGSTOP, signal.SIGKILL):
        for each in pids:
            os.kill(each, number)


def test_a_statement_is_ended_on_its_server_when_its_run_is_killed(
    folder: Folder, mysql: SqlServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.write("""
clusters: {lab: {ssh: ["node1:1"], python: PYTHON}}
secrets: [BASE]
tasks:
  slow:
    type: sql
    connection: "${{ secrets.BASE }}"
    sql: SELECT IF(${{ task.attempt }} = 1, BENCHMARK(100000000000, md5('a')), 7) AS n
    rows: value
    mode: lab
""")
    monkeypatch.setitem(folder.env, "BASE", mysql.url)
    run = folder.popen("run", "flow.yaml", "--quiet")
    folder.until(lambda: len(sql_servers.marked(mysql)) == 1)
    run.kill()
    run.communicate()
    folder.until(lambda: sql_servers.marked(mysql) == [])
    folder.lightflow(0, "resume", "flow.yaml", "--quiet")
    assert (value(folder, "slow"), due(folder)) == (7, [])


def test_a_file_of_this_machine_is_no_database_of_another(folder: Folder, monkeypatch: pytest.MonkeyPatch) -> None:
    text = """
clusters: {lab: {ssh: ["node1:1"], python: PYTHON}}
settings: {mode: lab}
secrets: [BASE]
tasks:
  here: {type: sql, connection: "sqlite:///a.db", sql: SELECT 1, rows: value}
  hidden: {type: sql, connection: "${{ secrets.BASE }}", sql: SELECT 1, depends_on: [here]}
"""
    assert 'a task of type "sql" opens a file of the machine of the run, so it runs there, not on a cluster' in (
        problems(text.replace("rows: value", "mode: lab"))
    )
    folder.write(text)
    monkeypatch.setitem(folder.env, "BASE", "sqlite:///b.db")
    out = folder.lightflow(1, "run", "flow.yaml")
    assert "b.db is a file of the machine of the run, and the task runs on node1: remove its mode, or use a" in out
    assert folder.hosts() == {"here": [None], "hidden": ["node1"]}


def test_a_type_of_a_plugin_that_waits_cannot_name_a_cluster(folder: Folder) -> None:
    plugin_flow(
        folder, "", FLOW.replace("things: FOLDER/things, how: HOW", "x: a").replace("type: remote", "type: sensor")
    )
    text = folder.lightflow(2, "validate", "flow.yaml")
    assert 'a task of type "sensor" waits on the machine of the run, not on a cluster' in text
