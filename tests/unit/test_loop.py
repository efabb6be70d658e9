"""The loop with a fake clock, executor and store: each behaviour without waiting, processes or files."""

from __future__ import annotations

import itertools
import signal
from typing import Any

import pytest
from driving import Drive, scripted
from fakes import Crashed, Ends

from liteflow import Dag, RetryPolicy, task

FAILS = Ends(verdict="FAILED")


def nothing(*_: object, **__: object) -> None:
    """The body of a task; it never runs."""


def hook() -> None:
    """The body of a hook; it never runs."""


def flow_of(**options: Any) -> Dag:
    return Dag("flow", "never-made.db", **options)


def chain(*names: str, **options: Any) -> Dag:
    flow = flow_of(**options)
    for above, below in itertools.pairwise([flow.task(nothing, name) for name in names]):
        above >> below
    return flow


def test_tasks_run_in_order_and_side_by_side() -> None:
    flow = flow_of()
    first = flow.task(nothing, "first")
    for name in "abc":
        first >> flow.task(nothing, name)
    drive = Drive(flow, workers=2)
    drive.check_end(drive.run())
    assert drive.starts == [(0.0, "first"), (1.0, "a"), (1.0, "b"), (2.0, "c")]
    shown = [(change.task_id, change.status) for change in drive.changes]
    assert shown[:3] == [("first", "RUNNING"), ("first", "SUCCESS"), ("a", "RUNNING")]


# -- retries and timeouts --------------------------------------------------------------------------------------------


def test_a_retry_waits_for_its_back_off() -> None:
    flow = flow_of()
    flow.task(nothing, "a", retries=2, retry_delay=10, retry_backoff=3)
    drive = Drive(flow, script=scripted({"a": [FAILS, Ends(verdict="TIMED_OUT"), Ends()]}))
    drive.check_end(drive.run())
    assert drive.starts == [(0.0, "a"), (11.0, "a"), (42.0, "a")]
    assert list(drive.file.attempts.values()) == ["FAILED", "TIMED_OUT", "SUCCESS"]


def test_a_retry_that_is_due_waits_for_a_worker_without_spinning() -> None:
    flow = flow_of()
    flow.task(nothing, "a", retries=1, retry_delay=1)
    flow.task(nothing, "long")
    drive = Drive(flow, workers=1, script=scripted({"a": [FAILS, Ends()], "long": Ends(after_s=100.0)}))
    drive.check_end(drive.run())
    assert drive.starts == [(0.0, "a"), (1.0, "long"), (101.0, "a")]
    assert drive.executor.waits < 500, "a turn each quarter of a second, for requests"


def test_a_lost_worker_costs_no_retry() -> None:
    flow = flow_of()
    flow.task(nothing, "a")
    drive = Drive(flow, script=scripted({"a": [Ends(verdict="LOST")] * 3 + [Ends()]}))
    drive.check_end(drive.run())
    assert drive.states() == {"a": "SUCCESS"}
    drive = Drive(flow, script=scripted({"a": Ends(verdict="LOST")}))
    drive.check_end(drive.run())
    assert drive.states() == {"a": "FAILED"}
    assert len(drive.file.attempts) == 4


def test_a_run_that_exceeds_its_timeout_is_failed() -> None:
    drive = Drive(chain("a", "b"), script=scripted({"a": Ends(after_s=100.0)}), config={"timeout_s": 5.0})
    result = drive.run()
    drive.check_end(result)
    assert (result.status, result.timed_out) == ("FAILED", True)
    assert result.reason == "timed out after 5.00 s"
    assert drive.states() == {"a": "CANCELLED", "b": "CANCELLED"}
    assert 5.0 <= drive.clock.seconds < 5.5


