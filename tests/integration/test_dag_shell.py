"""Shell scripts and commands in Python dags, and the values of other tasks in them."""

from __future__ import annotations

import datetime
import os
import pickle
from pathlib import Path
from typing import Any

import pytest

from liteflow import Command, Dag, DagRun, DefinitionError, Task, task

HOSTILE = "$(touch pwned) `touch pwned`; touch pwned\n'\"\\ *"


def run(dag: Dag, tmp_path: Path, **options: Any) -> DagRun:
    return dag.run(mode="thread", log_dir=str(tmp_path / "logs"), **options)


def test_a_script_is_a_task(db: str, tmp_path: Path) -> None:
    with Dag("shell", db) as dag:
        count = dag.shell('echo "rows=3" >> "$LIGHTFLOW_OUTPUT"', task_id="count")
        show = dag.shell("echo later", task_id="show", output="last_line", depends_on=count, retries=1, timeout=10)
    assert isinstance(count, Task)
    assert (show.dependencies, show.retries, show.timeout) == ({"count"}, 1, 10)
    done = run(dag, tmp_path).raise_for_failure()
    assert (done.value("count", "rows"), done.value("show")) == ("3", "later")


def test_without_an_id_scripts_are_numbered_like_functions(db: str) -> None:
    with Dag("shell", db) as dag:
        tasks = [dag.shell("true") for _ in range(3)]
    assert [entry.task_id for entry in tasks] == ["shell", "shell__1", "shell__2"]


@pytest.mark.parametrize("shell", [None, "bash", "/bin/sh"])
def test_a_script_stops_at_the_first_line_that_fails(db: str, tmp_path: Path, shell: str | None) -> None:
    with Dag("stops", db) as dag:
        dag.shell(f"false\ntouch {tmp_path}/on", "stops", shell=shell)
    assert run(dag, tmp_path).statuses() == {"stops": "FAILED"}
    assert not (tmp_path / "on").exists()


def test_in_bash_a_pipeline_fails_with_any_of_its_commands(db: str, tmp_path: Path) -> None:
    with Dag("pipe", db) as dag:
        dag.shell("false | true", "pipe", shell="bash")
    assert run(dag, tmp_path).statuses() == {"pipe": "FAILED"}


def test_a_list_is_taken_as_written(db: str, tmp_path: Path) -> None:
    with Dag("list", db) as dag:
        dag.shell("false\necho on", "goes_on", shell=["/bin/sh", "-c"], output="last_line")
    assert run(dag, tmp_path).value("goes_on") == "on"


def test_values_arrive_as_variables_and_no_shell_reads_them(db: str, tmp_path: Path) -> None:
    @task
    def make() -> str:
        return HOSTILE

    with Dag("values", db) as dag:
        made = make()
        dag.shell('printf %s "$V" > out', "write", env={"V": made, "N": 3}, cwd=tmp_path)
        dag.shell(
            'printf \'%s\' "$N" "$FLAG" "$P" > fixed',
            "fixed",
            env={"N": 1.5, "FLAG": True, "P": Path("/x y")},
            cwd=tmp_path,
        )
    done = run(dag, tmp_path).raise_for_failure()
    assert (tmp_path / "out").read_text() == HOSTILE
    assert (tmp_path / "fixed").read_text() == "1.5true/x y"
    assert not (tmp_path / "pwned").exists()
    assert not os.path.exists("pwned")
    assert done.statuses()["write"] == "SUCCESS"
    assert dag.tasks["write"].dependencies == {"make"}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("a b", "a b"),
        (3, "3"),
        (True, "true"),
        (1.5, "1.5"),
        ([1, "x y"], '[1,"x y"]'),
        ({"k": [1]}, '{"k":[1]}'),
        (datetime.date(2026, 1, 31), "2026-01-31"),
        (Path("/tmp/x"), "/tmp/x"),
        (b"caf\xe9", "caf\udce9"),
    ],
)
def test_every_kind_of_value_has_a_text(db: str, tmp_path: Path, value: Any, text: str) -> None:
    with Dag("kinds", db) as dag:
        made = dag.task(lambda: value, task_id="made")
        dag.shell('printf %s "$V" > out', "write", env={"V": made}, cwd=tmp_path)
    run(dag, tmp_path).raise_for_failure()
    assert os.fsdecode((tmp_path / "out").read_bytes()) == text


class Odd:
    pass


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (None, "variable V: there is no value of task 'made'"),
        (Odd(), "is a Python object (it was pickled), which only Python tasks can take"),
        ("a\0b", "holds a NUL character"),
        ("x" * 140_000, "is 140,000 bytes long; a program can be given 128 KiB, so hand it over in a file"),
        ("\ud800", "half of a character"),
    ],
)
def test_what_no_variable_can_hold_fails_the_task_that_wants_it(
    db: str, tmp_path: Path, value: Any, message: str
) -> None:
    with Dag("wrong", db) as dag:
        made = dag.task(lambda: value, task_id="made")
        dag.shell("true", "takes", env={"V": made})
    done = run(dag, tmp_path)
    assert done.statuses() == {"made": "SUCCESS", "takes": "FAILED"}
    assert message in done.failures()["takes"]


