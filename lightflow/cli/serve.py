"""`lightflow serve`: start the runs of workflows at their instants and for their other triggers."""

from __future__ import annotations

import os
import signal
import sys
import threading
import time
from typing import Any

import click

from lightflow.cli.options import COUNT, PATH, command, db_option
from lightflow.cli.output import many, say
from lightflow.cli.web_options import as_web_options, web_options
from lightflow.scheduler.scheduler import Scheduler, SchedulerOptions
from lightflow.text import printable
from liteflow.api import replace


@command(
    epilog="""\b
Examples:
  lightflow serve --open
  lightflow serve --no-ui
  lightflow serve workflows/ reports/weekly.yaml
  lightflow -C /srv/etl serve --no-ui

\b
In folders, YAML and JSON files are read, also when they change; a Python file is read where it is
named, because to read it is to execute it. The runs start in the current folder, as by `lightflow run`.
Ctrl-C and SIGTERM end the server; the runs continue. `lightflow schedule` shows what is due, and
`lightflow token` the token for requests. Without the extra `ui`, only --no-ui works."""
)
@click.argument("paths", metavar="[PATH]...", nargs=-1, type=PATH)
@click.option("--no-ui", is_flag=True, help="Schedule only; answer no requests.")
@click.option("--no-scheduler", is_flag=True, help="Answer requests only; start nothing by itself.")
@click.option("--read-only", "is_read_only", is_flag=True, help="Refuse all requests that change something.")
@click.option("--max-runs", type=COUNT, metavar="N", help="At most so many of its runs at once; by default 8 per core.")
@db_option
@web_options
def serve(
    paths: tuple[str, ...],
    *,
    no_ui: bool,
    no_scheduler: bool,
    is_read_only: bool,
    max_runs: int | None,
    db: str,
    **values: Any,
) -> int:
    """Start runs by schedules and triggers, and show runs in a browser.

    PATH is a file or a folder with workflows; by default the current folder. Without --no-ui, the server also has the
    dashboard, and answers requests of programs: REST, GraphQL and a live feed.
    """
    if no_ui and (no_scheduler or values["opens"]):
        raise click.UsageError("--no-ui leaves nothing to do with --no-scheduler, and nothing to --open")
    if not no_ui:
        from lightflow.server.extra import check_installed

        check_installed()
    options = SchedulerOptions(db=db, paths=paths or (".",), takes_over=not no_scheduler, report=_print_change)
    scheduler = Scheduler(options if max_runs is None else replace(options, max_runs=max_runs))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, lambda *_: scheduler.stop())
    scheduler.turn()
    workflows = scheduler.view.workflows.values()
    triggers = sum(each.kind != "manual" for workflow in workflows for each in workflow.triggers)
    say(
        f"serves {many(len(workflows), 'workflow')} with {many(triggers, 'trigger')} of {', '.join(options.paths)}; "
        f"runs are in {db}"
    )
    for path in options.paths:
        if not os.path.exists(path):
            _print_change(f"problem: {path}: no such file or folder; it is served once it exists")
    sys.stdout.flush()
    if no_ui:
        scheduler.run()
    else:
        _answer_requests(db, scheduler, {**values, "is_read_only": is_read_only})
    say("the server has ended; runs that are running continue: lightflow runs")
    return 0


def _answer_requests(db: str, scheduler: Scheduler, values: dict[str, Any]) -> None:
    """Answer requests in this thread, and schedule in another, until one of them ends."""
    from lightflow.server.control import SchedulerControl
    from lightflow.server.web import WebServer

    control = SchedulerControl(db, scheduler)
    server = WebServer(as_web_options(db, values, control=control, on_ready=_announce))

    def schedule() -> None:
        try:
            scheduler.run()
        finally:
            server.stop()

    thread = threading.Thread(target=schedule, name="scheduler")
    thread.start()
    try:
        server.run()
    finally:
        scheduler.stop()
        thread.join()


def _announce(address: str) -> None:
    say(f"answers requests at {address}; `lightflow token` prints the token")
    sys.stdout.flush()


def _print_change(text: str) -> None:
    say(f"{time.strftime('%H:%M:%S')} {printable(text)}")
    sys.stdout.flush()
