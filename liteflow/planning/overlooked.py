"""Failures that do not make a run FAILED: which tasks failed, and why their failure does not count. Pure."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal

from liteflow.record import Record

_BAD: Final = ("FAILED", "UPSTREAM_FAILED")


class Follower(Record, kw_only=False):
    """A task that ran, or was skipped, although an upstream task had failed."""

    task_id: str
    rule: str  # its trigger rule


class OverlookedFailure(Record, kw_only=False):
    """A task that failed in a run that is SUCCESS.

    `cause` says why the failure does not count: it is tolerated (`continue_on_error`), the task is a teardown
    (`teardown`), or all its downstream tasks run in spite of a failure (`followed`): `by` names the nearest of them.
    """

    task_id: str
    cause: Literal["continue_on_error", "teardown", "followed"]
    by: tuple[Follower, ...] = ()


def overlooked(tasks: Sequence[Mapping[str, Any]], ended: Mapping[str, tuple[str, bool]]) -> list[OverlookedFailure]:
    """Return the failures of a run that is SUCCESS, in the order of its tasks.

    Args:
        tasks: the tasks of a graph snapshot (`History.graph_tasks`).
        ended: the status of each task and whether its failure is tolerated; of a mapped task that of the whole.
    """
    rows = {str(row["id"]): row for row in tasks}
    downstream: dict[str, list[str]] = {task_id: [] for task_id in rows}
    for task_id, row in rows.items():
        for upstream in row.get("depends_on", ()):
            downstream.setdefault(upstream, []).append(task_id)
    failures = []
    for task_id, row in rows.items():
        status, tolerated = ended.get(task_id, ("", False))
        if status != "FAILED":
            continue
        if tolerated:
            failures.append(OverlookedFailure(task_id, "continue_on_error"))
        elif row.get("teardown") is True:
            failures.append(OverlookedFailure(task_id, "teardown"))
        else:
            failures.append(OverlookedFailure(task_id, "followed", _followers(task_id, rows, downstream, ended)))
    return failures


def _followers(
    task_id: str,
    rows: Mapping[str, Mapping[str, Any]],
    downstream: Mapping[str, Sequence[str]],
    ended: Mapping[str, tuple[str, bool]],
) -> tuple[Follower, ...]:
    """Return the nearest downstream tasks that did not fail with the task; a failure passes through those that did.

    Teardowns are left out, because they do not decide the state of a run.
    """
    followers, waiting, seen = list[Follower](), [task_id], {task_id}
    for failed in waiting:  # the body appends to this list
        for task in downstream.get(failed, ()):
            if task in seen or rows[task].get("teardown") is True:
                continue
            seen.add(task)
            if ended.get(task, ("", False))[0] in _BAD:
                waiting.append(task)
            else:
                followers.append(Follower(task, str(rows[task].get("rule", "all_success"))))
    return tuple(followers)
