"""`python3 -m liteflow` as a process: what it prints, where, and its exit codes; hostile state files included."""

from __future__ import annotations

import json
import os
import pty
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from liteflow import Dag
from liteflow.cli import main
from liteflow.cli.output import has_browser

ROOT = Path(__file__).resolve().parents[2]
ENV = {
    **{
        name: value
        for name, value in os.environ.items()
        if name not in ("DISPLAY", "WAYLAND_DISPLAY", "PYTHONUNBUFFERED")
    },
    "PYTHONPATH": str(ROOT),
}


def one() -> int:
    return 1


def two(one: int) -> int:
    return one + 1


def bad(two: int) -> None:
    raise ValueError("no luck")


@pytest.fixture
def db(tmp_path: Path) -> Path:
    """A state file with two runs of `good` and one of `sad`."""
    path = tmp_path / "liteflow.db"
    with Dag("good", str(path), "Adds") as dag:
        dag.task(one)
        dag.task(two)
    dag.run(mode="inline", run_id="run-a1")
    dag.run(mode="inline", run_id="run-b1")
    with Dag("sad", str(path)) as dag:
        dag.task(one)
        dag.task(two)
        dag.task(bad)
    dag.run(mode="inline", run_id="sad-1")
    return path


def cli(*args: str, cwd: Path, stdin: str = "") -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "liteflow", *args],
        cwd=cwd, env=ENV, input=stdin, capture_output=True, text=True, timeout=60,
    )  # fmt: skip


def refused(done: subprocess.CompletedProcess[str], exit_code: int, *words: str) -> None:
    """One line on stderr, nothing on stdout."""
    assert (done.returncode, done.stdout) == (exit_code, "")
    assert len(done.stderr.splitlines()) == 1, done.stderr
    assert done.stderr.startswith("python3 -m liteflow")
    for word in words:
        assert word in done.stderr


# -- list ------------------------------------------------------------------------------------------------------


def test_list_shows_each_dag_with_its_last_run(db: Path) -> None:
    lines = cli("list", "--db", str(db), cwd=db.parent).stdout.splitlines()
    assert lines[0].split() == ["DAG", "LAST", "RUN", "STATE", "STARTED", "DURATION", "TASKS"]
    assert [line.split()[:3] for line in lines] == [
        ["DAG", "LAST", "RUN"],
        ["good", "run-b1", "SUCCESS"],
        ["sad", "sad-1", "FAILED"],
    ]
    assert lines[1].endswith("2 success")
    assert lines[2].endswith("1 failed, 2 success")


def test_list_of_a_dag_shows_its_runs(db: Path) -> None:
    lines = cli("list", "good", cwd=db.parent).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["RUN", "run-b1", "run-a1"]
    assert lines[0].split() == ["RUN", "STATE", "STARTED", "DURATION", "TASKS"]
    assert len(cli("list", "good", "--limit", "1", cwd=db.parent).stdout.splitlines()) == 2


def test_list_as_json(db: Path) -> None:
    dags = json.loads(cli("list", "--json", cwd=db.parent).stdout)
    assert [(one["dag_id"], one["last_run"]["run_id"]) for one in dags] == [("good", "run-b1"), ("sad", "sad-1")]
    assert dags[1]["last_run"]["tasks"] == {"FAILED": 1, "SUCCESS": 2}
    runs = json.loads(cli("list", "good", "--json", cwd=db.parent).stdout)
    assert [one["run_id"] for one in runs] == ["run-b1", "run-a1"]


# -- visualize ---------------------------------------------------------------------------------------------------


def test_visualize_writes_a_page_into_the_current_folder(db: Path) -> None:
    done = cli("visualize", "sad", "--db", "liteflow.db", cwd=db.parent)
    assert (done.returncode, done.stdout, done.stderr) == (0, "sad.html\n", "")
    page = (db.parent / "sad.html").read_text(encoding="utf-8")
    assert page.startswith("<!doctype html>")
    assert "no luck" in page
    assert not [name for name in os.listdir(db.parent) if name.endswith(".tmp")]


@pytest.mark.parametrize("name", ["good", "run-b1", "run-b"])
def test_visualize_takes_a_dag_a_run_or_the_beginning_of_one(db: Path, name: str) -> None:
    done = cli("visualize", name, "--format", "mermaid", cwd=db.parent)
    assert done.returncode == 0
    assert "t_one --> t_two" in done.stdout
    assert done.stdout.count("success ·") == 2


