"""The common options of `run` and `resume`."""

from __future__ import annotations

from typing import Any, Final, Literal

import click

from lightflow.cli.options import COUNT, PATH, Function, db_option, json_option, modes, param_names
from lightflow.engine.choices import SelectionOptions
from liteflow.api import Record

EXIT_CODES: Final = """\b
Exit codes: 0 success, 1 a task failed or the run was cancelled, 2 bad input (nothing ran),
3 state file, 4 the run is owned by a live process, or its group is full; 5 resources,
124 the timeout of the run is over, 129/130/143 interrupted by HUP/INT/TERM.

\b
--json prints one object when the run is over: run_id, workflow, status, reason, started_at,
ended_at, duration_s, counts and tasks (each with its attempts, their exit_code and log)."""


class RunArguments(Record):
    """The common options of `run` and `resume`, as they were typed."""

    db: str
    mode: str | None
    cluster: str | None
    max_workers: int | None
    log_dir: str | None
    fail_fast: bool | None
    park: bool
    dag: str | None
    params: tuple[str, ...]
    params_file: str | None
    date: str | None
    dry_run: bool
    output: Literal["prefix", "group", "quiet"] | None
    quiet: bool
    debug: bool
    as_json: bool

    def day(self) -> float | None:
        """Return the day or time that `--date` names.

        Raises:
            click.UsageError: it names none.
        """
        if self.date is None:
            return None
        from liteflow.api import parse_moment

        try:
            return parse_moment(self.date)
        except ValueError as error:
            raise click.UsageError(f"--date {error}") from None


def selection_options(function: Function) -> Function:
    """Add the options that select tasks of a new run."""
    options = [
        click.option("--only", multiple=True, metavar="TASK", help="Run this task alone."),
        click.option("--from", "start", multiple=True, metavar="TASK", help="Run this task and all that follows it."),
        click.option("--until", multiple=True, metavar="TASK", help="Run this task and all that it needs."),
        click.option("--skip", multiple=True, metavar="TASK", help="Do not run this task."),
        click.option("--values-from", metavar="RUN", help="The run whose values of other tasks are read, or latest."),
    ]
    for add_option in reversed(options):
        function = add_option(function)
    return function


def pop_selection(options: dict[str, Any]) -> SelectionOptions:
    """Return what the options of `selection_options` select, and remove them."""
    return SelectionOptions(**{name: options.pop(name) for name in ("only", "start", "until", "skip", "values_from")})


def execution_options(function: Function) -> Function:
    """Add the common options of `run` and `resume`."""
    options = [
        click.option(
            "-p",
            "--param",
            "params",
            multiple=True,
            metavar="NAME=VALUE",
            shell_complete=param_names,
            help="A parameter of the run; may be given several times.",
        ),
        click.option("--params-file", type=PATH, metavar="FILE", help="Parameters in YAML or JSON; -p overrides them."),
        click.option(
            "--date",
            "--logical-date",
            metavar="DATE",
            help="The day or time that the run is for: 2026-01-31, 2026-01-31T08:30, today, yesterday or now; "
            "by default the day on which it starts.",
        ),
        click.option(
            "--mode",
            metavar="MODE",
            shell_complete=modes,
            help="Run Python tasks in threads (thread), worker processes (process) or an event loop (async), or all "
            "tasks on a cluster: the name of one in the file, or ssh or dask with --cluster.",
        ),
        click.option(
            "--cluster",
            metavar="MACHINES",
            help="The machines of --mode ssh, such as node1,ann@node2:8, or the scheduler of --mode dask: its address, "
            "such as tcp://192.0.2.5:8786, or its scheduler file. `resume` and `retry` use those of the run.",
        ),
        click.option("-j", "--max-workers", type=COUNT, metavar="N", help="Run at most so many tasks at once."),
        click.option("-n", "--dry-run", is_flag=True, help="Show what would run, and in which order; run nothing."),
        click.option("--fail-fast/--no-fail-fast", default=None, help="Stop the run at the first failure, or do not."),
        click.option(
            "--park",
            is_flag=True,
            help="End when only waits of a minute or more are left, with exit code 0; `resume` continues the run.",
        ),
        click.option("--log-dir", type=PATH, help="The folder for the output of tasks."),
        click.option("--dag", metavar="ID", help="The dag to use, for a Python file that defines several."),
        db_option,
        click.option(
            "--output",
            type=click.Choice(["prefix", "group", "quiet"]),
            help="How task output is shown: each line at once, all lines of a task when it ends, or not at all.",
        ),
        click.option("-q", "--quiet", is_flag=True, help="Print only failures and the last line."),
        click.option("--debug", is_flag=True, help="Print each step and its reason."),
        json_option,
    ]
    for add_option in reversed(options):
        function = add_option(function)
    return function
