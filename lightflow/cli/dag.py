"""`lightflow dag`: draw a workflow, or a run with its states."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

from lightflow.cli.options import PATH, command, db_option, run_ids, run_or_latest
from lightflow.cli.output import many, say
from lightflow.text import printable
from liteflow import DefinitionError
from liteflow.api import FOLDED, LAYERED, Picture, arranged


@command(
    epilog="""\b
Examples:
  lightflow dag pipeline.yaml
  lightflow dag --file pipeline.yaml --output pipeline.png
  lightflow dag pipeline.yaml --format mmd
  lightflow dag --run latest --output run.html"""
)
@click.argument("name", metavar="[FILE]", required=False, type=PATH)
@click.option("-f", "--file", type=PATH, help="The workflow file, if it is not the first argument.")
@click.option("-o", "--output", type=PATH, help="The file to write; - is standard output.")
@click.option(
    "--format",
    "kind",
    type=click.Choice(["svg", "png", "pdf", "html", "mmd", "dot"]),
    help="The format, if the name of OUTPUT does not end with it.",
)
@click.option("--fold", is_flag=True, help="Draw each group, and tasks that are alike, as one box.")
@click.option("--run", metavar="RUN", help='Draw this run with its states; "latest" works too.', shell_complete=run_ids)
@click.option("--dag", metavar="ID", help="The dag to use, for a Python file that defines several.")
@db_option
def dag(
    name: str | None,
    file: str | None,
    output: str | None,
    kind: str | None,
    run: str | None,
    dag: str | None,
    db: str,
    *,
    fold: bool,
) -> None:
    """Draw a workflow, or a run with its states.

    Without --output, the picture is written to <name>.svg. Mermaid (mmd) and DOT are printed.
    """
    from lightflow.service import workflows
    from lightflow.visuals import dag_viewer

    if name is not None and file is not None:
        raise click.UsageError("give the file once")
    picture = _picture(name or file, run, dag, db)
    if fold:
        picture = arranged(picture, "all")
    if output is None and kind in ("mmd", "dot"):
        output = "-"
    if output == "-":
        drawing = dag_viewer.draw(picture, kind or "mmd")
        sys.stdout.flush()
        sys.stdout.buffer.write(drawing)
        sys.stdout.buffer.flush()
        return
    target = output or f"{picture.title}.{kind or 'svg'}"
    dag_viewer.write_picture(picture, Path(target), kind)
    facts = dict(picture.facts)
    say(f"wrote {target} ({facts.get(FOLDED) or facts.get(LAYERED) or many(len(picture.nodes), 'task')})")
    implied = facts.get(workflows.FROM_EXPRESSIONS)
    if implied:
        say(f"edges from expressions: {printable(implied)}")


def _picture(file: str | None, run: str | None, dag: str | None, db: str) -> Picture:
    """Return the picture of a file, of a run, or of a run of the workflow of a file."""
    from lightflow.service import queries, workflows

    if file is None and run is None:
        raise click.UsageError("give a workflow file, or a run: lightflow dag FILE, lightflow dag --run RUN")
    outline = workflows.outline(file, dag) if file is not None else None
    if run is None:
        assert outline is not None
        return workflows.picture(outline)
    run_id = run_or_latest(run)
    if outline is not None and run_id is None:
        newest = queries.newest_runs(db, outline.name)
        if not newest:
            raise DefinitionError(f"{os.path.relpath(db)}: there is no run of {outline.name!r} yet")
        run_id = newest[0].run_id
    picture = queries.run_picture(db, run_id)
    if outline is not None and picture.title != outline.name:
        raise DefinitionError(f"run {run} is a run of {picture.title!r}, not of {outline.name!r}")
    return picture
