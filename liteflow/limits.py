"""What bounds runs: pools of slots that all runs of a state file share, and how many runs go on side by side."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, NamedTuple, get_args

from liteflow.errors import DefinitionError
from liteflow.identifiers import NEW_ID_PATTERN
from liteflow.planning.retry import NEVER, RetryPolicy

OnConflict = Literal["queue", "skip", "cancel", "fail"]
ON_CONFLICT: Final[tuple[str, ...]] = get_args(OnConflict)
MAX_SLOTS: Final = 1_000_000
MAX_PRIORITY: Final = 1_000_000


class Pool(NamedTuple):
    """A number of slots under a name. `slots` None: as many as the state file says, or one."""

    slots: int | None = None
    description: str = ""


class Concurrency(NamedTuple):
    """How many runs of a group go on at once, and what a run does that comes when there is no place.

    `group` None is the dag's own id. A run that is in the way makes the new one wait (`queue`), end without running
    anything (`skip`) or fail (`fail`), or is cancelled by it (`cancel`).
    """

    group: str | None = None
    limit: int = 1
    on_conflict: OnConflict = "queue"


class DagLimits(NamedTuple):
    """The limits that a dag declares; the retry is that of a run as a whole."""

    pools: Mapping[str, Pool] = {}
    timeout_s: float | None = None
    retry: RetryPolicy = NEVER
    concurrency: Concurrency | None = None


def normalize_pools(given: Mapping[str, Any]) -> dict[str, Pool]:
    """Pools from sizes, or from `Pool`s.

    Raises:
        DefinitionError: a name or a size that cannot be one.
    """
    pools = {}
    for name, value in given.items():
        pool = value if isinstance(value, Pool) else Pool(value)
        if not isinstance(name, str) or not NEW_ID_PATTERN.match(name):
            raise DefinitionError(f"pool {name!r}: use letters, digits, '_', '.' and '-', at most 128 of them")
        if pool.slots is not None and not _whole(pool.slots, 1, MAX_SLOTS):
            raise DefinitionError(f"pool {name!r}: its slots are a whole number, 1 or more, not {pool.slots!r}")
        pools[name] = pool
    return pools


def normalize_concurrency(given: Concurrency | int | str | None) -> Concurrency | None:
    """`Concurrency`, or short: a number is the limit, text the group.

    Raises:
        DefinitionError: it makes no sense.
    """
    if given is None:
        return None
    if not isinstance(given, Concurrency):
        given = Concurrency(limit=given) if type(given) is int else Concurrency(group=str(given))
    if given.group is not None and not NEW_ID_PATTERN.match(given.group):
        raise DefinitionError(f"concurrency: group {given.group!r}: use letters, digits, '_', '.' and '-'")
    if not _whole(given.limit, 1, MAX_SLOTS):
        raise DefinitionError(f"concurrency: the limit is a whole number, 1 or more, not {given.limit!r}")
    if given.on_conflict not in ON_CONFLICT:
        raise DefinitionError(f"concurrency: on_conflict={given.on_conflict!r} must be one of {', '.join(ON_CONFLICT)}")
    return given


def checked_timeout(given: float | None) -> float | None:
    """Seconds a run may take. Raises DefinitionError."""
    if given is not None and (isinstance(given, bool) or not isinstance(given, int | float) or not 0 < given < 1e9):
        raise DefinitionError(f"timeout={given!r} must be a number of seconds above 0, or None")
    return given


def normalize_retry(given: RetryPolicy | int) -> RetryPolicy:
    """How often a run is tried again; a number alone is how often. Raises DefinitionError."""
    policy = RetryPolicy(given) if type(given) is int else given
    if not isinstance(policy, RetryPolicy) or type(policy.retries) is not int or policy.retries < 0:
        raise DefinitionError(f"retry={given!r} must be a RetryPolicy, or a whole number of tries after the first")
    if policy.on_exceptions or policy.on_exit_codes:
        raise DefinitionError("retry: a run is tried again whatever has failed; on_… is for retries of tasks")
    return policy


def slot_needs(task_id: str, pool: object, pool_slots: object, resources: object) -> tuple[tuple[str, int], ...]:
    """The slots a task needs, by pool: `pool_slots` of each named by `pool`, and `resources` as they stand.

    Raises:
        DefinitionError: names the task and the option.
    """
    names = [pool] if isinstance(pool, str) else pool or ()
    if not isinstance(names, Sequence | set | frozenset) or not all(isinstance(name, str) for name in names):
        raise DefinitionError(f"task {task_id!r}: pool={pool!r} must be the name of a pool, or a list of names")
    if not _whole(pool_slots, 1, MAX_SLOTS):
        raise DefinitionError(f"task {task_id!r}: pool_slots={pool_slots!r} must be a whole number, 1 or more")
    try:
        needs: dict[str, Any] = dict(resources or {})  # type: ignore[call-overload]
    except (TypeError, ValueError):
        needs = {"": None}
    if not all(isinstance(name, str) and _whole(slots, 1, MAX_SLOTS) for name, slots in needs.items()):
        raise DefinitionError(f"task {task_id!r}: resources={resources!r} must map names of pools to slots")
    for name in names:
        if name in needs:
            raise DefinitionError(f"task {task_id!r}: pool {name!r} is named by `pool` and by `resources`; keep one")
        needs[name] = pool_slots
    return tuple(sorted(needs.items()))


def check_slot_needs(needs: Mapping[str, Sequence[tuple[str, int]]], pools: Mapping[str, int | None]) -> None:
    """Could each of these tasks (by id) ever start? A size of None says nothing, one of 0 is a pool that is paused.

    Raises:
        DefinitionError: a pool that is not there, or is too small.
    """
    for task_id, wanted in needs.items():
        for name, slots in wanted:
            if name not in pools:
                import difflib

                near = difflib.get_close_matches(name, pools, n=1)
                hint = f"; did you mean {near[0]!r}?" if near else "; declare it: Dag(…, pools={…})"
                raise DefinitionError(f"task {task_id!r}: there is no pool {name!r}{hint}")
            size = pools[name]
            if size and slots > size:
                raise DefinitionError(
                    f"task {task_id!r}: needs {slots} slots of pool {name!r}, which has {size}: it could never start"
                )


def _whole(value: object, least: int, most: int) -> bool:
    return type(value) is int and least <= value <= most
