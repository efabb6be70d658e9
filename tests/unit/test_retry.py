"""Retries: whether a failed attempt is tried again, and after which delay."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from liteflow.planning.retry import NEVER, Failure, RetryPolicy


def test_delays_grow_by_the_back_off() -> None:
    policy = RetryPolicy(retries=4, delay_s=2.0, backoff=3.0)
    assert [policy.wait_s(number, "seed") for number in (1, 2, 3, 4)] == [2.0, 6.0, 18.0, 54.0]


def test_waits_are_constant_without_backoff() -> None:
    assert [RetryPolicy(3, 5.0).wait_s(number, "x") for number in (1, 2, 3)] == [5.0, 5.0, 5.0]


@given(
    st.floats(0, 1e6),
    st.floats(1, 100),
    st.floats(0, 10),
    st.none() | st.floats(0, 1e5),
    st.integers(1, 100_000),
    st.text(max_size=20),
)
def test_a_wait_is_bounded_and_repeatable(
    delay_s: float, backoff: float, jitter: float, max_delay_s: float | None, retry: int, seed: str
) -> None:
    policy = RetryPolicy(9, delay_s, backoff, max_delay_s, jitter)
    wait = policy.wait_s(retry, seed)
    assert wait == policy.wait_s(retry, seed)
    assert 0 <= wait < 1e9
    if max_delay_s is not None:
        assert wait <= max_delay_s
    elif delay_s * backoff ** min(retry - 1, 3) < 1e6 and retry <= 4:
        plain = delay_s * backoff ** (retry - 1)
        assert plain <= wait <= plain * (1 + jitter) * (1 + 1e-9)


def test_jitter_spreads_tasks_and_only_lengthens() -> None:
    policy = RetryPolicy(1, 10.0, jitter=0.5)
    waits = [policy.wait_s(1, f"run:{number}") for number in range(200)]
    assert len(set(waits)) > 190
    assert min(waits) >= 10.0
    assert max(waits) < 15.0
    assert max(waits) - min(waits) > 4.0  # really over the whole range


def test_every_failure_is_covered_unless_it_is_marked_otherwise() -> None:
    assert RetryPolicy(1).covers(Failure())
    assert RetryPolicy(1).covers(Failure(("ValueError",), 3))


@pytest.mark.parametrize(
    ("types", "exit_code", "wanted"),
    [
        (("ConnectionError", "OSError", "Exception"), None, True),  # a base class is enough
        (("ValueError", "Exception"), None, False),
        ((), 75, True),
        ((), 1, False),
        ((), 0, False),
        ((), None, False),
        (("ValueError",), 75, True),
    ],
)
def test_only_such_failures(types: tuple[str, ...], exit_code: int | None, wanted: bool) -> None:
    policy = RetryPolicy(1, on_exceptions=("OSError",), on_exit_codes=(75,))
    assert policy.covers(Failure(types, exit_code)) is wanted


@pytest.mark.parametrize(
    ("codes", "final", "wanted"),
    [
        (("http:503",), False, True),
        (("http:404",), False, False),
        (("http:503",), True, True),  # the policy names it
        (("lambda:x", "http:429"), False, True),
        ((), False, False),
    ],
)
def test_codes_are_matched_by_patterns(codes: tuple[str, ...], final: bool, wanted: bool) -> None:
    policy = RetryPolicy(1, on_codes=("http:429", "http:5??"))
    assert policy.covers(Failure(codes=codes, final=final)) is wanted


def test_a_required_wait_has_a_limit() -> None:
    failure = Failure(retry_after_s=1e9)
    assert RetryPolicy(1).required_wait_s(failure) == 3600.0
    assert RetryPolicy(1, max_delay_s=5.0).required_wait_s(failure) == 5.0
    assert RetryPolicy(1).required_wait_s(Failure()) == 0.0


def test_never_retries() -> None:
    assert NEVER.retries == 0
