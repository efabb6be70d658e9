"""How a run is done."""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

from liteflow.executors.protocol import BackendFactory
from liteflow.limits import Concurrency
from liteflow.planning.rerun import Rerun
from liteflow.planning.retry import MAX_LOST, NEVER, RetryPolicy
from liteflow.record import EMPTY_MAPPING, Record
from liteflow.running.observers import Observer
from liteflow.state.records import CopiedResults, ParentTask
from liteflow.values.secrets import Secrets


class RunConfig(Record):
    """How a run is done."""

    db_path: str  #: absolute
    run_id: str
    max_workers: int
    mode: str = "process"
    log_dir: str | None = None  #: absolute; None: the output of tasks goes where the output of the host program goes
    durability: str = "process"
    fail_fast: bool = False
    grace_s: float = 10.0  #: seconds between the polite and the hard signal, for tasks without their own
    params: Mapping[str, Any] = EMPTY_MAPPING
    logical_date: float | None = None
    observers: Sequence[Observer] = ()
    claim_children: bool = False
    done: Mapping[str, float] = EMPTY_MAPPING  #: for a new run: tasks that succeeded elsewhere, with their seconds
    secrets: Secrets | None = None  #: never stored: a resumed run gets them again
    timeout_s: float | None = None
    parks: bool = (
        False  #: whether it ends, to be resumed later, when only waits are left that last for a minute or more
    )
    retry: RetryPolicy = NEVER  #: of the run as a whole
    concurrency: Concurrency | None = None  #: its group is named
    backends: Mapping[str, BackendFactory] = EMPTY_MAPPING  #: modes that the engine does not have
    clusters: Mapping[str, Any] = EMPTY_MAPPING  #: see `limits.DagLimits`; a name is a mode, and that of a place
    max_lost: int = MAX_LOST  #: how often an instance is started again because its process or its place died
    selected: Collection[int] | None = None  #: of a new run: the numbers of the tasks that run; None: all
    copied: CopiedResults | None = None  #: for a new run: results of another run
    outputs: Callable[[], Mapping[str, Any]] | None = None  #: of a run that has succeeded; None: it has none
    parent: ParentTask | None = None  #: the task that executes it, if it is a child run
    rerun: Rerun | None = None  #: of a run that is claimed: the tasks that run again
