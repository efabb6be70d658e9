"""The arguments of `Dag.run` and `Dag.resume`, checked and completed."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable
from typing import Any

from liteflow.errors import DefinitionError
from liteflow.identifiers import NEW_ID_PATTERN
from liteflow.limits import Concurrency, DagLimits, checked_timeout, normalize_concurrency, normalize_retry
from liteflow.modes import DEFAULT_SLOTS, DEFAULT_WORKERS, MODES
from liteflow.planning.retry import RetryPolicy
from liteflow.record import replace
from liteflow.values.dates import Day, check_moment, epoch_of


def limits_of_run(
    limits: DagLimits,
    dag_id: str,
    timeout: float | None,
    retry: RetryPolicy | int | None,
    concurrency: Concurrency | int | str | None,
) -> dict[str, Any]:
    """Return the limits of a run as fields of `RunConfig`: those that are given override those of the dag."""
    own_limit = limits.concurrency if concurrency is None else normalize_concurrency(concurrency)
    if own_limit is None and limits.triggers:
        from liteflow.triggers import counted_limit  # here, because few dags have triggers

        own_limit = counted_limit(limits.triggers)
    return {
        "clusters": limits.clusters,
        "max_lost": limits.max_lost,
        "timeout_s": limits.timeout_s if timeout is None else checked_timeout(timeout),
        "retry": limits.retry if retry is None else normalize_retry(retry),
        "concurrency": None if own_limit is None else replace(own_limit, group=own_limit.group or dag_id),
    }


def moment_of(logical_date: float | Day | None) -> float | None:
    """Return the epoch seconds of a logical date. Raises DefinitionError."""
    try:
        return None if logical_date is None else check_moment(epoch_of(logical_date))
    except ValueError as error:
        raise DefinitionError(f"logical_date {error}") from None


def worker_count(count: object, mode: object, more_modes: Iterable[str]) -> int:
    """Return the number of tasks that run at once on this machine; the engine does not have `more_modes`.

    Raises:
        DefinitionError: an invalid number, or there is no such mode.
    """
    modes = dict.fromkeys([*MODES, *more_modes])
    if not isinstance(mode, str) or mode not in modes:
        is_name = isinstance(mode, str) and NEW_ID_PATTERN.match(mode)
        hint = "; declare a cluster of that name under `clusters`" if is_name else ""
        raise DefinitionError(f"mode {mode!r} must be one of {', '.join(modes)}{hint}")
    workers = DEFAULT_SLOTS.get(mode, DEFAULT_WORKERS) if count is None else count
    if type(workers) is not int or workers < 1:
        raise DefinitionError(f"max_workers={workers!r} must be a whole number, 1 or more")
    return workers


def new_run_id() -> str:
    """Return a run id that is unique and sorts by time."""
    return f"{time.strftime('%Y%m%dT%H%M%S')}-{os.urandom(4).hex()}"


def triggers_of(schedule: Any) -> tuple[Any, ...]:
    """Return the triggers of a dag. Raises DefinitionError."""
    if schedule is None:
        return ()
    from liteflow.triggers import checked_triggers  # here, because few dags have triggers

    return checked_triggers(schedule)
