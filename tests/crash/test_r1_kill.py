"""R1: an orchestrator that is killed at any moment loses nothing and repeats nothing.

Proved: over thousands of SIGKILLs at random moments of runs and of resumes (the making of the state file included),
no task that was acknowledged as succeeded is lost or executed again, no task has two successes, none is executed
without a committed intent or before its upstreams' successes are durable, and the file is sound each time. A task
that waits goes on with the same attempt, iterations of a repeated task are counted on, and a group ends with its last
member. All of this holds of child runs, on three levels, and each task has one for each of its rounds. A retry of a
part, killed too, sets back all that it is to run again or nothing, and runs nothing else.
Not proved here: that processes are ended too (R1b, R3), and what a power cut does (that needs a simulated disk).

    pytest tests/crash/test_r1_kill.py --crash-seed 7 --crash-scale 100
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from crashkit import Harness, Oracle, read_state

KILLS = 1_200
QUICK_LIMIT_S = 300  # a slow machine takes as many as fit; the figure says how many those were
SHARDS = 2


def states_hit(report: dict[str, Any]) -> tuple[int, int, int]:
    """How many progress states were hit, how many there are, and the least number of kills in one that was hit."""
    total: dict[str, int] = {}
    for histogram in report["states"]:
        for state, count in histogram.items():
            total[state] = total.get(state, 0) + count
    return len(total), report["size"][0], min(total.values(), default=0)


@pytest.mark.slow
@pytest.mark.timeout(100_000)
def test_r1_kill_9_at_any_moment(
    harness: Harness, figure: Callable[..., str], scaled: Callable[[int], int], long_form: bool, seed: int
) -> None:
    limit = 90_000 if long_form else QUICK_LIMIT_S
    count = -(-scaled(KILLS) // SHARDS)
    report = harness.run("kill", "r1", "--count", count, "--limit", limit, shards=SHARDS, seed=seed)
    hit, size, least = states_hit(report)
    faults = {kind: report[kind] for kind in Oracle.KINDS}
    line = figure(
        "R1",
        kills=report["kills"],
        in_hooks=report["in_hooks"],
        in_rests=report["in_rests"],
        in_children=report["in_children"],
        in_reruns=report["in_reruns"],
        **faults,
        states=f"{hit}/{size}",
        least_in_a_state=least,
        runs=report["runs"],
        rate=f"{report['kills'] / report['worst_seconds']:.0f}/s",
        seed=seed,
        seconds=report["worst_seconds"],
    )
    again = f"\n{line}\nagain: pytest tests/crash/test_r1_kill.py --crash-seed {seed}\n" + "\n".join(report["notes"])
    assert not any(faults.values()), again
    assert report["crashed"] == 0, again
    assert report["kills"] >= min(scaled(200), 10_000), again
    if report["kills"] >= 500:  # fewer, on a slow machine, do not hit each state
        assert hit >= 0.9 * size, f"the kills were not spread over the run{again}"


@pytest.mark.parametrize(
    ("control", "kills", "kinds"),
    [
        ("late_commit", 100, ("lost", "ghost", "order")),
        ("no_transaction", 100, ("torn",)),
        ("forgetful_resume", 100, ("rerun", "dup")),
        ("late_hooks", 100, ("hook",)),
        ("forgotten_hooks", 100, ("hook",)),
        ("forgotten_waits", 100, ("wait",)),
        ("forgotten_iterations", 100, ("iteration",)),
        ("early_joins", 100, ("join",)),
        ("new_child_runs", 26, ("child",)),
        ("half_set", 52, ("set",)),
        ("nothing_settled", 26, ("set",)),
    ],
)
def test_r1_control(
    control: str, kills: int, kinds: tuple[str, ...], harness: Harness, figure: Callable[..., str], seed: int
) -> None:
    """With one defence taken out of the engine the same harness goes red: on a busy machine with one of a few seeds."""
    for further in range(4):
        options = ("--count", kills, "--limit", 120, "--control", control)
        report = harness.run("kill", "r1", *options, seed=seed + further)
        result = {kind: report[kind] for kind in kinds}
        figure(f"R1-control-{control}", kills=report["kills"], **result, seconds=report["worst_seconds"])
        if all(result.values()):
            return
    pytest.fail(f"without a defence ({control}) the oracle saw nothing: {report}")


def test_r1_control_a_damaged_file(harness: Harness, ram: Any) -> None:
    """The oracle's reading of the file is no formality: a page of zeroes is found."""
    import sqlite3

    path = ram / "x.db"
    connection = sqlite3.connect(path)
    connection.execute("CREATE TABLE liteflow_dag_runs (run_id TEXT, status TEXT)")
    connection.executemany("INSERT INTO liteflow_dag_runs VALUES (?, 'RUNNING')", [("x" * 500,)] * 100)
    connection.commit()
    connection.close()
    assert read_state(str(path), "r").problems == []
    with open(path, "r+b") as file:
        file.seek(4096 * 2)
        file.write(bytes(4096))
    assert read_state(str(path), "r").problems
