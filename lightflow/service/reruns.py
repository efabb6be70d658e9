"""Run a part of a run again, set tasks of a run back, and mark tasks by hand."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping, Sequence
from typing import Any, Final

from lightflow.engine.choices import RerunOptions
from lightflow.engine.formatting import display_name
from lightflow.errors import LightflowError
from lightflow.service.lookup import find_run
from lightflow.service.python_files import file_of, is_script
from lightflow.service.runs import Notify, RunOptions, find_origin, find_run_to_resume, fork_run, resume_loaded
from liteflow import DagRun, DefinitionError, Status
from liteflow.api import RUN_ENDED, History, Record, RunRecord, instance_name
from liteflow.masking import Masker
from liteflow.planning.graph import Graph
from liteflow.planning.rerun import closure
from liteflow.state import reruns
from liteflow.state.records import InstanceKey
from liteflow.states import TASK_ENDED

__all__ = ["ChangedTasks", "RerunOptions", "clear", "fork", "mark", "parse_outputs", "preview", "retry"]


#: The statuses that a resume leaves as they are.
_RESULTS: Final = frozenset({Status.SUCCESS, Status.SKIPPED})


class ChangedTasks(Record):
    """A run, and its tasks and instances that a command has changed."""

    run: RunRecord
    keys: list[InstanceKey]
    labels: Mapping[InstanceKey, str]

    @property
    def names(self) -> list[str]:
        """The names by which commands and programs take them."""
        return [instance_name(*key) for key in self.keys]

    @property
    def shown(self) -> list[str]:
        """The names with the labels of instances, for a terminal."""
        return [display_name(*key, self.labels.get(key)) for key in self.keys]


def retry(target: str, options: RunOptions, rerun: RerunOptions, *, wait: bool = False, notify: Notify) -> DagRun:
    """Run tasks of a run again; without names and `changed` all that did not succeed.

    `target` is a run, or a workflow file, which means its latest run. With `wait` a run that a process executes is
    awaited.

    Raises:
        DefinitionError: there is no such task, or its upstream tasks do not let it run.
        WorkflowError, RunNotFound, RunOwned, StoreError, ResourceError: see `runs.resume`.
    """
    loaded, last = find_run_to_resume(target, options, notify)
    if wait:
        last = _ended(options.db, last)
    if last.status == Status.SUCCESS and not rerun.start and not rerun.changed:
        notify(f"run {last.run_id} of {last.dag_id} has succeeded already: name the tasks to run again, with --from")
        return DagRun.load(options.db, last.run_id)
    run = resume_loaded(loaded, last, options, notify, rerun)
    if rerun.changed and not rerun.start and run.ended_at == last.ended_at:
        notify(f"no task of run {last.run_id} has changed: nothing was run")
    return run


def fork(run_id: str, options: RunOptions, start: Sequence[str], *, file: str | None, notify: Notify) -> DagRun:
    """Start a new run from the middle of another one, with other parameters or another file.

    Raises:
        DefinitionError, ParamError: there is no such task, or a parameter is not valid; nothing was stored.
        RunNotFound, WorkflowError, StoreError, ResourceError: see `runs.run`.
    """
    return fork_run(*find_origin(run_id, options, file), options, start, notify)


def _ended(db: str, run: RunRecord) -> RunRecord:
    """Wait for the end of a run, and return it."""
    with History(db) as history:
        while run.status not in RUN_ENDED:
            time.sleep(0.1)
            run = history.run(run.run_id)
    return run


def preview(db: str, run_id: str, rerun: RerunOptions) -> frozenset[str]:
    """Return the tasks of a run that `retry` would run, by its stored graph; changed tasks are not looked for.

    Without names these are all that a resume runs: what has no result.

    Raises:
        RunNotFound, DefinitionError: there is no such run or task.
    """
    with History(db) as history:
        run = find_run(history, run_id)
        rows = history.graph_tasks(run.graph_digest)
        graph = Graph({row["id"]: row.get("depends_on", ()) for row in rows})
        chosen = reruns.targets_of(history, run, rerun.start)
        again = closure(
            {graph.index[task_id]: indexes for task_id, indexes in chosen.items()},
            graph.downstream,
            follow=not rerun.only,
        )
        stay = TASK_ENDED if rerun.start else _RESULTS
        unfinished = {task_id for task_id, _, status in history.statuses(run.run_id) if status not in stay}
    return frozenset(graph.ids[node] for node in again) | unfinished


def clear(db: str, run_id: str, names: Sequence[str], *, only: bool) -> ChangedTasks:
    """Set tasks of a run back to PENDING, and without `only` all that follows them; `resume` runs them.

    Raises:
        RunNotFound, RunOwned, DefinitionError: see `liteflow.state.reruns.clear`.
    """
    with History(db) as history:
        run = find_run(history, run_id)
        chosen = reruns.targets_of(history, run, names)
        rerun = reruns.rerun_of(chosen, "only" if only else "from", follow=not only)
        cleared = reruns.clear(history.path, run.run_id, rerun)
        return _changed_tasks(history, run, cleared)


def mark(
    db: str, run_id: str, names: Sequence[str], status: str, *, reason: str = "", values: Mapping[str, Any]
) -> ChangedTasks:
    """Give tasks or instances of a run a status by hand, and a success its values.

    Raises:
        RunNotFound, RunOwned: see `liteflow.state.reruns.mark`.
        DefinitionError: so, and for a value that holds a secret of the workflow file.
    """
    with History(db) as history:
        run = find_run(history, run_id)
        masker = _masker_of(run) if values or reason else None
        chosen = reruns.targets_of(history, run, names)
        word, payloads = reruns.checked_mark(history.path, run.run_id, status, values, masker)
        text = reruns.marked_reason(reason if masker is None else masker.text(reason))
        marked = reruns.mark(history.path, run.run_id, chosen, word, reason=text, values=payloads)
        return _changed_tasks(history, run, marked)


def _changed_tasks(history: History, run: RunRecord, keys: list[InstanceKey]) -> ChangedTasks:
    mapped = {task_id for task_id, index in keys if index >= 0}
    labels = {
        (task_id, index): label
        for task_id in mapped
        for index, label in history.labels(run.run_id, task_id).items()
        if label is not None
    }
    return ChangedTasks(run=history.run(run.run_id), keys=keys, labels=labels)


def _masker_of(run: RunRecord) -> Masker | None:
    """Return what masks the secrets of the file of a run, as far as they can be read here and now."""
    from lightflow.service.workflows import declared_secrets

    source = os.path.join(run.cwd or "", run.source or "")
    if run.source is None or is_script(source) or not os.path.isfile(file_of(source)):
        return None
    try:
        secrets = declared_secrets(source)
    except LightflowError:
        return None
    return None if secrets is None else secrets.masker


def parse_outputs(words: Sequence[str]) -> dict[str, Any]:
    """Return the values of `--output KEY=VALUE`: JSON, and any other text as it is.

    Raises:
        DefinitionError: a word has no name.
    """
    values: dict[str, Any] = {}
    for word in words:
        key, equals, text = word.partition("=")
        if not equals or not key:
            raise DefinitionError(f"--output {word!r}: write NAME=VALUE, such as --output rows=7")
        try:
            values[key] = json.loads(text)
        except (ValueError, RecursionError):
            values[key] = text
    return values
