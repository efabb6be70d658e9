"""`lightflow pools`: the slots that runs share."""

from __future__ import annotations

from collections.abc import Sequence

import click

from lightflow.cli.options import command, db_option, json_option
from lightflow.cli.output import say, say_json, table
from lightflow.service.pools import PoolView, slot_owner
from lightflow.text import printable


@command(
    epilog="""\b
Examples:
  lightflow pools
  lightflow pools set gpu 2
  lightflow pools set gpu 0        # paused: no task that needs it starts
  lightflow pools delete gpu

\b
A size that is set here overrides the sizes that workflows declare, until the pool is deleted.
--json prints a list of {pool, slots, used, description, set_by_hand, holders, waiting}; holders and
waiting are lists of {run_id, task, slots, since}."""
)
@click.argument("words", metavar="[set NAME SLOTS | delete NAME]", nargs=-1, required=False)
@db_option
@json_option
def pools(words: tuple[str, ...], db: str, as_json: bool) -> None:
    """List the pools and their use, or change a pool."""
    from lightflow.service import pools as service

    match words:
        case ("set", name, slots):
            service.resize(db, name, slots)
        case ("delete", name):
            service.delete(db, name)
        case ():
            pass
        case _:
            raise click.UsageError("give nothing, or: set NAME SLOTS, or: delete NAME")
    views = service.overview(db)
    if as_json:
        from lightflow.service.json_shapes import pool_shape

        say_json([pool_shape(view) for view in views])
    elif views:
        say(_table(views))
    else:
        say("no pools yet; a workflow declares them: pools: {gpu: 1}")


def _table(views: Sequence[PoolView]) -> str:
    heads = ["POOL", "SLOTS", "USED", "HELD BY", "WAITING", "FOR"]
    rows = [
        [
            printable(view.pool.name),
            str(view.pool.slots),
            str(view.used),
            _tasks([f"{slot_owner(slot)} of {slot.run_id}" for slot in view.holders]),
            _tasks([f"{slot_owner(slot)} of {slot.run_id}" for slot in view.waiting]),
            printable(view.pool.description),
        ]
        for view in views
    ]
    if not any(row[-1] for row in rows):
        heads, rows = heads[:-1], [row[:-1] for row in rows]
    return table(heads, rows, "SLOTS USED")


def _tasks(names: Sequence[str]) -> str:
    """Return the first task instances that hold slots, or wait for slots."""
    rest = f" and {len(names) - 2} more" if len(names) > 2 else ""
    return ", ".join(map(printable, names[:2])) + rest or "-"
