"""The API people type to define and run a dag.

with Dag("etl") as dag:
    a = dag.task(extract)
    b = dag.task(transform, data=a, retries=2)
    a >> b
run = dag.run(max_workers=4, mode="process")
"""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from contextvars import Token
from typing import Any, Final

from liteflow.dagrun import DagRun
from liteflow.definition.collecting import Collected, collector, this_script
from liteflow.definition.commands import shell_command
from liteflow.definition.compile import compile_dag
from liteflow.definition.compiled import CompiledDag
from liteflow.definition.graph_json import restore_task
from liteflow.definition.options import OPTION_NAMES, TaskOptions, make_options
from liteflow.definition.tasks import (
    Building,
    Partial,
    Task,
    TaskFunction,
    building,
    check_id,
    check_known,
    hook_tasks,
    mapped,
)
from liteflow.errors import DefinitionError, DuplicateTask, RunNotFound, RunSkipped
from liteflow.gc_pause import gc_paused
from liteflow.limits import Concurrency, Pool, checked_timeout, normalize_concurrency, normalize_pools, normalize_retry
from liteflow.planning.graph import Graph
from liteflow.planning.retry import NEVER, RetryPolicy
from liteflow.running.host_signals import deferring
from liteflow.running.observers import Observer, RunConfig
from liteflow.running.run import run as run_program
from liteflow.state.deletion import delete_runs
from liteflow.state.history import DagRecord, History
from liteflow.state.state_file import connect, real_path
from liteflow.states import Status
from liteflow.values.dates import Day, checked, epoch_of
from liteflow.values.params import declared, resolve, restored
from liteflow.values.secrets import Secret, declared_secrets, resolve_secrets
from liteflow.work import KEYWORDS, MODES, Body, Call, Command

DEFAULT_WORKERS: Final = {"thread": 4, "process": 4, "async": 1000, "inline": 1}


def init_schema(db_path: str = "liteflow.db") -> None:
    """Make the state file, or bring it up to date; harmless to repeat. `Dag.run` does it too.

    Raises:
        StoreError: the file cannot be written, or is not ours.
    """
    connect(real_path(db_path)).close()


