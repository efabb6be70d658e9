"""Workflow files whose tasks run on machines that ssh reaches: here with a stand-in for ssh."""

from __future__ import annotations

import json
import os
import re
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import ssh_stand_in
from process_kit import is_alive

from liteflow.processes import tree

LIMIT_S = 120.0


class Folder:
    """A folder with a workflow, in which commands are executed."""

    def __init__(self, path: Path) -> None:
        self.path = path
        programs = os.path.dirname(sys.executable)  # the `python3` of the machines has Lightflow
        self.env = {**os.environ, "PATH": ssh_stand_in.install(path / "bin", programs)}

    def write(self, text: str) -> None:
        (self.path / "flow.yaml").write_text(text.replace("PYTHON", sys.executable), encoding="utf-8")

    def popen(self, *words: str) -> subprocess.Popen[str]:
        command = [sys.executable, "-m", "lightflow", *words]
        streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
        return subprocess.Popen(command, cwd=self.path, env=self.env, text=True, **streams)  # type: ignore[call-overload,no-any-return]

    def lightflow(self, code: int, *words: str) -> str:
        process = self.popen(*words)
        out, err = process.communicate(timeout=LIMIT_S)
        assert process.returncode == code, out + err
        return out + err

    def hosts(self) -> dict[str, list[str | None]]:
        tasks = json.loads(self.lightflow(0, "status", "--json"))["tasks"]
        return {task["task"]: [attempt["host"] for attempt in task["attempts"]] for task in tasks}

    def await_host(self, task_id: str, host: str) -> None:
        """Wait until the state file has the machine of the attempt that runs."""
        self.until(lambda: self.hosts().get(task_id) == [host])

    def until(self, condition: Callable[[], bool]) -> None:
        give_up = time.monotonic() + LIMIT_S
        while not condition():
            assert time.monotonic() < give_up
            time.sleep(0.01)

    def await_file(self, name: str) -> str:
        self.until(lambda: (self.path / name).exists() and bool((self.path / name).read_text()))
        return (self.path / name).read_text()


@pytest.fixture
def folder(tmp_path: Path) -> Iterator[Folder]:
    return Folder(tmp_path)


def test_tasks_run_where_their_mode_says(folder: Folder) -> None:
    folder.write("""
clusters: {lab: {ssh: ["node1:2"], python: PYTHON}}
settings: {mode: lab}
tasks:
  make: {run: 'echo "n=20" >> "$LIGHTFLOW_OUTPUT"'}
  double: {run: "echo ${{ (tasks.make.outputs.n | int) * 2 }}"}
  calls: {type: python, call: "json:dumps", args: {obj: "${{ tasks.make.outputs.n }}"}}
  waits: {type: wait, duration: 0.01}
  here: {run: "echo ${{ tasks.make.outputs.n }}", mode: thread}
""")
    folder.lightflow(0, "run", "flow.yaml", "--quiet")
    hosts = {"make": ["node1"], "double": ["node1"], "calls": ["node1"], "waits": [None], "here": [None]}
    assert folder.hosts() == hosts
    assert folder.lightflow(0, "logs", "double").strip() == "40"


def test_a_cluster_of_the_command_line_needs_no_declaration(folder: Folder) -> None:
    folder.write("tasks: {a: {run: echo hi}}\n")
    folder.lightflow(0, "run", "flow.yaml", "--mode", "ssh", "--cluster", "node1,node2", "--quiet")
    [[host]] = folder.hosts().values()
    assert host in ("node1", "node2")


def test_machines_of_the_command_line_do_not_replace_a_cluster_of_that_name(folder: Folder) -> None:
    (folder.path / "flow.py").write_text(
        "from lightflow.clusters import ssh\nfrom liteflow import Dag\n"
        "dag = Dag('flow', 'lightflow.db', clusters={'ssh': ssh('node9')})\ndag.shell('true', 'a')\n"
    )
    text = folder.lightflow(2, "run", "flow.py", "--mode", "ssh", "--cluster", "node1")
    assert "--cluster names machines for the mode 'ssh', and flow declares a cluster of this name" in text


