"""Soak: loops of runs, a host program, a reader and a janitor share one state file while everything is killed.

Proved, in the short form: what `tools/soak.py` counts is zero. The long form is `make soak MINUTES=20`.

    pytest tests/crash/test_soak.py --crash-seed 7
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from crashkit import Harness
from soak import FAULTS


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_a_short_soak(harness: Harness, figure: Callable[..., str], seed: int) -> None:
    # A busy machine is no failure: processes have longer to end here than in the long form.
    result = harness.run("soak", "--minutes", 0.3, "--loops", 4, "--left", 5, seed=seed)
    counts = {kind: result[kind] for kind in FAULTS}
    blows = sum(result[name] for name in ("kill", "kill_guardian", "int", "int_twice", "term", "cancel"))
    line = figure("soak", runs=result["runs"], resumes=result["resumes"], blows=blows, **counts, seed=seed)
    assert not any(counts.values()), "\n".join([line, *result["notes"]])
    assert result["succeeded"] == result["runs"] > 0
