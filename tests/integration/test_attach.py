"""A dag that was loaded from the state file runs once the functions of its tasks are attached."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from liteflow import Command, Dag, DefinitionError, Task, current_context, task
from liteflow.state.history import History


def extract() -> list[int]:
    return [1, 2, 3]


def transform(data: list[int], factor: int = 2) -> list[int]:
    return [factor * entry for entry in data]


def load(transform: list[int]) -> int:
    return sum(transform)


def last() -> str:
    return "done"


def boom() -> None:
    raise ValueError("no")


@pytest.fixture
def stored(db: str) -> str:
    with Dag("etl", db, "numbers") as dag:
        a = dag.task(extract, retries=3, retry_delay=0.25, retry_on=[ValueError], timeout=30, mode="thread")
        b = dag.task(transform, data=a)
        c = dag.task(load)
        d = dag.task(last, trigger_rule="all_done", priority=5)
        a >> b >> c >> d
    dag.run(mode="inline").raise_for_failure()
    return db


def test_attached_by_a_mapping(stored: str) -> None:
    dag = Dag.load(stored, "etl")
    assert dag.tasks == {}
    assert dag.attach({"extract": extract, "transform": transform, "load": load, "last": last}) is dag
    run = dag.run(mode="inline").raise_for_failure()
    assert (run.value("load"), run.value("last")) == (12, "done")
    assert {entry: sorted(task.dependencies) for entry, task in dag.tasks.items()} == {
        "extract": [],
        "transform": ["extract"],
        "load": ["transform"],
        "last": ["load"],
    }


def test_attached_by_the_names_of_the_functions(stored: str) -> None:
    dag = Dag.load(stored, "etl").attach(last, load, transform, extract)
    assert dag.run(mode="inline").raise_for_failure().value("load") == 12


def test_options_are_as_they_were_unless_given_anew(stored: str) -> None:
    dag = Dag.load(stored, "etl").attach(extract, load, last)
    dag.task(transform, factor=10, retries=1)
    options = dag.tasks["extract"].options
    assert (options.retry.retries, options.retry.delay_s, options.timeout_s, options.mode) == (3, 0.25, 30, "thread")
    assert options.retry.on_exceptions == ("ValueError",)
    assert (dag.tasks["last"].trigger_rule, dag.tasks["last"].options.queue.priority) == ("all_done", 5)
    assert dag.tasks["transform"].retries == 1
    assert dag.run(mode="inline").raise_for_failure().value("load") == 60


def test_other_ways_to_add_tasks(stored: str, tmp_path: Path) -> None:
    @task
    def decorated() -> list[int]:
        return [5]

    with Dag.load(stored, "etl") as dag:
        first = decorated.override(task_id="extract")()
        dag.task(transform, data=first)
        dag.add_task(Task("load", body=Command(("true",))))
        dag.shell("echo done", "last", output="last_line")
        dag.shell("echo more", "more")
    run = dag.run(mode="thread", log_dir=str(tmp_path / "logs")).raise_for_failure()
    assert run.value("last") == "done"
    assert dag.tasks["load"].dependencies == {"transform"}
    assert dag.tasks["last"].trigger_rule == "all_done"
    assert dag.tasks["more"].dependencies == set()


def test_without_functions_it_names_what_is_missing(stored: str) -> None:
    dag = Dag.load(stored, "etl")
    with pytest.raises(DefinitionError, match=r"no code: run the script .*, or attach .*extract, transform, load"):
        dag.run()
    dag.attach(extract, transform)
    with pytest.raises(DefinitionError, match=r"load, last"):
        dag.run()


def test_a_function_for_a_task_that_is_not_there(stored: str) -> None:
    dag = Dag.load(stored, "etl")
    with pytest.raises(DefinitionError, match=r"'etl' has no task 'extrakt'; did you mean 'extract'\?"):
        dag.attach({"extrakt": extract})
    with pytest.raises(DefinitionError, match="'etl' has no task 'boom'"):
        dag.attach(boom)
    with pytest.raises(DefinitionError, match="must be a function, a Command or a Call"):
        dag.attach({"extract": 3})  # type: ignore[dict-item]
    with pytest.raises(DefinitionError, match="has a task 'extract' already"):
        dag.attach(extract).attach(extract)


def test_only_a_loaded_dag_is_attached_to(db: str) -> None:
    with pytest.raises(DefinitionError, match="was not loaded"):
        Dag("etl", db).attach(extract)


def test_what_is_code_has_to_be_given_again(db: str) -> None:
    reported: list[str] = []

    def hook(context: Any) -> None:
        reported.append(context.hook.task_id)

    def yes(context: Any) -> bool:
        return True

    with Dag("code", db) as dag:
        dag.task(extract, on_success=hook)
        dag.task(last, run_if=yes)
        dag.partial(transform, factor=1).expand(data=[[1], [2]])
    dag.run(mode="inline").raise_for_failure()
    loaded = Dag.load(db, "code")
    with pytest.raises(DefinitionError, match=r"task 'extract' had on_success, .* give it again"):
        loaded.attach(extract)
    with pytest.raises(DefinitionError, match=r"task 'last' had run_if, .* give it again"):
        loaded.attach(last)
    with pytest.raises(DefinitionError, match=r"task 'transform' was mapped over a list"):
        loaded.attach(transform)
    loaded.task(extract, on_success=hook)
    loaded.task(last, run_if=yes)
    loaded.partial(transform, factor=1).expand(data=[[1], [2]])
    loaded.run(mode="inline").raise_for_failure()
    assert reported == ["extract", "extract"]


def test_the_place_in_the_flow_is_as_it_was(db: str) -> None:
    trail: list[str] = []

    def say(word: str = "") -> None:
        trail.append(current_context().task_id)

    with Dag("flow", db, pools={"gpu": 2}) as dag:
        made = dag.task(say, "made")
        choice = dag.branch(lambda: "left", "choice")
        left, right = dag.task(boom, "left", continue_on_error=True), dag.task(say, "right")
        gone = dag.task(say, "gone", resources={"gpu": 2}).as_teardown(setups=made)
        made >> choice >> [left, right] >> gone
    assert dag.run(mode="inline").status == "SUCCESS"
    trail.clear()
    loaded = Dag.load(db, "flow").attach(
        {"made": say, "choice": lambda: "left", "left": boom, "right": say, "gone": say}
    )
    run = loaded.run(mode="inline")
    assert run.statuses() == {
        "made": "SUCCESS",
        "choice": "SUCCESS",
        "left": "FAILED",
        "right": "SKIPPED",
        "gone": "SUCCESS",
    }
    assert (run.status, trail) == ("SUCCESS", ["made", "gone"])


def test_a_run_that_failed_can_be_resumed(db: str) -> None:
    with Dag("failed", db) as dag:
        a = dag.task(extract)
        a >> dag.task(boom, "load")
    failed = dag.run(mode="inline")
    loaded = Dag.load(db, "failed").attach({"extract": boom, "load": last})
    run = loaded.resume(failed.run_id, mode="inline").raise_for_failure()
    assert run.statuses() == {"extract": "SUCCESS", "load": "SUCCESS"}


def test_the_dag_of_a_workflow_file(db: str, tmp_path: Path) -> None:
    from lightflow.engine.dag_builder import build_dag
    from lightflow.parser.workflow_loader import load_workflow
    from lightflow.plugins.registry import Registry

    path = tmp_path / "flow.yaml"
    path.write_text("workflow_name: flow\ntasks: {a: {run: 'true', if: '1 == 1'}, b: {run: 'true', depends_on: a}}\n")
    build_dag(load_workflow(str(path)), Registry(), db, {}, folder=str(tmp_path)).run(mode="thread").raise_for_failure()
    loaded = Dag.load(db, "flow")
    with pytest.raises(DefinitionError, match="task 'a' had if, which only the workflow file can hold"):
        loaded.attach({"a": last})


def test_an_altered_state_file_is_refused_without_harm(stored: str) -> None:
    import sqlite3

    with sqlite3.connect(stored) as connection:
        connection.execute(
            'UPDATE liteflow_graphs SET snapshot=replace(snapshot, \'"retries":3\', \'"retries":"many"\')'
        )
    connection.close()
    with pytest.raises(DefinitionError, match="retries='many'"):
        Dag.load(stored, "etl").attach(extract)
    with History(stored) as history:
        assert history.dags()
