"""Messages of agents that no longer, or not yet, have the attempt: the tests play the agents."""

from __future__ import annotations

import gc
import operator
import os
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from far_kit import PlayedRun

from liteflow.processes import forks
from liteflow.values.payload import encode


@pytest.fixture
def played(tmp_path: Path) -> Iterator[PlayedRun]:
    made = PlayedRun(tmp_path)
    yield made
    made.close()


def test_a_lost_agent_is_not_heard_when_its_attempt_has_started_elsewhere(played: PlayedRun) -> None:
    first, second = played.connected("first"), played.connected("second")
    node = played.far.submit("t")
    work = played.work_of(first)
    played.cluster.say({"gone": "first"})
    (outcome,) = played.far.collect()
    assert (outcome.node, outcome.attempt, outcome.verdict, outcome.host) == (node, 1, "LOST", "first")
    played.far.node -= 1
    assert played.far.submit("t", attempt=2) == node
    again = played.work_of(second)
    first.succeed(work)
    second.succeed(work)  # as if it had the older attempt
    second.succeed(again)
    (outcome,) = played.far.collect()
    assert (outcome.node, outcome.attempt, outcome.verdict, outcome.host) == (node, 2, "SUCCESS", "second")


@pytest.mark.parametrize("how", ["lost", "leaving"])
def test_an_attempt_whose_values_are_on_their_way_goes_elsewhere(played: PlayedRun, tmp_path: Path, how: str) -> None:
    first = played.connected("first")
    inputs = {"x": encode("ä" * 12_000_000, str(tmp_path / "values"))}
    node = played.far.submit("large", inputs=inputs)  # more than links take while nobody reads
    second = played.connected("second")
    if how == "lost":
        played.cluster.say({"gone": "first"})
    else:
        first.link.send(("leaving",))
        played.far.until(lambda: ("leave",) in first.link.take())
    work = played.work_of(second)
    second.succeed(work)
    (outcome,) = played.far.collect()
    assert (outcome.node, outcome.attempt, outcome.verdict, outcome.host) == (node, 1, "SUCCESS", "second")


def test_only_the_agent_that_has_an_attempt_ends_it(played: PlayedRun) -> None:
    first, second = played.connected("first"), played.connected("second")
    node = played.far.submit("t")
    work = played.work_of(first)
    second.succeed(work)
    other = played.far.submit("t")
    second.succeed(played.work_of(second))
    (outcome,) = played.far.collect()
    assert outcome.node == other, "the messages before it were read, too"
    first.succeed(work)
    (outcome,) = played.far.collect()
    assert (outcome.node, outcome.host) == (node, "first")


def test_an_outcome_that_is_sent_twice_counts_once(played: PlayedRun) -> None:
    agent = played.connected("only")
    played.far.submit("t")
    work = played.work_of(agent)
    agent.succeed(work)
    agent.succeed(work)
    (outcome,) = played.far.collect()
    assert outcome.verdict == "SUCCESS"
    played.far.submit("t")
    agent.succeed(played.work_of(agent))
    (outcome,) = played.far.collect()
    assert outcome.node == played.far.node


def resources() -> tuple[int, int, int]:
    """Return how many descriptors, threads and sockets to close in forks this process has."""
    gc.collect()  # of the tests before
    return len(os.listdir("/proc/self/fd")), len(os.listdir("/proc/self/task")), len(forks._owners)


def test_agents_that_come_and_go_leave_nothing(played: PlayedRun, quick: Callable[[int, int], int]) -> None:
    played.connected("before").link.close()
    played.far.until(lambda: played.far.executor.room()["far"] == 0)
    before = resources()
    for number in range(quick(30, 1000)):
        agent = played.connected(f"a{number}")
        played.far.submit("t")
        agent.succeed(played.work_of(agent))
        assert played.far.collect()[0].verdict == "SUCCESS"
        agent.link.close()
        played.far.until(lambda: played.far.executor.room()["far"] == 0)
    after = resources()
    assert all(map(operator.le, after, before)), (before, after)
