"""`lightflow validate`: check workflow files."""

from __future__ import annotations

import json
import sys

import click

from lightflow.cli.error_boundary import complain
from lightflow.cli.options import PATH, command, json_option
from lightflow.cli.output import cut, many, paint, say, say_json, table
from lightflow.errors import Problem, WorkflowError
from lightflow.text import printable


@command(
    epilog="""\b
Examples:
  lightflow validate pipeline.yaml
  lightflow validate workflows/*.yaml --json
  lightflow validate pipeline.yaml --explain load.fetch

\b
Exit codes: 0 all files are valid, also with warnings; 2 at least one is not.
--json prints {valid, files}; a file has file, valid, workflows, tasks, problems and warnings; each
of those has file, line, column (from 1; 0 is the whole file), path and message. With --explain it
prints {task, values}; a value has key, value, source, file, line and column."""
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=PATH)
@click.option("--explain", metavar="TASK", help="Show where each value of this task of a file is written.")
@json_option
def validate(files: tuple[str, ...], explain: str | None, as_json: bool) -> int:
    """Check workflow files without running any task.

    All mistakes are reported at once, each with its line and column. Warnings name what is valid but probably a
    mistake: scripts with syntax errors, braces that nothing evaluates, failures that do not fail the run. A Python
    script is executed, in a process of its own, to find its workflows.
    """
    from lightflow.service import workflows

    if explain is not None:
        return _explain(files, explain, as_json=as_json)
    invalid = 0
    shapes = []
    for file in files:
        outlines: list[workflows.WorkflowOutline] = []
        problems: list[Problem] = []
        warnings: list[Problem] = []
        try:
            outlines, warnings = workflows.outline_all(file)
        except WorkflowError as error:
            problems = error.problems
            invalid += 1
            if not as_json:
                complain(str(error))
        if as_json:
            from lightflow.service.file_shapes import file_shape

            shapes.append(file_shape(file, outlines, problems, warnings))
        elif not problems:
            names = ", ".join(outline.name for outline in outlines)
            tasks = many(sum(len(outline.tasks) for outline in outlines), "task")
            say(f"{paint('✓', 'green')} {printable(file)}: valid, {names}, {tasks}")
            for warning in warnings:
                complain(f"{paint('warning:', 'yellow', sys.stderr)} {warning}")
    if as_json:
        say_json({"valid": not invalid, "files": shapes})
    elif len(files) > 1 and invalid:
        complain(f"{invalid} of {len(files)} files are not valid")
    return 2 if invalid else 0


def _explain(files: tuple[str, ...], task: str, *, as_json: bool) -> int:
    """Print where each value of a task is written."""
    from lightflow.service.task_values import origin_shape, task_values

    if len(files) != 1:
        raise click.UsageError("--explain takes one file")
    origins = task_values(files[0], task)
    if as_json:
        say_json({"task": task, "values": [origin_shape(origin) for origin in origins]})
        return 0
    rows = [
        (
            origin.key,
            printable(cut(origin.value if isinstance(origin.value, str) else json.dumps(origin.value), 60)),
            origin.source,
            f"{printable(origin.location.file)}:{origin.location.line}:{origin.location.column}",
        )
        for origin in origins
    ]
    say(table(("KEY", "VALUE", "SOURCE", "PLACE"), rows))
    return 0
