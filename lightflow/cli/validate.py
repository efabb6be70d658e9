"""`lightflow validate`: check workflow files."""

from __future__ import annotations

import sys

import click

from lightflow.cli.error_boundary import complain
from lightflow.cli.options import PATH, command, json_option
from lightflow.cli.output import many, paint, say, say_json
from lightflow.errors import Problem, WorkflowError
from lightflow.text import printable


@command(
    epilog="""\b
Examples:
  lightflow validate pipeline.yaml
  lightflow validate workflows/*.yaml --json

\b
Exit codes: 0 all files are valid, also with warnings; 2 at least one is not.
--json prints {valid, files}; a file has file, valid, workflows, tasks, problems and warnings; each
of those has file, line, column (from 1; 0 is the whole file), path and message."""
)
@click.argument("files", metavar="FILE...", nargs=-1, required=True, type=PATH)
@json_option
def validate(files: tuple[str, ...], as_json: bool) -> int:
    """Check workflow files without running any task.

    All mistakes are reported at once, each with its line and column. Warnings name what is valid but probably a
    mistake: scripts with syntax errors, braces that nothing evaluates, failures that do not fail the run. A Python
    script is executed, in a process of its own, to find its workflows.
    """
    from lightflow.service import workflows

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
