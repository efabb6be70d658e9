"""Outputs from the task that writes them to whoever reads them, also when somebody is killed in between."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import sqlite3
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from liteflow import (
    Command,
    Dag,
    DefinitionError,
    Observer,
    RunOwned,
    RunStart,
    StoreError,
    Task,
    UnknownDependency,
    current_context,
)
from liteflow.outputs import outputs_dir
from liteflow.state.admin import cancel_interrupted
from liteflow.state.history import History

ROOT = Path(__file__).resolve().parents[2]
MODES = ("process", "thread", "async", "inline")


def sh(task_id: str, script: str, **options: Any) -> Task:
    return Task(task_id, body=Command(("/bin/sh", "-c", script)), **options)


def left(folder: Path) -> list[Path]:
    return list(folder.rglob("*_out-*"))


# -- from task to task -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("mode", MODES)
def test_a_python_task_takes_an_output_of_a_command(db: str, tmp_path: Path, mode: str) -> None:
    def use(rows: int, deep: list[Any], code: object, nothing: object) -> list[Any]:
        return [rows, deep, code, nothing, current_context().xcom_pull("count", "name")]

    dag = Dag("flow", db)
    script = """echo '{"rows": 12, "return_value": "r"}' >> "$LIGHTFLOW_OUTPUT"; echo name=n >> "$GITHUB_OUTPUT\""""
    count = dag.add_task(sh("count", script))
    rows = count.output("rows")
    used = dag.task(use, rows=rows, deep=[rows, {"name": count.output("name")}], code=count, nothing=count.output("x"))
    assert used.dependencies == {"count"}
    run = dag.run(mode=mode).raise_for_failure()
    assert run.value("use") == [12, [12, {"name": "n"}], "r", None, "n"]
    assert run.value("count", "rows") == 12
    assert not left(tmp_path)


def test_output_is_checked() -> None:
    dag = Dag("flow")
    with pytest.raises(DefinitionError, match="the key of a value is text"):
        sh("a", "true").output(3)  # type: ignore[arg-type]
    dag.task(print, "b", sep=sh("elsewhere", "true").output("x"))
    with pytest.raises(UnknownDependency):
        dag.graph()


def test_a_change_of_output_is_a_change_of_the_task(db: str) -> None:
    digests = set()
    for output in (None, "json", "last_line"):
        dag = Dag("flow", db)
        dag.add_task(Task("a", body=Command(("true",), output=output)))  # type: ignore[arg-type]
        digests.add(dag.compile().digest)
    assert len(digests) == 3


def test_each_attempt_starts_without_outputs(db: str, tmp_path: Path) -> None:
    script = 'test ! -e "$LIGHTFLOW_OUTPUT" && echo "a$LIGHTFLOW_ATTEMPT=x" >> "$LIGHTFLOW_OUTPUT"'
    dag = Dag("flow", db)
    dag.add_task(sh("a", f'{script}; test "$LIGHTFLOW_ATTEMPT" = 3', options=make(retries=2)))
    run = dag.run().raise_for_failure()
    with History(db) as history:
        assert [entry.key for entry in history.values(run.run_id)] == ["a3"]
    assert not left(tmp_path)


def make(**options: Any) -> Any:
    from liteflow.definition.options import make_options

    return make_options(options, "a")


# -- when somebody is killed -------------------------------------------------------------------------------------

KILLED = """
import sys
from liteflow import Command, Dag, Task
trail, word = sys.argv[1:3]
dag = Dag("flow", sys.argv[3])
def sh(task_id, script, above=()):
    return dag.add_task(Task(task_id, body=Command(("/bin/sh", "-c", script)), dependencies=above))
sh("first", 'echo "kept=$LIGHTFLOW_ATTEMPT" >> "$LIGHTFLOW_OUTPUT"')
sh("second", f'''
    test ! -e "$LIGHTFLOW_OUTPUT" || exit 3
    echo "n$LIGHTFLOW_ATTEMPT=1" >> "$LIGHTFLOW_OUTPUT"
    echo begun >> {trail}
    test -e {trail}.go || exec sleep 1000
''', ["first"])
def third():
    import os
    assert not os.path.exists(os.environ["LIGHTFLOW_OUTPUT"])
    with open(os.environ["LIGHTFLOW_OUTPUT"], "a") as file:
        file.write('{"typed": [1]}')
dag.task(third).dependencies.add("second")
run = dag.run(run_id="r") if word == "run" else dag.resume("r")
sys.exit(run.status != "SUCCESS")
"""


