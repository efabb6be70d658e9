"""The commands that read runs, logs and files: they change nothing and accept any content."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pexpect
import pytest

from lightflow.cli.main import main

ROOT = Path(__file__).resolve().parents[2]
FLOW = """\
workflow_name: flow
description: For looking at
tasks:
  loud: {run: "printf 'one\\\\n\\\\033[31mtwo\\\\007\\\\n\\\\377'"}
  silent: {run: "true"}
  flaky: {run: "echo again; exit 3", retries: 1}
  after: {run: "echo never", depends_on: [flaky]}
"""
SLOW = """\
workflow_name: slow
tasks:
  talker: {run: "echo first; echo up > fifo; read line < go; echo last"}
"""


class Said(NamedTuple):
    code: int
    out: str
    err: str


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder in which a workflow has run, and failed."""
    folder = tmp_path_factory.mktemp("ran")
    (folder / "flow.yaml").write_text(FLOW)
    done = subprocess.run([*COMMAND, "run", "flow.yaml", "-q"], cwd=folder, env=ENV, capture_output=True, check=False)
    assert done.returncode == 1, done.stderr
    return folder


COMMAND = [sys.executable, "-m", "lightflow"]
ENV = {
    **{name: value for name, value in os.environ.items() if not name.startswith("LIGHTFLOW_")},
    "PYTHONPATH": str(ROOT),
}


