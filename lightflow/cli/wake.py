"""`lightflow wake`: resume the parked runs that are due."""

from __future__ import annotations

import click

from lightflow.cli.error_boundary import complain
from lightflow.cli.options import command, db_option, json_option
from lightflow.cli.output import say, say_json, state
from lightflow.text import printable


@command(
    epilog="""\b
Examples:
  lightflow wake
  lightflow wake --dry-run
  */10 * * * *  lightflow -C /srv/etl wake --quiet      # in a crontab

\b
Exit codes: 0 all runs that were due continue or have ended well, also if there was none; 1 a run has
failed or was not resumed, 3 state file.
--json prints {db, dry_run, runs}; a run has run_id, workflow, due (the reason), status and problem."""
)
@click.option("-n", "--dry-run", is_flag=True, help="Show which runs are due; resume nothing.")
@click.option("-q", "--quiet", is_flag=True, help="Print only runs that have failed or were not resumed.")
@db_option
@json_option
def wake(*, dry_run: bool, quiet: bool, db: str, as_json: bool) -> int:
    """Resume the parked runs that are due.

    A parked run is due when a wait of it is, or when a person has decided. It is resumed in the folder where it was
    started, one run after another, and parks again when only long waits are left. `lightflow serve` does the same for
    the workflows that it serves.
    """
    from lightflow.scheduler import waking
    from lightflow.scheduler.parked_runs import why_due

    runs = []
    for due_run in waking.due_runs(db):
        name = f"{printable(due_run.dag_id)}: run {due_run.run_id}"
        if not (dry_run or quiet or as_json):
            say(f"{name} is resumed: {why_due(due_run)}", at_once=True)
        run = waking.wake(db, due_run, dry_run=dry_run)
        if run is None:
            continue
        runs.append(run)
        if run.problem is not None:
            complain(f"{name} was not resumed: {printable(run.problem)}")
        elif not as_json and (not quiet or run.status == "FAILED"):
            say(f"{name} is due: {run.due}" if dry_run else f"{name}: {state(run.status)}", at_once=True)
    if as_json:
        say_json(waking.wake_shape(db, runs, dry_run=dry_run))
    elif not runs and not quiet:
        say("no parked run is due")
    return int(any(run.problem is not None or run.status in ("FAILED", "CANCELLED") for run in runs))
