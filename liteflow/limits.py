"""Limits that runs share: pools of slots, and the number of runs of a group that run at the same time."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final, Literal, get_args

from liteflow.errors import DefinitionError
from liteflow.identifiers import NEW_ID_PATTERN, did_you_mean
from liteflow.modes import MODES
from liteflow.planning.retry import MAX_LOST, NEVER, RetryPolicy
from liteflow.record import EMPTY_MAPPING, Record

OnConflict = Literal["queue", "skip", "cancel", "fail"]
ON_CONFLICT: Final[tuple[str, ...]] = get_args(OnConflict)
#: Names that backends have which are no mode: no cluster can have them.
_BACKENDS: Final = ("command", "child_run")
MAX_SLOTS: Final = 1_000_000
#: The name of a resource of the machines of a cluster.
RESOURCE_PATTERN: Final = r"[A-Za-z0-9_][^\s=]{0,127}"
MAX_PRIORITY: Final = 1_000_000
MAX_DAYS: Final = 36_500


class Pool(Record, kw_only=False):
    """A pool of slots. `slots` None: the size in the state file, or 1.

    A task that takes slots of it on a cluster takes as many of the `resource` of its machine: of a worker of Dask.
    """

    slots: int | None = None
    description: str = ""
    resource: str = ""


class Concurrency(Record, kw_only=False):
    """The number of runs of a group that run at the same time, and what a further run does.

    `group` None is the id of the dag. A further run waits (`queue`), ends without running anything (`skip`), fails
    (`fail`), or cancels the run before it (`cancel`).
    """

    group: str | None = None
    limit: int = 1
    on_conflict: OnConflict = "queue"


class Retention(Record, kw_only=False):
    """Which runs of a dag are preserved: those of the last `days`, and the newest `runs`; None preserves none by it.

    All others are deleted after a run of the dag, with their logs, values and checkpoints, unless they are active.
    """

    days: float | None = None
    runs: int | None = None


class DagLimits(Record):
    """The rules for the runs of a dag: limits, the retry of a run as a whole, and the triggers that start runs."""

    pools: Mapping[str, Pool] = EMPTY_MAPPING
    timeout_s: float | None = None
    retry: RetryPolicy = NEVER
    concurrency: Concurrency | None = None
    clusters: Mapping[str, Any] = EMPTY_MAPPING  #: see `remote.cluster`; not imported here, because few dags have some
    max_lost: int = MAX_LOST  #: how often an instance is started again because its process or its place died
    triggers: tuple[Any, ...] = ()  #: see `triggers`; not imported here, because few dags have some
    retention: Retention | None = None


def normalize_pools(pools_or_sizes: Mapping[str, Any]) -> dict[str, Pool]:
    """Return pools by name, from sizes or from `Pool`s.

    Raises:
        DefinitionError: a name or a size is not valid.
    """
    pools = {}
    for name, value in pools_or_sizes.items():
        pool = value if isinstance(value, Pool) else Pool(value)
        if not isinstance(name, str) or not NEW_ID_PATTERN.match(name):
            raise DefinitionError(f"pool {name!r}: use letters, digits, '_', '.' and '-', at most 128 of them")
        if pool.slots is not None and not _whole(pool.slots, 1, MAX_SLOTS):
            raise DefinitionError(f"pool {name!r}: its slots must be a whole number, 1 or more, not {pool.slots!r}")
        if pool.resource and not re.fullmatch(RESOURCE_PATTERN, pool.resource):
            raise DefinitionError(f"pool {name!r}: its resource {pool.resource!r} must be a word without '='")
        pools[name] = pool
    return pools


def pool_resources(pools: Mapping[str, Pool]) -> dict[str, str]:
    """Return the resource that the slots of a pool stand for, by pool."""
    return {name: pool.resource for name, pool in pools.items() if pool.resource}


def taken_resources(needs: Iterable[tuple[str, int]], resources: Mapping[str, str]) -> tuple[tuple[str, int], ...]:
    """Return what a task takes of its machine: for each slot of a pool one of the pool's resource, sorted by name.

    Args:
        needs: pools, each with the number of slots that the task takes of it.
        resources: the resource that the slots of a pool stand for, by pool.
    """
    amounts: dict[str, int] = {}
    for pool, count in needs:
        if resource := resources.get(pool):
            amounts[resource] = amounts.get(resource, 0) + count
    return tuple(sorted(amounts.items()))


def checked_clusters(clusters: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the clusters of a dag by name. Raises DefinitionError."""
    if not clusters:
        return EMPTY_MAPPING
    from liteflow.remote.cluster import Cluster  # few dags have some

    for name, cluster in clusters.items():
        if not isinstance(name, str) or not NEW_ID_PATTERN.match(name):
            raise DefinitionError(f"cluster {name!r}: use letters, digits, '_', '.' and '-', at most 128 of them")
        if name in (*MODES, *_BACKENDS):
            raise DefinitionError(f"cluster {name!r}: this is a mode of this machine; give the cluster another name")
        if not isinstance(cluster, Cluster):
            raise DefinitionError(f"cluster {name!r}: {cluster!r} must be made by lightflow.clusters.ssh or dask")
        if not _whole(cluster.slots, 1, MAX_SLOTS):
            raise DefinitionError(f"cluster {name!r}: slots={cluster.slots!r} must be a whole number, 1 or more")
    return dict(clusters)


