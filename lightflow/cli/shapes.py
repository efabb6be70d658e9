"""The JSON shapes that commands print with `--json`. Keys are only ever added. Times are ISO 8601 in UTC, durations
(`…_s`) seconds; what is not known is null.
"""

from __future__ import annotations

from typing import Any

from lightflow.cli.output import iso, rounded
from liteflow.history import AttemptRecord, InstanceRecord, RunRecord


def duration(started_at: float | None, ended_at: float | None) -> float | None:
    """Seconds between two times, where both are known."""
    return None if started_at is None or ended_at is None else ended_at - started_at


def run_shape(run: RunRecord, counts: dict[str, int]) -> dict[str, Any]:
    """A run: `counts` says how many tasks are in each state."""
    return {
        "run_id": run.run_id,
        "workflow": run.dag_id,
        "status": run.status,
        "reason": run.reason,
        "created_at": iso(run.created_at),
        "started_at": iso(run.started_at),
        "ended_at": iso(run.ended_at),
        "duration_s": rounded(duration(run.started_at, run.ended_at)),
        "counts": counts,
        "source": run.source,
        "params": run.params,
    }


def task_shape(one: InstanceRecord, attempts: list[AttemptRecord]) -> dict[str, Any]:
    """A task of a run with its attempts."""
    return {
        "task": one.task_id,
        "status": one.status,
        "reason": one.reason,
        "depends_on": one.dependencies,
        "started_at": iso(one.started_at),
        "ended_at": iso(one.ended_at),
        "duration_s": rounded(duration(one.started_at, one.ended_at)),
        "attempts": [attempt_shape(attempt) for attempt in attempts],
    }


def attempt_shape(attempt: AttemptRecord) -> dict[str, Any]:
    """One attempt; `log` is null where it printed nothing."""
    return {
        "attempt": attempt.attempt,
        "status": attempt.status,
        "exit_code": attempt.exit_code,
        "error": attempt.error,
        "started_at": iso(attempt.started_at),
        "ended_at": iso(attempt.ended_at),
        "duration_s": rounded(duration(attempt.started_at, attempt.ended_at)),
        "log": attempt.log_path,
    }


def view_shape(
    run: RunRecord,
    instances: list[InstanceRecord],
    attempts: list[AttemptRecord],
    hooks: list[InstanceRecord],
    standing: list[str],
) -> dict[str, Any]:
    """A run with its tasks, and with the hooks that were triggered."""
    grouped: dict[str, list[AttemptRecord]] = {}
    for attempt in attempts:
        grouped.setdefault(attempt.task_id, []).append(attempt)
    counts: dict[str, int] = {}
    for one in instances:
        counts[one.status] = counts.get(one.status, 0) + 1
    tasks = [task_shape(one, grouped.get(one.task_id, [])) for one in instances]
    done = [task_shape(one, grouped.get(one.task_id, [])) for one in hooks]
    return {**run_shape(run, counts), "tasks": tasks, "hooks": done, "standing": standing}
