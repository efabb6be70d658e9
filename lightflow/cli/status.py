"""`lightflow status`: show a run and its tasks."""

from __future__ import annotations

from typing import Final

import click

from lightflow.cli.options import command, db_option, json_option, run_ids, run_or_latest, task_ids, with_db
from lightflow.cli.output import as_lines, counted, moment, near_path, paint, say, say_json, state
from lightflow.service.queries import RunView
from lightflow.text import listed, printable
from liteflow.api import RUN_ENDED, day_text, duration_text

_MAX_NAMED: Final = 10  # tasks that a fact names


@command(
    epilog="""\b
Examples:
  lightflow status
  lightflow status 20260102T030405 --json
  lightflow status --task resize

\b
--json prints a run as in `runs --json`, with outputs, by name, and tasks: task, status, reason, depends_on, started_at,
ended_at, duration_s, attempts (attempt, status, exit_code, error, started_at, ended_at, duration_s, log),
and instances: for a task that is mapped over a list, a list of the same form with map_index and map_key."""
)
@click.argument("run", required=False, shell_complete=run_ids)
@click.option("-t", "--task", help="Only this task with its instances, or this instance.", shell_complete=task_ids)
@db_option
@json_option
def status(run: str | None, task: str | None, db: str, as_json: bool) -> None:
    """Show a run and its tasks.

    RUN is an id, the beginning of an id, or "latest": the run that was started or resumed last, which is the default.
    A task that is mapped over a long list is listed with its failed and running instances; --task lists all instances.
    """
    from lightflow.service import queries

    view = queries.run_view(db, run_or_latest(run), task)
    if as_json:
        from lightflow.service.json_shapes import view_shape

        say_json(view_shape(view))
        return
    from lightflow.cli.summary import children_table, tasks_table

    say(f"{paint(printable(view.run.dag_id), 'bold')}  {state(view.run.status)}  {counted(*view.tally())}")
    say(as_lines(_facts(view, db)))
    say()
    say(tasks_table(view, every=task is not None))
    if view.children:
        say()
        say(children_table(view))


def _facts(view: RunView, db: str) -> list[tuple[str, str | None]]:
    """Return the facts about a run, without its tasks."""
    from lightflow.cli.summary import approve_text
    from lightflow.service import queries
    from lightflow.service.child_views import parent_task
    from lightflow.service.lookup import machines_of
    from lightflow.service.parameters import values_text
    from lightflow.service.queries import fire_text, request_text
    from lightflow.service.tolerated_failures import summary_text

    run, machines = view.run, machines_of(view.run)
    active = run.status in ("RUNNING", "PENDING")
    resumable = run.status in RUN_ENDED and run.status != "SUCCESS" and run.resumable
    return [
        ("run", printable(run.run_id)),
        ("started", moment(run.created_at)),
        ("duration", duration_text(queries.elapsed_s(run)) or "-"),
        ("date", None if run.logical_date is None else day_text(run.logical_date)),
        ("trigger", None if run.fire is None else printable(fire_text(run.fire))),
        ("request", None if run.request is None else printable(request_text(run.request))),
        ("params", printable(values_text(run.params))),
        ("cluster", None if machines is None else printable(f"{machines} (--mode {run.settings['mode']})")),
        ("partial", None if run.selection is None else printable(f"only {listed(run.selection, _MAX_NAMED)}")),
        ("parent", run.parent_run_id and printable(f"task {parent_task(run)} of run {run.parent_run_id}")),
        ("origin", run.origin_run_id and printable(f"a fork of run {run.origin_run_id}")),
        ("outputs", printable(values_text(view.outputs))),
        ("reason", printable(run.reason or "")),
        ("success", summary_text(view.overlooked)),
        ("file", near_path(run.source) if run.source else None),
        ("owner", f"process {run.owner_pid} on {printable(str(run.owner_host))}" if active else None),
        ("approve", approve_text(view, db)),
        ("resume", with_db(f"lightflow resume {printable(run.run_id)}", db) if resumable else None),
    ]
