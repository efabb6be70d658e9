"""`lightflow diff`: compare two runs."""

from __future__ import annotations

from typing import Final

import click

from lightflow.cli.options import command, db_option, json_option, run_ids
from lightflow.cli.output import as_lines, paint, say, say_json, state, table
from lightflow.service.run_diff import ChildDifference, RunDifference, TaskDifference, ValueDifference
from lightflow.text import listed, printable
from liteflow.api import duration_text, instance_name, value_text

_MAX_NAMED: Final = 10


@command(
    epilog="""\b
Examples:
  lightflow diff 20260102T030405 20260103T030405
  lightflow diff 20260102T030405 latest --exit-code

\b
Exit codes: 0, or with --exit-code 1 if the runs differ in more than times and attempts.
--json prints {runs, status, differs, definition, params, selection, outputs, tasks, child_runs}:
definition is {added, removed, changed}, params and outputs map names to pairs, tasks has the pairs status,
attempts, duration_s and the outputs that differ; child_runs has {task, map_index, runs, status, differs}."""
)
@click.argument("first", metavar="RUN1", shell_complete=run_ids)
@click.argument("second", metavar="RUN2", shell_complete=run_ids)
@click.option("--exit-code", is_flag=True, help="End with exit code 1 if the runs differ.")
@db_option
@json_option
def diff(first: str, second: str, exit_code: bool, db: str, as_json: bool) -> int:
    """Compare two runs and their child runs: definitions, parameters, tasks and values.

    A run is an id, the beginning of an id, or "latest".
    """
    from lightflow.service import queries
    from lightflow.service.run_diff import diff_runs

    names = [queries.latest_run(db).run_id if name == "latest" else name for name in (first, second)]
    difference = diff_runs(db, *names)
    if as_json:
        from lightflow.service.json_shapes import run_difference_shape

        say_json(run_difference_shape(difference))
    else:
        _print(difference)
    return int(exit_code and difference.differs)


def _print(difference: RunDifference) -> None:
    first, second = difference.runs
    say(f"{printable(first.run_id)} {state(first.status)}  →  {printable(second.run_id)} {state(second.status)}")
    changed = [f"{task_id} ({', '.join(keys)})" for task_id, keys in difference.changed.items()]
    params = [
        f"{name}: {_text(before)} → {_text(after)}" for name, (before, after) in sorted(difference.params.items())
    ]
    selections = [listed(run.selection, _MAX_NAMED) if run.selection is not None else "all" for run in difference.runs]
    facts = [
        ("added", listed(difference.added, _MAX_NAMED)),
        ("removed", listed(difference.removed, _MAX_NAMED)),
        ("changed", listed(changed, _MAX_NAMED)),
        ("params", "; ".join(params)),
        ("tasks", " → ".join(selections) if selections[0] != selections[1] else ""),
        ("outputs", "; ".join(map(_output, difference.outputs))),
    ]
    say(as_lines([(name, printable(text)) for name, text in facts]))
    rows = [_row(task) for task in difference.tasks if task.differs or task.attempts[0] != task.attempts[1]]
    if rows:
        say()
        say(table(("TASK", "STATE", "ATTEMPTS", "DURATION", "OUTPUTS"), rows, "ATTEMPTS DURATION"))
    children = [_child_row(child) for child in difference.children if child.differs]
    if children:
        say()
        say(table(("TASK", "STATE", "CHILD RUNS"), children))
    if not difference.differs and not rows:
        say(paint("no difference but times", "dim"))


def _child_row(child: ChildDifference) -> tuple[str, ...]:
    states = [state(run.status) if run is not None else "-" for run in child.runs]
    runs = [printable(run.run_id) if run is not None else "-" for run in child.runs]
    return printable(instance_name(*child.name)), _pair(states), _pair(runs)


def _row(task: TaskDifference) -> tuple[str, ...]:
    states = [state(status) if status is not None else "-" for status in task.statuses]
    durations = [duration_text(seconds) or "-" for seconds in task.durations_s]
    return (
        printable(instance_name(*task.name)),
        _pair(states),
        _pair([str(count) for count in task.attempts]),
        _pair(durations),
        printable("; ".join(map(_output, task.values))),
    )


def _pair(texts: list[str]) -> str:
    return texts[0] if texts[0] == texts[1] else f"{texts[0]} → {texts[1]}"


def _output(value: ValueDifference) -> str:
    if value.values is None:
        return f"{value.key} differs"
    return f"{value.key}: {_text(value.values[0])} → {_text(value.values[1])}"


def _text(value: object) -> str:
    return "-" if value is None else value_text(value)
