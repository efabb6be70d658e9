"""huey: a queue in SQLite and a consumer with four threads, here in the same process. It knows no graph: a layer is
put into the queue when the values of the one above are there.
"""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Callable
from typing import Any

from huey import SqliteHuey

from bench.contestants import kit

logging.getLogger("huey").setLevel(logging.CRITICAL)
huey = SqliteHuey("bench", filename="huey.db", fsync=False, journal_mode="wal")


@huey.task()
def nothing() -> int:
    kit.nothing()
    return 0  # a result is stored only if it is not None


@huey.task()
def seed(place: int) -> int:
    return kit.seed(place)


@huey.task()
def join(left: int, right: int) -> int:
    return kit.join(left, right)


@huey.task()
def shell_task() -> int:
    return subprocess.run(["/bin/sh", "-c", "true"], check=True).returncode


def _results(handles: list[Any]) -> list[Any]:
    return [handle.get(blocking=True, backoff=1.0, max_delay=0.001) for handle in handles]


def wide(count: int) -> int:
    return _results([nothing() for _ in range(count)]).count(0)


def layered(layers: int, width: int) -> list[int]:
    row = _results([seed(place) for place in range(width)])
    for _ in range(layers - 1):
        pairs = [kit.parents(place, width) for place in range(width)]
        row = _results([join(row[left], row[right]) for left, right in pairs])
    return row


def shell(count: int) -> int:
    return _results([shell_task() for _ in range(count)]).count(0)


def with_consumer(work: Callable[..., Any]) -> Callable[..., Any]:
    """Start the threads of the consumer before the clock starts."""

    def timed(*sizes: int) -> Any:
        consumer = huey.create_consumer(
            workers=kit.SLOTS, worker_type="thread", periodic=False, initial_delay=0.001, backoff=1.0, max_delay=0.001
        )
        consumer.start()
        kit.CLOCK.start()
        result = work(*sizes)
        kit.CLOCK.stop()
        consumer.stop(graceful=True)
        return result

    return timed


if __name__ == "__main__":
    sys.modules["bench.contestants.huey"] = sys.modules["__main__"]
    kit.main({"wide": with_consumer(wide), "layered": with_consumer(layered), "shell": with_consumer(shell)})
