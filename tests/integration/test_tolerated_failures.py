"""A run that is SUCCESS in spite of failures reports them, and why they do not count."""

from __future__ import annotations

import textwrap
from pathlib import Path

import pytest

from lightflow.engine.dag_builder import build_dag
from lightflow.parser.workflow_loader import load_workflow
from lightflow.plugins.registry import Registry
from liteflow import Dag, DagRun
from liteflow.planning.overlooked import Follower, OverlookedFailure
from liteflow.state.history import History


def nothing() -> None:
    pass


def boom() -> None:
    raise ValueError("no")


def told(run: DagRun) -> list[OverlookedFailure]:
    with History(run.db_path) as history:
        return history.overlooked(history.run(run.run_id))


def test_nothing_failed_and_nothing_is_reported(db: str) -> None:
    with Dag("fine", db) as dag:
        dag.task(nothing)
    assert told(dag.run(mode="inline")) == []


def test_the_run_failed_and_nothing_is_overlooked(db: str) -> None:
    with Dag("failed", db) as dag:
        dag.task(boom)
    assert told(dag.run(mode="inline")) == []


@pytest.mark.parametrize("rule", ["all_done", "always", "one_failed", "all_failed"])
def test_a_leaf_that_continues_after_a_failure(db: str, rule: str) -> None:
    with Dag("cleanup", db) as dag:
        extract = dag.task(boom, "extract")
        transform = dag.task(nothing, "transform")
        report = dag.task(nothing, "report")
        cleanup = dag.task(nothing, "cleanup", trigger_rule=rule)
        extract >> transform >> report >> cleanup
    run = dag.run(mode="inline")
    assert run.status == "SUCCESS"
    assert told(run) == [OverlookedFailure("extract", "followed", (Follower("cleanup", rule),))]


def test_a_leaf_that_was_skipped_hides_a_failure_too(db: str) -> None:
    with Dag("skipped", db) as dag:
        dag.task(boom, "extract") >> dag.task(nothing, "last", trigger_rule="all_skipped")
    run = dag.run(mode="inline")
    assert run.status == "SUCCESS"
    assert told(run) == [OverlookedFailure("extract", "followed", (Follower("last", "all_skipped"),))]


def test_a_failure_that_is_tolerated(db: str) -> None:
    with Dag("tolerated", db) as dag:
        dag.task(boom, "extract", continue_on_error=True) >> dag.task(nothing, "load")
    run = dag.run(mode="inline")
    assert told(run) == [OverlookedFailure("extract", "continue_on_error")]


def test_a_teardown_that_failed(db: str) -> None:
    with Dag("torn", db) as dag:
        dag.task(boom, "drop").as_teardown(setups=dag.task(nothing, "make"))
    run = dag.run(mode="inline")
    assert run.status == "SUCCESS"
    assert told(run) == [OverlookedFailure("drop", "teardown")]


def test_an_instance_of_a_mapped_task(db: str) -> None:
    def odd(x: int) -> None:
        if x % 2:
            raise ValueError

    with Dag("mapped", db) as dag:
        dag.partial(odd).expand(x=[1, 2, 3]) >> dag.task(nothing, "last", trigger_rule="all_done")
    assert told(dag.run(mode="inline")) == [OverlookedFailure("odd", "followed", (Follower("last", "all_done"),))]


def test_of_a_workflow_file(db: str, tmp_path: Path) -> None:
    path = tmp_path / "flow.yaml"
    path.write_text(
        textwrap.dedent("""\
        workflow_name: flow
        tasks:
          extract: {run: exit 3}
          load: {run: "true", depends_on: extract}
          mail: {run: "true", depends_on: load, trigger_rule: all_done}
        """)
    )
    run = build_dag(load_workflow(str(path)), Registry(), db, {}, folder=str(tmp_path)).run(mode="thread")
    assert run.status == "SUCCESS"
    assert told(run) == [OverlookedFailure("extract", "followed", (Follower("mail", "all_done"),))]
