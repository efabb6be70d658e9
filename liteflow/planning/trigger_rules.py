"""Trigger rules: whether a task runs, given the states of its upstream tasks. Pure.

The names and their meaning are those of Airflow. `all_*` and `none_*` rules decide when every direct upstream has
ended, and a failure outweighs a skip, so the decision never depends on timing; `one_*` rules decide early.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Final, Literal, NamedTuple, get_args

from liteflow.record import Record
from liteflow.states import TASK_ENDED

TriggerRule = Literal[
    "all_success",
    "all_failed",
    "all_done",
    "all_done_min_one_success",
    "all_done_setup_success",
    "all_skipped",
    "always",
    "none_failed",
    "none_failed_min_one_success",
    "none_skipped",
    "one_done",
    "one_failed",
    "one_success",
]
TRIGGER_RULES: Final[tuple[TriggerRule, ...]] = get_args(TriggerRule)
Decision = Literal["wait", "run", "skip", "upstream_failed"]
#: The position of a state in `UpstreamCounts`, after `total`.
STATE_POSITION: Final[Mapping[str, int]] = {
    "SUCCESS": 0,
    "FAILED": 1,
    "CANCELLED": 1,
    "SKIPPED": 2,
    "UPSTREAM_FAILED": 3,
}


class UpstreamCounts(NamedTuple):
    """The states of the direct upstream tasks of a task so far, counted; `failed` includes cancelled tasks.

    A tolerated failure (`continue_on_error`) counts as a success.
    """

    total: int
    success: int = 0
    failed: int = 0
    skipped: int = 0
    upstream_failed: int = 0


class SetupCounts(Record):
    """The states of the setups of a teardown, counted."""

    total: int
    success: int = 0
    skipped: int = 0


NO_SETUPS: Final = SetupCounts(total=0)
_EARLY: Final = frozenset({"one_success", "one_failed", "one_done"})


def _is_met_early(rule: TriggerRule, counts: UpstreamCounts) -> bool:
    """Return whether the upstream tasks that have ended are enough for a rule that decides early."""
    match rule:
        case "one_success":
            return counts.success > 0
        case "one_failed":
            return counts.failed + counts.upstream_failed > 0
        case _:
            return counts.success + counts.failed > 0


def decide(rule: TriggerRule, counts: UpstreamCounts, setups: SetupCounts = NO_SETUPS) -> Decision:
    """Return whether a task waits, runs, is skipped, or fails by its upstream; call it as each upstream ends."""
    total, success, failed, skipped, upstream_failed = counts
    bad = failed + upstream_failed
    if total == 0 or rule == "always":
        return "run"
    if rule in _EARLY and _is_met_early(rule, counts):
        return "run"
    if success + bad + skipped < total:
        return "wait"
    match rule:
        case "all_success":
            return "upstream_failed" if bad else "skip" if skipped else "run"
        case "all_failed":
            return "skip" if success + skipped else "run"
        case "all_done":
            return "run"
        case "all_done_setup_success":  # of a teardown: it runs if there is anything to tear down
            if setups.success or not setups.total:
                return "run"
            return "skip" if setups.skipped == setups.total else "upstream_failed"
        case "all_done_min_one_success":
            return "skip" if skipped else "run" if success else "upstream_failed"
        case "all_skipped":
            return "skip" if success + bad else "run"
        case "none_failed":
            return "upstream_failed" if bad else "run"
        case "none_failed_min_one_success":
            return "upstream_failed" if bad else "run" if success else "skip"
        case "none_skipped":
            return "skip" if skipped else "run"
        case "one_success":
            return "upstream_failed" if bad else "skip"
        case _:  # one_failed, one_done: no upstream ended in the state that the rule waits for
            return "skip"


def count_upstreams(states: Sequence[str]) -> UpstreamCounts:
    """Count the upstream tasks that have ended by their states."""
    tally = [0, 0, 0, 0]
    for state in states:
        position = STATE_POSITION.get(state)
        if position is not None:
            tally[position] += 1
    return UpstreamCounts(len(states), *tally)


def count_setups(states: Sequence[str]) -> SetupCounts:
    """Count the setups of a teardown by their states."""
    return SetupCounts(total=len(states), success=states.count("SUCCESS"), skipped=states.count("SKIPPED"))


def explain(rule: TriggerRule, upstream: Mapping[str, str], setups: Sequence[str] = ()) -> str:
    """Explain what a trigger rule decides for these upstream states, in one sentence."""
    counts = count_upstreams(list(upstream.values()))
    decision = decide(rule, counts, count_setups([upstream.get(name, "") for name in setups]))
    if decision == "wait":
        return f"waits for {_names(upstream, lambda state: state not in TASK_ENDED)} (rule {rule})"
    if decision == "upstream_failed":
        failed = _names(upstream, lambda state: state in ("FAILED", "UPSTREAM_FAILED", "CANCELLED"))
        return f"{failed} did not succeed (rule {rule})"
    if decision == "skip" and counts.skipped and rule not in ("all_failed", "one_failed", "all_skipped"):
        return f"{_names(upstream, lambda state: state == 'SKIPPED')} was skipped (rule {rule})"
    states = ", ".join(f"{state} {name}" for name, state in list(upstream.items())[:4])
    rest = "" if len(upstream) <= 4 else f" and {len(upstream) - 4} more"
    verb = "may run" if decision == "run" else "is skipped"
    return f"{verb} by rule {rule}" + (f" after {states}{rest}" if upstream else ": it waits for nothing")


def explain_group(status: str, members: Mapping[str, str]) -> str:
    """Explain the state of a group by the states of its members; empty for a success."""
    if status == "SUCCESS":
        return ""
    if status == "SKIPPED":
        return "all its tasks were skipped"
    verb = {"FAILED": "failed", "CANCELLED": "was cancelled"}.get(status, "did not run")
    return f"{_names(members, lambda state: state == status)} {verb}"


def _names(upstream: Mapping[str, str], wanted: Callable[[str], bool]) -> str:
    names = [repr(name) for name, state in upstream.items() if wanted(state)]
    shown = ", ".join(names[:3])
    return shown if len(names) <= 3 else f"{shown} and {len(names) - 3} more"
