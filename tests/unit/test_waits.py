"""Tasks that wait without a worker: polls, timeouts, stops, and crashes, without waiting or processes."""

from __future__ import annotations

import re
from typing import Any

import pytest
from driving import Drive, scripted
from fakes import Crashed, Ends

from liteflow import Dag, DefinitionError, Repeat, Waiting, task
from liteflow.work import Work

NOT_YET = Ends(after_s=0.0, waiting=Waiting(None, 10.0, "a file"))
DONE = Ends(after_s=0.0, value=7)


def nothing(*_: object, **__: object) -> None:
    """The body of a task; it never runs."""


def flow_of(**options: Any) -> Dag:
    return Dag("flow", "never-made.db", **options)


def answers(*polls: Ends) -> Any:
    """Return a script: the attempt waits, and its polls answer one after the other; the last one repeats."""
    asked: dict[tuple[str, int], int] = {}

    def script(work: Work) -> Ends:
        if work.handle is None:
            return NOT_YET
        key = (work.task_id, work.map_index)
        asked[key] = asked.get(key, 0) + 1
        return polls[min(asked[key], len(polls)) - 1]

    return script


def test_a_task_that_waits_is_polled_until_it_has_a_value() -> None:
    flow = flow_of()
    flow.sensor(nothing, "ready") >> flow.task(nothing, "after")
    drive = Drive(flow, script=lambda work: answers(NOT_YET, DONE)(work) if work.task_id == "ready" else Ends())
    script = answers(NOT_YET, DONE)
    drive.script = lambda work: script(work) if work.task_id == "ready" else Ends()
    drive.check_end(drive.run())
    assert drive.polls == [(10.0, "ready", "null"), (20.0, "ready", "null")]
    assert drive.starts == [(0.0, "ready"), (20.0, "after")]
    assert drive.file.attempts["ready", -1, 1] == "SUCCESS"
    events = [(event.previous, event.status, event.reason) for event in drive.file.events if event.task_id == "ready"]
    assert events == [
        ("PENDING", "RUNNING", None),
        ("RUNNING", "WAITING", "a file"),
        ("WAITING", "SUCCESS", None),
    ], "a poll is no event"


def test_a_task_that_waits_holds_no_slot() -> None:
    flow = flow_of(pools={"p": 1})
    flow.sensor(nothing, "ready", pool="p", priority=1)
    for name in "ab":
        flow.task(nothing, name, pool="p")
    script = answers(DONE)
    drive = Drive(flow, workers=1, script=lambda work: script(work) if work.task_id == "ready" else Ends())
    drive.check_end(drive.run())
    assert drive.starts == [(0.0, "ready"), (0.0, "a"), (1.0, "b")]


def test_a_task_may_hold_its_slots_while_it_waits() -> None:
    flow = flow_of(pools={"p": 1})
    flow.sensor(nothing, "ready", pool="p", priority=1, pool_while_waiting=True, retries=1)
    flow.task(nothing, "a", pool="p")
    script = answers(NOT_YET, Ends(verdict="FAILED", after_s=0.0, errors=("TaskFailed",)), DONE)
    drive = Drive(flow, script=lambda work: script(work) if work.task_id == "ready" else Ends())
    drive.check_end(drive.run())
    assert drive.starts == [(0.0, "ready"), (20.0, "ready"), (30.0, "a")]


def test_a_resumed_run_holds_the_slots_of_its_waits_again_even_if_others_have_them() -> None:
    flow = flow_of(pools={"p": 1})
    flow.sensor(nothing, "ready", pool="p", priority=1, pool_while_waiting=True)
    flow.task(nothing, "a", pool="p")
    script = answers(NOT_YET, NOT_YET, DONE)
    actions = [(12.0, lambda drive: drive.interrupt())]
    drive = Drive(flow, script=lambda work: script(work) if work.task_id == "ready" else Ends(), actions=actions)
    assert drive.run().status == "INTERRUPTED"
    drive.file.holders.clear()  # as its last process has ended
    drive.file.taken_elsewhere["p"] = 1
    drive.actions = [*actions, (15.0, lambda drive: drive.file.taken_elsewhere.clear())]
    drive.check_end(drive.resume())
    assert drive.starts == [(0.0, "ready"), (drive.polls[-1][0], "a")]
    assert drive.polls[-1][0] > 15.0


