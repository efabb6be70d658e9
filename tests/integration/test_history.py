"""What can be read back: events tell the whole story, readers disturb nobody."""

from __future__ import annotations

import random
import sqlite3
from pathlib import Path
from typing import Any

import pytest
from history_kit import multiply
from hypothesis import given, settings
from hypothesis import strategies as st

from liteflow import Dag, RunNotFound, SkipTask, current_context
from liteflow.planning.trigger_rules import TRIGGER_RULES
from liteflow.state.history import History
from liteflow.states import TASK_ENDED


def act(script: list[str]) -> int:
    """End as the script says for this attempt."""
    word = script[min(current_context().attempt, len(script)) - 1]
    if word == "fail":
        raise ValueError("as told")
    if word == "skip":
        raise SkipTask("as told")
    return 1


def build(db: str, picks: random.Random) -> Dag:
    with Dag("flow", db) as dag:
        for number in range(picks.randint(1, 7)):
            task = dag.task(
                act,
                task_id=f"t{number}",
                script=picks.choices(["ok", "fail", "skip"], [5, 3, 1], k=6),
                retries=picks.choice([0, 0, 1, 2]),
                trigger_rule=picks.choice([*TRIGGER_RULES, *["all_success"] * 10]),
            )
            for other in range(number):
                if picks.random() < 0.4:
                    dag.tasks[f"t{other}"] >> task
    return dag


def check_story(db: str, run_id: str) -> None:
    """Events, instances, attempts and the run tell the same story."""
    with History(db) as history:
        events = history.events(run_id, limit=100_000)
        instances = {entry.task_id: entry for entry in history.instances(run_id)}
        attempts = history.attempts(run_id)
        run = history.run(run_id)
    assert [event.seq for event in events] == sorted({event.seq for event in events})
    state: dict[str | None, str] = {}
    tries: dict[str, int] = {}
    for event in events:
        assert event.previous == state.get(event.task_id, None if event.task_id is None else "PENDING"), event
        if event.task_id is not None and event.status == "RUNNING":
            tries[event.task_id] = tries.get(event.task_id, 0) + 1
            assert event.attempt == tries[event.task_id], "attempts are numbered on"
        state[event.task_id] = event.status
    assert state.pop(None) == run.status
    assert {name: state.get(name, "PENDING") for name in instances} == {
        name: entry.status for name, entry in instances.items()
    }
    assert {name: entry.try_number for name, entry in instances.items() if entry.try_number} == tries
    assert len(attempts) == sum(tries.values())
    for attempt in attempts:
        assert attempt.ended_at is not None
        assert attempt.started_at <= attempt.ended_at


@settings(max_examples=40)
@given(st.integers(0, 2**32))
def test_events_fold_to_the_current_state(tmp_path_factory: pytest.TempPathFactory, seed: int) -> None:
    db = str(tmp_path_factory.mktemp("story") / "state.db")
    picks = random.Random(seed)
    dag = build(db, picks)
    run = dag.run(mode="inline", fail_fast=picks.random() < 0.2)
    check_story(db, run.run_id)
    if run.status != "SUCCESS":
        again = dag.resume(run.run_id)
        check_story(db, again.run_id)
        assert set(again.statuses().values()) <= TASK_ENDED


@pytest.fixture
def run_id(db: str) -> str:
    with Dag("flow", db, "words") as dag:
        dag.task(act, task_id="good", script=["ok"])
        dag.task(act, task_id="bad", script=["fail"], retries=1)
        dag.tasks["bad"] >> dag.task(act, task_id="below", script=["ok"])
    return dag.run(mode="inline", run_id="run-one", params={"p": 1}).run_id


def test_records(db: str, run_id: str) -> None:
    with History(db) as history:
        run = history.run(run_id)
        assert (run.dag_id, run.status, run.params, run.run_no) == ("flow", "FAILED", {"p": 1}, 1)
        assert run.created_at <= (run.started_at or 0) <= (run.ended_at or 0)
        assert history.counts(run_id) == {"SUCCESS": 1, "FAILED": 1, "UPSTREAM_FAILED": 1}
        assert [(entry.task_id, entry.attempt, entry.status) for entry in history.attempts(run_id)] == [
            ("bad", 1, "FAILED"),
            ("bad", 2, "FAILED"),
            ("good", 1, "SUCCESS"),
        ]
        below = history.instance(run_id, "below")
        assert below is not None
        assert below.reason == "'bad' did not succeed (rule all_success)"
        assert history.instance(run_id, "nobody") is None
        assert [(entry.task_id, entry.key, entry.encoding, entry.size) for entry in history.values(run_id)] == [
            ("good", "return_value", "json", 1)
        ]
        assert [entry["id"] for entry in history.graph(run.graph_digest)["tasks"]] == ["good", "bad", "below"]
        assert history.graph("no such digest") == {}
        assert history.dag("nobody") is None
        assert list(history.run_ids("flow")) == [run_id]


