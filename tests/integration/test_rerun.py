"""A part of a run is run again: exactly what was chosen and what follows, and nothing that has ended changes."""

from __future__ import annotations

import contextlib
import multiprocessing
import os
import signal
import sqlite3
import threading
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import pytest

from liteflow import Dag, DagRun, DefinitionError, RunOwned, XCom, current_context
from liteflow.state.history import History
from liteflow.state.locks import LockFile

Key = tuple[str, int]


def started(run: DagRun) -> dict[Key, list[tuple[int, str, float | None]]]:
    """The attempts of each instance: number, verdict, end."""
    result: dict[Key, list[tuple[int, str, float | None]]] = {}
    with History(run.db_path) as history:
        for each in history.attempts(run.run_id):
            result.setdefault((each.task_id, each.map_index), []).append((each.attempt, each.status, each.ended_at))
    return result


def counts(run: DagRun) -> dict[str, int]:
    """How many attempts each task or instance has had, by name."""
    return {task if index < 0 else f"{task}[{index}]": len(each) for (task, index), each in started(run).items()}


def statuses(run: DagRun) -> dict[Key, str]:
    with History(run.db_path) as history:
        return {(task, index): status for task, index, status in history.statuses(run.run_id)}


def events(run: DagRun, task_id: str | None) -> list[tuple[str | None, str, str | None]]:
    with History(run.db_path) as history:
        return [
            (each.previous, each.status, each.reason) for each in history.events(run.run_id) if each.task_id == task_id
        ]


class Bodies:
    """The bodies of tasks: which fail, and what they return."""

    def __init__(self) -> None:
        self.failing: set[str] = set()
        self.values: dict[str, Any] = {}
        self.seen: dict[str, Any] = {}

    def body(self, **inputs: Any) -> Any:
        name = current_context().task_id
        if name in self.failing:
            raise ValueError("not yet")
        self.seen[name] = inputs
        value = self.values.get(name)
        return value(inputs) if callable(value) else value

    def __call__(self, name: str) -> Callable[..., Any]:
        def run(**inputs: Any) -> Any:
            return self.body(**inputs)

        return run


def diamond(db: str, bodies: Bodies, items: Sequence[Any] = (1, 2, 3)) -> Dag:
    """Tasks a -> b -> m (mapped) -> c, and a -> d."""

    def b(a: Any) -> Any:
        return bodies.body(a=a)

    def m(item: Any, b: Any) -> Any:
        return bodies.body(item=item, b=b)

    def c(m: Any) -> Any:
        return bodies.body(m=m)

    def d(a: Any) -> Any:
        return bodies.body(a=a)

    with Dag("diamond", db) as dag:
        dag.task(bodies("a"), task_id="a")
        dag.task(b)
        dag.partial(m).expand(item=list(items))
        dag.task(c)
        dag.task(d)
    return dag


# -- what runs again -----------------------------------------------------------------------------------------------


def test_from_a_task_all_that_follows_runs_again(db: str) -> None:
    dag = diamond(db, Bodies())
    run = dag.run(mode="inline")
    before = started(run)
    run = dag.retry(run.run_id, ["b"])
    assert run.status == "SUCCESS"
    assert counts(run) == {"a": 1, "b": 2, "c": 2, "d": 1, "m[0]": 2, "m[1]": 2, "m[2]": 2}
    assert {key: each[: len(before[key])] for key, each in started(run).items()} == before
    assert [status for _, status, _ in events(run, None)] == ["RUNNING", "SUCCESS", "RUNNING", "SUCCESS"]


def test_only_a_task_leaves_what_follows(db: str) -> None:
    dag = diamond(db, Bodies())
    run = dag.retry(dag.run(mode="inline").run_id, "b", only=True)
    assert counts(run) == {"a": 1, "b": 2, "c": 1, "d": 1, "m[0]": 1, "m[1]": 1, "m[2]": 1}


