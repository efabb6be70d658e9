"""Large values at agents and at the owner of a run: they go when nothing needs them; a failure costs an attempt."""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from far_kit import Far, PlayedRun, opened_executors

from liteflow.executors.attempt import failure
from liteflow.executors.worker import outcome_to_wire, work_from_wire
from liteflow.remote.ferry import value_messages
from liteflow.remote.link import Message
from liteflow.remote.sent_values import MOST_UNUSED_BYTES, SentValues
from liteflow.values.payload import SPILL_BYTES, Payload, decode, encode
from liteflow.work import Call, Ref

LARGE = SPILL_BYTES + 1


@pytest.fixture
def far(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[..., Far]]:
    with opened_executors(tmp_path, monkeypatch) as make:
        yield make


@pytest.fixture
def played(tmp_path: Path) -> Iterator[PlayedRun]:
    made = PlayedRun(tmp_path)
    yield made
    made.close()


def large(letter: str) -> str:
    return letter * LARGE


def length(text: str) -> int:
    return len(text)


def files_at_agents(kind: str) -> list[Path]:
    return list(Path(os.environ["TMPDIR"]).glob(f"lightflow-agent-*/{kind}/*"))


def bytes_at_agents() -> int:
    """Return the size of the values at all agents, which may drop some meanwhile."""
    size = 0
    for path in files_at_agents("values"):
        with contextlib.suppress(FileNotFoundError):
            size += path.stat().st_size
    return size


def test_an_agent_drops_values_that_no_attempt_needs(far: Callable[..., Far], tmp_path: Path) -> None:
    made = far({"t": Call(length, {"text": Ref("x")})}, {"w1": 1})
    count = MOST_UNUSED_BYTES // LARGE + 2
    inputs = [{"x": encode(chr(97 + number) * LARGE, str(tmp_path / "values"))} for number in range(count)]
    for each in (*inputs, inputs[0]):
        made.submit("t", inputs=each)
        (outcome,) = made.collect()
        assert outcome.value is not None
        assert decode(outcome.value) == LARGE
    made.until(lambda: bytes_at_agents() <= MOST_UNUSED_BYTES)
    assert files_at_agents("values"), "the next attempt may need the last ones"


def test_an_agent_has_no_value_that_the_owner_has(far: Callable[..., Far]) -> None:
    made = far({"t": Call(large, {"letter": "a"})})
    for _ in range(2):
        made.submit("t")
        (outcome,) = made.collect()
        assert outcome.value is not None
        assert len(decode(outcome.value)) == LARGE
        assert files_at_agents("results") == []


def test_a_value_that_the_owner_cannot_store_fails_one_attempt(far: Callable[..., Far], tmp_path: Path) -> None:
    made = far({"t": Call(large, {"letter": "a"})})
    values = tmp_path / "values"
    values.touch()  # no folder can be made
    made.submit("t")
    (outcome,) = made.collect()
    assert outcome.error is not None
    assert (outcome.verdict, outcome.error.message) == (
        "FAILED",
        f"a value cannot be written into {values}: File exists",
    )
    values.unlink()
    made.submit("t")
    (outcome,) = made.collect()
    assert outcome.value is not None, outcome
    assert len(decode(outcome.value)) == LARGE


def succeeded(work: Message, payload: Payload) -> Message:
    """Return the outcome of a work that has a value."""
    value = payload._replace(file=os.path.basename(payload.file or ""))
    outcome = failure(work_from_wire(work, None), "SUCCESS", "")._replace(value=value, error=None)
    return ("outcome", outcome_to_wire(outcome), False)


@pytest.mark.parametrize("first_ends", ["lost", "success"])
def test_two_agents_send_the_same_value_at_the_same_time(played: PlayedRun, tmp_path: Path, first_ends: str) -> None:
    payload = encode("a" * LARGE, str(tmp_path / "theirs"))
    pieces = list(value_messages(payload))
    first, second = played.connected("first"), played.connected("second")
    nodes = [played.far.submit("t"), played.far.submit("t")]
    works = [played.work_of(first), played.work_of(second)]
    played.send(first, pieces[:3])
    played.far.until(lambda: bool(list((tmp_path / "values").glob(".writing-*"))))
    if first_ends == "lost":
        played.cluster.say({"gone": "first"})
        assert [outcome.verdict for outcome in played.far.collect()] == ["LOST"]
        assert list((tmp_path / "values").iterdir()) == []
    played.send(second, [*pieces, succeeded(works[1], payload)])
    (outcome,) = played.far.collect()
    assert (outcome.node, outcome.verdict) == (nodes[1], "SUCCESS")
    shutil.rmtree(tmp_path / "theirs")
    assert outcome.value is not None
    assert decode(outcome.value) == "a" * LARGE
    if first_ends == "success":
        played.send(first, [*pieces[3:], succeeded(works[0], payload)])
        (outcome,) = played.far.collect()
        assert (outcome.node, outcome.verdict) == (nodes[0], "SUCCESS")


# Which values an agent drops


def stored(letter: str, size: int = 4) -> Payload:
    return Payload("json", None, size, f"/values/{letter}", letter)


def test_values_that_are_needed_or_were_needed_last_stay() -> None:
    values = SentValues(most_unused_bytes=10)
    for node, letter in enumerate("abcd"):
        values.need(node, {"x": stored(letter)})
        values.note_sent(stored(letter))
    assert [values.end(node) for node in (1, 0)] == [[], []]
    values.need(4, {"x": stored("b")})  # it is used again
    assert list(values.missing({"x": stored("b")})) == []
    assert [values.end(node) for node in (4, 2, 3)] == [[], ["a"], ["b"]]
    assert [payload.sha256 for payload in values.missing({"x": stored("a"), "y": stored("c")})] == ["a"]


def test_one_value_stays_however_large_it_is() -> None:
    values = SentValues(most_unused_bytes=10)
    values.need(1, {"x": stored("a", 1000)})
    values.note_sent(stored("a", 1000))
    assert values.end(1) == []
    assert not any(values.missing({"x": stored("a")}))


def test_a_value_that_arrives_after_its_attempt_has_ended_is_counted() -> None:
    values = SentValues(most_unused_bytes=10)
    values.need(1, {"x": stored("a", 8)})
    assert values.end(1) == []
    values.note_sent(stored("a", 8))
    values.need(2, {"x": stored("b", 8)})
    values.note_sent(stored("b", 8))
    assert values.end(2) == ["a"]