def test_a_run_whose_wait_holds_slots_does_not_park() -> None:
    flow = flow_of(pools={"p": 1})
    flow.sensor(nothing, "ready", pool="p", pool_while_waiting=True, timeout=1000)
    script = answers(DONE)
    drive = Drive(flow, script=lambda work: LONG if work.handle is None else script(work), config={"parks": True})
    drive.check_end(drive.run())
    assert drive.states() == {"ready": "SUCCESS"}
    assert drive.clock.seconds >= 300.0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"pool_while_waiting": True}, "pool_while_waiting is for a task with a pool, and it has none"),
        ({"pool_while_waiting": True, "pool": "p"}, "pool_while_waiting is for a task that waits, such as a sensor"),
        ({"pool_while_waiting": "yes", "pool": "p"}, "pool_while_waiting='yes' must be True or False"),
    ],
)
def test_only_a_task_that_waits_holds_slots_while_it_waits(options: dict[str, Any], message: str) -> None:
    def drive() -> Drive:
        flow = flow_of(pools={"p": 1})
        flow.task(nothing, "a", **options)
        return Drive(flow)

    with pytest.raises(DefinitionError, match=re.escape(f"task 'a': {message}")):
        drive()


def test_a_child_run_holds_no_slots_while_it_waits() -> None:
    flow = flow_of(pools={"p": 1})
    flow.workflow("part", Dag("other"), pool="p", pool_while_waiting=True)
    with pytest.raises(DefinitionError, match="task 'part': pool_while_waiting is not for a child run"):
        Drive(flow)


def test_what_a_poll_says_is_stored_and_shown() -> None:
    second = Ends(after_s=0.0, waiting=Waiting({"seen": 2}, 5.0, "two of three files"))
    flow = flow_of()
    flow.sensor(nothing, "ready")
    drive = Drive(flow, script=answers(second, DONE))
    drive.check_end(drive.run())
    assert drive.polls == [(10.0, "ready", "null"), (15.0, "ready", '{"seen": 2}')]
    reasons = [change.reason for change in drive.changes if change.status == "WAITING"]
    assert reasons == ["a file", "two of three files"]


def test_a_wait_times_out() -> None:
    flow = flow_of()
    flow.sensor(nothing, "ready", timeout=35)
    drive = Drive(flow, script=answers(NOT_YET))
    result = drive.run()
    assert result.status == "FAILED"
    assert drive.file.attempts["ready", -1, 1] == "TIMED_OUT"
    assert drive.file.rows["ready", -1].reason == "timed out after 35 s; it waited for: a file"
    assert drive.clock.seconds == pytest.approx(35.0, abs=0.3)


def test_a_wait_that_times_out_may_skip_its_task() -> None:
    flow = flow_of()
    flow.sensor(nothing, "ready", timeout=35, on_timeout="skip") >> flow.task(nothing, "after")
    drive = Drive(flow, script=answers(NOT_YET))
    assert drive.run().status == "SUCCESS"
    assert drive.states() == {"ready": "SKIPPED", "after": "SKIPPED"}


def test_a_wait_that_failed_is_retried_and_its_time_begins_anew() -> None:
    flow = flow_of()
    flow.sensor(nothing, "ready", timeout=35, retries=1)
    drive = Drive(flow, script=answers(NOT_YET))
    assert drive.run().status == "FAILED"
    assert list(drive.file.attempts.values()) == ["TIMED_OUT", "TIMED_OUT"]
    assert drive.clock.seconds == pytest.approx(70.0, abs=0.6)


