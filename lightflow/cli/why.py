"""`lightflow why`: why a task is in its state, back to the first cause."""

from __future__ import annotations

from typing import Any

from lightflow.cli.declare import Misuse, argument, command
from lightflow.cli.failing import trace_lines
from lightflow.cli.options import chosen_run, db_option, json_option, run_ids, task_ids
from lightflow.cli.output import say, say_json, sign
from lightflow.cli.shapes import trace_shape
from lightflow.errors import printable
from liteflow.traces import from_json


def _either(ctx: Any, parameter: Any, incomplete: str) -> list[Any]:
    return task_ids(ctx, parameter, incomplete) + run_ids(ctx, parameter, incomplete)


@command(
    epilog="""\b
Examples:
  lightflow why train_model
  lightflow why 20260102T030405-1a2b3c4d train_model
  lightflow why latest train_model
  lightflow why 'resize[3]'

\b
--json prints {run_id, task, status, because, trace}; because is a list of sentences, the nearest cause first,
and trace where in your code the Python task failed that is the first cause, or null."""
)
@argument("names", metavar="[RUN] TASK", many=True, required=True, shell_complete=_either)
@db_option
@json_option
def why(names: tuple[str, ...], db: str, as_json: bool) -> None:
    """Explain why a task is in its state.

    Without RUN it is about the latest run that has the task. One instance of a task that is mapped over a list has its
    index in brackets.
    """
    from lightflow.service import explaining, inspecting

    if len(names) > 2:
        raise Misuse("give a task, or a run and a task")
    run = names[0] if len(names) == 2 else None
    if run == "latest":
        run = inspecting.latest(db).run_id
    found = explaining.why(db, chosen_run(run), names[-1])
    if as_json:
        first = next(iter(found.traces.values()), None)
        facts = {"run_id": found.run_id, "task": found.task_id, "status": found.status}
        say_json({**facts, "because": list(found.because), "trace": trace_shape(first)})
        return
    for depth, sentence in enumerate(found.because):
        lead = f"{sign(found.status)} " if not depth else f"{'  ' * depth}→ "
        say(lead + printable(sentence))
        for line in trace_lines(from_json(found.traces.get(depth))):
            say(f"{'  ' * (depth + 1)}{line}")