def test_the_output_file_names_the_format(db: Path) -> None:
    assert cli("visualize", "good", "-o", "g.mmd", cwd=db.parent).stdout == "g.mmd\n"
    assert (db.parent / "g.mmd").read_text(encoding="utf-8").startswith("---\ntitle")
    assert cli("visualize", "good", "-o", "-", cwd=db.parent).stdout.startswith("---\ntitle")
    assert cli("visualize", "good", "-o", "-", "--format", "html", cwd=db.parent).stdout.startswith("<!doctype")
    refused(cli("visualize", "good", "-o", "g.txt", cwd=db.parent), 2, ".mmd")
    refused(cli("visualize", "good", "-o", "no/where.html", cwd=db.parent), 2, "No such file or directory")
    assert cli("visualize", "good", "-o", "/dev/null", "--format", "html", cwd=db.parent).returncode == 0
    assert Path("/dev/null").is_char_device()


def test_an_old_run_keeps_its_graph(db: Path) -> None:
    with Dag("good", str(db)) as dag:
        dag.task(one, task_id="renamed")
    dag.run(mode="inline")
    assert "t_two" in cli("visualize", "run-a1", "--format", "mermaid", cwd=db.parent).stdout
    latest = cli("visualize", "good", "--format", "mermaid", cwd=db.parent).stdout
    assert "t_renamed" in latest
    assert "t_two" not in latest


def test_a_script_is_drawn_without_being_run(tmp_path: Path) -> None:
    script = tmp_path / "flow.py"
    script.write_text(
        "from liteflow import Dag\n"
        "print('noise', flush=True)\n"
        "def a(): open('ran', 'w')\n"
        "def b(a): pass\n"
        "with Dag('drawn') as dag:\n    dag.task(a); dag.task(b)\n"
        "dag.run()\nopen('went on', 'w')\n"
    )
    done = cli("visualize", "flow.py", "--format", "mermaid", cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "t_a --> t_b" in done.stdout
    assert "noise" not in done.stdout
    assert not {"ran", "went on", "lightflow.db"} & set(os.listdir(tmp_path))


def test_a_dag_that_is_made_in_main_is_found(tmp_path: Path) -> None:
    (tmp_path / "flow.py").write_text(
        "from liteflow import Dag\n"
        "def a(): pass\n"
        "if __name__ == '__main__':\n    with Dag('inner') as dag:\n        dag.task(a)\n"
        "    raise SystemExit(dag.run())\n"
    )
    assert "t_a" in cli("visualize", "flow.py", "--format", "mermaid", cwd=tmp_path).stdout


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("x = 1\nraise ValueError('a\\x1b[31mb\\nc')\n", (":2: ValueError", "a\ufffd[31mb c")),
        ("def broken(:\n", (":1: SyntaxError",)),
        ("x = 1\n", ("defines no dag",)),
        ("import os\nos._exit(3)\n", ("ended by itself", "3")),
        (
            "from liteflow import Dag\ndef f(): pass\n"
            "for name in 'ab':\n    with Dag(name) as d: d.task(f)\n",
            ("several dags", "a, b", "--dag"),
        ),
        ("from liteflow import Dag\ndef f(x): pass\nwith Dag('a') as d: d.task(f)\n", ("parameter 'x' has no value",)),
    ],
)  # fmt: skip
def test_a_script_that_cannot_be_drawn_is_one_line(tmp_path: Path, text: str, words: tuple[str, ...]) -> None:
    (tmp_path / "flow.py").write_text(text)
    refused(cli("visualize", "flow.py", cwd=tmp_path), 2, "flow.py", *words)