def test_polls_that_cannot_tell_are_repeated_and_then_fail_the_attempt() -> None:
    broken = Ends(verdict="FAILED", after_s=0.0, errors=("ConnectionError", "Exception"))
    flow = flow_of()
    flow.sensor(nothing, "ready")
    drive = Drive(flow, script=answers(broken, broken, broken, broken, NOT_YET, broken, DONE))
    assert drive.run().status == "SUCCESS"
    assert any("poll failed (4 of 5)" in (change.reason or "") for change in drive.changes)
    drive = Drive(flow, script=answers(broken))
    assert drive.run().status == "FAILED"
    assert drive.file.rows["ready", -1].reason == "5 polls in a row failed; the last: it ended as FAILED"
    assert len(drive.polls) == 5


def test_a_poll_may_fail_the_attempt_at_once() -> None:
    no = Ends(verdict="FAILED", after_s=0.0, errors=("TaskFailed", "Exception"))
    flow = flow_of()
    flow.sensor(nothing, "ready")
    drive = Drive(flow, script=answers(no))
    assert drive.run().status == "FAILED"
    assert len(drive.polls) == 1


def test_a_poll_is_not_repeated_while_it_runs() -> None:
    slow = Ends(after_s=25.0, waiting=Waiting(None, 10.0, "a file"))
    flow = flow_of()
    flow.sensor(nothing, "ready")
    drive = Drive(flow, script=answers(slow, DONE))
    drive.check_end(drive.run())
    assert [at for at, *_ in drive.polls] == [10.0, 45.0]


def test_the_first_answer_of_a_wait_counts() -> None:
    """The time is over while a poll is under way that succeeds all the same."""
    late = Ends(after_s=20.0, value=1, ignores_cancel=True)
    flow = flow_of()
    flow.sensor(nothing, "ready", timeout=15)
    drive = Drive(flow, script=answers(late))
    assert drive.run().status == "FAILED"
    assert drive.file.attempts == {("ready", -1, 1): "TIMED_OUT"}


@pytest.mark.parametrize("after_s", [0.0, 30.0])
def test_a_cancel_ends_a_wait(after_s: float) -> None:
    """It ends before a poll and during a poll."""
    flow = flow_of()
    flow.sensor(nothing, "ready") >> flow.task(nothing, "after")
    slow = Ends(after_s=after_s, waiting=Waiting(None, 10.0, "a file"))
    drive = Drive(flow, script=answers(slow), actions=[(12.0, lambda drive: drive.cancel())])
    result = drive.run()
    drive.check_end(result)
    assert result.status == "CANCELLED"
    assert drive.file.attempts == {("ready", -1, 1): "CANCELLED"}
    assert drive.clock.seconds < 14.0


def test_an_interrupted_run_waits_on_when_it_is_resumed() -> None:
    flow = flow_of()
    flow.sensor(nothing, "ready", timeout=100)
    script = answers(NOT_YET, NOT_YET, DONE)
    drive = Drive(flow, script=script, actions=[(12.0, lambda drive: drive.interrupt())])
    assert drive.run().status == "INTERRUPTED"
    assert drive.states() == {"ready": "WAITING"}
    drive.check_end(drive.resume())
    assert drive.starts == [(0.0, "ready")], "the attempt is not started again"
    assert drive.file.attempts == {("ready", -1, 1): "SUCCESS"}


def test_time_already_waited_counts_when_a_run_is_resumed() -> None:
    flow = flow_of()
    flow.sensor(nothing, "ready", timeout=100)
    drive = Drive(flow, script=answers(NOT_YET), actions=[(12.0, lambda drive: drive.interrupt())])
    assert drive.run().status == "INTERRUPTED"
    drive.clock.seconds = 70.0
    assert drive.resume().status == "FAILED"
    assert drive.clock.seconds == pytest.approx(100.0, abs=0.3)


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("crash_at", range(1, 8))
def test_a_wait_survives_a_crash_at_each_commit(crash_at: int, after: bool) -> None:
    flow = flow_of()
    flow.sensor(nothing, "ready") >> flow.task(nothing, "after")
    other = Ends(after_s=0.0, waiting=Waiting("h", 5.0, "something else"))
    script = answers(other, NOT_YET, DONE)
    drive = Drive(flow, script=lambda work: script(work) if work.task_id == "ready" else Ends())
    try:
        result = drive.run(crash_at=crash_at, after=after)
    except Crashed:
        result = drive.resume()
    drive.check_end(result)
    assert result.status == "SUCCESS"
    verdicts = [verdict for (name, *_), verdict in drive.file.attempts.items() if name == "ready"]
    assert verdicts.count("SUCCESS") == 1
    stored_before_it_waited = {verdict for verdict in verdicts if verdict != "SUCCESS"} <= {"LOST"}
    assert stored_before_it_waited


