"""`lightflow template`, `validate` and `schema`: writing workflow files."""

from __future__ import annotations

import sys
from typing import Any

from lightflow.cli.border import complain
from lightflow.cli.declare import argument, command
from lightflow.cli.options import WORKFLOW, json_option
from lightflow.cli.output import as_lines, paint, say, say_json
from lightflow.errors import printable


@command(
    epilog="""\b
Example:
  lightflow template my_workflow

\b
--json prints {file}."""
)
@argument("name")
@json_option
def template(name: str, as_json: bool) -> None:
    """Write a small workflow to begin with.

    NAME.yaml is made in the current folder; a file that exists is never overwritten.
    """
    from lightflow.service import workflows

    path = workflows.write_template(name).removeprefix("./")
    if as_json:
        say_json({"file": path})
        return
    say(f"wrote {path}")
    say(as_lines([("run it", f"lightflow run {path}"), ("draw it", f"lightflow dag {path}")]))


@command(
    epilog="""\b
Examples:
  lightflow validate pipeline.yaml
  lightflow validate workflows/*.yaml --json

\b
Exit codes: 0 every file is good, also with warnings; 2 at least one is not.
--json prints {valid, files}; a file has file, valid, workflows, tasks, problems and warnings; each
of those has file, line, column (from 1; 0 is the whole file), path and message."""
)
@argument("files", metavar="FILE...", many=True, required=True, type=WORKFLOW)
@json_option
def validate(files: tuple[str, ...], as_json: bool) -> int:
    """Check workflow files; nothing of theirs is run.

    All mistakes are told at once, each with its line and column. What is valid and probably not meant is a
    warning: scripts that their shell cannot read, braces that nothing evaluates, failures that do not fail
    the run. A Python script has to be executed to be understood: that is done in a process of its own.
    """
    from lightflow.errors import WorkflowError
    from lightflow.service import workflows

    shapes: list[dict[str, Any]] = []
    for file in files:
        shape: dict[str, Any] = {"file": file, "valid": True, "workflows": [], "tasks": 0, "problems": []}
        shape["warnings"] = []
        try:
            found, hints = workflows.examine(file)
            shape |= {"workflows": [one.name for one in found], "tasks": sum(len(one.tasks) for one in found)}
            if not as_json:
                names = ", ".join(one.name for one in found)
                tasks = f"{shape['tasks']:,} task{'' if shape['tasks'] == 1 else 's'}"
                say(f"{paint('✓', 'green')} {printable(file)}: valid, {names}, {tasks}")
                for one in hints:
                    complain(f"{paint('warning:', 'yellow', sys.stderr)} {one}")
            shape["warnings"] = [_problem(one) for one in hints]
        except WorkflowError as error:
            shape |= {"valid": False, "problems": [_problem(one) for one in error.problems]}
            if not as_json:
                complain(str(error))
        shapes.append(shape)
    valid = all(shape["valid"] for shape in shapes)
    if as_json:
        say_json({"valid": valid, "files": shapes})
    elif len(files) > 1 and not valid:
        complain(f"{sum(not shape['valid'] for shape in shapes)} of {len(files)} files are not valid")
    return 0 if valid else 2


def _problem(one: Any) -> dict[str, Any]:
    return {"file": one.file, "line": one.line, "column": one.column, "path": one.path, "message": one.message}


@command(
    epilog="""\b
Example:
  lightflow schema > lightflow.schema.json

\b
An editor completes and checks a file that begins with
  # yaml-language-server: $schema=lightflow.schema.json"""
)
def schema() -> None:
    """Print the JSON Schema of workflow files, for editors."""
    from lightflow.service import workflows

    say_json(workflows.schema())
