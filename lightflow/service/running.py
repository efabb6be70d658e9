"""Executing: start a workflow, go on with a run, cancel one."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, NamedTuple

from lightflow.engine import checkpoint
from lightflow.engine.checkpoint_writer import CheckpointWriter
from lightflow.engine.dag_builder import build_dag
from lightflow.engine.outside import NOTHING, Outside, look_outside
from lightflow.errors import WorkflowError
from lightflow.parser.spec import Settings, WorkflowSpec
from lightflow.parser.workflow_loader import load_workflow
from lightflow.plugins.registry import Registry
from lightflow.service.parameters import Given, complete, kept
from lightflow.service.scripts import is_script, script_errors
from liteflow import Dag, DagRun, DefinitionError, Observer, RunNotFound, Status
from liteflow.collector import collector_paused
from liteflow.state.history import History, RunRecord
from liteflow.state.locks import other_owner
from liteflow.state.maintenance import abandon, forget, request
from liteflow.states import RUN_ENDED
from liteflow.values.dates import shown, this_day
from liteflow.values.params import Param

Notify = Callable[[str], None]


class RunOptions(NamedTuple):
    """How to run, where it differs from what the file says. Folders and files are relative to the current folder."""

    db: str = "lightflow.db"
    mode: str | None = None
    max_workers: int | None = None
    log_dir: str | None = None
    fail_fast: bool | None = None
    run_id: str | None = None
    dag: str | None = None  # of a Python file that defines several
    observers: Sequence[Observer] = ()
    params: Given = Given()
    date: float | None = None  # the day that the run is for; None: that on which it starts
    again: Callable[[], str] = lambda: "resume it"  # tells the command line that goes on with a run of the file


class Loaded(NamedTuple):
    """A workflow that has been read. `build` makes its dag for a run with these parameters, and `outside` what it takes
    from outside, which is looked for once, when the run starts.
    """

    name: str
    settings: Settings
    path: str
    params: Mapping[str, Param] | None  # None: it declares none, and says nothing of what it takes
    build: Callable[[Mapping[str, Any], Outside], Dag]
    look_outside: Callable[[], Outside]
    grouped: bool = False  # does it say what a run does that comes while another is at work?


def load(path: str, options: RunOptions) -> Loaded:
    """Read a workflow file or a Python script for running; a script is executed.

    Raises:
        WorkflowError: everything that is wrong with it, each with its place.
    """
    if not is_script(path):
        spec = load_workflow(path)
        registry = Registry().with_files(spec.plugins)
        build, grouped = partial(_build, spec, registry, options.db), spec.limits.concurrency is not None
        return Loaded(spec.name, spec.settings, path, spec.params, build, partial(look_outside, spec), grouped)
    from liteflow.scripts import choose, load_dags  # the rarer kind of workflow

    with script_errors(path):
        dags = load_dags(path)
        dag = dags[choose(path, [one.dag_id for one in dags], options.dag)]
    dag.db_path, dag.source = options.db, os.path.abspath(path)
    settings, grouped = Settings(mode="process"), dag.concurrency is not None
    return Loaded(dag.dag_id, settings, path, dag.params, lambda values, outside: dag, lambda: NOTHING, grouped)


def _build(spec: WorkflowSpec, registry: Registry, db: str, values: Mapping[str, Any], outside: Outside) -> Dag:
    try:
        return build_dag(spec, registry, db, values, outside)
    except WorkflowError as error:
        raise outside.masked(error) from None


def run(path: str, options: RunOptions, *, resume: bool = False, notify: Notify) -> DagRun:
    """Run a workflow from its beginning; with `resume` (or `settings.resume: auto`) go on where the last run stopped.

    Raises:
        WorkflowError, DefinitionError: the file or an option is wrong; nothing ran.
        RunOwned: the run to go on with is at work.
        StoreError, ResourceError: the state file.
    """
    loaded = load(path, options)
    _note_owner(options.db, notify)
    last = _latest(options.db, loaded.name)
    goes_on = resume or loaded.settings.resume == "auto"
    if goes_on and not resume and last is not None and _differs(loaded, last, options):
        notify(f"the last run, {last.run_id}, had other parameters: this is a new run")
        goes_on = False
    if goes_on and not resume and loaded.grouped and last is not None and last.status not in RUN_ENDED:
        goes_on = False  # it is at work: the rule for runs that come meanwhile counts
    if goes_on:
        if last is not None and last.status != Status.SUCCESS and last.resumable:
            return _resume(loaded, last, options, notify)
        if last is None and _is_gone(options.db) and (saved := _checkpoint(loaded)) is not None:
            return _import(loaded, saved, options, notify)
        if resume and last is not None and last.status == Status.SUCCESS:
            notify(f"run {last.run_id} of {last.dag_id} has succeeded already: nothing to resume")
            return DagRun.from_record(os.path.realpath(options.db), last)
    elif last is not None and last.resumable and last.status in (Status.FAILED, Status.INTERRUPTED):
        notify(f"the last run, {last.run_id}, is {last.status}; to go on with it: {options.again()}")
    return _start(loaded, options)


def resume(target: str, options: RunOptions, *, from_checkpoint: str | None = None, notify: Notify) -> DagRun:
    """Go on with the latest run of a workflow file, or with the run of that id.

    `from_checkpoint` names a checkpoint file to begin from instead, where the state file is gone.

    Raises:
        RunNotFound: there is nothing to go on with.
        CheckpointError: the checkpoint file cannot be used.
        As `run` otherwise.
    """
    if os.path.exists(target) or target.endswith((".yaml", ".yml", ".json", ".py")):
        loaded = load(target, options)
        _note_owner(options.db, notify)
        if from_checkpoint is not None:
            return _import(loaded, checkpoint.read(from_checkpoint), options, notify)
        last = _latest(options.db, loaded.name)
        saved = _checkpoint(loaded) if last is None else None
        if saved is not None and _is_gone(options.db):
            return _import(loaded, saved, options, notify)
        if last is None or not last.resumable:
            other = "" if saved is None else f", or begin where a checkpoint ends: --from-checkpoint {saved.path}"
            raise RunNotFound(f"there is no run of {loaded.name!r} to resume; start one: lightflow run {target}{other}")
    else:
        with History(options.db) as history:
            last = history.run(target)
        if last.source is None or not os.path.isfile(last.source):
            raise RunNotFound(
                f"run {last.run_id} came from {last.source or 'a program'}, which is not there any more; "
                "resume it with its file: lightflow resume FILE"
            )
        _note_owner(options.db, notify)
        loaded = load(last.source, options._replace(dag=last.dag_id if is_script(last.source) else None))
    if last.status == Status.SUCCESS:
        notify(f"run {last.run_id} of {last.dag_id} has succeeded already: nothing to resume")
        return DagRun.from_record(os.path.realpath(options.db), last)
    return _resume(loaded, last, options, notify)


def _differs(loaded: Loaded, last: RunRecord, options: RunOptions) -> bool:
    """Are parameters given that the last run does not have?"""
    try:
        day = this_day() if options.date is None else options.date
        kept(loaded.params, options.params, last.run_id, last.params, day)
        day_kept(options.date, last)
    except DefinitionError:
        return True
    return False


def day_kept(given: float | None, run: RunRecord) -> float:
    """Return the day of a run that is gone on with.

    Raises:
        DefinitionError: another day is asked for.
    """
    day = this_day() if run.logical_date is None else run.logical_date
    if shown(day) == "?":
        raise DefinitionError(f"run {run.run_id} cannot go on: the day that it is for is damaged in the state file")
    if given is not None and given != day:
        raise DefinitionError(
            f"run {run.run_id} is for {shown(day)}, not for {shown(given)}, and a run keeps its day; leave --date out "
            "to go on with the run, or start a new one"
        )
    return day


def _start(
    loaded: Loaded,
    options: RunOptions,
    done: dict[str, float] | None = None,
    values: Mapping[str, Any] | None = None,
    outside: Outside | None = None,
) -> DagRun:
    settings = loaded.settings
    day = this_day() if options.date is None else options.date  # once: it does not change over midnight
    if values is None:
        values = complete(loaded.params, options.params, loaded.path, day)
    if outside is None:
        outside = loaded.look_outside()
    return loaded.build(values, outside).run(
        options.max_workers or settings.max_parallel_tasks,
        options.mode or settings.mode,
        run_id=options.run_id,
        params=values,
        secrets=outside.secrets,
        logical_date=day,
        log_dir=options.log_dir or settings.log_dir,
        fail_fast=settings.fail_fast if options.fail_fast is None else options.fail_fast,
        observers=_observers(loaded, options),
        done=done,
        raise_signals=False,
        claim_children=True,
    )


def _resume(loaded: Loaded, last: RunRecord, options: RunOptions, notify: Notify) -> DagRun:
    settings = loaded.settings
    values = kept(loaded.params, options.params, last.run_id, last.params, day_kept(options.date, last))
    outside = loaded.look_outside()
    dag = loaded.build(values, outside)
    with collector_paused(), History(options.db) as history:
        finished = {task_id for task_id, _, status in history.statuses(last.run_id) if status == Status.SUCCESS}
        before = {row["id"]: row.get("digest") for row in history.graph_tasks(last.graph_digest)}
    changed = [
        task_id
        for task_id, task in dag.tasks.items()
        if task_id in finished and task.meta is not None and before.get(task_id) != task.meta.get("digest")
    ]
    if changed:
        names = ", ".join(changed[:5]) + (f" and {len(changed) - 5} more" if len(changed) > 5 else "")
        notify(f"changed since they succeeded, and kept as they were: {names}")
    if last.source is not None and os.path.realpath(last.source) != os.path.realpath(loaded.path):
        notify(
            f"run {last.run_id} was started from another file, {last.source}; "
            "what succeeded in it counts here, `lightflow run` starts a new run"
        )
    if last.cwd is not None and last.cwd != os.getcwd():
        notify(f"the run was started in {last.cwd}; its relative paths now start from {os.getcwd()}")
    return dag.resume(
        last.run_id,
        options.max_workers or settings.max_parallel_tasks,
        options.mode or settings.mode,
        secrets=outside.secrets,
        log_dir=options.log_dir or settings.log_dir,
        fail_fast=settings.fail_fast if options.fail_fast is None else options.fail_fast,
        observers=_observers(loaded, options),
        raise_signals=False,
        claim_children=True,
    )


def _import(loaded: Loaded, saved: checkpoint.Checkpoint, options: RunOptions, notify: Notify) -> DagRun:
    """A new run that takes over what a checkpoint file says is done."""
    if saved.workflow_name != loaded.name:
        raise checkpoint.CheckpointError(
            f"{saved.path}: is a checkpoint of {saved.workflow_name!r}, not of {loaded.name!r}"
        )
    if saved.date is not None and options.date is None:
        options = options._replace(date=saved.date)
    day = this_day() if options.date is None else options.date
    options = options._replace(date=day)
    if saved.params is None:
        values = complete(loaded.params, options.params, loaded.path, day)
    else:
        values = kept(loaded.params, options.params, saved.run_id, saved.params, day)
    outside = loaded.look_outside()
    tasks = loaded.build(values, outside).tasks
    done = {name: seconds for name, seconds in saved.succeeded.items() if name in tasks}
    notify(f"{len(done)} of {len(tasks)} tasks are done according to {saved.path}")
    return _start(loaded, options, done, values, outside)


def _observers(loaded: Loaded, options: RunOptions) -> list[Observer]:
    return [CheckpointWriter(os.path.abspath(loaded.settings.checkpoint_dir)), *options.observers]


def _latest(db: str, dag_id: str) -> RunRecord | None:
    if not os.path.exists(db):
        return None
    try:
        with History(db) as history:
            return next(iter(history.runs(dag_id, limit=1)), None)
    except RunNotFound:  # a file without tables: the disk failed while it was made
        return None


def _note_owner(db: str, notify: Notify) -> None:
    """Say that the state file is another user's: tasks decode values out of it, and that may run code."""
    name = other_owner(db)
    if name is not None:
        notify(f"{db} belongs to {name}: go on with it only if you trust that user")