def test_a_run_is_continued_on_the_machines_that_its_command_line_named(folder: Folder) -> None:
    folder.write("tasks: {a: {run: 'test -e gate'}}\n")
    folder.lightflow(1, "run", "flow.yaml", "--mode", "ssh", "--cluster", "node1, node2:2", "--quiet")
    assert "node1,node2:2 (--mode ssh)" in folder.lightflow(0, "status")
    assert "mode ssh" in folder.lightflow(0, "resume", "flow.yaml", "--dry-run")
    assert "its tasks run on node1,node2:2" in folder.lightflow(1, "resume", "flow.yaml")
    folder.lightflow(1, "retry", "latest", "--from", "a", "--quiet")
    folder.lightflow(1, "resume", "latest", "--mode", "ssh", "--cluster", "node3", "--quiet")
    folder.lightflow(1, "resume", "latest", "--quiet")
    [[*first, third, fourth]] = folder.hosts().values()
    assert {"node1", "node2"} >= {*first}, "as the run was started"
    assert (third, fourth) == ("node3", "node3"), "as it was resumed last"
    folder.lightflow(1, "resume", "latest", "--mode", "process", "--quiet")
    (folder.path / "gate").touch()
    folder.lightflow(0, "resume", "latest", "--quiet")
    [[*_, fifth, sixth]] = folder.hosts().values()
    assert (fifth, sixth) == (None, None), "another mode is another machine"


def test_a_task_that_waits_for_a_machine_says_since_when_and_why_there_is_none(folder: Folder) -> None:
    folder.write("""
clusters: {lab: {ssh: ["node1:1"], python: PYTHON}}
tasks:
  first: {run: "echo > started; sleep 600", mode: lab}
  second: {run: "true", mode: lab}
""")
    run = folder.popen("run", "flow.yaml", "--quiet")
    folder.await_file("started")
    reason = "ssh: connect to host node1 port 22: No route to host"
    (folder.path / "bin" / "ssh").write_text(f"#!/bin/sh\necho '{reason}' >&2\nexit 255\n")
    for placer in _children(run.pid, "liteflow.remote.hosts"):
        for client in _children(placer, "ssh_stand_in.py"):
            os.kill(client, signal.SIGKILL)
    give_up = time.monotonic() + LIMIT_S
    while reason not in (text := folder.lightflow(0, "why", "second")):
        assert time.monotonic() < give_up, text
    assert re.search(
        r"second is PENDING: waits for a machine of lab: none has answered since \d{4}-.*: node1: ssh", text
    )
    run.kill()
    run.communicate()


def _children(pid: int, word: str) -> list[int]:
    """Return the children of a process that have a word in their command lines."""
    rows = [row.pid for row in tree.processes().values() if row.parent == pid]
    return [each for each in rows if word.encode() in Path(f"/proc/{each}/cmdline").read_bytes()]


def test_a_cluster_without_a_machine_interrupts_the_run_with_the_reason(folder: Folder) -> None:
    folder.write("clusters: {lab: {ssh: unreachable}}\nsettings: {mode: lab}\ntasks: {a: {run: echo hi}}\n")
    text = folder.lightflow(5, "run", "flow.yaml")
    assert "the cluster 'lab' has no machine that can run a task" in text
    assert "Could not resolve hostname unreachable" in text
    assert folder.hosts() == {"a": []}
    assert "  resume  lightflow resume flow.yaml\n" in text
    assert "  → the run is INTERRUPTED: the cluster 'lab' has no machine" in folder.lightflow(0, "why", "a")


def test_a_machine_on_which_no_agent_starts_has_no_socket_left(folder: Folder) -> None:
    folder.write("clusters: {lab: {ssh: node1, python: no-python}}\nsettings: {mode: lab}\ntasks: {a: {run: echo}}\n")
    ssh = folder.path / "bin" / "ssh"
    program, line = ssh.read_text().split("\n", 1)
    ssh.write_text(f'{program}\necho "$*" >> sockets\n{line}')
    text = folder.lightflow(5, "run", "flow.yaml")
    assert "`python: /opt/lightflow/bin/python`" in text
    sockets = re.findall("/tmp/lightflow-[0-9a-f]+.sock", (folder.path / "sockets").read_text())
    assert sockets
    assert [path for path in sockets if os.path.exists(path)] == []


