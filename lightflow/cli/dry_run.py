"""`--dry-run`: show what would run, level by level. It touches nothing: no state file, no log folder."""

from __future__ import annotations

import os
from collections.abc import Iterator

from lightflow.cli.output import many, paint, say, say_json, table
from lightflow.cli.run_arguments import RunArguments
from lightflow.engine.choices import ALL_TASKS, RerunOptions, SelectionOptions
from lightflow.service import parameters, queries, runs, workflows
from lightflow.service.lookup import machines_of
from lightflow.service.mapped_instances import MAX_LISTED
from lightflow.service.parameters import OPTION, ParamArguments, values_text
from lightflow.service.queries import RunView
from lightflow.service.workflows import TaskOutline, WorkflowOutline
from lightflow.text import printable
from liteflow.api import current_day, duration_text


def show_plan(
    target: str,
    arguments: RunArguments,
    *,
    resume: bool,
    rerun: RerunOptions | None = None,
    selection: SelectionOptions = ALL_TASKS,
) -> int:
    """Print what `run`, `resume` or `retry` would do with a file or a run. Returns the exit code."""
    day = arguments.day()
    view = None
    file = target
    if resume and not runs.is_file(target):
        view = queries.run_view(arguments.db, target)
        file = view.run.source or target
    outline = workflows.outline(file, arguments.dag)
    if resume and view is None:
        view = _unfinished_run(arguments.db, outline.name)
    param_arguments = ParamArguments(words=arguments.params, file=arguments.params_file, place=OPTION)
    done = frozenset[str]()
    if view is None:
        values = parameters.new_run_values(outline.params, param_arguments, file, day or current_day())
    else:
        day = runs.resumed_date(day, view.run)
        values = parameters.resumed_values(outline.params, param_arguments, view.run.run_id, view.run.params, day)
        done = frozenset(task.task_id for task in view.tasks if task.status in ("SUCCESS", "SKIPPED"))
        if rerun is not None and rerun.start:
            from lightflow.service.reruns import preview

            ended = frozenset(task.task_id for task in view.tasks)
            done = ended - preview(arguments.db, view.run.run_id, rerun)
    outline = outline.for_run(values, day)
    if selection != ALL_TASKS:
        outline = workflows.with_selection(outline, selection)
    max_workers = arguments.max_workers or outline.settings.max_parallel_tasks
    stored_mode = None if view is None or machines_of(view.run) is None else view.run.settings["mode"]
    mode = arguments.mode or stored_mode or outline.settings.mode
    if arguments.as_json:
        from lightflow.service.file_shapes import plan_shape

        say_json(plan_shape(outline, done, max_workers, mode))
    else:
        _print_plan(outline, done, max_workers, mode)
    return 0


def _unfinished_run(db: str, workflow: str) -> RunView | None:
    """Return the run that a resume of the workflow would continue."""
    if not os.path.exists(db):
        return None
    newest = queries.newest_runs(db, workflow)
    return queries.run_view(db, newest[0].run_id) if newest and newest[0].resumable else None


def _print_plan(outline: WorkflowOutline, done: frozenset[str], max_workers: int, mode: str) -> None:
    levels = outline.levels()
    say(
        f"{paint(outline.name, 'bold')}: {many(len(outline.tasks), 'task')} in {many(len(levels), 'step')}, "
        f"at most {max_workers} at once, mode {mode}"
    )
    if outline.description:
        say(printable(outline.description))
    if outline.values:
        say(f"with {printable(values_text(outline.values))}")
    if outline.secrets:
        say(f"secrets, read when a run starts: {', '.join(outline.secrets)}")
    for line in _limits(outline):
        say(printable(line))
    say()
    rows = [row for number, level in enumerate(levels, start=1) for row in _step_rows(outline, number, level, done)]
    say(table(("STEP", "TASK", "TYPE", "SPECIAL", "RUNS"), rows, "STEP"))
    say()
    widest = max((len(level) for level in levels), default=0)
    if widest > 1:
        say(f"Tasks of a step can run in parallel: up to {min(widest, max_workers)} at once.")
    if done:
        say(f"{many(len(done & {task.id for task in outline.tasks}), 'task')} done before would not run again.")
    say("Nothing was run.")


def _step_rows(
    outline: WorkflowOutline, number: int, level: list[TaskOutline], done: frozenset[str]
) -> Iterator[tuple[str, str, str, str, str]]:
    """Yield a row for each task of a step, and for the first instances of mapped tasks."""
    for place, task in enumerate(level):
        instances = outline.instances(task)
        count = "" if instances is None else f"×{len(instances):,}"
        special = ", ".join(part for part in (count, _specials(task, done)) if part)
        yield str(number) if not place else "", task.id, task.kind, special or "-", printable(task.summary)
        for index, instance in enumerate((instances or ())[:MAX_LISTED]):
            label = "-" if instance.label is None else printable(instance.label)
            yield "", f"  {task.id}[{index}]", "", label, printable(instance.summary)
        if instances is not None and len(instances) > MAX_LISTED:
            yield "", f"  … and {len(instances) - MAX_LISTED:,} more", "", "", ""


def _limits(outline: WorkflowOutline) -> Iterator[str]:
    """Yield the limits of the run in words."""
    limits = outline.limits
    if limits.pools:
        pools = (f"{name} {pool.slots or ''}".strip() for name, pool in limits.pools.items())
        yield f"pools: {', '.join(pools)}"
    parts = []
    if limits.timeout_s is not None:
        parts.append(f"timeout {duration_text(limits.timeout_s)}")
    if limits.retry.retries:
        parts.append(f"retried up to {many(limits.retry.retries, 'time')} if it fails")
    if parts:
        yield f"the run: {', '.join(parts)}"
    group = limits.concurrency
    if group is not None:
        name = group.group or outline.name
        yield f"at most {many(group.limit, 'run')} of group {name} at once, else {group.on_conflict}"


def _specials(task: TaskOutline, done: frozenset[str]) -> str:
    """Return the options of a task that differ from the default, in few words."""
    parts = [
        "done" if task.id in done else "",
        printable(task.mapped),
        f"retries {task.retries}" if task.retries else "",
        f"timeout {duration_text(task.timeout_s)}" if task.timeout_s is not None else "",
        task.rule if task.rule != "all_success" else "",
        f"priority {task.order.priority}" if task.order.priority else "",
        f"at most {task.order.max_parallel} at once" if task.order.max_parallel is not None else "",
        *[f"{slots} {pool}" for pool, slots in task.order.needs],
        f"reads {' '.join(task.implied)}" if task.implied else "",
        *task.special,
        f"SKIPPED: {task.skipped}" if task.skipped else "",
    ]
    return ", ".join(part for part in parts if part)
