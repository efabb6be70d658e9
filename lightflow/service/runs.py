"""Start a workflow, resume a run, cancel a run, and clear what a resume would continue."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any, Final

from lightflow.engine import checkpoint, executor
from lightflow.engine.choices import ALL_TASKS, RESUME, RerunOptions, SelectionOptions
from lightflow.engine.dag_builder import build_dag
from lightflow.engine.external_inputs import NO_INPUTS, ExternalInputs, load_external_inputs
from lightflow.engine.included_params import with_included_params
from lightflow.engine.run_outputs import run_outputs
from lightflow.errors import CheckpointError, WorkflowError
from lightflow.parser.files import split_reference
from lightflow.parser.subjects.settings import MODES
from lightflow.parser.workflow_loader import load_workflow
from lightflow.plugins.registry import Registry
from lightflow.service.lookup import find_run, machines_of
from lightflow.service.parameters import NO_ARGUMENTS, ParamArguments, new_run_values, parse_arguments, resumed_values
from lightflow.service.python_files import file_of, is_script, script_errors
from lightflow.spec.cluster_limits import KINDS
from lightflow.spec.model import Settings, WorkflowSpec
from lightflow.text import did_you_mean
from liteflow import (
    Concurrency,
    Dag,
    DagRun,
    DefinitionError,
    Observer,
    Param,
    RunNotFound,
    Status,
    TaskFailed,
    current_context,
)
from liteflow.api import (
    RUN_ENDED,
    History,
    ParentTask,
    Record,
    RunRecord,
    current_day,
    day_text,
    gc_paused,
    replace,
)
from liteflow.executors import stdout_capture
from liteflow.processes import capabilities
from liteflow.state.locks import other_owner
from liteflow.values.params import resolve as resolve_params
from liteflow.values.params import stored as stored_params

Notify = Callable[[str], None]
_MAX_NAMED: Final = 5  # failed tasks of a child run


class RunOptions(Record):
    """How to run a workflow. None means: as the workflow file says. Relative paths start from the current folder."""

    db: str = "lightflow.db"
    mode: str | None = None
    cluster: str | None = None  #: the machines of a mode that is a kind of cluster, which no file declares
    max_workers: int | None = None
    log_dir: str | None = None
    fail_fast: bool | None = None
    run_id: str | None = None
    dag: str | None = None  #: the dag of a Python file that defines several
    observers: Sequence[Observer] = ()
    params: ParamArguments = NO_ARGUMENTS
    selection: SelectionOptions = ALL_TASKS  #: of a new run: the tasks that run
    date: float | None = None  #: the logical date of the run; None: the day on which it starts
    day: float | None = None  #: the day that the words `today` and `yesterday` start from; None: that of the date
    resume_hint: Callable[[], str] = lambda: "resume it"  #: returns the command that resumes a run of the file
    concurrency: Concurrency | None = None  #: the limit of a workflow that declares none
    claim_children: bool = False  #: see `engine.executor.ExecutionOptions`
    park: bool = False  #: as above
    parent: ParentTask | None = None  #: as above


class LoadedWorkflow(Record):
    """A workflow that has been read."""

    name: str
    path: str
    settings: Settings
    params: Mapping[str, Param] | None  #: None: it declares no parameters, and accepts any
    has_concurrency: bool  #: whether it limits how many of its runs execute at once
    clusters: Mapping[str, Any]  #: those that it declares, by name
    #: builds the dag for a run with these parameters, on the day that `today` and `yesterday` start from
    build: Callable[[Mapping[str, Any], ExternalInputs, float], Dag]
    load_inputs: Callable[[], ExternalInputs]  #: loads the dotenv files and the secrets; called once for each run
    outputs: Callable[[DagRun], Mapping[str, Any]]  #: returns the outputs of a run that has succeeded


def missing_capabilities() -> list[str]:
    """Return what this system lacks to find and end every process that a task starts; usually nothing."""
    return capabilities.missing_capabilities()


@contextlib.contextmanager
def captured_streams() -> Iterator[None]:
    """Capture the standard streams of this process, also before a run: imported user code may keep a reference to one.

    The output of a task in a thread goes to its log. Other output is printed with secrets masked.
    """
    stdout_capture.install()
    try:
        yield
    finally:
        stdout_capture.uninstall()


def load(path: str, options: RunOptions) -> LoadedWorkflow:
    """Read a workflow file or a Python script for running; a script is executed.

    Raises:
        WorkflowError: with all mistakes, each with its place.
        DefinitionError: there is no such mode, or no such cluster.
    """
    loaded = _load_script(path, options) if is_script(path) else _load_file(path, options)
    if options.cluster is not None:
        return _with_cluster(loaded, options.mode, options.cluster)
    if options.mode is not None and options.mode not in (*MODES, *loaded.clusters):
        hint = did_you_mean(options.mode, [*MODES, *loaded.clusters]) or "; declare a cluster under `clusters`"
        if options.mode in KINDS:
            hint = f" without its machines: --mode {options.mode} --cluster …"
        names = ", ".join((*MODES, *loaded.clusters))
        raise DefinitionError(f"--mode: there is no mode {options.mode!r}{hint}; {loaded.name} can run in: {names}")
    return loaded


def _with_cluster(loaded: LoadedWorkflow, mode: str | None, machines: str) -> LoadedWorkflow:
    """Return a workflow with a cluster of these machines.

    Raises:
        DefinitionError: the mode names another kind, or the workflow declares a cluster of this name.
    """
    from lightflow.clusters import cluster_of  # few runs have a cluster

    if mode is None:
        raise DefinitionError("--cluster needs its kind as the mode: --mode ssh --cluster … or --mode dask --cluster …")
    clusters = {mode: cluster_of(mode, machines)}
    if mode in loaded.clusters:
        raise DefinitionError(
            f"--cluster names machines for the mode {mode!r}, and {loaded.name} declares a cluster of this name: give "
            "the declared one another name, or leave --cluster out"
        )

    def build(values: Mapping[str, Any], inputs: ExternalInputs, day: float) -> Dag:
        dag = loaded.build(values, inputs, day)
        dag.limits = replace(dag.limits, clusters={**dag.limits.clusters, **clusters})
        return dag

    return replace(loaded, build=build)


def _on_its_machines(
    loaded: LoadedWorkflow, run: RunRecord, options: RunOptions, notify: Notify
) -> tuple[LoadedWorkflow, RunOptions]:
    """Return a workflow and options with the machines that a command line has named for a run, unless one does now."""
    machines = machines_of(run)
    if machines is None or options.mode is not None or options.cluster is not None:
        return loaded, options
    options = replace(options, mode=run.settings["mode"], cluster=machines)
    notify(f"its tasks run on {machines}, as before (--mode {options.mode}); --mode and --cluster change that")
    return _with_cluster(loaded, options.mode, machines), options


def _load_script(path: str, options: RunOptions) -> LoadedWorkflow:
    from liteflow.api import child_outputs
    from liteflow.scripts import choose_dag, load_dags

    path, name = split_reference(path)
    with script_errors(path):
        dags = load_dags(path)
        dag = dags[choose_dag(path, [each.dag_id for each in dags], options.dag or name or None)]
    dag.db_path, dag.source = options.db, os.path.abspath(path)
    return LoadedWorkflow(
        name=dag.dag_id,
        path=path,
        settings=Settings(mode="process"),
        params=dag.params,
        has_concurrency=dag.limits.concurrency is not None,
        clusters=dag.limits.clusters,
        build=lambda values, inputs, day: dag,
        load_inputs=lambda: NO_INPUTS,
        outputs=lambda run: child_outputs(dag, run),
    )


def _load_file(path: str, options: RunOptions) -> LoadedWorkflow:
    spec = load_workflow(path)
    registry = Registry().with_files(spec.plugins)
    return LoadedWorkflow(
        name=spec.name,
        path=spec.reference if spec.reference != spec.path else path,
        settings=spec.settings,
        params=spec.params,
        has_concurrency=spec.limits.concurrency is not None,
        clusters=spec.limits.clusters,
        build=partial(_build, spec, registry, options.db),
        load_inputs=partial(load_external_inputs, spec),
        outputs=partial(run_outputs, spec),
    )


def _build(
    spec: WorkflowSpec, registry: Registry, db: str, values: Mapping[str, Any], inputs: ExternalInputs, day: float
) -> Dag:
    try:
        complete = with_included_params(spec, values, day)
        return build_dag(
            complete, registry, db, values, inputs, folder=os.getcwd(), execute_child=execute_child_workflow
        )
    except WorkflowError as error:
        raise inputs.masked(error) from None


def run(path: str, options: RunOptions, *, resume: bool = False, notify: Notify) -> DagRun:
    """Start a new run of a workflow; with `resume`, or `settings.resume: auto`, continue its last run instead.

    Raises:
        WorkflowError, DefinitionError: the file or an option is wrong; nothing ran.
        RunOwned: the run to continue is running.
        StoreError, ResourceError: see `liteflow.errors`.
    """
    loaded = load(path, options)
    _warn_of_foreign_owner(options.db, notify)
    last = _latest(options.db, loaded.name)
    continues = (resume or loaded.settings.resume == "auto") and options.selection == ALL_TASKS
    if continues and not resume and last is not None:
        if _options_differ(loaded, last, options):
            notify(f"the last run, {last.run_id}, had other parameters: this is a new run")
            continues = False
        elif loaded.has_concurrency and last.status not in RUN_ENDED:
            continues = False  # the last run is running: its `concurrency` decides
    if continues:
        if last is not None and last.status != Status.SUCCESS and last.resumable:
            return resume_loaded(loaded, last, options, notify)
        if last is None and _is_missing(options.db) and (saved := _unfinished_checkpoint(loaded)) is not None:
            return _import(loaded, saved, options, notify)
        if resume and last is not None and last.status == Status.SUCCESS:
            return _nothing_to_resume(last, options, notify)
    elif last is not None and last.resumable and last.status in (Status.FAILED, Status.INTERRUPTED):
        notify(f"the last run, {last.run_id}, is {last.status}; to resume it: {options.resume_hint()}")
    return _start(loaded, options)


#: Has what most workflows have.
_SAMPLE: Final = """
workflow_name: sample
schedule: {every: 1d}
tasks:
  first: {run: 'true', retries: 1, timeout: 1m}
  second: {run: 'true', depends_on: [first]}