def test_a_run_is_tried_again_after_a_back_off() -> None:
    drive = Drive(
        chain("a", "b"),
        script=scripted({"b": [FAILS, FAILS, Ends()]}),
        config={"retry": RetryPolicy(2, delay_s=60.0)},
    )
    drive.check_end(drive.run())
    assert drive.starts == [(0.0, "a"), (1.0, "b"), (62.0, "b"), (123.0, "b")], "a keeps its success"
    assert [reason for word, reason in drive.told if word == "waiting"] == [
        "it failed; try 2 of 3 starts in 60 s",
        "it failed; try 3 of 3 starts in 60 s",
    ]


def test_a_run_that_times_out_in_its_back_off_is_not_tried_again() -> None:
    config = {"retry": RetryPolicy(5, delay_s=60.0), "timeout_s": 30.0}
    drive = Drive(chain("a"), script=scripted({"a": FAILS}), config=config)
    result = drive.run()
    assert (result.status, result.timed_out) == ("FAILED", True)
    assert drive.submitted == [("a", -1, 1)]


# -- stopping --------------------------------------------------------------------------------------------------------


def test_a_cancel_ends_what_runs_and_what_waits() -> None:
    drive = Drive(chain("a", "b"), script=scripted({"a": Ends(after_s=9.0)}), actions=[(3.0, Drive.cancel)])
    result = drive.run()
    drive.check_end(result)
    assert (result.status, result.reason) == ("CANCELLED", "cancelled by a test")
    assert drive.states() == {"a": "CANCELLED", "b": "CANCELLED"}
    assert drive.told == [("stopping", "cancelled by a test")]
    assert drive.clock.seconds < 4.0


def test_an_attempt_that_succeeds_in_spite_of_a_cancel_has_succeeded() -> None:
    slow = Ends(after_s=9.0, ignores_cancel=True)
    drive = Drive(chain("a", "b"), script=scripted({"a": slow}), actions=[(3.0, Drive.cancel)])
    drive.check_end(drive.run())
    assert drive.states() == {"a": "SUCCESS", "b": "CANCELLED"}


def test_a_signal_leaves_the_run_to_a_resume() -> None:
    flow = chain("a", "b", "c")
    drive = Drive(flow, script=scripted({"b": [Ends(after_s=9.0), Ends()]}), actions=[(3.0, Drive.interrupt)])
    result = drive.run()
    assert (result.status, result.signal, result.reason) == ("INTERRUPTED", signal.SIGINT, "interrupted by SIGINT")
    assert drive.states() == {"a": "SUCCESS", "b": "CANCELLED", "c": "PENDING"}
    drive.check_end(drive.resume())
    assert drive.states() == {"a": "SUCCESS", "b": "SUCCESS", "c": "SUCCESS"}
    assert [name for _, name in drive.starts] == ["a", "b", "b", "c"]


def test_a_second_signal_ends_teardowns_too() -> None:
    flow = flow_of()
    up, work, down = flow.task(nothing, "up", setup=True), flow.task(nothing, "work"), flow.task(nothing, "down")
    up >> work >> down.as_teardown([up])
    drive = Drive(
        flow,
        script=scripted({"work": Ends(after_s=9.0), "down": Ends(after_s=9.0)}),
        actions=[(3.0, Drive.cancel), (6.0, Drive.interrupt)],
    )
    result = drive.run()
    assert result.status == "CANCELLED"
    assert drive.states() == {"up": "SUCCESS", "work": "CANCELLED", "down": "CANCELLED"}
    assert drive.clock.seconds < 7.0


def test_fail_fast_ends_the_run_at_the_first_failure() -> None:
    flow = flow_of()
    for name in "abc":
        flow.task(nothing, name)
    script = scripted({"a": FAILS, "b": Ends(after_s=50.0)})
    drive = Drive(flow, script=script, config={"fail_fast": True})
    result = drive.run()
    drive.check_end(result)
    assert result.status == "FAILED"
    assert drive.states() == {"a": "FAILED", "b": "CANCELLED", "c": "CANCELLED"}