def test_runs_by_the_beginning_of_their_id(db: str, run_id: str) -> None:
    dag = Dag("flow", db)
    dag.run(mode="inline", run_id="run-two")
    dag.run(mode="inline", run_id="run")
    with History(db) as history:
        assert history.run("run-o").run_id == run_id
        assert history.run("run").run_id == "run", "a whole id is never ambiguous"
        for wrong, why in (("run-", "more than one run begins"), ("", "no run"), ("x", "no run"), ("%", "no run")):
            with pytest.raises(RunNotFound, match=why):
                history.run(wrong)
        assert [entry.run_id for entry in history.runs()] == ["run", "run-two", "run-one"]
        assert [entry.run_id for entry in history.runs(limit=2)] == ["run", "run-two"]
        assert [entry.run_id for entry in history.runs(before=2)] == ["run-one"]
        assert history.runs("nobody") == []
        with pytest.raises(RunNotFound, match="no run of 'nobody' yet"):
            history.latest("nobody")


def test_events_in_pages(db: str, run_id: str) -> None:
    with History(db) as history:
        whole = history.events(run_id)
        pages, after = [], 0
        while page := history.events(after=after, limit=2):
            pages += page
            after = page[-1].seq
        assert pages == whole
        assert (whole[0].task_id, whole[0].status) == (None, "RUNNING")
        assert (whole[-1].task_id, whole[-1].status) == (None, "FAILED")


def test_a_reader_cannot_write(db: str, run_id: str) -> None:
    with History(db) as history, pytest.raises(sqlite3.OperationalError, match="readonly"):
        history._connection.execute("DELETE FROM liteflow_events")


@pytest.mark.alters_rows("it deletes the events")
def test_a_reader_sees_one_moment_while_a_writer_writes(db: str, run_id: str) -> None:
    """A write that is not committed is neither seen nor waited for."""
    writer = sqlite3.connect(db, isolation_level=None)
    try:
        writer.execute("BEGIN IMMEDIATE")
        writer.execute("UPDATE liteflow_dag_runs SET status='CANCELLED'")
        with History(db) as history:
            assert history.run(run_id).status == "FAILED"
            writer.execute("COMMIT")
            assert history.run(run_id).status == "CANCELLED"
    finally:
        writer.close()


@pytest.mark.parametrize(
    ("column", "value"),
    [("params", "{"), ("settings", "[1]"), ("params", "null"), ("settings", "3"), ("params", "[" * 100_000)],
    ids=["half", "list", "null", "number", "deep"],
)
def test_altered_json_does_not_break_a_reader(db: str, run_id: str, column: str, value: str) -> None:
    connection = sqlite3.connect(db)
    connection.execute(f"UPDATE liteflow_dag_runs SET {column}=?", (value,))
    connection.commit()
    connection.close()
    with History(db) as history:
        result: Any = getattr(history.run(run_id), column)
        assert isinstance(result, dict), "what it is declared to be"


def test_attempts_are_read_by_pages_from_either_end(db: str) -> None:
    with Dag("flow", db) as dag:
        for name in ("a", "b"):
            dag.task(act, task_id=name, script=["fail"] * 3 + ["ok"], retries=3, retry_delay=0)
    run_id = dag.run().run_id
    everything = [(name, -1, number) for name in ("a", "b") for number in (1, 2, 3, 4)]
    with History(db) as history:

        def read(*place: Any, **options: Any) -> list[tuple[str, int, int]]:
            records = history.attempts(run_id, *place, **options)
            return [(each.task_id, each.map_index, each.attempt) for each in records]

        assert read() == everything
        assert read(newest_first=True) == everything[::-1]
        assert read(after=("a", -1, 3), limit=2) == [("a", -1, 4), ("b", -1, 1)]
        assert read(after=("b", -1, 2), limit=2, newest_first=True) == [("b", -1, 1), ("a", -1, 4)]
        assert read("a", after=("a", -1, 2)) == [("a", -1, 3), ("a", -1, 4)]
        assert read("b", -1, after=("b", -1, 4), limit=2, newest_first=True) == [("b", -1, 3), ("b", -1, 2)]
        assert read("b", -1, limit=1, newest_first=True) == [("b", -1, 4)]


