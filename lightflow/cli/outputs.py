"""`lightflow outputs`: the values that tasks have handed on."""

from __future__ import annotations

import json
import sys
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, Final

from lightflow.cli.border import complain
from lightflow.cli.declare import Misuse, argument, command, option
from lightflow.cli.options import chosen_run, db_option, json_option, run_ids, task_ids
from lightflow.cli.output import can_show, is_terminal, say, say_json, table
from lightflow.errors import printable, tame
from lightflow.service.instances import FEW
from liteflow.errors import PayloadError, RunNotFound
from liteflow.planning.nodes import instance_name

_SHOWN: Final = 2000  # bytes of a value that stands in a table, and characters of it


def _either(ctx: Any, parameter: Any, incomplete: str) -> list[Any]:
    return task_ids(ctx, parameter, incomplete) + run_ids(ctx, parameter, incomplete)


@command(
    epilog="""\b
Examples:
  lightflow outputs
  lightflow outputs fetch
  lightflow outputs latest fetch --json
  rows=$(lightflow outputs "$LIGHTFLOW_RUN_ID" fetch --key rows)    # in a task

\b
--json prints {run_id, outputs}; outputs is a list of {task, map_index, key, encoding, size, value}; with
--key it prints that value alone, of a task that is mapped over a list the list of its instances' values. A
pickled value is null: nothing is unpickled."""
)
@argument("names", metavar="[RUN] [TASK]", many=True, required=False, shell_complete=_either)
@option("--key", metavar="NAME", help="Print this output alone: text as it is, anything else as JSON.")
@db_option
@json_option
def outputs(names: tuple[str, ...], key: str | None, db: str, as_json: bool) -> None:
    """Show the values that tasks have handed on.

    Those of the latest run, unless you say which; one name alone is a task where there is one, else a run.
    """
    from lightflow.service import inspecting

    run, task = _run_and_task(db, names)
    if key is not None:
        if task is None:
            raise Misuse("--key needs the task whose output it is")
        _say_value(inspecting.output(db, run, task, key), as_json)
        return
    view = inspecting.outputs(db, run, task, None if as_json else _SHOWN)
    if as_json:
        say_json({"run_id": view.run_id, "outputs": [_shape(one) for one in view.found]})
        return
    if not view.found:
        whose = f"run {view.run_id}" if task is None else f"task {printable(task)} of run {view.run_id}"
        complain(f"{whose} has no outputs: it is {view.status}")
        return
    say(table(("TASK", "NAME", "VALUE"), list(_rows(view.found))))


def _rows(found: Sequence[Any]) -> Iterator[tuple[str, str, str]]:
    """A row for each value; those of many instances of a mapped task are one."""
    many = Counter((one.record.task_id, one.record.key) for one in found if one.record.map_index >= 0)
    told = set()
    for one in found:
        key = (one.record.task_id, one.record.key)
        if many[key] <= FEW:
            name = instance_name(one.record.task_id, one.record.map_index)
            yield printable(name), printable(one.record.key), _in_a_line(one)
        elif key not in told:
            told.add(key)
            yield printable(key[0]), printable(key[1]), f"({many[key]:,} values; --key prints them)"


def _run_and_task(db: str, names: tuple[str, ...]) -> tuple[str | None, str | None]:
    from lightflow.service import inspecting

    if len(names) > 2:
        raise Misuse("give a run, a task, or a run and a task")
    if not names or names == ("latest",):
        return None, None
    if len(names) == 1:
        try:
            return inspecting.run_of_task(db, names[0]), names[0]
        except RunNotFound as no_task:
            try:
                return inspecting.outputs(db, names[0], None, 0).run_id, None
            except RunNotFound:
                raise no_task from None
    run = chosen_run(names[0])
    return inspecting.latest(db).run_id if run is None else run, names[1]


def _say_value(value: object, as_json: bool) -> None:
    if as_json:
        say_json(value)
        return
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    text = text.encode("utf-8", "replace").decode()  # half a pair of surrogates
    if is_terminal(sys.stdout):
        say(tame(text))
    elif can_show(text, sys.stdout):
        say(text)
    else:  # a script is to get what was stored
        sys.stdout.flush()
        sys.stdout.buffer.write(f"{text}\n".encode())


def _shape(one: Any) -> dict[str, Any]:
    from lightflow.service import inspecting

    record = one.record
    try:
        value = inspecting.readable(one.payload)
    except PayloadError:
        value = None
    return {
        "task": record.task_id,
        "map_index": None if record.map_index < 0 else record.map_index,
        "key": record.key,
        "encoding": record.encoding,
        "size": record.size,
        "value": value,
    }


def _in_a_line(one: Any) -> str:
    """A value as it is stored, so text has quotes."""
    payload, record = one.payload, one.record
    if record.encoding == "pickle":
        return f"({record.size:,} bytes, pickled)"
    if payload is None or payload.file is not None or not isinstance(payload.data, str):
        return f"({record.size:,} bytes)"
    return printable(payload.data[:_SHOWN])