"""


def prepare_forks() -> None:
    """Import and compute what each run needs, so that processes that are forked from this one need not."""
    import ctypes

    import liteflow.executors.command
    import liteflow.executors.open
    import liteflow.processes.guardian
    import liteflow.running.run
    import liteflow.state.triggers  # noqa: F401 - see above
    from lightflow.parser.workflow_loader import loads_workflow
    from liteflow.state import schema

    ctypes.CDLL(None)  # the guardian of each run calls the C library
    with contextlib.closing(sqlite3.connect(":memory:", isolation_level=None)) as connection:
        schema.migrate(connection, ":memory:")
        schema.check_schema(connection, ":memory:")  # remembers the tables that each state file has
    build_dag(loads_workflow(_SAMPLE), Registry(), "", folder=os.sep)


def start(path: str, options: RunOptions, *, notify: Notify) -> DagRun:
    """Start a new run of a workflow, also where the last run could be resumed. Raises as `run` does."""
    loaded = load(path, options)
    _warn_of_foreign_owner(options.db, notify)
    return _start(loaded, options)


def resume(target: str, options: RunOptions, *, from_checkpoint: str | None = None, notify: Notify) -> DagRun:
    """Continue the latest run of a workflow file, or the run with this id.

    `from_checkpoint` names a checkpoint file to start from instead, where the state file no longer exists.

    Raises:
        RunNotFound: there is no such run.
        CheckpointError: the checkpoint file cannot be used.
        WorkflowError, DefinitionError, RunOwned, StoreError, ResourceError: see `run`.
    """
    if from_checkpoint is not None or (is_file(target) and _is_missing(options.db)):
        loaded = load(target, options)
        _warn_of_foreign_owner(options.db, notify)
        if from_checkpoint is not None:
            return _import(loaded, checkpoint.read(from_checkpoint), options, notify)
        saved = _unfinished_checkpoint(loaded)
        if saved is not None:
            return _import(loaded, saved, options, notify)
    loaded, last = find_run_to_resume(target, options, notify)
    if last.status == Status.SUCCESS:
        return _nothing_to_resume(last, options, notify)
    return resume_loaded(loaded, last, options, notify)


def is_file(target: str) -> bool:
    """Return whether a target is a workflow file rather than a run."""
    file = file_of(target)
    return os.path.exists(file) or file.endswith((".yaml", ".yml", ".json", ".py"))


def find_run_to_resume(target: str, options: RunOptions, notify: Notify) -> tuple[LoadedWorkflow, RunRecord]:
    """Return the latest run of a workflow file, or the run with an id, with its workflow.

    Raises:
        RunNotFound: there is no such run, or none to resume.
        WorkflowError: the file is wrong.
    """
    if is_file(target):
        loaded = load(target, options)
        _warn_of_foreign_owner(options.db, notify)
        last = _latest(options.db, loaded.name)
        saved = _unfinished_checkpoint(loaded) if last is None else None
        if last is None or not last.resumable:
            other = "" if saved is None else f", or begin where a checkpoint ends: --from-checkpoint {saved.path}"
            raise RunNotFound(f"there is no run of {loaded.name!r} to resume; start one: lightflow run {target}{other}")
    else:
        with History(options.db) as history:
            last = find_run(history, target)
        if last.source is None or not os.path.isfile(file_of(last.source)):
            raise RunNotFound(
                f"run {last.run_id} came from {last.source or 'a program'}, which no longer exists; "
                "resume it with its file: lightflow resume FILE"
            )
        _warn_of_foreign_owner(options.db, notify)
        loaded = load(last.source, replace(options, dag=last.dag_id if is_script(last.source) else None))
    return loaded, last


def _nothing_to_resume(last: RunRecord, options: RunOptions, notify: Notify) -> DagRun:
    notify(f"run {last.run_id} of {last.dag_id} has succeeded already: nothing to resume")
    return DagRun.from_record(os.path.realpath(options.db), last)


def _options_differ(loaded: LoadedWorkflow, last: RunRecord, options: RunOptions) -> bool:
    """Return whether the options have parameters, or a date, that the last run does not have."""
    try:
        resumed_values(loaded.params, options.params, last.run_id, last.params, _day(options))
        resumed_date(options.date, last)
    except DefinitionError:
        return True
    return False


def _day(options: RunOptions) -> float:
    return current_day() if options.date is None else options.date


def resumed_date(requested: float | None, run: RunRecord) -> float:
    """Return the logical date of a run that is resumed.

    Raises:
        DefinitionError: another date is requested.
    """
    day = current_day() if run.logical_date is None else run.logical_date
    if day_text(day) == "?":
        raise DefinitionError(f"run {run.run_id} cannot be resumed: its logical date in the state file is corrupt")
    if requested is not None and requested != day:
        raise DefinitionError(
            f"run {run.run_id} is for {day_text(day)}, not for {day_text(requested)}, and a run keeps its day; "
            "leave --date out to resume the run, or start a new one"
        )
    return day


def _start(
    loaded: LoadedWorkflow,
    options: RunOptions,
    done: dict[str, float] | None = None,
    values: Mapping[str, Any] | None = None,
    inputs: ExternalInputs | None = None,
) -> DagRun:
    """Execute a new run. `done`, `values` and `inputs` are given where they come from a checkpoint."""
    moment = _day(options)  # read once, so that it does not change at midnight
    day = moment if options.day is None else options.day
    if values is None:
        values = new_run_values(loaded.params, options.params, loaded.path, day)
    if inputs is None:
        inputs = loaded.load_inputs()
    return executor.execute(
        loaded.build(values, inputs, day),
        _execution_options(loaded, options),
        run_id=options.run_id,
        params=values,
        secrets=inputs.secrets,
        logical_date=moment,
        done=done,
        selection=_with_run(options.selection, options.db, loaded.name),
    )


def _with_run(selection: SelectionOptions, db: str, workflow: str) -> SelectionOptions:
    """Return the selection with the id of the run whose values are read; `latest` is that of all tasks.

    Raises:
        RunNotFound: there is none.
    """
    if selection.values_from is None:
        return selection
    if selection.values_from != "latest":
        with History(db) as history:
            return replace(selection, values_from=find_run(history, selection.values_from).run_id)
    if os.path.exists(db):
        with History(db) as history:
            whole = next((run for run in history.runs(workflow, limit=1000) if run.selection is None), None)
        if whole is not None:
            return replace(selection, values_from=whole.run_id)
    raise RunNotFound(f"there is no run of all tasks of {workflow!r} whose values could be read")


def resume_loaded(
    loaded: LoadedWorkflow,
    last: RunRecord,
    options: RunOptions,
    notify: Notify,
    rerun: RerunOptions = RESUME,
) -> DagRun:
    """Execute what is left of a run, or a part of it again, and report what differs from when it was started.

    It uses the machines that a command line has named for it, unless the options name a mode.
    """
    loaded, options = _on_its_machines(loaded, last, options, notify)
    day = resumed_date(options.date, last)
    values = resumed_values(loaded.params, options.params, last.run_id, last.params, day)
    inputs = loaded.load_inputs()
    dag = loaded.build(values, inputs, day)
    if rerun == RESUME and (changed := _changed_since_success(dag, last, options.db)):
        names = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
        notify(f"changed since they succeeded, and not run again: {names}")
    if last.source is not None and os.path.realpath(last.source) != os.path.realpath(loaded.path):
        notify(
            f"run {last.run_id} was started from another file, {last.source}; "
            "what succeeded in it counts here, `lightflow run` starts a new run"
        )
    if last.cwd is not None and last.cwd != os.getcwd():
        notify(f"the run was started in {last.cwd}; its relative paths now start from {os.getcwd()}")
    return executor.resume(dag, last.run_id, _execution_options(loaded, options), rerun, secrets=inputs.secrets)


def find_origin(run_id: str, options: RunOptions, file: str | None) -> tuple[LoadedWorkflow, RunRecord]:
    """Return a run, and its workflow or that of another file.

    Raises:
        RunNotFound: there is no such run, or its file no longer exists.
        DefinitionError: the file is of another workflow.
    """
    with History(options.db) as history:
        origin = find_run(history, run_id)
    path = file or origin.source
    if path is None or (file is None and not os.path.isfile(file_of(path))):
        raise RunNotFound(f"run {origin.run_id} came from {path or 'a program'}, which no longer exists; give --file")
    loaded = load(path, replace(options, dag=origin.dag_id if is_script(path) else None))
    if loaded.name != origin.dag_id:
        raise DefinitionError(f"{path} is workflow {loaded.name!r}, and run {origin.run_id} is of {origin.dag_id!r}")
    return loaded, origin


def fork_run(
    loaded: LoadedWorkflow, origin: RunRecord, options: RunOptions, start: Sequence[str], notify: Notify
) -> DagRun:
    """Execute a fork of a run, on its machines as a resume does."""
    loaded, options = _on_its_machines(loaded, origin, options, notify)
    day = resumed_date(options.date, origin)
    changes = parse_arguments(loaded.params, options.params, day)
    before = dict(origin.params)
    values = (
        {**before, **changes} if loaded.params is None else resolve_params(loaded.params, {**before, **changes}, day)
    )
    changed = sorted(name for name, value in stored_params(values).items() if before.get(name) != value)
    if changed:
        notify(
            f"{', '.join(changed)} {'differs' if len(changed) == 1 else 'differ'} from run {origin.run_id}: tasks that "
            "do not run again have read the earlier values"
        )
    inputs = loaded.load_inputs()
    return executor.fork(
        loaded.build(values, inputs, day),
        origin.run_id,
        _execution_options(loaded, options),
        start,
        params=values,
        new_run_id=options.run_id,
        secrets=inputs.secrets,
    )


def _changed_since_success(dag: Dag, last: RunRecord, db: str) -> list[str]:
    """Return the tasks that succeeded in a run with another definition than they have now."""
    with gc_paused(), History(db) as history:
        successful = {task_id for task_id, _, status in history.statuses(last.run_id) if status == Status.SUCCESS}
        digests = {row["id"]: row.get("digest") for row in history.graph_tasks(last.graph_digest)}
    return [
        task_id
        for task_id, task in dag.tasks.items()
        if task_id in successful and task.meta is not None and digests.get(task_id) != task.meta.get("digest")
    ]


def _import(loaded: LoadedWorkflow, saved: checkpoint.Checkpoint, options: RunOptions, notify: Notify) -> DagRun:
    """Execute a new run in which the successful tasks of a checkpoint count as done."""
    if saved.workflow_name != loaded.name:
        raise CheckpointError(f"{saved.path}: is a checkpoint of {saved.workflow_name!r}, not of {loaded.name!r}")
    if saved.date is not None and options.date is None:
        options = replace(options, date=saved.date)
    day = _day(options)
    options = replace(options, date=day)
    if saved.params is None:
        values = new_run_values(loaded.params, options.params, loaded.path, day)
    else:
        values = resumed_values(loaded.params, options.params, saved.run_id, saved.params, day)
    inputs = loaded.load_inputs()
    tasks = loaded.build(values, inputs, day).tasks
    done = {name: seconds for name, seconds in saved.succeeded.items() if name in tasks}
    notify(f"{len(done)} of {len(tasks)} tasks are done according to {saved.path}")
    return _start(loaded, options, done, values, inputs)


def _execution_options(loaded: LoadedWorkflow, options: RunOptions) -> executor.ExecutionOptions:
    writer = checkpoint.CheckpointWriter(os.path.abspath(loaded.settings.checkpoint_dir))
    execution = executor.options_for(
        loaded.settings,
        mode=options.mode,
        max_workers=options.max_workers,
        log_dir=options.log_dir,
        fail_fast=options.fail_fast,
        observers=[writer, *options.observers],
        claim_children=options.claim_children,
        park=options.park,
    )
    execution = replace(execution, parent=options.parent)
    if options.concurrency is None or loaded.has_concurrency:
        return execution
    return replace(execution, concurrency=options.concurrency)


def execute_child_workflow(config: Mapping[str, Any], file: str) -> Any:
    """Execute the child run of the attempt that runs here; `config` are the keys of its task, in the file `file`.

    Raises:
        TaskFailed: it did not succeed, or cannot be started.
    """
    from lightflow.engine.logger import LogDisplay
    from lightflow.plugins.workflow_task import child_reference
    from liteflow.api import CHILD_REFUSED, ChildRun, execute_child_run

    context, loaded, params = current_context(), list[LoadedWorkflow](), config.get("params", {})
    display = LogDisplay(sys.stdout)  # into the log of the attempt
    options = RunOptions(db=context.db_path, log_dir=context.log_dir, date=context.logical_date, observers=(display,))
    options = replace(options, park=context.parks)

    def load_once() -> LoadedWorkflow:
        if not loaded:
            loaded.append(load(child_reference(config, file), options))
        return loaded[0]

    def start_child(run_id: str, parent: ParentTask) -> DagRun:
        arguments = ParamArguments(values=params)
        return _with_logs(_start(load_once(), replace(options, run_id=run_id, parent=parent, params=arguments)))

    def resume_child(record: RunRecord, parent: ParentTask) -> DagRun:
        return _with_logs(resume_loaded(load_once(), record, replace(options, date=None, parent=parent), notify=print))

    try:
        return execute_child_run(
            ChildRun(
                params=params,
                start=start_child,
                resume=resume_child,
                outputs=lambda run: load_once().outputs(run),
            )
        )
    except WorkflowError as error:
        raise TaskFailed(str(error), codes=(CHILD_REFUSED,), final=True) from None


def _with_logs(run: DagRun) -> DagRun:
    """Print the commands that show the output of the failed tasks of a child run, and return the run."""
    import shlex  # here, because few runs have a child run

    for name in list(run.failures())[:_MAX_NAMED]:
        print(f"output of {name}: lightflow logs {shlex.quote(name)} --run {run.run_id}")
    return run


def _latest(db: str, dag_id: str) -> RunRecord | None:
    if not os.path.exists(db):
        return None
    try:
        with History(db) as history:
            return next(iter(history.runs(dag_id, limit=1)), None)
    except RunNotFound:  # a file without tables: the disk failed while it was made
        return None


def _warn_of_foreign_owner(db: str, notify: Notify) -> None:
    """Report a state file of another user: tasks decode values from it, which may execute code."""
    name = other_owner(db)
    if name is not None:
        notify(f"{db} belongs to {name}: use it only if you trust that user")


def _is_missing(db: str) -> bool:
    """Return whether there is no state file, or one without tables.

    A state file with tables but without a run of a workflow may have had runs of it.
    """
    if not os.path.exists(db):
        return True
    try:
        with History(db):
            return False
    except RunNotFound:
        return True


def _unfinished_checkpoint(loaded: LoadedWorkflow) -> checkpoint.Checkpoint | None:
    """Return the newest checkpoint of a workflow, unless its run succeeded."""
    checkpoints, _ = checkpoint.find(loaded.settings.checkpoint_dir, loaded.name, limit=1)
    return checkpoints[0] if checkpoints and checkpoints[0].status != Status.SUCCESS else None


def cancel(db: str, run_id: str, *, wait_s: float = 30.0, caller: str | None = None) -> RunRecord:
    """Request the owner of a run to cancel it, and wait for that; cancel a run without a live owner here.

    `caller` names the origin of the request, by default this process.

    Raises:
        RunNotFound: there is no such run.
        DefinitionError: it has ended already.
    """
    from liteflow.api import cancel_interrupted, request

    with History(db) as history:
        record = find_run(history, run_id)
        if record.status == Status.INTERRUPTED:
            by = "" if caller is None else f" by the {caller}"
            cancel_interrupted(db, record.run_id, f"cancelled{by} after it was interrupted")
            return history.run(record.run_id)
        if record.status in RUN_ENDED:
            raise DefinitionError(f"run {record.run_id} has ended already: it is {record.status}")
        request(db, record.run_id, "cancel", f"cancelled by {caller or f'process {os.getpid()}'}")
        give_up = time.monotonic() + wait_s
        while record.status not in RUN_ENDED and time.monotonic() < give_up:
            time.sleep(0.05)
            record = history.run(record.run_id)
    return record


def clear(db: str, name: str, checkpoint_dir: str) -> tuple[int, int]:
    """Delete the checkpoint files of a workflow, and exclude its unfinished runs from "resume"; the history keeps them.

    Returns:
        The number of files, and the number of runs.
    """
    checkpoints, _ = checkpoint.find(checkpoint_dir, name)
    for each in checkpoints:
        os.unlink(each.path)
    from liteflow.api import exclude_from_resume

    return len(checkpoints), exclude_from_resume(db, name) if os.path.exists(db) else 0
