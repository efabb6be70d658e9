"""R10: a run has one owner, and only that one writes.

Proved: of two to eight processes that resume a dead run at the same instant exactly one gets it, the others end with
RunOwned (exit code 4) and the owner's pid; an owner whose run was taken over while it was stopped writes nothing
more and ends its tasks; orchestrators with different runs share one state file; a resume that comes while a dead
owner's guardian is still at the killing waits for it.
Not proved: locks of network file systems.

    pytest tests/crash/test_r10_owners.py --crash-seed 7 --crash-scale 100
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from crashkit import Harness

COUNTS = {"race": 100, "fence": 20, "share": 10, "sweep": 10}
FAULTS = (
    "owners", "refusals", "misnamed", "codes", "story", "unfenced", "written", "survivors", "unfinished", "refused",
)  # fmt: skip


@pytest.mark.slow
@pytest.mark.timeout(100_000)
def test_r10_one_owner(harness: Harness, figure: Callable[..., str], scaled: Callable[[int], int], seed: int) -> None:
    started = {
        what: harness.start("owners", what, "--count", scaled(COUNTS[what]), "--seed", seed * 1000)
        for what in ("race", "fence")
    }
    reports: dict[str, dict[str, Any]] = {"fence": harness.collect(started["fence"], 10_000)}
    for what in ("share", "sweep"):
        entry = harness.start("owners", what, "--count", scaled(COUNTS[what]), "--seed", seed * 1000)
        reports[what] = harness.collect(entry, 10_000)
    reports["race"] = harness.collect(started["race"], 10_000)
    faults = {kind: sum(report[kind] for report in reports.values()) for kind in FAULTS}
    line = figure(
        "R10",
        **{f"{what}s": report["rounds"] for what, report in sorted(reports.items())},
        **faults,
        seed=seed,
        seconds=max(report["worst_seconds"] for report in reports.values()),
    )
    notes = [note for report in reports.values() for note in report["notes"]]
    again = f"\n{line}\nagain: pytest tests/crash/test_r10_owners.py --crash-seed {seed}\n" + "\n".join(notes)
    assert not any(faults.values()), again
    assert {what: report["rounds"] for what, report in reports.items()} == {
        what: scaled(count) for what, count in COUNTS.items()
    }


@pytest.mark.parametrize(
    ("what", "control", "kinds"), [("race", "no_lock", ("owners",)), ("fence", "no_fence", ("unfenced", "written"))]
)
def test_r10_control(
    what: str, control: str, kinds: tuple[str, ...], harness: Harness, figure: Callable[..., str], seed: int
) -> None:
    """Without the lock there are several owners; without the epoch a stale one goes on writing."""
    report = harness.run("owners", what, "--count", 2, "--control", control, seed=seed)
    result = {kind: report[kind] for kind in kinds}
    figure(f"R10-control-{control}", rounds=report["rounds"], **result)
    assert all(result.values()), report