def test_an_output_that_is_not_there_is_named(db: str, tmp_path: Path) -> None:
    with Dag("wrong", db) as dag:
        made = dag.shell("true", "made")
        dag.shell("true", "takes", env={"ROWS": made.output("rows")})
    assert run(dag, tmp_path).failures() == {"takes": "variable ROWS: there is no output 'rows' of task 'made'"}


def test_a_command_takes_values_as_arguments_and_variables(db: str, tmp_path: Path) -> None:
    with Dag("command", db) as dag:
        made = dag.task(lambda: HOSTILE, task_id="made")
        dag.add_task(
            Task(
                "write",
                body=Command(
                    ("/bin/sh", "-c", 'printf %s "$1$2" > out', "sh", made, "$V"),  # type: ignore[arg-type]
                    env={"V": made.output()},
                    cwd=str(tmp_path),
                ),
            )
        )
    run(dag, tmp_path).raise_for_failure()
    assert (tmp_path / "out").read_text() == HOSTILE + "$V"


def test_an_instance_for_each_item(db: str, tmp_path: Path) -> None:
    with Dag("fan", db) as dag:
        names = dag.task(lambda: ["a b", "$(touch pwned)"], task_id="names")
        echo = dag.shell('echo "$PRE$NAME"', "echo", env={"PRE": "> "}, expand={"NAME": names}, output="last_line")
        dag.task(lambda echoed: echoed, task_id="all", echoed=echo)
    assert run(dag, tmp_path).value("all") == ["> a b", "> $(touch pwned)"]


def test_a_value_survives_a_resume(db: str, tmp_path: Path) -> None:
    with Dag("again", db) as dag:
        made = dag.task(lambda: [1, 2], task_id="made")
        dag.shell('test -e go; printf %s "$V" > out', "write", env={"V": made}, cwd=tmp_path)
    assert run(dag, tmp_path).status == "FAILED"
    (tmp_path / "go").touch()
    dag.resume(mode="thread").raise_for_failure()
    assert (tmp_path / "out").read_text() == "[1,2]"


def test_a_value_changes_nothing_about_what_the_task_is(db: str) -> None:
    """The digest of a task tells of its script, and of which values it takes, not of the values."""
    from liteflow.definition.graph_json import _Digests

    def digest(**extra: Any) -> str:
        with Dag("digest", db) as dag:
            made = dag.task(lambda: 1, task_id="made")
            shell = dag.shell("true", "x", env={"V": made, **extra})
        return _Digests().of(shell.body())

    assert digest() == digest()
    assert digest() != digest(W="1")


def test_the_body_can_be_pickled(db: str) -> None:
    with Dag("pickled", db) as dag:
        made = dag.task(plain, task_id="made")
        shell = dag.shell("true", "x", env={"V": made})
    assert pickle.loads(pickle.dumps(shell.body())) == shell.body()


@task
def plain() -> int:
    return 1


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"script": " "}, "needs a script, as text"),
        ({"script": ["a", "b"]}, "needs a script, as text"),
        ({"script": "a\0b"}, "NUL"),
        ({"env": {"X-Y": "a"}}, "'X-Y' cannot be the name of an environment variable"),
        ({"env": {"X": object()}}, "variable 'X' must be text, a number, a path, a task or an output of a task"),
        ({"env": {"X": plain}}, "call it: plain()"),
        ({"shell": ""}, "shell=''"),
        ({"shell": []}, "shell=[]"),
        ({"output": "lines"}, "output='lines' must be 'last_line', 'json' or None"),
        ({"retry": 3}, "there is no option 'retry'; did you mean"),
        ({"run_if": lambda context: True}, "run_if is for Python functions"),
        ({"depends_on": "other"}, "only tasks and lists of tasks can be connected"),
        ({"expand": {"X": "text"}}, "takes a list"),
        ({"expand": {"X": [1]}, "env": {"X": "a"}}, "'X' is given twice: by expand, and by partial or env"),
    ],
)
def test_a_mistake_is_reported_at_definition(db: str, arguments: dict[str, Any], message: str) -> None:
    dag = Dag("wrong", db)
    with pytest.raises(DefinitionError) as caught:
        dag.shell(**{"script": "true", "task_id": "x", **arguments})
    assert message in str(caught.value)
    assert "'x'" in str(caught.value) or "depends_on" in arguments
    assert not dag.tasks, "nothing was added"


def test_a_value_in_the_text_of_the_script_is_reported_at_definition(db: str) -> None:
    with Dag("pasted", db) as dag:
        made = dag.task(lambda: 1, task_id="made")
        for script in (f"echo {made}", f"echo {made.output('rows')}"):
            with pytest.raises(DefinitionError, match="cannot be put into the text of a script"):
                dag.shell(script, "x")


def test_functions_of_map_do_not_run_in_a_command(db: str) -> None:
    with Dag("map", db) as dag:
        made = dag.task(lambda: [1], task_id="made")
        with pytest.raises(DefinitionError, match="run in Python tasks only"):
            dag.shell("true", "x", expand={"X": made.map(str)})


def test_a_body_has_no_function_that_run_if_could_guard() -> None:
    from liteflow.definition.options import make_options

    with pytest.raises(DefinitionError, match="run_if is for Python functions"):
        Task("x", body=Command(("true",)), options=make_options({"run_if": lambda context: True}, "x"))
