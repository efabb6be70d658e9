"""Puts into words why a run is SUCCESS although tasks of it failed (`History.overlooked`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from liteflow.api import OverlookedFailure

_NAMED: Final = 3


def because(failure: OverlookedFailure) -> str:
    """Say why a failure does not count: `cleanup (all_done), which depends on it, did not fail`."""
    match failure.cause:
        case "continue_on_error":
            return "continue_on_error allows it to fail"
        case "teardown":
            return "it is a teardown, which does not count"
        case "followed":
            names = [f"{follower.task_id} ({follower.rule})" for follower in failure.by[:_NAMED]]
            if not names:
                return "no task that counts depends on it"
            if len(failure.by) == 1:
                return f"{names[0]}, which depends on it, did not fail"
            more = f" and {len(failure.by) - _NAMED:,} more" if len(failure.by) > _NAMED else ""
            return f"{', '.join(names)}{more}, which depend on it, did not fail"


def in_words(failures: Sequence[OverlookedFailure]) -> str:
    """Say all of them: `although soft failed: continue_on_error allows it to fail`; empty if there are none."""
    reasons: dict[str, list[str]] = {}
    for failure in failures:
        reasons.setdefault(because(failure), []).append(failure.task_id)
    parts = []
    for reason, tasks in list(reasons.items())[:_NAMED]:
        more = f" and {len(tasks) - _NAMED:,} more" if len(tasks) > _NAMED else ""
        parts.append(f"{', '.join(tasks[:_NAMED])}{more} failed: {reason}")
    if len(reasons) > _NAMED:
        parts.append(f"and {len(reasons) - _NAMED:,} more")
    return f"although {'; '.join(parts)}" if parts else ""