def test_an_instance_runs_again_alone_and_what_follows_reads_all(db: str) -> None:
    bodies = Bodies()
    bodies.values["m"] = lambda inputs: inputs["item"] * 10
    dag = diamond(db, bodies, ["eu", "us", "eu2"])
    run = dag.run(mode="inline")
    bodies.values["m"] = lambda inputs: inputs["item"] * 2
    run = dag.retry(run.run_id, "m[us]")
    assert counts(run) == {"a": 1, "b": 1, "c": 2, "d": 1, "m[0]": 1, "m[1]": 2, "m[2]": 1}
    assert bodies.seen["c"]["m"] == ["eu" * 10, "us" * 2, "eu2" * 10]
    assert counts(dag.retry(run.run_id, ["m[0]", "m[eu?]"], only=True)) | {"c": 0} == {
        "a": 1, "b": 1, "c": 0, "d": 1, "m[0]": 2, "m[1]": 2, "m[2]": 2,
    }  # fmt: skip


def test_a_failure_elsewhere_stays_until_a_resume(db: str) -> None:
    bodies = Bodies()
    bodies.failing = {"d"}
    dag = diamond(db, bodies)
    run = dag.run(mode="inline")
    bodies.failing.clear()
    run = dag.retry(run.run_id, "c")
    assert (run.status, counts(run)["d"], counts(run)["c"]) == ("FAILED", 1, 2)
    run = dag.resume(run.run_id)
    assert (run.status, counts(run)["d"], counts(run)["c"]) == ("SUCCESS", 2, 2)


def test_a_value_of_a_task_that_runs_again_is_never_read_old(db: str) -> None:
    bodies = Bodies()
    bodies.values["b"] = "old"
    dag = diamond(db, bodies)
    run = dag.run(mode="inline")
    bodies.failing, bodies.values = {"b"}, {}
    run = dag.retry(run.run_id, "b")
    assert run.statuses()["m"] == "UPSTREAM_FAILED"
    assert XCom.load(db, run.run_id, "b") is None, "the value is gone with the success"
    bodies.failing.clear()
    dag.retry(run.run_id, "b")
    assert bodies.seen["m"]["b"] is None


def test_lists_that_grow_shrink_and_change_order(db: str) -> None:
    bodies = Bodies()
    bodies.values["m"] = lambda inputs: inputs["item"]
    run = diamond(db, bodies, ["a", "b", "c"]).run(mode="inline")
    run = diamond(db, bodies, ["c", "x", "a"]).retry(run.run_id, "m[b]")
    assert counts(run) == {"a": 1, "b": 1, "c": 2, "d": 1, "m[0]": 1, "m[1]": 1, "m[2]": 1, "m[3]": 1}
    assert bodies.seen["c"]["m"] == ["c", "x", "a"], "the order is that of the new list"
    run = diamond(db, bodies, ["b"]).retry(run.run_id, "m")
    assert counts(run) | {"c": 0} == {
        "a": 1, "b": 1, "c": 0, "d": 1, "m[0]": 1, "m[1]": 1, "m[2]": 1, "m[3]": 1, "m[4]": 1,
    }, "an index never stands for a second item, and the history of gone items stays"  # fmt: skip
    assert bodies.seen["c"]["m"] == ["b"]


@pytest.mark.parametrize("inside", [True, False])
def test_a_decision_is_made_again_only_if_its_task_runs_again(db: str, inside: bool) -> None:
    choice = ["left"]
    with Dag("branches", db) as dag:
        start = dag.branch(lambda: choice[0], task_id="start")
        left, right = dag.task(lambda: 1, task_id="left"), dag.task(lambda: 2, task_id="right")
        end = dag.task(lambda: 3, task_id="end", trigger_rule="none_failed")
        start >> [left, right] >> end
    run = dag.run(mode="inline")
    assert run.statuses() == {"start": "SUCCESS", "left": "SUCCESS", "right": "SKIPPED", "end": "SUCCESS"}
    choice[0] = "right"
    run = dag.retry(run.run_id, "start" if inside else ["left", "right"])
    went = ("SKIPPED", "SUCCESS") if inside else ("SUCCESS", "SKIPPED")
    assert (run.statuses()["left"], run.statuses()["right"]) == went
    assert run.status == "SUCCESS"


