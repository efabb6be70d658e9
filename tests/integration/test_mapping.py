"""Mapped tasks as a Python user meets them: real runs, real state files, real deaths."""

from __future__ import annotations

import os
import signal
import sqlite3
import subprocess
import sys
import textwrap
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from liteflow import Dag, DagRun, DefinitionError, SkipTask, Task, XCom, current_context, task
from liteflow.state.history import History

MODES = ["process", "thread", "async", "inline"]


@pytest.fixture
def db(tmp_path: Path) -> str:
    return str(tmp_path / "state.db")


def instances(run: DagRun, task_id: str) -> list[tuple[int, str]]:
    with History(run.db_path) as history:
        return [(entry.map_index, entry.status) for entry in history.instances(run.run_id) if entry.task_id == task_id]


def reasons(run: DagRun) -> dict[str, str]:
    with History(run.db_path) as history:
        return {
            f"{entry.task_id}[{entry.map_index}]": str(entry.reason)
            for entry in history.instances(run.run_id)
            if entry.reason
        }


def three() -> list[int]:
    return [1, 2, 3]


def double(x: int) -> int:
    return 2 * x


def keep(double: list[int]) -> list[int]:
    return double


@pytest.mark.parametrize("mode", MODES)
def test_map_and_reduce(db: str, mode: str) -> None:
    with Dag("fan", db) as dag:
        numbers = dag.task(three)
        dag.partial(double).expand(x=numbers)
        dag.task(keep)
    run = dag.run(mode=mode).raise_for_failure()
    assert run.value("keep") == [2, 4, 6]
    assert instances(run, "double") == [(-1, "SUCCESS"), (0, "SUCCESS"), (1, "SUCCESS"), (2, "SUCCESS")]


def test_decorated_functions_have_the_names_of_airflow(db: str) -> None:
    @task
    def rows() -> list[dict[str, int]]:
        return [{"a": 1}, {"a": 2, "b": 5}]

    @task(retries=1)
    def add(a: int, b: int = 0, c: int = 0) -> int:
        return a + b + c

    @task
    def total(numbers: list[int]) -> int:
        return sum(numbers)

    with Dag("names", db) as dag:
        listed = rows()
        entry = add.partial(c=100).expand_kwargs(listed)
        two = add.override(task_id="two").expand(a=[1, 2], b=[10, 20])
        extra = add.override(task_id="more").expand(a=entry.map(lambda value: value * 10))
        total(entry)
        total.override(task_id="total_two")(two)
        total.override(task_id="total_more")(extra)
    run = dag.run(mode="thread").raise_for_failure()
    assert dag.tasks["two"].retries == 1
    assert run.value("total") == 101 + 107
    assert run.value("total_more") == 1010 + 1070
    pairs = [XCom.load(db, run.run_id, "two", map_index=index) for index in range(4)]
    assert pairs == [11, 21, 12, 22], "each with each, the last one fastest"


def test_a_mapping_is_mapped_over_its_pairs(db: str) -> None:
    def shout(pair: tuple[str, int]) -> str:
        return f"{pair[0]}={pair[1]}"

    with Dag("pairs", db) as dag:
        source = dag.task(lambda: {"a": 1, "b": 2}, task_id="source")
        dag.partial(shout).expand(pair=source)
        dag.partial(shout, task_id="literal").expand(pair={"c": 3})
        dag.task(lambda shout, literal: [shout, literal], task_id="all")
    assert dag.run(mode="thread").value("all") == [["a=1", "b=2"], ["c=3"]]


def test_a_task_can_be_an_item_of_a_list(db: str) -> None:
    with Dag("items", db) as dag:
        entry, two = dag.task(lambda: 1, task_id="one"), dag.task(lambda: 20, task_id="two")
        dag.partial(double).expand(x=[entry, 5, two])
        dag.task(keep)
    assert dag.run(mode="thread").value("keep") == [2, 10, 40]


