"""`lightflow why`: explain why a task is in its state, back to the first cause."""

from __future__ import annotations

import click

from lightflow.cli.options import command, db_option, json_option, run_or_latest, task_or_run_ids
from lightflow.cli.output import say, say_json, sign
from lightflow.cli.traces import trace_lines
from lightflow.text import printable


@command(
    epilog="""\b
Examples:
  lightflow why train_model
  lightflow why 20260102T030405-1a2b3c4d train_model
  lightflow why latest train_model
  lightflow why 'resize[3]'

\b
--json prints {run_id, task, status, because, trace}; because is a list of sentences, the nearest cause first;
trace has the frames of your code for the Python exception that is the first cause, or null."""
)
@click.argument("names", metavar="[RUN] TASK", nargs=-1, required=True, shell_complete=task_or_run_ids)
@db_option
@json_option
def why(names: tuple[str, ...], db: str, as_json: bool) -> None:
    """Explain why a task is in its state.

    Without RUN, the latest run that has the task is used. An instance of a task that is mapped over a list has its
    index or its label in brackets.
    """
    from lightflow.service import explanations, queries

    if len(names) > 2:
        raise click.UsageError("give a task, or a run and a task")
    run = names[0] if len(names) == 2 else None
    if run == "latest":
        run = queries.latest_run(db).run_id
    explanation = explanations.why(db, run_or_latest(run), names[-1])
    if as_json:
        from lightflow.service.json_shapes import explanation_shape

        say_json(explanation_shape(explanation))
        return
    for depth, sentence in enumerate(explanation.because):
        lead = f"{sign(explanation.status)} " if not depth else f"{'  ' * depth}→ "
        say(lead + printable(sentence))
        for line in trace_lines(explanation.traces.get(depth)):
            say(f"{'  ' * (depth + 1)}{line}")