def test_a_skipped_task_that_was_ignored_runs_again_with_the_task_that_it_follows(db: str) -> None:
    choice = ["b"]
    with Dag("ignored", db) as dag:
        a = dag.branch(lambda: choice[0], task_id="a")
        b, other = dag.task(lambda: 1, task_id="b"), dag.task(lambda: 2, task_id="other")
        a >> [b, other]
        b >> dag.task(lambda: 3, task_id="c")
    choice[0] = "other"
    run = dag.run(mode="inline")
    run = dag.retry(run.run_id, "c", only=True, ignore_upstream=True)
    assert (run.statuses()["b"], run.statuses()["c"]) == ("SKIPPED", "SUCCESS")
    choice[0] = "b"
    run = dag.retry(run.run_id, "a")
    assert run.statuses() == {"a": "SUCCESS", "b": "SUCCESS", "other": "SKIPPED", "c": "SUCCESS"}


def test_a_setup_that_was_torn_down_is_set_up_again(db: str) -> None:
    made: list[str] = []
    with Dag("setups", db) as dag:
        up = dag.task(lambda: made.append("up"), task_id="up", setup=True)
        work = dag.task(lambda: made.append("work"), task_id="work")
        other = dag.task(lambda: made.append("other"), task_id="other")
        down = dag.task(lambda: made.append("down"), task_id="down")
        up >> [work, other] >> down
        down.as_teardown([up])
    run = dag.run(mode="inline")
    made.clear()
    run = dag.retry(run.run_id, "work", only=True)
    assert made == ["up", "work", "down"]
    assert run.status == "SUCCESS"


def test_hooks_run_again(db: str) -> None:
    calls: list[str] = []
    with Dag("hooks", db, on_start=lambda: calls.append("run starts"), on_exit=lambda: calls.append("run ends")) as dag:
        dag.task(
            lambda: 1, task_id="a", on_start=lambda: calls.append("a starts"), on_success=lambda: calls.append("a")
        )
        dag.task(lambda: 1, task_id="z", on_start=lambda: calls.append("z starts"))
    run = dag.run(mode="inline")
    calls.clear()
    dag.retry(run.run_id, "a")
    assert calls == ["run starts", "a starts", "a", "run ends"]


def test_a_hook_of_the_run_that_a_kill_has_ended_runs_after_the_resume_of_a_retry(db: str, tmp_path: Path) -> None:
    calls = tmp_path / "calls"

    def succeeded() -> None:
        if (tmp_path / "killed").exists():
            (tmp_path / "killed").unlink()
            os.kill(os.getpid(), signal.SIGKILL)
        with calls.open("a") as file:
            file.write("succeeded ")

    def ended() -> None:
        with calls.open("a") as file:
            file.write("ended ")

    with Dag("hooks", db, on_success=succeeded, on_exit=ended) as dag:
        dag.task(lambda: 1, task_id="a")
    run = dag.run(mode="inline")
    (tmp_path / "killed").touch()
    calls.unlink()
    process = multiprocessing.get_context("fork").Process(target=dag.retry, args=(run.run_id, "a"))
    process.start()
    process.join()
    assert process.exitcode == -signal.SIGKILL
    assert dag.resume(run.run_id, mode="inline").status == "SUCCESS"
    assert calls.read_text() == "succeeded ended "
    with History(db) as history:
        assert {hook.task_id: hook.status for hook in history.hooks(run.run_id)} == {
            "on_success": "SUCCESS",
            "on_exit": "SUCCESS",
        }
    assert dag.resume(run.run_id, mode="inline").status == "SUCCESS"
    assert calls.read_text() == "succeeded ended ", "each once"


def test_changed_tasks_run_again_with_what_follows(db: str) -> None:
    def define(text: str) -> Dag:
        with Dag("changed", db) as dag:
            a = dag.shell("true", task_id="a")
            b = dag.shell(text, task_id="b")
            c = dag.shell("true", task_id="c")
            a >> b >> c
        return dag

    run = define("echo old").run()
    assert counts(define("echo old").retry(run.run_id, changed=True)) == {"a": 1, "b": 1, "c": 1}
    assert counts(define("echo new").retry(run.run_id, changed=True)) == {"a": 1, "b": 2, "c": 2}


# -- upstream tasks that did not succeed ---------------------------------------------------------------------------


