"""The JSON shapes that commands print with `--json`. Keys are only ever added. Times are ISO 8601 in UTC, durations
(`…_s`) seconds; what is not known is null.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any

from lightflow.cli.output import iso, rounded
from lightflow.service.verdicts import because
from liteflow.planning.overlooked import Overlooked
from liteflow.state.history import AttemptRecord, InstanceRecord, RunRecord
from liteflow.traces import from_json
from liteflow.values.dates import shown

Attempts = Mapping[tuple[str, int], Sequence[AttemptRecord]]


def duration(started_at: float | None, ended_at: float | None) -> float | None:
    """Seconds between two times, where both are known."""
    return None if started_at is None or ended_at is None else ended_at - started_at


def run_shape(run: RunRecord, counts: Mapping[str, int], instances: Mapping[str, int]) -> dict[str, Any]:
    """A run: `counts` says how many tasks are in each state, `instances` how many instances of mapped ones."""
    return {
        "run_id": run.run_id,
        "workflow": run.dag_id,
        "status": run.status,
        "reason": run.reason,
        "created_at": iso(run.created_at),
        "started_at": iso(run.started_at),
        "ended_at": iso(run.ended_at),
        "duration_s": rounded(duration(run.started_at, run.ended_at)),
        "counts": dict(counts),
        "instances": dict(instances),
        "source": run.source,
        "logical_date": None if run.logical_date is None else shown(run.logical_date),
        "params": run.params,
    }


def task_shape(one: InstanceRecord, attempts: Attempts, instances: Sequence[InstanceRecord] = ()) -> dict[str, Any]:
    """A task of a run, or an instance of one, with its attempts. `instances` are those of a mapped task."""
    return {
        "task": one.task_id,
        "map_index": None if one.map_index < 0 else one.map_index,
        "map_key": one.map_key,
        "status": one.status,
        "reason": one.reason,
        "depends_on": one.dependencies,
        "started_at": iso(one.started_at),
        "ended_at": iso(one.ended_at),
        "duration_s": rounded(duration(one.started_at, one.ended_at)),
        "attempts": [attempt_shape(attempt) for attempt in attempts.get((one.task_id, one.map_index), ())],
        "instances": [task_shape(each, attempts) for each in instances] if instances else None,
    }


def attempt_shape(attempt: AttemptRecord) -> dict[str, Any]:
    """One attempt; `log` is null where there is no output, `log_lost` tells why not all of it could be kept."""
    return {
        "attempt": attempt.attempt,
        "status": attempt.status,
        "exit_code": attempt.exit_code,
        "error": attempt.error,
        "started_at": iso(attempt.started_at),
        "ended_at": iso(attempt.ended_at),
        "duration_s": rounded(duration(attempt.started_at, attempt.ended_at)),
        "log": attempt.log_path,
        "trace": trace_shape(attempt.trace),
        "log_lost": attempt.log_lost,
    }


def trace_shape(text: str | None) -> list[dict[str, Any]] | None:
    """Where in the user's code a Python exception arose, what caused it after it; null where there was none."""
    return [
        {
            "error": one.error,
            "relation": one.relation or None,
            "notes": list(one.notes),
            "frames": [frame._asdict() for frame in one.frames],
            "left_out": one.left_out,
        }
        for one in from_json(text)
    ] or None


def view_shape(
    run: RunRecord,
    instances: list[InstanceRecord],
    attempts: list[AttemptRecord],
    hooks: list[InstanceRecord],
    standing: list[str],
    overlooked: Sequence[Overlooked] = (),
) -> dict[str, Any]:
    """A run with its tasks, theirs with their instances, and with the hooks that were triggered."""
    grouped: dict[tuple[str, int], list[AttemptRecord]] = {}
    for attempt in attempts:
        grouped.setdefault((attempt.task_id, attempt.map_index), []).append(attempt)
    of_task: dict[str, list[InstanceRecord]] = {}
    for one in instances:
        if one.map_index >= 0:
            of_task.setdefault(one.task_id, []).append(one)
    tasks = [one for one in instances if one.map_index < 0]
    counts = Counter(one.status for one in tasks)
    inner = Counter(one.status for each in of_task.values() for one in each)
    shapes = [task_shape(one, grouped, of_task.get(one.task_id, ())) for one in tasks]
    done = [task_shape(one, grouped, ()) for one in hooks]
    aside = [{"task": one.task_id, "because": because(one)} for one in overlooked]
    whole = run_shape(run, counts, inner)
    return {**whole, "tasks": shapes, "hooks": done, "standing": standing, "overlooked": aside}
