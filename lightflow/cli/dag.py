"""`lightflow dag`: a picture of a workflow, or of a run as it went."""

from __future__ import annotations

import os
import sys
from pathlib import Path

from lightflow.cli.declare import PATH, Choice, Misuse, argument, command, option
from lightflow.cli.options import WORKFLOW, chosen_run, db_option, run_ids
from lightflow.cli.output import say
from lightflow.errors import printable
from liteflow.errors import DefinitionError
from liteflow.pictures.picture import Picture


@command(
    epilog="""\b
Examples:
  lightflow dag pipeline.yaml
  lightflow dag --file pipeline.yaml --output pipeline.png
  lightflow dag pipeline.yaml --format mmd
  lightflow dag --run latest --output run.html"""
)
@argument("name", metavar="[FILE]", required=False, type=WORKFLOW)
@option("-f", "--file", type=WORKFLOW, help="The workflow file, if it is not given first.")
@option("-o", "--output", type=PATH, help="Where to; - is the terminal or pipe.")
@option(
    "--format",
    "kind",
    type=Choice("svg", "png", "pdf", "html", "mmd", "dot"),
    help="What kind of picture, if OUTPUT does not end with it.",
)
@option("--run", metavar="RUN", help='Draw this run with its states; "latest" works too.', shell_complete=run_ids)
@option("--dag", metavar="ID", help="Which dag of a Python file that defines several.")
@db_option
def dag(
    name: str | None, file: str | None, output: str | None, kind: str | None, run: str | None, dag: str | None, db: str
) -> None:
    """Draw a workflow, or a run as it went.

    Into <name>.svg, unless you say where to. Mermaid (mmd) and DOT are printed if you do not.
    """
    from lightflow.service import workflows
    from lightflow.visuals import dag_viewer

    if name is not None and file is not None:
        raise Misuse("give the file once")
    picture = _picture(name or file, run, dag, db)
    if output is None and kind in ("mmd", "dot"):
        output = "-"
    if output == "-":
        drawn = dag_viewer.draw(picture, kind or "mmd")
        sys.stdout.flush()
        sys.stdout.buffer.write(drawn)
        sys.stdout.buffer.flush()
        return
    target = output or f"{picture.title}.{kind or 'svg'}"
    dag_viewer.write_picture(picture, Path(target), kind)
    tasks = len(picture.nodes)
    say(f"wrote {target} ({tasks:,} task{'' if tasks == 1 else 's'})")
    implied = dict(picture.facts).get(workflows.FROM_EXPRESSIONS)
    if implied:
        say(f"edges from expressions: {printable(implied)}")


def _picture(file: str | None, run: str | None, dag: str | None, db: str) -> Picture:
    from lightflow.service import inspecting, workflows

    if file is None and run is None:
        raise Misuse("which workflow? lightflow dag FILE")
    outline = workflows.outline(file, dag) if file is not None else None
    if run is None:
        assert outline is not None
        return workflows.picture(outline)
    run_id = chosen_run(run)
    if outline is not None and run_id is None:
        newest = inspecting.newest(db, outline.name)
        if not newest:
            raise DefinitionError(f"{os.path.relpath(db)}: there is no run of {outline.name!r} yet")
        run_id = newest[0].run_id
    picture = inspecting.picture(db, run_id)
    if outline is not None and picture.title != outline.name:
        raise DefinitionError(f"run {run} is of {picture.title!r}, not of {outline.name!r}")
    return picture