def test_a_run_that_was_cancelled_is_not_tried_again_though_all_its_tasks_had_ended() -> None:
    drive = Drive(
        chain("a"),
        script=scripted({"a": Ends(verdict="FAILED", after_s=5.0, ignores_cancel=True)}),
        config={"retry": RetryPolicy(3)},
        actions=[(3.0, Drive.cancel)],
    )
    result = drive.run()
    assert drive.submitted == [("a", -1, 1)]
    assert result.status == "FAILED"


def test_a_run_that_is_interrupted_in_its_last_hook_is_resumed_with_it() -> None:
    flow = chain("a", on_success=hook)
    drive = Drive(flow, script=scripted({"on_success": [Ends(after_s=9.0), Ends()]}), actions=[(3.0, Drive.interrupt)])
    assert drive.run().status == "INTERRUPTED"
    drive.check_end(drive.resume())
    assert drive.states() == {"a": "SUCCESS", "on_success": "SUCCESS"}
    assert [name for _, name in drive.starts] == ["a", "on_success", "on_success"]


# -- limits ----------------------------------------------------------------------------------------------------------


def test_tasks_wait_for_slots_of_pools() -> None:
    flow = flow_of(pools={"gpu": 2})
    for name, slots in (("wide", 2), ("a", 1), ("b", 1)):
        flow.task(nothing, name, pool="gpu", pool_slots=slots)
    flow.task(nothing, "free")
    drive = Drive(flow, workers=4)
    drive.check_end(drive.run())
    assert sorted(drive.starts) == [(0.0, "free"), (0.0, "wide"), (1.0, "a"), (1.0, "b")]


def test_slots_that_another_run_frees_are_seen() -> None:
    def free(drive: Drive) -> None:
        drive.file.taken_elsewhere.clear()

    flow = flow_of(pools={"gpu": 1})
    flow.task(nothing, "a", pool="gpu")
    drive = Drive(flow, actions=[(7.0, free)])
    drive.file.taken_elsewhere["gpu"] = 1
    drive.check_end(drive.run())
    assert 7.0 <= drive.starts[0][0] <= 7.5


def test_a_retry_that_is_refused_slots_is_still_up_for_retry() -> None:
    def take(drive: Drive) -> None:
        drive.file.taken_elsewhere["gpu"] = 1

    flow = flow_of(pools={"gpu": 1})
    flow.task(nothing, "a", pool="gpu", retries=1, retry_delay=3)
    drive = Drive(flow, script=scripted({"a": FAILS}), actions=[(2.0, take), (9.0, Drive.cancel)])
    drive.check_end(drive.run())
    assert [event.previous for event in drive.file.events if event.status == "CANCELLED" and event.task_id] == [
        "UP_FOR_RETRY"
    ]


def test_a_run_that_is_cancelled_while_it_waits_in_its_group_ends_with_its_hooks() -> None:
    drive = Drive(chain("a", on_exit=hook), actions=[(3.0, Drive.cancel)], waits_for="it waits for another run")
    drive.check_end(drive.run())
    assert drive.states() == {"a": "CANCELLED", "on_exit": "SUCCESS"}


def test_a_run_that_times_out_in_its_back_off_ends_with_its_hooks() -> None:
    config = {"retry": RetryPolicy(5, delay_s=60.0), "timeout_s": 30.0}
    flow = chain("a", on_failure=hook)
    drive = Drive(flow, script=scripted({"a": FAILS}), config=config)
    result = drive.run()
    drive.check_end(result)
    assert (result.timed_out, drive.states()) == (True, {"a": "CANCELLED", "on_failure": "SUCCESS"})
    assert drive.clock.seconds < 32.0


def test_a_run_waits_for_its_place_in_its_group() -> None:
    def free(drive: Drive) -> None:
        drive.store.group_is_free = True

    drive = Drive(chain("a"), actions=[(3.0, free)], waits_for="it waits for another run", config={"timeout_s": 2.0})
    result = drive.run()
    drive.check_end(result)
    assert not result.timed_out, "its time counts from its start"
    assert 3.0 <= drive.starts[0][0] <= 3.5
    assert drive.told == [("waiting", "it waits for another run")]


