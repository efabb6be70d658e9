"""Explain in words why a run is SUCCESS although tasks of it failed (`History.overlooked`)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from lightflow.text import listed
from liteflow.api import OverlookedFailure

_MAX_NAMED: Final = 3


def reason_text(failure: OverlookedFailure) -> str:
    """Return why a failure does not count: `cleanup (all_done), which depends on it, did not fail`."""
    match failure.cause:
        case "continue_on_error":
            return "continue_on_error allows it to fail"
        case "teardown":
            return "it is a teardown, which does not count"
        case "followed":
            names = [f"{follower.task_id} ({follower.rule})" for follower in failure.by]
            if not names:
                return "no task that counts depends on it"
            if len(names) == 1:
                return f"{names[0]}, which depends on it, did not fail"
            return f"{listed(names, _MAX_NAMED)}, which depend on it, did not fail"


def summary_text(failures: Sequence[OverlookedFailure]) -> str:
    """Return the reasons of all failures: `although soft failed: continue_on_error allows it to fail`, or nothing."""
    reasons: dict[str, list[str]] = {}
    for failure in failures:
        reasons.setdefault(reason_text(failure), []).append(failure.task_id)
    parts = [f"{listed(tasks, _MAX_NAMED)} failed: {reason}" for reason, tasks in list(reasons.items())[:_MAX_NAMED]]
    if len(reasons) > _MAX_NAMED:
        parts.append(f"and {len(reasons) - _MAX_NAMED:,} more")
    return f"although {'; '.join(parts)}" if parts else ""
