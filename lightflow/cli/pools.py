"""`lightflow pools`: the slots that runs share."""

from __future__ import annotations

from typing import Any

from lightflow.cli.declare import Misuse, argument, command
from lightflow.cli.options import db_option, json_option
from lightflow.cli.output import iso, say, say_json, table
from lightflow.errors import printable
from liteflow.state.history import SlotRecord


@command(
    epilog="""\b
Examples:
  lightflow pools
  lightflow pools set gpu 2
  lightflow pools set gpu 0        # paused: nothing that needs it starts
  lightflow pools delete gpu

\b
A size that was set here goes before those that workflows declare, until the pool is deleted.
--json prints a list of {pool, slots, used, description, set_by_hand, holders, waiting}; holders and
waiting are lists of {run_id, task, slots, since}."""
)
@argument("words", metavar="[set NAME SLOTS | delete NAME]", many=True, required=False)
@db_option
@json_option
def pools(words: tuple[str, ...], db: str, as_json: bool) -> None:
    """List the pools with their use, or change one."""
    from lightflow.service import pools as service

    match words:
        case ("set", name, slots):
            service.resize(db, name, slots)
        case ("delete", name):
            service.delete(db, name)
        case ():
            pass
        case _:
            raise Misuse("give nothing, or: set NAME SLOTS, or: delete NAME")
    found = service.overview(db)
    if as_json:
        say_json(
            [
                {
                    "pool": one.pool.name,
                    "slots": one.pool.slots,
                    "used": one.used,
                    "description": one.pool.description,
                    "set_by_hand": one.pool.by_hand,
                    "holders": [_shape(slot) for slot in one.holders],
                    "waiting": [_shape(slot) for slot in one.waiting],
                }
                for one in found
            ]
        )
        return
    rows = [
        (
            printable(one.pool.name),
            str(one.pool.slots),
            str(one.used),
            _tasks(one.holders),
            _tasks(one.waiting),
            printable(one.pool.description),
        )
        for one in found
    ]
    heads = ("POOL", "SLOTS", "USED", "HELD BY", "WAITING", "FOR")
    shown = len(heads) if any(row[-1] for row in rows) else len(heads) - 1
    listing = table(heads[:shown], [row[:shown] for row in rows], "SLOTS USED")
    say(listing if rows else "no pools yet; a workflow declares them: pools: {gpu: 1}")


def _shape(one: SlotRecord) -> dict[str, Any]:
    from lightflow.service.pools import named

    since = one.asked_at if one.taken_at is None else one.taken_at
    return {"run_id": one.run_id, "task": named(one), "slots": one.slots, "since": iso(since)}


def _tasks(slots: list[SlotRecord]) -> str:
    from lightflow.service.pools import named

    shown = [printable(f"{named(one)} of {one.run_id}") for one in slots[:2]]
    return ", ".join(shown) + (f" and {len(slots) - 2} more" if len(slots) > 2 else "") or "-"
