"""`lightflow cancel`: cancel a run."""

from __future__ import annotations

import click

from lightflow.cli.error_boundary import complain
from lightflow.cli.options import command, db_option, json_option, number, run_ids, run_or_latest
from lightflow.cli.output import say, say_json, state


@command(
    epilog="""\b
Examples:
  lightflow cancel 20260102T030405-1a2b3c4d
  lightflow cancel latest

\b
Exit codes: 0 the run is cancelled, 1 it is still stopping, or ended in another state first; 2 it had
already ended.
--json prints {run_id, workflow, status}."""
)
@click.argument("run", shell_complete=run_ids)
@click.option(
    "--wait",
    type=number(0),
    default=30.0,
    show_default=True,
    help="Wait at most so many seconds for the end of the run.",
)
@db_option
@json_option
def cancel(run: str, wait: float, db: str, as_json: bool) -> int:
    """Cancel a run.

    Its tasks get a signal to stop, and are killed after their grace period, or at once by a second cancel. The process
    that runs them then stores the run as cancelled.
    """
    from lightflow.service import json_shapes, queries, runs

    run_id = run_or_latest(run) or queries.latest_run(db).run_id
    record = runs.cancel(db, run_id, wait_s=wait)
    if as_json:
        say_json(json_shapes.cancelled_run_shape(record))
    else:
        say(f"run {record.run_id} of {record.dag_id}: {state(record.status)}")
    if record.status == "RUNNING":
        complain("its tasks have got the signal to stop and have not ended yet; see: lightflow status")
    return 0 if record.status == "CANCELLED" else 1
