"""Thousands of tasks, in every mode that runs them side by side."""

from __future__ import annotations

import contextlib
import hashlib
import json
import sqlite3
import tracemalloc
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from liteflow import Dag, Task
from liteflow.planning.plan import Plan
from liteflow.state.locks import LockFile
from liteflow.state.records import NewInstance, NewRun
from liteflow.state.store import Store

LAYERS, WIDTH = 20, 100
#: The graphs whose memory is measured have so many tasks in a layer.
MEMORY_WIDTH = 200
#: The limit for the memory of a run, relative to the plain model of its graph. Measured: 2.3.
MOST_TIMES_PLAIN = 3.0


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


def pairs(layers: int) -> Iterator[tuple[str, list[str]]]:
    """Yield the id of each task, and those of its two upstream tasks."""
    for layer in range(layers):
        ids = [f"t{layer - 1}_{place}" for place in range(MEMORY_WIDTH)] if layer else []
        upstream: list[list[str]] = [[] for _ in range(MEMORY_WIDTH)]
        for place, task_id in enumerate(ids):
            for below in {place, (7 * place + 1) % MEMORY_WIDTH}:
                upstream[below].append(task_id)
        for place in range(MEMORY_WIDTH):
            yield f"t{layer}_{place}", upstream[place]


def nothing() -> None:
    """The function of all tasks."""


def plain_model(layers: int) -> object:
    """Build the graph as a program without an engine has it: a mapping for each task."""
    tasks: dict[str, dict[str, Any]] = {}
    for task_id, upstream in pairs(layers):
        tasks[task_id] = {"id": task_id, "function": nothing, "upstream": upstream, "downstream": []}
        for other in upstream:
            tasks[other]["downstream"].append(task_id)
    return tasks


def started_run(db: str, layers: int) -> object:
    """Do all that is done until the loop can start."""
    with Dag("large", db) as dag:
        tasks: dict[str, Task] = {}
        for task_id, upstream in pairs(layers):
            task = tasks[task_id] = dag.task(nothing, task_id)
            for other in upstream:
                tasks[other] >> task
    tasks = {}
    program = dag.compile()
    instances = (
        NewInstance(task_id, [program.graph.ids[number] for number in program.graph.upstream[node]])
        for node, task_id in enumerate(program.graph.ids)
    )
    with contextlib.closing(Store(db, LockFile(db))) as store:
        store.create(
            NewRun(
                run_id=f"r{layers}",
                dag_id="large",
                graph_digest=program.digest,
                graph_snapshot=program.snapshot,
                instances=instances,
            )
        )
        return dag, program, Plan(program.graph)


def peak_bytes(build: Callable[..., object], *arguments: object) -> int:
    """Return the peak of the bytes that Python allocates while it builds something."""
    tracemalloc.start()
    try:
        built = build(*arguments)
        _, peak = tracemalloc.get_traced_memory()
        del built
        return peak
    finally:
        tracemalloc.stop()


def test_the_memory_of_a_run_is_that_of_a_few_mappings_for_each_task(db: str) -> None:
    """Compared with the plain model in the same process: sizes of objects differ between versions of Python."""
    plain = peak_bytes(plain_model, 100)
    run = peak_bytes(started_run, db, 100)
    assert run < MOST_TIMES_PLAIN * plain, f"{run / plain:.2f} times the plain model"


def test_the_memory_of_a_run_grows_as_its_tasks_do(db: str) -> None:
    small, large = (peak_bytes(started_run, db, layers) for layers in (25, 50))
    assert large < 2.1 * small, f"twice the tasks need {large / small:.2f} times the memory"


def test_a_graph_of_many_parts_is_stored_as_one(db: str) -> None:
    """The stored graph is put together from parts; unchanged dags share one by its digest."""
    with Dag("parts", db) as dag:
        tasks = [dag.task(str, f"t{number}") for number in range(2001)]
        tasks[0] >> tasks[1:]
    program = dag.compile()
    assert [row["id"] for row in json.loads(program.snapshot)["tasks"]] == list(dag.tasks)
    assert program.digest == hashlib.sha256(program.snapshot.encode()).hexdigest()