def test_each_instance_of_a_mapped_task_waits() -> None:
    flow = flow_of()
    items = flow.task(nothing, "items")
    with flow:
        waiting = task(task_id="ready", every=10, timeout=100, max_parallel=2)(lambda item: None).expand(item=items)
    waiting >> flow.task(nothing, "after")
    script = answers(NOT_YET, DONE)

    def ends(work: Work) -> Ends:
        if work.task_id == "items":
            return Ends(after_s=0.0, value=[1, 2, 3])
        return script(work) if work.task_id == "ready" else Ends()

    drive = Drive(flow, workers=4, script=ends, actions=[(12.0, lambda drive: drive.interrupt())])
    assert drive.run().status == "INTERRUPTED"
    assert [drive.file.rows["ready", index].status for index in range(3)] == ["WAITING", "WAITING", "PENDING"]
    drive.check_end(drive.resume())
    assert [name for _, name in drive.starts].count("ready") == 3, "an instance that waits is not started again"
    # A resumed run polls at once; then the third instance may wait, too, because max_parallel counts what waits.
    assert drive.starts[-2:] == [(12.0, "ready"), (32.0, "after")]


def mapped_waits(script: Any, **options: Any) -> Drive:
    """Return a flow of six instances that wait, each with this script, and the drive that runs it."""
    flow = flow_of()
    items = flow.task(nothing, "items")
    with flow:
        task(task_id="ready", every=10, timeout=1000)(lambda item: None).expand(item=items)

    def ends(work: Work) -> Ends:
        return Ends(after_s=0.0, value=[*range(6)]) if work.task_id == "items" else script(work)

    return Drive(flow, workers=4, script=ends, **options)


def test_polls_that_are_due_together_are_one_work() -> None:
    drive = mapped_waits(answers(NOT_YET, NOT_YET, DONE))
    drive.check_end(drive.run())
    assert [len(works) for works in drive.executor.works_of_polls] == [6, 6, 6]


def test_polls_that_take_long_have_a_work_each() -> None:
    slow = Ends(after_s=2.0, waiting=Waiting(None, 10.0, "a file"))
    drive = mapped_waits(lambda work: NOT_YET if work.handle is None else slow if drive.clock.seconds < 25 else DONE)
    drive.check_end(drive.run())
    assert [len(works) for works in drive.executor.works_of_polls] == [6] + 6 * [1] + 6 * [1]


def test_what_ends_a_shared_work_is_no_answer_of_its_polls() -> None:
    """Its worker died, or one of the polls was cancelled: each is polled again, alone, and none counts as failed."""
    died = Ends(verdict="LOST", after_s=1.0, errors=())
    asked: list[int] = []

    def script(work: Work) -> Ends:
        if work.handle is None:
            return NOT_YET
        asked.append(work.node)
        return died if len(asked) <= 6 else DONE

    drive = mapped_waits(script)
    drive.check_end(drive.run())
    assert [len(works) for works in drive.executor.works_of_polls] == [6] + 6 * [1]
    reasons = {event.reason for event in drive.file.events if event.status == "WAITING"}
    assert reasons == {"a file"}, "no poll has failed"


def test_instances_that_wait_are_cancelled_with_fail_fast() -> None:
    flow = flow_of()
    items = flow.task(nothing, "items")
    with flow:
        task(task_id="ready", every=10, timeout=100, fail_fast=True)(lambda item: None).expand(item=items)
    no = Ends(verdict="FAILED", after_s=0.0, errors=("TaskFailed", "Exception"))
    scripts = {0: answers(no), 1: answers(NOT_YET)}

    def ends(work: Work) -> Ends:
        return Ends(after_s=0.0, value=[1, 2]) if work.task_id == "items" else scripts[work.map_index](work)

    drive = Drive(flow, workers=4, script=ends)
    drive.check_end(drive.run())
    assert drive.states()["ready[0]"] == "FAILED"
    assert drive.states()["ready[1]"] == "CANCELLED"
    assert drive.clock.seconds < 12.0


