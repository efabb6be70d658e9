"""Execute a dag: its tasks run in threads, in processes or on an event loop, as many at once as there are workers.

The engine has a backend for each mode and uses those that the tasks of the dag need; commands always run as
processes. The caller decides whether everything that this program starts ends with the run (`claim_children`).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from lightflow.engine.choices import ALL_TASKS, RESUME, RerunOptions, SelectionOptions
from lightflow.spec.model import Settings
from liteflow import Concurrency, Dag, DagRun, Observer
from liteflow.api import EMPTY_MAPPING, BackendFactory, ParentTask, Record


class ExecutionOptions(Record):
    """How the tasks of a dag are executed."""

    mode: str  #: where Python tasks run: "thread", "process", "async" or one of `backends`; a task may override it
    max_workers: int  #: the maximum number of tasks that run at once
    log_dir: str | None = None  #: the folder for the output of tasks
    fail_fast: bool = False  #: whether the first task that fails ends the run
    observers: Sequence[Observer] = ()
    backends: Mapping[str, BackendFactory] = EMPTY_MAPPING  #: further modes by name
    concurrency: Concurrency | None = None  #: overrides that of the dag
    #: whether every process that this program starts ends with the run: only for a program that exists for one run
    claim_children: bool = False
    park: bool = False  #: whether the run ends, to be resumed later, when only long waits are left
    parent: ParentTask | None = None  #: the task that executes it, if it is a child run


def options_for(
    settings: Settings,
    *,
    mode: str | None = None,
    max_workers: int | None = None,
    log_dir: str | None = None,
    fail_fast: bool | None = None,
    observers: Sequence[Observer] = (),
    claim_children: bool = False,
    park: bool = False,
) -> ExecutionOptions:
    """Return the options for a workflow: its settings, overridden by the arguments that are not None."""
    return ExecutionOptions(
        mode=mode or settings.mode,
        max_workers=max_workers or settings.max_parallel_tasks,
        log_dir=log_dir or settings.log_dir,
        fail_fast=settings.fail_fast if fail_fast is None else fail_fast,
        observers=observers,
        claim_children=claim_children,
        park=park,
    )


def execute(
    dag: Dag,
    options: ExecutionOptions,
    *,
    run_id: str | None = None,
    params: Mapping[str, Any] | None = None,
    secrets: Mapping[str, str] | None = None,
    logical_date: float | None = None,
    done: Mapping[str, float] | None = None,
    selection: SelectionOptions = ALL_TASKS,
) -> DagRun:
    """Execute a new run of the dag and return it when it has ended, with any status.

    `done` has tasks that count as successful, with the seconds they took. A
    signal that interrupts the run is not raised; the run has it as `signal`.
    """
    return dag.run(
        options.max_workers,
        options.mode,
        run_id=run_id,
        params=params,
        secrets=secrets,
        logical_date=logical_date,
        log_dir=options.log_dir,
        fail_fast=options.fail_fast,
        observers=options.observers,
        backends=options.backends,
        done=done,
        concurrency=options.concurrency,
        raise_signals=False,
        claim_children=options.claim_children,
        park=options.park,
        parent=options.parent,
        only=selection.only,
        start=selection.start,
        until=selection.until,
        skip=selection.skip,
        values_from=selection.values_from,
    )


def resume(
    dag: Dag,
    run_id: str,
    options: ExecutionOptions,
    rerun: RerunOptions = RESUME,
    *,
    secrets: Mapping[str, str] | None = None,
) -> DagRun:
    """Resume a run of the dag, or run a part of it again, and return it when it has ended (see `Dag.retry`)."""
    return dag.retry(
        run_id,
        rerun.start,
        only=rerun.only,
        changed=rerun.changed,
        ignore_upstream=rerun.ignore_upstream,
        secrets=secrets,
        **_resume_options(options),
    )


def fork(
    dag: Dag,
    run_id: str,
    options: ExecutionOptions,
    start: Sequence[str],
    *,
    params: Mapping[str, Any],
    new_run_id: str | None = None,
    secrets: Mapping[str, str] | None = None,
) -> DagRun:
    """Execute a new run that begins in the middle of another one (see `Dag.fork`)."""
    return dag.fork(run_id, start, params=params, new_run_id=new_run_id, secrets=secrets, **_resume_options(options))


def _resume_options(options: ExecutionOptions) -> dict[str, Any]:
    """Return the arguments of `Dag.resume`."""
    return {
        "max_workers": options.max_workers,
        "mode": options.mode,
        "log_dir": options.log_dir,
        "fail_fast": options.fail_fast,
        "observers": options.observers,
        "backends": options.backends,
        "raise_signals": False,
        "claim_children": options.claim_children,
        "park": options.park,
        "parent": options.parent,
    }