def test_sockets_to_which_no_agent_has_connected_are_removed_by_the_next_agent(folder: Folder) -> None:
    folder.write("clusters: {lab: {ssh: node1, python: PYTHON}}\nsettings: {mode: lab}\ntasks: {a: {run: echo}}\n")
    old, new, other = (Path(f"/tmp/lightflow-{os.urandom(6).hex()}.sock") for _ in range(3))
    for path in (old, new):
        with socket.socket(socket.AF_UNIX) as left:
            left.bind(str(path))
    other.touch()  # no socket
    an_hour_ago = time.time() - 3600.0
    for path in (old, other):
        os.utime(path, (an_hour_ago, an_hour_ago))
    folder.lightflow(0, "run", "flow.yaml", "--quiet")
    assert [path.exists() for path in (old, new, other)] == [False, True, True]
    new.unlink()
    other.unlink()


def test_a_run_says_how_many_tasks_its_cluster_runs_at_once_and_where_an_attempt_failed(folder: Folder) -> None:
    folder.write("""
clusters: {lab: {ssh: ["node1:3"], python: PYTHON}}
settings: {mode: lab, max_workers: 2}
tasks: {a: {run: "exit 3"}}
""")
    text = folder.lightflow(1, "run", "flow.yaml")
    assert ", 1 task, 3 at once, mode lab\n" in text
    assert "✗ a failed on node1: exit code 3\n" in text


@pytest.mark.parametrize("mode", ["lab", "process"])
@pytest.mark.parametrize("how", ["cancel", "interrupt"])
def test_the_second_cancel_ends_tasks_at_once(folder: Folder, mode: str, how: str) -> None:
    folder.write("""
clusters: {lab: {ssh: ["node1:1"], python: PYTHON}}
tasks:
  t:
    kill_grace: 1h
    run: |
      trap 'echo > asked' TERM
      echo > started
      while :; do sleep 0.02 || true; done
""")
    run = folder.popen("run", "flow.yaml", "--quiet", "--mode", mode)
    for name in ("started", "asked"):
        folder.await_file(name)
        if how == "interrupt":
            run.send_signal(signal.SIGINT)
        else:
            folder.popen("cancel", "latest", "--wait", "0").communicate(timeout=LIMIT_S)
    assert run.wait(LIMIT_S) == (130 if how == "interrupt" else 1)
    run.communicate()


def test_a_task_that_waits_for_a_slot_says_so(folder: Folder) -> None:
    folder.write("""
clusters: {lab: {ssh: ["node1:1"], python: PYTHON}}
tasks:
  first: {run: "echo hi; echo > started; while [ ! -e gate ]; do sleep 0.02; done", mode: lab}
  second: {run: "true", mode: lab}
""")
    run = folder.popen("run", "flow.yaml", "--quiet")
    folder.await_file("started")
    folder.await_host("first", "node1")
    reason = "second is PENDING: waits for a slot of lab (1 of 1 is in use: first)"
    folder.until(lambda: reason in folder.lightflow(0, "why", "second"))
    assert "first is RUNNING: attempt 1 is running on node1; " in folder.lightflow(0, "why", "first")
    assert "==> first, attempt 1: RUNNING on node1" in folder.lightflow(0, "logs")
    (folder.path / "gate").touch()
    assert run.wait(LIMIT_S) == 0
    run.communicate()


def test_the_tasks_of_a_killed_run_end_on_the_cluster_and_a_resume_runs_them(folder: Folder) -> None:
    folder.write("""
clusters: {lab: {ssh: ["node1:1"], python: PYTHON}}
settings: {mode: lab}
tasks:
  done: {run: "echo x >> done"}
  long: {run: "echo $$ >> pids; [ -e gate ] || sleep 600", depends_on: [done]}
""")
    run = folder.popen("run", "flow.yaml", "--quiet")
    pid = int(folder.await_file("pids"))
    folder.await_host("long", "node1")
    run.kill()
    run.communicate()
    (folder.path / "gate").touch()
    folder.lightflow(0, "resume", "flow.yaml", "--quiet")
    assert not is_alive(pid)
    assert (folder.path / "done").read_text() == "x\n"
    assert (folder.path / "pids").read_text().count("\n") == 2
    assert folder.hosts() == {"done": ["node1"], "long": ["node1", "node1"]}, "also that of the lost attempt"
