"""`lightflow approve` and `lightflow reject`: decide about a task that waits for a person."""

from __future__ import annotations

from typing import Any, Final

import click

from lightflow.cli.options import command, db_option, json_option, run_ids, run_or_latest, task_ids, with_db
from lightflow.cli.output import say, say_json
from lightflow.text import printable

_EXIT_CODES: Final = """\b
Exit codes: 0 the decision is stored, 2 nothing waits for it or a field is wrong, 4 another decision or
the timeout was first.
--json prints a list of {run_id, task, map_index, decision, by, at_once}."""
_RUN = click.argument("run", shell_complete=run_ids)
_TASK = click.argument("task", required=False, shell_complete=task_ids)
_COMMENT = click.option("--comment", default="", metavar="TEXT", help="Why; it is stored with the decision.")
_BY = click.option("--by", metavar="NAME", help="The person who decides; by default the user of this machine.")
_ALL = click.option("--all", "every", is_flag=True, help="Decide about all instances that TASK means, or all tasks.")


@command(
    epilog=f"""\b
Examples:
  lightflow approve latest deploy
  lightflow approve 20260102T030405 deploy --field reason="fixes #12" --comment "go"
  lightflow approve latest check --all
  lightflow approve latest 'check[eu-*]' --all

{_EXIT_CODES}"""
)
@_RUN
@_TASK
@click.option("--field", "fields", multiple=True, metavar="NAME=VALUE", help="A field of the approval.")
@_COMMENT
@_BY
@_ALL
@db_option
@json_option
def approve(run: str, task: str | None, *, fields: tuple[str, ...], db: str, as_json: bool, **how: Any) -> None:
    """Approve a task that waits for a decision.

    TASK is a task of type approval, or an instance of it such as deploy[3], or deploy[eu] by its label; with --all also
    a pattern of labels. The first decision counts. If no process runs the run, the next one that resumes it acts on it.
    """
    _decide(run, task, db, as_json=as_json, approved=True, words=fields, **how)


@command(
    epilog=f"""\b
Examples:
  lightflow reject latest deploy --comment "not on Friday"

{_EXIT_CODES}"""
)
@_RUN
@_TASK
@_COMMENT
@_BY
@_ALL
@db_option
@json_option
def reject(run: str, task: str | None, *, db: str, as_json: bool, **how: Any) -> None:
    """Reject a task that waits for a decision: it fails.

    TASK is a task of type approval, or an instance of it such as deploy[3], or deploy[eu] by its label; with --all also
    a pattern of labels. The first decision counts.
    """
    _decide(run, task, db, as_json=as_json, approved=False, **how)


def _decide(run: str, task: str | None, db: str, *, as_json: bool, **arguments: Any) -> None:
    from lightflow.service.approvals import DecisionArguments, decide_about

    decided = decide_about(db, run_or_latest(run), task, DecisionArguments(**arguments))
    if as_json:
        from lightflow.service.json_shapes import decision_shape

        say_json([decision_shape(each) for each in decided])
        return
    for each in decided:
        word = "approved" if each.choice.approved else "rejected"
        then = "" if each.state == "done" else "; the next process that resumes the run acts on it"
        if then and each.parked:
            then = f"; the run is parked, to continue it: {with_db('lightflow wake', db)}"
        say(f"{printable(each.name)} of run {printable(each.approval.run_id)} is {word}{then}")
