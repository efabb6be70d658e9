"""`lightflow runs`: list runs."""

from __future__ import annotations

import click

from lightflow.cli.options import command, db_option, json_option, limit_option, workflow_names
from lightflow.cli.output import counted, moment, say, say_json, say_more, state, table
from lightflow.text import printable
from liteflow.api import RunRecord, day_text, duration_text


@command(
    epilog="""\b
Examples:
  lightflow runs
  lightflow runs daily_model_pipeline --limit 5
  lightflow runs --all

\b
--json prints a list of runs: run_id, workflow, status, reason, created_at, started_at, ended_at,
duration_s, counts, approvals, source, params, logical_date, trigger (trigger, at, started_by),
parent (run_id, task, map_index), request (action, requested_by, at)."""
)
@click.argument("workflow", required=False, shell_complete=workflow_names)
@click.option("-a", "--all", "every", is_flag=True, help="Also child runs, which tasks of other runs execute.")
@limit_option(20, "List at most so many.")
@db_option
@json_option
def runs(workflow: str | None, every: bool, limit: int, db: str, as_json: bool) -> None:
    """List runs, the newest first."""
    from lightflow.service import queries

    summaries, left_out = queries.list_runs(db, workflow, limit, with_children=every)
    if as_json:
        from lightflow.service.json_shapes import summary_shape

        say_json([summary_shape(summary) for summary in summaries])
        return
    dated = any(_is_for_another_day(summary.run) for summary in summaries)
    fired = any(summary.run.fire is not None for summary in summaries)
    rows = [
        (
            printable(run.run_id),
            printable(run.dag_id),
            state(run.status),
            moment(run.created_at),
            *([day_text(run.logical_date) if run.logical_date is not None else "-"] if dated else []),
            *([printable(_trigger(run))] if fired else []),
            duration_text(queries.elapsed_s(run)) or "-",
            counted(counts, instances) + (" (partial)" if run.selection is not None else ""),
        )
        for run, counts, instances, _ in summaries
    ]
    heads = (
        "RUN",
        "WORKFLOW",
        "STATE",
        "STARTED",
        *(["DATE"] if dated else []),
        *(["TRIGGER"] if fired else []),
        "DURATION",
        "TASKS",
    )
    nothing = f"no run of {printable(workflow)!r}" if workflow else "no run yet"
    say(table(heads, rows, "DURATION") if rows else nothing)
    say_more(left_out, "run")


def _trigger(run: RunRecord) -> str:
    """Return the trigger that started a run, and who requested it."""
    if run.fire is None:
        return "-"
    return run.fire.trigger_id + (f" ({run.fire.started_by})" if run.fire.started_by is not None else "")


def _is_for_another_day(run: RunRecord) -> bool:
    """Return whether a run is for another day than the one on which it was started."""
    return run.logical_date is not None and day_text(run.logical_date) != moment(run.created_at)[:10]