def checked_mode(mode: str | None, clusters: Iterable[str], task_id: str) -> str | None:
    """Return the execution mode of a task. Raises DefinitionError: there is no such mode and no such cluster."""
    if mode is None or mode in MODES or mode in clusters:
        return mode
    hint = did_you_mean(mode, [*MODES, *clusters]) or "; declare a cluster of that name: Dag(…, clusters={…})"
    raise DefinitionError(f"task {task_id!r}: there is no mode {mode!r}{hint}")


def checked_max_lost(count: int) -> int:
    """Return how often a task is started again because its process or its place died. Raises DefinitionError."""
    if not _whole(count, 0, MAX_SLOTS):
        raise DefinitionError(f"max_lost={count!r} must be a whole number, 0 or more")
    return count


def normalize_concurrency(value: Concurrency | int | str | None) -> Concurrency | None:
    """Return a `Concurrency`; of the short forms a number is the limit, a text the group.

    Raises:
        DefinitionError: it is not valid.
    """
    if value is None:
        return None
    if not isinstance(value, Concurrency):
        value = Concurrency(limit=value) if type(value) is int else Concurrency(group=str(value))
    group, limit, on_conflict = value.group, value.limit, value.on_conflict
    if group is not None and not NEW_ID_PATTERN.match(group):
        raise DefinitionError(f"concurrency: group {group!r}: use letters, digits, '_', '.' and '-'")
    if not _whole(limit, 1, MAX_SLOTS):
        raise DefinitionError(f"concurrency: the limit must be a whole number, 1 or more, not {limit!r}")
    if on_conflict not in ON_CONFLICT:
        raise DefinitionError(f"concurrency: on_conflict={on_conflict!r} must be one of {', '.join(ON_CONFLICT)}")
    return value


def checked_retention(value: Retention | None) -> Retention | None:
    """Return a retention itself. Raises DefinitionError."""
    if value is None:
        return None
    if not isinstance(value, Retention) or value == Retention():
        raise DefinitionError(f"retention={value!r} must be a Retention with days, runs, or both")
    days, runs = value.days, value.runs
    is_number = isinstance(days, int | float) and not isinstance(days, bool)
    if days is not None and not (is_number and 0 <= days <= MAX_DAYS):
        raise DefinitionError(f"retention: days={days!r} must be a number from 0 to {MAX_DAYS}")
    if runs is not None and not _whole(runs, 0, MAX_SLOTS):
        raise DefinitionError(f"retention: runs={runs!r} must be a whole number, 0 or more")
    return value


def checked_timeout(seconds: float | None) -> float | None:
    """Return the timeout of a run in seconds. Raises DefinitionError."""
    is_number = isinstance(seconds, int | float) and not isinstance(seconds, bool)
    if seconds is not None and not (is_number and 0 < seconds < 1e9):
        raise DefinitionError(f"timeout={seconds!r} must be a number of seconds above 0, or None")
    return seconds


def normalize_retry(retry: RetryPolicy | int) -> RetryPolicy:
    """Return how a run is retried; a number is the number of retries. Raises DefinitionError."""
    policy = RetryPolicy(retry) if type(retry) is int else retry
    if not isinstance(policy, RetryPolicy) or type(policy.retries) is not int or policy.retries < 0:
        raise DefinitionError(f"retry={retry!r} must be a RetryPolicy, or a whole number of retries")
    if policy.on_exceptions or policy.on_exit_codes or policy.on_codes:
        raise DefinitionError("retry: a run is retried after any failure; on_… is for retries of tasks")
    return policy


def slot_needs(task_id: str, pool: object, pool_slots: object, resources: object) -> tuple[tuple[str, int], ...]:
    """Return the slots that a task needs, by pool: `pool_slots` of each pool in `pool`, and those in `resources`.

    Raises:
        DefinitionError: an option is not valid; the message names the task and the option.
    """
    names = [pool] if isinstance(pool, str) else pool or ()
    if not isinstance(names, Sequence | set | frozenset) or not all(isinstance(name, str) for name in names):
        raise DefinitionError(f"task {task_id!r}: pool={pool!r} must be the name of a pool, or a list of names")
    if not _whole(pool_slots, 1, MAX_SLOTS):
        raise DefinitionError(f"task {task_id!r}: pool_slots={pool_slots!r} must be a whole number, 1 or more")
    try:
        needs: dict[str, Any] = dict(resources or {})  # type: ignore[call-overload]  # any object is tried
    except (TypeError, ValueError):
        needs = {"": None}
    if not all(isinstance(name, str) and _whole(slots, 1, MAX_SLOTS) for name, slots in needs.items()):
        raise DefinitionError(f"task {task_id!r}: resources={resources!r} must map names of pools to slots")
    for name in names:
        if name in needs:
            raise DefinitionError(f"task {task_id!r}: pool {name!r} is in `pool` and in `resources`; keep one")
        needs[name] = pool_slots
    return tuple(sorted(needs.items()))


def check_slot_needs(needs: Mapping[str, Sequence[tuple[str, int]]], pools: Mapping[str, int | None]) -> None:
    """Check that each task (by id) can start. The size of a pool is None if it is unknown, and 0 if it is paused.

    Raises:
        DefinitionError: a pool does not exist, or is too small.
    """
    for task_id, task_needs in needs.items():
        for name, slots in task_needs:
            if name not in pools:
                hint = did_you_mean(name, pools) or "; declare it: Dag(…, pools={…})"
                raise DefinitionError(f"task {task_id!r}: there is no pool {name!r}{hint}")
            size = pools[name]
            if size and slots > size:
                raise DefinitionError(
                    f"task {task_id!r}: needs {slots} slots of pool {name!r}, which has {size}: it could never start"
                )


def _whole(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most
