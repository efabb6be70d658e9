"""The garbage collector runs in workers, also if a thread of the program has paused it at the moment of the fork."""

from __future__ import annotations

import gc
import threading

from liteflow import Dag
from liteflow.gc_pause import gc_paused


def test_workers_collect_garbage_although_another_thread_builds_a_dag(db: str) -> None:
    paused, forked = threading.Event(), threading.Event()

    def build() -> None:
        with gc_paused():
            paused.set()
            forked.wait(120)

    thread = threading.Thread(target=build)
    thread.start()
    assert paused.wait(120)
    dag = Dag("d", db)
    dag.task(lambda: gc.isenabled(), "asks")
    try:
        assert dag.run(mode="process").value("asks") is True
    finally:
        forked.set()
        thread.join()
    assert gc.isenabled()
