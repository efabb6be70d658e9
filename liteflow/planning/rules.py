"""Trigger rules: what a task does, given how the tasks it waits for have ended. Pure.

The names and their meaning are those users of Airflow know. `all_*` and `none_*` rules settle when every direct
upstream has ended, failure beating skip, so the answer never depends on timing; `one_*` rules fire early.
"""

from __future__ import annotations

from typing import Final, Literal, NamedTuple

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
TRIGGER_RULES: Final[tuple[TriggerRule, ...]] = (
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
)
Decision = Literal["wait", "run", "skip", "upstream_failed"]


class UpstreamCounts(NamedTuple):
    """How the direct upstreams of a task have ended so far; `failed` includes cancelled ones.

    A failure that is tolerated (`continue_on_error`) is counted as a success.
    """

    total: int
    success: int = 0
    failed: int = 0
    skipped: int = 0
    upstream_failed: int = 0
    setups: int = 0  # how many of them are what a teardown takes down, and how those have ended
    setups_done: int = 0
    setups_skipped: int = 0


def decide(rule: TriggerRule, counts: UpstreamCounts) -> Decision:
    """Wait, run, skip or give up? Asked again each time an upstream ends."""
    total, success, failed, skipped, upstream_failed, setups, setups_done, setups_skipped = counts
    bad = failed + upstream_failed
    if total == 0 or rule == "always":
        return "run"
    if rule == "one_success" and success:
        return "run"
    if rule == "one_failed" and bad:
        return "run"
    if rule == "one_done" and success + failed:
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
        case "all_done_setup_success":  # of a teardown: is there something to take down?
            return "run" if setups_done or not setups else "skip" if setups_skipped == setups else "upstream_failed"
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
        case _:  # one_failed, one_done: nobody did what they wait for
            return "skip"