def _is_gone(db: str) -> bool:
    """Is there no state file, or one without tables? One that only knows no run of a workflow may have had some."""
    if not os.path.exists(db):
        return True
    try:
        with History(db):
            return False
    except RunNotFound:
        return True


def _checkpoint(loaded: Loaded) -> checkpoint.Checkpoint | None:
    """The newest checkpoint file of a workflow, if it is unfinished."""
    found, _ = checkpoint.find(loaded.settings.checkpoint_dir, loaded.name, limit=1)
    return found[0] if found and found[0].status != Status.SUCCESS else None


def cancel(db: str, run_id: str, *, wait_s: float = 30.0) -> RunRecord:
    """Ask the owner of a run to end it, and wait for that; a run without a live owner is ended here.

    Raises:
        RunNotFound: there is no such run.
        DefinitionError: it has ended already.
    """
    with History(db) as history:
        record = history.run(run_id)
        if record.status == Status.INTERRUPTED:
            abandon(db, record.run_id, "cancelled after it was interrupted")
            return history.run(record.run_id)
        if record.status in RUN_ENDED:
            raise DefinitionError(f"run {record.run_id} has ended already: it is {record.status}")
        request(db, record.run_id, "cancel", f"cancelled by process {os.getpid()}")
        give_up = time.monotonic() + wait_s
        while record.status not in RUN_ENDED and time.monotonic() < give_up:
            time.sleep(0.05)
            record = history.run(record.run_id)
    return record


def clear(db: str, name: str, checkpoint_dir: str) -> tuple[int, int]:
    """Forget where the runs of a workflow stopped: its checkpoint files go, its unfinished runs stay in the history
    but are passed over by "resume". Returns how many files and how many runs that were.
    """
    files, _ = checkpoint.find(checkpoint_dir, name)
    for one in files:
        os.unlink(one.path)
    return len(files), forget(db, name) if os.path.exists(db) else 0
