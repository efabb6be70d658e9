"""R22: one instant, one run, whatever is killed.

Proved: while servers and starters are killed or stopped at random moments, each instant of schedules of one second has
one fire;
each fire that started has one run, which succeeds; no instant is lost and no process is left.
Not proved: power cuts (R4 has the state file).

    pytest tests/crash/test_r22_schedules.py --crash-seed 7 --crash-scale 25
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from crashkit import Harness
from scheduled import FAULTS

KILLS, SEVERAL_KILLS, MOST_SEVERAL_KILLS, TRIGGERS = 12, 20, 200, 10
#: In the long form more runs are due than two cores execute: the kills come faster, and the schedules end.
LONG = ("--pace", 0.9, "--instants", 120)


@pytest.mark.slow
@pytest.mark.timeout(100_000)
def test_r22_one_run_for_an_instant(
    harness: Harness, figure: Callable[..., str], scaled: Callable[[int], int], long_form: bool, seed: int
) -> None:
    triggers = 50 if long_form else TRIGGERS
    bounds = LONG if long_form else ()
    entry = harness.start("scheduled", "--kills", scaled(KILLS), "--triggers", triggers, "--seed", seed, *bounds)
    found: dict[str, Any] = harness.collect(entry, 10_000)
    notes = found.pop("notes")
    line = figure("R22", triggers=triggers, **found, seed=seed)
    again = f"\n{line}\nagain: pytest tests/crash/test_r22_schedules.py --crash-seed {seed}\n" + "\n".join(notes)
    assert not any(found[kind] for kind in FAULTS), again
    assert found["kills"] == scaled(KILLS)
    assert found["runs"] >= triggers


@pytest.mark.slow
@pytest.mark.timeout(100_000)
def test_r22_several_servers(
    harness: Harness, figure: Callable[..., str], scaled: Callable[[int], int], long_form: bool, seed: int
) -> None:
    """Of several servers on one state file one schedules; another takes over when it is killed or stopped."""
    triggers, servers = (50, 4) if long_form else (TRIGGERS, 3)
    kills = min(scaled(SEVERAL_KILLS), MOST_SEVERAL_KILLS)
    arguments = (
        "--kills",
        kills,
        "--triggers",
        triggers,
        "--servers",
        servers,
        "--stops",
        *(LONG if long_form else ()),
    )
    entry = harness.start("scheduled", *arguments, "--seed", seed)
    found: dict[str, Any] = harness.collect(entry, 10_000)
    notes = found.pop("notes")
    line = figure("R22-servers", servers=servers, triggers=triggers, **found, seed=seed)
    again = f"\n{line}\nagain: pytest tests/crash/test_r22_schedules.py --crash-seed {seed}\n" + "\n".join(notes)
    assert not any(found[kind] for kind in FAULTS), again
    assert found["kills"] == kills


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_r22_control_without_the_flip(harness: Harness, figure: Callable[..., str], seed: int) -> None:
    """A process that does not look whether its fire was started runs an instant again."""
    for further in range(4):  # on a busy machine the kills may miss the moments that matter
        arguments = ("--kills", 10, "--triggers", 10, "--seed", seed + further, "--control", "no_flip")
        found: dict[str, Any] = harness.collect(harness.start("scheduled", *arguments), 10_000)
        figure("R22-control", **{kind: found[kind] for kind in ("kills", "runs", "twice")}, seed=seed + further)
        if found["twice"]:
            return
    raise AssertionError("no instant ran twice")
