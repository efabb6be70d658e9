"""Thousands of random runs through the loop, with crashes, cancels and signals; `driving` checks every step."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from random_runs import RandomRun


@settings(max_examples=1000)
@given(st.integers(0, 2**32))
def test_random_runs_keep_all_promises(seed: int) -> None:
    RandomRun(seed).run()


def test_fifteen_hundred_more_random_runs() -> None:
    for seed in range(1500):
        RandomRun(seed).run()
