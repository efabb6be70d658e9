"""The API to define and run a dag.

with Dag("etl") as dag:
    a = dag.task(extract)
    b = dag.task(transform, data=a, retries=2)
run = dag.run(max_workers=4, mode="process")
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import Token
from types import MappingProxyType
from typing import Any

from liteflow.dagrun import DagRun
from liteflow.definition.compile import compile_dag
from liteflow.definition.compiled import CompiledDag
from liteflow.definition.decorators import current_dag
from liteflow.definition.discovery import ScriptStopped, discovered_dags, this_script
from liteflow.definition.stored_tasks import StoredTasks
from liteflow.definition.task import CurrentDag, Task, check_id, check_param, hook_tasks
from liteflow.errors import DefinitionError, LiteflowError, RunNotFound, RunSkipped
from liteflow.executors import BackendFactory
from liteflow.gc_pause import gc_paused
from liteflow.limits import (
    Concurrency,
    DagLimits,
    Pool,
    Retention,
    checked_clusters,
    checked_max_lost,
    checked_retention,
    checked_timeout,
    normalize_concurrency,
    normalize_pools,
    normalize_retry,
)
from liteflow.planning.graph import Graph
from liteflow.planning.rerun import Rerun
from liteflow.planning.retry import MAX_LOST, NEVER, RetryPolicy
from liteflow.planning.selection import Selection
from liteflow.record import replace
from liteflow.reruns import DagReruns
from liteflow.running.arguments import limits_of_run, moment_of, new_run_id, triggers_of, worker_count
from liteflow.running.config import RunConfig
from liteflow.running.host_signals import deferred_host_signals
from liteflow.running.observers import Observer
from liteflow.running.run import run as run_compiled
from liteflow.state.history import DagRecord, History, RunRecord
from liteflow.state.records import ParentTask
from liteflow.state.state_file import current_folder, real_path
from liteflow.states import Status
from liteflow.values.dates import Day, check_moment
from liteflow.values.params import declared, resolve, restored
from liteflow.values.secrets import Secret, Secrets, declared_secrets, resolve_secrets
from liteflow.waiting_tasks import WaitingTasks
from liteflow.work import Body, Call, Command


class Dag(WaitingTasks, DagReruns):
    """A named set of tasks and the dependencies between them.

    Args:
        dag_id: 1 to 128 letters, digits, `_`, `.` or `-`.
        db_path: the state file; created when needed.
        description: a text for people.
        params: the parameters of its runs by name: plain values are defaults, `Param`s also declare types and limits.
            Without it a run takes any values.
        secrets: what its runs fetch when they start and never store: `Secret`s, and names of environment variables.
        on_start, on_success, on_failure, on_cancel, on_exit: hooks of the run: bodies, and functions that are called
            with no argument or the context: before all tasks; after all tasks, by the state of the run; and last.
        pools: named slots that all runs of the state file share, by name: sizes, or `Pool`s (see `limits`).
        clusters: other machines by name (see `lightflow.clusters`). The name is a mode of runs and tasks of the dag.
        max_lost: how often a task is started again because its process or its machine died, before it is FAILED.
        timeout: seconds a run may take; after that its running tasks are ended and the run is FAILED.
        retry: how often a failed run resumes by itself, and after which delay.
        concurrency: how many runs may be active at once, and what happens to one more: a `Concurrency`, a limit, or
            the name of a group.
        schedule: what starts runs while `lightflow serve` runs: a cron expression, a `Schedule`, `FileTrigger`,
            `WebhookTrigger` or `WorkflowTrigger`, or a list of them.
        retention: which old runs are preserved; the others are deleted after each run. None: all are.
    """

    def __init__(
        self,
        dag_id: str,
        db_path: str = "liteflow.db",
        description: str = "",
        params: Mapping[str, Any] | None = None,
        secrets: Sequence[str | Secret] = (),
        *,
        pools: Mapping[str, int | Pool] | None = None,
        clusters: Mapping[str, Any] = MappingProxyType({}),
        max_lost: int = MAX_LOST,
        timeout: float | None = None,
        retry: RetryPolicy | int = NEVER,
        concurrency: Concurrency | int | str | None = None,
        schedule: Any = None,
        retention: Retention | None = None,
        on_start: Callable[..., Any] | Body | None = None,
        on_success: Callable[..., Any] | Body | None = None,
        on_failure: Callable[..., Any] | Body | None = None,
        on_cancel: Callable[..., Any] | Body | None = None,
        on_exit: Callable[..., Any] | Body | None = None,
    ) -> None:
        functions = {
            "on_start": on_start,
            "on_success": on_success,
            "on_failure": on_failure,
            "on_cancel": on_cancel,
            "on_exit": on_exit,
        }
        #: the hooks of the run, by event
        self.hooks: dict[str, Task] = hook_tasks({event: func for event, func in functions.items() if func is not None})
        super().__init__(dag_id)
        self.db_path = str(db_path)
        self.description = description
        self.params = None if params is None else declared(params)
        self.secrets = declared_secrets(secrets)
        self.limits = DagLimits(
            pools=normalize_pools(pools or {}),
            clusters=checked_clusters(clusters),
            max_lost=checked_max_lost(max_lost),
            timeout_s=checked_timeout(timeout),
            retry=normalize_retry(retry),
            concurrency=normalize_concurrency(concurrency),
            triggers=triggers_of(schedule),
            retention=checked_retention(retention),
        )
        #: the file that defines the dag; None: the program that runs
        self.source: str | None = None
        self._resolved_path = ("", "")  # `db_path`, and the absolute path it had when it was first used
        self._tokens: list[Token[CurrentDag | None]] = []
        if (dags := discovered_dags.get()) is not None:
            dags.append(self)

    def __enter__(self) -> Dag:
        self._tokens.append(current_dag.set(self))
        return self

    def __exit__(self, *_: object) -> None:
        current_dag.reset(self._tokens.pop())

    def __repr__(self) -> str:
        return f"<Dag {self.dag_id!r}: {len(self.tasks)} tasks>"

    def compile(self) -> CompiledDag:
        """Return the dag in the form that the loop runs.

        Raises:
            DefinitionError: see `graph` and `compile_dag`.
        """
        limits = self.limits
        if self._stored is not None:
            limits = replace(limits, pools={**self._stored.pools(), **limits.pools})
        nodes = self._nodes()
        return compile_dag(
            self.dag_id,
            nodes,
            Graph(nodes.dependencies),
            description=self.description,
            source=self.source or this_script(),
            hooks=self.hooks,
            secrets=self.secrets,
            limits=limits,
        )

    # -- running -------------------------------------------------------------------------------------------

    def run(
        self,
        max_workers: int | None = None,
        mode: str = "process",
        *,
        run_id: str | None = None,
        params: Mapping[str, Any] | None = None,
        secrets: Mapping[str, str] | None = None,
        logical_date: float | Day | None = None,
        log_dir: str | None = None,
        fail_fast: bool = False,
        durability: str = "process",
        observers: Sequence[Observer] = (),
        done: Mapping[str, float] | None = None,
        timeout: float | None = None,
        retry: RetryPolicy | int | None = None,
        concurrency: Concurrency | int | str | None = None,
        raise_signals: bool = True,
        claim_children: bool = False,
        park: bool = False,
        backends: Mapping[str, BackendFactory] = MappingProxyType({}),
        only: Sequence[str] = (),
        start: Sequence[str] = (),
        until: Sequence[str] = (),
        skip: Sequence[str] = (),
        values_from: str | None = None,
        parent: ParentTask | None = None,
    ) -> DagRun:
        """Run all tasks, or those that are selected, and return the run in any state; `raise_for_failure()` raises.

        Args:
            max_workers: how many tasks run at once; the default depends on the mode (`liteflow.modes.DEFAULT_SLOTS`).
            mode: "process", "thread", "async", "inline" (one by one in this thread, to debug), or one of `backends`.
            run_id: the id of the run; by default a new unique id.
            params: values for the context of the tasks. If the dag declares parameters, the values are checked and
                completed with its defaults.
            secrets: values of declared secrets; the other secrets are fetched.
            logical_date: the day or moment that the run is for, as a date or in epoch seconds. Tasks find it in their
                context, and the words `today` and `yesterday` in parameters start from it.
            log_dir: the folder of the logs, one file per attempt; None: output goes to the terminal.
            fail_fast: the first task that fails for good ends the run.
            durability: "process" survives the crash of any process; "power" also a power cut (it syncs each step).
            observers: objects that are called with the events of the run (see `Observer`).
            done: tasks that count as succeeded, with the seconds they took; they do not run and have no value.
            timeout, retry, concurrency: override those of the dag.
            raise_signals: whether a signal that interrupted the run is raised again once the run is stored; otherwise
                only the `signal` of the run shows it.
            claim_children: this program exists only for the run, so the end of the run ends all processes that the
                program has started, also if it is killed. All that workers and commands start is ended, too.
            park: end the run as INTERRUPTED when only tasks are left that wait for a minute or more, so that no process
                stays: `resume` continues it. The reason says until when it waits.
            backends: more modes by name, each with a function that opens a `liteflow.executors.Backend`.
            only, start, until, skip: names of tasks: these alone; these and all that follows them; these and all that
                they need; not these. The other tasks are SKIPPED and count as a success.
            values_from: the run whose values of tasks that are not selected are read.
            parent: the task of another run that executes this child run (see `Dag.workflow`).

        Raises:
            DefinitionError: the graph or an argument is not valid; nothing ran. ParamError: a parameter. SecretError: a
                secret cannot be fetched.
            StoreError, ResourceError: the state file.
            KeyboardInterrupt: by Ctrl-C, once the tasks are stopped and the run is stored as INTERRUPTED.
        """
        compiled, moment = self._compile_for_run(), moment_of(logical_date)
        values, path = self._checked_params(params or {}, moment), self._state_file_for_run()
        new_id = check_id(run_id if run_id is not None else new_run_id(), "run id")
        selection = Selection(only=only, start=start, until=until, skip=skip, values_from=values_from)
        selected, copied = None, None
        if selection or values_from is not None:
            from liteflow.running.partial_run import copied_values, selected_tasks  # most runs do not need it

            selected = selected_tasks(compiled, selection)
            copied = copied_values(compiled, selected, selection, path, new_id)
        config = RunConfig(
            db_path=path,
            run_id=new_id,
            mode=mode,
            max_workers=worker_count(max_workers, mode, {**backends, **self.limits.clusters}),
            log_dir=None if log_dir is None else os.path.abspath(log_dir),
            durability=durability,
            fail_fast=fail_fast,
            params=values,
            logical_date=moment,
            observers=observers,
            claim_children=claim_children,
            parks=park,
            backends=backends,
            done={name: seconds for name, seconds in (done or {}).items() if name in self.tasks},
            secrets=self._fetched_secrets(secrets, values),
            selected=selected,
            copied=copied,
            parent=parent,
            **limits_of_run(self.limits, self.dag_id, timeout, retry, concurrency),
        )
        return self._execute(compiled, config, resume=False, raise_signals=raise_signals)

    def resume(
        self,
        run_id: str | None = None,
        max_workers: int | None = None,
        mode: str | None = None,
        *,
        secrets: Mapping[str, str] | None = None,
        log_dir: str | None = None,
        fail_fast: bool = False,
        durability: str = "process",
        observers: Sequence[Observer] = (),
        timeout: float | None = None,
        retry: RetryPolicy | int | None = None,
        concurrency: Concurrency | int | str | None = None,
        raise_signals: bool = True,
        claim_children: bool = False,
        park: bool = False,
        backends: Mapping[str, BackendFactory] = MappingProxyType({}),
        rerun: Rerun | None = None,
        parent: ParentTask | None = None,
    ) -> DagRun:
        """Resume a run that failed, was cancelled or interrupted, or whose process died: by default the latest.

        Tasks that succeeded, and tasks that skipped themselves, keep their results. All others run, with their full
        time and all their retries; so does a setup that was torn down and that one of them needs. A run that succeeded
        is returned as it is. Secrets are fetched again. The arguments are those of `run`; the mode, the number of
        workers and the log folder are those of the run by default. `rerun`: see `retry`.

        Raises:
            RunNotFound: there is no such run.
            RunOwned: another process runs it.
            All others: as `run`.
        """
        path = self._state_file_for_run()
        previous = self._previous_run(path, run_id)
        if previous.status == Status.SUCCESS and rerun is None:
            return DagRun.from_record(path, previous)
        compiled, settings = self._compile_for_run(), previous.settings
        mode = mode or str(settings.get("mode", "process"))
        workers = max_workers if max_workers is not None else settings.get("max_workers")
        config = RunConfig(
            db_path=path,
            run_id=previous.run_id,
            mode=mode,
            max_workers=worker_count(workers, mode, {**backends, **self.limits.clusters}),
            log_dir=os.path.abspath(log_dir) if log_dir is not None else settings.get("log_dir"),
            durability=durability,
            fail_fast=fail_fast,
            params=self._restored_params(previous),
            logical_date=previous.logical_date,
            observers=observers,
            claim_children=claim_children,
            parks=park,
            backends=backends,
            secrets=self._fetched_secrets(secrets, {}),
            rerun=rerun,
            parent=parent,
            **limits_of_run(self.limits, self.dag_id, timeout, retry, concurrency),
        )
        return self._execute(compiled, config, resume=True, raise_signals=raise_signals)

    def _state_file_for_run(self) -> str:
        """Return the absolute path of the state file. Raises DefinitionError where the current folder is gone."""
        current_folder()  # a run stores it, and relative paths of tasks start from it
        return self._state_file()

    def _compile_for_run(self) -> CompiledDag:
        """Return the compiled dag. Stop the script where its dags are only being discovered."""
        if discovered_dags.get() is not None:
            raise ScriptStopped
        if self._stored is not None:
            self._stored.check_attached(self.tasks, self.source)
        with gc_paused():
            return self.compile()

    def _checked_params(self, params: Mapping[str, Any], moment: float | None) -> Mapping[str, Any]:
        for name, value in params.items():
            check_param(name, value)
        return params if self.params is None else resolve(self.params, params, moment)

    def _previous_run(self, path: str, run_id: str | None) -> RunRecord:
        """Return the run to resume. Raises RunNotFound or DefinitionError."""
        with History(path) as history:
            previous = history.run(run_id) if run_id is not None else history.latest(self.dag_id)
        if previous.dag_id != self.dag_id:
            raise RunNotFound(f"run {previous.run_id} is of dag {previous.dag_id!r}, not of {self.dag_id!r}")
        try:
            check_moment(previous.logical_date)
        except ValueError as error:
            raise DefinitionError(f"run {previous.run_id} cannot be resumed: its logical_date {error}") from None
        return previous

    def _restored_params(self, previous: RunRecord) -> Mapping[str, Any]:
        if self.params is None:
            return previous.params
        return restored(self.params, previous.params, previous.logical_date)

    def _fetched_secrets(self, secrets: Mapping[str, str] | None, params: Mapping[str, Any]) -> Secrets | None:
        return resolve_secrets(self.secrets, secrets, params) if self.secrets or secrets else None

    def _execute(self, compiled: CompiledDag, config: RunConfig, *, resume: bool, raise_signals: bool) -> DagRun:
        config = replace(config, outputs=self._computed_outputs(config.db_path, config.run_id))
        with deferred_host_signals() as signal_gate:
            token = current_dag.set(None)  # within a task, a decorated function is just a function
            try:
                result = run_compiled(compiled, config, resume=resume, signal_gate=signal_gate)
            except RunSkipped as error:
                return DagRun(config.db_path, config.run_id, self.dag_id, "SKIPPED", time.time(), reason=str(error))
            finally:
                current_dag.reset(token)
            with History(config.db_path) as history:
                run = DagRun.from_record(config.db_path, history.run(config.run_id))
        run.signal, run.timed_out = result.signal, result.timed_out
        if self.limits.retention is not None and result.status != Status.INTERRUPTED:
            self._prune_after(run, self.limits.retention)
        if result.status == Status.INTERRUPTED and result.signal is not None and raise_signals:
            # The handlers of the host program were not called while the run was being stopped: now they are.
            signal.raise_signal(result.signal)
        return run

    def _prune_after(self, run: DagRun, retention: Retention) -> None:
        """Delete old runs after a run. A failure of it does not change the result of the run."""
        from liteflow.state.retention import prune_after_run  # here, because other dags do not need it

        try:
            prune_after_run(run.db_path, retention, self.dag_id, run.run_id)
        except LiteflowError as error:
            import logging

            logging.getLogger(__name__).warning("old runs were not deleted: %s", error)

    # -- the state file --------------------------------------------------------------------------------------

    @classmethod
    def load(cls, db_path: str, dag_id: str) -> Dag:
        """Return a stored dag, to look at its runs. It has no code; `attach` gives it code, so that it can run.

        Raises:
            RunNotFound: the file has no such dag.
        """
        with History(db_path) as history:
            record = history.dag(dag_id)
        if record is None:
            raise RunNotFound(f"{db_path}: there is no dag {dag_id!r}")
        return cls._from_record(record, db_path)

    def attach(self, *functions: Callable[..., Any] | Mapping[str, Callable[..., Any] | Body]) -> Dag:
        """Give a loaded dag the code of its tasks: functions by their own names, or a mapping of ids to functions.

        Dependencies, the tasks whose values parameters take, and options are as they are stored. Other arguments and
        options are given where a task is added: `dag.task(transform, factor=3)`. Returns the dag.

        Raises:
            DefinitionError: there is no such task, or other code of it is missing too: hooks, `run_if`, a list.
        """
        if self._stored is None:
            raise DefinitionError(f"dag {self.dag_id!r} was not loaded from a state file; add tasks with dag.task(…)")
        pairs: list[tuple[str, Any]] = []
        for item in functions:
            pairs += item.items() if isinstance(item, Mapping) else [(str(getattr(item, "__name__", "")), item)]
        for task_id, code in pairs:
            self._stored.check_id(task_id)
            if isinstance(code, Command | Call):
                self.add_task(Task(task_id, body=code))
            elif callable(code):
                self.task(code, task_id)
            else:
                raise DefinitionError(f"task {task_id!r}: {code!r} must be a function, a Command or a Call")
        return self

    @classmethod
    def _from_record(cls, record: DagRecord, db_path: str) -> Dag:
        dag = cls(record.dag_id, db_path, record.description)
        dag.source, dag._stored = record.source, StoredTasks(db_path, record.dag_id)
        return dag

    @classmethod
    def all_dags(cls, db_path: str) -> list[Dag]:
        """Return all dags of a state file, by id, as `load` does."""
        with History(db_path) as history:
            records = history.dags()
        return [cls._from_record(record, db_path) for record in records]

    @classmethod
    def delete_dag(cls, db_path: str, dag_id: str) -> int:
        """Delete a dag with all its runs, values and large files. Return the number of deleted runs.

        Raises:
            RunNotFound: there is no such dag.
            RunOwned: one of its runs is running; nothing was deleted.
        """
        with History(db_path) as history:
            run_ids = list(history.run_ids(dag_id))
            if history.dag(dag_id) is None and not run_ids:
                raise RunNotFound(f"{db_path}: there is no dag {dag_id!r}")
        from liteflow.state.deletion import delete_runs  # here, because a run does not need it

        delete_runs(db_path, run_ids, dag_id)
        return len(run_ids)

    def runs(self, limit: int = 20) -> list[DagRun]:
        """Return the runs of the dag, the newest first."""
        path = self._state_file()
        with History(path) as history:
            return [DagRun.from_record(path, record) for record in history.runs(self.dag_id, limit=limit)]

    def _state_file(self) -> str:
        """Return the absolute path of the state file. A task in a thread that changes the folder does not change it."""
        if self._resolved_path[0] != self.db_path:
            self._resolved_path = (self.db_path, real_path(self.db_path))
        return self._resolved_path[1]
