"""The messages of a link: which are accepted, and what is said of the others."""

from __future__ import annotations

from typing import Any

import message_kit
import pytest

from liteflow.remote.messages import OF_AGENT, OF_OWNER, Vocabulary, problem_of

SIDES = [(OF_AGENT, message_kit.OF_AGENT), (OF_OWNER, message_kit.OF_OWNER)]
ADVICE = "install the same version of Lightflow on both machines"


@pytest.mark.parametrize(("vocabulary", "messages"), SIDES)
def test_each_kind_is_accepted_as_it_is_sent(vocabulary: Vocabulary, messages: tuple[Any, ...]) -> None:
    assert {message[0] for message in messages} == vocabulary.keys()
    assert [problem for message in messages if (problem := problem_of(message, vocabulary))] == []


@pytest.mark.parametrize(("vocabulary", "messages"), SIDES)
def test_a_damaged_message_is_refused_or_harmless(vocabulary: Vocabulary, messages: tuple[Any, ...]) -> None:
    refused = 0
    for message in messages:
        for damaged in message_kit.damaged(message):
            problem = problem_of(damaged, vocabulary)
            refused += problem is not None
            assert problem is None or problem.endswith(ADVICE)
    assert refused > 1000


@pytest.mark.parametrize(
    ("message", "what"),
    [
        (None, "not a message"),
        ((), "not a message"),
        ((3, 1), "it has no kind"),
        (("work", 1), "unknown kind 'work'"),
        (("x" * 1000,), "unknown kind '" + "x" * 39),
        (("ready",), "ready with 0 fields instead of 1"),
        (("ready", 1, 2), "ready with 2 fields instead of 1"),
        (("ready", "1"), "ready, field 1"),
        (("ready", -1), "ready, field 1"),
        (("log", 1, 0, "text"), "log, field 3"),
        (("log", 2**63, 0, b""), "log, field 1"),
        (("beat", float("nan")), "beat, field 1"),
        (("undone", 1, "x" * 2_000_000), "undone, field 2"),
        (("outcome", message_kit.STRANGE[-1], False), "outcome, field 1"),
    ],
)
def test_a_refusal_says_what_was_not_valid(message: Any, what: str) -> None:
    assert problem_of(message, OF_AGENT) == f"a message that has arrived is not valid ({what}): {ADVICE}"


def test_another_version_may_say_more_of_its_machine() -> None:
    (hello,) = (message for message in message_kit.OF_AGENT if message[0] == "hello")
    assert problem_of(("hello", {**hello[1], "cores": 64}), OF_AGENT) is None
