"""How the upstreams of a task have ended, counted as trigger rules count, and told to people. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final

from liteflow.planning.rules import TriggerRule, UpstreamCounts, decide
from liteflow.states import TASK_ENDED

#: the place of a state in `UpstreamCounts`, behind `total`
KIND: Final[Mapping[str, int]] = {"SUCCESS": 0, "FAILED": 1, "CANCELLED": 1, "SKIPPED": 2, "UPSTREAM_FAILED": 3}


def count_upstreams(statuses: Sequence[str]) -> UpstreamCounts:
    """Count ended upstreams by what the trigger rules ask for."""
    tally = [0, 0, 0, 0]
    for status in statuses:
        kind = KIND.get(status)
        if kind is not None:
            tally[kind] += 1
    return UpstreamCounts(len(statuses), *tally)


def with_setups(counts: UpstreamCounts, setups: Sequence[str]) -> UpstreamCounts:
    """The counts for a teardown of these setups."""
    return counts._replace(
        setups=len(setups), setups_done=setups.count("SUCCESS"), setups_skipped=setups.count("SKIPPED")
    )


def explain(rule: TriggerRule, upstream: Mapping[str, str], setups: Sequence[str] = ()) -> str:
    """What a trigger rule makes of these upstream states, for people; it asks `decide`, like the plan."""
    counts = with_setups(count_upstreams(list(upstream.values())), [upstream.get(name, "") for name in setups])
    decision = decide(rule, counts)
    if decision == "wait":
        return f"waits for {_names(upstream, lambda status: status not in TASK_ENDED)} (rule {rule})"
    if decision == "upstream_failed":
        bad = _names(upstream, lambda status: status in ("FAILED", "UPSTREAM_FAILED", "CANCELLED"))
        return f"{bad} did not succeed (rule {rule})"
    if decision == "skip" and counts.skipped and rule not in ("all_failed", "one_failed", "all_skipped"):
        return f"{_names(upstream, lambda status: status == 'SKIPPED')} was skipped (rule {rule})"
    states = ", ".join(f"{status} {name}" for name, status in list(upstream.items())[:4])
    more = "" if len(upstream) <= 4 else f" and {len(upstream) - 4} more"
    verb = "may run" if decision == "run" else "is skipped"
    return f"{verb} by rule {rule}" + (f" after {states}{more}" if upstream else ": it waits for nothing")


def _names(upstream: Mapping[str, str], wanted: Callable[[str], bool]) -> str:
    names = [repr(name) for name, status in upstream.items() if wanted(status)]
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
