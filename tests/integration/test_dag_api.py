"""What people type: every name of the Python API, run for real."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Sequence
from typing import Any

import pytest

from liteflow import (
    Command,
    CycleError,
    Dag,
    DagRun,
    DefinitionError,
    Observer,
    RunFailed,
    RunNotFound,
    RunStart,
    SkipTask,
    Status,
    StoreError,
    Task,
    XCom,
    current_context,
    task,
)


def extract() -> list[int]:
    return [1, 2, 3]


def transform(data: list[int], factor: int = 2) -> list[int]:
    return [each * factor for each in data]


def load(transform: list[int]) -> int:
    return sum(transform)


def fail() -> None:
    raise ValueError("boom")


def skip() -> None:
    raise SkipTask("nothing to do")


def note(trail: str, word: str, *, fails: int = 0) -> str:
    """Write a word down; fail the first times."""
    with open(trail, "a", encoding="utf-8") as file:
        file.write(word + "\n")
    with open(trail, encoding="utf-8") as file:
        if file.read().split().count(word) <= fails:
            raise ConnectionError(f"{word} is not ready")
    return word


def test_the_example_of_the_readme(db: str) -> None:
    with Dag("etl", db_path=db, description="numbers") as dag:
        a = dag.task(extract)
        b = dag.task(transform, data=a, factor=3, retries=2, retry_delay=1, timeout=30)
        c = dag.task(load)
        d = dag.task(extract, task_id="d")
        a >> b >> [c, d]
    run = dag.run(max_workers=4, mode="process")
    assert isinstance(run, DagRun)
    assert (run.dag_id, run.status) == ("etl", Status.SUCCESS)
    assert isinstance(run.created_at, float)
    assert XCom.load(db, run.run_id, "transform", "return_value") == [3, 6, 9]
    assert run.value("load") == 18
    assert set(run.statuses().values()) == {"SUCCESS"}
    assert run.raise_for_failure() is run


def test_dags_in_the_state_file(db: str) -> None:
    for name in ("b", "a"):
        with Dag(name, db, f"about {name}") as dag:
            dag.task(extract)
        first, second = dag.run(mode="inline"), dag.run(mode="inline")
        assert first.run_id != second.run_id
        assert [run.run_id for run in dag.runs()] == [second.run_id, first.run_id]
    loaded = Dag.load(db, "a")
    assert (loaded.dag_id, loaded.description, loaded.tasks) == ("a", "about a", {})
    assert len(loaded.runs()) == 2
    with pytest.raises(DefinitionError, match="holds no code: run the script"):
        loaded.run()
    assert [entry.dag_id for entry in Dag.all_dags(db)] == ["a", "b"]
    assert Dag.delete_dag(db, "b") == 2
    assert [entry.dag_id for entry in Dag.all_dags(db)] == ["a"]
    for gone in (lambda: Dag.load(db, "b"), lambda: Dag.delete_dag(db, "b"), lambda: DagRun.load(db, "x")):
        with pytest.raises(RunNotFound):
            gone()


def test_a_run_can_be_deleted(db: str) -> None:
    with Dag("flow", db) as dag:
        dag.task(lambda: "x" * 11_000_000, task_id="large")
    run, other = dag.run(mode="inline"), dag.run(mode="inline")
    assert os.path.isdir(f"{db}_xcom/{run.run_id}")
    run.delete(db)
    assert [entry.run_id for entry in dag.runs()] == [other.run_id]
    assert not os.path.exists(f"{db}_xcom/{run.run_id}")
    assert len(other.value("large")) == 11_000_000
    with pytest.raises(RunNotFound):
        run.delete()


def test_a_failure_and_what_hangs_on_it(db: str) -> None:
    with Dag("flow", db) as dag:
        broken = dag.task(fail)
        below = dag.task(extract, task_id="below")
        far = dag.task(extract, task_id="far")
        dag.task(extract, task_id="elsewhere")
        broken >> below >> far
    run = dag.run(mode="inline")
    assert run.status == "FAILED"
    assert run.statuses() == {
        "fail": "FAILED",
        "below": "UPSTREAM_FAILED",
        "far": "UPSTREAM_FAILED",
        "elsewhere": "SUCCESS",
    }
    assert run.failures() == {"fail": "ValueError: boom"}
    with pytest.raises(RunFailed, match=r"is FAILED: fail: ValueError: boom") as caught:
        run.raise_for_failure()
    assert caught.value.failures == {"fail": "ValueError: boom"}


def test_a_skipped_task_skips_what_needs_it(db: str) -> None:
    with Dag("flow", db) as dag:
        dag.task(skip) >> dag.task(extract, task_id="below")
        dag.tasks["skip"] >> dag.task(extract, task_id="anyway", trigger_rule="all_done")
    run = dag.run(mode="inline")
    assert run.status == "SUCCESS"
    assert run.statuses() == {"skip": "SKIPPED", "below": "SKIPPED", "anyway": "SUCCESS"}


def test_fail_fast(db: str, trail: Any) -> None:
    with Dag("flow", db) as dag:
        dag.task(fail)
        for number in range(5):
            dag.task(note, task_id=f"n{number}", trail=trail.path, word="ran")
    run = dag.run(mode="inline", max_workers=1, fail_fast=True)
    assert run.status == "FAILED"
    assert trail.words() == []
    assert set(run.statuses().values()) == {"FAILED", "CANCELLED"}
    assert "fail_fast" in str(run.reason)


def test_retries_really_run_again(db: str, trail: Any) -> None:
    with Dag("flow", db) as dag:
        dag.task(note, task_id="ok", trail=trail.path, word="ok", fails=2, retries=2)
        dag.task(note, task_id="no", trail=trail.path, word="no", fails=9, retries=2)
        dag.task(note, task_id="other", trail=trail.path, word="other", fails=9, retries=2, retry_on=[ValueError])
        dag.task(note, task_id="base", trail=trail.path, word="base", fails=1, retries=2, retry_on=[OSError])
    run = dag.run(mode="inline")
    assert {word: trail.words().count(word) for word in ("ok", "no", "other", "base")} == {
        "ok": 3,
        "no": 3,
        "other": 1,
        "base": 2,
    }
    assert run.statuses() == {"ok": "SUCCESS", "no": "FAILED", "other": "FAILED", "base": "SUCCESS"}


def test_params_reach_tasks(db: str) -> None:
    def ask() -> list[object]:
        context = current_context()
        return [context.params["day"], context.run_id, context.dag_id, context.task_id, context.attempt]

    with Dag("flow", db) as dag:
        dag.task(ask)
    run = dag.run(mode="inline", run_id="my-run", params={"day": 3})
    assert run.run_id == "my-run"
    assert run.value("ask") == [3, "my-run", "flow", "ask", 1]
    with pytest.raises(RuntimeError, match="outside a running task"):
        current_context()


@pytest.mark.parametrize("run_id", ["", "a b", "../x", "x" * 129, 3])
def test_run_ids_that_may_not_be(db: str, run_id: Any) -> None:
    with Dag("flow", db) as dag:
        dag.task(extract)
    with pytest.raises(DefinitionError, match="run id"):
        dag.run(mode="inline", run_id=run_id)
    assert not os.path.exists(db)


def test_a_run_id_is_used_once(db: str) -> None:
    with Dag("flow", db) as dag:
        dag.task(extract)
    dag.run(mode="inline", run_id="r")
    with pytest.raises(StoreError, match="there is a run 'r' already"):
        dag.run(mode="inline", run_id="r")


@pytest.mark.parametrize(
    "options", [{"mode": "proces"}, {"max_workers": 0}, {"max_workers": "4"}, {"max_workers": True}, {"mode": None}]
)
def test_wrong_ways_to_run(db: str, options: dict[str, Any]) -> None:
    with Dag("flow", db) as dag:
        dag.task(extract)
    with pytest.raises(DefinitionError, match=r"mode|max_workers"):
        dag.run(**options)
    assert not os.path.exists(db)


def test_a_wrong_graph_runs_nothing(db: str, trail: Any) -> None:
    with Dag("flow", db) as dag:
        a = dag.task(note, task_id="a", trail=trail.path, word="a")
        b = dag.task(extract)
        a >> b >> a
    with pytest.raises(CycleError) as caught:
        dag.run(mode="inline")
    assert sorted(set(caught.value.path)) == ["a", "extract"]
    with Dag("flow", db) as dag:
        dag.task(transform)
        dag.task(note, task_id="a", trail=trail.path, word="a")
    with pytest.raises(DefinitionError, match="parameter 'data' has no value"):
        dag.run(mode="inline")
    with Dag("flow", db) as dag:
        dag.add_task(Task("x", extract, dependencies=["extrct"]))
        dag.task(extract)
    with pytest.raises(DefinitionError, match=r"did you mean 'extract'"):
        dag.run(mode="inline")
    assert trail.words() == []
    assert not os.path.exists(db)


def test_an_empty_dag_succeeds(db: str) -> None:
    assert Dag("flow", db).run(mode="inline").status == "SUCCESS"


def test_values_deep_in_arguments(db: str) -> None:
    def collect(many: Any) -> Any:
        return many

    with Dag("flow", db) as dag:
        a = dag.task(lambda: (1, 2), task_id="a")
        b = dag.task(lambda: None, task_id="b")
        dag.task(collect, many=[a, {"k": (b, [a, "x"])}])
    assert dag.run(mode="inline").value("collect") == [(1, 2), {"k": (None, [(1, 2), "x"])}]


def test_each_task_gets_values_of_its_own(db: str) -> None:
    def spoil(data: list[int]) -> int:
        data.append(99)
        return len(data)

    with Dag("flow", db) as dag:
        a = dag.task(extract)
        for number in range(3):
            dag.task(spoil, task_id=f"s{number}", data=a)
    run = dag.run(mode="inline")
    assert [run.value(f"s{number}") for number in range(3)] == [4, 4, 4]
    assert run.value("extract") == [1, 2, 3]


def test_decorated_functions_run(db: str) -> None:
    @task
    def double(x: int) -> int:
        return x * 2

    @task
    def add(x: int, y: int) -> int:
        return double(x) + y  # in a task it is just a function

    with Dag("flow", db) as dag:
        total = add(double(2), double.override(task_id="other")(5))
    run = dag.run(mode="inline")
    assert total.task_id == "add"
    assert run.value("add") == 18
    assert list(run.statuses()) == ["add", "double", "other"]
    with dag:  # even when it is run inside the block
        assert dag.run(mode="inline").value("add") == 18


@pytest.mark.parametrize("mode", ["inline", "thread", "async"])
def test_async_tasks(db: str, mode: str) -> None:
    async def slow(x: int) -> int:
        await asyncio.sleep(0)
        return x + 1

    with Dag("flow", db) as dag:
        entry = dag.task(slow, task_id="one", x=1)
        dag.task(slow, task_id="two", x=entry)
    assert dag.run(mode=mode).value("two") == 3


def test_a_command(db: str) -> None:
    with Dag("flow", db) as dag:
        dag.add_task(Task("good", body=Command(("/bin/sh", "-c", "exit 0"))))
        dag.add_task(Task("bad", body=Command(("/bin/sh", "-c", "exit 3"))))
        dag.add_task(Task("skips", body=Command(("/bin/sh", "-c", "exit 99"), skip_on_exit_codes=(99,))))
    run = dag.run(mode="thread")
    assert run.statuses() == {"good": "SUCCESS", "bad": "FAILED", "skips": "SKIPPED"}
    assert "3" in run.failures()["bad"]


def test_tasks_taken_as_done(db: str, trail: Any) -> None:
    with Dag("flow", db) as dag:
        a = dag.task(note, task_id="a", trail=trail.path, word="a")
        a >> dag.task(note, task_id="b", trail=trail.path, word="b")
    run = dag.run(mode="inline", done={"a": 2.0, "gone": 1.0})
    assert run.statuses() == {"a": "SUCCESS", "b": "SUCCESS"}
    assert trail.words() == ["b"]


# -- observers -------------------------------------------------------------------------------------------


class Watcher(Observer):
    def __init__(self, db: str, breaks_at: str = "") -> None:
        self.db, self.breaks_at = db, breaks_at
        self.told: list[object] = []

    def _note(self, what: str, *extra: object) -> None:
        self.told.append((what, *extra))
        if what == self.breaks_at:
            raise RuntimeError("the observer is broken")

    def run_began(self, run: RunStart) -> None:
        self._note("run_began", run.dag_id, dict(run.finished))

    def changed(self, changes: Sequence[Any]) -> None:
        run = DagRun.load(self.db, Dag.load(self.db, "flow").runs()[0].run_id)
        for change in changes:  # what is told is stored already
            if change.status != "RUNNING":
                assert run.statuses()[change.task_id] == change.status
            self._note("changed", change.task_id, change.previous, change.status, change.attempt)

    def run_ended(self, status: str, reason: str | None) -> None:
        self._note("run_ended", status, reason)


def test_observers_receive_the_stored_state(db: str) -> None:
    watcher = Watcher(db)
    with Dag("flow", db) as dag:
        dag.task(fail) >> dag.task(extract)
    dag.run(mode="inline", observers=[watcher])
    assert watcher.told == [
        ("run_began", "flow", {}),
        ("changed", "fail", "PENDING", "RUNNING", 1),
        ("changed", "fail", "RUNNING", "FAILED", 1),
        ("changed", "extract", "PENDING", "UPSTREAM_FAILED", 0),
        ("run_ended", "FAILED", None),
    ]


@pytest.mark.parametrize("breaks_at", ["run_began", "changed", "run_ended"])
def test_a_broken_observer_is_dropped_and_logged(db: str, breaks_at: str, caplog: pytest.LogCaptureFixture) -> None:
    broken, good = Watcher(db, breaks_at), Watcher(db)
    with Dag("flow", db) as dag:
        dag.task(extract)
        dag.task(extract, task_id="two")
    assert dag.run(mode="inline", observers=[broken, good]).status == "SUCCESS"
    assert [each[0] for each in broken.told].count(breaks_at) == 1
    assert broken.told[-1][0] == breaks_at  # type: ignore[index]
    assert good.told[-1] == ("run_ended", "SUCCESS", None)
    assert "Watcher failed and is no longer called" in caplog.text
    assert "the observer is broken" in caplog.text
