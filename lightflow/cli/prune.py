"""`lightflow prune`: delete old runs."""

from __future__ import annotations

import click

from lightflow.cli.error_boundary import complain
from lightflow.cli.options import command, db_option, integer, json_option, workflow_names
from lightflow.cli.output import many, say, say_json
from lightflow.text import printable


@command(
    epilog="""\b
Examples:
  lightflow prune --dry-run
  lightflow prune --older-than 30d --keep 5
  lightflow prune --older-than 0 --keep 500 nightly

\b
A run that is running or waits, a run with a fork, and the parent or child of a run that stays are not
deleted. An unfinished run counts from its last change.
Containers that stayed after a task of a deleted run (`keep`) are removed too, and Python environments
of tasks that were not used for 30 days.
--json prints {db, dry_run, complete, deleted, workflows, preserved, leftovers, environments,
containers, containers_left, size_before, size_after}: the number of runs, the ids of the runs by workflow, the number
of old runs that stay by reason, the paths that --orphans removed, the environments, the names of the
containers, why others could not be removed by name, and the size of the state file in bytes."""
)
@click.argument("workflow", required=False, shell_complete=workflow_names)
@click.option("--older-than", default="90d", show_default=True, metavar="TIME", help="Delete only runs of this age.")
@click.option("--keep", type=integer(0), default=20, show_default=True, help="Spare the newest runs of each workflow.")
@click.option("--dry-run", is_flag=True, help="Show which runs would be deleted, and change nothing.")
@click.option("--orphans", is_flag=True, help="Also remove values and output files that belong to no run.")
@db_option
@json_option
def prune(
    workflow: str | None, older_than: str, keep: int, dry_run: bool, orphans: bool, db: str, as_json: bool
) -> None:
    """Delete old runs with their logs, values and checkpoints.

    Of all workflows, or of one. Other runs may continue meanwhile. A deletion that was cut off is completed.
    """
    from lightflow.service import state_files
    from liteflow import Retention

    retention = Retention(days=state_files.days_of(older_than), runs=keep)
    report = state_files.prune(db, retention, workflow, dry_run=dry_run, orphans=orphans)
    deleted = sum(map(len, report.pruned.runs.values()))
    if as_json:
        say_json(state_files.prune_shape(db, report, dry_run=dry_run))
        return
    verb = "would delete" if dry_run else "deleted"
    for name, ids in report.pruned.runs.items():
        say(f"{printable(name)}: {verb} {many(len(ids), 'run')}, {printable(ids[0])} to {printable(ids[-1])}")
    if report.leftovers:
        say(f"{verb} {many(len(report.leftovers), 'file')} of no run")
    if report.environments:
        say(f"{verb} {many(len(report.environments), 'unused Python environment')}")
    if report.containers:
        say(f"{verb} {many(len(report.containers), 'container')}")
    for name, why in report.containers_left.items():
        complain(f"container {printable(name)} was not removed: {printable(why)}; `lightflow doctor` lists it")
    if not deleted and not report.leftovers and not report.environments:
        say("nothing to delete")
    for reason, number in report.pruned.preserved.items():
        say(f"not deleted: {many(number, 'old run')}, {_REASONS[reason]}")
    if deleted and not dry_run:
        say(f"{db}: {_megabytes(report.size_before)} before, {_megabytes(report.size_after)} now")


_REASONS = {
    "running": "running",
    "waiting": "waiting",
    "changed since": "changed since, or with a child run that was",
    "forked": "with a fork that uses its logs",
}


def _megabytes(size: int) -> str:
    return f"{size / 1024**2:,.1f} MiB"
