"""Find a run or a task by what a user typed, and suggest names if there is none."""

from __future__ import annotations

from typing import Final

from lightflow.service.mapped_instances import combined_hooks, split_name
from lightflow.spec.cluster_limits import KINDS
from lightflow.text import listed
from liteflow import DefinitionError, RunNotFound
from liteflow.api import TASK_ENDED, History, InstanceRecord, RunRecord
from liteflow.planning.targets import chosen_instances, split_target

_MAX_NAMED: Final = 20  # tasks that an error names
_LATEST: Final = 3  # runs that an error names


def find_run(history: History, run_id: str) -> RunRecord:
    """Return a run by its id, or by the beginning of its id.

    Raises:
        RunNotFound: there is none, or several; the message has the next step.
    """
    try:
        return history.run(run_id)
    except RunNotFound as error:
        if history.matching_runs(run_id):  # several
            raise
        raise RunNotFound(f"{error}; {_instead_of_run(history, run_id)}") from None


def _instead_of_run(history: History, name: str) -> str:
    """Return what a name that is not that of a run stands for, or else the runs that there are."""
    if history.dag(name) is not None:
        return f"it is a workflow, whose latest run is {history.latest(name).run_id}"
    if history.latest_with(split_name(name)[0]) is not None:
        return f"it is a task: `lightflow status --task {name}`"
    latest = [run.run_id for run in history.runs(limit=_LATEST)]
    if not latest:
        return "there is none yet: `lightflow run FILE` starts one"
    return f"the latest: {', '.join(latest)}; `lightflow runs` lists all"


def mode_of(run: RunRecord) -> str | None:
    """Return the mode of the last start or resume of a run; None: a file that was altered has none."""
    mode = run.settings.get("mode")
    return mode if isinstance(mode, str) else None


def machines_of(run: RunRecord) -> str | None:
    """Return the machines that the command line of the last start or resume of a run named; None: it named none."""
    mode, clusters = mode_of(run), run.settings.get("clusters")
    cluster = clusters.get(mode) if mode in KINDS and isinstance(clusters, dict) else None
    machines = cluster.get("machines") if isinstance(cluster, dict) else None
    return machines if isinstance(machines, str) and machines else None


def find_instance(history: History, run: RunRecord, name: str) -> InstanceRecord:
    """Return a task of a run, or an instance of it such as `fetch[3]`, or `fetch[eu]` by its label.

    Raises:
        RunNotFound: there is none, or a pattern matches several labels.
    """
    task_id, index = split_name(name)
    instance = history.instance(run.run_id, task_id, index)
    if instance is not None:
        return instance
    hooks = history.hooks(run.run_id)
    same_name = [hook for hook in hooks if hook.task_id == task_id]
    if same_name and index < 0:
        return combined_hooks(same_name)  # each instance of a mapped task has a hook of this name
    labelled = _find_labelled(history, run, name)
    if labelled is not None:
        return labelled
    statuses = history.statuses(run.run_id)
    if index >= 0 and history.instance(run.run_id, task_id) is not None:
        count = sum(task == task_id and map_index >= 0 for task, map_index, _ in statuses)
        has = f"{count:,} instances: {task_id}[0] to {task_id}[{count - 1}]" if count else "no instances"
        raise RunNotFound(f"run {run.run_id} has no {name!r}; the task has {has}")
    names = [task for task, map_index, _ in statuses if map_index < 0]
    names += dict.fromkeys(hook.task_id for hook in hooks)
    raise RunNotFound(f"run {run.run_id} has no task {task_id!r}{_similar(task_id, names)}{_listed(names)}")


def _find_labelled(history: History, run: RunRecord, name: str) -> InstanceRecord | None:
    """Return the instance with a label such as `fetch[eu]`; None: the name has no brackets, or an index in them."""
    task_id, key = split_target(name)
    labels = {} if key is None else history.labels(run.run_id, task_id)
    if key is None or not labels or (key.isdigit() and key not in labels.values()):
        return None
    try:
        indexes = chosen_instances(task_id, key, labels, f"run {run.run_id}")
    except DefinitionError as error:
        raise RunNotFound(str(error)) from None
    if len(indexes) > 1:
        names = listed([f"{task_id}[{index}]" for index in sorted(indexes)], _MAX_NAMED)
        raise RunNotFound(f"{name!r} matches several instances in run {run.run_id}; name one of {names}")
    return history.instance(run.run_id, task_id, min(indexes))


def with_span(history: History, run: RunRecord, record: InstanceRecord) -> InstanceRecord:
    """Return a task; a mapped one with the time from the first start to the last end of its instances."""
    if record.map_index >= 0 or record.started_at is not None:
        return record
    started_at, ended_at = history.instance_span(run.run_id, record.task_id)
    return record._replace(started_at=started_at, ended_at=ended_at if record.status in TASK_ENDED else None)


def latest_run_with(history: History, name: str) -> RunRecord:
    """Return the latest run that has this task: see `History.latest_with`.

    Raises:
        RunNotFound: there is none.
    """
    task_id, _ = split_target(name)
    run = history.latest_with(task_id)
    if run is not None:
        return run
    newest = [history.statuses(run.run_id) for run in history.runs(limit=3)]
    names = list(dict.fromkeys(task for statuses in newest for task, _, _ in statuses))
    latest_names = list(dict.fromkeys(task for statuses in newest[:1] for task, _, _ in statuses))
    older = "; name an older run by its id" if history.run_count() > 100 else ""
    hint = _similar(task_id, names) or older
    raise RunNotFound(f"no run has a task {task_id!r}{hint}{_listed(latest_names, 'the latest run')}")


def _similar(word: str, names: list[str]) -> str:
    import difflib

    matches = difflib.get_close_matches(word, names[:5000], n=1)
    return f"; did you mean {matches[0]!r}?" if matches else ""


def _listed(names: list[str], owner: str = "it") -> str:
    if not names:
        return ""
    return f"\n{owner} has {listed(names, _MAX_NAMED)}"
