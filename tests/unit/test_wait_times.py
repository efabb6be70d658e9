"""The times of waits: what is polled together, deadlines, and clocks that are set."""

from __future__ import annotations

from fakes import FakeClock

from liteflow.running.wait_times import WaitTimes


class SetClock(FakeClock):
    """A clock of the wall that can be set."""

    def __init__(self) -> None:
        super().__init__()
        self.set_by_s = 0.0

    def time(self) -> float:
        return super().time() + self.set_by_s


def begun_at(*seconds: float, pause_s: float = 10.0) -> tuple[WaitTimes, SetClock]:
    """Return waits that began at these times, each to be polled after the pause."""
    clock = SetClock()
    times = WaitTimes(clock)
    for node, second in enumerate(seconds):
        clock.seconds = second
        times.set_poll(node, pause_s)
    return times, clock


def test_waits_of_the_same_pause_that_are_due_soon_are_polled_together() -> None:
    times, clock = begun_at(0.0, 0.4, 0.9, 2.0)
    assert times.next_at() == 10.0
    clock.seconds = 10.0
    assert times.take_due() == [0, 1, 2]
    assert times.take_due() == []
    assert times.next_at() == 12.0


def test_a_wait_with_another_pause_is_not_polled_early() -> None:
    times, clock = begun_at(0.0)
    times.set_poll(1, 10.5)
    clock.seconds = 10.0
    assert times.take_due() == [0]
    clock.seconds = 10.5
    assert times.take_due() == [1]


def test_short_pauses_are_polled_early_by_a_tenth_at_most() -> None:
    times, clock = begun_at(0.0, 0.05, 0.2, pause_s=1.0)
    clock.seconds = 1.0
    assert times.take_due() == [0, 1]


def test_a_wait_that_is_set_again_or_removed_is_not_due_at_its_former_time() -> None:
    times, clock = begun_at(0.0, 0.0, 0.0)
    times.set_poll(0, 20.0)
    times.set_poll(1, None)
    times.remove(2)
    clock.seconds = 10.0
    assert times.take_due() == []
    assert times.next_at() == 20.0


def test_a_machine_that_slept_polls_at_once() -> None:
    times, clock = begun_at(0.0)
    clock.set_by_s = 3600.0
    assert times.take_due() == [0]


def test_a_clock_that_is_set_back_lengthens_no_pause() -> None:
    times, clock = begun_at(0.0)
    clock.set_by_s = -3600.0
    clock.seconds = 10.0
    assert times.take_due() == [0]


def test_a_deadline_counts_by_the_clock_of_the_wall() -> None:
    times, clock = begun_at()
    times.set_deadline(7, clock.time() + 100.0)
    assert times.next_at() == 100.0
    assert not times.is_overdue()
    clock.set_by_s = 99.0
    assert times.next_at() == 1.0
    clock.set_by_s = 100.0
    assert times.is_overdue()
    assert times.take_overdue() == [7]
    assert times.next_at() is None
