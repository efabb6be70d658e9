"""Long lists of a run, a page at a time: for programs that show runs with 100,000 instances, such as a web server.

The order of a list does not change during the run. The entries before a page are not read.
"""

from __future__ import annotations

from typing import Generic, NamedTuple, TypeVar

from lightflow.service.lookup import find_run
from lightflow.service.mapped_instances import split_name
from lightflow.service.queries import RunSummary, summary_of
from liteflow.api import AttemptRecord, EventRecord, History, InstanceRecord, instance_name

_T = TypeVar("_T")
#: Separates the name of an instance and the number of an attempt in a cursor; no id contains it.
_ATTEMPT: str = "#"


class Slice(NamedTuple, Generic[_T]):
    """Consecutive entries of a list."""

    items: list[_T]
    after: str | None  #: the cursor of the next page; None: these are the last entries


def run_summary(db: str, run_id: str | None = None) -> RunSummary:
    """Return a run, by default the latest, with the numbers of its tasks and instances by status.

    Raises:
        RunNotFound: there is none.
    """
    with History(db) as history:
        run = history.last_active() if run_id is None else find_run(history, run_id)
        return summary_of(history, run)


def run_instances(db: str, run_id: str, *, after: str | None = None, limit: int = 100) -> Slice[InstanceRecord]:
    """Return tasks and instances of a run, by task id and index.

    Raises:
        RunNotFound: there is no such run.
    """
    with History(db) as history:
        run = find_run(history, run_id)
        start = None if after is None else split_name(after)
        items = history.instances(run.run_id, after=start, limit=limit)
    last = None if len(items) < limit else items[-1]
    return Slice(items, None if last is None else instance_name(last.task_id, last.map_index))


def run_attempts(
    db: str, run_id: str, name: str | None = None, *, after: str | None = None, limit: int = 100
) -> Slice[AttemptRecord]:
    """Return attempts of a run, of one of its tasks, or of an instance, by task id, index and number.

    Raises:
        RunNotFound: there is no such run.
    """
    task_id, index = (None, -1) if name is None else split_name(name)
    with History(db) as history:
        run = find_run(history, run_id)
        items = history.attempts(
            run.run_id,
            task_id,
            index if index >= 0 else None,
            after=None if after is None else _attempt_key(after),
            limit=limit,
        )
    last = None if len(items) < limit else items[-1]
    if last is None:
        return Slice(items, None)
    return Slice(items, f"{instance_name(last.task_id, last.map_index)}{_ATTEMPT}{last.attempt}")


def _attempt_key(cursor: str) -> tuple[str, int, int]:
    name, _, attempt = cursor.rpartition(_ATTEMPT)
    task_id, index = split_name(name)
    return task_id, index, int(attempt) if attempt.isdecimal() else 0


def run_events(
    db: str, run_id: str | None = None, *, after: str | None = None, limit: int = 1000
) -> Slice[EventRecord]:
    """Return changes of status, of a run or of all runs, oldest first.

    The cursor is never None: a later call with it returns the changes since then.

    Raises:
        RunNotFound: there is no such run.
    """
    with History(db) as history:
        run = None if run_id is None else find_run(history, run_id)
        start = int(after) if after is not None and after.isdecimal() else 0
        items = history.events(None if run is None else run.run_id, after=start, limit=limit)
    return Slice(items, str(items[-1].seq if items else start))
