"""Prefect: a flow that submits tasks to a pool of four threads; its own temporary server, with SQLite."""

from __future__ import annotations

import subprocess
from typing import Any

from prefect import flow, task
from prefect.settings import PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS, temporary_settings
from prefect.task_runners import ThreadPoolTaskRunner

from bench.contestants import kit

RUNNER: Any = ThreadPoolTaskRunner(max_workers=kit.SLOTS)
nothing = task(kit.nothing)
seed = task(kit.seed)
join = task(kit.join)


@task
def true() -> int:
    return subprocess.run(["/bin/sh", "-c", "true"], check=True).returncode


@flow
def warm() -> int:
    """Run once, so that the server is running."""
    return 1


@flow(task_runner=RUNNER)
def wide(count: int) -> int:
    futures = [nothing.submit() for _ in range(count)]
    return sum(future.result() is None for future in futures)


@flow(task_runner=RUNNER)
def layered(layers: int, width: int) -> list[int]:
    row = [seed.submit(place) for place in range(width)]
    for _ in range(layers - 1):
        pairs = [kit.parents(place, width) for place in range(width)]
        row = [join.submit(row[left], row[right]) for left, right in pairs]
    return [future.result() for future in row]


@flow(task_runner=RUNNER)
def shell(count: int) -> int:
    return sum(future.result() == 0 for future in [true.submit() for _ in range(count)])


@flow
def chain(count: int) -> int:
    return sum(true() == 0 for _ in range(count))


if __name__ == "__main__":
    with temporary_settings({PREFECT_SERVER_EPHEMERAL_STARTUP_TIMEOUT_SECONDS: 90}):
        warm()
    kit.main({"wide": wide, "layered": layered, "shell": shell, "chain": chain})
