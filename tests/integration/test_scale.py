"""Thousands of tasks, in every mode that runs them side by side."""

from __future__ import annotations

import hashlib
import json
import sqlite3
import tracemalloc

import pytest

from liteflow import Dag, Task
from liteflow.planning.plan import Plan
from liteflow.state.locks import LockFile
from liteflow.state.records import NewInstance, NewRun
from liteflow.state.store import Store

LAYERS, WIDTH = 20, 100


def work(above: list[int]) -> int:
    return 1 + max(above, default=0)


async def work_async(above: list[int]) -> int:
    return 1 + max(above, default=0)


@pytest.mark.parametrize("mode", ["thread", "process", "async"])
def test_2_000_tasks_in_20_layers(db: str, mode: str) -> None:
    with Dag("large", db) as dag:
        layer: list[object] = []
        for row in range(LAYERS):
            layer = [
                dag.task(
                    work_async if mode == "async" else work,
                    task_id=f"t{row}_{column}",
                    above=[layer[column], layer[(column + 1) % WIDTH], layer[(column * 7) % WIDTH]] if layer else [],
                )
                for column in range(WIDTH)
            ]
    run = dag.run(mode=mode)
    run.raise_for_failure()
    statuses = run.statuses()
    assert len(statuses) == LAYERS * WIDTH
    assert set(statuses.values()) == {"SUCCESS"}
    assert {run.value(f"t{LAYERS - 1}_{column}") for column in range(0, WIDTH, 9)} == {LAYERS}
    connection = sqlite3.connect(db)
    try:
        assert connection.execute("SELECT count(*), max(attempt) FROM liteflow_attempts").fetchone() == (2000, 1)
        assert connection.execute("PRAGMA integrity_check").fetchone() == ("ok",)
        # No task began before all it waits for had ended, in the order of what was committed.
        early = connection.execute(
            "SELECT count(*) FROM liteflow_task_instances i, json_each(i.dependencies) d "
            "JOIN liteflow_events b ON b.task_id=i.task_id AND b.status='RUNNING' "
            "JOIN liteflow_events e ON e.task_id=d.value AND e.status='SUCCESS' WHERE e.seq > b.seq"
        ).fetchone()
        assert early == (0,)
    finally:
        connection.close()


def test_what_a_large_dag_keeps_for_a_task(db: str) -> None:
    """The peak until the loop could begin, in bytes that Python allocated: they are the same on every machine."""
    layers, width = 100, 200
    nothing = lambda: None  # noqa: E731 - the same function for all
    tracemalloc.start()
    try:
        with Dag("large", db) as dag:
            above: list[Task] = []
            for layer in range(layers):
                row = [dag.task(nothing, f"t{layer}_{place}") for place in range(width)]
                for place, task in enumerate(row if above else []):
                    above[place] >> task
                    above[(7 * place + 1) % width] >> task
                above = row
        program = dag.compile()
        instances = (
            NewInstance(task_id, [program.graph.ids[entry] for entry in program.graph.upstream[node]])
            for node, task_id in enumerate(program.graph.ids)
        )
        store = Store(db, LockFile(db))
        store.create(
            NewRun(
                run_id="r1",
                dag_id="large",
                graph_digest=program.digest,
                graph_snapshot=program.snapshot,
                instances=instances,
            )
        )
        Plan(program.graph)
        _, peak = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    store.close()
    assert peak / (layers * width) < 1250


def test_a_graph_of_many_parts_is_stored_as_one(db: str) -> None:
    """The stored graph is put together from parts; unchanged dags share one by its digest."""
    with Dag("parts", db) as dag:
        tasks = [dag.task(str, f"t{number}") for number in range(2001)]
        tasks[0] >> tasks[1:]
    program = dag.compile()
    assert [row["id"] for row in json.loads(program.snapshot)["tasks"]] == list(dag.tasks)
    assert program.digest == hashlib.sha256(program.snapshot.encode()).hexdigest()
