"""A setup that is mapped over a list: each instance counts for what takes it down."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from liteflow import Dag, SkipTask, current_context
from liteflow.state.history import History

Step = Callable[..., Any]


def nothing() -> None:
    pass


def boom(*_: Any) -> None:
    raise ValueError("no")


class Tool:
    """Opens and closes, and notes both."""

    def __init__(self, *bad: Any, skipped: tuple[Any, ...] = ()) -> None:
        self.bad, self.skipped = set(bad), set(skipped)
        self.trail: list[str] = []

    def open(self, item: Any) -> Any:
        if item in self.skipped:
            raise SkipTask("not this one")
        if item in self.bad:
            raise ValueError("no")
        self.trail.append(f"open {item}")
        return item

    def close(self, made: list[Any]) -> None:
        self.trail.append(f"close {made}")

    def dag(self, db: str, items: Any, work: Step = nothing, **options: Any) -> Dag:
        with Dag("tool", db) as dag:
            made = dag.partial(self.open, task_id="made", setup=True, **options).expand(item=items)
            middle = dag.task(work, task_id="work")
            gone = dag.task(self.close, task_id="gone", made=made, teardown=True)
            made >> middle >> gone
        return dag


def test_one_instance_that_is_set_up_is_torn_down(db: str) -> None:
    tool = Tool(2)
    run = tool.dag(db, [1, 2]).run(mode="inline")
    assert run.statuses() == {"made": "FAILED", "work": "UPSTREAM_FAILED", "gone": "SUCCESS"}
    assert tool.trail == ["open 1", "close [1]"]
    assert run.status == "FAILED"


@pytest.mark.parametrize(
    ("bad", "skipped", "status"),
    [
        ((1, 2), (), "UPSTREAM_FAILED"),
        ((1,), (2,), "UPSTREAM_FAILED"),
        ((), (1, 2), "SKIPPED"),
        ((), (1,), "SUCCESS"),
    ],
)
def test_nothing_is_set_up(db: str, bad: tuple[int, ...], skipped: tuple[int, ...], status: str) -> None:
    tool = Tool(*bad, skipped=skipped)
    run = tool.dag(db, [1, 2]).run(mode="inline")
    assert run.statuses()["gone"] == status


def test_a_list_that_is_empty_sets_nothing_up(db: str) -> None:
    assert Tool().dag(db, []).run(mode="inline").statuses()["gone"] == "SKIPPED"


def test_the_reason_names_the_instances(db: str) -> None:
    run = Tool(1, 2).dag(db, [1, 2]).run(mode="inline")
    with History(db) as history:
        reason = str(history.instance(run.run_id, "gone").reason)  # type: ignore[union-attr]
    assert "'made[0]'" in reason


def test_a_retry_that_opens_it_in_the_end(db: str) -> None:
    tool = Tool()

    def opens(item: int) -> int:
        if item == 2 and current_context().attempt == 1:
            raise ValueError
        return item

    with Dag("retried", db) as dag:
        made = dag.partial(opens, task_id="made", setup=True, retries=1).expand(item=[1, 2])
        dag.task(tool.close, task_id="gone", made=made, teardown=True)
    assert dag.run(mode="inline").statuses() == {"made": "SUCCESS", "gone": "SUCCESS"}
    assert tool.trail == ["close [1, 2]"]


def test_what_fail_fast_has_cancelled_is_not_taken_down_but_the_rest_is(db: str) -> None:
    tool = Tool(2)
    run = tool.dag(db, [1, 2, 3], fail_fast=True).run(mode="inline")
    assert tool.trail == ["open 1", "close [1]"]
    with History(db) as history:
        result = {entry.map_index: entry.status for entry in history.instances(run.run_id) if entry.task_id == "made"}
    assert result == {-1: "FAILED", 0: "SUCCESS", 1: "FAILED", 2: "CANCELLED"}


def test_of_two_setups_one_is_mapped_and_partly_set_up(db: str) -> None:
    tool = Tool(2)
    with Dag("two", db) as dag:
        first = dag.task(boom, task_id="first", setup=True)
        made = dag.partial(tool.open, task_id="made", setup=True).expand(item=[1, 2])
        gone = dag.task(tool.close, task_id="gone", made=made, teardown=True)
        first >> gone
    assert dag.run(mode="inline").statuses()["gone"] == "SUCCESS"


def test_a_setup_that_depends_on_a_mapped_setup(db: str) -> None:
    tool = Tool(2)
    with Dag("nested", db) as dag:
        outer = dag.partial(tool.open, task_id="outer", setup=True).expand(item=[1, 2])
        inner = dag.task(nothing, task_id="inner", setup=True)
        inner_gone = dag.task(nothing, task_id="inner_gone", teardown=True)
        outer_gone = dag.task(tool.close, task_id="outer_gone", made=outer, teardown=True)
        outer >> inner >> inner_gone >> outer_gone
    run = dag.run(mode="inline")
    assert run.statuses() == {
        "outer": "FAILED",
        "inner": "UPSTREAM_FAILED",
        "inner_gone": "UPSTREAM_FAILED",
        "outer_gone": "SUCCESS",
    }
    assert tool.trail == ["open 1", "close [1]"]


def test_resumed_all_that_was_torn_down_is_set_up_again(db: str) -> None:
    tool = Tool(2)
    tool.dag(db, [1, 2]).run(mode="inline")
    tool.bad.clear()
    run = tool.dag(db, [1, 2]).resume(mode="inline")
    assert run.status == "SUCCESS"
    assert tool.trail == ["open 1", "close [1]", "open 1", "open 2", "close [1, 2]"]


def test_resumed_twice_and_still_bad(db: str) -> None:
    tool = Tool(2)
    tool.dag(db, [1, 2]).run(mode="inline")
    tool.dag(db, [1, 2]).resume(mode="inline")
    tool.bad.clear()
    tool.dag(db, [1, 2]).resume(mode="inline")
    assert tool.trail == ["open 1", "close [1]", "open 1", "close [1]", "open 1", "open 2", "close [1, 2]"]


def test_resumed_where_the_work_behind_it_has_failed(db: str) -> None:
    tool = Tool()
    tool.dag(db, [1, 2], boom).run(mode="inline")
    run = tool.dag(db, [1, 2]).resume(mode="inline")
    assert run.status == "SUCCESS"
    assert tool.trail == ["open 1", "open 2", "close [1, 2]"] * 2


def test_an_instance_that_is_set_up_when_the_owner_dies_is_preserved(db: str) -> None:
    """It was set up again, and the teardown has not begun since: nothing is set up a third time."""
    tool = Tool(2)
    tool.dag(db, [1, 2]).run(mode="inline")

    class Stop(BaseException):
        pass

    class Stopper:
        def changed(self, changes: Any) -> None:
            if any((entry.task_id, entry.map_index, entry.status) == ("made", 0, "SUCCESS") for entry in changes):
                raise Stop

    with pytest.raises(Stop):
        tool.dag(db, [1, 2]).resume(mode="inline", observers=[Stopper()])  # type: ignore[list-item]
    assert tool.trail == ["open 1", "close [1]", "open 1"]
    tool.bad.clear()
    run = tool.dag(db, [1, 2]).resume(mode="inline")
    assert run.status == "SUCCESS"
    assert tool.trail == ["open 1", "close [1]", "open 1", "open 2", "close [1, 2]"]
