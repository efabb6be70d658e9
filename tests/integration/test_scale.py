"""Thousands of tasks, in every mode that runs them side by side."""

from __future__ import annotations

import sqlite3

import pytest

from liteflow import Dag

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