@pytest.mark.parametrize("also_the_guardian", [False, True])
def test_kill_9_loses_only_what_was_not_committed(
    db: str, tmp_path: Path, trail: Any, start: Any, also_the_guardian: bool
) -> None:
    first = start(KILLED, trail.path, "run", db)
    trail.wait_for("begun")
    folder = Path(outputs_dir(db, "r"))
    assert len(list(folder.iterdir())) == 1
    if also_the_guardian:  # stopped, so that neither can do anything about the other's death
        children = Path(f"/proc/{first.pid}/task/{first.pid}/children").read_text().split()
        for pid in (first.pid, *map(int, children)):
            os.kill(pid, signal.SIGSTOP)
        for pid in map(int, children):
            os.kill(pid, signal.SIGKILL)
    first.kill()
    first.wait()
    Path(f"{trail.path}.go").touch()
    second = start(KILLED, trail.path, "resume", db)
    assert second.wait(60) == 0
    with History(db) as history:
        assert [(entry.task_id, entry.key) for entry in history.values("r")] == [
            ("first", "kept"),
            ("second", "n2"),
            ("third", "typed"),
        ]
        assert [(entry.task_id, entry.status) for entry in history.attempts("r")] == [
            ("first", "SUCCESS"),
            ("second", "LOST"),
            ("second", "SUCCESS"),
            ("third", "SUCCESS"),
        ]
    assert not left(tmp_path)


def test_deleting_a_run_removes_what_a_killed_one_left(db: str, tmp_path: Path) -> None:
    run = Dag("flow", db)
    run.add_task(sh("a", "true"))
    done = run.run()
    folder = Path(outputs_dir(os.path.realpath(db), done.run_id))
    folder.mkdir()
    (folder / "0-1").touch()
    done.delete()
    assert not left(tmp_path)


def test_cancelling_a_dead_run_removes_what_it_left(db: str, tmp_path: Path, trail: Any, start: Any) -> None:
    first = start(KILLED, trail.path, "run", db)
    trail.wait_for("begun")
    first.kill()
    first.wait()
    give_up = time.monotonic() + 120
    while True:
        try:
            cancel_interrupted(db, "r", "not wanted any more")
            break
        except RunOwned:  # its guardian is still at the sweeping
            assert time.monotonic() < give_up
            time.sleep(0.01)
    assert not left(tmp_path)


def test_a_run_that_cannot_be_stored_leaves_nothing(db: str, tmp_path: Path) -> None:
    """The database refuses the start of the first task, when the folder of the outputs exists."""
    before: list[Path] = []

    class Refuses(Observer):
        def run_began(self, run: RunStart) -> None:
            before.extend(left(tmp_path))
            with contextlib.closing(sqlite3.connect(db)) as connection:
                connection.execute(
                    "CREATE TRIGGER refuse BEFORE UPDATE ON liteflow_task_instances WHEN new.status='RUNNING' "
                    "BEGIN SELECT RAISE(ABORT, 'no more'); END"
                )
                connection.commit()

    dag = Dag("flow", db)
    dag.add_task(sh("a", "true"))
    with pytest.raises(StoreError, match="no more"):
        dag.run(observers=[Refuses()])
    assert before
    assert not left(tmp_path)


def test_a_task_cannot_leave_anything_behind(db: str, tmp_path: Path) -> None:
    dag = Dag("flow", db)
    dag.add_task(sh("a", 'mkdir -p "$LIGHTFLOW_OUTPUT/x"; touch "$LIGHTFLOW_OUTPUT/x/y" "$LIGHTFLOW_OUTPUT.bak"'))
    dag.add_task(sh("b", 'rm -rf "$(dirname "$LIGHTFLOW_OUTPUT")"', dependencies=["a"]))
    dag.add_task(sh("c", 'echo a=1 > "$LIGHTFLOW_OUTPUT"', options=make(trigger_rule="all_done"), dependencies=["b"]))
    run = dag.run()
    assert run.statuses() == {"a": "FAILED", "b": "UPSTREAM_FAILED", "c": "SUCCESS"}
    assert not left(tmp_path)


# -- workflow files and commands ---------------------------------------------------------------------------------