def test_types_that_json_lacks_arrive_whole(db: str) -> None:
    import datetime

    days = [datetime.date(2026, 1, day) for day in (1, 2)]

    def later(day: datetime.date) -> datetime.date:
        return day + datetime.timedelta(days=1)

    with Dag("days", db) as dag:
        source = dag.task(lambda: tuple(days), task_id="source")
        dag.partial(later).expand(day=source)
        dag.task(lambda later: later, task_id="all")
    assert dag.run(mode="process").value("all") == [datetime.date(2026, 1, 2), datetime.date(2026, 1, 3)]


@pytest.mark.parametrize("count", [0, 1])
def test_few_items(db: str, count: int) -> None:
    with Dag("few", db) as dag:
        source = dag.task(lambda: list(range(count)), task_id="source")
        dag.partial(double).expand(x=source)
        dag.task(keep)
        dag.task(keep, task_id="anyway", trigger_rule="none_failed")
    run = dag.run(mode="thread").raise_for_failure()
    assert run.value("anyway") == [0] * count
    if not count:
        assert instances(run, "double") == [(-1, "SKIPPED")]
        assert instances(run, "keep") == [(-1, "SKIPPED")]


@dataclass
class Thing:
    x: int = 1


@pytest.mark.parametrize(
    ("value", "wanted"),
    [
        (7, "which is a number and no list"),
        ("abc", "which is text and no list"),
        (None, "which has none"),
        ({1, 2}, "which is set and no list"),
        ([Thing()], "is a Python object (it was pickled); return a list of numbers, text, mappings, dates or paths"),
    ],
)
def test_what_is_not_a_list_fails_the_task_that_is_mapped(db: str, value: Any, wanted: str) -> None:
    with Dag("wrong", db) as dag:
        source = dag.task(lambda: value, task_id="source")
        dag.partial(double).expand(x=source)
        dag.task(keep)
    run = dag.run(mode="thread")
    assert run.status == "FAILED"
    assert run.statuses() == {"source": "SUCCESS", "double": "FAILED", "keep": "UPSTREAM_FAILED"}
    assert wanted in reasons(run)["double[-1]"]
    assert "task 'source'" in reasons(run)["double[-1]"]


def test_a_skip_in_a_map_function_or_a_body_concerns_one_instance(db: str) -> None:
    def odd(value: int) -> int:
        if value % 2 == 0:
            raise SkipTask(f"{value} is even")
        return value

    with Dag("skips", db) as dag:
        numbers = dag.task(three)
        dag.partial(double).expand(x=numbers.map(odd))
        dag.task(keep)
        dag.task(keep, task_id="those_left", trigger_rule="none_failed")
    run = dag.run(mode="process")
    assert instances(run, "double") == [(-1, "SUCCESS"), (0, "SUCCESS"), (1, "SKIPPED"), (2, "SUCCESS")]
    assert run.statuses()["keep"] == "SKIPPED"
    assert run.value("those_left") == [2, 6], "of those that have a value, in order"


def test_each_instance_has_attempts_and_a_log_of_its_own(db: str, tmp_path: Path) -> None:
    def flaky(x: int) -> str:
        context = current_context()
        print(f"item {x}, attempt {context.attempt}")
        if x == 1 and context.attempt == 1:
            raise ValueError("not yet")
        return context.idempotency_key

    with Dag("flaky", db) as dag:
        dag.partial(flaky, retries=2).expand(x=[0, 1, 2])
    run = dag.run(mode="process", log_dir=str(tmp_path / "logs")).raise_for_failure()
    with History(db) as history:
        attempts = history.attempts(run.run_id, "flaky")
    assert [(entry.map_index, entry.attempt, entry.status) for entry in attempts] == [
        (0, 1, "SUCCESS"),
        (1, 1, "FAILED"),
        (1, 2, "SUCCESS"),
        (2, 1, "SUCCESS"),
    ]
    assert len({entry.log_path for entry in attempts}) == 4
    for entry in attempts:
        assert entry.log_path is not None
        text = Path(entry.log_path).read_text(encoding="utf-8")
        assert f"item {entry.map_index}, attempt {entry.attempt}\n" in text
    assert XCom.load(db, run.run_id, "flaky", map_index=2) == f"{run.run_id}:flaky:2"