@pytest.fixture
def look(ran: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> object:
    monkeypatch.chdir(ran)
    monkeypatch.delenv("LIGHTFLOW_DB", raising=False)

    def call(*arguments: str) -> Said:
        with pytest.raises(SystemExit) as end:
            main(arguments)
        out, err = capfd.readouterr()
        return Said(int(end.value.code or 0), out, err)

    return call


def test_status(look) -> None:  # type: ignore[no-untyped-def]
    output = look("status")
    assert output.code == 0
    assert output.out.splitlines()[0] == "flow  ✗ failed  2 succeeded, 1 failed, 1 upstream failed"
    assert "resume    lightflow resume " in output.out
    run = json.loads(look("status", "latest", "--json").out)
    assert [task["task"] for task in run["tasks"]] == ["loud", "silent", "flaky", "after"]
    assert run["tasks"][3]["depends_on"] == ["flaky"]
    assert look("status", run["run_id"][:-2]).code == 0


def test_lists(look) -> None:  # type: ignore[no-untyped-def]
    [workflow] = json.loads(look("list", "--json").out)
    assert (workflow["workflow"], workflow["latest"]["status"]) == ("flow", "FAILED")
    [run] = json.loads(look("runs", "--json").out)
    assert run["counts"] == {"FAILED": 1, "SUCCESS": 2, "UPSTREAM_FAILED": 1}
    assert "flow.yaml" in look("list").out
    assert "flow" in look("runs", "flow").out
    assert look("runs", "other").out == "no run of 'other'\n"
    [saved] = json.loads(look("list-checkpoints", "flow", "--json").out)
    assert (saved["completed"], saved["total"], saved["run_id"]) == (2, 4, run["run_id"])


def test_why(look) -> None:  # type: ignore[no-untyped-def]
    output = look("why", "after")
    assert "flaky" in output.out.splitlines()[0]
    assert "→ flaky is FAILED" in output.out
    result = json.loads(look("why", "latest", "after", "--json").out)
    assert (result["task"], result["status"], len(result["because"])) == ("after", "UPSTREAM_FAILED", 2)
    assert look("why", "a", "b", "c").code == 2
    assert look("why", "flakey").err.startswith("error: no run has a task 'flakey'; did you mean 'flaky'?")


def test_logs_in_a_pipe_are_the_bytes_of_the_task(ran: Path) -> None:
    done = subprocess.run([*COMMAND, "logs", "--task", "loud"], cwd=ran, env=ENV, capture_output=True, check=True)
    assert (done.stdout, done.stderr) == (b"one\n\x1b[31mtwo\x07\n\xff", b"")


def test_logs_on_a_terminal_command_nothing(ran: Path) -> None:
    env = {**ENV, "TERM": "xterm"}
    shown = pexpect.run(" ".join([*COMMAND, "logs", "loud"]), cwd=str(ran), env=env, encoding="utf-8")
    assert shown == "one\r\ntwo\\x07\r\n\ufffd"


def test_logs_of_several_attempts_and_of_none(look) -> None:  # type: ignore[no-untyped-def]
    output = look("logs", "--task", "flaky")
    assert output.out == "again\nagain\n"
    assert [line.split(":")[0] for line in output.err.splitlines()] == ["==> attempt 1", "==> attempt 2"]
    assert look("logs", "-t", "flaky", "--attempt", "2").err == ""
    assert look("logs", "-t", "flaky", "--attempt", "3").code == 3
    assert "printed nothing: it is SUCCESS" in look("logs", "-t", "silent").err
    assert "has not started: it is UPSTREAM_FAILED" in look("logs", "-t", "after").err
    shapes = json.loads(look("logs", "-t", "flaky", "--run", "latest", "--json").out)["attempts"]
    assert [(entry["attempt"], entry["exit_code"]) for entry in shapes] == [(1, 3), (2, 3)]
    assert look("logs", "a", "-t", "b").code == 2
    nobody = look("logs", "-t", "nobody")
    assert nobody.code == 3
    assert nobody.err.endswith("\n       the latest run has after, flaky, loud, silent\n")


def test_logs_without_a_task_are_those_of_the_run(ran: Path) -> None:
    done = subprocess.run([*COMMAND, "logs"], cwd=ran, env=ENV, capture_output=True, check=True)
    lines = done.stdout.splitlines()
    heads = [line.split(b":")[0] for line in lines if line.startswith(b"==> ")]
    assert sorted(heads) == [b"==> flaky, attempt 1", b"==> flaky, attempt 2", b"==> loud, attempt 1"]
    place = heads.index(b"==> loud, attempt 1")
    start = [line.split(b":")[0] for line in lines].index(heads[place])
    assert lines[start + 1 : start + 4] == [b"one", b"\x1b[31mtwo\x07", b"\xff"]
    shown = subprocess.run([*COMMAND, "logs", "--json", "--follow"], cwd=ran, env=ENV, capture_output=True, check=True)
    reported = json.loads(shown.stdout)
    assert (reported["task"], reported["status"]) == (None, "FAILED")
    assert [entry["task"] for entry in reported["attempts"]].count("flaky") == 2
    second = subprocess.run([*COMMAND, "logs", "--attempt", "2"], cwd=ran, env=ENV, capture_output=True, check=True)
    assert second.stdout.splitlines()[1:] == [b"again"]


def test_logs_are_followed_to_the_end(tmp_path: Path) -> None:
    (tmp_path / "slow.yaml").write_text(SLOW)
    for name in ("fifo", "go"):
        os.mkfifo(tmp_path / name)
    run = subprocess.Popen([*COMMAND, "run", "slow.yaml", "-q"], cwd=tmp_path, env=ENV, stdout=subprocess.DEVNULL)
    follow = None
    try:
        (tmp_path / "fifo").read_text()
        follow = subprocess.Popen(
            [*COMMAND, "logs", "-t", "talker", "-f"],
            cwd=tmp_path,
            env=ENV,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
        )
        assert follow.stdout is not None
        assert follow.stdout.readline() == b"first\n"
        (tmp_path / "go").write_text("go\n")
        assert follow.stdout.read() == b"last\n"
        assert follow.wait(timeout=120) == 0
        assert run.wait(timeout=120) == 0
    finally:
        for process in filter(None, (run, follow)):
            process.kill()
            process.communicate()


def test_dag(look, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    assert "flow_loud" not in look("dag", "flow.yaml", "--format", "mmd").out
    assert "digraph" in look("dag", "--file", "flow.yaml", "--format", "dot").out
    assert "failed" in look("dag", "flow.yaml", "--run", "latest", "-o", "-").out
    page = tmp_path / "run.html"
    assert look("dag", "--run", "latest", "-o", str(page)).out == f"wrote {page} (4 tasks)\n"
    assert page.stat().st_size > 1000
    assert look("dag").code == 2
    assert look("dag", "flow.yaml", "-o", "x.bmp").code == 2
    assert look("dag", "--run", "nope").code == 3


def test_validate(look, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    wrong = tmp_path / "wrong.yaml"
    wrong.write_text("tasks:\n  a:\n    run: echo\n    depend_on: [b]\n")
    assert look("validate", "flow.yaml").out == "✓ flow.yaml: valid, flow, 4 tasks\n"
    output = look("validate", "flow.yaml", str(wrong))
    assert output.code == 2
    assert output.err.splitlines()[0].startswith(f"{wrong}:4:5: tasks.a")
    result = json.loads(look("validate", "flow.yaml", str(wrong), "--json").out)
    assert [file["valid"] for file in result["files"]] == [True, False]
    assert result["files"][1]["problems"][0]["line"] == 4


def test_a_script_with_several_dags(look, tmp_path: Path) -> None:  # type: ignore[no-untyped-def]
    script = tmp_path / "two.py"
    script.write_text(
        "from liteflow import Dag\n"
        "with Dag('one') as one: one.task(print, task_id='a')\n"
        "with Dag('two') as two: two.task(print, task_id='b')\n"
    )
    assert look("validate", str(script)).out == f"✓ {script}: valid, one, two, 2 tasks\n"
    assert "choose one with --dag" in look("run", "-n", str(script)).err
    assert "b " in look("run", "-n", str(script), "--dag", "two").out


def test_template_and_schema(look, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:  # type: ignore[no-untyped-def]
    monkeypatch.chdir(tmp_path)
    assert look("template", "mine").out.splitlines()[0] == "wrote mine.yaml"
    assert look("validate", "mine.yaml").code == 0
    assert look("template", "mine").code == 2
    assert look("template", "../mine").code == 2
    assert "workflow_name" in json.loads(look("schema").out)["properties"]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_scripts(look, shell: str) -> None:  # type: ignore[no-untyped-def]
    assert "_LIGHTFLOW_COMPLETE" in look("completion", shell).out


@pytest.mark.parametrize(
    ("typed", "offered"),
    [("lightflow logs --task fl", "flaky"), ("lightflow runs f", "flow"), ("lightflow st", "status")],
)
def test_completion_answers(ran: Path, typed: str, offered: str) -> None:
    env = {**ENV, "_LIGHTFLOW_COMPLETE": "bash_complete", "COMP_WORDS": typed, "COMP_CWORD": str(typed.count(" "))}
    done = subprocess.run(COMMAND, cwd=ran, env=env, capture_output=True, text=True, check=False)
    assert done.stdout.split() == [f"plain,{offered}"]


@pytest.mark.parametrize("command", [["status"], ["runs"], ["list"], ["why", "x"], ["logs", "-t", "x"]])
def test_without_a_state_file(look, command: list[str]) -> None:  # type: ignore[no-untyped-def]
    output = look(*command, "--db", "nothing.db")
    assert (output.code, output.out) == (3, "")
    assert output.err.startswith("error: ")
    assert not Path("nothing.db").exists()


def test_a_reader_that_has_seen_enough(ran: Path) -> None:
    line = f"{' '.join(COMMAND)} schema | head -1; {' '.join(COMMAND)} logs loud | head -1"
    done = subprocess.run(["sh", "-c", line], cwd=ran, env=ENV, capture_output=True, text=True, check=True)
    assert (done.stdout, done.stderr) == ("{\none\n", "")


def test_a_full_disk_behind_stdout_is_reported(ran: Path) -> None:
    with open("/dev/full", "w") as full:
        done = subprocess.run([*COMMAND, "status"], cwd=ran, env=ENV, stdout=full, stderr=subprocess.PIPE, check=False)
    assert (done.returncode, done.stderr) == (5, b"error: No space left on device\n")


def test_names_with_control_characters(ran: Path) -> None:
    done = subprocess.run(
        [*COMMAND, "validate", "evil\x1b[2J.yaml"], cwd=ran, env=ENV, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stderr) == (2, "evil\\x1b[2J.yaml: no such file\n")


@pytest.mark.parametrize("columns", ["20", "60", "200"])
def test_any_width_of_terminal(ran: Path, columns: str) -> None:
    env = {**ENV, "TERM": "xterm", "COLUMNS": columns, "NO_COLOR": "1"}
    shown = pexpect.run(" ".join([*COMMAND, "runs"]), cwd=str(ran), env=env, encoding="utf-8")
    assert max(len(line) for line in shown.splitlines()) <= int(columns)
    assert "\x1b" not in shown


def test_clear_comes_last(tmp_path: Path) -> None:
    (tmp_path / "flow.yaml").write_text(FLOW)
    subprocess.run([*COMMAND, "run", "flow.yaml", "-q"], cwd=tmp_path, env=ENV, capture_output=True, check=False)
    done = subprocess.run(
        [*COMMAND, "clear", "flow"], cwd=tmp_path, env=ENV, capture_output=True, text=True, check=True
    )
    assert done.stdout == "flow: removed 1 checkpoint file, excluded 1 unfinished run from resume\n"
    again = subprocess.run(
        [*COMMAND, "clear", "flow"], cwd=tmp_path, env=ENV, capture_output=True, text=True, check=True
    )
    assert again.stdout == "nothing to clear of flow\n"
