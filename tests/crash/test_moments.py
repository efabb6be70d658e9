"""Kills in what is done around tasks: hooks, preconditions, teardowns, rests before another try, fetching a secret.

Proved with the program itself and real commands: killed (or interrupted) at that very moment, no process of it lives
on; resumed, what was triggered is done, and what had ended is not done again. A run that times out leaves nothing alive
either. Kills at random moments of such runs are R1 and R1b.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from crashkit import Harness
from moments import MOMENTS


@pytest.mark.parametrize("case", [*MOMENTS, "secret/SIGINT", "secret/SIGTERM"])
def test_killed_at_that_moment(case: str, harness: Harness, figure: Callable[..., str], seed: int) -> None:
    result = harness.run("moments", "--case", case, seed=seed)
    figure("moments", case=case.replace(" ", "_"), kills=1, survivors=len(result["survivors"]))
    name, _, how = case.partition("/")
    moment = MOMENTS[name]
    assert result["survivors"] == [], result
    assert result["code"] == {"": -9, "SIGINT": 130, "SIGTERM": -15}[how], result
    assert result["before"] == list(moment.before), result
    assert (result["resumed"], result["end"], result["to_do"]) == (0, ["SUCCESS", "SUCCESS"], {}), result
    assert sorted(result["after"]) == sorted(moment.after), result


def test_a_run_that_times_out_leaves_nothing_alive(harness: Harness, figure: Callable[..., str], seed: int) -> None:
    result = harness.run("moments", "--case", "timeout", seed=seed)
    figure("moments", case="timeout", survivors=len(result["survivors"]))
    assert result["survivors"] == [], result
    assert (result["code"], result["end"], result["to_do"], result["trail"]) == (124, ["FAILED"], {}, []), result
    assert {result["states"][task] for task in "abc"} == {"CANCELLED"}, result
    assert (result["states"]["d"], result["states"]["d.on_success"]) == ("SUCCESS", "FAILED"), result


def test_a_script_that_is_read_does_not_outlive_its_reader(
    harness: Harness, figure: Callable[..., str], seed: int
) -> None:
    result = harness.run("moments", "--case", "script", seed=seed)
    figure("moments", case="script", kills=1, survivors=len(result["survivors"]))
    assert (result["code"], result["survivors"]) == (-9, []), result
