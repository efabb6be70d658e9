"""`lightflow serve`: start the runs of workflows at their instants and for their other triggers."""

from __future__ import annotations

import signal
import sys
import time

import click

from lightflow.cli.options import COUNT, PATH, command, db_option
from lightflow.cli.output import many, say
from lightflow.text import printable


@command(
    epilog="""\b
Examples:
  lightflow serve --no-ui
  lightflow serve --no-ui workflows/ reports/weekly.yaml
  lightflow -C /srv/etl serve --no-ui

\b
In folders, YAML and JSON files are read, also when they change; a Python file is read where it is
named, because to read it is to execute it. The runs start in the current folder, as by `lightflow run`.
Ctrl-C and SIGTERM end the server; the runs continue. `lightflow schedule` shows what is due."""
)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=PATH)
@click.option("--no-ui", is_flag=True, help="Schedule only; serve no pages.")
@click.option("--max-runs", type=COUNT, metavar="N", help="At most so many of its runs at once; by default 8 per core.")
@db_option
def serve(paths: tuple[str, ...], *, no_ui: bool, max_runs: int | None, db: str) -> int:
    """Start the runs of scheduled workflows.

    PATH is a file or a folder with workflows; by default the current folder.
    """
    if not no_ui:
        raise click.UsageError("there are no pages yet: add --no-ui")
    from lightflow.scheduler.scheduler import Scheduler, SchedulerOptions
    from liteflow.api import replace

    options = SchedulerOptions(db=db, paths=paths or (".",), report=_print_change)
    scheduler = Scheduler(options if max_runs is None else replace(options, max_runs=max_runs))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: scheduler.stop())
    scheduler.turn()
    workflows = scheduler.files.workflows().values()
    triggers = sum(len(workflow.triggers) for workflow in workflows)
    say(f"serves {many(len(workflows), 'workflow')} with {many(triggers, 'trigger')} of {', '.join(options.paths)}; "
        f"runs are in {db}")  # fmt: skip
    sys.stdout.flush()
    scheduler.run()
    say("the server has ended; runs that are running continue: lightflow runs")
    return 0


def _print_change(text: str) -> None:
    say(f"{time.strftime('%H:%M:%S')} {printable(text)}")
    sys.stdout.flush()