def test_a_task_whose_upstream_failed_needs_to_ignore_it(db: str) -> None:
    bodies = Bodies()
    bodies.failing = {"a"}
    dag = diamond(db, bodies)
    run = dag.run(mode="inline")
    before = Path(db).read_bytes(), statuses(run)
    with pytest.raises(DefinitionError, match=r"task 'd' cannot run again: 'a' did not succeed .* --ignore-upstream"):
        dag.retry(run.run_id, "d", only=True)
    assert statuses(run) == before[1]
    run = dag.retry(run.run_id, "d", only=True, ignore_upstream=True)
    assert (run.statuses()["d"], run.statuses()["a"], run.statuses()["b"]) == ("SUCCESS", "FAILED", "UPSTREAM_FAILED")
    bodies.failing.clear()
    run = dag.resume(run.run_id)
    assert run.status == "SUCCESS"
    assert counts(run)["a"] == 2, "a failure that was ignored still is one for a resume"


def test_unknown_names_have_the_nearest(db: str) -> None:
    dag = diamond(db, Bodies(), ["eu", "us"])
    run_id = dag.run(mode="inline").run_id
    for name, message in {
        "bb": "has no task 'bb'; did you mean 'b'",
        "x*": r"has no task 'x\*'",
        "m[7]": r"has no instance m\[7\]; its indexes are 0 to 1",
        "m[eu9]": r"has no instance m\[eu9\]; did you mean 'eu'",
        "b[0]": "has no instances of 'b'",
    }.items():
        with pytest.raises(DefinitionError, match=message):
            dag.retry(run_id, name)


def test_patterns_name_several_tasks(db: str) -> None:
    with Dag("many", db) as dag:
        for name in ("load.a", "load.b", "loaded", "other"):
            dag.task(lambda: 1, task_id=name)
    run_id = dag.run(mode="inline").run_id
    assert counts(dag.retry(run_id, "load*")) == {"load.a": 2, "load.b": 2, "loaded": 2, "other": 1}
    assert counts(dag.retry(run_id, "load.*")) == {"load.a": 3, "load.b": 3, "loaded": 2, "other": 1}


# -- clear and mark ------------------------------------------------------------------------------------------------


def test_a_cleared_run_is_resumed_with_the_same_set(db: str) -> None:
    bodies = Bodies()
    bodies.failing = {"d"}
    dag = diamond(db, bodies)
    run = dag.run(mode="inline")
    assert dag.clear(run.run_id, "m[1]") == ["m", "m[1]", "c"]
    run = DagRun.load(db, run.run_id)
    assert (run.status, run.statuses()["c"]) == ("INTERRUPTED", "PENDING")
    assert run.reason is not None
    assert run.reason.startswith("run again from m[1] by ")
    run = dag.resume(run.run_id)
    assert counts(run) == {"a": 1, "b": 1, "c": 2, "d": 1, "m[0]": 1, "m[1]": 2, "m[2]": 1}
    assert run.status == "FAILED"


def test_a_task_that_is_marked_lets_the_rest_run(db: str) -> None:
    bodies = Bodies()
    bodies.failing = {"b"}
    dag = diamond(db, bodies)
    run = dag.run(mode="inline")
    assert dag.mark(run.run_id, "b", "success", reason="fixed by hand", values={"return_value": 42}) == ["b"]
    with History(db) as history:
        instance = history.instance(run.run_id, "b")
        assert instance is not None
        assert instance.reason is not None
        assert instance.reason.startswith("marked by ")
        assert instance.reason.endswith(": fixed by hand")
        assert len(history.attempts(run.run_id, "b")) == 1, "a mark is no attempt"
    assert DagRun.load(db, run.run_id).statuses() == {
        "a": "SUCCESS", "b": "SUCCESS", "c": "PENDING", "d": "SUCCESS", "m": "PENDING",
    }  # fmt: skip
    run = dag.resume(run.run_id)
    assert (run.status, bodies.seen["m"]["b"]) == ("SUCCESS", 42)
    assert counts(run)["b"] == 1


def test_a_task_that_is_marked_skipped_stays_so(db: str) -> None:
    bodies = Bodies()
    bodies.failing = {"b"}
    dag = diamond(db, bodies)
    run = dag.run(mode="inline")
    dag.mark(run.run_id, "b", "skipped")
    run = dag.resume(run.run_id)
    assert (run.status, run.statuses()["b"], run.statuses()["c"]) == ("SUCCESS", "SKIPPED", "SKIPPED")
    assert counts(run)["b"] == 1
    bodies.failing.clear()
    assert dag.retry(run.run_id, "b").statuses()["c"] == "SUCCESS"