FLOW = """\
workflow_name: flow
tasks:
  fetch:
    output: last_line
    run: |
      echo "name=two words" >> "$LIGHTFLOW_OUTPUT"
      echo '{"rows": [1, 2]}' >> "$GITHUB_OUTPUT"
      printf 'text<<END\\n1\\n2\\nEND\\n' >> "$LIGHTFLOW_OUTPUT"
      echo done
  use:
    type: python
    depends_on: fetch
    run: |
      from liteflow import current_context

      context = current_context()
      rows = context.xcom_pull("fetch", "rows")
      context.xcom_push("seen", [rows, context.xcom_pull("fetch")])
      context.xcom_push("odd", {1j})
  shell:
    depends_on: use
    run: |
      name=$(lightflow outputs "$LIGHTFLOW_RUN_ID" fetch --key name)
      rows=$(lightflow outputs "$LIGHTFLOW_RUN_ID" fetch --key rows)
      echo "copy=$name $rows" >> "$LIGHTFLOW_OUTPUT"
  silent:
    run: "true"
"""


def lightflow(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    plain = {name: value for name, value in os.environ.items() if not name.startswith("LIGHTFLOW_")}
    path = f"{folder}{os.pathsep}{os.environ['PATH']}"
    return subprocess.run(
        [sys.executable, "-m", "lightflow", *arguments],
        cwd=folder,
        env={**plain, "PYTHONPATH": str(ROOT), "PATH": path},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )


@pytest.fixture(scope="module")
def ran(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("outputs")
    program = folder / "lightflow"
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m lightflow "$@"\n')
    program.chmod(0o755)
    (folder / "flow.yaml").write_text(FLOW)
    done = lightflow(folder, "run", "flow.yaml")
    assert done.returncode == 0, done.stdout
    assert not left(folder)
    return folder


def test_shell_and_python_read_each_other(ran: Path) -> None:
    done = lightflow(ran, "outputs")
    assert [line.split(None, 2) for line in done.stdout.splitlines()[1:]] == [
        ["fetch", "name", '"two words"'],
        ["fetch", "return_value", '"done"'],
        ["fetch", "rows", "[1,2]"],
        ["fetch", "text", '"1\\n2"'],
        ["shell", "copy", '"two words [1,2]"'],
        ["use", "odd", "(61 bytes, pickled)"],
        ["use", "seen", '[[1,2],"done"]'],
    ]


@pytest.mark.parametrize(
    ("arguments", "printed"),
    [
        (["fetch", "--key", "text"], "1\n2\n"),
        (["latest", "fetch", "--key", "rows"], "[1,2]\n"),
        (["fetch", "--key", "name", "--json"], '"two words"\n'),
    ],
)
def test_one_output(ran: Path, arguments: list[str], printed: str) -> None:
    done = lightflow(ran, "outputs", *arguments)
    assert (done.returncode, done.stdout) == (0, printed)


def test_outputs_as_json(ran: Path) -> None:
    view = json.loads(lightflow(ran, "outputs", "use", "--json").stdout)
    run_id = view["run_id"]
    odd, seen = view["outputs"]
    assert seen == {
        "task": "use",
        "map_index": None,
        "key": "seen",
        "encoding": "json",
        "size": 14,
        "value": [[1, 2], "done"],
    }
    assert (odd["encoding"], odd["value"]) == ("pickle", None)
    whole = json.loads(lightflow(ran, "outputs", run_id[:-2], "--json").stdout)
    assert len(whole["outputs"]) == 7


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["fetch", "--key", "rwos"], 3, "has no output 'rwos'; it has name, return_value, rows, text"),
        (["silent", "--key", "x"], 3, "has no output 'x'; it is SUCCESS"),
        (["silent"], 0, "has no outputs: it is SUCCESS"),
        (["fecth"], 3, "no run has a task 'fecth'; did you mean 'fetch'?"),
        (["latest", "fecth"], 3, "has no task 'fecth'; did you mean 'fetch'?"),
        (["--key", "x"], 3, "has no output 'x'; it is SUCCESS"),
        (["a", "b", "c"], 2, "give a run, a task, or a run and a task"),
        (["use", "--key", "odd"], 1, "the value is not JSON"),
    ],
)
def test_what_cannot_be_shown(ran: Path, arguments: list[str], code: int, words: str) -> None:
    done = lightflow(ran, "outputs", *arguments)
    assert (done.returncode, done.stdout) == (code, "")
    assert words in done.stderr
    assert "Traceback" not in done.stderr
