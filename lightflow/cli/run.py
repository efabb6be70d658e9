"""`lightflow run`: run a workflow."""

from __future__ import annotations

from typing import Any

import click

from lightflow.cli.options import PATH, command
from lightflow.cli.run_arguments import EXIT_CODES, RunArguments, execution_options, pop_selection, selection_options
from lightflow.engine.choices import ALL_TASKS, SelectionOptions
from liteflow.api import replace


@command(
    epilog=f"""\b
Examples:
  lightflow run pipeline.yaml
  lightflow run pipeline.yaml --max-workers 8 --mode process
  lightflow run pipeline.yaml -p day=2026-01-31 -p rows=100
  lightflow run pipeline.yaml --date yesterday
  lightflow run pipeline.yaml --dry-run
  lightflow run pipeline.yaml --resume
  lightflow run pipeline.yaml report
  lightflow run pipeline.yaml --only load --values-from latest
  lightflow run pipeline.yaml --from transform --skip notify

{EXIT_CODES}"""
)
@click.argument("file", type=PATH)
@click.argument("tasks", nargs=-1)
@selection_options
@click.option("--resume", is_flag=True, help="Resume the last run, if it did not finish.")
@click.option("--run-id", metavar="ID", help="The id of the run, instead of a generated one.")
@execution_options
def run(file: str, *, tasks: tuple[str, ...], resume: bool, run_id: str | None, **options: Any) -> int:
    """Run a workflow, or a part of it.

    FILE is a workflow in YAML or JSON, or a Python script that defines a dag. With TASKS, these run and all that they
    need, as with --until. The other tasks are skipped and count as a success.
    """
    files = [name for name in tasks if name.endswith((".yaml", ".yml", ".json", ".py"))]
    if files:
        raise click.UsageError(f"got unexpected extra argument ({files[0]}): names after the file are tasks")
    selection = pop_selection(options)
    selection = replace(selection, until=(*tasks, *selection.until))
    return start_run(file, RunArguments(**options), selection, resume=resume, run_id=run_id)


def start_run(
    file: str, arguments: RunArguments, selection: SelectionOptions, *, resume: bool = False, run_id: str | None = None
) -> int:
    """Start a run, or show what it would do, and return the exit code."""
    from lightflow.service import runs

    if resume and selection != ALL_TASKS:
        raise click.UsageError("a resumed run keeps its selection: leave out --resume, or the tasks")
    if arguments.dry_run:
        from lightflow.cli.dry_run import show_plan

        return show_plan(file, arguments, resume=resume, selection=selection)
    from lightflow.cli.execution import execute

    return execute(
        file,
        arguments,
        lambda choices, notify: runs.run(
            file, replace(choices, run_id=run_id, selection=selection), resume=resume, notify=notify
        ),
    )
