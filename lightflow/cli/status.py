"""`lightflow list`, `runs` and `status`: what has run, and how it went."""

from __future__ import annotations

import time
from typing import Any, Final

from lightflow.cli.declare import argument, command, option
from lightflow.cli.options import (
    chosen_run,
    db_option,
    json_option,
    limit_option,
    run_ids,
    task_ids,
    with_db,
    workflow_names,
)
from lightflow.cli.output import as_lines, counted, moment, near_path, paint, say, say_json, say_more, state, table
from lightflow.cli.shapes import duration, run_shape, view_shape
from lightflow.engine.naming import took_text
from lightflow.errors import printable
from liteflow.states import RUN_ENDED
from liteflow.values.dates import shown as shown_date

_MOST_WORKFLOWS: Final = 50


@command(
    "list",
    epilog="""\b
Example:
  lightflow list

\b
--json prints a list of {workflow, description, source, latest}; latest is a run as in `runs --json`.""",
)
@limit_option(None, f"How many at most, those started last.  [default: {_MOST_WORKFLOWS}; all with --json]")
@db_option
@json_option
def list_workflows(limit: int | None, db: str, as_json: bool) -> None:
    """List the workflows that have run."""
    from lightflow.service import inspecting

    most = limit or (None if as_json else _MOST_WORKFLOWS)
    found, more = inspecting.workflows(db, most, counted=as_json)
    if as_json:
        say_json(
            [
                {
                    "workflow": one.dag.dag_id,
                    "description": one.dag.description,
                    "source": one.dag.source,
                    "latest": run_shape(*one.latest) if one.latest else None,
                }
                for one in found
            ]
        )
        return
    rows = []
    for dag, latest in found:
        ran = (state(latest.run.status), moment(latest.run.created_at)) if latest else ("-", "-")
        rows.append((printable(dag.dag_id), *ran, near_path(dag.source) if dag.source else "-"))
    say(table(("WORKFLOW", "LATEST RUN", "AT", "FILE"), rows) if rows else "no workflow has run yet")
    say_more(more, "workflow")


@command(
    epilog="""\b
Examples:
  lightflow runs
  lightflow runs daily_model_pipeline --limit 5

\b
--json prints a list of runs: run_id, workflow, status, reason, created_at, started_at, ended_at,
duration_s, counts, source, params, logical_date."""
)
@argument("workflow", required=False, shell_complete=workflow_names)
@limit_option(20, "How many at most.")
@db_option
@json_option
def runs(workflow: str | None, limit: int, db: str, as_json: bool) -> None:
    """List runs, the newest first."""
    from lightflow.service import inspecting

    found, more = inspecting.runs(db, workflow, limit)
    if as_json:
        say_json([run_shape(*one) for one in found])
        return
    dated = any(_of_another_day(run) for run, _, _ in found)
    rows = [
        (
            printable(run.run_id),
            printable(run.dag_id),
            state(run.status),
            moment(run.created_at),
            *([shown_date(run.logical_date) if run.logical_date is not None else "-"] if dated else []),
            _so_far(run),
            counted(counts, instances),
        )
        for run, counts, instances in found
    ]
    heads = ("RUN", "WORKFLOW", "STATE", "BEGUN", *(["DATE"] if dated else []), "DURATION", "TASKS")
    nothing = f"no run of {printable(workflow)!r}" if workflow else "no run yet"
    say(table(heads, rows, "DURATION") if rows else nothing)
    say_more(more, "run")


@command(
    epilog="""\b
Examples:
  lightflow status
  lightflow status 20260102T030405 --json
  lightflow status --task resize

\b
--json prints a run as in `runs --json`, with tasks: task, status, reason, depends_on, started_at,
ended_at, duration_s, attempts (attempt, status, exit_code, error, started_at, ended_at, duration_s, log), and
instances: of a task that is mapped over a list, a list of the like with map_index and map_key."""
)
@argument("run", required=False, shell_complete=run_ids)
@option("-t", "--task", help="Only this task, with each of its instances.", shell_complete=task_ids)
@db_option
@json_option
def status(run: str | None, task: str | None, db: str, as_json: bool) -> None:
    """Show a run and its tasks.

    RUN is an id, the beginning of one, or "latest": the run that was started or resumed last, which is also the
    default. Of a task that is mapped over a list with many items, the instances that failed or run are listed; --task
    lists all.
    """
    from lightflow.cli import summary
    from lightflow.service import inspecting
    from lightflow.service.parameters import shown
    from lightflow.service.verdicts import in_words

    view = inspecting.status(db, chosen_run(run), task)
    if as_json:
        say_json(view_shape(*view))
        return
    record = view.run
    say(f"{paint(printable(record.dag_id), 'bold')}  {state(record.status)}  {counted(*view.tally())}")
    owned = record.status in ("RUNNING", "PENDING")
    owner = f"process {record.owner_pid} on {printable(str(record.owner_host))}" if owned else None
    again = record.status in RUN_ENDED and record.status != "SUCCESS" and record.resumable
    say(
        as_lines(
            [
                ("run", printable(record.run_id)),
                ("begun", moment(record.created_at)),
                ("duration", _so_far(record)),
                ("date", None if record.logical_date is None else shown_date(record.logical_date)),
                ("params", printable(shown(record.params))),
                ("reason", printable(record.reason or "")),
                ("success", in_words(view.overlooked)),
                ("file", near_path(record.source) if record.source else None),
                ("owner", owner),
                ("go on", with_db(f"lightflow resume {printable(record.run_id)}", db) if again else None),
            ]
        )
    )
    say()
    say(summary.tasks_table(view, every=task is not None))


def _of_another_day(run: Any) -> bool:
    """Whether a run is for another day than the one on which it was started."""
    return run.logical_date is not None and shown_date(run.logical_date) != moment(run.created_at)[:10]


def _so_far(run: Any) -> str:
    """How long a run took, or has been going on."""
    took = duration(run.started_at, run.ended_at if run.status in RUN_ENDED else time.time())
    return took_text(took) or "-"
