"""The configuration of a run: where its state is stored, how many tasks run at once, and what it is given."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from liteflow.definition.compiled import CompiledDag
from liteflow.executors.protocol import BackendFactory
from liteflow.limits import Concurrency
from liteflow.planning.retry import NEVER, RetryPolicy
from liteflow.record import EMPTY_MAPPING, Record
from liteflow.running.observers import Observer, RunStart
from liteflow.states import TaskStatus
from liteflow.values.secrets import Secrets


class RunConfig(Record):
    """How to run a dag. Paths are absolute, durations are seconds."""

    db_path: str
    run_id: str
    mode: str = "process"
    max_workers: int = 4
    log_dir: str | None = None  #: None: the output of tasks goes where the output of the program goes
    durability: str = "process"
    fail_fast: bool = False
    grace_s: float = 10.0
    params: Mapping[str, Any] = EMPTY_MAPPING
    logical_date: float | None = None
    observers: Sequence[Observer] = ()
    claim_children: bool = False
    done: Mapping[str, float] = EMPTY_MAPPING  #: for a new run: tasks that succeeded elsewhere, with their seconds
    secrets: Secrets | None = None  #: never stored: a resumed run gets them again
    timeout_s: float | None = None
    retry: RetryPolicy = NEVER  #: of the run as a whole
    place: Concurrency | None = None  #: the group of runs, with its name
    backends: Mapping[str, BackendFactory] = EMPTY_MAPPING  #: modes that the engine does not have


def run_start(program: CompiledDag, options: RunConfig, finished: Mapping[int, TaskStatus]) -> RunStart:
    """Return what observers learn when a run starts. `finished` has the tasks by number."""
    ids = program.graph.ids
    return RunStart(
        run_id=options.run_id,
        dag_id=program.dag_id,
        db_path=options.db_path,
        log_dir=options.log_dir,
        mode=options.mode,
        max_workers=options.max_workers,
        task_ids=ids,
        mapped_tasks=frozenset(ids[node] for node in program.mapped()),
        has_hooks=program.has_hooks(),
        finished={ids[node]: status for node, status in finished.items()},
    )
