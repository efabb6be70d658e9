"""`lightflow mark`: give tasks of a run a state by hand."""

from __future__ import annotations

import click

from lightflow.cli.options import command, db_option, json_option, run_ids, run_or_latest, task_ids, with_db
from lightflow.cli.output import say, say_json, state
from lightflow.text import printable


@command(
    epilog="""\b
Examples:
  lightflow mark latest load success --reason "loaded by hand"
  lightflow mark latest 'fetch[eu]' success --output rows=7 --output return_value='[1, 2]'
  lightflow mark 20260102T030405 report notify skipped

\b
Exit codes: 0 the tasks are marked, 2 there is no such run or task, 4 a process executes the run.
--json prints {run_id, workflow, status, tasks}."""
)
@click.argument("run", shell_complete=run_ids)
@click.argument("tasks", metavar="TASK…", nargs=-1, required=True, shell_complete=task_ids)
@click.argument("status", metavar="success|failed|skipped")
@click.option("--output", "outputs", multiple=True, metavar="NAME=VALUE", help="A value of the task, as JSON or text.")
@click.option("--reason", default="", metavar="TEXT", help="Why; `status` and `why` show it.")
@db_option
@json_option
def mark(
    run: str, tasks: tuple[str, ...], status: str, *, outputs: tuple[str, ...], reason: str, db: str, as_json: bool
) -> None:
    """Give tasks of a run a state by hand.

    A task that is marked has no attempt; `status` shows who marked it. Tasks that did not run because of it are pending
    again, and `resume` continues the run. Without --output, a success keeps the values that it has.

    RUN is an id, the beginning of an id, or "latest". A TASK is an id, a pattern, an instance of a mapped task, or a
    group.
    """
    from lightflow.service import queries, reruns

    run_id = run_or_latest(run) or queries.latest_run(db).run_id
    changed = reruns.mark(db, run_id, tasks, status, reason=reason, values=reruns.parse_outputs(outputs))
    if as_json:
        from lightflow.service.json_shapes import changed_tasks_shape

        say_json(changed_tasks_shape(changed.run, changed.names))
        return
    for name in changed.shown:
        say(f"{state(status.upper())}  {name}")
    say(f"to continue: {with_db(f'lightflow resume {printable(changed.run.run_id)}', db)}")
