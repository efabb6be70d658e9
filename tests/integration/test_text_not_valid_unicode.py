"""Text that is not valid Unicode, such as an old file name in a message, is stored with escapes."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import flow_folder
import pytest

from liteflow import Dag, SkipTask, XCom, current_context
from liteflow.errors import DefinitionError
from liteflow.state.history import History

ODD = {"a file name": os.fsdecode(b"caf\xe9.txt"), "half a pair": "x\ud800y"}
SHOWN = {"a file name": "caf\\udce9.txt", "half a pair": "x\\ud800y"}


def fail_with(error: BaseException, cause: BaseException | None = None) -> Callable[[], None]:
    def task() -> None:
        raise error from cause

    return task


def noted(text: str) -> ValueError:
    error = ValueError("plain")
    error.add_note(text)
    return error


def push(text: str) -> Callable[[], None]:
    return lambda: current_context().xcom_push(text, 1)


KINDS: dict[str, Callable[[str], Callable[[], Any]]] = {
    "message": lambda text: fail_with(ValueError(f"cannot parse {text}")),
    "cause": lambda text: fail_with(ValueError("plain"), KeyError(text)),
    "note": lambda text: fail_with(noted(text)),
    "group": lambda text: fail_with(ExceptionGroup(text, [ValueError(text)])),
    "exit": lambda text: fail_with(SystemExit(text)),
    "skip": lambda text: fail_with(SkipTask(text)),
    "key": push,
    "value": lambda text: lambda: {text: [text]},
}


@pytest.mark.parametrize("mode", ["thread", "process", "async", "inline"])
@pytest.mark.parametrize("odd", ODD)
def test_what_tasks_say(db: str, odd: str, mode: str, tmp_path: Path) -> None:
    with Dag("flow", db) as dag:
        for name, make in KINDS.items():
            dag.task(make(ODD[odd]), task_id=name)
        dag.task(lambda: 1, task_id="neighbour")
    run = dag.run(mode=mode, log_dir=str(tmp_path / "logs"))
    wanted = dict.fromkeys(["message", "cause", "note", "group", "exit"], "FAILED")
    assert run.statuses() == {**wanted, "skip": "SKIPPED", "key": "SUCCESS", "value": "SUCCESS", "neighbour": "SUCCESS"}
    with History(db) as history:
        reported = {entry.task_id: f"{entry.reason} {entry.error_log}" for entry in history.instances(run.run_id)}
    assert SHOWN[odd] in reported["message"]
    assert SHOWN[odd] in reported["skip"]
    assert XCom.load(db, run.run_id, "key", ODD[odd]) == 1
    assert run.value("value") == {ODD[odd]: [ODD[odd]]}
    again = dag.resume(run.run_id, mode=mode)
    assert again.status == "FAILED"


@pytest.mark.parametrize("odd", ODD)
def test_hooks_conditions_labels_and_outputs_of_commands(db: str, odd: str, tmp_path: Path) -> None:
    text = ODD[odd]
    with Dag("flow", db, f"about {text}") as dag:
        dag.task(fail_with(ValueError("plain")), task_id="hooked", on_failure=fail_with(ValueError(text)))
        dag.task(fail_with(ValueError(text)), task_id="failing", on_failure=lambda: None)
        dag.task(lambda: 1, task_id="asked", run_if=lambda context: fail_with(ValueError(text))())
    run = dag.run(mode="process", log_dir=str(tmp_path / "logs"))
    assert run.statuses() == {"hooked": "FAILED", "failing": "FAILED", "asked": "FAILED"}
    with History(db) as history:
        assert {entry.status for entry in history.hooks(run.run_id)} <= {"SUCCESS", "FAILED"}


YAML = """\
workflow_name: flow
tasks:
  parse: {type: python, call: "m:parse", on_failure: {type: python, run: "raise ValueError(__import__('m').NAME)"}}
  hook: {run: exit 1, on_failure: 'echo "$LIGHTFLOW_HOOK_ERROR"'}
  each: {type: python, foreach: [1], call: "m:parse"}
  names: {type: python, call: "m:names"}
  label: {foreach: "${{ tasks.names.result }}", run: 'echo "${{ item }}"'}
  other: {run: echo fine}
"""


def test_a_workflow_and_all_that_shows_it(tmp_path: Path) -> None:
    flow_folder.write(tmp_path, YAML)
    (tmp_path / "m.py").write_text(
        "import os\nNAME = os.fsdecode(b'caf\\xe9.txt')\n"
        "def parse(): raise ValueError('cannot parse ' + NAME)\ndef names(): return [NAME, 'plain']\n"
    )
    for words in (["run", "flow.yaml"], ["resume", "flow.yaml"]):
        done = flow_folder.lightflow(tmp_path, *words)
        assert done.returncode == 1, done.stderr
        assert "caf\\udce9.txt" in done.stdout + done.stderr
    for words in (["runs"], ["status"], ["why", "parse"], ["list"], ["logs", "parse"], ["outputs"]):
        assert flow_folder.lightflow(tmp_path, *words).returncode == 0, words
    status = json.loads(flow_folder.lightflow(tmp_path, "status", "--json").stdout)
    states = {entry["task"]: entry["status"] for entry in status["tasks"]}
    assert (states["other"], states["label"], states["parse"]) == ("SUCCESS", "SUCCESS", "FAILED")
    runs = json.loads(flow_folder.lightflow(tmp_path, "runs", "--json").stdout)
    assert len(runs) == 1


@pytest.mark.parametrize("name", [b"bad\xff", "日本 \\udcff".encode(), b"\xe9\xe8/\xff"])
def test_a_folder_whose_name_is_not_utf_8(tmp_path: Path, name: bytes) -> None:
    folder = os.path.join(os.fsencode(tmp_path), name)
    os.makedirs(folder)
    with open(os.path.join(folder, b"flow.yaml"), "w") as file:
        file.write("workflow_name: w\ntasks: {a: {run: 'echo said; test -e ok'}}\n")
    here = Path(os.fsdecode(folder))

    def call(*words: str) -> subprocess.CompletedProcess[bytes]:
        return subprocess.run(
            [sys.executable, "-m", "lightflow", *words],
            cwd=folder, env=flow_folder.environment(), capture_output=True, check=False,
        )  # fmt: skip

    assert call("run", "flow.yaml", "-q").returncode == 1
    assert call("logs", "a").stdout == b"said\n"
    (here / "ok").touch()
    resumed = call("resume", json.loads(call("status", "--json").stdout)["run_id"])
    assert resumed.returncode == 0, resumed.stderr
    assert b"was started in" not in resumed.stderr
    for words in (
        ["status"],
        ["runs", "--json"],
        ["why", "a"],
        ["list"],
        ["doctor"],
        ["list-checkpoints"],
        ["dag", "flow.yaml"],
    ):
        done = call(*words)
        assert (done.returncode, b"Traceback" in done.stderr) == (0, False), (words, done.stderr)


def test_a_parameter(db: str) -> None:
    with Dag("flow", db) as dag:
        dag.task(lambda: 1, task_id="a")
    try:
        run = dag.run(mode="inline", params={"name": ODD["a file name"]})
    except DefinitionError:
        return  # refused with a sentence is right, too
    with History(db) as history:
        assert history.run(run.run_id).params == {"name": ODD["a file name"]}
