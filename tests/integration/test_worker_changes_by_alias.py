"""Workers notice changes by functions that a module has imported under its own name."""

from __future__ import annotations

import os
import resource
import signal
from collections.abc import Callable
from resource import setrlimit as limit
from signal import signal as handle

import pytest

from liteflow import Dag


def sets_a_handler() -> None:
    handle(signal.SIGUSR1, signal.SIG_IGN)


def sets_a_limit() -> None:
    limit(resource.RLIMIT_CORE, (0, 0))


def state() -> list[object]:
    return [os.getpid(), repr(signal.getsignal(signal.SIGUSR1)), resource.getrlimit(resource.RLIMIT_CORE)]


def before() -> list[object]:
    return state()


def after() -> list[object]:
    return state()


@pytest.mark.parametrize("task", [sets_a_handler, sets_a_limit])
def test_a_worker_retires_after_such_a_change(db: str, task: Callable[[], None]) -> None:
    dag = Dag("d", db)
    dag.task(before) >> dag.task(task) >> dag.task(after)
    run = dag.run(1, "process").raise_for_failure()
    (pid_before, *state_before), (pid_after, *state_after) = run.value("before"), run.value("after")
    assert pid_before != pid_after
    assert state_before == state_after