class Dag(Building):
    """Tasks and what waits for what, under a name.

    Args:
        dag_id: 1 to 128 letters, digits, `_`, `.` or `-`.
        db_path: the state file; made when needed.
        description: for people.
        params: the parameters of its runs by name: plain values that are defaults, or `Param`s. Without them a run
            takes any values.
        secrets: what its runs fetch when they start and never store: `Secret`s, and names of environment variables.
        on_start, on_success, on_failure, on_cancel, on_exit: hooks, functions that are called with nothing or with the
            context: before all tasks; when all have ended, by the run's state; and last, whatever that is.
        pools: named slots that all runs of the state file share, by name: sizes, or `Pool`s (see `limits`).
        timeout: seconds a run may take; then what runs is ended and the run is FAILED.
        retry: how often a run that has failed goes on by itself, as `resume` would, and after which wait.
        concurrency: how many runs go on at once, and what becomes of one too many: a `Concurrency`, a limit, a group.
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
        timeout: float | None = None,
        retry: RetryPolicy | int = NEVER,
        concurrency: Concurrency | int | str | None = None,
        on_start: Callable[..., Any] | None = None,
        on_success: Callable[..., Any] | None = None,
        on_failure: Callable[..., Any] | None = None,
        on_cancel: Callable[..., Any] | None = None,
        on_exit: Callable[..., Any] | None = None,
    ) -> None:
        given = {
            "on_start": on_start,
            "on_success": on_success,
            "on_failure": on_failure,
            "on_cancel": on_cancel,
            "on_exit": on_exit,
        }
        #: the run's own, by event
        self.hooks: dict[str, Task] = hook_tasks({event: func for event, func in given.items() if func is not None})
        self.dag_id = check_id(dag_id, "dag id")
        self.db_path = str(db_path)
        self._anchor = ("", "")  # `db_path`, and where that led when it was first used
        self.description = description
        self.params = None if params is None else declared(params)
        self.secrets = declared_secrets(secrets)
        self.pools: Mapping[str, Pool] = normalize_pools(pools or {})
        self.timeout = checked_timeout(timeout)
        self.retry = normalize_retry(retry)
        self.concurrency = normalize_concurrency(concurrency)
        self.tasks: dict[str, Task] = {}
        self.source: str | None = None
        self._loaded = False
        self._rows: Mapping[str, Mapping[str, Any]] | None = None  # of a loaded dag: what is stored of its tasks
        self._tokens: list[Token[Building | None]] = []
        found = collector.get()
        if found is not None:
            found.append(self)

    def __enter__(self) -> Dag:
        self._tokens.append(building.set(self))
        return self

    def __exit__(self, *_: object) -> None:
        building.reset(self._tokens.pop())

    def __repr__(self) -> str:
        return f"<Dag {self.dag_id!r}: {len(self.tasks)} tasks>"

    # -- defining ------------------------------------------------------------------------------------------

    def task(self, func: Callable[..., Any] | None = None, task_id: str | None = None, **kwargs: Any) -> Any:
        """Add a task and return it; also a decorator: `@dag.task` or `@dag.task(retries=2)`.

        `task_id` defaults to the function's name. Keywords that are options (see `TaskOptions`) configure the task,
        all others are arguments of the function; a Task among them, at any depth, stands for its return value and
        is waited for. A parameter that is given no value and has the name of another task receives that task's value.

        Raises:
            DuplicateTask: the id is taken.
            DefinitionError: an argument the function does not take, or an option that makes no sense.
        """
        if func is None:
            return lambda function: self.task(function, task_id, **kwargs)
        return self._add(*_named(func, task_id, kwargs), kwargs)

    def shell(
        self,
        script: str,
        task_id: str | None = None,
        *,
        env: Mapping[str, Any] | None = None,
        cwd: str | os.PathLike[str] | None = None,
        shell: str | Sequence[str] | None = None,
        output: str | None = None,
        depends_on: Any = (),
        expand: Mapping[str, Any] | None = None,
        skip_on_exit_codes: Sequence[int] = (),
        **options: Any,
    ) -> Task:
        """Add a shell script as a task and return it: `dag.shell("make report", task_id="report")`.

        A script stops at its first line that fails.

        Args:
            script: one line or several. Values of other tasks are not put into it; they are variables.
            task_id: "shell" if not given, then "shell__1", and so on.
            env: variables; a task, or one of its outputs, stands for its value, and is waited for:
                `dag.shell('echo "$ROWS"', env={"ROWS": count.output("rows")})`. Lists and mappings arrive as JSON.
            cwd: the folder, from the current one on.
            shell: the name of a shell (`/bin/sh` if not given), or the words that come before the script, as written.
            output: "last_line" or "json": what it prints is its return value. That needs a `log_dir`.
            depends_on: a task, or several, to wait for.
            expand: lists by the name of a variable: an instance for each item (see `Partial.expand`).
            skip_on_exit_codes: exit codes that make the task SKIPPED.
            options: see `TaskOptions`.

        Raises:
            DuplicateTask: the id is taken.
            DefinitionError: an argument or an option makes no sense.
        """
        name = task_id if task_id is not None else self._free_name("shell")
        chosen = make_options(options, name)
        variables, expansion = dict(env or {}), None
        if expand is not None:
            if twice := expand.keys() & variables.keys():
                raise DefinitionError(f"task {name!r}: variable {min(twice)!r} is given by env and by expand")
            expansion, variables = mapped(expand, variables, chosen.map_key, name)
        command = shell_command(
            script, name, env=variables, cwd=cwd, shell=shell, output=output, skip_on_exit_codes=skip_on_exit_codes
        )
        task = Task(name, body=command, options=chosen, expansion=expansion)
        task << depends_on
        return self.add_task(task)

    def partial(self, func: Callable[..., Any], task_id: str | None = None, **kwargs: Any) -> Partial:
        """A task that is mapped over a list: `dag.partial(load, day=today, retries=2).expand(file=files)`.

        Takes what `task` takes; nothing is added before `expand` or `expand_kwargs` is called on it.
        """
        named = _named(func, task_id, kwargs)
        return Partial(lambda lists: self._add(*named, kwargs, lists))

    def branch(self, func: Callable[..., Any] | None = None, task_id: str | None = None, **kwargs: Any) -> Any:
        """As `task`, for a function that returns which of the tasks directly below go on: an id, a list, or None."""
        return self.task(func, task_id, branch=True, **kwargs)

    def short_circuit(self, func: Callable[..., Any] | None = None, task_id: str | None = None, **kwargs: Any) -> Any:
        """As `task`, for a function that returns whether what follows shall run."""
        return self.task(func, task_id, short_circuit=True, **kwargs)

    def add_call(
        self,
        func: Callable[..., Any],
        task_id: str | None,
        options: TaskOptions,
        arguments: Mapping[str, Any],
        lists: Mapping[str, Any] | None = None,
    ) -> Task:
        """Add a call of a decorated function; a second call of the same one becomes `name__1`, and so on."""
        return self._add(func, self._free_name(task_id or func.__name__), options, arguments, lists)

    def _free_name(self, base: str) -> str:
        name, number = base, 0
        while name in self.tasks:
            number += 1
            name = f"{base}__{number}"
        return name

    def _add(
        self,
        func: Callable[..., Any],
        name: str,
        options: TaskOptions,
        arguments: Mapping[str, Any],
        lists: Mapping[str, Any] | None = None,
    ) -> Task:
        expansion = None
        if lists is not None:
            expansion, arguments = mapped(lists, arguments, options.map_key, name)
        task = Task(name, func, bound_args=arguments, options=options, expansion=expansion)
        parameters = task.parameters
        given = [key for key in arguments if key != KEYWORDS]
        unknown = [key for key in given if key not in parameters.names] if not parameters.any_name else []
        if unknown:
            import difflib

            near = difflib.get_close_matches(unknown[0], [*parameters.names, *OPTION_NAMES], n=1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            raise DefinitionError(f"task {name!r}: its function takes no argument {unknown[0]!r}{hint}")
        self.add_task(task)
        self._fill(task)
        return task

    def add_task(self, task: Task) -> Task:
        """Add a ready-made task.

        Raises:
            DuplicateTask: the id is taken.
        """
        if task.task_id in self.tasks:
            raise DuplicateTask(f"dag {self.dag_id!r} has a task {task.task_id!r} already; give one of them a task_id")
        if self._loaded and (row := self._stored().get(task.task_id)) is not None:
            restore_task(task, row)
        self.tasks[task.task_id] = task
        return task

    def _fill(self, task: Task) -> frozenset[str]:
        """Fill parameters by the names of upstream tasks; returns those that still have no value."""
        parameters = task.parameters
        if not parameters.names:
            return parameters.required
        for name in parameters.names:
            given = name in task.bound_args or name in task.arg_dependencies or KEYWORDS in task.bound_args
            if not given and name in self.tasks and name != task.task_id:
                task.bind(name, self.tasks[name])
        if KEYWORDS in task.bound_args:
            return frozenset()  # which arguments the rows give is known when they are
        return parameters.required - task.bound_args.keys() - task.arg_dependencies.keys()

    def graph(self) -> Graph:
        """The checked graph.

        Raises:
            CycleError, UnknownDependency: see `Graph`.
            DefinitionError: a parameter has no value.
        """
        for task in self.tasks.values():
            missing = self._fill(task)
            if missing:
                raise DefinitionError(
                    f"task {task.task_id!r}: parameter {min(missing)!r} has no value, and no task has that name"
                )
        return Graph({task_id: task.dependencies for task_id, task in self.tasks.items()})

    def program(self) -> CompiledDag:
        """The dag in the form the loop runs.

        Raises:
            DefinitionError: see `graph`.
        """
        source = self.source or this_script()
        return compile_dag(
            self.dag_id,
            self.tasks,
            self.graph(),
            description=self.description,
            source=source,
            hooks=self.hooks,
            secrets=self.secrets,
            pools=self.pools,
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
    ) -> DagRun:
        """Run all tasks and return the run, whatever its status; `raise_for_failure()` raises.

        Args:
            max_workers: how many tasks run at once (default 4; 1000 in mode "async").
            mode: "process", "thread", "async" or "inline" (one by one in the calling thread, for debugging).
            run_id: a name of your own for the run.
            params: values that tasks find in their context; where the dag declares parameters, they are checked
                and completed with its defaults.
            secrets: values of declared secrets that you have at hand; the others are fetched.
            logical_date: the day or the moment that the run is for, as a date or in epoch seconds; tasks find it in
                their context, and the words `today` and `yesterday` in parameters start from it.
            log_dir: where each attempt's output goes, a file each; None leaves it on the terminal.
            fail_fast: the first task that fails for good ends the run.
            durability: "power" survives power cuts too, at the price of a disk sync for each step.
            done: tasks to take as succeeded already, with the seconds they took; they have no value.
            timeout, retry, concurrency: where they differ from the dag's.
            raise_signals: hand a signal that interrupted the run on to the program once the run is stored; with
                False only the run's `signal` tells of it.
            claim_children: this program exists for the run alone, so end whatever it has started by the end of the
                run, also from tasks in threads, and also when it is killed. What worker processes and commands
                start is always ended.

        Raises:
            DefinitionError: the graph or an argument is wrong; nothing ran. Of parameters: ParamError; of secrets that
                cannot be had: SecretError.
            StoreError, ResourceError: the state file.
            KeyboardInterrupt: by Ctrl-C, once the tasks are stopped and the run is stored as INTERRUPTED.
        """
        run_id = check_id(run_id if run_id is not None else new_run_id(), "run id")
        try:
            moment = None if logical_date is None else checked(epoch_of(logical_date))
        except ValueError as error:
            raise DefinitionError(f"logical_date {error}") from None
        _check_folder()
        for name, value in (params or {}).items():
            check_known(name, value)
        return self._execute(
            RunConfig(
                self._state_file(),
                run_id,
                mode,
                self._workers(max_workers, mode),
                None if log_dir is None else os.path.abspath(log_dir),
                durability,
                fail_fast,
                params=params or {} if self.params is None else resolve(self.params, params or {}, moment),
                logical_date=moment,
                observers=observers,
                claim_children=claim_children,
                done={name: seconds for name, seconds in (done or {}).items() if name in self.tasks},
                **self._bounds(timeout, retry, concurrency),
            ),
            resume=False,
            raise_signals=raise_signals,
            secrets=secrets,
        )

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
    ) -> DagRun:
        """Go on with a run that failed, was cancelled or interrupted, or whose process died: by default the latest.

        What succeeded is kept, all else runs, with the whole of its time and of its tasks' retries. A run that
        succeeded is returned as it is. Secrets are fetched anew.

        Raises:
            RunNotFound: there is no such run.
            RunOwned: another process is still at it.
            As for `run` otherwise.
        """
        _check_folder()
        path = self._state_file()
        with History(path) as history:
            before = history.run(run_id) if run_id is not None else history.latest(self.dag_id)
        if before.dag_id != self.dag_id:
            raise RunNotFound(f"run {before.run_id} is of dag {before.dag_id!r}, not of {self.dag_id!r}")
        if before.status == Status.SUCCESS:
            return DagRun.from_record(path, before)
        try:
            checked(before.logical_date)
        except ValueError as error:
            raise DefinitionError(f"run {before.run_id} cannot go on: its logical_date {error}") from None
        mode = mode or str(before.settings.get("mode", "process"))
        workers = max_workers if max_workers is not None else before.settings.get("max_workers")
        return self._execute(
            RunConfig(
                path,
                before.run_id,
                mode,
                self._workers(workers, mode),
                os.path.abspath(log_dir) if log_dir is not None else before.settings.get("log_dir"),
                durability,
                fail_fast,
                params=before.params
                if self.params is None
                else restored(self.params, before.params, before.logical_date),
                logical_date=before.logical_date,
                observers=observers,
                claim_children=claim_children,
                **self._bounds(timeout, retry, concurrency),
            ),
            resume=True,
            raise_signals=raise_signals,
            secrets=secrets,
        )

    def _bounds(
        self, timeout: float | None, retry: RetryPolicy | int | None, concurrency: Concurrency | int | str | None
    ) -> dict[str, Any]:
        """The limits of a run, as options."""
        place = self.concurrency if concurrency is None else normalize_concurrency(concurrency)
        return {
            "timeout_s": self.timeout if timeout is None else checked_timeout(timeout),
            "retry": self.retry if retry is None else normalize_retry(retry),
            "place": None if place is None else place._replace(group=place.group or self.dag_id),
        }

    def _workers(self, wanted: object, mode: str) -> int:
        if mode not in MODES:
            raise DefinitionError(f"mode {mode!r} must be one of {', '.join(MODES)}")
        workers = DEFAULT_WORKERS[mode] if wanted is None else wanted
        if type(workers) is not int or workers < 1:
            raise DefinitionError(f"max_workers={workers!r} must be a whole number, 1 or more")
        return workers

    def _execute(
        self, options: RunConfig, *, resume: bool, raise_signals: bool, secrets: Mapping[str, str] | None
    ) -> DagRun:
        if collector.get() is not None:
            raise Collected
        if self._loaded:
            self._check_attached()
        with gc_paused():
            program = self.program()
        if self.secrets or secrets:
            options = options._replace(secrets=resolve_secrets(self.secrets, secrets, {} if resume else options.params))
        with deferring() as gate:
            token = building.set(None)  # in a task, a decorated function is just a function
            try:
                result = run_program(program, options, resume=resume, gate=gate)
            except RunSkipped as error:
                return DagRun(options.db_path, options.run_id, self.dag_id, "SKIPPED", time.time(), reason=str(error))
            finally:
                building.reset(token)
            with History(options.db_path) as history:
                run = DagRun.from_record(options.db_path, history.run(options.run_id))
        run.signal, run.timed_out = result.signal, result.timed_out
        if result.status == Status.INTERRUPTED and result.signal is not None and raise_signals:
            # The program's own handlers were not asked while the run was being stopped: now they are.
            signal.raise_signal(result.signal)
        return run

    # -- what is stored --------------------------------------------------------------------------------------

    @classmethod
    def load(cls, db_path: str, dag_id: str) -> Dag:
        """A dag's metadata from the state file, for looking at its runs. It has no code: to run it, see `attach`.

        Raises:
            RunNotFound: the file knows no such dag.
        """
        with History(db_path) as history:
            record = history.dag(dag_id)
        if record is None:
            raise RunNotFound(f"{db_path}: there is no dag {dag_id!r}")
        return cls._of(record, db_path)

    def attach(self, *functions: Callable[..., Any] | Mapping[str, Callable[..., Any] | Body]) -> Dag:
        """Give a loaded dag the code of its tasks: functions by their own names, or a mapping of ids to functions.

        What is stored of a task stays: what it waits for, which tasks' values its parameters take, and its options.
        Other arguments and options are given where the task is added: `dag.task(transform, factor=3)`. Returns the dag.

        Raises:
            DefinitionError: there is no such task, or it had something that is code as well: hooks, `run_if`, a list.
        """
        if not self._loaded:
            raise DefinitionError(f"dag {self.dag_id!r} was not loaded from a state file; add tasks with dag.task(…)")
        pairs: list[tuple[str, Any]] = []
        for one in functions:
            pairs += one.items() if isinstance(one, Mapping) else [(str(getattr(one, "__name__", "")), one)]
        for task_id, code in pairs:
            if task_id not in self._stored():
                import difflib

                near = difflib.get_close_matches(task_id, self._stored(), n=1)
                hint = f"; did you mean {near[0]!r}?" if near else f"; it has {', '.join(list(self._stored())[:10])}"
                raise DefinitionError(f"dag {self.dag_id!r} has no task {task_id!r}{hint}")
            if isinstance(code, Command | Call):
                self.add_task(Task(task_id, body=code))
            elif callable(code):
                self.task(code, task_id)
            else:
                raise DefinitionError(f"task {task_id!r}: {code!r} must be a function, a Command or a Call")
        return self

    def _stored(self) -> Mapping[str, Mapping[str, Any]]:
        """What the state file holds of the tasks of the latest run, by id."""
        if self._rows is None:
            with History(self.db_path) as history:
                latest = history.runs(self.dag_id, limit=1)
                rows = history.graph_tasks(latest[0].graph_digest) if latest else []
                self._rows = {row["id"]: row for row in rows}
                wanted = {name for row in rows for name in row.get("resources") or ()}
                known = {one.name: Pool(one.slots) for one in history.pools() if one.name in wanted} if wanted else {}
            self.pools = {**known, **self.pools}
        return self._rows

    def _check_attached(self) -> None:
        missing = [task_id for task_id in self._stored() if task_id not in self.tasks]
        if missing or not self.tasks:
            names = ", ".join(missing[:10]) + (f" and {len(missing) - 10} more" if len(missing) > 10 else "")
            raise DefinitionError(
                f"dag {self.dag_id!r} was loaded from the state file, which holds no code: run the script that defines "
                f"it{f' ({self.source})' if self.source else ''}, or attach the code of its tasks with dag.attach(…)"
                f"{f'; missing: {names}' if names else ''}"
            )

    @classmethod
    def _of(cls, record: DagRecord, db_path: str) -> Dag:
        dag = cls(record.dag_id, db_path, record.description)
        dag.source, dag._loaded = record.source, True
        return dag

    @classmethod
    def all_dags(cls, db_path: str) -> list[Dag]:
        """All dags of a state file, by id, as `load` gives them."""
        with History(db_path) as history:
            records = history.dags()
        return [cls._of(record, db_path) for record in records]

    @classmethod
    def delete_dag(cls, db_path: str, dag_id: str) -> int:
        """Delete a dag with all its runs, values and large files. Returns how many runs there were.

        Raises:
            RunNotFound: there is no such dag.
            RunOwned: one of its runs is at work; nothing was deleted.
        """
        with History(db_path) as history:
            run_ids = list(history.run_ids(dag_id))
            if history.dag(dag_id) is None and not run_ids:
                raise RunNotFound(f"{db_path}: there is no dag {dag_id!r}")
        delete_runs(db_path, run_ids, dag_id)
        return len(run_ids)

    def runs(self, limit: int = 20) -> list[DagRun]:
        """The newest runs first."""
        path = self._state_file()
        with History(path) as history:
            return [DagRun.from_record(path, one) for one in history.runs(self.dag_id, limit=limit)]

    def _state_file(self) -> str:
        """The absolute path of the state file; it stays that one if a task in a thread changes the folder."""
        if self._anchor[0] != self.db_path:
            self._anchor = (self.db_path, real_path(self.db_path))
        return self._anchor[1]


def _check_folder() -> None:
    """Raise DefinitionError where there is no current folder, which a run stores and paths start from."""
    try:
        os.getcwd()
    except FileNotFoundError:
        raise DefinitionError("the current folder does not exist any more: change to one that does") from None


def _named(
    func: Callable[..., Any], task_id: str | None, kwargs: dict[str, Any]
) -> tuple[Callable[..., Any], str, TaskOptions]:
    """A function with its task id and the options among the keywords, which are taken from them."""
    keywords: Mapping[str, Any] = {}
    if isinstance(func, TaskFunction):
        keywords, task_id, func = func.keywords, task_id if task_id is not None else func.task_id, func.func
    if not callable(func):
        raise DefinitionError(f"{func!r} cannot be called; dag.task() takes a function")
    name = task_id if task_id is not None else str(getattr(func, "__name__", ""))
    if name == "<lambda>" or not name:
        raise DefinitionError(f"{func!r} has no name of its own; give it one: dag.task(func, task_id='…')")
    options = {key: kwargs.pop(key) for key in list(kwargs) if key in OPTION_NAMES}
    return func, name, make_options({**keywords, **options}, name)


def new_run_id() -> str:
    """A run id that sorts by time and is unique."""
    return f"{time.strftime('%Y%m%dT%H%M%S')}-{os.urandom(4).hex()}"