def test_fail_fast_of_one_task_leaves_the_others_alone(db: str, tmp_path: Path) -> None:
    gate = tmp_path / "gate"
    os.mkfifo(gate)

    def each(x: int) -> int:
        if x == 0:
            gate.read_bytes()  # until the second one runs
            raise ValueError("no")
        gate.write_bytes(b"go")
        signal.pause()  # until it is ended
        return x

    with Dag("fast", db) as dag:
        dag.partial(each, fail_fast=True, kill_grace=5).expand(x=[0, 1, 2, 3])
        dag.task(lambda: "fine", task_id="other")
    run = dag.run(max_workers=2, mode="process")
    assert instances(run, "each") == [
        (-1, "FAILED"),
        (0, "FAILED"),
        (1, "CANCELLED"),
        (2, "CANCELLED"),
        (3, "CANCELLED"),
    ]
    assert run.value("other") == "fine"


def test_labels_distinguish_instances(db: str) -> None:
    def visit(place: dict[str, str], times: int) -> None:
        pass

    with Dag("labels", db) as dag:
        dag.partial(double).expand(x=[1, 20])
        places = [{"city": "Bern"}, {"city": "Rom"}]
        dag.partial(visit, map_key="{place[city]} x{times}").expand(place=places, times=[3])
        dag.partial(visit, task_id="wrong", map_key="{nothing}", times=1).expand(place=places)
    run = dag.run(mode="thread")
    with History(db) as history:
        labels = {(entry.task_id, entry.map_index): entry.map_key for entry in history.instances(run.run_id)}
    assert [labels["double", index] for index in (-1, 0, 1)] == [None, "1", "20"]
    assert [labels["visit", index] for index in (0, 1)] == ["Bern x3", "Rom x3"]
    assert "map_key '{nothing}' does not fit" in reasons(run)["wrong[-1]"]


@pytest.mark.parametrize(
    ("define", "wanted"),
    [
        (lambda dag: dag.partial(double).expand(), r"expand\(\) needs a list"),
        (lambda dag: dag.partial(double).expand(x="text"), r"expand\(x=…\) takes a list or a task"),
        (lambda dag: dag.partial(double).expand(x=5), r"expand\(x=…\) takes a list or a task"),
        (lambda dag: dag.partial(double).expand(y=[1]), r"takes no argument 'y'"),
        (lambda dag: dag.partial(double, x=1).expand(x=[1]), r"'x' is given twice: by expand, and by partial or env"),
        (lambda dag: dag.partial(double).expand(x=[lambda: 1]), r"task 'double': a value of type function cannot"),
        (lambda dag: dag.partial(double).expand_kwargs(3), r"expand_kwargs\(\) takes a list"),
        (lambda dag: dag.partial(double, fail_fast="yes").expand(x=[1]), r"fail_fast='yes' must be True or False"),
        (lambda dag: dag.task(double, x=dag.task(three).map(str)), r"stands for a list to expand over"),
        (lambda dag: dag.task(three).map("str"), r"map\(\) takes a function"),
        (lambda dag: task(double).expand(x=[1]), r"call it in a `with Dag"),
    ],
)
def test_mistakes_are_reported_when_they_are_made(db: str, define: Callable[[Dag], Task], wanted: str) -> None:
    with pytest.raises(DefinitionError, match=wanted):
        define(Dag("mistakes", db))


@pytest.mark.parametrize(
    ("row", "wanted"),
    [
        (5, "expand_kwargs() takes a list of mappings of argument names to values; one item is int"),
        ({"y": 1}, "'y'"),
        ({"x": 1, "c": 2}, "argument 'c' is given twice"),
    ],
)
def test_a_wrong_row_fails_its_instance_alone(db: str, row: Any, wanted: str) -> None:
    def add(x: int, c: int) -> int:
        return x + c

    with Dag("rows", db) as dag:
        dag.partial(add, c=1).expand_kwargs([{"x": 1}, row])
    run = dag.run(mode="thread")
    assert instances(run, "add") == [(-1, "FAILED"), (0, "SUCCESS"), (1, "FAILED")]
    with History(db) as history:
        assert wanted in str(history.instance(run.run_id, "add", 1).error_log)  # type: ignore[union-attr]


