"""The queue of outcomes: who wakes the consumer, and when that takes a call of the system."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from liteflow.executors.attempt import failure
from liteflow.executors.outcome_queue import OutcomeQueue
from liteflow.work import Outcome, Work

LIMIT_S = 60.0
OUTCOME: Outcome = failure(Work(node=1, task_id="t", attempt=1), "FAILED", "no")


@pytest.fixture
def queue() -> Iterator[OutcomeQueue]:
    made = OutcomeQueue()
    yield made
    made.close()


def wake_ups() -> int:
    """Return how many wake-ups of queues of this process nobody has read yet."""
    infos = [path.read_text() for path in Path("/proc/self/fdinfo").iterdir() if path.exists()]
    counts = [line.split()[1] for info in infos for line in info.splitlines() if line.startswith("eventfd-count:")]
    return sum(int(count, 16) for count in counts)


def test_what_calls_back_in_a_wait_needs_no_wake_up(queue: OutcomeQueue) -> None:
    reading, writing = os.pipe()
    before = wake_ups()

    def post() -> None:
        queue.post(OUTCOME)
        queue.wake()
        os.read(reading, 1)

    queue.watch(reading, post)
    os.write(writing, b"x")
    assert queue.wait(LIMIT_S) == [OUTCOME]
    assert wake_ups() == before
    queue.at(time.monotonic(), lambda: queue.post(OUTCOME))
    assert queue.wait(LIMIT_S) == [OUTCOME]
    assert wake_ups() == before
    queue.unwatch(reading)
    os.close(reading)
    os.close(writing)


def test_a_wake_before_the_wait_ends_it(queue: OutcomeQueue) -> None:
    queue.wake()
    assert queue.wait() == []
    queue.post(OUTCOME)
    assert queue.wait() == [OUTCOME]


def test_threads_end_a_wait(queue: OutcomeQueue) -> None:
    """Each thread has its answer before the next: a wake-up that is missed hangs."""
    for _ in range(300):
        thread = threading.Thread(target=queue.post, args=(OUTCOME,))
        thread.start()
        assert queue.wait() == [OUTCOME]
        thread.join()


def test_a_signal_handler_ends_a_wait(queue: OutcomeQueue) -> None:
    before = signal.signal(signal.SIGUSR2, lambda number, frame: queue.wake())
    try:
        for number in range(100):
            timer = threading.Timer(number / 100_000, os.kill, (os.getpid(), signal.SIGUSR2))
            timer.start()
            assert queue.wait() == []
            timer.join()
    finally:
        signal.signal(signal.SIGUSR2, before)
