"""`lightflow list`: list the workflows that have run."""

from __future__ import annotations

from typing import Final

from lightflow.cli.options import command, db_option, json_option, limit_option
from lightflow.cli.output import moment, near_path, say, say_json, say_more, state, table
from lightflow.text import printable

_MAX_WORKFLOWS: Final = 50


@command(
    "list",
    epilog="""\b
Example:
  lightflow list

\b
--json prints a list of {workflow, description, source, latest, next_at}; latest is a run as in `runs --json`.""",
)
@limit_option(None, f"List at most so many, the last started first.  [default: {_MAX_WORKFLOWS}; all with --json]")
@db_option
@json_option
def list_workflows(limit: int | None, db: str, as_json: bool) -> None:
    """List the workflows that have run."""
    from lightflow.service import queries

    limit = limit or (None if as_json else _MAX_WORKFLOWS)
    summaries, left_out = queries.list_workflows(db, limit, counted=as_json)
    if as_json:
        from lightflow.service.json_shapes import workflow_shape

        say_json([workflow_shape(summary) for summary in summaries])
        return
    scheduled = any(summary.next_at is not None for summary in summaries)
    rows = []
    for summary in summaries:
        dag, latest = summary.dag, summary.latest
        run = (state(latest.run.status), moment(latest.run.created_at)) if latest else ("-", "-")
        next_at = [moment(summary.next_at) or "-"] if scheduled else []
        rows.append((printable(dag.dag_id), *run, *next_at, near_path(dag.source) if dag.source else "-"))
    heads = ("WORKFLOW", "STATE", "STARTED", *(["NEXT"] if scheduled else []), "FILE")
    say(table(heads, rows) if rows else "no workflow has run yet")
    say_more(left_out, "workflow")