def test_a_resume_runs_what_has_not_succeeded(db: str, tmp_path: Path) -> None:
    good = tmp_path / "good"
    ran = tmp_path / "ran"

    def each(x: int) -> int:
        with ran.open("a") as file:
            file.write(f"{x}\n")
        if x == 2 and not good.exists():
            raise ValueError("not yet")
        return x

    def define() -> Dag:
        with Dag("again", db) as dag:
            numbers = dag.task(three)
            dag.partial(each).expand(x=numbers)
            dag.task(lambda each: sum(each), task_id="sum")
        return dag

    first = define().run(mode="thread")
    assert first.statuses()["sum"] == "UPSTREAM_FAILED"
    good.touch()
    again = define().resume()
    assert again.run_id == first.run_id
    assert again.value("sum") == 6
    assert sorted(ran.read_text().split()) == ["1", "2", "2", "3"]
    with History(db) as history:
        assert [(entry.map_index, entry.attempt) for entry in history.attempts(first.run_id, "each")] == [
            (0, 1),
            (1, 1),
            (1, 2),
            (2, 1),
        ]


@pytest.mark.parametrize("after", [2, 5])
def test_a_resume_with_a_list_of_another_length(db: str, after: int) -> None:
    def fail(x: int) -> int:
        if x == 0:
            raise ValueError("no")
        return x

    def define(count: int, func: Callable[..., Any]) -> Dag:
        with Dag("length", db) as dag:
            dag.partial(func, task_id="each").expand(x=list(range(count)))
            dag.task(lambda each: each, task_id="all")
        return dag

    define(3, fail).run(mode="thread")
    run = define(after, lambda x: x).resume().raise_for_failure()
    assert run.value("all") == list(range(after))
    wanted = [(-1, "SUCCESS"), *[(index, "SUCCESS") for index in range(after)]]
    assert instances(run, "each") == wanted, "what is beyond the list is no instance any more"


def test_a_killed_owner_leaves_nothing_that_a_resume_does_not_know(db: str, tmp_path: Path) -> None:
    flow = tmp_path / "flow.py"
    flow.write_text(
        textwrap.dedent(
            f"""
            import os, signal, sys
            from liteflow import Dag
            def each(x):
                with open({str(tmp_path / "ran")!r}, "a") as file:
                    file.write(f"{{x}}\\n")
                if x == 7 and len(sys.argv) > 1:
                    os.kill(int(sys.argv[1]), signal.SIGKILL)
                    signal.pause()
                return x
            def total(each):
                return sum(each)
            with Dag("killed", {db!r}) as dag:
                numbers = dag.task(lambda: list(range(20)), task_id="numbers")
                dag.partial(each).expand(x=numbers)
                dag.task(total)
            if __name__ == "__main__":
                if sys.argv[1:]:
                    sys.argv[1] = str(os.getpid())
                    dag.run(max_workers=2, mode="process")
                else:
                    print(dag.resume().raise_for_failure().value("total"))
            """
        )
    )
    first = subprocess.run([sys.executable, str(flow), "die"], capture_output=True, timeout=60, check=False)
    assert first.returncode == -signal.SIGKILL
    connection = sqlite3.connect(db)
    before = dict(
        connection.execute("SELECT map_index, status FROM liteflow_task_instances WHERE task_id='each'").fetchall()
    )
    connection.close()
    assert before[-1] == "RUNNING"
    again = subprocess.run([sys.executable, str(flow)], capture_output=True, timeout=60, check=True, text=True)
    assert again.stdout == "190\n"
    ran = [int(line) for line in (tmp_path / "ran").read_text().split()]
    done = [index for index, status in before.items() if status == "SUCCESS" and index >= 0]
    assert done
    assert all(ran.count(index) == 1 for index in done), "a success never runs again"
    assert set(ran) == set(range(20))
    with History(db) as history:
        run = history.latest()
        lost = [entry for entry in history.attempts(run.run_id) if entry.status == "LOST"]
        assert all(entry.map_index >= 0 for entry in lost), "the task as a whole has no attempts"
        assert any(entry.map_index == 7 for entry in lost)