def test_a_higher_priority_starts_first() -> None:
    flow = flow_of()
    for priority, name in enumerate("abc"):
        flow.task(nothing, name, priority=priority)
    drive = Drive(flow, workers=1)
    drive.check_end(drive.run())
    assert [name for _, name in drive.starts] == ["c", "b", "a"]


# -- hooks -----------------------------------------------------------------------------------------------------------


def test_hooks_follow_the_end_of_a_task_and_of_the_run() -> None:
    flow = flow_of(on_start=hook, on_failure=hook, on_exit=hook)
    flow.task(nothing, "a", retries=1, on_retry=hook, on_failure=hook, on_exit=hook)
    drive = Drive(flow, workers=1, script=scripted({"a": FAILS}))
    drive.check_end(drive.run())
    assert [name for _, name in drive.starts] == [
        *["on_start", "a", "a.on_retry", "a", "a.on_failure", "a.on_exit", "on_failure", "on_exit"]
    ]


def test_the_hook_on_start_of_the_run_keeps_all_tasks_waiting() -> None:
    drive = Drive(chain("a", on_start=hook), script=scripted({"on_start": Ends(after_s=5.0)}))
    drive.check_end(drive.run())
    assert drive.starts == [(0.0, "on_start"), (5.0, "a")]


def test_hooks_run_in_a_cancelled_run() -> None:
    flow = flow_of(on_cancel=hook)
    flow.task(nothing, "a", on_cancel=hook)
    drive = Drive(flow, script=scripted({"a": Ends(after_s=9.0)}), actions=[(3.0, Drive.cancel)])
    drive.check_end(drive.run())
    assert drive.states() == {"a": "CANCELLED", "a.on_cancel": "SUCCESS", "on_cancel": "SUCCESS"}


def test_the_hook_on_start_of_a_task_runs_once_before_its_attempts() -> None:
    flow = flow_of()
    flow.task(nothing, "a", retries=1, on_start=hook)
    drive = Drive(flow, script=scripted({"a": [FAILS, Ends()]}))
    drive.check_end(drive.run())
    assert [name for _, name in drive.starts] == ["a.on_start", "a", "a"]


def test_a_hook_that_never_ran_and_is_triggered_again_by_a_resume_has_a_whole_story() -> None:
    flow = flow_of()
    flow.task(nothing, "a", on_start=hook)
    drive = Drive(flow)
    with pytest.raises(Crashed):
        drive.run(crash_at=2, after=False)
    drive.check_end(drive.resume())
    assert drive.states() == {"a": "SUCCESS", "a.on_start": "SUCCESS"}


# -- mapped tasks, branches, setups ----------------------------------------------------------------------------------


def listed(flow: Dag, **options: Any) -> None:
    def items() -> list[int]:
        return []

    @task(task_id="each", **options)
    def each(item: int) -> None:
        pass

    with flow:
        mapped = each.expand(item=flow.task(items, "items"))
        flow.task(nothing, "after") << mapped


def test_a_mapped_task_has_an_instance_for_each_item() -> None:
    flow = flow_of()
    listed(flow, max_parallel=2)
    drive = Drive(flow, workers=9, script=scripted({"items": Ends(value=[1, 2, 3])}))
    drive.check_end(drive.run())
    assert drive.starts == [(0.0, "items"), (1.0, "each"), (1.0, "each"), (2.0, "each"), (3.0, "after")]
    assert set(drive.states()) == {"items", "each", "each[0]", "each[1]", "each[2]", "after"}


def test_a_resumed_mapped_task_runs_what_is_left_of_its_list() -> None:
    flow = flow_of()
    listed(flow)
    script = scripted({"items": Ends(value=["x", "y", "z"]), "each": [FAILS, Ends()]})
    drive = Drive(flow, script=script)
    assert drive.run().status == "FAILED"
    drive.check_end(drive.resume())
    assert set(drive.states().values()) == {"SUCCESS"}
    assert [attempt for name, _, attempt in drive.submitted if name == "each"] == [1, 1, 1, 2, 2, 2]


