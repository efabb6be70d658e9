"""`lightflow why`: why a task is in its state, back to the first cause."""

from __future__ import annotations

import click

from lightflow.cli.options import chosen_run, db_option, json_option, run_ids, task_ids
from lightflow.cli.output import say, say_json, sign
from lightflow.errors import printable


def _either(
    ctx: click.Context, parameter: click.Parameter, incomplete: str
) -> list[click.shell_completion.CompletionItem]:
    return task_ids(ctx, parameter, incomplete) + run_ids(ctx, parameter, incomplete)


@click.command(
    epilog="""\b
Examples:
  lightflow why train_model
  lightflow why 20260102T030405-1a2b3c4d train_model
  lightflow why latest train_model

\b
--json prints {run_id, task, status, because}; because is a list of sentences, the nearest cause first."""
)
@click.argument("names", metavar="[RUN] TASK", nargs=-1, required=True, shell_complete=_either)
@db_option
@json_option
def why(names: tuple[str, ...], db: str, as_json: bool) -> None:
    """Explain why a task is in its state.

    Without RUN it is about the latest run that has the task.
    """
    from lightflow.service import inspecting

    if len(names) > 2:
        raise click.UsageError("give a task, or a run and a task", click.get_current_context())
    run = names[0] if len(names) == 2 else None
    if run == "latest":
        run = inspecting.latest(db).run_id
    found = inspecting.why(db, chosen_run(run), names[-1])
    if as_json:
        say_json(
            {"run_id": found.run_id, "task": found.task_id, "status": found.status, "because": list(found.because)}
        )
        return
    for depth, sentence in enumerate(found.because):
        lead = f"{sign(found.status)} " if not depth else f"{'  ' * depth}→ "
        say(lead + printable(sentence))
