"""R1b: the same with real commands and worker processes, and through the installed program.

Proved besides what R1 proves: no process of any task outlives the orchestrator that was killed (the harness is a child
subreaper: whatever is left is below it; `worst_ms` says how long the slowest took to end), and the next resume can
start at once, even while the dead run's processes are being swept.

    pytest tests/crash/test_r1b_commands.py --crash-seed 7 --crash-scale 100
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from crashkit import Harness, Oracle, add_up
from test_r1_kill import states_hit

KILLS = 200
CLI_KILLS = 12
QUICK_LIMIT_S = 120  # a slow machine takes as many as fit; the figure says how many those were


@pytest.mark.slow
@pytest.mark.timeout(100_000)
def test_r1b_kill_9_with_processes(
    harness: Harness, figure: Callable[..., str], scaled: Callable[[int], int], long_form: bool, seed: int
) -> None:
    limit = 90_000 if long_form else QUICK_LIMIT_S
    started = [
        harness.start("kill", "r1b", "--count", scaled(KILLS) // 2, "--limit", limit, "--seed", seed * 1000 + 1),
        harness.start("kill", "r1b", "--count", scaled(KILLS) // 2, "--limit", limit, "--seed", seed * 1000 + 2),
    ]
    reports = [harness.collect(process, limit * 2 + 700) for process in started]
    program = harness.start("kill", "cli", "--count", scaled(CLI_KILLS), "--limit", limit / 2, "--seed", seed)
    reports.append(harness.collect(program, limit * 2 + 700))
    report: dict[str, Any] = add_up(reports)
    faults = {kind: report[kind] for kind in Oracle.KINDS}
    hit, size, _ = states_hit(report)
    takeovers = sorted(report["takeovers"])
    seconds = reports[0]["worst_seconds"] + reports[2]["worst_seconds"]
    line = figure(
        "R1b",
        kills=report["kills"],
        cli=reports[2]["kills"],
        in_hooks=report["in_hooks"],
        in_rests=report["in_rests"],
        in_children=report["in_children"],
        in_reruns=report["in_reruns"],
        **faults,
        survivors=report["survivors"],
        worst_ms=report["worst_ms"],
        states=f"{hit}/{size}",
        rate=f"{report['kills'] / seconds:.0f}/s",
        seed=seed,
        seconds=seconds,
    )
    figure(
        "R11",
        takeovers=len(takeovers),
        p50_ms=round(takeovers[len(takeovers) // 2] * 1000),
        p99_ms=round(takeovers[int(len(takeovers) * 0.99)] * 1000),
        worst_ms=round(takeovers[-1] * 1000),
        seed=seed,
    )
    again = f"\n{line}\nagain: pytest tests/crash/test_r1b_commands.py --crash-seed {seed}\n"
    again += "\n".join(report["notes"])
    assert not any(faults.values()), again
    assert report["crashed"] == 0, again
    assert report["survivors"] == 0, again
    assert report["kills"] >= min(50, scaled(KILLS) // 2), again


def test_r1b_control_without_a_sweep(harness: Harness, figure: Callable[..., str], seed: int) -> None:
    """Where only process groups are killed, something lives on and the harness sees it."""
    report = harness.run("kill", "r1b", "--count", 1, "--limit", 30, "--control", "no_sweep", seed=seed)
    figure("R1b-control-no_sweep", kills=report["kills"], survivors=report["survivors"])
    assert report["survivors"] > 0
