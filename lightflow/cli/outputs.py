"""`lightflow outputs`: the outputs of a run, and the output values of its tasks."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

import click

from lightflow.cli.error_boundary import complain
from lightflow.cli.options import command, db_option, json_option, run_or_latest, task_or_run_ids
from lightflow.cli.output import can_show, is_terminal, say, say_json, table
from lightflow.service.mapped_instances import MAX_LISTED
from lightflow.service.queries import Output
from lightflow.text import plain_text, printable
from liteflow import RunNotFound
from liteflow.api import instance_name

_MAX_SHOWN: Final = 2000  # bytes of a value that is read for the table, and characters of it that are shown


@command(
    epilog="""\b
Examples:
  lightflow outputs
  lightflow outputs fetch
  lightflow outputs latest fetch --json
  lightflow outputs latest --key rows      # the output `rows` of the run
  rows=$(lightflow outputs "$LIGHTFLOW_RUN_ID" fetch --key rows)    # in a task

\b
--json prints {run_id, run_outputs, outputs}: run_outputs maps names to the `outputs` of the workflow, which a
run has once it has succeeded; outputs is a list of {task, map_index, key, encoding, size, value}. With
--key it prints that value alone; for a task that is mapped over a list, a list of the values of its
instances. A pickled value is null, because nothing is unpickled."""
)
@click.argument("names", metavar="[RUN] [TASK]", nargs=-1, required=False, shell_complete=task_or_run_ids)
@click.option(
    "--key",
    metavar="NAME",
    help="Print only this output of the task, or else of the run: text as it is, any other value as JSON.",
)
@db_option
@json_option
def outputs(names: tuple[str, ...], key: str | None, db: str, as_json: bool) -> None:
    """Show the outputs of a run, and the output values of its tasks.

    Without RUN, the latest run is used. A single name is taken for a task if there is one of that name, else for a run.
    """
    from lightflow.service import queries

    run, task = _run_and_task(db, names)
    if key is not None:
        value = queries.run_output(db, run, key) if task is None else queries.output(db, run, task, key)
        _say_value(value, as_json)
        return
    view = queries.outputs(db, run, task, None if as_json else _MAX_SHOWN)
    if as_json:
        from lightflow.service.json_shapes import outputs_shape

        say_json(outputs_shape(view))
    elif view.values or view.of_run:
        say(table(("TASK", "NAME", "VALUE"), [*_run_rows(view.of_run), *_rows(view.values)]))
    else:
        owner = f"run {view.run_id}" if task is None else f"task {printable(task)} of run {view.run_id}"
        complain(f"{owner} has no outputs: it is {view.status}")


def _run_rows(outputs: Mapping[str, object]) -> Iterator[tuple[str, str, str]]:
    for name, value in outputs.items():
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        yield "(run)", printable(name), printable(text[:_MAX_SHOWN])


def _rows(values: Sequence[Output]) -> Iterator[tuple[str, str, str]]:
    """Yield a row for each value. The values of a mapped task with many instances share a row."""
    counts = Counter((output.record.task_id, output.record.key) for output in values if output.record.map_index >= 0)
    shared_rows = set()
    for output in values:
        task_id, name = key = (output.record.task_id, output.record.key)
        if counts[key] <= MAX_LISTED:
            yield printable(instance_name(task_id, output.record.map_index)), printable(name), _value_text(output)
        elif key not in shared_rows:
            shared_rows.add(key)
            yield printable(task_id), printable(name), f"({counts[key]:,} values; --key prints them)"


def _run_and_task(db: str, names: tuple[str, ...]) -> tuple[str | None, str | None]:
    """Return the run and the task that the words of the command line name."""
    from lightflow.service import queries

    if len(names) > 2:
        raise click.UsageError("give a run, a task, or a run and a task")
    if not names or names == ("latest",):
        return None, None
    if len(names) == 1:
        try:
            return queries.latest_run_id(db, names[0]), names[0]
        except RunNotFound as no_task:
            try:
                return queries.outputs(db, names[0], None, 0).run_id, None
            except RunNotFound:
                raise no_task from None
    run = run_or_latest(names[0])
    return queries.latest_run(db).run_id if run is None else run, names[1]


def _say_value(value: object, as_json: bool) -> None:
    if as_json:
        say_json(value)
        return
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    text = text.encode("utf-8", "replace").decode()  # a lone surrogate cannot be written
    if is_terminal(sys.stdout):
        say(plain_text(text))
    elif can_show(text, sys.stdout):
        say(text)
    else:  # a script gets the bytes of the value, not escapes
        sys.stdout.flush()
        sys.stdout.buffer.write(f"{text}\n".encode())


def _value_text(output: Output) -> str:
    """Return a value on one line, as JSON."""
    payload, record = output.payload, output.record
    if record.encoding == "pickle":
        return f"({record.size:,} bytes, pickled)"
    if payload is None or payload.file is not None or not isinstance(payload.data, str):
        return f"({record.size:,} bytes)"
    return printable(payload.data[:_MAX_SHOWN])
