"""Random runs through the loop, with crashes, cancels and signals; `driving` checks every step."""

from __future__ import annotations

from collections.abc import Callable

import pytest
from random_runs import RandomRun


@pytest.mark.timeout(600)
def test_random_runs_keep_all_promises(quick: Callable[[int, int], int]) -> None:
    """The quick form has the seeds with which `test_loop_controls.py` notices each removed defence."""
    for seed in range(quick(1_500, 20_000)):
        RandomRun(seed).run()
