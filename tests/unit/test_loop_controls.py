"""Negative controls of the random runs: each defence of the engine is removed once, and the checks must notice.

A check that never fails proves nothing. So this file alone replaces parts of the engine, as the crash suites do.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from random_runs import RandomRun

from liteflow.planning.plan import Plan
from liteflow.planning.ready_queue import ReadyQueue
from liteflow.planning.retry import RetryTracker
from liteflow.planning.start_queue import StartQueue
from liteflow.planning.upstream_tracker import UpstreamTracker
from liteflow.record import replace
from liteflow.running.hooks import Hooks
from liteflow.running.prefetch import Prefetch
from liteflow.running.recorder import Recorder
from liteflow.running.resume import PreviousRun
from liteflow.running.stopping import Stopping
from liteflow.running.waits import Waits

SEEDS = 1500
Patch = Callable[[Any, str, Any], None]


def late_commit(patch: Patch) -> None:
    """Tasks are submitted, and shown, before the commit."""
    commit = Recorder.commit

    def commit_later(self: Any) -> bool:
        self.turns = getattr(self, "turns", 0) + 1
        return commit(self) if self._batch.slot_requests or self.turns % 2 else bool(self._batch)

    patch(Recorder, "commit", commit_later)


def shown_before_commit(patch: Patch) -> None:
    """Observers see a change at once."""
    show = Recorder._show

    def show_at_once(self: Any, *arguments: Any, **keywords: Any) -> None:
        show(self, *arguments, **keywords)
        self.publish()

    patch(Recorder, "_show", show_at_once)


def upstream_ignored(patch: Patch) -> None:
    """Trigger rules are not applied."""
    patch(UpstreamTracker, "decide", lambda self, node: "run")


def one_worker_more(patch: Patch) -> None:
    """One attempt more runs than there are workers."""
    room = Prefetch.room
    patch(Prefetch, "room", lambda self: room(self) + 1)
    patch(Prefetch, "_has_slot", property(lambda self: True))


def max_parallel_ignored(patch: Patch) -> None:
    """An end counts twice, so that more instances of a mapped task start than `max_parallel` allows."""
    ended = ReadyQueue.ended

    def ended_twice(self: Any, node: int) -> None:
        ended(self, node)
        ended(self, node)

    patch(ReadyQueue, "ended", ended_twice)


def slots_not_requested(patch: Patch) -> None:
    """Tasks with a pool start without slots."""
    options = ReadyQueue.options
    patch(ReadyQueue, "options", lambda self, node: replace(options(self, node), needs=()))


def slots_not_released(patch: Patch) -> None:
    """A task keeps its slots when it has ended."""
    original = Recorder.hold_slots
    patch(Recorder, "hold_slots", lambda self, node, needs: original(self, node, needs) if needs else None)


def no_back_off(patch: Patch) -> None:
    """A retry is due at once."""
    add_retry = StartQueue.add_retry
    patch(StartQueue, "add_retry", lambda self, node, due: add_retry(self, node, 0.0))


def endless_retries(patch: Patch) -> None:
    """Each failure is tried again."""
    after_failure = RetryTracker.after_failure
    patch(RetryTracker, "after_failure", lambda self, *arguments: (after_failure(self, *arguments) and 0.0) or 0.0)


def stop_ignored(patch: Patch) -> None:
    """A stop does not cancel what has not started."""
    patch(Plan, "_cancel", lambda self, *_: None)


def nothing_is_ended(patch: Patch) -> None:
    """A stop does not end what runs, so that it goes on as if nothing had happened."""
    patch(Stopping, "stop", lambda self, *_: None)


def retry_shown_as_first(patch: Patch) -> None:
    """The event of a start names a wrong previous state."""
    patch(Plan, "stored_status", lambda self, node: "PENDING")


def waits_forgotten(patch: Patch) -> None:
    """A resume does not poll the attempts that wait."""
    patch(Waits, "adopt", lambda self: None)


def success_forgotten(patch: Patch) -> None:
    """A resume runs what has succeeded."""
    patch(PreviousRun, "done", lambda self, graph: {})


def hooks_not_stored(patch: Patch) -> None:
    """A hook is triggered, and not stored."""
    patch(Hooks, "_store_events", lambda self, node, now: None)


def teardowns_cancelled(patch: Patch) -> None:
    """A stopped run does not run teardowns."""
    cancel = Plan._cancel
    patch(
        Plan,
        "_cancel",
        lambda self, reason, transitions, exempt: cancel(self, reason, transitions, self._options.control.joins),
    )


def over_too_early(patch: Patch) -> None:
    """A run is over when nothing runs."""
    patch(Plan, "finished", property(lambda self: not self.running))


def due_retry_spins(patch: Patch) -> None:
    """A due retry that waits for a worker keeps the loop busy."""
    patch(Plan, "requeue_retries", lambda self, now: None)


CONTROLS: dict[Callable[[Patch], None], str] = {
    late_commit: "is submitted, and|is shown and not stored",
    waits_forgotten: "the run does not end",
    shown_before_commit: "is shown and not stored",
    upstream_ignored: "starts by",
    one_worker_more: "more attempts run than this machine has slots",
    max_parallel_ignored: "instances of",
    slots_not_requested: "holds",
    slots_not_released: "slots|does not end|holds",
    no_back_off: "before its back-off is over",
    endless_retries: "more retries than|does not end",
    stop_ignored: "starts in a stopped run|in a run that is|does not end",
    nothing_is_ended: "was asked to end|does not end",
    retry_shown_as_first: "follows",
    success_forgotten: "succeeds twice",
    hooks_not_stored: "no row|in a run that is|is submitted twice|follows",
    teardowns_cancelled: "not torn down",
    over_too_early: "in a run that is",
    due_retry_spins: "busy",
}


@pytest.mark.parametrize("control", CONTROLS, ids=lambda control: control.__name__)
def test_the_checks_notice_a_defence_that_is_removed(
    control: Callable[[Patch], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    control(monkeypatch.setattr)
    for seed in range(SEEDS):
        try:
            RandomRun(seed).run()
        except AssertionError as failure:
            with pytest.raises(AssertionError, match=CONTROLS[control]):
                raise failure
            return
    pytest.fail(f"{SEEDS} random runs keep all promises without this defence")
