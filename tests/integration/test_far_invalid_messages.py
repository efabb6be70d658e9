"""Agents that have the key of the run and send what is not valid: the run of their owner goes on."""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

import message_kit
import pytest
from far_kit import LIMIT_S, PLAYED_SLOTS, PlayedAgent, PlayedCluster, PlayedRun, cluster_of

from liteflow import Dag, DagRun
from liteflow.errors import LiteflowError
from liteflow.record import replace
from liteflow.remote.link import Message
from liteflow.remote.messages import OF_AGENT, problem_of

SEED = 7


@pytest.fixture
def played(tmp_path: Path) -> Iterator[PlayedRun]:
    made = PlayedRun(tmp_path)
    yield made
    made.close()


def chosen(messages: Sequence[Message], count: int) -> list[Message]:
    """Return some of all messages that are damaged versions of these."""
    every = [damaged for message in messages for damaged in message_kit.damaged(message)]
    return random.Random(SEED).sample(every, min(count, len(every)))


@pytest.mark.parametrize(
    ("message", "what"),
    [
        (("outcome", 1, False), "outcome, field 1"),
        (("log", "1", 0, b""), "log, field 1"),
        (("boast", 3), "unknown kind 'boast'"),
        (("ready", 2), "ready at this moment"),
        (next(each for each in message_kit.OF_AGENT if each[0] == "hello"), "hello at this moment"),
    ],
)
def test_the_attempts_of_an_agent_that_sends_an_invalid_message_run_elsewhere(
    played: PlayedRun, message: Message, what: str
) -> None:
    first, second = played.connected("first"), played.connected("second")
    node = played.far.submit("t")
    work = played.work_of(first)
    played.send(first, [message])
    answers: list[Message] = []
    played.far.until(lambda: answers.extend(first.link.take()) or first.link.eof)  # type: ignore[func-returns-value]
    assert f"({what}): install the same version of Lightflow on both machines" in first.link.problem
    played.cluster.say({"gone": "first"})
    (outcome,) = played.far.collect()
    assert (outcome.node, outcome.verdict, outcome.host) == (node, "LOST", "first")
    assert outcome.error is not None
    assert outcome.error.message == f"the agent on first is lost: {first.link.problem}"
    played.far.node -= 1
    assert played.far.submit("t", attempt=2) == node
    second.succeed(played.work_of(second))
    (outcome,) = played.far.collect()
    assert (outcome.attempt, outcome.verdict) == (2, "SUCCESS")
    first.succeed(work)


def test_an_agent_says_hello_before_anything_else(played: PlayedRun) -> None:
    agent = played.nameless()
    played.send(agent, [("ready", 2)])
    played.far.until(lambda: bool(agent.link.take()) or agent.link.eof)
    assert "(ready at this moment)" in agent.link.problem
    assert played.far.executor.room()["far"] == 0


def test_a_value_that_was_not_sent_fails_its_task(played: PlayedRun) -> None:
    agent = played.connected("only")
    played.far.submit("t")
    work = played.work_of(agent)
    (lost,) = (each for each in message_kit.OF_AGENT if each[0] == "outcome" and each[1][2] == "LOST")
    played.send(agent, [("outcome", (work[0][0], 1, "SUCCESS", *lost[1][3:-1], None), False)])
    (outcome,) = played.far.collect()
    assert outcome.verdict == "FAILED"
    assert outcome.error is not None
    assert "has not arrived" in outcome.error.message


def test_no_damaged_message_of_an_agent_ends_its_owner(played: PlayedRun, quick: Callable[[int, int], int]) -> None:
    for number, message in enumerate(chosen(message_kit.OF_AGENT, quick(100, 3_000))):
        agent = played.connected(f"a{number}")
        node = played.far.submit("t")
        played.work_of(agent)
        played.send(agent, [_aimed(message, node), ("beat", float(number))])
        played.far.until(lambda: _has_heard(agent))  # noqa: B023 - it is called at once
        agent.link.close()
        played.cluster.say({"gone": f"a{number}"})
        played.far.until(lambda: played.far.executor.room()["far"] == 0)
        played.far.executor.cancel(node, 0.0)  # the agent may have given it back
        (outcome,) = played.far.collect()
        assert outcome.node == node, message


def _aimed(message: Any, node: int) -> Any:
    """Return a message that is about an attempt, if it is about one and can be."""
    if message[:1] == ("outcome",) and isinstance(message[-2], tuple) and message[-2][:1] == (1,):
        return (*message[:-2], (node, *message[-2][1:]), message[-1])
    return (message[0], node, *message[2:]) if message[:2] == ("log", 1) else message


def _has_heard(agent: PlayedAgent) -> bool:
    """Return whether the owner has answered a beat, or has ended the connection."""
    agent.link.flush()
    return any(message[0] == "beat" for message in agent.link.take()) or agent.link.eof


def test_no_damaged_outcome_ends_a_run(tmp_path: Path, db: str, quick: Callable[[int, int], int]) -> None:
    outcomes = chosen([each for each in message_kit.OF_AGENT if each[0] == "outcome"], quick(100, 3_000))
    cluster = PlayedCluster(tmp_path)
    played = replace(cluster_of({"w": PLAYED_SLOTS}), argv=cluster.argv, slots=PLAYED_SLOTS, lease_s=1000.0)
    dag = Dag("flow", db, clusters={"lab": played}, max_lost=10_000)
    for number in range(len(outcomes)):
        dag.shell("true", f"t{number}", mode="lab")
    runs: list[DagRun] = []
    thread = threading.Thread(target=lambda: runs.append(dag.run(log_dir=str(tmp_path / "logs"))))
    thread.start()
    give_up = time.monotonic() + LIMIT_S * 10
    while not cluster.is_placed:
        assert time.monotonic() < give_up
        time.sleep(0.01)
    _play(cluster, outcomes, lambda: thread.is_alive() and time.monotonic() < give_up)
    thread.join(LIMIT_S)
    (run,) = runs
    assert set(run.statuses().values()) <= {"SUCCESS", "FAILED", "SKIPPED", "CANCELLED"}, run.failures()


def _play(cluster: PlayedCluster, outcomes: list[Message], goes_on: Callable[[], bool]) -> None:
    """Be the agents: end each first attempt by one of the outcomes, and each later one with success."""
    count = 0
    agent = PlayedAgent(cluster.ticket(), "a0", PLAYED_SLOTS)
    while goes_on():
        for work in agent.took():
            node, attempt = work[0][0], work[0][3]
            message = _aimed(outcomes.pop(), node) if attempt == 1 and outcomes else ()
            if message:
                agent.link.send(message)
            if problem_of(message, OF_AGENT) or message[1][:2] != (node, 1):
                agent.succeed(work)
        if agent.link.eof:
            agent.link.close()
            cluster.say({"gone": f"a{count}"})
            count += 1
            with suppress(OSError, LiteflowError):  # the run has ended
                agent = PlayedAgent(cluster.ticket(), f"a{count}", PLAYED_SLOTS)
        time.sleep(0.001)
    agent.link.close()
