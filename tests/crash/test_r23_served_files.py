"""R23: files and clocks change under a server: what did not change fires on, and nothing runs twice.

Proved: while files of a served folder are broken, cut, swapped, removed and replaced at random moments, the schedules
of the other files lose no instant, and each file that is whole again fires again. While the clock is set forward and
back by one second to ten years, and the server is stopped across instants, no instant runs twice, and the schedules go
on once the clock is right.
Not proved: network file systems.

    pytest tests/crash/test_r23_served_files.py --crash-seed 7 --crash-scale 25
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from crashkit import Harness
from scheduled import FAULTS

CHANGES, STEPS = 40, 6


@pytest.mark.slow
@pytest.mark.timeout(100_000)
@pytest.mark.parametrize(("what", "name", "count"), [("files", "R23", CHANGES), ("clock", "R22-clock", STEPS)])
def test_r23_changes_under_a_server(
    harness: Harness,
    figure: Callable[..., str],
    scaled: Callable[[int], int],
    seed: int,
    what: str,
    name: str,
    count: int,
) -> None:
    changes = scaled(count)
    entry = harness.start("served_files", "--what", what, "--changes", changes, "--seed", seed)
    found: dict[str, Any] = harness.collect(entry, 10_000)
    notes = found.pop("notes")
    line = figure(name, **found, seed=seed)
    again = f"\n{line}\nagain: pytest tests/crash/test_r23_served_files.py --crash-seed {seed}\n" + "\n".join(notes)
    assert not any(found[kind] for kind in (*FAULTS, "silent", "ended")), again
    assert found["changes"] == changes
    assert found["runs"] > 0