def test_a_task_that_is_marked_failed_runs_again(db: str) -> None:
    dag = diamond(db, Bodies())
    run = dag.run(mode="inline")
    dag.mark(run.run_id, "d", "failed", reason="its result is wrong")
    assert XCom.load(db, run.run_id, "d") is None
    assert counts(dag.resume(run.run_id)) == {"a": 1, "b": 1, "c": 1, "d": 2, "m[0]": 1, "m[1]": 1, "m[2]": 1}


def test_the_last_failed_instance_that_is_marked_ends_the_task(db: str) -> None:
    bodies = Bodies()
    bodies.values["m"] = lambda inputs: 1 // (inputs["item"] - 2)
    dag = diamond(db, bodies)
    run = dag.run(mode="inline")
    assert statuses(run)["m", -1] == "FAILED"
    dag.mark(run.run_id, "m[1]", "success", values={"return_value": 7})
    assert statuses(run)["m", -1] == "SUCCESS"
    run = dag.resume(run.run_id)
    assert (run.status, bodies.seen["c"]["m"]) == ("SUCCESS", [-1, 7, 1])
    with pytest.raises(DefinitionError, match=r"name one, such as m\[0\]"):
        dag.mark(run.run_id, "m", "success", values={"return_value": 7})


def test_invalid_marks(db: str) -> None:
    dag = diamond(db, Bodies())
    run_id = dag.run(mode="inline").run_id
    with pytest.raises(DefinitionError, match="a task can be marked success, failed, skipped, not 'done'"):
        dag.mark(run_id, "a", "done")
    with pytest.raises(DefinitionError, match="has no values"):
        dag.mark(run_id, "a", "failed", values={"x": 1})
    with pytest.raises(DefinitionError, match=r"'a\.on_failure' is a hook, .* name 'a'"):
        dag.mark(run_id, "a.on_failure", "success")


@pytest.mark.parametrize("change", ["retry", "clear", "mark"])
def test_a_change_waits_for_the_owner_of_a_run_that_has_ended(db: str, change: str) -> None:
    """The run has ended, and its process still ends its workers."""
    dag = diamond(db, Bodies())
    run = dag.run(mode="inline")
    with History(db) as history:
        number = history.run(run.run_id).run_no
    changes = {
        "retry": lambda: dag.retry(run.run_id, "a", mode="inline"),
        "clear": lambda: dag.clear(run.run_id, "a"),
        "mark": lambda: dag.mark(run.run_id, "a", "failed"),
    }
    locks = LockFile(db)
    assert locks.acquire(number)
    end = threading.Timer(0.1, locks.close)
    end.start()
    changes[change]()
    end.join()


@pytest.mark.alters_rows("it shows a run that has ended as one that runs")
def test_a_run_with_an_owner_is_left_alone(db: str) -> None:
    dag = diamond(db, Bodies())
    run = dag.run(mode="inline")
    with contextlib.closing(sqlite3.connect(db)) as connection, connection:
        connection.execute("UPDATE liteflow_dag_runs SET status='RUNNING'")
    with History(db) as history:
        number = history.run(run.run_id).run_no
    locks = LockFile(db)
    try:
        assert locks.acquire(number)
        for change in (
            lambda: dag.retry(run.run_id, "a"),
            lambda: dag.clear(run.run_id, "a"),
            lambda: dag.mark(run.run_id, "a", "failed"),
        ):
            with pytest.raises(RunOwned, match="is owned by process"):
                change()
    finally:
        locks.close()
    assert run.statuses()["a"] == "SUCCESS"


# -- the state of the run -----------------------------------------------------------------------------------------


def test_a_failure_after_which_nothing_ran_again_fails_the_run(db: str) -> None:
    bodies = Bodies()
    dag = diamond(db, bodies)
    run = dag.run(mode="inline")
    bodies.failing = {"c"}
    assert dag.retry(run.run_id, "c", only=True).status == "FAILED"
    bodies.failing = {"b"}
    run = dag.retry(run.run_id, "b", only=True)
    assert run.statuses()["m"] == "SUCCESS"
    assert run.status == "FAILED", "m succeeded before b failed, so it does not hide the failure"