def test_a_hook_tells_once_that_a_task_waits() -> None:
    flow = flow_of()
    flow.sensor(nothing, "ready", on_wait=nothing, on_exit=nothing)
    other = Ends(after_s=0.0, waiting=Waiting(None, 10.0, "another file"))
    script = answers(other, DONE)
    drive = Drive(flow, script=lambda work: script(work) if work.task_id == "ready" else Ends())
    drive.check_end(drive.run())
    assert [name for _, name in drive.starts] == ["ready", "ready.on_wait", "ready.on_exit"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("crash_at", range(1, 6))
def test_a_hook_that_a_crash_has_cut_off_tells_it_after_the_resume(crash_at: int, after: bool) -> None:
    flow = flow_of()
    flow.sensor(nothing, "ready", on_wait=nothing)
    script = answers(NOT_YET, NOT_YET, DONE)
    drive = Drive(flow, script=lambda work: script(work) if work.task_id == "ready" else Ends())
    try:
        result = drive.run(crash_at=crash_at, after=after)
    except Crashed:
        result = drive.resume()
    drive.check_end(result)
    assert drive.states()["ready.on_wait"] == "SUCCESS"


def test_a_task_that_no_longer_waits_starts_again() -> None:
    flow = flow_of()
    flow.sensor(nothing, "ready")
    drive = Drive(flow, script=answers(NOT_YET), actions=[(12.0, lambda drive: drive.interrupt())])
    assert drive.run().status == "INTERRUPTED"
    flow = flow_of()
    flow.task(nothing, "ready")
    again = Drive(flow, file=drive.file, clock=drive.clock)
    again.check_end(again.resume())
    assert again.file.attempts == {("ready", -1, 1): "LOST", ("ready", -1, 2): "SUCCESS"}


def test_a_task_that_returns_a_waiting_and_cannot_be_polled_fails() -> None:
    flow = flow_of()
    flow.task(nothing, "ready")
    drive = Drive(flow, script=scripted({"ready": NOT_YET}))
    assert drive.run().status == "FAILED"
    assert "does not say how it is polled" in (drive.file.rows["ready", -1].reason or "")


LONG = Ends(after_s=0.0, waiting=Waiting(None, 300.0, "a file"))


def test_a_run_parks_when_only_long_waits_are_left() -> None:
    flow = flow_of()
    flow.sensor(nothing, "ready", timeout=1000) >> flow.task(nothing, "after")
    flow.task(nothing, "other")
    script = answers(LONG, DONE)

    def ends(work: Work) -> Ends:
        if work.task_id == "ready":
            return script(work) if work.handle is not None else LONG
        return Ends(after_s=5.0)

    drive = Drive(flow, script=ends, config={"parks": True})
    result = drive.run()
    assert (result.status, result.signal) == ("INTERRUPTED", None)
    assert (result.reason or "").startswith("parked: it waits until ")
    assert drive.states() == {"ready": "WAITING", "after": "PENDING", "other": "SUCCESS"}
    assert 5.0 <= drive.clock.seconds < 6.0, "it ends with the last task that ran"
    drive.clock.seconds = 305.0
    assert drive.resume().status == "INTERRUPTED", "the poll says that it waits for long again"
    drive.clock.seconds = 610.0
    drive.check_end(drive.resume())
    assert drive.states() == {"ready": "SUCCESS", "after": "SUCCESS", "other": "SUCCESS"}
    assert drive.starts.count((0.0, "ready")) == 1


def test_a_run_with_short_waits_or_retries_does_not_park() -> None:
    flow = flow_of()
    flow.sensor(nothing, "ready")
    drive = Drive(flow, script=answers(NOT_YET, DONE), config={"parks": True})
    drive.check_end(drive.run())
    assert drive.states() == {"ready": "SUCCESS"}
    flow = flow_of()
    flow.sensor(nothing, "ready", timeout=1000)
    flow.task(nothing, "again", retries=1, retry_delay=100)
    failing = [Ends(verdict="FAILED", after_s=0.0), Ends(after_s=0.0)]

    def ends(work: Work) -> Ends:
        return LONG if work.task_id == "ready" else failing[work.attempt - 1]

    drive = Drive(flow, script=ends, config={"parks": True})
    assert drive.run().status == "INTERRUPTED"
    assert drive.states() == {"ready": "WAITING", "again": "SUCCESS"}
    assert drive.clock.seconds >= 100.0


# -- repetition ------------------------------------------------------------------------------------------------------


def counting(work: Work) -> Ends:
    """Return the number of the iteration."""
    return Ends(after_s=1.0, value=work.iteration)


def test_a_task_is_repeated_until_a_condition_holds() -> None:
    flow = flow_of()
    flow.task(nothing, "count", repeat=Repeat(until=lambda value: value >= 3, every=10, max=5)) >> flow.task(
        nothing, "b"
    )
    drive = Drive(flow, script=counting)
    drive.check_end(drive.run())
    assert drive.starts == [(0.0, "count"), (11.0, "count"), (22.0, "count"), (23.0, "b")]
    assert list(drive.file.attempts.values()) == ["REPEATED", "REPEATED", "SUCCESS", "SUCCESS"]
    events = [(event.previous, event.status) for event in drive.file.events if event.task_id == "count"]
    assert events[:3] == [("PENDING", "RUNNING"), ("RUNNING", "WAITING"), ("WAITING", "RUNNING")]


@pytest.mark.parametrize(
    ("repeat", "reason"),
    [
        (Repeat(until=lambda value: False, max=3), "not done after 3 iterations"),
        (Repeat(until=lambda value: False, every=10, timeout=25), "not done after 25 s, in 3 iterations"),
        (Repeat(until=lambda value: value["x"], max=3), "until of Repeat raised TypeError"),
    ],
)
def test_a_repetition_that_is_not_done_fails_without_a_retry(repeat: Repeat, reason: str) -> None:
    flow = flow_of()
    flow.task(nothing, "count", repeat=repeat, retries=2)
    drive = Drive(flow, script=counting)
    assert drive.run().status == "FAILED"
    assert (drive.file.rows["count", -1].reason or "").startswith(reason)
    assert list(drive.file.attempts.values()).count("FAILED") == 1


def test_retries_count_within_an_iteration() -> None:
    flow = flow_of()
    flow.task(nothing, "count", repeat=Repeat(until=lambda value: value >= 3, max=5), retries=1)

    def ends(work: Work) -> Ends:
        return Ends(verdict="FAILED") if work.attempt % 2 else Ends(value=work.iteration)

    drive = Drive(flow, script=ends)
    drive.check_end(drive.run())
    assert list(drive.file.attempts.values()) == ["FAILED", "REPEATED"] * 2 + ["FAILED", "SUCCESS"]


@pytest.mark.parametrize("after", [False, True])
@pytest.mark.parametrize("crash_at", range(1, 8))
def test_iterations_are_counted_on_after_a_crash(crash_at: int, after: bool) -> None:
    flow = flow_of()
    flow.task(nothing, "count", repeat=Repeat(until=lambda value: value >= 3, every=10, max=5))
    drive = Drive(flow, script=counting)
    try:
        result = drive.run(crash_at=crash_at, after=after)
    except Crashed:
        result = drive.resume()
    drive.check_end(result)
    verdicts = [verdict for verdict in drive.file.attempts.values() if verdict != "LOST"]
    assert verdicts == ["REPEATED", "REPEATED", "SUCCESS"]


def test_a_cancel_between_iterations_starts_no_other() -> None:
    flow = flow_of()
    flow.task(nothing, "count", repeat=Repeat(until=lambda value: False, every=10, max=5))
    drive = Drive(flow, script=counting, actions=[(5.0, lambda drive: drive.cancel())])
    drive.check_end(drive.run())
    assert drive.states() == {"count": "CANCELLED"}
    assert list(drive.file.attempts.values()) == ["REPEATED"]
    assert drive.clock.seconds < 6.0