def test_the_first_failed_instance_ends_the_others() -> None:
    flow = flow_of()
    listed(flow, fail_fast=True)
    script = scripted({"items": Ends(value=[1, 2, 3]), "each": FAILS})
    drive = Drive(flow, workers=1, script=script)
    drive.check_end(drive.run())
    states = drive.states()
    assert [states[f"each[{index}]"] for index in range(3)] == ["FAILED", "CANCELLED", "CANCELLED"]
    assert (states["each"], states["after"]) == ("FAILED", "UPSTREAM_FAILED")


def test_a_list_that_fails_the_run_cancels_another_that_is_read_in_the_same_turn() -> None:
    flow = flow_of()
    source = flow.task(nothing, "source")

    @task(task_id="first")
    def first(item: int) -> None:
        pass

    @task(task_id="second")
    def second(item: int) -> None:
        pass

    with flow:
        first.expand(item=source)
        second.expand(item=source)
    drive = Drive(flow, script=scripted({"source": Ends(value=7)}), config={"fail_fast": True})
    drive.check_end(drive.run())
    assert drive.states() == {"source": "SUCCESS", "first": "FAILED", "second": "CANCELLED"}


def test_a_branch_skips_what_it_did_not_choose() -> None:
    flow = flow_of()
    choose = flow.task(nothing, "choose", branch=True)
    for name in "ab":
        choose >> flow.task(nothing, name)
    drive = Drive(flow, script=scripted({"choose": Ends(value="b")}))
    drive.check_end(drive.run())
    assert drive.states() == {"choose": "SUCCESS", "a": "SKIPPED", "b": "SUCCESS"}


def test_a_branch_that_chose_a_task_that_does_not_exist_has_failed() -> None:
    flow = flow_of()
    flow.task(nothing, "choose", branch=True) >> flow.task(nothing, "a")
    drive = Drive(flow, script=scripted({"choose": Ends(value="elsewhere")}))
    drive.check_end(drive.run())
    assert drive.states() == {"choose": "FAILED", "a": "UPSTREAM_FAILED"}
    assert "which is not a direct downstream task" in str(drive.file.rows["choose", -1].reason)


def test_a_resume_repeats_a_setup_that_was_torn_down() -> None:
    flow = flow_of()
    up, work, down = flow.task(nothing, "up", setup=True), flow.task(nothing, "work"), flow.task(nothing, "down")
    up >> work >> down.as_teardown([up])
    drive = Drive(flow, script=scripted({"work": [FAILS, Ends()]}))
    assert drive.run().status == "FAILED"
    drive.check_end(drive.resume())
    assert [name for _, name in drive.starts] == ["up", "work", "down", "up", "work", "down"]


# -- crashes ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("after", [False, True])
def test_a_run_that_dies_at_any_commit_can_be_resumed(after: bool) -> None:
    """Every attempt that was submitted is known to the resume, and nothing succeeds twice (see `FakeBatch`)."""
    for commit in itertools.count(1):
        flow = flow_of(pools={"p": 1}, on_success=hook)
        listed(flow, on_success=hook, pool="p")
        drive = Drive(flow, script=scripted({"items": Ends(value=[1, 2])}))
        try:
            drive.run(crash_at=commit, after=after)
        except Crashed:
            drive.check_end(drive.resume())
            assert set(drive.states().values()) == {"SUCCESS"}
        else:
            assert commit > 6
            return


@pytest.mark.parametrize("queues", [False, True])
def test_queued_attempts_are_stored_as_such_and_run_in_order(queues: bool) -> None:
    flow = flow_of()
    for number in range(200):
        flow.task(nothing, f"t{number}")
    drive = Drive(flow, workers=2, script=scripted({f"t{n}": Ends(after_s=0.0001) for n in range(200)}), queues=queues)
    drive.check_end(drive.run())
    assert [name for _, name in drive.starts] == [f"t{number}" for number in range(200)]
    assert ("QUEUED" in {event.status for event in drive.file.events}) == queues
