"""Records that the store takes to create a run, and those that it returns when a run is resumed."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final, NamedTuple

from liteflow.limits import Concurrency, Pool
from liteflow.planning.ready_queue import SlotNeeds
from liteflow.record import EMPTY_MAPPING, Record
from liteflow.states import RunStatus
from liteflow.work import HostId

#: A task instance of a run: its task id and its map index.
InstanceKey = tuple[str, int]


class NewInstance(NamedTuple):
    """A task instance of a run that is being made."""

    task_id: str
    dependencies: Sequence[str]
    timeout_s: float | None = None
    kind: str = "task"  # or "group", "entry": a node without an attempt


class CopiedResults(Record):
    """Results of another run that a new run takes over."""

    run_id: str
    instances: Sequence[InstanceKey]  # whose rows and values are copied
    values_only: bool = False  # whether the tasks are not selected, and only their values are taken over
    files: Mapping[str, str] = EMPTY_MAPPING  # the copies of files with values, by the file: relative paths


class ParentTask(NamedTuple):
    """The attempt of a task that executes a child run."""

    run_id: str
    task_id: str
    map_index: int
    attempt: int


class NewRun(Record):
    """All that is known about a run before it starts. Times are epoch seconds."""

    run_id: str
    dag_id: str
    description: str = ""
    graph_digest: str
    graph_snapshot: str  # JSON
    instances: Iterable[NewInstance]  # iterated once
    params: Mapping[str, Any] = EMPTY_MAPPING
    logical_date: float | None = None
    parent: ParentTask | None = None  # the task that executes it; None: it has none
    origin_run_id: str | None = None  # the run that it is a fork of
    source: str | None = None
    settings: Mapping[str, Any] = EMPTY_MAPPING
    done: Mapping[str, float] = EMPTY_MAPPING  # tasks that succeeded elsewhere: seconds by id
    selected: Sequence[str] | None = None  # the tasks of a partial run; None: all
    unselected: Sequence[str] = ()  # its other tasks
    copied: CopiedResults | None = None  # results of another run


class RunEnd(Record):
    """How a run ended."""

    status: RunStatus
    reason: str | None
    at: float  # epoch seconds
    timed_out: bool = False  # it exceeded its timeout
    outputs: str | None = None  # JSON; see `output_history`


class SharedLimits(Record):
    """The limits of a run that it shares with others: `needs` are slots by task id."""

    pools: Mapping[str, Pool] = EMPTY_MAPPING
    needs: Mapping[str, SlotNeeds] = EMPTY_MAPPING
    concurrency: Concurrency | None = None  # with the name of its group; None: it is in none


class PreviousState(NamedTuple):
    """The state of a task when its run is resumed."""

    status: str
    attempts: int
    tolerated: bool = False  # it counts as a success
    unselected: bool = False  # it is not selected in a partial run


class PreviousInstance(Record):
    """The state of an instance of a mapped task when its run is resumed."""

    status: str
    attempts: int
    item: str | None = None  # the digest of its item; None: stored by an older version
    label: str | None = None
    position: int | None = None  # the place of its item in the list; None as above
    tolerated: bool = False  # it counts as a success


class PreviousWait(Record):
    """An instance that was WAITING when its run is resumed. Times are epoch seconds."""

    task_id: str
    map_index: int
    attempt: int
    handle: str | None  # JSON; None: it waits for its next iteration
    wake_at: float | None
    started_at: float | None
    reason: str | None
    log_path: str | None


class PreviousHook(NamedTuple):
    """The state of a hook when its run is resumed."""

    task_id: str
    map_index: int
    status: str
    attempts: int
    events: str  # JSON, see `hooks.HookEvent`


class AttemptKey(NamedTuple):
    """An attempt, as the rows of a run name it."""

    task_id: str
    map_index: int
    attempt: int


class DueUndo(Record, kw_only=False):
    """An attempt whose undo is due, and the state of its instance."""

    attempt: AttemptKey
    status: str | None  # None: the instance no longer exists
    last_attempt: int
    ran_on: HostId | None = None  # None: on the machine of the run


class TaskEvent(NamedTuple):
    """A change of status of a task, or the success of an instance of a mapped task."""

    task_id: str
    map_index: int
    previous: str | None
    status: str


#: The tasks of a run, and the instances of its mapped tasks by index, when it is resumed or retried.
Previous = tuple[dict[str, PreviousState], dict[str, dict[int, PreviousInstance]]]


class Resets(Record, kw_only=False):
    """The instances that have ended and are to run again, each with the reason."""

    reasons: Mapping[InstanceKey, str]
    granted: Sequence[InstanceKey] = ()  # instances without success that count as one


#: Chooses what is to run again. It gets the tasks and instances, and the events of the tasks, and is called within the
#: transaction.
ChooseResets = Callable[
    [Mapping[str, PreviousState], Mapping[str, Mapping[int, PreviousInstance]], Iterable[TaskEvent]], Resets
]


class Request(Record, kw_only=False):
    """A request of another process to the owner of a run."""

    request_no: int
    action: str
    detail: str | None


NO_SHARED_LIMITS: Final = SharedLimits()
