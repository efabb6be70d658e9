"""Prefetch: how many attempts are queued, and which of them are RUNNING."""

from __future__ import annotations

import pytest

from liteflow.running.prefetch import NEAR, NONE, Prefetch
from liteflow.work import Outcome


def ended(node: int, seconds: float | None) -> Outcome:
    started_at = None if seconds is None else 10.0
    return Outcome(node, 1, "SUCCESS", None, None, None, None, started_at, 10.0 + (seconds or 0.0), None)


def short_tasks(prefetch: Prefetch, count: int = 100) -> Prefetch:
    for node in range(count):
        prefetch.observe(ended(node, 0.00001))
    return prefetch


def room(prefetch: Prefetch, free: int) -> int:
    prefetch.free = free
    return prefetch.room()


def test_nothing_is_queued_before_tasks_have_proved_short() -> None:
    prefetch = Prefetch(NEAR)
    assert room(prefetch, 4) == 4
    assert room(prefetch, 0) == 0
    assert room(short_tasks(prefetch), 0) == 64
    assert room(prefetch, -64) == 0


def test_nothing_is_queued_where_prefetch_is_off() -> None:
    assert short_tasks(Prefetch(NONE)).room() == 0


def test_a_long_task_ends_prefetch() -> None:
    prefetch = short_tasks(Prefetch(NEAR))
    prefetch.observe(ended(0, 1.0))
    assert prefetch.room() == 0


def test_an_attempt_that_was_cancelled_in_the_queue_does_not_count_for_durations() -> None:
    prefetch = Prefetch(NEAR)
    for node in range(100):
        prefetch.observe(ended(node, None))
    assert prefetch.room() == 0


@pytest.mark.parametrize("seconds", [0.0, -5.0])
def test_attempts_without_a_duration_are_short(seconds: float) -> None:
    prefetch = Prefetch(NEAR)
    for node in range(5000):
        prefetch.observe(ended(node, seconds))
    assert prefetch.room() == 64


def test_queued_attempts_get_free_slots_in_order() -> None:
    prefetch = Prefetch(NEAR)
    prefetch.free = 2
    for node in range(5):
        if not prefetch.take_slot():
            prefetch.queued[node] = f"{node}.log"
    assert list(prefetch.queued) == [2, 3, 4]
    assert prefetch.promote() == []
    prefetch.free += 1
    assert prefetch.promote() == [(2, "2.log")]
    prefetch.free += 2
    assert prefetch.promote() == [(3, "3.log"), (4, "4.log")]
    prefetch.free += 2
    assert prefetch.promote() == []
