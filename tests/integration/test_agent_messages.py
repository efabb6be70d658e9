"""What an agent does about messages of its owner that are not valid: it ends, with all that it has started."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path

import message_kit
import pytest
from agent_kit import OwnedAgent
from process_kit import is_alive

from liteflow.remote.keeper import CLEAN
from liteflow.remote.link import Message

KINDS = sorted({message[0] for message in message_kit.OF_OWNER})
SEED = 7


@pytest.fixture
def agents() -> Iterator[Callable[[], OwnedAgent]]:
    """Start agents, and end them."""
    started: list[OwnedAgent] = []

    def start() -> OwnedAgent:
        started.append(OwnedAgent())
        return started[-1]

    yield start
    for agent in started:
        agent.close()


def test_an_invalid_message_of_each_kind_ends_an_agent_and_its_attempts(
    agents: Callable[[], OwnedAgent], tmp_path: Path, quick: Callable[[int, int], int]
) -> None:
    for kind in random.Random(SEED).sample(KINDS, quick(4, len(KINDS))):
        agent, path = agents(), tmp_path / kind
        agent.start(f"setsid sleep 1000 & echo $! >{path}; wait")
        pid = agent.awaited(path)
        valid = next(message for message in message_kit.OF_OWNER if message[0] == kind)
        agent.link.send((*valid, "more"))
        agent.until(lambda: agent.link.eof)  # noqa: B023 - it is called at once
        count = len(valid) - 1
        what = f"({kind} with {count + 1} fields instead of {count})"
        assert what in agent.link.problem
        assert agent.ended() == (CLEAN, f"w1: {agent.link.problem}")
        assert not is_alive(pid)


def test_no_strange_message_leaves_anything_of_an_agent(
    agents: Callable[[], OwnedAgent], tmp_path: Path, quick: Callable[[int, int], int]
) -> None:
    every = [damaged for message in message_kit.OF_OWNER if message[0] != "open" for damaged in _damaged(message)]
    agent, pid = None, 0
    for number, message in enumerate(random.Random(SEED).sample(every, quick(10, 3000))):
        if agent is None:
            agent, path = agents(), tmp_path / f"{number}"
            agent.start(f"setsid sleep 1000 & echo $! >{path}; wait")
            pid = agent.awaited(path)
        agent.link.send(message)
        agent.link.send(("inspect",))
        agent.messages.clear()
        agent.until(partial(_has_answered, agent))
        if agent.link.eof:
            code, _ = agent.ended()
            assert code == CLEAN, message
            assert not is_alive(pid), message
            agent = None


def _has_answered(agent: OwnedAgent) -> bool:
    """Return whether an agent has answered a question, or has ended."""
    return agent.link.eof or any(message[0] == "inspected" for message in agent.messages)


def _damaged(message: Message) -> Iterator[Message]:
    yield message
    yield from message_kit.damaged(message)