def test_the_last_attempts_of_a_run_are_as_many_of_each_task(db: str) -> None:
    with Dag("flow", db) as dag:
        for name, failures in (("a", 4), ("b", 0), ("c", 2)):
            script = [*["fail"] * failures, "ok"]
            dag.task(act, task_id=name, script=script, retries=failures, retry_delay=0)
    run_id = dag.run().run_id
    with History(db) as history:

        def read(of_each: int, most: int | None) -> tuple[str, bool]:
            last = history.last_attempts(run_id, of_each=of_each, most=most)
            return " ".join(f"{each.task_id}{each.attempt}" for each in last.records), last.earlier

        assert read(9, 9) == ("a1 a2 a3 a4 a5 b1 c1 c2 c3", False)
        assert read(4, 9) == ("a2 a3 a4 a5 b1 c1 c2 c3", True)
        assert read(9, 7) == ("a3 a4 a5 b1 c1 c2 c3", True)
        assert read(9, 3) == ("a5 b1 c3", True)
        assert read(2, None) == ("a4 a5 b1 c2 c3", True)
        of_c = history.last_attempts(run_id, "c", -1, of_each=2)
        assert ([each.attempt for each in of_c.records], of_c.earlier) == ([2, 3], True)
        numbers, earlier = read(9, 2)
        assert (len(numbers.split()), earlier) == (2, True)
        assert set(numbers.split()) <= {"a5", "b1", "c3"}


def test_tasks_have_their_last_attempts_before_the_instances_of_mapped_tasks(db: str) -> None:
    with Dag("flow", db) as dag:
        dag.task(act, task_id="a", script=["ok"])
        dag.task(act, task_id="b", script=["ok"])
    run_id = dag.run().run_id
    for table in ("liteflow_task_instances", "liteflow_attempts"):
        multiply(Path(db), table, "task_id='b'", range(4), map_index="i", started_at="started_at + 10 + i")
    multiply(Path(db), "liteflow_events", "task_id='b'", range(4), map_index="i", seq="NULL")
    with History(db) as history:
        last = history.last_attempts(run_id, of_each=9, most=4)
    assert [(each.task_id, each.map_index) for each in last.records] == [("a", -1), ("b", -1), ("b", 2), ("b", 3)]
    assert last.earlier


@pytest.mark.alters_rows("its attempts are made by SQL")
def test_the_work_of_a_run_and_of_some_of_its_tasks(db: str) -> None:
    with Dag("flow", db) as dag:
        dag.task(act, task_id="z", script=["ok"])
    dag.run()

    def add(table: str, task: str, map_index: int, start: float, end: str, **changes: str) -> None:
        changes |= {"task_id": f"'{task}'", "map_index": str(map_index), "started_at": str(start), "ended_at": end}
        multiply(Path(db), table, "task_id='z'", range(1), run_id="'made'", **changes)

    multiply(Path(db), "liteflow_dag_runs", "true", range(1), run_id="'made'", run_no="NULL")
    add("liteflow_attempts", "a", -1, 0.0, "2.0", status="'FAILED'")
    add("liteflow_attempts", "a", -1, 5.0, "8.0", attempt="2")
    add("liteflow_task_instances", "b", -1, 11.0, "NULL", status="'RUNNING'")
    for index in (0, 1):
        for table in ("liteflow_attempts", "liteflow_task_instances"):
            add(table, "m", index, 25.0 + index, f"{35.0 + index}")
    with History(db) as history:
        assert history.work_s("made", 0.0, 15.0) == 2 + 3 + 4 + 10 + 10
        assert history.work_s("made", 5.0, 15.0) == 3 + 4 + 10 + 10
        assert history.tasks_work_s("made", ["a"], 15.0) == 5
        assert history.tasks_work_s("made", ["a", "b", "m"], 15.0) == 5 + 4 + 11, "of a mapped task, its span"
        assert history.instance_span("made", "m") == (25.0, 36.0)
        assert history.instance_span("made", "a") == (None, None)
