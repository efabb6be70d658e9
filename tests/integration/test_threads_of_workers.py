"""Whose output it is what a thread prints in a worker that has one task after the other."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from multiprocessing.pool import ThreadPool
from pathlib import Path

import pytest

from liteflow import Dag

beats = 0
third_beat = threading.Event()
executor = ThreadPoolExecutor(2)
pools: list[ThreadPool] = []


def beat() -> None:
    global beats
    beats += 1
    print("beat", beats)
    if beats >= 3:
        third_beat.set()
    timer = threading.Timer(0.01, beat)
    timer.daemon = True
    timer.start()


def leaves_a_heartbeat() -> None:
    beat()
    print("of the first")


def waits_for_beats() -> None:
    print("of the second")
    third_beat.clear()
    third_beat.wait(120)


def uses_an_executor() -> None:
    list(executor.map(print, ["of an executor"] * 3))


def uses_a_pool() -> None:
    if not pools:
        pools.append(ThreadPool(2))
    pools[0].map(print, ["of a pool"] * 3)


@pytest.mark.parametrize(
    ("first", "second", "lines"),
    [
        (leaves_a_heartbeat, waits_for_beats, ["of the second"]),
        (uses_an_executor, uses_an_executor, ["of an executor"] * 3),
        (uses_a_pool, uses_a_pool, ["of a pool"] * 3),
    ],
    ids=["a timer that sets itself again", "an executor of a module", "a pool of a module"],
)
def test_lines_of_threads_are_in_the_log_of_their_own_task(
    db: str,
    tmp_path: Path,
    first: object,
    second: object,
    lines: list[str],
) -> None:
    dag = Dag("d", db)
    _ = dag.task(first, "first") >> dag.task(second, "second")  # type: ignore[arg-type]
    dag.run(mode="process", max_workers=1, log_dir=str(tmp_path / "logs")).raise_for_failure()
    (log,) = (tmp_path / "logs").glob("task_second_*.log")
    # a line and its end are two writes, so those of two threads may be mixed
    assert sorted(log.read_text().replace("\n", "")) == sorted("".join(lines))