def test_a_script_has_a_time_limit_and_takes_its_children_along(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    pid_file = tmp_path / "pid"
    (tmp_path / "flow.py").write_text(
        f"import subprocess, time\nchild = subprocess.Popen(['sleep', '600'])\n"
        f"open({str(pid_file)!r}, 'w').write(str(child.pid))\ntime.sleep(600)\n"
    )
    monkeypatch.setattr("liteflow.scripts.TIME_LIMIT_S", 2.0)
    assert main(["visualize", str(tmp_path / "flow.py"), "--no-open"]) == 2
    assert "took more than 2 s" in capsys.readouterr().err
    pid = int(pid_file.read_text())
    for _ in range(100):
        try:
            state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
        except OSError:
            return
        if state == "Z":
            return
        time.sleep(0.05)
    pytest.fail("the script's child is still alive")


def test_no_browser_without_a_display(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sys.stdout.isatty", lambda: True, raising=False)
    for name in ("CI", "DISPLAY", "WAYLAND_DISPLAY"):
        monkeypatch.delenv(name, raising=False)
    assert not has_browser()
    monkeypatch.setenv("DISPLAY", ":0")
    assert has_browser()
    monkeypatch.setenv("CI", "true")
    assert not has_browser()


# -- delete ------------------------------------------------------------------------------------------------------


def test_delete_refuses_when_no_terminal_can_confirm(db: Path) -> None:
    refused(cli("delete", "good", cwd=db.parent), 2, "--yes", "2 runs")
    refused(cli("delete", cwd=db.parent), 2, "--run")
    assert len(Dag.all_dags(str(db))) == 2


def test_delete_a_run_then_a_dag(db: Path) -> None:
    assert cli("delete", "--run", "run-a1", "--yes", cwd=db.parent).stdout == "deleted run run-a1 of 'good'\n"
    refused(cli("delete", "sad", "--run", "run-b1", "--yes", cwd=db.parent), 2, "not of 'sad'")
    assert cli("delete", "good", "--yes", cwd=db.parent).stdout == "deleted dag 'good' with 1 run\n"
    assert [dag.dag_id for dag in Dag.all_dags(str(db))] == ["sad"]
    refused(cli("delete", "good", "--yes", cwd=db.parent), 3, "no dag 'good'")


@pytest.mark.parametrize(("answer", "left"), [(b"y\n", 1), (b"n\n", 2), (b"\n", 2)])
def test_delete_confirms_on_a_terminal(db: Path, answer: bytes, left: int) -> None:
    ours, theirs = pty.openpty()
    child = subprocess.Popen(
        [sys.executable, "-m", "liteflow", "delete", "good", "--db", str(db)],
        env=ENV, stdin=theirs, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.write(ours, answer)
    _, asked = child.communicate(timeout=120)
    os.close(ours)
    os.close(theirs)
    assert child.returncode == 0
    assert b"Delete dag 'good' with 2 runs" in asked
    assert len(Dag.all_dags(str(db))) == left


# -- errors and hostile input --------------------------------------------------------------------------------------


def test_mistakes_are_one_line_with_the_right_code(db: Path) -> None:
    folder = db.parent
    refused(cli("lst", cwd=folder), 2, "'lst'", "--help")
    refused(cli("list", "--limit", "0", cwd=folder), 2, "above 0")
    refused(cli("list", "--db", "none.db", cwd=folder), 3, "none.db", "no such state file")
    refused(cli("list", "nobody", cwd=folder), 3, "no dag 'nobody'")
    refused(cli("visualize", "run-", cwd=folder), 3, "'run-'", "list")
    refused(cli("visualize", "missing.py", cwd=folder), 3, "missing.py")
    refused(cli("scaffold", "a b", cwd=folder), 2, "dag id")
    (folder / "text.db").write_text("not a database, but long enough to look at" * 100)
    refused(cli("list", "--db", "text.db", cwd=folder), 3, "text.db")
    assert not (folder / "none.db").exists()


def test_no_command_prints_help(tmp_path: Path) -> None:
    done = cli(cwd=tmp_path)
    assert (done.returncode, done.stderr) == (0, "")
    assert "python3 -m liteflow" in done.stdout.splitlines()[0]
    assert done.stdout == cli("--help", cwd=tmp_path).stdout == cli("help", cwd=tmp_path).stdout


def test_commands_of_other_programs_lead_on(tmp_path: Path) -> None:
    refused(cli("rm", "etl", cwd=tmp_path), 2, "`liteflow delete`")
    refused(cli("ls", cwd=tmp_path), 2, "`liteflow list`")
    refused(cli("run", "etl.yaml", cwd=tmp_path), 2, "`lightflow run`")
    assert cli("version", cwd=tmp_path).stdout == cli("--version", cwd=tmp_path).stdout


@pytest.mark.parametrize(("wanted", "other"), [("liteflow.db", "lightflow.db"), ("lightflow.db", "liteflow.db")])
def test_the_state_file_of_the_other_program_is_named(tmp_path: Path, wanted: str, other: str) -> None:
    refused(cli("list", "--db", wanted, cwd=tmp_path), 3, "run a workflow first")
    (tmp_path / other).touch()
    refused(cli("list", "--db", wanted, cwd=tmp_path), 3, "--db", f"/{other}")
    refused(cli("delete", "etl", "--yes", "--db", wanted, cwd=tmp_path), 3, "--db", f"/{other}")


@pytest.mark.alters_rows("it puts control characters into names")
def test_names_in_the_file_cannot_reach_the_terminal(db: Path) -> None:
    evil = "../x\x1b]0;owned\x07\x9b31m\u202e\ny"
    connection = sqlite3.connect(db)
    with connection:
        connection.execute("UPDATE liteflow_dags SET dag_id=?, description=? WHERE dag_id='good'", (evil, evil))
        connection.execute("UPDATE liteflow_dag_runs SET dag_id=?, status=? WHERE run_id='run-b1'", (evil, evil))
        connection.execute("UPDATE liteflow_dag_runs SET started_at=1e300 WHERE run_id='run-b1'")
        connection.execute("UPDATE liteflow_task_instances SET status=?, dependencies='7', reason=?", (evil, evil))
        connection.execute("UPDATE liteflow_graphs SET snapshot='{\"tasks\": 5}'")
    connection.close()
    lines: list[tuple[str, ...]] = [("list",), ("list", "--json"), ("visualize", "run-b1", "--format", "mermaid")]
    lines += [("list", evil), ("visualize", evil), ("visualize", "run-b1", "-o", "-", "--format", "html")]
    for line in [*lines, ("delete", evil)]:
        done = cli(*line, cwd=db.parent)
        assert (done.returncode, done.stdout) in ((2, ""), (3, "")), line
        assert not set(done.stdout + done.stderr) & set("\x1b\x07\x9b\u202e")
    assert not (db.parent.parent / "x.html").exists()


def test_words_in_the_file_cannot_reach_the_terminal(db: Path) -> None:
    """Those that people choose, in which anything may stand."""
    evil = "../x\x1b]0;owned\x07\x9b31m\u202e\ny"
    connection = sqlite3.connect(db)
    with connection:
        connection.execute("UPDATE liteflow_dags SET description=? WHERE dag_id='good'", (evil,))
        connection.execute("UPDATE liteflow_dag_runs SET reason=?, started_at=1e300 WHERE run_id='run-b1'", (evil,))
        connection.execute("UPDATE liteflow_task_instances SET dependencies='7', reason=?", (evil,))
        connection.execute("UPDATE liteflow_graphs SET snapshot='{\"tasks\": 5}'")
    connection.close()
    lines: list[tuple[str, ...]] = [("list",), ("list", "--json"), ("visualize", "run-b1", "--format", "mermaid")]
    for line in [*lines, ("list", "good"), ("visualize", "run-b1", "-o", "-", "--format", "html")]:
        done = cli(*line, cwd=db.parent)
        assert done.returncode == 0, (line, done.stderr)
        assert not set(done.stdout + done.stderr) & set("\x1b\x07\x9b\u202e")


@pytest.mark.parametrize("command", ["list", "scaffold", "--help", "visualize good -o - --format html"])
def test_a_reader_that_goes_away_causes_no_traceback(db: Path, command: str) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    child = subprocess.Popen(
        [sys.executable, "-m", "liteflow", *command.split()],
        cwd=db.parent, env=ENV, stdout=writing, stderr=subprocess.PIPE,
    )  # fmt: skip
    os.close(writing)
    _, complaint = child.communicate(timeout=120)
    assert (child.returncode, complaint) == (141, b"")


def test_a_full_disk_and_a_closed_stdout_are_distinguished(db: Path) -> None:
    def run(line: str) -> Any:
        command = ["sh", "-c", f'"{sys.executable}" -m liteflow {line}']
        return subprocess.run(command, cwd=db.parent, env=ENV, capture_output=True, text=True)

    refused(run("list >/dev/full"), 5, "No space left on device")
    closed = run("list >&-")
    assert (closed.returncode, closed.stderr) == (0, "")


def test_a_bug_of_the_engine_is_one_line(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    def broken(dag_id: str) -> str:
        raise KeyError("oops")

    monkeypatch.setattr("liteflow.cli.scaffold", broken)
    assert main(["scaffold"]) == 70
    assert "a bug in liteflow" in capsys.readouterr().err
