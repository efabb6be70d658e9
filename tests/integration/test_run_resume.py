"""Resuming: what is done stays done, the rest runs, and the history is told on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from liteflow import Dag, RunNotFound, SkipTask, current_context
from liteflow.state.history import History


def note(trail: str, word: str, switch: str = "") -> str:
    """Write a word down; fail as long as the switch is not there."""
    with open(trail, "a", encoding="utf-8") as file:
        file.write(f"{word}\n")
    if switch and not Path(switch).exists():
        raise ValueError("not yet")
    return word


def give_up() -> None:
    raise SkipTask("not today")


@pytest.fixture
def switch(tmp_path: Path) -> Path:
    return tmp_path / "switch"


def build(db: str, trail: Any, switch: Path, **options: Any) -> Dag:
    with Dag("flow", db) as dag:
        a = dag.task(note, task_id="a", trail=trail.path, word="a")
        b = dag.task(note, task_id="b", trail=trail.path, word="b", switch=str(switch), **options)
        c = dag.task(note, task_id="c", trail=trail.path, word=b)
        d = dag.task(note, task_id="d", trail=trail.path, word="d")
        a >> b
        c >> dag.task(note, task_id="e", trail=trail.path, word="e")
        a >> d
    return dag


@pytest.mark.parametrize("mode", ["inline", "thread", "process", "async"])
def test_done_tasks_are_not_repeated(db: str, trail: Any, switch: Path, mode: str) -> None:
    dag = build(db, trail, switch, retries=1)
    first = dag.run(mode=mode)
    assert first.statuses() == {
        "a": "SUCCESS",
        "b": "FAILED",
        "c": "UPSTREAM_FAILED",
        "d": "SUCCESS",
        "e": "UPSTREAM_FAILED",
    }
    switch.touch()
    second = dag.resume(first.run_id)
    assert (second.run_id, second.status) == (first.run_id, "SUCCESS")
    assert sorted(trail.words()) == ["a", "b", "b", "b", "b", "d", "e"]  # the last b is what c was given
    with History(db) as history:
        assert [(entry.attempt, entry.status) for entry in history.attempts(first.run_id, "b")] == [
            (1, "FAILED"),
            (2, "FAILED"),
            (3, "SUCCESS"),
        ]
        assert history.run(first.run_id).settings["mode"] == mode
        assert history.instance(first.run_id, "b").error_log is None  # type: ignore[union-attr]


def test_a_resume_that_fails_again(db: str, trail: Any, switch: Path) -> None:
    dag = build(db, trail, switch)
    run = dag.run(mode="inline")
    for _ in range(3):
        assert dag.resume().status == "FAILED"
    assert trail.words().count("b") == 4
    assert trail.words().count("a") == 1
    switch.touch()
    assert dag.resume(run.run_id).status == "SUCCESS"
    assert len(dag.runs()) == 1


def test_a_run_that_succeeded_is_returned_as_it_is(db: str, trail: Any, switch: Path) -> None:
    switch.touch()
    dag = build(db, trail, switch)
    run = dag.run(mode="inline")
    before = trail.words()
    again = dag.resume(run.run_id)
    assert (again.run_id, again.status, again.ended_at) == (run.run_id, "SUCCESS", run.ended_at)
    assert trail.words() == before


def test_the_latest_run_is_the_default(db: str, trail: Any, switch: Path) -> None:
    dag = build(db, trail, switch)
    dag.run(mode="inline", run_id="old")
    dag.run(mode="inline", run_id="new")
    switch.touch()
    assert dag.resume().run_id == "new"
    assert [(run.run_id, run.status) for run in dag.runs()] == [("new", "SUCCESS"), ("old", "FAILED")]
    assert dag.resume("ol").run_id == "old", "the beginning of an id is enough"


def test_the_definition_may_change(db: str, trail: Any, switch: Path) -> None:
    run = build(db, trail, switch).run(mode="inline")
    with Dag("flow", db) as dag:
        a = dag.task(note, task_id="a", trail=trail.path, word="a-changed")  # done: stays as it was
        b = dag.task(note, task_id="b", trail=trail.path, word="b-mended")
        new = dag.task(note, task_id="new", trail=trail.path, word="new")
        a >> b >> new
    again = dag.resume(run.run_id)
    assert again.status == "SUCCESS"
    assert trail.words() == ["a", "b", "d", "b-mended", "new"]
    with History(db) as history:
        record = history.run(run.run_id)
        assert [entry["id"] for entry in history.graph(record.graph_digest)["tasks"]] == ["a", "b", "new"]
        assert history.instance(run.run_id, "new").dependencies == ["b"]  # type: ignore[union-attr]


def test_a_preserved_skip_spreads_again(db: str, trail: Any, switch: Path) -> None:
    """Once this ended in a run that waited for ever: what hung below a kept skip was not told."""
    with Dag("flow", db) as dag:
        skipped = dag.task(give_up)
        low = dag.task(note, task_id="low", trail=trail.path, word="low")
        lower = dag.task(note, task_id="lower", trail=trail.path, word="lower")
        skipped >> low >> lower
        dag.task(note, task_id="bad", trail=trail.path, word="bad", switch=str(switch))
    dag.run(mode="inline")
    switch.touch()
    run = dag.resume()
    assert run.statuses() == {"give_up": "SKIPPED", "low": "SKIPPED", "lower": "SKIPPED", "bad": "SUCCESS"}
    assert run.status == "SUCCESS"
    assert trail.words() == ["bad", "bad"]


def test_params_come_back(db: str, switch: Path) -> None:
    def ask() -> object:
        if not switch.exists():
            raise ValueError
        return [current_context().params, current_context().attempt, current_context().idempotency_key]

    with Dag("flow", db) as dag:
        dag.task(ask)
    run = dag.run(mode="inline", run_id="r", params={"day": [1, None]})
    switch.touch()
    dag.resume(run.run_id)
    assert run.value("ask") == [{"day": [1, None]}, 2, "r:ask"]


def test_large_values_of_the_first_part_are_still_there(db: str, switch: Path) -> None:
    def read(large: str) -> int:
        if not switch.exists():
            raise ValueError
        return len(large)

    with Dag("flow", db) as dag:
        dag.task(lambda: "x" * 11_000_000, task_id="large")
        dag.task(read)
    dag.run(mode="inline")
    switch.touch()
    assert dag.resume().value("read") == 11_000_000


def test_what_cannot_be_resumed(db: str, trail: Any, switch: Path) -> None:
    dag = build(db, trail, switch)
    run = dag.run(mode="inline")
    with pytest.raises(RunNotFound, match="no run 'nope'"):
        dag.resume("nope")
    with Dag("other", db) as other:
        other.task(give_up)
    with pytest.raises(RunNotFound, match="is of dag 'flow', not of 'other'"):
        other.resume(run.run_id)
    with pytest.raises(RunNotFound, match="no run of 'other' yet"):
        other.resume()
